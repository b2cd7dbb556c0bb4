"""Q2_K to Q6_K: blocks of 256 values with small integer scales per run and one float16 scale for those.

Bytes of a block, in order (d and dmin are float16; the number in brackets is a count of bytes):

    Q2_K  scales[16]  qs[64]  d  dmin            16 runs of 16,  value = d * scale * code - dmin * min
    Q3_K  high[32]  qs[64]  scales[12]  d        16 runs of 16,  value = d * (scale - 32) * (code - 4)
    Q4_K  d  dmin  scales[12]  qs[128]            8 runs of 32,  value = d * scale * code - dmin * min
    Q5_K  d  dmin  scales[12]  high[32]  qs[128]  8 runs of 32,  value = d * scale * code - dmin * min
    Q6_K  qs[128]  high[64]  scales[16]  d       16 runs of 16,  value = d * scale * (code - 32), scale is int8

qs holds the lower bits of the codes and high the upper ones, both cut as :func:`blocks.unpack_bits` describes, with
the run lengths written below. Q2_K keeps a scale in the low nibble and a minimum in the high nibble of each byte.
"""

from __future__ import annotations

import numpy as np

from loqal.formats import k_encode
from loqal.formats.blocks import Bytes, Unpacked, read_half, unpack_bits
from loqal.formats.format import Format, HalfScales


def unpack_q2_k(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q2_K, uint8 [N, 84]."""
    scales = read_half(blocks, 80) * (blocks[:, :16] & np.uint8(15))
    offsets = read_half(blocks, 82) * (blocks[:, :16] >> np.uint8(4))
    return Unpacked(unpack_bits(blocks[:, 16:80], 2, 32).view(np.int8), scales, offsets)


def unpack_q3_k(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q3_K, uint8 [N, 110]."""
    codes = unpack_bits(blocks[:, 32:96], 2, 32) | unpack_bits(blocks[:, :32], 1, 32) << np.uint8(2)
    # Four low bits of scale i sit in nibble (i mod 8, i div 8), two high bits in byte 8 + i mod 4 at bit 2 * (i div 4).
    scales = unpack_bits(blocks[:, 96:104], 4, 8) | unpack_bits(blocks[:, 104:108], 2, 4) << np.uint8(4)
    signed = scales.view(np.int8) - np.int8(32)
    return Unpacked(codes.view(np.int8) - np.int8(4), read_half(blocks, 108) * signed)


def unpack_q4_k(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q4_K, uint8 [N, 144]."""
    scales, minima = unpack_scales_and_minima(blocks[:, 4:16])
    codes = unpack_bits(blocks[:, 16:], 4, 32).view(np.int8)
    return Unpacked(codes, read_half(blocks, 0) * scales, read_half(blocks, 2) * minima)


def unpack_q5_k(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q5_K, uint8 [N, 176]."""
    scales, minima = unpack_scales_and_minima(blocks[:, 4:16])
    codes = unpack_bits(blocks[:, 48:], 4, 32) | unpack_bits(blocks[:, 16:48], 1, 32) << np.uint8(4)
    return Unpacked(codes.view(np.int8), read_half(blocks, 0) * scales, read_half(blocks, 2) * minima)


def unpack_q6_k(blocks: Bytes) -> Unpacked:
    """Unpack blocks of Q6_K, uint8 [N, 210]."""
    codes = unpack_bits(blocks[:, :128], 4, 64) | unpack_bits(blocks[:, 128:192], 2, 32) << np.uint8(4)
    scales = read_half(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return Unpacked(codes.view(np.int8) - np.int8(32), scales)


def unpack_scales_and_minima(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Return the eight 6-bit scales and eight 6-bit minima of Q4_K and Q5_K from their 12 bytes.

    Bytes 0-3 are scales 0-3 and bytes 4-7 minima 0-3, in their lower six bits. The lower four bits of scales 4-7 and
    of minima 4-7 are the low and high nibbles of bytes 8-11; their upper two bits fill up bytes 0-3 and 4-7.
    """
    first, second, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    six, two = np.uint8(63), np.uint8(0x30)
    scales = np.concatenate([first & six, rest & np.uint8(15) | first >> np.uint8(2) & two], axis=1)
    minima = np.concatenate([second & six, rest >> np.uint8(4) | second >> np.uint8(2) & two], axis=1)
    return scales, minima


Q2_K = Format(
    "Q2_K", 10, 256, 84, 0.4, unpack=unpack_q2_k, encode=k_encode.encode_q2_k, write_scales=HalfScales(80, 82, 1.5)
)
Q3_K = Format("Q3_K", 11, 256, 110, 0.24, unpack=unpack_q3_k, encode=k_encode.encode_q3_k, write_scales=HalfScales(108))
Q4_K = Format(
    "Q4_K", 12, 256, 144, 0.12, unpack=unpack_q4_k, encode=k_encode.encode_q4_k, write_scales=HalfScales(0, 2, 7.5)
)
Q5_K = Format(
    "Q5_K", 13, 256, 176, 0.06, unpack=unpack_q5_k, encode=k_encode.encode_q5_k, write_scales=HalfScales(0, 2, 15.5)
)
Q6_K = Format("Q6_K", 14, 256, 210, 0.03, unpack=unpack_q6_k, encode=k_encode.encode_q6_k, write_scales=HalfScales(208))
