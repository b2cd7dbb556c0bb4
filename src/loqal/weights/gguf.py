"""Reads the header of a GGUF file, versions 2 and 3, little endian.

The file is hostile until proven otherwise. What holds when ``read_header`` returns, beside what ``HeaderWalk`` checks:

- keys and tensor names are unique UTF-8;
- every tensor has a readable type, whole blocks in its rows, and its bytes lie aligned inside the file without touching
  another tensor's.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from loqal.errors import FormatError, UnsupportedError
from loqal.formats.gguf_header import BrokenHeaderError, HeaderWalk, UnreadableHeaderError, short
from loqal.formats.table import FORMATS, GGML_TYPES, REFUSED_GGML_TYPES
from loqal.weights.source import StoredTensor

MAX_NAME_BYTES = 255
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The metadata and tensors of one file.

    Metadata values are ``int``, ``float``, ``bool``, ``str``, read-only NumPy arrays, or ``StringArray``.
    """

    version: int
    metadata: dict[str, Any]
    tensors: tuple[StoredTensor, ...]
    alignment: int


_AGAIN = "Fetch the file again, or convert the model again."


def read_header(data: memoryview | bytes, origin: str) -> GgufHeader:
    """Parse and check the header of the GGUF file ``data``; ``origin`` names it in messages.

    Raises:
        FormatError: the header breaks a rule of the format.
        UnsupportedError: the version, the byte order or a tensor's type is one loqal does not read.
    """
    reader = _Reader(memoryview(data), origin)
    try:
        return reader.header()
    except (BrokenHeaderError, struct.error) as error:
        why = str(error) if isinstance(error, BrokenHeaderError) else f"It ends inside its header, at byte {len(data)}."
        raise FormatError(f"{origin} is not a sound GGUF file.", why, _AGAIN) from None
    except UnreadableHeaderError as error:
        fix = f"Use a file whose tensors are stored as {', '.join(FORMATS)}, in GGUF version 2 or 3."
        raise UnsupportedError(f"{origin} cannot be used.", str(error), fix) from None


class _Reader(HeaderWalk):
    def header(self) -> GgufHeader:
        version, num_tensors, num_keys = self.begin()
        metadata: dict[str, Any] = {}
        for key, value in self.metadata(num_keys):
            if key in metadata:
                raise BrokenHeaderError(f"The metadata key {short(key)} appears twice.")
            metadata[key] = value
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise BrokenHeaderError(f"general.alignment is {short(alignment)}, it must be a power of two.")
        entries = [self.tensor() for _ in range(num_tensors)]
        start = -(-self.position // alignment) * alignment
        return GgufHeader(version, metadata, self.placed(entries, start, alignment), alignment)

    def placed(self, entries: list[StoredTensor], start: int, alignment: int) -> tuple[StoredTensor, ...]:
        """The entries with offsets from the beginning of the file, sorted by offset and checked against each other."""
        if len({entry.name for entry in entries}) != len(entries):
            raise BrokenHeaderError("A tensor name appears twice.")
        end, size, found = start, len(self.data), []
        for entry in sorted(entries, key=lambda entry: entry.offset):
            if entry.offset % alignment:
                raise BrokenHeaderError(f"{entry.name} begins at byte {entry.offset}, not a multiple of {alignment}.")
            offset = start + entry.offset
            if offset < end:
                raise BrokenHeaderError(f"{entry.name} overlaps the tensor before it.")
            end = offset + entry.size_bytes
            if end > size:
                raise BrokenHeaderError(f"{entry.name} ends at byte {end}, the file at byte {size}.")
            found.append(StoredTensor(entry.name, entry.format, entry.shape, offset, entry.size_bytes))
        return tuple(found)

    def tensor(self) -> StoredTensor:
        name = self.text("a tensor name", MAX_NAME_BYTES)
        num_dims = self.u32()
        if not 1 <= num_dims <= MAX_DIMENSIONS:
            raise BrokenHeaderError(f"{short(name)} has {num_dims} dimensions, 1 to {MAX_DIMENSIONS} are possible.")
        # GGUF writes the fastest axis first; ours come last.
        shape = tuple(self.u64() for _ in range(num_dims))[::-1]
        type_id, offset = self.u32(), self.u64()
        if type_id not in GGML_TYPES:
            known = REFUSED_GGML_TYPES.get(type_id)
            raise UnreadableHeaderError(f"{short(name)} is stored as {known or f'the unknown type {type_id}'}.")
        layout = FORMATS[GGML_TYPES[type_id]]
        if 0 in shape or shape[-1] % layout.block_len:
            raise BrokenHeaderError(f"{short(name)} of shape {shape} is not made of whole {layout.name} blocks.")
        size_bytes = math.prod(shape) // layout.block_len * layout.block_bytes
        if size_bytes > len(self.data):
            raise BrokenHeaderError(
                f"{short(name)} of shape {shape} takes {size_bytes} bytes, the file has {len(self.data)}."
            )
        return StoredTensor(name, layout.name, shape, offset, size_bytes)
