"""Resized frames to patches in the order the vision tower reads them.

Patches go by merge blocks, row by row, and inside a block row by row; the values of a patch go by colour, frame, row,
column. They stay bytes until they are read: a normalised value is one of 256 per colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loqal.media.resize_rules import Grid, PatchRules

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of a picture or of one pair of frames: [N colour frame pixel], frame axis 1 for a still picture."""

    values: Bytes
    rules: PatchRules

    def __len__(self) -> int:
        return len(self.values)

    def read(self, start: int, end: int) -> Floats:
        """Normalised patches [end - start, colours * frames * pixels]."""
        table = levels(self.rules)
        cut = self.values[start:end]
        frames = self.rules.frames_per_patch
        out = np.empty((len(cut), 3, frames, cut.shape[-1]), np.float32)
        for colour in range(3):
            out[:, colour] = table[colour][cut[:, colour]]  # a still picture is both frames of its pair
        return out.reshape(len(cut), -1)


def levels(rules: PatchRules) -> Floats:
    """What each byte becomes, per colour: scaled to 0..1, mean taken away, divided by the deviation: [3 256]."""
    unit = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    mean, std = np.array(rules.mean, np.float32)[:, None], np.array(rules.std, np.float32)[:, None]
    return np.asarray((unit - mean) / std, np.float32)


def cut(frames: Sequence[Bytes], rules: PatchRules) -> tuple[Patches, Grid]:
    """Cut one frame, or the frames of one pair, [height width 3] with sides that are multiples of ``rules.unit``."""
    height, width, _ = frames[0].shape
    size, merge = rules.patch_size, rules.merge_size
    grid = Grid(height // size, width // size)
    stack = np.stack(frames).reshape(
        len(frames), grid.rows // merge, merge, size, grid.columns // merge, merge, size, 3
    )
    ordered = stack.transpose(1, 4, 2, 5, 7, 0, 3, 6)  # block row, block column, row, column, colour, frame, pixel
    return Patches(ordered.reshape(grid.num_patches, 3, len(frames), size * size), rules), grid
