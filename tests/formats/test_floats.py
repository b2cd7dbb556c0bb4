"""Plain floats: rounding to the nearest, ties to even, and back without loss."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loqal.formats import floats

NUMBERS = st.lists(st.floats(width=32), min_size=1, max_size=8).map(lambda values: np.array(values, np.float32))


@given(NUMBERS)
def test_float32_is_kept(values: np.ndarray) -> None:
    assert floats.decode_f32(floats.encode_f32(values)).tobytes() == values.tobytes()


@given(NUMBERS)
def test_bfloat16_is_the_nearest_with_ties_to_even(values: np.ndarray) -> None:
    found = floats.decode_bf16(floats.encode_bf16(values))
    assert np.array_equal(np.isnan(found), np.isnan(values))
    for value, rounded in zip(values.astype(np.float64), found, strict=True):
        if np.isnan(value) or np.isinf(rounded):
            assert np.isnan(value) or abs(value) > 3.38e38
            continue
        bits = int(rounded.view(np.uint32)) >> 16
        others = [np.uint32((bits + step) << 16).view(np.float32) for step in (-1, 1) if 0 <= bits + step < 1 << 16]
        gaps = [abs(float(other) - value) for other in others if np.isfinite(other)]
        own = abs(float(rounded) - value)
        assert all(own < gap or (own == gap and bits % 2 == 0) for gap in gaps)


@given(NUMBERS)
def test_float16_is_numpys(values: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(floats.decode_f16(floats.encode_f16(values)), expected, equal_nan=True)
