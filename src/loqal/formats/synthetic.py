"""Random tensors in any format, fast enough for checkpoints of many gigabytes that only serve to measure speed."""

from __future__ import annotations

import functools
import math

import numpy as np

from loqal.formats.blocks import Bytes
from loqal.formats.codec import decode, encode
from loqal.formats.format import Format
from loqal.formats.table import FORMATS, find_format, num_bytes

_SLICE_BYTES = 1 << 22


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
            _fill(entry, part, rng, std / unit)
    return out


@functools.cache
def _deviation_of_unit_scale(format: str) -> float:
    """Return the deviation of decoded values when the scale field of every block is about 1."""
    entry = FORMATS[format]
    shape = (1 << 16) // entry.block_len, entry.block_len
    sample = np.empty((shape[0], entry.block_bytes), np.uint8)
    _fill(entry, sample, np.random.default_rng(0), 1.0)
    return float(decode(format, sample.reshape(-1), shape).std())


def _fill(entry: Format, blocks: Bytes, rng: np.random.Generator, scale: float) -> None:
    """Fill blocks with random codes and a scale of about ``scale``."""
    assert entry.write_scales is not None
    blocks[:] = np.frombuffer(rng.bytes(blocks.size), np.uint8).reshape(blocks.shape)
    entry.write_scales(blocks, scale, rng)
