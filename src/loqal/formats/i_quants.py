"""IQ1 to IQ3: blocks of 256 values whose codes name short vectors of a codebook (see i_grids.py).

Bytes of a block, in order (d is float16; the number in brackets is a count of bytes). Each entry of ``index`` names a
vector of 8 values, of 4 values in IQ3; each entry of ``signs`` gives the signs of 8 values. s is a scale.

    IQ2_XXS  d  8 x (index[4]  u32 of four 7-bit signs and a 4-bit s)     value = d * (0.5 + s) / 4 * vector
    IQ2_XS   d  32 x u16 of a 9-bit index and 7-bit signs  s[8]           value = d * (0.5 + s) / 4 * vector
    IQ2_S    d  index[32]  signs[32]  index_high[8]  s[8]                 value = d * (0.5 + s) / 4 * vector
    IQ3_XXS  d  index[64]  8 x u32 of four 7-bit signs and a 4-bit s      value = d * (0.5 + s) / 2 * vector
    IQ3_S    d  index[64]  index_high[8]  signs[32]  s[4]                 value = d * (1 + 2 * s) * vector
    IQ1_S    d  index[32]  8 x u16 of four 3-bit index_high, 3-bit s and a sign bit
    IQ1_M    index[32]  high[16], a nibble of 3-bit index_high and a sign bit per vector  4 x u16 of four 3-bit s

IQ1 has value = d * (2 * s + 1) * (vector +- 1/8), where the sign bit chooses minus. IQ1_M spreads the bits of d over
the upper nibbles of its last four words, lowest nibble first. s belongs to 32 values where there are 8 of them in a
block (IQ2_XXS, IQ3_XXS, IQ3_S, IQ1_S) and to 16 values where there are 16 (IQ2_XS, IQ2_S, IQ1_M).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from loqal.formats.blocks import Bytes, Codes, Floats, Unpacked, as_half, read_half, unpack_bits
from loqal.formats.format import Format, HalfScales, random_scales
from loqal.formats.i_grids import grid, signs

_Words = npt.NDArray[np.uint16]
_Integers = npt.NDArray[np.integer[Any]]

_SIGN_BITS = {"IQ1_S": 0, "IQ1_M": 0, "IQ2_XXS": 7, "IQ2_XS": 7, "IQ2_S": 8, "IQ3_XXS": 7, "IQ3_S": 8}


@functools.cache
def codebook(format: str) -> tuple[Codes, Codes]:
    """Return what the codes of an i-quant name, read-only.

    Args:
        format: "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS" or "IQ3_S".

    Returns:
        vectors int8 [vectors, 8], for IQ3 [vectors, 4], and signs int8 [patterns, 8], one pattern of pluses for IQ1.
        The vectors of IQ1 are 8 * (vector + 1/8), and behind them, where a set sign bit leads, 8 * (vector - 1/8).
    """
    if not format.startswith("IQ1"):
        return grid(format), signs(_SIGN_BITS[format])
    eightfold = grid("IQ1") * np.int8(8)
    vectors = np.concatenate([eightfold + np.int8(1), eightfold - np.int8(1)])
    vectors.flags.writeable = False
    return vectors, signs(0)


def unpack_iq2_xxs(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ2_XXS, uint8 [N, 66]."""
    words = blocks[:, 2:].view("<u4").reshape(-1, 8, 2)
    index = blocks[:, 2:].reshape(-1, 8, 8)[:, :, :4].reshape(-1, 32)
    sign_index, scales = _signs_and_scale(words[:, :, 1])
    return Unpacked(_signed("IQ2_XXS", index, sign_index), _half_step(blocks, scales, 0.25))


