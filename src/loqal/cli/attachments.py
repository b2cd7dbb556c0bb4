"""Images and videos on the command line: flags, files among the words, files dropped into a chat."""

from __future__ import annotations

import argparse
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loqal.errors import RequestError
from loqal.types.messages import MediaPart, Message, TextPart

Kind = Literal["image", "video"]

_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv", ".3gp")
_WORD = re.compile(r"""'([^']+)'|"([^"]+)"|((?:\\.|[^\s'"\\])+)""")


@dataclass(frozen=True, slots=True)
class MediaBounds:
    """What the flags say about the cost of every image and video."""

    min_image_tokens: int | None = None
    max_image_tokens: int | None = None
    max_video_tokens: int | None = None
    fps: float | None = None
    max_frames: int | None = None

    def part(self, kind: Kind, path: str) -> MediaPart:
        """A file as a part of a message."""
        if kind == "image":
            return MediaPart("image", path, min_tokens=self.min_image_tokens, max_tokens=self.max_image_tokens)
        return MediaPart("video", path, max_tokens=self.max_video_tokens, fps=self.fps, max_frames=self.max_frames)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that bring media into a request."""
    group = add_bounds(parser)
    group.add_argument("--image", action="append", default=[], metavar="FILE", help="attach an image; may be repeated")
    group.add_argument("--video", action="append", default=[], metavar="FILE", help="attach a video; may be repeated")
    group.add_argument("--allow-urls", action="store_true", help="allow images and videos from http and https URLs")
    group.add_argument("--mmproj", metavar="FILE", help="the separate vision tower of a GGUF model")


def add_bounds(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Flags that bound what media cost."""
    group = parser.add_argument_group("images and videos", "By default the bounds of the model apply.")
    group.add_argument(
        "--min-image-tokens", type=int, metavar="N", help="minimum tokens of an image; smaller ones are enlarged"
    )
    group.add_argument(
        "--max-image-tokens", type=int, metavar="N", help="maximum tokens of an image; larger ones are scaled down"
    )
    group.add_argument("--max-video-tokens", type=int, metavar="N", help="approximate maximum tokens of a video")
    group.add_argument("--fps", type=float, metavar="X", help="sampled frames per second of video")
    group.add_argument("--max-frames", type=int, metavar="N", help="maximum number of sampled frames of a video")
    return group


def bounds(parsed: argparse.Namespace) -> MediaBounds:
    """The bounds the flags give."""
    return MediaBounds(
        parsed.min_image_tokens, parsed.max_image_tokens, parsed.max_video_tokens, parsed.fps, parsed.max_frames
    )


def of_flags(parsed: argparse.Namespace, limits: MediaBounds) -> tuple[MediaPart, ...]:
    """The files of --image and --video."""
    images = tuple(limits.part("image", path) for path in parsed.image)
    return images + tuple(limits.part("video", path) for path in parsed.video)


def taken_out(words: Sequence[str], limits: MediaBounds) -> tuple[list[str], tuple[MediaPart, ...]]:
    """Words of a command line without those that are files of images or videos, and these.

    Raises:
        RequestError: a word is named like one, but there is no such file.
    """
    rest: list[str] = []
    parts: list[MediaPart] = []
    for word in words:
        kind = _kind(word)
        if kind is not None and "\n" not in word and _is_file(word):
            parts.append(limits.part(kind, word))
            continue
        if kind is not None and not re.search(r"\s", word):
            raise RequestError(
                f"The file {word!r} does not exist.",
                "A word that ends like an image or a video is read as a file, not as a part of the prompt.",
                "Check the spelling of the path, or put the whole prompt in quotes.",
            )
        rest.append(word)
    return rest, tuple(parts)


def dropped(text: str, limits: MediaBounds) -> tuple[str, tuple[MediaPart, ...]]:
    """A chat message without the paths of images and videos in it, and these.

    Terminals write a dropped file as its path, in quotes or with its spaces escaped, or as a file:// address.
    """
    parts: list[MediaPart] = []

    def take(match: re.Match[str]) -> str:
        path = unquoted(match[0])
        kind = _kind(path)
        if kind is None or not ("/" in path or "\\" in path or _is_file(path)) or not _is_file(path):
            return match[0]
        parts.append(limits.part(kind, path))
        return ""

    rest = _WORD.sub(take, text)
    return (" ".join(rest.split()) if parts else text), tuple(parts)


def unquoted(word: str) -> str:
    """The path a terminal meant: without quotes, escapes and the file:// in front."""
    match = _WORD.fullmatch(word)
    if match is not None:
        quoted = match[1] or match[2]
        word = quoted if quoted else re.sub(r"\\(.)", r"\1", word)
    if word.startswith("file://"):
        word = urllib.parse.unquote(urllib.parse.urlsplit(word).path)
    return word


def kind_of(path: str) -> Kind:
    """What a file is by its name; an image when that says nothing."""
    return _kind(path) or "image"


def message(text: str, media: Sequence[MediaPart]) -> Message:
    """A user's message: what is shown first, then the words."""
    if not media:
        return Message("user", text)
    return Message("user", (*media, TextPart(text)) if text else tuple(media))


def _kind(path: str) -> Kind | None:
    suffix = Path(urllib.parse.urlsplit(path).path if path.startswith(("http:", "https:")) else path).suffix.lower()
    return "image" if suffix in _IMAGES else "video" if suffix in _VIDEOS else None


def _is_file(path: str) -> bool:
    if path.startswith(("http://", "https://")):
        return True
    try:
        return Path(path).expanduser().is_file()
    except (OSError, ValueError):  # too long for a name, or holding a zero byte
        return False
