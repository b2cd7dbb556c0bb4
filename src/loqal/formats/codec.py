"""Tensors in, tensors out: decoding, encoding and the int8 form, for every format.

Large tensors are worked on in slices small enough that the intermediate arrays stay in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from loqal.errors import FormatError, TensorError, UnsupportedError
from loqal.formats import floats, i_quants, k_encode, k_quants, legacy, tables
from loqal.formats.blocks import Bytes, Codes, Floats, Unpacked
from loqal.formats.table import Format, find_format, num_bytes

RUN_LEN = 16
"""Values that share one scale in the int8 form: the shortest run of any format."""

_SLICE_VALUES = 1 << 17
_LARGEST = 65504  # the largest float16: no scale or minimum can overflow below it

_FLOAT_DECODERS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": floats.decode_f32,
    "F16": floats.decode_f16,
    "BF16": floats.decode_bf16,
}

_UNPACKERS: dict[str, Callable[[Bytes], Unpacked]] = {
    "Q8_0": legacy.unpack_q8_0,
    "Q4_0": legacy.unpack_q4_0,
    "Q4_1": legacy.unpack_q4_1,
    "Q5_0": legacy.unpack_q5_0,
    "Q5_1": legacy.unpack_q5_1,
    "Q2_K": k_quants.unpack_q2_k,
    "Q3_K": k_quants.unpack_q3_k,
    "Q4_K": k_quants.unpack_q4_k,
    "Q5_K": k_quants.unpack_q5_k,
    "Q6_K": k_quants.unpack_q6_k,
    "IQ1_S": i_quants.unpack_iq1_s,
    "IQ1_M": i_quants.unpack_iq1_m,
    "IQ2_XXS": i_quants.unpack_iq2_xxs,
    "IQ2_XS": i_quants.unpack_iq2_xs,
    "IQ2_S": i_quants.unpack_iq2_s,
    "IQ3_XXS": i_quants.unpack_iq3_xxs,
    "IQ3_S": i_quants.unpack_iq3_s,
    "IQ4_NL": tables.unpack_iq4_nl,
    "IQ4_XS": tables.unpack_iq4_xs,
    "MXFP4": tables.unpack_mxfp4,
}

_ENCODERS: dict[str, Callable[[Floats], Bytes]] = {
    "F32": floats.encode_f32,
    "F16": floats.encode_f16,
    "BF16": floats.encode_bf16,
    "Q8_0": legacy.encode_q8_0,
    "Q4_0": legacy.encode_q4_0,
    "Q4_1": legacy.encode_q4_1,
    "Q5_0": legacy.encode_q5_0,
    "Q5_1": legacy.encode_q5_1,
    "Q2_K": k_encode.encode_q2_k,
    "Q3_K": k_encode.encode_q3_k,
    "Q4_K": k_encode.encode_q4_k,
    "Q5_K": k_encode.encode_q5_k,
    "Q6_K": k_encode.encode_q6_k,
    "IQ4_NL": tables.encode_iq4_nl,
    "MXFP4": tables.encode_mxfp4,
}

ENCODABLE: tuple[str, ...] = tuple(_ENCODERS)
"""The formats :func:`encode` can write."""


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
    if entry.is_float:
        return _FLOAT_DECODERS[format](blocks.reshape(-1)).reshape(shape)
    out = np.empty((len(blocks), entry.block_len), np.float32)
    unpack = _UNPACKERS[format]
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _slices(len(blocks), entry.block_len):
            codes, scales, offsets = unpack(blocks[part])
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
    if entry.is_float:
        raise UnsupportedError(f"{format} has no int8 form.", "Its values are plain floats.", "Decode it instead.")
    blocks = _as_blocks(entry, data, shape)
    unpack = _UNPACKERS[format]
    runs = entry.block_len // RUN_LEN
    codes = np.empty((len(blocks), entry.block_len), np.int8)
    scales = np.empty((len(blocks), runs), np.float32)
    offsets: Floats | None = None
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _slices(len(blocks), entry.block_len):
            unpacked = unpack(blocks[part])
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
    if format not in _ENCODERS:
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
    encoder = _ENCODERS[format]
    for part in _slices(len(blocks), entry.block_len):
        stored[part] = encoder(blocks[part]).reshape(-1, entry.block_bytes)
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
