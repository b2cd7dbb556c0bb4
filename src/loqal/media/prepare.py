"""One image or video of a request, planned: what it costs is known, and nothing but its header has been decoded."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loqal.errors import RequestError
from loqal.media.fetch import Fetched, Policy, fetch
from loqal.media.image import Picture
from loqal.media.patches import Bytes, Patches, cut
from loqal.media.resize_rules import Grid, ImageRules, VideoRules
from loqal.media.video import FrameFile, FrameList, Frames, check_list, is_frame_list, spread, timestamps
from loqal.types.messages import MediaPart

_COLOURS = 3
_DECODED_FRAME = 10  # bytes a pixel of a frame of a video: as the decoder has it, in colours, and as an image of Pillow


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """A picture, or one pair of frames: what the vision tower encodes at a time.

    ``digest`` stands for its content and its size; ``seconds`` is the time of a pair of frames.
    """

    item: Item
    index: int
    grid: Grid  # of patches
    tokens: Grid
    digest: bytes
    seconds: float | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens it takes in the prompt, the marks around it apart."""
        return self.tokens.num_patches

    @property
    def reading_bytes(self) -> tuple[int, int]:
        """Most memory while its patches are made, and what they, and the frames around them, take once they are."""
        pixels = self.item.size[0] * self.item.size[1]
        one = _COLOURS * pixels
        if isinstance(self.item.source, Picture):
            return self.item.source.decoding_bytes + 2 * one, one
        pair = self.item.rules.patch.frames_per_patch * one
        frames = len(self.item.frame_indices) * one
        source = self.item.source_size[0] * self.item.source_size[1]
        return frames + max(_DECODED_FRAME * source, 2 * pair), frames + pair

    def patches(self) -> Patches:
        """Its patches, decoded now. Raises MediaError."""
        return self.item.patches(self.index)


@dataclass(eq=False)
class Item:
    """An image or a video and its views.

    ``source_size`` and ``size`` are (width, height) before and after resizing.
    """

    kind: str
    name: str
    source_size: tuple[int, int]
    size: tuple[int, int]
    source: Picture | Frames
    rules: ImageRules | VideoRules
    frame_indices: tuple[int, ...] = ()
    fps: float | None = None
    views: tuple[PreparedImage, ...] = ()
    _frames: list[Bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def num_tokens(self) -> int:
        """Tokens of all views together."""
        return sum(view.num_tokens for view in self.views)

    def patches(self, index: int) -> Patches:
        """The patches of view ``index``. A video's frames are decoded with the first and kept until the last."""
        patch = self.rules.patch
        if isinstance(self.source, Picture):
            return cut([self.source.pixels(*self.size)], patch)[0]
        with self._lock:
            frames = self._frames or self.source.read(self.frame_indices, *self.size)
            self._frames = None if index == len(self.views) - 1 else frames
        pair = frames[index * patch.frames_per_patch : (index + 1) * patch.frames_per_patch]
        return cut(pair + pair[-1:] * (patch.frames_per_patch - len(pair)), patch)[0]


class Preparer:
    """Plans the media of requests by the rules of one checkpoint."""

    def __init__(self, images: ImageRules, videos: VideoRules, policy: Policy) -> None:
        self._images, self._videos, self._policy = images, videos, policy

    @property
    def largest_pixels(self) -> int:
        """Of a picture once it is resized."""
        return self._images.max_pixels

    def prepare(self, part: MediaPart) -> Item:
        """Open a part's source and decide sizes, frames and tokens.

        Raises:
            RequestError: a bound is impossible, or the picture's shape is extreme.
            MediaError: the source cannot be read.
        """
        return self._image(part) if part.kind == "image" else self._video(part)

    def _image(self, part: MediaPart) -> Item:
        if part.fps is not None or part.max_frames is not None:
            raise RequestError("An image has neither fps nor max_frames.", "Those are for videos.", "Leave them out.")
        rules = self._images.within(part.min_tokens, part.max_tokens)
        fetched = fetch(part.source, "image", self._policy)
        picture = Picture(fetched)
        size = rules.size(picture.width, picture.height)
        item = Item("image", fetched.name, (picture.width, picture.height), size, picture, rules)
        item.views = _views(item, fetched.digest, [None])
        return item

    def _video(self, part: MediaPart) -> Item:
        if part.min_tokens is not None:
            raise RequestError("A video has no min_tokens.", "It is for images.", "Leave it out.")
        rules = self._videos.within(part.max_tokens, part.fps, part.max_frames)
        frames, digest = self._frames(part.source, rules)
        count = rules.num_frames(frames.total, frames.fps) if frames.sampled else min(frames.total, rules.max_frames)
        if count < rules.patch.frames_per_patch:
            raise RequestError(
                f"{frames.name} has {frames.total} frame{'s' if frames.total != 1 else ''}.",
                f"A video has at least {rules.patch.frames_per_patch}.",
                "Send it as an image.",
            )
        size = rules.size(count, frames.width, frames.height)
        indices = spread(frames.total, count)
        item = Item(
            "video", frames.name, (frames.width, frames.height), size, frames, rules, tuple(indices), frames.fps
        )
        item.views = _views(item, digest, timestamps(indices, frames.fps, rules.patch.frames_per_patch))
        return item

    def _frames(self, source: Any, rules: VideoRules) -> tuple[Frames, bytes]:
        if is_frame_list(source):
            check_list(source, rules.max_frames)
            fetched: list[Fetched] = [fetch(frame, "image", self._policy) for frame in source]
            digest = hashlib.blake2b(b"".join(one.digest for one in fetched), digest_size=32).digest()
            return FrameList(fetched, rules.fps), digest
        one = fetch(source, "video", self._policy)
        return FrameFile(one), one.digest


def _views(item: Item, content: bytes, seconds: Sequence[float | None]) -> tuple[PreparedImage, ...]:
    patch = item.rules.patch
    grid = Grid(item.size[1] // patch.patch_size, item.size[0] // patch.patch_size)
    views = []
    for index, second in enumerate(seconds):
        frames = item.frame_indices[index * patch.frames_per_patch : (index + 1) * patch.frames_per_patch]
        told = f"{item.kind} {item.size} {frames}".encode()
        digest = hashlib.blake2b(content + told, digest_size=32).digest()
        views.append(PreparedImage(item, index, grid, grid.merged(patch.merge_size), digest, second))
    return tuple(views)
