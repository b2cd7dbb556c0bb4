"""What storing values in fewer bits lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loqal.formats.blocks import Floats


@dataclass(frozen=True, slots=True)
class Loss:
    """What storing values x as y lost, as sums over the values; losses of pieces add up to that of the whole.

    A value's weight is the importance of its column, or 1 without one.
    """

    squared: float = 0.0  # (x - y)^2
    weighted_squared: float = 0.0  # weight (x - y)^2
    energy: float = 0.0  # x^2
    weighted_energy: float = 0.0  # weight x^2

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            self.squared + other.squared,
            self.weighted_squared + other.weighted_squared,
            self.energy + other.energy,
            self.weighted_energy + other.weighted_energy,
        )

    @property
    def plain(self) -> float:
        """Root mean square of what was lost, relative to that of the values."""
        return _relative(self.squared, self.energy)

    @property
    def weighted(self) -> float:
        """The same with weights."""
        return _relative(self.weighted_squared, self.weighted_energy)


def loss(values: Floats, stored: Floats, importance: Floats | None = None) -> Loss:
    """What is lost between values and their stored forms, computed in float64."""
    off = (values.astype(np.float64) - stored) ** 2
    energy = values.astype(np.float64) ** 2
    weights = np.float64(1) if importance is None else importance.astype(np.float64)
    return Loss(float(off.sum()), float((off * weights).sum()), float(energy.sum()), float((energy * weights).sum()))


def _relative(lost: float, energy: float) -> float:
    return math.sqrt(lost / energy) if energy > 0 else 0.0
