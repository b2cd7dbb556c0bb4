"""What the format files share: the unpacked form of a block, and moving small integers in and out of bytes.

Every quantized format unpacks to the same three arrays, and everything else (decoding, int8 form, tests) starts there:

    value = code * scale - offset        in float32, one scale and one offset per run of consecutive values
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


class Unpacked(NamedTuple):
    """The contents of N blocks.

    ``codes`` is int8 [N, block_len]; ``scales`` and ``offsets`` are float32 [N, runs], where a block has ``runs`` equal
    runs of values. ``offsets`` is None for formats whose values are symmetric about zero.
    """

    codes: Codes
    scales: Floats
    offsets: Floats | None = None


def unpack_bits(packed: Bytes, bits: int, run: int) -> Bytes:
    """Split bytes into small integers: uint8 [N, B] to uint8 [N, B * 8 / bits].

    The bytes are taken ``run`` at a time. The lowest ``bits`` bits of such a run are the first ``run`` integers, the
    next bits the following ``run`` integers, and so on.
    """
    source = packed.reshape(len(packed), packed.shape[1] // run, run)
    planes = 8 // bits
    out = np.empty((len(packed), source.shape[1], planes, run), np.uint8)
    mask = np.uint8(2**bits - 1)
    for plane in range(planes):
        np.bitwise_and(source >> np.uint8(plane * bits), mask, out=out[:, :, plane])
    return out.reshape(len(packed), -1)


def pack_bits(values: Bytes, bits: int, run: int) -> Bytes:
    """Join the lowest ``bits`` bits of small integers into bytes; the inverse of :func:`unpack_bits`."""
    planes = 8 // bits
    source = (values & np.uint8(2**bits - 1)).reshape(len(values), -1, planes, run)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    packed: Bytes = np.bitwise_or.reduce(source << shifts, axis=2)
    return packed.reshape(len(values), -1)


def read_half(blocks: Bytes, at: int) -> Floats:
    """Return the float16 stored at byte ``at`` of every block as float32 [N, 1]."""
    return blocks[:, at : at + 2].view("<f2").astype(np.float32)


def as_half(values: Floats) -> Bytes:
    """Return float32 [N, 1] as the bytes of float16, uint8 [N, 2]. Values beyond float16's range become infinite."""
    with np.errstate(over="ignore"):
        return values.astype("<f2").view(np.uint8)


def reciprocal(values: Floats) -> Floats:
    """Return 1 / values, and 0 where a value is 0 or so small that its reciprocal could overflow."""
    out = np.zeros_like(values)
    return np.divide(np.float32(1), values, out=out, where=np.abs(values) >= np.finfo(np.float32).tiny)
