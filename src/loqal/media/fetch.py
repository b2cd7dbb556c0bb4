"""From what a caller names to bytes or pixels. Nothing is decoded here.

A source is a path, bytes, an open binary file, a PIL image, an array of pixels, a ``data:`` URL, an ``http(s)`` URL
when the policy allows it, or, for a video, a list of frames, each any of these.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from loqal.errors import MediaError, RequestError
from loqal.media.web import download

MAX_IMAGE_BYTES = 256 << 20
MAX_VIDEO_BYTES = 4 << 30
MAX_LIST_BYTES = 1 << 30
"""Of all frames of a list together."""

MAX_SOURCE_PIXELS = 89_478_485
"""Largest picture that is decoded, a quarter of a gigabyte of colour. It is also the bound above which Pillow warns."""

_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Policy:
    """What sources may name. A server gives no paths to its callers."""

    paths: bool = True
    urls: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source opened: exactly one of ``data``, ``path`` and ``image``. ``name`` is for messages."""

    name: str
    digest: bytes  # of the contents
    data: bytes | None = None
    path: Path | None = None
    image: Image.Image | None = None


def fetch(source: Any, kind: str, policy: Policy) -> Fetched:
    """Open one source of an "image" or a "video".

    Raises:
        RequestError: the source is of no known kind, or the policy forbids it.
        MediaError: it cannot be read, or is too large.
    """
    most = MAX_IMAGE_BYTES if kind == "image" else MAX_VIDEO_BYTES
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _of_bytes(bytes(source), f"the {kind}", most)
    if isinstance(source, Image.Image):
        check_pixels(f"the {kind}", *source.size)
        return Fetched(f"the {kind}", _pixel_digest(source), image=source)
    if isinstance(source, np.ndarray):
        return _of_array(source, kind)
    if isinstance(source, str) and source.startswith("data:"):
        return _of_bytes(_data_url(source, most), f"the {kind} in the data URL", most)
    if isinstance(source, str) and urllib.parse.urlsplit(source).scheme in ("http", "https"):
        if not policy.urls:
            raise RequestError(
                f"{source[:200]} is not fetched.",
                "Fetching media from the network is switched off.",
                "Send the file's bytes, or allow URLs (--allow-urls, allow_urls=True).",
            )
        return _of_bytes(download(source, most), source[:200], most)
    if isinstance(source, (str, os.PathLike)):
        if not policy.paths:
            raise RequestError(
                f"{str(source)[:200]!r} is not opened.",
                "Paths of this machine are not open to requests.",
                "Send bytes.",
            )
        return _of_path(source, kind, most)
    if hasattr(source, "read"):
        return _of_bytes(source.read(most + 1), f"the {kind}", most)
    raise RequestError(
        f"A {type(source).__name__} is not a source of a {kind}.",
        "A source is a path, bytes, an open file, a PIL image, an array of pixels, or a URL.",
        "Give one of these.",
    )


def _of_bytes(data: Any, name: str, most: int) -> Fetched:
    if not isinstance(data, bytes):
        raise RequestError(f"Reading {name} gave {type(data).__name__}.", "It must give bytes.", "Open it as binary.")
    if not data:
        raise MediaError(f"{name} is empty.", "It has no bytes.", "Send the file again.")
    if len(data) > most:
        raise _too_large(name, len(data), most)
    return Fetched(name, hashlib.blake2b(data, digest_size=32).digest(), data=data)


def _of_path(source: str | os.PathLike[str], kind: str, most: int) -> Fetched:
    text = os.fspath(source)
    if text.startswith("file://"):
        text = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
    path = Path(text).expanduser()
    try:
        if not path.is_file():
            problem = "It is a folder." if path.is_dir() else "The file does not exist."
            raise MediaError(f"{str(path)[:200]!r} cannot be opened.", problem, "Check the path.")
        size = path.stat().st_size
        if size > most:
            raise _too_large(str(path), size, most)
        if kind == "image":
            return _of_bytes(path.read_bytes(), str(path), most)
        digest = hashlib.blake2b(digest_size=32)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        if size == 0:
            raise MediaError(f"{path} is empty.", "It has no bytes.", "Check the path.")
        return Fetched(str(path), digest.digest(), path=path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{str(path)[:200]!r} cannot be read.", f"{reason}.", "Check the path.") from error


def _of_array(pixels: np.ndarray[Any, Any], kind: str) -> Fetched:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise RequestError(
            f"An array of {pixels.dtype} {list(pixels.shape)} is not a picture.",
            "A picture is uint8 [height width], or [height width 1, 3 or 4].",
            "Convert it.",
        )
    if pixels.size == 0:
        raise MediaError(f"The {kind} is empty.", f"Its shape is {list(pixels.shape)}.", "Send one with pixels.")
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))
    return Fetched(f"the {kind}", _pixel_digest(image), image=image)


def check_pixels(name: str, width: int, height: int) -> None:
    """Raise MediaError for a picture that is too large to decode."""
    if width * height > MAX_SOURCE_PIXELS:
        raise MediaError(
            f"{name} has {width:,} x {height:,} pixels.",
            f"At most {MAX_SOURCE_PIXELS:,} are decoded.",
            "Send a smaller one.",
        )


def _pixel_digest(image: Image.Image) -> bytes:
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=32)
    try:
        digest.update(image.tobytes())
        digest.update(repr((image.getexif().get(0x0112), image.info.get("transparency"), image.getpalette())).encode())
    except Exception as error:  # a lazily opened file fails here with whatever its decoder raises
        raise MediaError(
            "The image cannot be decoded.", f"{type(error).__name__}: {error}.", "Open it again."
        ) from error
    return digest.digest()


def _data_url(url: str, most: int) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise MediaError(
            "The data URL has no comma.", "Its data begin after the comma.", "Write data:image/png;base64,...."
        )
    if not head.endswith(";base64"):
        return urllib.parse.unquote_to_bytes(body)
    if len(body) > most // 3 * 4 + 4096:
        raise _too_large("the data URL", len(body) * 3 // 4, most)
    try:
        return base64.b64decode("".join(urllib.parse.unquote(body).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError("The data URL is broken.", f"Its data are not base64: {error}.", "Encode it again.") from error


def _too_large(name: str, size: int, most: int) -> MediaError:
    return MediaError(f"{name} has {size:,} bytes.", f"At most {most:,} are read.", "Send a smaller file.")
