"""The rotary frequencies against numbers worked out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from loqal.ops.records import RopeConfig, YarnConfig
from loqal.ops.rope import HEIGHT, TIME, WIDTH, inverse_frequencies


def test_plain_frequencies() -> None:
    inverse, _, magnitude = inverse_frequencies(RopeConfig())
    assert inverse[0] == 1.0
    assert inverse[16] == pytest.approx(10**-3.5)
    assert inverse[31] == pytest.approx(1e7 ** (-62 / 64))
    assert magnitude == 1.0


def test_axes_interleave() -> None:
    axis = inverse_frequencies(RopeConfig()).axis
    assert axis.dtype.kind == "i"
    assert np.flatnonzero(axis == HEIGHT).tolist() == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31]
    assert np.flatnonzero(axis == WIDTH).tolist() == [2, 5, 8, 11, 14, 17, 20, 23, 26, 29]
    assert np.flatnonzero(axis == TIME).tolist() == list(range(0, 31, 3))


def test_axes_of_other_sections() -> None:
    axis = inverse_frequencies(RopeConfig(rotary_dim=16, sections=(4, 2, 2))).axis
    assert axis.tolist() == [TIME, HEIGHT, WIDTH, TIME, HEIGHT, WIDTH, TIME, TIME]


@pytest.mark.parametrize(("factor", "magnitude"), [(4.0, 1.13863), (2.0, 1.06931)])
def test_yarn(factor: float, magnitude: float) -> None:
    plain = inverse_frequencies(RopeConfig())
    yarn = inverse_frequencies(RopeConfig(yarn=YarnConfig(factor, 262144)))
    slower = plain.inverse / yarn.inverse
    assert np.all(slower[:15] == 1)
    assert slower[22:] == pytest.approx(factor)
    # Between them the frequency slides in a straight line: pair 18 is half way from 14 to 22.
    assert 1 / slower[18] == pytest.approx((1 + 1 / factor) / 2)
    assert yarn.magnitude == pytest.approx(magnitude, abs=5e-6)
    assert np.array_equal(yarn.axis, plain.axis)


def test_yarn_bounds_stay_inside_the_head() -> None:
    tiny = RopeConfig(rotary_dim=8, theta=100.0, sections=(2, 1, 1), yarn=YarnConfig(4.0, 64))
    assert np.isfinite(inverse_frequencies(tiny).inverse).all()
