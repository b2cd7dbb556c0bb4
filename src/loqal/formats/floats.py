"""F32, F16 and BF16: plain floats, one value a block."""

from __future__ import annotations

import numpy as np

from loqal.formats.blocks import Bytes, Floats
from loqal.formats.format import Format


def decode_f32(data: Bytes) -> Floats:
    """Return the values as a fresh array."""
    return data.view("<f4").astype(np.float32)


def decode_f16(data: Bytes) -> Floats:
    """Return the values; every float16 is exactly a float32."""
    return data.view("<f2").astype(np.float32)


def decode_bf16(data: Bytes) -> Floats:
    """Return the values; a bfloat16 is the upper half of a float32."""
    bits = data.view("<u2").astype(np.uint32)
    bits <<= np.uint32(16)
    return bits.view(np.float32)


def encode_f32(values: Floats) -> Bytes:
    """Return the bytes of the values."""
    return values.astype("<f4").view(np.uint8)


def encode_f16(values: Floats) -> Bytes:
    """Round to the nearest float16, ties to even; too large values become infinite."""
    with np.errstate(over="ignore"):
        return values.astype("<f2").view(np.uint8)


def encode_bf16(values: Floats) -> Bytes:
    """Round to the nearest bfloat16, ties to even. NaNs stay NaNs and become quiet."""
    bits = values.view(np.uint32)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    # Adding half a step, plus the lowest kept bit on a tie, rounds to even. A NaN could overflow to infinity this way.
    rounded = bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))
    bits = np.where(is_nan, bits | np.uint32(0x00400000), rounded)
    return (bits >> np.uint32(16)).astype("<u2").view(np.uint8)


F32 = Format("F32", 0, 1, 4, 1e-7, read_floats=decode_f32, encode=encode_f32)
F16 = Format("F16", 1, 1, 2, 3e-4, read_floats=decode_f16, encode=encode_f16)
BF16 = Format("BF16", 30, 1, 2, 2e-3, read_floats=decode_bf16, encode=encode_bf16)
