"""Scales and minima of runs: never worse than any that are tried here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.formats.search import best_scale, best_scale_and_minimum

TOP = 15
ANCHORS = np.array([-8.0, -7.5, 7.0], np.float32)
SPANS = np.array([14.0, 15.0, 15.5], np.float32)


def rounded(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), -8, 7).astype(np.float32)


def error(values: np.ndarray, weights: np.ndarray, stored: np.ndarray) -> np.ndarray:
    return (weights.astype(np.float64) * (values.astype(np.float64) - stored) ** 2).sum(axis=1, keepdims=True)


def signed(values: np.ndarray, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(scale == 0, 0, rounded(values / scale))
    return error(values, weights, codes * scale)


@given(st.integers(0, 2**32 - 1))
def test_a_scale_is_better_than_the_plain_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (4, 16)).astype(np.float32)
    weights = rng.uniform(0.1, 2, (4, 16)).astype(np.float32)
    scale = best_scale(values, weights, ANCHORS, rounded)
    extreme = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    for anchor in ANCHORS:
        assert (signed(values, weights, scale) <= signed(values, weights, extreme / anchor) * 1.001 + 1e-6).all()


def test_values_on_levels_are_met_exactly() -> None:
    levels = np.array([[-8, 3, 7, 0, 1, -2]], np.float32)
    for factor in (0.5, -0.25):
        scale = best_scale(levels * factor, np.ones_like(levels), ANCHORS, rounded)
        assert scale == pytest.approx(np.array([[factor]]))
    codes = np.array([[0, 15, 7, 3, 1, 2]], np.float32)
    scale, offset = best_scale_and_minimum(codes * 0.5 - 2.0, np.ones_like(codes), TOP, SPANS)
    assert (scale.item(), offset.item()) == (pytest.approx(0.5), pytest.approx(2.0))


def test_runs_of_zeros_and_runs_beside_each_other() -> None:
    values = np.zeros((2, 8), np.float32)
    values[1] = np.linspace(-1, 1, 8)
    ones = np.ones_like(values)
    scale = best_scale(values, ones, ANCHORS, rounded)
    assert scale[0] == 0 and scale[1] == best_scale(values[1:], ones[1:], ANCHORS, rounded)
    both = best_scale_and_minimum(values, ones, TOP, SPANS)
    assert [part[0].item() for part in both] == [0, 0]
    alone = best_scale_and_minimum(values[1:], ones[1:], TOP, SPANS)
    assert all(np.array_equal(part[1:], one) for part, one in zip(both, alone, strict=True))


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_neither_scale_nor_offset_is_negative_and_the_fit_is_good(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 1, (4, 32)) + shift).astype(np.float32)
    weights = rng.uniform(0.1, 2, (4, 32)).astype(np.float32)
    scale, offset = best_scale_and_minimum(values, weights, TOP, SPANS)
    assert (scale >= 0).all() and (offset >= 0).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(scale == 0, 0, np.clip(np.rint((values + offset) / scale), 0, TOP))
    lowest = np.minimum(values.min(axis=1, keepdims=True), 0)
    plain = (values.max(axis=1, keepdims=True) - lowest) / TOP
    with np.errstate(divide="ignore", invalid="ignore"):
        plain_codes = np.where(plain > 0, np.rint((values - lowest) / plain), 0)
    found = error(values, weights, codes * scale - offset)
    assert (found <= error(values, weights, np.clip(plain_codes, 0, TOP) * plain + lowest) * 1.01 + 1e-5).all()


def test_what_counts_more_is_met_better() -> None:
    values = np.array([[1.0, 0.73, 0.41, -0.9]], np.float32)

    def off(index: int, weight: float) -> float:
        weights = np.ones_like(values)
        weights[0, index] = weight
        scale = best_scale(values, weights, ANCHORS, rounded)
        return abs(float(rounded(values / scale)[0, index] * scale.item()) - float(values[0, index]))

    assert all(off(index, 1000.0) <= off(index, 1.0) for index in range(4))
    assert any(off(index, 1000.0) < off(index, 1.0) for index in range(4))
