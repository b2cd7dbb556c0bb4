"""Small integers in bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.formats.blocks import as_half, pack_bits, read_half, reciprocal, unpack_bits


@given(st.sampled_from([1, 2, 4]), st.sampled_from([4, 8, 16]), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(bits: int, run: int, runs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**bits, (3, run * runs * 8 // bits), np.uint8)
    packed = pack_bits(values, bits, run)
    assert packed.shape == (3, run * runs)
    assert np.array_equal(unpack_bits(packed, bits, run), values)


def test_the_order_of_planes() -> None:
    """The lowest bits of a run are its first integers."""
    packed = np.array([[0x21, 0x43, 0x65, 0x87]], np.uint8)
    assert unpack_bits(packed, 4, 2).tolist() == [[1, 3, 2, 4, 5, 7, 6, 8]]
    assert unpack_bits(packed, 4, 4).tolist() == [[1, 3, 5, 7, 2, 4, 6, 8]]
    assert unpack_bits(np.array([[0b11_10_01_00]], np.uint8), 2, 1).tolist() == [[0, 1, 2, 3]]


def test_halves() -> None:
    values = np.array([[1.5], [-0.25], [65504.0], [1e6], [0.0]], np.float32)
    stored = as_half(values)
    blocks = np.concatenate([np.full((5, 3), 9, np.uint8), stored], axis=1)
    assert read_half(blocks, 3).tolist() == [[1.5], [-0.25], [65504.0], [np.inf], [0.0]]


def test_reciprocals_never_overflow() -> None:
    tiny = np.finfo(np.float32).tiny
    values = np.array([2.0, -4.0, 0.0, tiny, tiny / 2, -tiny / 4], np.float32)
    assert reciprocal(values).tolist() == [0.5, -0.25, 0.0, 1 / tiny, 0.0, 0.0]
    assert np.isfinite(reciprocal(values)).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_higher_bits_are_cut(bits: int) -> None:
    values = np.arange(32, dtype=np.uint8)[None]
    assert np.array_equal(pack_bits(values, bits, 4), pack_bits(values % 2**bits, bits, 4))
