"""Packed file: a cache of repacked weights that the next start maps into memory.

Layout: the magic, the length of a JSON header and its digest, the header, then each weight at a multiple of 4096. The
header carries the version of the packed layouts and the identity of the source files. A file in which either differs,
or whose header or length is not what was written, is ignored and replaced. It appears under its name once complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loqal.ops import _kernels
from loqal.system.file_digest import files_digest

_MAGIC = b"LOQALPK1"
_ALIGNMENT = 4096
_PREFIX = struct.Struct("<8sQ32s")  # magic, bytes of the header, its sha256
_MAX_HEADER_BYTES = 64 << 20


def source_identity(files: Sequence[Path]) -> list[list[Any]]:
    """An identity of the source files: name, size and time of each."""
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


class PackedFile:
    """Weights by key, from a file that fits its sources."""

    def __init__(self, data: mmap.mmap, header: Mapping[str, Any], start: int) -> None:
        self._bytes, self._header, self._start = np.frombuffer(data, np.uint8), header, start

    def get(self, key: str) -> _kernels.Weight | None:
        """The weight over the mapped pages, or None when the file has none of that key."""
        entry = self._header["weights"].get(key)
        if entry is None:
            return None
        layout, experts, rows, inputs, offset, size = entry
        packed = self._bytes[self._start + offset : self._start + offset + size]
        return _kernels.adopt(layout, packed, experts, rows, inputs)


def open_packed(path: Path, files: Sequence[Path]) -> PackedFile | None:
    """The packed file of these sources; None when there is none that fits."""
    with contextlib.suppress(OSError, ValueError, KeyError, struct.error):
        with path.open("rb") as file:
            magic, length, digest = _PREFIX.unpack(file.read(_PREFIX.size))
            if magic != _MAGIC or length > min(_MAX_HEADER_BYTES, path.stat().st_size):
                return None
            text = file.read(length)
            if hashlib.sha256(text).digest() != digest:
                return None
            header = json.loads(text)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = _aligned(_PREFIX.size + length)
        if header["layout_version"] != _kernels.LAYOUT_VERSION or start + header["num_bytes"] != len(data):
            return None
        if header["identity"] != source_identity(files) and header["digest"] != files_digest(files):
            return None
        return PackedFile(data, header, start)
    return None


def write_packed(path: Path, files: Sequence[Path], weights: Mapping[str, _kernels.Weight]) -> None:
    """Write the packed file of these sources. Raises OSError, and leaves no partial file."""
    entries, offset = {}, 0
    for key, w in weights.items():
        entries[key] = [w.layout, w.experts, w.rows, w.inputs, offset, w.num_bytes]
        offset = _aligned(offset + w.num_bytes)
    header = json.dumps(
        {
            "layout_version": _kernels.LAYOUT_VERSION,
            "identity": source_identity(files),
            "digest": files_digest(files),
            "num_bytes": offset,
            "weights": entries,
        }
    ).encode()
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(_PREFIX.pack(_MAGIC, len(header), hashlib.sha256(header).digest()) + header)
            for w in weights.values():
                file.write(bytes(-file.tell() % _ALIGNMENT))
                file.write(w.packed().data)
            file.write(bytes(-file.tell() % _ALIGNMENT))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
