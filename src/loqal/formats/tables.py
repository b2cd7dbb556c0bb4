"""IQ4_NL, IQ4_XS and MXFP4: a 4-bit code picks one of 16 fixed values.

Bytes of a block, in order (d is a float16 scale, qs holds two codes a byte):

    IQ4_NL  d  qs[16]                                     32 values, value = d * table[code]
    IQ4_XS  d  scales_high u16  scales_low[4]  qs[128]    8 runs of 32, value = d * (scale - 32) * table[code]
    MXFP4   e  qs[16]                                     32 values, value = 2**(e - 128) * table[code]

In every 16 bytes of qs the low nibbles are the first 16 values. The 6-bit scale of run i of IQ4_XS has its lower four
bits in nibble i of scales_low and its upper two in bits 2i of scales_high.
"""

from __future__ import annotations

import numpy as np

from loqal.formats.blocks import Bytes, Floats, Unpacked, as_half, pack_bits, read_half, unpack_bits
from loqal.formats.format import Format, HalfScales
from loqal.formats.search import best_scale

# The values of IQ4: denser near zero, where most weights are.
_IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)
# Twice the sixteen values of a 4-bit float with two exponent bits, so that they are whole; the scale is halved for it.
_E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)

_IQ4_MIDPOINTS = (_IQ4[1:].astype(np.float32) + _IQ4[:-1]) / 2
_IQ4_ANCHORS = np.arange(-134, -119, dtype=np.float32)  # the largest magnitude near the table's end, -127
_E2M1_MIDPOINTS = (_E2M1[1:8].astype(np.float32) + _E2M1[:7]) / 2


def unpack_iq4_nl(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ4_NL, uint8 [N, 18]."""
    return Unpacked(_IQ4[unpack_bits(blocks[:, 2:], 4, 16)], read_half(blocks, 0))


def unpack_iq4_xs(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ4_XS, uint8 [N, 136]."""
    low = unpack_bits(blocks[:, 4:8], 4, 1)
    high = unpack_bits(blocks[:, 2:4], 2, 1)
    scales = (low | high << np.uint8(4)).view(np.int8) - np.int8(32)
    return Unpacked(_IQ4[unpack_bits(blocks[:, 8:], 4, 16)], read_half(blocks, 0) * scales)


def unpack_mxfp4(blocks: Bytes) -> Unpacked:
    """Unpack blocks of MXFP4, uint8 [N, 17]."""
    return Unpacked(_E2M1[unpack_bits(blocks[:, 1:], 4, 16)], _power_of_two(blocks[:, :1]))


def _power_of_two(exponents: Bytes) -> Floats:
    """Return 2**(e - 128). The two smallest are below the normal range of float32."""
    e = exponents.astype(np.uint32)
    normal = (e - np.uint32(1)) << np.uint32(23)
    return np.where(e < 2, np.uint32(0x00200000) << e, normal).view(np.float32)


def encode_iq4_nl(values: Floats) -> Bytes:
    """Encode float32 [N, 32] with the scale of least squared error, among those near the largest value's."""
    table = _IQ4.astype(np.float32)
    scale = best_scale(values, values**2, _IQ4_ANCHORS, lambda scaled: table[_nearest_iq4(scaled)])
    half = as_half(scale)
    stored = half.view("<f2").astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(stored == 0, np.uint8(8), _nearest_iq4(values / stored))
    return np.concatenate([half, pack_bits(codes, 4, 16)], axis=1)


def _nearest_iq4(scaled: Floats) -> Bytes:
    return np.searchsorted(_IQ4_MIDPOINTS, scaled).astype(np.uint8)


def encode_mxfp4(values: Floats) -> Bytes:
    """Encode float32 [N, 32]: the exponent of the largest magnitude sets the scale; ties go to the smaller value."""
    largest = np.abs(values).max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log2(largest))
    # The largest magnitude ends up from 8 to 16 scales high. Nothing finer than e = 0 exists.
    e = np.clip(exponent + 125, 0, 254).astype(np.uint8)
    scaled = values / _power_of_two(e)  # exact: the scale is a power of two
    codes = np.searchsorted(_E2M1_MIDPOINTS, np.abs(scaled)).astype(np.uint8)
    codes |= ((scaled < 0) & (codes > 0)).astype(np.uint8) << np.uint8(3)
    return np.concatenate([e, pack_bits(codes, 4, 16)], axis=1)


def _write_mxfp4_scales(blocks: Bytes, scale: float, rng: np.random.Generator) -> None:
    """Write the power of two nearest to ``scale`` as the exponent of every block."""
    blocks[:, 0] = np.clip(128 + round(float(np.log2(scale))), 1, 250)


IQ4_NL = Format("IQ4_NL", 20, 32, 18, 0.12, unpack=unpack_iq4_nl, encode=encode_iq4_nl, write_scales=HalfScales(0))
IQ4_XS = Format("IQ4_XS", 23, 256, 136, 0.12, unpack=unpack_iq4_xs, write_scales=HalfScales(0))
MXFP4 = Format("MXFP4", 39, 32, 17, 0.2, unpack=unpack_mxfp4, encode=encode_mxfp4, write_scales=_write_mxfp4_scales)
