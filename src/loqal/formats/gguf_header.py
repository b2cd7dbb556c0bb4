"""Walks through the header of a GGUF file, versions 2 and 3, little endian: counts, metadata, names.

The file is hostile until proven otherwise: every count and length is checked against the bytes that are left before
anything of that size is made, and keys are UTF-8. ``weights/gguf.py`` reads whole headers with it, ``hub/glance.py``
the first metadata of many files.

Strings of arrays (the tokens and merges of a vocabulary) are decoded when they are read: a vocabulary of 248,320
tokens opens in about 0.1 s.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from loqal.errors import FormatError

MAX_KEY_BYTES = 65_535

_AGAIN = "Fetch the file again, or convert the model again."

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
                f"{self._where}: string {index} is not UTF-8.", f"Its bytes begin with {raw[:16].hex()}.", _AGAIN
            ) from None


class BrokenHeaderError(Exception):
    """A broken rule of the format; who reads the file adds its name."""


class UnreadableHeaderError(Exception):
    """Something well formed that loqal does not read."""


def is_projector(metadata: Mapping[str, Any]) -> bool:
    """Whether a file is a separate vision tower (mmproj): its header says so, whatever its name is."""
    architecture = metadata.get("general.architecture")
    return isinstance(architecture, str) and architecture == "clip"


class HeaderWalk:
    """A position in the header of a file, moved by reading.

    Args:
        data: the whole file, usually mapped.
        origin: names it in messages.

    Raises, from every method:
        BrokenHeaderError, UnreadableHeaderError: as above.
        struct.error: the file ends inside a number.
    """

    def __init__(self, data: memoryview, origin: str) -> None:
        self.data, self.origin, self.position = data, origin, 0

    def begin(self) -> tuple[int, int, int]:
        """Read up to the metadata: version, number of tensors and number of metadata entries."""
        if bytes(self.data[:4]) != b"GGUF":
            raise BrokenHeaderError("It does not begin with the letters GGUF.")
        self.position = 4
        version = self.u32()
        if version not in (2, 3):
            if version & 0xFFFF == 0 and version:
                raise UnreadableHeaderError("It is stored in big-endian byte order, loqal reads little-endian files.")
            raise UnreadableHeaderError(f"It is GGUF version {version}, loqal reads versions 2 and 3.")
        num_tensors, num_keys = self.u64(), self.u64()
        # The smallest metadata entry takes 13 bytes, the smallest tensor entry 32.
        self.room(num_keys, 13, "metadata entries")
        self.room(num_tensors, 32, "tensors")
        return version, num_tensors, num_keys

    def metadata(self, num_keys: int) -> Iterator[tuple[str, Any]]:
        """The metadata entries in their order. Values as in ``GgufHeader``."""
        for _ in range(num_keys):
            key = self.text("a metadata key", MAX_KEY_BYTES)
            yield key, self.value(key)

    def value(self, key: str) -> Any:
        """The value of one metadata entry, by its type."""
        kind = self.u32()
        if kind == STRING:
            return self.text(key)
        if kind == ARRAY:
            return self.array(key)
        dtype = self.scalar(kind, key)
        return self.numbers(dtype, 1, key)[0].item()

    def array(self, key: str) -> npt.NDArray[Any] | StringArray:
        """An array of numbers or strings."""
        kind, count = self.u32(), self.u64()
        if kind == STRING:
            return self.strings(key, count)
        if kind == ARRAY:
            raise UnreadableHeaderError(f"The metadata key {short(key)} holds an array of arrays.")
        return self.numbers(self.scalar(kind, key), count, key)

    def strings(self, key: str, count: int) -> StringArray:
        """Strings of an array; they stay where they are."""
        self.room(count, 8, f"strings in {short(key)}")
        # The only loop that runs a million times: nothing here but the walk from length to length.
        unpack, data, start = _U64.unpack_from, self.data, self.position
        position, size = start, len(data)
        ends: list[int] = []
        append = ends.append
        for _ in range(count):
            position += unpack(data, position)[0] + 8
            if position > size:
                raise BrokenHeaderError(f"A string of {short(key)} ends after the end of the file.")
            append(position)
        self.position = position
        return StringArray(data, array("Q", ends), start, f"{self.origin}: {key}")

    def numbers(self, dtype: np.dtype[Any], count: int, key: str) -> npt.NDArray[Any]:
        """Numbers of an array, read-only."""
        self.room(count, dtype.itemsize, f"values in {short(key)}")
        size_bytes = count * dtype.itemsize
        raw = self.data[self.position : self.position + size_bytes]
        self.position += size_bytes
        if dtype == np.bool_ and any(byte > 1 for byte in raw):
            raise BrokenHeaderError(f"The metadata key {short(key)} holds a truth value that is neither 0 nor 1.")
        found: npt.NDArray[Any] = np.frombuffer(raw, dtype)
        found.flags.writeable = False
        return found

    def scalar(self, kind: int, key: str) -> np.dtype[Any]:
        """The NumPy type of a type id."""
        if kind not in SCALARS:
            raise BrokenHeaderError(f"The metadata key {short(key)} has the unknown type {kind}.")
        return SCALARS[kind]

    def text(self, what: str, limit: int | None = None) -> str:
        """A string of at most ``limit`` bytes."""
        length = self.u64()
        if limit is not None and length > limit:
            raise BrokenHeaderError(f"{what.capitalize()} of {length} bytes is longer than {limit}.")
        self.room(length, 1, f"bytes of {short(what)}")
        raw = bytes(self.data[self.position : self.position + length])
        self.position += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise BrokenHeaderError(f"{short(what)} is not UTF-8: {raw[:16].hex()}.") from None

    def room(self, count: int, item_bytes: int, what: str) -> None:
        """Refuse a count that the rest of the file cannot hold, before anything is made of it."""
        left = len(self.data) - self.position
        if count * item_bytes > left:
            raise BrokenHeaderError(f"It announces {count} {what}, but {left} bytes are left.")

    def u32(self) -> int:
        """An unsigned 32-bit number."""
        value: int = _U32.unpack_from(self.data, self.position)[0]
        self.position += 4
        return value

    def u64(self) -> int:
        """An unsigned 64-bit number."""
        value: int = _U64.unpack_from(self.data, self.position)[0]
        self.position += 8
        return value


def short(value: object) -> str:
    """A value of the file for messages: in ASCII, at most 100 characters."""
    text = ascii(value)
    return text if len(text) <= 100 else text[:97] + "..."
