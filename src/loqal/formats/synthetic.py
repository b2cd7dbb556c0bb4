"""Random tensors in any format, fast enough for checkpoints of many gigabytes that only serve to measure speed."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from loqal.formats.blocks import Bytes, as_half
from loqal.formats.codec import decode, encode
from loqal.formats.table import FORMATS, find_format, num_bytes

_SLICE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class _ScaleFields:
    """Where a block keeps its float16 scale and minimum. ``minimum_ratio`` centres random codes on zero."""

    scale_at: int
    minimum_at: int | None = None
    minimum_ratio: float = 0.0


_SCALE_FIELDS = {
    "Q8_0": _ScaleFields(0),
    "Q4_0": _ScaleFields(0),
    "Q4_1": _ScaleFields(0, 2, -7.5),
    "Q5_0": _ScaleFields(0),
    "Q5_1": _ScaleFields(0, 2, -15.5),
    "Q2_K": _ScaleFields(80, 82, 1.5),
    "Q3_K": _ScaleFields(108),
    "Q4_K": _ScaleFields(0, 2, 7.5),
    "Q5_K": _ScaleFields(0, 2, 15.5),
    "Q6_K": _ScaleFields(208),
    "IQ1_S": _ScaleFields(0),
    "IQ2_XXS": _ScaleFields(0),
    "IQ2_XS": _ScaleFields(0),
    "IQ2_S": _ScaleFields(0),
    "IQ3_XXS": _ScaleFields(0),
    "IQ3_S": _ScaleFields(0),
    "IQ4_NL": _ScaleFields(0),
    "IQ4_XS": _ScaleFields(0),
}


def random_blocks(format: str, shape: tuple[int, ...], rng: np.random.Generator, std: float = 0.02) -> Bytes:
    """Return a valid tensor of random codes; its values are finite, of mean about 0 and deviation about ``std``.

    Args:
        format: a key of ``FORMATS``.
        shape: the tensor's shape, rows first.
        rng: the source of randomness.
        std: the standard deviation of the decoded values, above 0 and met within a few percent (MXFP4, whose scales
            are powers of two: within a factor of 1.5).

    Returns:
        uint8 [num_bytes(format, shape)].

    Raises:
        UnsupportedError: ``format`` is unknown.
        FormatError: the last axis is not a whole number of blocks.
    """
    entry = find_format(format)
    out = np.empty(num_bytes(format, shape), np.uint8)
    unit = 1.0 if entry.is_float else _deviation_of_unit_scale(format)
    step = _SLICE_BYTES // entry.block_bytes * entry.block_bytes
    for start in range(0, out.size, step):
        part = out[start : start + step].reshape(-1, entry.block_bytes)
        if entry.is_float:
            uniform = np.frombuffer(rng.bytes(2 * len(part)), np.int16)
            values = uniform * np.float32(std * math.sqrt(3) / 32768)
            part[:] = encode(format, values).reshape(part.shape)
        else:
            _fill(format, part, rng, std / unit)
    return out


@functools.cache
def _deviation_of_unit_scale(format: str) -> float:
    """Return the deviation of decoded values when the scale field of every block is about 1."""
    entry = FORMATS[format]
    shape = (1 << 16) // entry.block_len, entry.block_len
    sample = np.empty((shape[0], entry.block_bytes), np.uint8)
    _fill(format, sample, np.random.default_rng(0), 1.0)
    return float(decode(format, sample.reshape(-1), shape).std())


def _fill(format: str, blocks: Bytes, rng: np.random.Generator, scale: float) -> None:
    """Fill blocks with random codes and a scale of about ``scale``, of either sign where there is no minimum."""
    blocks[:] = np.frombuffer(rng.bytes(blocks.size), np.uint8).reshape(blocks.shape)
    if format == "MXFP4":
        blocks[:, 0] = np.clip(128 + round(float(np.log2(scale))), 1, 250)
        return
    spread = rng.uniform(0.75, 1.25, (len(blocks), 1)).astype(np.float32) * np.float32(scale)
    if format == "IQ1_M":
        _write_iq1_m_scale(blocks, as_half(spread))
        return
    fields = _SCALE_FIELDS[format]
    if fields.minimum_at is None:
        spread *= np.where(blocks[:, -1:] & 1, np.float32(1), np.float32(-1))
    else:
        blocks[:, fields.minimum_at : fields.minimum_at + 2] = as_half(spread * np.float32(fields.minimum_ratio))
    blocks[:, fields.scale_at : fields.scale_at + 2] = as_half(spread)


def _write_iq1_m_scale(blocks: Bytes, half: Bytes) -> None:
    """Store a float16 in the upper nibbles of the last four words, lowest nibble first."""
    for word, nibble in enumerate((half[:, 0] & 15, half[:, 0] >> 4, half[:, 1] & 15, half[:, 1] >> 4)):
        high_byte = blocks[:, 49 + 2 * word]
        high_byte[:] = high_byte & 15 | nibble << np.uint8(4)