def unpack_iq2_xs(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ2_XS, uint8 [N, 74]."""
    words = blocks[:, 2:66].view("<u2")
    codes = _signed("IQ2_XS", words & np.uint16(511), words >> np.uint16(9))
    return Unpacked(codes, _half_step(blocks, unpack_bits(blocks[:, 66:], 4, 1), 0.25))


def unpack_iq2_s(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ2_S, uint8 [N, 82]."""
    index = _join(blocks[:, 2:34], unpack_bits(blocks[:, 66:74], 2, 1))
    codes = _signed("IQ2_S", index, blocks[:, 34:66])
    return Unpacked(codes, _half_step(blocks, unpack_bits(blocks[:, 74:], 4, 1), 0.25))


def unpack_iq3_xxs(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ3_XXS, uint8 [N, 98]."""
    sign_index, scales = _signs_and_scale(blocks[:, 66:].view("<u4"))
    return Unpacked(_signed("IQ3_XXS", blocks[:, 2:66], sign_index), _half_step(blocks, scales, 0.5))


def unpack_iq3_s(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ3_S, uint8 [N, 110]."""
    index = _join(blocks[:, 2:66], np.unpackbits(blocks[:, 66:74], axis=1, bitorder="little"))
    codes = _signed("IQ3_S", index, blocks[:, 74:106])
    scales = unpack_bits(blocks[:, 106:], 4, 1) * np.uint8(2) + np.uint8(1)
    return Unpacked(codes, read_half(blocks, 0) * scales)


def unpack_iq1_s(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ1_S, uint8 [N, 50]. The codes are 8 * (vector +- 1/8)."""
    words = blocks[:, 34:].view("<u2")
    high = words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & np.uint16(7)
    down = words[:, :, None] >> np.uint16(15) << np.uint16(3)
    index = _join(blocks[:, 2:34], (high | down).reshape(-1, 32))
    odd = words >> np.uint16(12) & np.uint16(7)
    scales = read_half(blocks, 0) * (odd * np.uint16(2) + np.uint16(1)).astype(np.float32)
    return Unpacked(_vectors(codebook("IQ1_S")[0], index), scales / np.float32(8))


def unpack_iq1_m(blocks: Bytes) -> Unpacked:
    """Unpack blocks of IQ1_M, uint8 [N, 56]. The codes are 8 * (vector +- 1/8)."""
    index = _join(blocks[:, :32], unpack_bits(blocks[:, 32:48], 4, 1))
    words = blocks[:, 48:].view("<u2")
    d_bits = np.bitwise_or.reduce(words >> np.uint16(12) << np.array([0, 4, 8, 12], np.uint16), axis=1, keepdims=True)
    odd = (words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & np.uint16(7)).reshape(-1, 16)
    scales = d_bits.view(np.float16).astype(np.float32) * (odd * np.uint16(2) + np.uint16(1)).astype(np.float32)
    return Unpacked(_vectors(codebook("IQ1_M")[0], index), scales / np.float32(8))


def _signs_and_scale(words: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Split u32 [N, 8] into sign indices [N, 32] and scales [N, 8]."""
    index = words[:, :, None] >> np.array([0, 7, 14, 21], np.uint32) & np.uint32(127)
    return index.reshape(-1, 32), words >> np.uint32(28)


def _join(low: Bytes, high: _Integers) -> _Words:
    """Return indices with eight low bits and a few high ones."""
    return low.astype(np.uint16) | high.astype(np.uint16) << np.uint16(8)


def _half_step(blocks: Bytes, scales: _Integers, unit: float) -> Floats:
    """Return d * (0.5 + scale) * unit, multiplied in this order: it is rounded after each step."""
    return read_half(blocks, 0) * (scales.astype(np.float32) + np.float32(0.5)) * np.float32(unit)


def _vectors(table: Codes, index: _Integers) -> Codes:
    """Look up whole rows of ``table``: int8 [N, indices * row length]. A row is moved as one integer, for speed."""
    rows = table.view(f"u{table.shape[1]}").ravel()
    return np.take(rows, index).view(np.int8)


def _signed(format: str, index: _Integers, sign_index: _Integers) -> Codes:
    vectors, patterns = codebook(format)
    return _vectors(vectors, index) * _vectors(patterns, sign_index)


def _write_iq1_m_scales(blocks: Bytes, scale: float, rng: np.random.Generator) -> None:
    """Write float16 scales of about ``scale`` into the upper nibbles of the last four words, lowest nibble first."""
    half = as_half(random_scales(len(blocks), scale, rng))
    for word, nibble in enumerate((half[:, 0] & 15, half[:, 0] >> 4, half[:, 1] & 15, half[:, 1] >> 4)):
        high_byte = blocks[:, 49 + 2 * word]
        high_byte[:] = high_byte & 15 | nibble << np.uint8(4)


IQ1_S = Format("IQ1_S", 19, 256, 50, 0.65, unpack=unpack_iq1_s, write_scales=HalfScales(0))
IQ1_M = Format("IQ1_M", 29, 256, 56, 0.6, unpack=unpack_iq1_m, write_scales=_write_iq1_m_scales)
IQ2_XXS = Format("IQ2_XXS", 16, 256, 66, 0.48, unpack=unpack_iq2_xxs, write_scales=HalfScales(0))
IQ2_XS = Format("IQ2_XS", 17, 256, 74, 0.42, unpack=unpack_iq2_xs, write_scales=HalfScales(0))
IQ2_S = Format("IQ2_S", 22, 256, 82, 0.4, unpack=unpack_iq2_s, write_scales=HalfScales(0))
IQ3_XXS = Format("IQ3_XXS", 18, 256, 98, 0.28, unpack=unpack_iq3_xxs, write_scales=HalfScales(0))
IQ3_S = Format("IQ3_S", 21, 256, 110, 0.22, unpack=unpack_iq3_s, write_scales=HalfScales(0))
