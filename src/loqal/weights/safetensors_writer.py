"""Writes safetensors files, one tensor at a time."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loqal.formats.table import num_bytes
from loqal.weights.source import OutTensor


def write_file(path: Path, tensors: Sequence[OutTensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write F32, F16 and BF16 tensors in the given order; the file appears under ``path`` when it is complete.

    Raises:
        ValueError: a tensor's bytes do not have the size its format and shape ask for.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in tensors:
        end = offset + num_bytes(tensor.format, tensor.shape)
        header[tensor.name] = {"dtype": tensor.format, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data begins at a multiple of 8, as the format's own writer does
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in tensors:
                file.write(tensor.bytes_of(num_bytes(tensor.format, tensor.shape)))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
