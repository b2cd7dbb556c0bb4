"""Image files to frames of bytes: bounded before decoding, upright, without transparency, resized as the model saw it.

The resizing filter is Pillow's antialiased bicubic one, as in the reference processor.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from loqal.errors import LoqalError, MediaError
from loqal.media.fetch import MAX_SOURCE_PIXELS, Fetched, check_pixels
from loqal.media.patches import Bytes

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PIXEL_BYTES = 4  # of a decoded pixel
_MOST_COPIES = 4  # with transparency: the picture, the white under it, both together, and those without transparency
MOST_DECODED_BYTES = _MOST_COPIES * _PIXEL_BYTES
"""Of one pixel of a source."""
_Result = TypeVar("_Result")


class Picture:
    """An image of which only the header has been read. The first frame of an animation counts.

    Attributes:
        width, height: pixels, the way the picture is to be seen.

    Raises:
        MediaError: it is no image loqal reads, or has too many pixels.
    """

    def __init__(self, fetched: Fetched) -> None:
        self.name = fetched.name
        data = fetched.data
        if data is None and fetched.path is not None:
            data = _guarded(self.name, fetched.path.read_bytes)
        self._data = data
        self._image = fetched.image if fetched.image is not None else _guarded(self.name, lambda: _open(data))
        width, height = self._image.size
        check_pixels(self.name, width, height)
        if width < 1 or height < 1:
            raise MediaError(f"{self.name} has no pixels.", f"It is {width} x {height}.", "Send another image.")
        self._orientation = _guarded(self.name, self._read_orientation)
        self.width, self.height = (height, width) if self._orientation in _SIDEWAYS else (width, height)

    @property
    def decoding_bytes(self) -> int:
        """Most memory that ``pixels`` takes beside its result. The library keeps four bytes a pixel."""
        copies = (
            1 if self._image.mode in ("1", "L", "RGB", "CMYK", "YCbCr") and self._orientation == 1 else _MOST_COPIES
        )
        return self._image.size[0] * self._image.size[1] * _PIXEL_BYTES * copies

    def pixels(self, width: int, height: int) -> Bytes:
        """The picture resized: [height width 3]. Raises MediaError when it cannot be decoded."""

        def read() -> Bytes:
            # Opened anew, so that what is decoded does not stay in memory with the header.
            image = self._image if self._data is None else _open(self._data)
            upright = _turned(_colours(image), self._orientation)
            if upright.size != (width, height):
                upright = upright.resize((width, height), Image.Resampling.BICUBIC)
            return np.asarray(upright)

        return _guarded(self.name, read)

    def _read_orientation(self) -> int:
        """The EXIF orientation, without decoding: a PNG may hold it behind its pixels."""
        if self._image.format == "TIFF":
            return 1  # Pillow turns these itself
        if self._image.format == "PNG" and "exif" not in self._image.info and self._data is not None:
            exif = Image.Exif()
            exif.load(_png_exif(self._data))
        else:
            exif = self._image.getexif()
        found = exif.get(_ORIENTATION)
        return found if isinstance(found, int) and found in _TURNS else 1


def _open(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _guarded(name: str, read: Callable[[], _Result]) -> _Result:
    """What ``read`` gives. A hostile file can make a decoder raise anything; it becomes a MediaError."""
    try:
        return read()
    except LoqalError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(
            f"{name} has too many pixels.", f"At most {MAX_SOURCE_PIXELS:,} are decoded.", "Send a smaller image."
        ) from error
    except UnidentifiedImageError:
        raise MediaError(
            f"{name} is not an image that loqal reads.",
            "Its first bytes are not those of a PNG, JPEG, WebP, GIF, BMP or TIFF file.",
            "Convert it; give a video as a video (--video).",
        ) from None
    except Exception as error:
        raise MediaError(
            f"{name} cannot be decoded.", f"{type(error).__name__}: {str(error)[:200]}.", "Send it again, or another."
        ) from error


def _png_exif(data: bytes) -> bytes:
    """The EXIF chunk of a PNG, wherever it stands."""
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return b"Exif\x00\x00" + data[position + 8 : position + 8 + length]
        position += 12 + length
    return b""


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _colours(image: Image.Image) -> Image.Image:
    """RGB. Transparency lies over white; 16-bit and float values keep their high bits."""
    if image.mode == "La":
        image = image.convert("LA")  # the only way out of that mode
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, (255, 255, 255, 255)), clear).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Bytes:
    """Grey values of more than 8 bits: 16-bit integers, or floats from 0 to 1 or to 255."""
    values: Any = np.asarray(image)
    if image.mode == "F":
        finite = np.nan_to_num(values.astype(np.float64), nan=0.0)
        scaled = finite * 255 if finite.size and finite.max() <= 1 else finite
        return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)
    whole = np.clip(values.astype(np.int64), 0, 65535)
    if image.mode == "I" and whole.max(initial=0) <= 255:
        return np.asarray(whole, np.uint8)
    return np.asarray(whole >> 8, np.uint8)
