"""How pictures and videos are cut to size: the numbers of a checkpoint's preprocessor, and the arithmetic over them.

The arithmetic is that of the reference processor, float operation by float operation, since a size beside a half must
fall to the same side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loqal.errors import FormatError, RequestError, UnsupportedError

MAX_ASPECT = 200
"""How many times longer the long side of a picture may be."""

_FIX = "Use the preprocessor files published with this model."


@dataclass(frozen=True, slots=True)
class Grid:
    """Patches of a picture, or of one pair of frames."""

    rows: int
    columns: int

    @property
    def num_patches(self) -> int:
        """Patches in the grid."""
        return self.rows * self.columns

    def merged(self, merge_size: int) -> Grid:
        """The grid of tokens."""
        return Grid(self.rows // merge_size, self.columns // merge_size)


@dataclass(frozen=True, slots=True)
class PatchRules:
    """What a pixel becomes. ``mean`` and ``std`` are per colour, of values from 0 to 1."""

    patch_size: int = 16
    frames_per_patch: int = 2
    merge_size: int = 2
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def unit(self) -> int:
        """Sides are multiples of this many pixels, so that patches fill whole tokens."""
        return self.patch_size * self.merge_size

    @property
    def token_pixels(self) -> int:
        """Pixels of one frame in a token."""
        return self.unit**2


@dataclass(frozen=True, slots=True)
class ImageRules:
    """Bounds of a picture, in pixels of area."""

    patch: PatchRules = dataclasses.field(default_factory=PatchRules)
    min_pixels: int = 65_536
    max_pixels: int = 16_777_216

    def within(self, min_tokens: int | None, max_tokens: int | None) -> ImageRules:
        """The rules with a caller's own bounds, in tokens.

        Raises:
            RequestError: the bounds are below one token, or cross.
        """
        low = self.min_pixels if min_tokens is None else _tokens("min_tokens", min_tokens) * self.patch.token_pixels
        high = self.max_pixels if max_tokens is None else _tokens("max_tokens", max_tokens) * self.patch.token_pixels
        if min_tokens is None:
            low = min(low, high)
        elif max_tokens is None:
            high = max(low, high)
        if low > high:
            raise RequestError(
                f"An image should have at least {min_tokens} and at most {max_tokens} tokens.",
                "No number meets both bounds.",
                "Give one of the bounds, or a min_tokens below max_tokens.",
            )
        return dataclasses.replace(self, min_pixels=low, max_pixels=high)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) a picture is resized to. Raises RequestError for an extreme shape."""
        check_aspect(width, height)
        unit = self.patch.unit
        new_height, new_width = round(height / unit) * unit, round(width / unit) * unit
        if new_height * new_width > self.max_pixels:
            shrink = math.sqrt((height * width) / self.max_pixels)
            new_height = max(unit, math.floor(height / shrink / unit) * unit)
            new_width = max(unit, math.floor(width / shrink / unit) * unit)
        elif new_height * new_width < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            new_height = math.ceil(height * grow / unit) * unit
            new_width = math.ceil(width * grow / unit) * unit
        return new_width, new_height


