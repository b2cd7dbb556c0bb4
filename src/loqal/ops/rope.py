"""The frequencies of rotary positions, shared by every backend: pure numbers, no arrays of a model.

Pair ``i`` of a head turns by ``position * inverse[i]``. Which position (time, height or width) a pair follows is
interleaved with period three, so that all three axes meet high and low frequencies alike. YaRN divides the low
frequencies by its factor, keeps the high ones, and slides linearly between.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loqal.ops.records import RopeConfig, YarnConfig

TIME, HEIGHT, WIDTH = 0, 1, 2


class Frequencies(NamedTuple):
    """What ``inverse_frequencies`` returns; P is ``rotary_dim / 2``."""

    inverse: npt.NDArray[np.float64]  # [P] radians per position
    axis: npt.NDArray[np.int32]  # [P] the column of StepBatch.positions a pair follows
    magnitude: float  # factor of cosines and sines, 1 without YaRN


@functools.cache
def inverse_frequencies(rope: RopeConfig) -> Frequencies:
    """Radians per position, axis, and magnitude of every pair of rotated dimensions."""
    pairs = np.arange(rope.rotary_dim // 2)
    inverse = rope.theta ** (-2.0 * pairs / rope.rotary_dim)
    magnitude = 1.0
    if rope.yarn is not None:
        slowed = _slowed_share(pairs, rope, rope.yarn)
        inverse = inverse * (1.0 - slowed) + inverse / rope.yarn.factor * slowed
        magnitude = 0.1 * math.log(rope.yarn.factor) + 1.0
    return Frequencies(inverse, _axes(pairs, rope.sections), magnitude)


def vision_frequencies(head_dim: int, theta: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Radians per place and axis (0 row, 1 column) of every pair of a vision head."""
    quarter = head_dim // 4
    inverse = theta ** (-4.0 * np.arange(quarter) / head_dim)
    return np.tile(inverse, 2), np.repeat(np.arange(2, dtype=np.int32), quarter)


def _axes(pairs: npt.NDArray[np.int64], sections: tuple[int, int, int]) -> npt.NDArray[np.int32]:
    """Height takes pairs 1, 4, 7, ... and width 2, 5, 8, ... until each has its count; time takes the rest."""
    axis = np.full(pairs.shape, TIME, np.int32)
    axis[(pairs % 3 == 1) & (pairs < 3 * sections[HEIGHT])] = HEIGHT
    axis[(pairs % 3 == 2) & (pairs < 3 * sections[WIDTH])] = WIDTH
    return axis


def _slowed_share(pairs: npt.NDArray[np.int64], rope: RopeConfig, yarn: YarnConfig) -> npt.NDArray[np.float64]:
    """0 for pairs that make at least ``beta_fast`` turns over the original context, 1 for fewer than ``beta_slow``."""

    def pair_with_turns(turns: float) -> float:
        span = yarn.original_context / (turns * 2.0 * math.pi)
        return rope.rotary_dim * math.log(span) / (2.0 * math.log(rope.theta))

    first = max(math.floor(pair_with_turns(yarn.beta_fast)), 0)
    last = min(math.ceil(pair_with_turns(yarn.beta_slow)), rope.rotary_dim - 1)
    return np.clip((pairs - first) / max(last - first, 1e-3), 0.0, 1.0)
