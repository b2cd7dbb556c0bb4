"""What storing values in fewer bits lost."""

from __future__ import annotations

import numpy as np
import pytest

from loqal.formats.loss import Loss, loss

VALUES = np.array([[3.0, -4.0], [0.0, 2.0]], np.float32)
STORED = np.array([[3.5, -4.0], [0.0, 1.0]], np.float32)


def test_sums_and_ratios() -> None:
    found = loss(VALUES, STORED)
    assert (found.squared, found.energy) == (1.25, 29.0)
    assert (found.weighted_squared, found.weighted_energy) == (1.25, 29.0)
    assert found.plain == found.weighted == pytest.approx((1.25 / 29) ** 0.5)


def test_columns_count_by_their_importance() -> None:
    found = loss(VALUES, STORED, np.array([4.0, 0.5], np.float32))
    assert (found.squared, found.energy) == (1.25, 29.0)
    assert (found.weighted_squared, found.weighted_energy) == (1.5, 46.0)
    assert found.weighted == pytest.approx((1.5 / 46) ** 0.5)


def test_pieces_add_up() -> None:
    importance = np.array([4.0, 0.5], np.float32)
    parts = [loss(VALUES[i : i + 1], STORED[i : i + 1], importance) for i in range(2)]
    assert parts[0] + parts[1] == loss(VALUES, STORED, importance)
    assert Loss() + parts[0] == parts[0]


def test_nothing_and_zeros() -> None:
    assert Loss().plain == Loss().weighted == 0.0
    assert loss(VALUES, VALUES).plain == 0.0


def test_differences_are_taken_in_float64() -> None:
    values = np.array([1.0 + 2**-20], np.float32)
    assert loss(values, np.array([1.0], np.float32)).squared == 2.0**-40
