"""Damaged images and videos: a MediaError or a picture, never anything else, never much memory.

LOQAL_MEDIA_FUZZ sets how many files are tried of each kind; the default is small.
"""

from __future__ import annotations

import itertools
import os
import resource
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from loqal.errors import LoqalError
from loqal.media.fetch import Policy
from loqal.media.prepare import Preparer
from loqal.media.resize_rules import ImageRules, VideoRules
from loqal.types.messages import MediaPart
from media_files import encoded, picture, video

COUNT = int(os.environ.get("LOQAL_MEDIA_FUZZ", "60"))
PREPARER = Preparer(ImageRules(), VideoRules(), Policy())
MOST_BYTES = 3 << 30
CHECKED = ("png", "png palette", "png 16", "tiff deflate")  # their checksums notice nearly everything


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


IMAGES: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(picture(60, 40), "PNG", exif=exif(6)),
    "png palette": lambda: encoded(Image.fromarray(picture(60, 40)).convert("P"), "PNG", transparency=3),
    "png 16": lambda: encoded(Image.fromarray(picture(60, 40)[..., 0].astype(np.uint16) * 200), "PNG"),
    "jpeg": lambda: encoded(picture(60, 40), "JPEG", exif=exif(3)),
    "jpeg progressive": lambda: encoded(picture(60, 40), "JPEG", progressive=True),
    "webp": lambda: encoded(picture(60, 40), "WEBP"),
    "webp lossless": lambda: encoded(picture(60, 40), "WEBP", lossless=True, exif=exif(8)),
    "gif": lambda: encoded(
        Image.fromarray(picture(60, 40)), "GIF", save_all=True, append_images=[Image.fromarray(picture(60, 40, 1))]
    ),
    "bmp": lambda: encoded(picture(60, 40), "BMP"),
    "tiff": lambda: encoded(picture(60, 40), "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: encoded(picture(60, 40), "TIFF", compression="tiff_deflate", exif=exif(5)),
}
VIDEOS: dict[str, Callable[[], bytes]] = {
    "mp4": lambda: video(8, 48, 32),
    "matroska": lambda: video(8, 48, 32, format="matroska"),
    "avi": lambda: video(8, 48, 32, format="avi"),
    "gif": lambda: encoded(
        Image.fromarray(picture(48, 32)), "GIF", save_all=True, append_images=[Image.fromarray(picture(48, 32, 1))] * 4
    ),
}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with bytes changed, cut out, repeated, or the end missing; headers are hit most."""
    values = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        reach = len(values) if rng.random() < 0.4 else min(len(values), 120)
        at = int(rng.integers(0, max(reach, 1)))
        match int(rng.integers(0, 5)):
            case 0 | 1:
                values[at : at + 1] = bytes([int(rng.integers(0, 256))])
            case 2:
                values[at : at + 4] = rng.choice(
                    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x00\x01\x00\x00"]
                )
            case 3:
                del values[at : at + int(rng.integers(1, 40))]
            case 4:
                values[at:at] = values[at : at + int(rng.integers(1, 40))]
    return bytes(values[: int(rng.integers(1, len(values) + 1))] if rng.random() < 0.2 else values)


def cases(make: Callable[[], bytes], rng: np.random.Generator) -> Iterator[bytes]:
    whole = make()
    return itertools.islice((damaged(whole, rng) for _ in itertools.count()), COUNT)


def survives(kind: str, data: bytes) -> bool:
    """Whether a damaged file still gave a picture. Anything but a LoqalError fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            item = PREPARER.prepare(MediaPart(kind, data, max_tokens=64))  # type: ignore[arg-type]
            for view in item.views:
                values = view.patches().read(0, view.grid.num_patches)
                assert np.isfinite(values).all()
        except LoqalError as error:
            assert error.what and error.why, "an error of three texts"
            return False
        return True


@pytest.mark.parametrize("name", IMAGES)
def test_damaged_images(name: str, rng: np.random.Generator) -> None:
    outcomes = [survives("image", data) for data in cases(IMAGES[name], rng)]
    assert survives("image", IMAGES[name]())
    assert sum(outcomes) < COUNT and (any(outcomes) or name in CHECKED)


@pytest.mark.parametrize("name", VIDEOS)
def test_damaged_videos(name: str, rng: np.random.Generator) -> None:
    assert survives("video", VIDEOS[name]())
    outcomes = [survives("video", data) for data in cases(VIDEOS[name], rng)]
    assert 0 < sum(outcomes) < COUNT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MOST_BYTES


def test_swapped_kinds(rng: np.random.Generator) -> None:
    """An animation is both an image and a video, and nothing else is."""
    assert [name for name, make in VIDEOS.items() if survives("image", make())] == ["gif"]
    assert [name for name, make in IMAGES.items() if survives("video", make())] == ["gif"]
