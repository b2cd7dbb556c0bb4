"""Reads the header of a GGUF file, versions 2 and 3, little endian.

The file is hostile until proven otherwise. What holds when ``read_header`` returns:

- every count and length was checked against the bytes that are left before anything of that size was made;
- keys and tensor names are unique UTF-8;
- every tensor has a readable type, whole blocks in its rows, and its bytes lie aligned inside the file without touching
  another tensor's.

Strings of arrays (the tokens and merges of a vocabulary) are decoded when they are read: a vocabulary of 248,320
tokens opens in about 0.1 s.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from loqal.errors import FormatError, UnsupportedError
from loqal.formats.table import FORMATS, GGML_TYPES, REFUSED_GGML_TYPES
from loqal.weights.source import StoredTensor

MAX_KEY_BYTES = 65_535
MAX_NAME_BYTES = 255
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20

STRING, ARRAY, BOOL = 8, 9, 7
# Type id of a metadata value -> NumPy type.
SCALARS: dict[int, np.dtype[Any]] = {
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class StringArray(Sequence[str]):
    """An array of strings inside the file, decoded when read.

    Raises, on access:
        FormatError: a string is not UTF-8.
    """

    def __init__(self, data: memoryview, ends: array[int], start: int, where: str) -> None:
        self._data, self._ends, self._start, self._where = data, ends, start, where

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self._decode(self.raw(index), index)

    def __iter__(self) -> Iterator[str]:
        data, start = self._data, self._start
        for index, end in enumerate(self._ends):
            yield self._decode(bytes(data[start + 8 : end]), index)
            start = end

    def raw(self, index: int) -> bytes:
        """The bytes of one string, ``0 <= index < len(self)``."""
        start = self._ends[index - 1] if index else self._start
        return bytes(self._data[start + 8 : self._ends[index]])

    def find(self, text: str) -> int | None:
        """The first index of ``text``, without decoding the others."""
        wanted = text.encode()
        lengths = np.diff(np.array(self._ends, np.int64), prepend=self._start) - 8
        for index in np.flatnonzero(lengths == len(wanted)).tolist():
            if self.raw(index) == wanted:
                return int(index)
        return None

    def _decode(self, raw: bytes, index: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(
                f"{self._where}: string {index} is not UTF-8", f"its bytes begin with {raw[:16].hex()}", _AGAIN
            ) from None


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The metadata and tensors of one file.

    Metadata values are ``int``, ``float``, ``bool``, ``str``, read-only NumPy arrays, or ``StringArray``.
    """

    version: int
    metadata: dict[str, Any]
    tensors: tuple[StoredTensor, ...]
    alignment: int


_AGAIN = "fetch the file again, or convert the model again"


class _BrokenError(Exception):
    """A broken rule; ``read_header`` adds the file's name."""


class _UnreadableError(Exception):
    """Something well formed that loqal does not read."""


def read_header(data: memoryview | bytes, origin: str) -> GgufHeader:
    """Parse and check the header of the GGUF file ``data``; ``origin`` names it in messages.

    Raises:
        FormatError: the header breaks a rule of the format.
        UnsupportedError: the version, the byte order or a tensor's type is one loqal does not read.
    """
    reader = _Reader(memoryview(data), origin)
    try:
        return reader.header()
    except (_BrokenError, struct.error) as error:
        why = str(error) if isinstance(error, _BrokenError) else f"it ends inside its header, at byte {len(data)}"
        raise FormatError(f"{origin} is not a sound GGUF file", why, _AGAIN) from None
    except _UnreadableError as error:
        fix = f"use a file whose tensors are stored as {', '.join(FORMATS)}, in GGUF version 2 or 3"
        raise UnsupportedError(f"{origin} cannot be used", str(error), fix) from None


