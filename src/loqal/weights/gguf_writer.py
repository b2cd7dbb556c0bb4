"""Writes GGUF version 3 files, one tensor at a time."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loqal.formats.gguf_header import ARRAY, BOOL, SCALARS, STRING
from loqal.formats.table import find_format, num_bytes
from loqal.weights.source import OutTensor

_TYPE_IDS = {dtype: kind for kind, dtype in SCALARS.items()}


def write_file(
    path: Path, metadata: Mapping[str, Any], tensors: Sequence[OutTensor], *, alignment: int = 32, version: int = 3
) -> None:
    """Write a GGUF file; it appears under ``path`` when it is complete.

    Metadata values: ``str``, ``bool``, ``int`` (UINT32, INT32, then 64 bits, the first that fits), ``float``
    (FLOAT32), a NumPy scalar or 1-D array (its own type), or a sequence of strings.

    Raises:
        ValueError: a tensor's bytes do not have the size its format and shape ask for.
        TypeError: a metadata value has no GGUF type.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(header_bytes(metadata, tensors, alignment, version))
            for tensor in tensors:
                file.write(bytes(-file.tell() % alignment))
                file.write(tensor.bytes_of(num_bytes(tensor.format, tensor.shape)))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def header_bytes(
    metadata: Mapping[str, Any], tensors: Sequence[OutTensor], alignment: int = 32, version: int = 3
) -> bytes:
    """All that stands before the first tensor's bytes, padded to the alignment; tensors follow, each padded."""
    if alignment != 32:
        metadata = {**metadata, "general.alignment": alignment}
    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(metadata))]
    parts += [_text(key) + encode_value(value) for key, value in metadata.items()]
    offset = 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        kind = find_format(tensor.format).ggml_type
        parts.append(_text(tensor.name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset))
        offset += num_bytes(tensor.format, tensor.shape)
        offset += -offset % alignment
    header = b"".join(parts)
    return header + bytes(-len(header) % alignment)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def encode_value(value: Any) -> bytes:
    """The type id and the bytes of a metadata value."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, np.ndarray):
        dtype = value.dtype.newbyteorder("<")
        return struct.pack("<IIQ", ARRAY, _type_id(dtype), value.size) + value.astype(dtype).tobytes()
    if isinstance(value, Sequence):
        texts = b"".join(_text(text) for text in value)
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + texts
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    scalar = _scalar(value)
    return struct.pack("<I", _type_id(scalar.dtype)) + scalar.tobytes()


def _scalar(value: Any) -> np.generic:
    if isinstance(value, np.generic):
        return value
    if isinstance(value, float):
        return np.float32(value)
    if isinstance(value, int):
        for kind in (np.uint32, np.int32, np.uint64, np.int64):
            if np.iinfo(kind).min <= value <= np.iinfo(kind).max:
                return kind(value)
    raise TypeError(f"{type(value).__name__} has no GGUF type")


def _type_id(dtype: np.dtype[Any]) -> int:
    if dtype not in _TYPE_IDS:
        raise TypeError(f"{dtype} has no GGUF type")
    return _TYPE_IDS[dtype]
