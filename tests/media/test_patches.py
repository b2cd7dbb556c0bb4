"""Patches in the order the vision tower reads them, against indices worked out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.media.patches import cut, levels
from loqal.media.resize_rules import PatchRules

SIZES = st.integers(1, 3)


def frame(rows: int, columns: int, rules: PatchRules, seed: int) -> np.ndarray:
    shape = (rows * rules.unit, columns * rules.unit, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@given(SIZES, SIZES, st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_every_value_stands_where_it_belongs(rows: int, columns: int, size: int, merge: int, is_pair: bool) -> None:
    rules = PatchRules(patch_size=size, merge_size=merge)
    frames = [frame(rows, columns, rules, seed) for seed in range(1 + is_pair)]
    patches, grid = cut(frames, rules)
    assert (grid.rows, grid.columns) == (rows * merge, columns * merge)
    assert len(patches) == grid.num_patches == grid.merged(merge).num_patches * merge**2
    index = 0
    for block_row in range(rows):
        for block_column in range(columns):
            for row in range(merge):
                for column in range(merge):
                    top, left = (block_row * merge + row) * size, (block_column * merge + column) * size
                    for number, one in enumerate(frames):
                        part = one[top : top + size, left : left + size]
                        assert np.array_equal(patches.values[index, :, number], part.reshape(-1, 3).T)
                    index += 1


@given(st.integers(0, 15), st.integers(1, 16), st.booleans())
def test_reading_a_part_is_part_of_reading_all(start: int, count: int, is_pair: bool) -> None:
    rules = PatchRules(patch_size=2, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    frames = [frame(2, 2, rules, seed) for seed in range(1 + is_pair)]
    patches, _ = cut(frames, rules)
    whole = patches.read(0, len(patches))
    assert whole.shape == (16, 3 * 2 * 4) and whole.dtype == np.float32
    assert np.array_equal(patches.read(start, start + count), whole[start : start + count])
    pairs = whole.reshape(16, 3, 2, 4)
    assert np.array_equal(pairs[:, :, 0], pairs[:, :, 1]) != is_pair  # a still picture is both frames of its pair
    byte = int(patches.values[5, 1, 0, 3])
    assert pairs[5, 1, 0, 3] == pytest.approx((byte / 255 - 0.2) / 1.0, abs=1e-6)


def test_levels_rise_evenly() -> None:
    found = levels(PatchRules(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25)))
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [0.0, -1.0, -4.0] and found[:, 255].tolist() == [1.0, 1.0, 0.0]
    assert (np.diff(found, axis=1) > 0).all()
