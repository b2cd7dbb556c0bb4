"""The formats of 32 values, block by block, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.formats import legacy
from loqal.formats.blocks import Unpacked

CODES = np.arange(32) % 16
HIGH = (np.arange(32) % 3 == 0).astype(np.uint8)  # fifth bits


def block(*parts: object) -> np.ndarray:
    """One block: floats become float16, arrays of bytes stay."""
    raw = [np.array([part], "<f2").view(np.uint8) if isinstance(part, float) else part for part in parts]
    return np.concatenate(raw)[None].astype(np.uint8)  # type: ignore[arg-type]


def nibbles(codes: np.ndarray) -> np.ndarray:
    return (codes[:16] | codes[16:] << 4).astype(np.uint8)


def values(unpacked: Unpacked) -> list[float]:
    offset = 0 if unpacked.offsets is None else unpacked.offsets
    return (unpacked.codes * unpacked.scales - offset)[0].tolist()


def test_blocks_by_hand() -> None:
    signed = np.arange(-16, 16, dtype=np.int8)
    assert values(legacy.unpack_q8_0(block(0.5, signed.view(np.uint8)))) == (signed * 0.5).tolist()
    assert values(legacy.unpack_q4_0(block(0.5, nibbles(CODES)))) == ((CODES - 8) * 0.5).tolist()
    assert values(legacy.unpack_q4_1(block(0.5, -3.0, nibbles(CODES)))) == (CODES * 0.5 - 3.0).tolist()
    five, fifth = CODES + 16 * HIGH, np.packbits(HIGH, bitorder="little")
    assert values(legacy.unpack_q5_0(block(0.5, fifth, nibbles(CODES)))) == ((five - 16.0) * 0.5).tolist()
    assert values(legacy.unpack_q5_1(block(0.5, 2.0, fifth, nibbles(CODES)))) == (five * 0.5 + 2.0).tolist()


STEPS = {"q8_0": 127, "q4_0": 8, "q5_0": 16}
SPANS = {"q4_1": 15, "q5_1": 31}
RUNS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(0, 2, (3, 32)).astype(np.float32))


@pytest.mark.parametrize("name", [*STEPS, *SPANS])
@given(RUNS)
def test_encoded_values_come_back_within_a_step(name: str, given_values: np.ndarray) -> None:
    encoded = getattr(legacy, f"encode_{name}")(given_values)
    unpacked = getattr(legacy, f"unpack_{name}")(encoded)
    found = unpacked.codes * unpacked.scales - (0 if unpacked.offsets is None else unpacked.offsets)
    if name in STEPS:
        step = np.abs(given_values).max(axis=1, keepdims=True) / STEPS[name]
        most = 0.52 if name == "q8_0" else 1.02  # the end without the largest value is cut by one step
    else:
        step = np.ptp(given_values, axis=1, keepdims=True) / SPANS[name]
        most = 0.56
    assert (np.abs(found - given_values) <= most * step + 2e-3).all()


@pytest.mark.parametrize("name", [*STEPS, *SPANS])
def test_a_block_of_equal_values(name: str) -> None:
    for value in (0.0, 1.5, -1.5):
        encoded = getattr(legacy, f"encode_{name}")(np.full((1, 32), value, np.float32))
        unpacked = getattr(legacy, f"unpack_{name}")(encoded)
        assert values(unpacked) == pytest.approx([value] * 32, rel=1e-3)


def test_halves_of_q8_0_are_rounded_away_from_zero() -> None:
    run = np.zeros((1, 32), np.float32)
    run[0, :5] = [127.0, 2.5, -2.5, 0.49999997, -0.5]
    assert legacy.encode_q8_0(run)[0, 2:7].view(np.int8).tolist() == [127, 3, -3, 0, -1]
