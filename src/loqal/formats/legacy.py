"""Q8_0, Q4_0, Q4_1, Q5_0, Q5_1: blocks of 32 values with one float16 scale and, in the ``_1`` formats, one minimum.

Bytes of a block, in order (d is the scale, m the minimum, both float16; qh holds the fifth bits, qs the lower four):

    Q8_0  d  codes[32] int8          value = d * code
    Q4_0  d  qs[16]                  value = d * (code - 8)
    Q4_1  d m  qs[16]                value = d * code + m
    Q5_0  d  qh[4]  qs[16]           value = d * (code - 16)
    Q5_1  d m  qh[4]  qs[16]         value = d * code + m

The low nibbles of qs are values 0 to 15, the high nibbles values 16 to 31. Bit i of qh belongs to value i.
"""

from __future__ import annotations

import numpy as np

from loqal.formats.blocks import (
    Bytes,
    Codes,
    Floats,
    Unpacked,
    as_half,
    pack_bits,
    read_half,
    reciprocal,
    unpack_bits,
)
from loqal.formats.format import Format, HalfScales


def unpack_q8_0(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q8_0, uint8 [N, 34]."""
    return Unpacked(blocks[:, 2:].view(np.int8), read_half(blocks, 0))


def unpack_q4_0(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q4_0, uint8 [N, 18]."""
    return Unpacked(unpack_bits(blocks[:, 2:], 4, 16).view(np.int8) - np.int8(8), read_half(blocks, 0))


def unpack_q4_1(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q4_1, uint8 [N, 20]."""
    return Unpacked(unpack_bits(blocks[:, 4:], 4, 16).view(np.int8), read_half(blocks, 0), -read_half(blocks, 2))


def unpack_q5_0(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q5_0, uint8 [N, 22]."""
    return Unpacked(_five_bits(blocks[:, 2:]) - np.int8(16), read_half(blocks, 0))


def unpack_q5_1(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q5_1, uint8 [N, 24]."""
    return Unpacked(_five_bits(blocks[:, 4:]), read_half(blocks, 0), -read_half(blocks, 2))


def _five_bits(packed: Bytes) -> Codes:
    """Return codes 0 to 31 from qh and qs, uint8 [N, 20]."""
    high = np.unpackbits(packed[:, :4], axis=1, bitorder="little")
    return (unpack_bits(packed[:, 4:], 4, 16) | high << np.uint8(4)).view(np.int8)


def encode_q8_0(values: Floats) -> Bytes:
    """Encode float32 [N, 32]: the largest magnitude becomes 127, codes round half away from zero."""
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scaled = values * reciprocal(scale)
    size = np.abs(scaled)
    whole = np.floor(size)
    # floor(size + 0.5) would be wrong where the sum itself is rounded; the difference is exact.
    codes = np.copysign(whole + (size - whole >= 0.5), scaled).astype(np.int8)
    return np.concatenate([as_half(scale), codes.view(np.uint8)], axis=1)


def encode_q4_0(values: Floats) -> Bytes:
    """Encode float32 [N, 32]: the value of largest magnitude becomes code 0, which stands for -8 times the scale."""
    scale, codes = _codes_about_zero(values, 16)
    return np.concatenate([as_half(scale), pack_bits(codes, 4, 16)], axis=1)


def encode_q5_0(values: Floats) -> Bytes:
    """Encode float32 [N, 32]: the value of largest magnitude becomes code 0, which stands for -16 times the scale."""
    scale, codes = _codes_about_zero(values, 32)
    return np.concatenate([as_half(scale), _pack_five_bits(codes)], axis=1)


def encode_q4_1(values: Floats) -> Bytes:
    """Encode float32 [N, 32]: codes 0 to 15 span the range of the values."""
    scale, minimum, codes = _codes_above_minimum(values, 16)
    return np.concatenate([as_half(scale), as_half(minimum), pack_bits(codes, 4, 16)], axis=1)


def encode_q5_1(values: Floats) -> Bytes:
    """Encode float32 [N, 32]: codes 0 to 31 span the range of the values."""
    scale, minimum, codes = _codes_above_minimum(values, 32)
    return np.concatenate([as_half(scale), as_half(minimum), _pack_five_bits(codes)], axis=1)


def _codes_about_zero(values: Floats, num_codes: int) -> tuple[Floats, Bytes]:
    extreme = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    scale = extreme / np.float32(-num_codes // 2)
    shifted = values * reciprocal(scale) + np.float32(num_codes // 2 + 0.5)
    return scale, np.minimum(shifted.astype(np.uint8), np.uint8(num_codes - 1))


def _codes_above_minimum(values: Floats, num_codes: int) -> tuple[Floats, Floats, Bytes]:
    minimum = values.min(axis=1, keepdims=True)
    scale = (values.max(axis=1, keepdims=True) - minimum) / np.float32(num_codes - 1)
    shifted = (values - minimum) * reciprocal(scale) + np.float32(0.5)
    return scale, minimum, np.minimum(shifted.astype(np.uint8), np.uint8(num_codes - 1))


def _pack_five_bits(codes: Bytes) -> Bytes:
    high = np.packbits(codes >> np.uint8(4), axis=1, bitorder="little")
    return np.concatenate([high, pack_bits(codes, 4, 16)], axis=1)


Q4_0 = Format("Q4_0", 2, 32, 18, 0.15, unpack=unpack_q4_0, encode=encode_q4_0, write_scales=HalfScales(0))
Q4_1 = Format("Q4_1", 3, 32, 20, 0.13, unpack=unpack_q4_1, encode=encode_q4_1, write_scales=HalfScales(0, 2, -7.5))
Q5_0 = Format("Q5_0", 6, 32, 22, 0.07, unpack=unpack_q5_0, encode=encode_q5_0, write_scales=HalfScales(0))
Q5_1 = Format("Q5_1", 7, 32, 24, 0.07, unpack=unpack_q5_1, encode=encode_q5_1, write_scales=HalfScales(0, 2, -15.5))
Q8_0 = Format("Q8_0", 8, 32, 34, 0.012, unpack=unpack_q8_0, encode=encode_q8_0, write_scales=HalfScales(0))
