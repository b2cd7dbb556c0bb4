"""Images: every format and mode becomes upright RGB over white, at a cost known before decoding."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loqal.errors import FormatError, MediaError, RequestError, UnsupportedError
from loqal.media import image as image_module
from loqal.media.fetch import Policy, fetch
from loqal.media.image import Picture
from loqal.media.patches import cut, levels
from loqal.media.prepare import Preparer
from loqal.media.resize_rules import ImageRules, PatchRules, VideoRules, read_rules
from loqal.types.messages import MediaPart
from media_files import encoded, picture

PREPARER = Preparer(ImageRules(), VideoRules(), Policy())


def opened(source: Any) -> Picture:
    return Picture(fetch(source, "image", Policy()))


def shown(source: Any) -> np.ndarray:
    found = opened(source)
    return found.pixels(found.width, found.height)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats(format: str) -> None:
    image = picture(37, 21)
    options = {"lossless": True} if format == "WEBP" else {}
    assert (shown(encoded(image, format, **options)) == image).all()


@pytest.mark.parametrize("format", ["JPEG", "GIF"])
def test_lossy_formats(format: str) -> None:
    image = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    assert np.abs(shown(encoded(image, format)).astype(int) - image).max() < 6


def test_sources_of_all_kinds(tmp_path: Path) -> None:
    image = picture(40, 30)
    data = encoded(image, "PNG")
    path = tmp_path / "one picture.txt"  # the contents decide, not the name
    path.write_bytes(data)
    for source in (
        data,
        bytearray(data),
        path,
        str(path),
        path.as_uri(),
        io.BytesIO(data),
        Image.fromarray(image),
        image,
    ):
        assert (shown(source) == image).all(), type(source)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert shown(data)[0, 0, 0] > 240, format


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(format: str, orientation: int) -> None:
    """A picture that is red at the top left when it is seen the right way up."""
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste("red", (0, 0, 16, 8))
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    found = opened(encoded(stored, format, exif=exif, **options))
    assert (found.width, found.height) == (40, 24)
    pixels = found.pixels(40, 24)
    assert pixels[3, 5, 0] > 200 and pixels[3, 5, 1] < 60, "the red corner is elsewhere"
    assert pixels[20, 35].min() > 200


def test_orientation_behind_the_pixels_of_a_png() -> None:
    """The cost is known without decoding, wherever the chunk stands."""
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    data = encoded(picture(40, 24), "PNG")
    at = data.rindex(b"IEND") - 4
    found = opened(data[:at] + chunk + data[at:])
    assert (found.width, found.height) == (24, 40)
    assert found.pixels(24, 40).shape == (40, 24, 3)


def test_transparency_lies_over_white() -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:, 4:] = (0, 0, 255, 255)
    clear[0, 0] = (255, 0, 0, 128)
    image = Image.fromarray(clear)
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    grey = image.convert("LA")
    for source in (encoded(image, "PNG"), encoded(image, "WEBP", lossless=True), image):
        pixels = shown(source)
        assert (pixels[5, 1] == 255).all()
        assert (pixels[5, 6] == (0, 0, 255)).all()
        assert abs(int(pixels[0, 0, 1]) - 127) <= 1
    assert (shown(encoded(grey, "PNG"))[5, 1] == 255).all()
    assert shown(encoded(palette, "PNG")).shape == (8, 8, 3)
    transparent = Image.new("P", (8, 8), 1)
    transparent.putpalette([0, 0, 0, 10, 20, 30] + [0] * 750)
    assert (shown(encoded(transparent, "GIF", transparency=1)) == 255).all()


def test_many_bits_keep_the_high_ones() -> None:
    ramp = (np.arange(64 * 64) * 16).reshape(64, 64).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        pixels = shown(encoded(Image.fromarray(ramp), format))
        assert (pixels[..., 0] == ramp >> 8).all(), format
    floats = Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16))
    assert (shown(encoded(floats, "TIFF"))[..., 1].reshape(-1) == np.arange(256)).all()


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV", "RGBA", "LA", "RGBX", "I", "F", "RGBa", "La"]
)
def test_every_mode(mode: str) -> None:
    image = Image.fromarray(picture(20, 10))
    converted = image.convert("RGBA").convert("RGBa") if mode == "RGBa" else None
    converted = image.convert("LA").convert("La") if mode == "La" else converted
    assert shown(converted or image.convert(mode)).shape == (10, 20, 3)


# Refusals -------------------------------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that announces very many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(100_000, 100_000), (60_000, 60_000), (12_000, 10_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_never_decoded(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "_colours", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(MediaError, match=r"pixels|decoded"):
        opened(bomb(*size))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file(format: str) -> None:
    data = encoded(picture(90, 70), format)
    with pytest.raises(MediaError, match=r"decoded|no image"):
        shown(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM" + bytes(60), bytes(5000)])
def test_no_image(data: bytes) -> None:
    with pytest.raises(MediaError):
        shown(data)


def test_a_video_is_no_image() -> None:
    with pytest.raises(MediaError, match="is not an image that loqal reads"):
        opened(b"\x00\x00\x00\x18ftypmp42" + bytes(1000))


def test_formats_that_are_not_read() -> None:
    with pytest.raises(MediaError, match="not those of a PNG, JPEG"):
        opened(encoded(picture(10, 10), "PPM"))


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_the_cost_is_known_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "_colours", lambda image: pytest.fail("it was decoded"))
    item = PREPARER.prepare(MediaPart("image", encoded(picture(640, 480), "JPEG")))
    assert (item.size, item.num_tokens) == ((640, 480), 300)


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 3000), st.integers(1, 3000))
def test_sizes_keep_the_bounds(width: int, height: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    rules = ImageRules().within(low, high)
    if max(width, height) / min(width, height) > 200:
        with pytest.raises(RequestError, match="200"):
            rules.size(width, height)
        return
    new_width, new_height = rules.size(width, height)
    assert new_width % 32 == new_height % 32 == 0
    tokens = new_width * new_height // 1024
    # Growing rounds both sides up, and a side is never below one token.
    assert 1 <= tokens <= high + new_width // 32 + new_height // 32


@pytest.mark.parametrize(
    ("low", "high"), [(0, None), (None, 0), (10, 5), (-1, None), (True, None), (1.5, None), (None, "7")]
)
def test_impossible_bounds(low: Any, high: Any) -> None:
    with pytest.raises(RequestError):
        PREPARER.prepare(MediaPart("image", picture(50, 50), min_tokens=low, max_tokens=high))


def test_bounds_that_belong_to_videos() -> None:
    for part in (MediaPart("image", picture(9, 9), fps=2), MediaPart("image", picture(9, 9), max_frames=4)):
        with pytest.raises(RequestError, match="videos"):
            PREPARER.prepare(part)


def test_one_bound_moves_the_other() -> None:
    assert ImageRules().within(None, 10).min_pixels == 10 * 1024
    assert ImageRules().within(20_000, None).max_pixels == 20_000 * 1024


def test_boxes_go_back_to_the_source() -> None:
    from loqal.runtime.media_encoder import describe

    info = describe(PREPARER.prepare(MediaPart("image", picture(1000, 500))))
    assert info.box_pixels([100, 200, 1000, 999.9]) == (100, 100, 1000, 500)
    assert info.box_pixels([-5, 0, 2000, 500]) == (0, 0, 1000, 250)


# Patches --------------------------------------------------------------------------------------------------------------


def test_the_order_of_patches() -> None:
    """Blocks of 2 x 2 patches by rows, inside a block by rows; values by colour, frame, row, column."""
    rules = PatchRules(patch_size=2)
    image = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    patches, grid = cut([image, image[::-1]], rules)
    assert (grid.rows, grid.columns) == (4, 6)
    first = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    for index, (row, column) in enumerate(first):
        block = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert (patches.values[index, :, 0] == block.transpose(2, 0, 1).reshape(3, 4)).all()
        flipped = image[::-1][2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert (patches.values[index, :, 1] == flipped.transpose(2, 0, 1).reshape(3, 4)).all()
    read = patches.read(3, 7)
    assert read.shape == (4, 3 * 2 * 4)
    assert (
        read
        == np.take_along_axis(levels(rules), patches.values[3:7].transpose(1, 0, 2, 3).reshape(3, -1), 1)
        .reshape(3, 4, 2, 4)
        .transpose(1, 0, 2, 3)
        .reshape(4, -1)
    ).all()


def test_levels() -> None:
    found = levels(PatchRules())
    assert found.shape == (3, 256)
    assert found[0, 0] == -1 and found[2, 255] == 1
    own = levels(PatchRules(mean=(0.1, 0.2, 0.3), std=(1, 2, 4)))
    assert own[1, 255] == pytest.approx(0.4)


# Rules of a checkpoint ------------------------------------------------------------------------------------------------


def test_rules_of_the_files() -> None:
    image = {"size": {"shortest_edge": 2048, "longest_edge": 4096}, "image_mean": [0.4, 0.5, 0.6], "resample": 3}
    video = {"fps": 1, "max_frames": 10, "size": {"longest_edge": 1_000_000}, "do_resize": True}
    images, videos = read_rules(image, video, PatchRules())
    assert (images.min_pixels, images.max_pixels, images.patch.mean) == (2048, 4096, (0.4, 0.5, 0.6))
    assert (videos.fps, videos.max_frames, videos.max_volume, videos.min_frames) == (1.0, 10, 1_000_000, 4)
    assert read_rules({}, {}, PatchRules()) == (ImageRules(), VideoRules())
    assert read_rules({"min_pixels": 100, "max_pixels": 70_000}, {}, PatchRules())[0].min_pixels == 100


@pytest.mark.parametrize(
    "image",
    [
        {"patch_size": 14},
        {"merge_size": 3},
        {"image_mean": [0.5]},
        {"image_std": [0.5, 0, 0.5]},
        {"image_std": "half"},
        {"size": {"shortest_edge": 10, "longest_edge": 5}},
        {"size": {"shortest_edge": "x"}},
        {"min_pixels": -4},
        {"do_resize": False},
        {"rescale_factor": 1.0},
        {"resample": 2},
    ],
)
def test_rules_that_cannot_be_kept(image: dict[str, Any]) -> None:
    with pytest.raises((FormatError, UnsupportedError)):
        read_rules(image, {}, PatchRules())