@dataclass(frozen=True, slots=True)
class VideoRules:
    """Frames of a video, and bounds of its volume in pixels of all frames together."""

    patch: PatchRules = dataclasses.field(default_factory=PatchRules)
    min_volume: int = 4_096
    max_volume: int = 25_165_824
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768

    def within(self, max_tokens: int | None, fps: float | None, max_frames: int | None) -> VideoRules:
        """The rules with a caller's own bounds. Raises RequestError for bounds that no video meets."""
        volume = self.max_volume
        if max_tokens is not None:
            volume = _tokens("max_tokens", max_tokens) * self.patch.token_pixels * self.patch.frames_per_patch
        if fps is not None and not (isinstance(fps, (int, float)) and 0 < fps <= 1000):
            raise RequestError(
                f"fps is {fps!r}.", "It must be a number above 0, up to 1000.", "Leave it out, or use 2."
            )
        if max_frames is not None and not (isinstance(max_frames, int) and max_frames >= self.patch.frames_per_patch):
            raise RequestError(
                f"max_frames is {max_frames!r}.",
                f"It must be a whole number from {self.patch.frames_per_patch}.",
                "Leave it out, or choose more.",
            )
        most = self.max_frames if max_frames is None else max_frames
        return dataclasses.replace(
            self,
            max_volume=volume,
            min_volume=min(self.min_volume, volume // 4),  # growing rounds both sides up, to four times at most
            fps=self.fps if fps is None else float(fps),
            max_frames=most,
            min_frames=min(self.min_frames, most),
        )

    def num_frames(self, total: int, source_fps: float) -> int:
        """How many of ``total`` frames are looked at."""
        return min(max(int(total / source_fps * self.fps), self.min_frames), self.max_frames, total)

    def size(self, num_frames: int, width: int, height: int) -> tuple[int, int]:
        """The (width, height) every frame is resized to. Raises RequestError for an extreme shape."""
        unit, pair = self.patch.unit, self.patch.frames_per_patch
        if height < unit or width < unit:
            scale = max(unit / height, unit / width)
            height, width = int(height * scale), int(width * scale)
        check_aspect(width, height)
        new_height, new_width = round(height / unit) * unit, round(width / unit) * unit
        whole_pairs = round(num_frames / pair) * pair
        if whole_pairs * new_height * new_width > self.max_volume:
            shrink = math.sqrt((num_frames * height * width) / self.max_volume)
            new_height = max(unit, math.floor(height / shrink / unit) * unit)
            new_width = max(unit, math.floor(width / shrink / unit) * unit)
        elif whole_pairs * new_height * new_width < self.min_volume:
            grow = math.sqrt(self.min_volume / (num_frames * height * width))
            new_height = math.ceil(height * grow / unit) * unit
            new_width = math.ceil(width * grow / unit) * unit
        return new_width, new_height


def check_aspect(width: int, height: int) -> None:
    """Raise RequestError for a shape the model was never shown."""
    if min(width, height) < 1 or max(width, height) / min(width, height) > MAX_ASPECT:
        raise RequestError(
            f"The picture is {width} x {height} pixels.",
            f"One side may be at most {MAX_ASPECT} times the other.",
            "Cut it into parts.",
        )


def _tokens(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RequestError(f"{name} is {value!r}.", "It must be a whole number of at least 1.", "Choose another.")
    return value


def read_rules(image: Mapping[str, Any], video: Mapping[str, Any], patch: PatchRules) -> tuple[ImageRules, VideoRules]:
    """The rules of preprocessor_config.json and video_preprocessor_config.json; empty tables mean the family's.

    ``patch`` is what the model itself says about its patches.

    Raises:
        FormatError: a value is impossible.
        UnsupportedError: the files ask for something else than resizing, scaling and normalising.
    """
    for table in (image, video):
        for key in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
            if table.get(key, True) is not True:
                raise UnsupportedError(f"The preprocessor sets {key} to {table[key]!r}.", "loqal always does it.", _FIX)
        for key, value in (("resample", 3), ("rescale_factor", 1 / 255)):
            if table.get(key, value) != value:
                raise UnsupportedError(
                    f"The preprocessor sets {key} to {table[key]!r}.", f"loqal implements {value}.", _FIX
                )
        for key, size in (
            ("patch_size", patch.patch_size),
            ("temporal_patch_size", patch.frames_per_patch),
            ("merge_size", patch.merge_size),
        ):
            if table.get(key, size) != size:
                raise FormatError(f"The preprocessor sets {key} to {table[key]!r}.", f"The model's is {size}.", _FIX)
    images, videos = ImageRules(_colours(image, patch)), VideoRules(_colours(video, patch))
    low, high = _bounds(image, images.min_pixels, images.max_pixels)
    images = dataclasses.replace(images, min_pixels=low, max_pixels=high)
    low, high = _bounds(video, videos.min_volume, videos.max_volume)
    return images, dataclasses.replace(
        videos,
        min_volume=low,
        max_volume=high,
        fps=_number(video, "fps", videos.fps),
        min_frames=int(_number(video, "min_frames", videos.min_frames)),
        max_frames=int(_number(video, "max_frames", videos.max_frames)),
    )


def _colours(table: Mapping[str, Any], patch: PatchRules) -> PatchRules:
    found = []
    for key, default in (("image_mean", patch.mean), ("image_std", patch.std)):
        value = table.get(key, default)
        numbers = isinstance(value, (list, tuple)) and len(value) == 3 and all(type(v) in (int, float) for v in value)
        if (
            not numbers
            or not all(abs(v) < 1e3 for v in value)
            or (key == "image_std" and not all(v > 0 for v in value))
        ):
            raise FormatError(f"The preprocessor sets {key} to {value!r}.", "It must be three numbers.", _FIX)
        found.append((float(value[0]), float(value[1]), float(value[2])))
    return dataclasses.replace(patch, mean=found[0], std=found[1])


def _bounds(table: Mapping[str, Any], low: int, high: int) -> tuple[int, int]:
    """Least and most pixels: in ``size``, or under the names of older files."""
    size = table.get("size")
    sizes: Mapping[str, Any] = size if isinstance(size, Mapping) else {}
    low = int(_number(sizes, "shortest_edge", _number(table, "min_pixels", low)))
    high = int(_number(sizes, "longest_edge", _number(table, "max_pixels", high)))
    if low > high:
        raise FormatError(
            f"The preprocessor asks for {low} to {high} pixels.", "The smallest is above the largest.", _FIX
        )
    return low, high


def _number(table: Mapping[str, Any], key: str, default: float) -> float:
    value = table.get(key)
    if value is None:
        return default
    if type(value) not in (int, float) or not 0 < value < 2**53:
        raise FormatError(f"The preprocessor sets {key} to {value!r}.", "It must be a positive number.", _FIX)
    return float(value)
