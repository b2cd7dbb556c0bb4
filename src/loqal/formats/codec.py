"""Tensors in, tensors out: decoding, encoding and the int8 form, for every format.

Large tensors are worked on in slices small enough that the intermediate arrays stay in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from loqal.errors import FormatError, TensorError, UnsupportedError
from loqal.formats.blocks import Bytes, Codes, Floats
from loqal.formats.format import Format
from loqal.formats.table import ENCODABLE, find_format, num_bytes

RUN_LEN = 16
"""Values that share one scale in the int8 form: the shortest run of any format."""

_SLICE_VALUES = 1 << 17
_LARGEST = 65504  # the largest float16: no scale or minimum can overflow below it


def decode(format: str, data: Bytes, shape: tuple[int, ...]) -> Floats:
    """Return the values of a stored tensor.

    Args:
        format: a key of ``FORMATS``.
        data: uint8 [num_bytes(format, shape)], at any alignment.
        shape: the tensor's shape, rows first.

    Returns:
        A fresh float32 array of ``shape``. Infinite or NaN scales give infinite or NaN values.

    Raises:
        UnsupportedError: ``format`` is unknown.
        FormatError: ``data`` does not have the size that ``shape`` needs.
    """
    entry = find_format(format)
    blocks = _as_blocks(entry, data, shape)
    if entry.read_floats is not None:
        return entry.read_floats(blocks.reshape(-1)).reshape(shape)
    assert entry.unpack is not None
    out = np.empty((len(blocks), entry.block_len), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _slices(len(blocks), entry.block_len):
            codes, scales, offsets = entry.unpack(blocks[part])
            runs = (len(codes), scales.shape[1], -1)
            values = out[part].reshape(runs)
            np.multiply(codes.reshape(runs), scales[:, :, None], out=values)
            if offsets is not None:
                values -= offsets[:, :, None]
    return out.reshape(shape)


def to_int8(format: str, data: Bytes, shape: tuple[int, ...]) -> tuple[Codes, Floats, Floats | None]:
    """Return a stored tensor as int8 codes with a scale, and for some formats an offset, per 16 inputs.

    ``codes * scale - offset``, computed in float32 in that order, is exactly what :func:`decode` returns.

    Args:
        format: a key of ``FORMATS``, one of the quantized formats.
        data: uint8 [num_bytes(format, shape)], at any alignment.
        shape: the tensor's shape, rows first; all axes but the last are counted as rows.

    Returns:
        codes int8 [rows, cols], scales float32 [rows, cols / 16], and offsets float32 [rows, cols / 16], or None for
        the formats that have no minimum.

    Raises:
        UnsupportedError: ``format`` is unknown or a plain float format.
        FormatError: ``data`` does not have the size that ``shape`` needs.
    """
    entry = find_format(format)
    if entry.unpack is None:
        raise UnsupportedError(f"{format} has no int8 form.", "Its values are plain floats.", "Decode it instead.")
    blocks = _as_blocks(entry, data, shape)
    runs = entry.block_len // RUN_LEN
    codes = np.empty((len(blocks), entry.block_len), np.int8)
    scales = np.empty((len(blocks), runs), np.float32)
    offsets: Floats | None = None
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _slices(len(blocks), entry.block_len):
            unpacked = entry.unpack(blocks[part])
            codes[part] = unpacked.codes
            repeats = runs // unpacked.scales.shape[1]
            scales[part] = np.repeat(unpacked.scales, repeats, axis=1)
            if unpacked.offsets is not None:
                offsets = np.empty_like(scales) if offsets is None else offsets
                offsets[part] = np.repeat(unpacked.offsets, repeats, axis=1)
    cols = shape[-1]
    rows = math.prod(shape[:-1])
    return (
        codes.reshape(rows, cols),
        scales.reshape(rows, cols // RUN_LEN),
        None if offsets is None else offsets.reshape(rows, cols // RUN_LEN),
    )


def encode(format: str, values: Floats) -> Bytes:
    """Return float32 values stored in ``format``; the last axis is cut into blocks.

    Args:
        format: one of ``ENCODABLE``.
        values: float32, any shape. For quantized formats no value may exceed 65504 in size.

    Returns:
        uint8 [num_bytes(format, values.shape)].

    Raises:
        UnsupportedError: loqal cannot write ``format``.
        FormatError: the last axis is not a whole number of blocks.
        TensorError: the format is quantized and a value is NaN or too large.
    """
    entry = find_format(format)
    if entry.encode is None:
        raise UnsupportedError(
            f"loqal cannot write {format}.", f"It writes {', '.join(ENCODABLE)}.", "Choose one of these formats."
        )
    out = np.empty(num_bytes(format, values.shape), np.uint8)
    if not entry.is_float and not (np.abs(values) <= _LARGEST).all():
        raise TensorError(
            f"Values cannot be stored as {format}.",
            f"Some are NaN or larger than {_LARGEST}.",
            "Store this tensor as F32 or BF16.",
        )
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, entry.block_len)
    stored = out.reshape(len(blocks), entry.block_bytes)
    for part in _slices(len(blocks), entry.block_len):
        stored[part] = entry.encode(blocks[part]).reshape(-1, entry.block_bytes)
    return out


def _as_blocks(entry: Format, data: Bytes, shape: tuple[int, ...]) -> Bytes:
    expected = num_bytes(entry.name, shape)
    if data.size != expected:
        raise FormatError(
            f"A {entry.name} tensor of shape {shape} has {data.size} bytes.",
            f"Its shape needs {expected}.",
            "The file is truncated or was written wrongly; download or convert it again.",
        )
    return data.reshape(-1, entry.block_bytes)


def _slices(num_blocks: int, block_len: int) -> Iterator[slice]:
    step = _SLICE_VALUES // block_len
    for start in range(0, num_blocks, step):
        yield slice(start, min(start + step, num_blocks))