class _Reader:
    def __init__(self, data: memoryview, origin: str) -> None:
        self.data, self.origin, self.position = data, origin, 0

    def header(self) -> GgufHeader:
        if bytes(self.data[:4]) != b"GGUF":
            raise _BrokenError("it does not begin with the letters GGUF")
        self.position = 4
        version = self.u32()
        if version not in (2, 3):
            if version & 0xFFFF == 0 and version:
                raise _UnreadableError("it is stored in big-endian byte order, loqal reads little-endian files")
            raise _UnreadableError(f"it is GGUF version {version}, loqal reads versions 2 and 3")
        num_tensors, num_keys = self.u64(), self.u64()
        # The smallest metadata entry takes 13 bytes, the smallest tensor entry 32.
        self.room(num_keys, 13, "metadata entries")
        self.room(num_tensors, 32, "tensors")
        metadata: dict[str, Any] = {}
        for _ in range(num_keys):
            key = self.text("a metadata key", MAX_KEY_BYTES)
            if key in metadata:
                raise _BrokenError(f"the metadata key {_short(key)} appears twice")
            metadata[key] = self.value(key)
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise _BrokenError(f"general.alignment is {_short(alignment)}, it must be a power of two")
        entries = [self.tensor() for _ in range(num_tensors)]
        start = -(-self.position // alignment) * alignment
        return GgufHeader(version, metadata, self.placed(entries, start, alignment), alignment)

    def placed(self, entries: list[StoredTensor], start: int, alignment: int) -> tuple[StoredTensor, ...]:
        """The entries with offsets from the beginning of the file, sorted by offset and checked against each other."""
        if len({entry.name for entry in entries}) != len(entries):
            raise _BrokenError("a tensor name appears twice")
        end, size, found = start, len(self.data), []
        for entry in sorted(entries, key=lambda entry: entry.offset):
            if entry.offset % alignment:
                raise _BrokenError(f"{entry.name} begins at byte {entry.offset}, not a multiple of {alignment}")
            offset = start + entry.offset
            if offset < end:
                raise _BrokenError(f"{entry.name} overlaps the tensor before it")
            end = offset + entry.size_bytes
            if end > size:
                raise _BrokenError(f"{entry.name} ends at byte {end}, the file at byte {size}")
            found.append(StoredTensor(entry.name, entry.format, entry.shape, offset, entry.size_bytes))
        return tuple(found)

    def tensor(self) -> StoredTensor:
        name = self.text("a tensor name", MAX_NAME_BYTES)
        num_dims = self.u32()
        if not 1 <= num_dims <= MAX_DIMENSIONS:
            raise _BrokenError(f"{_short(name)} has {num_dims} dimensions, 1 to {MAX_DIMENSIONS} are possible")
        # GGUF writes the fastest axis first; ours come last.
        shape = tuple(self.u64() for _ in range(num_dims))[::-1]
        type_id, offset = self.u32(), self.u64()
        if type_id not in GGML_TYPES:
            known = REFUSED_GGML_TYPES.get(type_id)
            raise _UnreadableError(f"{_short(name)} is stored as {known or f'the unknown type {type_id}'}")
        layout = FORMATS[GGML_TYPES[type_id]]
        if 0 in shape or shape[-1] % layout.block_len:
            raise _BrokenError(f"{_short(name)} of shape {shape} is not made of whole {layout.name} blocks")
        size_bytes = math.prod(shape) // layout.block_len * layout.block_bytes
        if size_bytes > len(self.data):
            raise _BrokenError(
                f"{_short(name)} of shape {shape} takes {size_bytes} bytes, the file has {len(self.data)}"
            )
        return StoredTensor(name, layout.name, shape, offset, size_bytes)

    def value(self, key: str) -> Any:
        kind = self.u32()
        if kind == STRING:
            return self.text(key)
        if kind == ARRAY:
            return self.array(key)
        dtype = self.scalar(kind, key)
        return self.numbers(dtype, 1, key)[0].item()

    def array(self, key: str) -> npt.NDArray[Any] | StringArray:
        kind, count = self.u32(), self.u64()
        if kind == STRING:
            return self.strings(key, count)
        if kind == ARRAY:
            raise _UnreadableError(f"the metadata key {_short(key)} holds an array of arrays")
        return self.numbers(self.scalar(kind, key), count, key)

    def strings(self, key: str, count: int) -> StringArray:
        self.room(count, 8, f"strings in {_short(key)}")
        # The only loop that runs a million times: nothing here but the walk from length to length.
        unpack, data, start = _U64.unpack_from, self.data, self.position
        position, size = start, len(data)
        ends: list[int] = []
        append = ends.append
        for _ in range(count):
            position += unpack(data, position)[0] + 8
            if position > size:
                raise _BrokenError(f"a string of {_short(key)} ends behind the end of the file")
            append(position)
        self.position = position
        return StringArray(data, array("Q", ends), start, f"{self.origin}: {key}")

    def numbers(self, dtype: np.dtype[Any], count: int, key: str) -> npt.NDArray[Any]:
        self.room(count, dtype.itemsize, f"values in {_short(key)}")
        size_bytes = count * dtype.itemsize
        raw = self.data[self.position : self.position + size_bytes]
        self.position += size_bytes
        if dtype == np.bool_ and any(byte > 1 for byte in raw):
            raise _BrokenError(f"the metadata key {_short(key)} holds a truth value that is neither 0 nor 1")
        found: npt.NDArray[Any] = np.frombuffer(raw, dtype)
        found.flags.writeable = False
        return found

    def scalar(self, kind: int, key: str) -> np.dtype[Any]:
        if kind not in SCALARS:
            raise _BrokenError(f"the metadata key {_short(key)} has the unknown type {kind}")
        return SCALARS[kind]

    def text(self, what: str, limit: int | None = None) -> str:
        length = self.u64()
        if limit is not None and length > limit:
            raise _BrokenError(f"{what} of {length} bytes is longer than {limit}")
        self.room(length, 1, f"bytes of {_short(what)}")
        raw = bytes(self.data[self.position : self.position + length])
        self.position += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise _BrokenError(f"{_short(what)} is not UTF-8: {raw[:16].hex()}") from None

    def room(self, count: int, item_bytes: int, what: str) -> None:
        """Refuse a count that the rest of the file cannot hold, before anything is made of it."""
        left = len(self.data) - self.position
        if count * item_bytes > left:
            raise _BrokenError(f"it announces {count} {what}, but {left} bytes are left")

    def u32(self) -> int:
        value: int = _U32.unpack_from(self.data, self.position)[0]
        self.position += 4
        return value

    def u64(self) -> int:
        value: int = _U64.unpack_from(self.data, self.position)[0]
        self.position += 8
        return value


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 100 else text[:97] + "..."
