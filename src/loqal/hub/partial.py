"""A file that is still being fetched: its bytes, and a journal of which of them are there.

The file is cut into parts. The journal counts the bytes of every part that were written, and keeps a digest of every
part that is whole. What holds, whenever the process is killed:

- a counter is raised only after the bytes it counts were written; the journal is mapped, so nothing is lost with the
  process, and a resumed download continues at the exact byte;
- after a power cut, which can lose written pages, parts are trusted only when their digest still fits;
- one process at a time works on a file: the caller holds its lock.

Damage at rest is found and confined the same way: ``reset_damaged`` reopens exactly the parts whose digest differs.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PART_BYTES = 16 << 20

_HEADER_BYTES = 1024
_ENTRY = struct.Struct("<Q32s")
_NO_DIGEST = bytes(32)
_READ_BYTES = 1 << 20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Partial:
    """The unfinished form of the file ``target``. Methods may be called from several threads, one a part."""

    def __init__(self, target: Path, size_bytes: int, etag: str, part_bytes: int = PART_BYTES) -> None:
        self._name(target, size_bytes, etag, part_bytes)
        kept = self._read_header()
        fits = kept is not None and kept["size"] == size_bytes and kept["etag"] == etag and self.data_path.exists()
        if kept and fits:
            self._name(target, size_bytes, etag, int(kept["part_bytes"]))
        else:
            self._create()
        self._data = os.open(self.data_path, os.O_RDWR)
        with self.journal_path.open("r+b") as file:
            self._journal = mmap.mmap(file.fileno(), 0)
        if kept and fits and kept["boot"] != _boot_id():
            self._distrust()
            self._write_header()

    def _name(self, target: Path, size_bytes: int, etag: str, part_bytes: int) -> None:
        self.target, self.size_bytes, self.etag, self.part_bytes = target, size_bytes, etag, part_bytes
        self.num_parts = -(-size_bytes // part_bytes)
        self.data_path = target.with_name(target.name + ".loqal-partial")
        self.journal_path = target.with_name(target.name + ".loqal-journal")

    def _read_header(self) -> dict[str, Any] | None:
        try:
            with self.journal_path.open("rb") as file:
                header = json.loads(file.read(_HEADER_BYTES))
                length = file.seek(0, 2)
            parts = -(-header["size"] // header["part_bytes"])
            return header if length == _HEADER_BYTES + parts * _ENTRY.size else None
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            return None

    def _header(self) -> bytes:
        header = {"size": self.size_bytes, "etag": self.etag, "part_bytes": self.part_bytes, "boot": _boot_id()}
        return json.dumps(header).encode().ljust(_HEADER_BYTES)

    def _create(self) -> None:
        # The journal goes first: data without a journal counts for nothing, so a kill in between is harmless.
        self.journal_path.unlink(missing_ok=True)
        with self.data_path.open("wb") as data:
            data.truncate(self.size_bytes)
        os.replace(self._fresh_journal(bytes(self.num_parts * _ENTRY.size)), self.journal_path)

    def _fresh_journal(self, entries: bytes) -> Path:
        fresh = self.journal_path.with_name(self.journal_path.name + ".new")
        fresh.write_bytes(self._header() + entries)
        return fresh

    def _write_header(self) -> None:
        self._journal[:_HEADER_BYTES] = self._header()

    # Parts ----------------------------------------------------------------------------------------------------------

    def span(self, part: int) -> tuple[int, int]:
        """First byte of a part and the one behind its last."""
        start = part * self.part_bytes
        return start, min(start + self.part_bytes, self.size_bytes)

    def done_bytes(self, part: int) -> int:
        """Bytes of a part that are there, counted from its start."""
        return int(_ENTRY.unpack_from(self._journal, _at(part))[0])

    def is_done(self, part: int) -> bool:
        """Whether a part is whole and its digest noted."""
        start, end = self.span(part)
        done, digest = _ENTRY.unpack_from(self._journal, _at(part))
        return bool(done == end - start and digest != _NO_DIGEST)

    def missing(self) -> list[int]:
        """The parts that are not whole."""
        return [part for part in range(self.num_parts) if not self.is_done(part)]

    def total_done(self) -> int:
        """Bytes that are there, of all parts."""
        return sum(self.done_bytes(part) for part in range(self.num_parts))

    def frontier(self, start_part: int = 0) -> int:
        """How many bytes from the beginning of the file are there without a gap, looking from a part on."""
        for part in range(start_part, self.num_parts):
            start, end = self.span(part)
            done = self.done_bytes(part)
            if done < end - start:
                return start + done
        return self.size_bytes

    def writer(self, part: int) -> PartWriter:
        """Continue a part where it ends."""
        return PartWriter(self, part)

    def read(self, start: int, length: int) -> bytes:
        """Some bytes that are there."""
        return os.pread(self._data, length, start)

    def digest(self, part: int) -> bytes:
        """SHA-256 of the part's bytes on disk."""
        hasher = hashlib.sha256()
        start, end = self.span(part)
        for at in range(start, end, _READ_BYTES):
            hasher.update(self.read(at, min(_READ_BYTES, end - at)))
        return hasher.digest()

    def digests(self) -> list[bytes]:
        """The noted digests of all parts."""
        return [bytes(_ENTRY.unpack_from(self._journal, _at(part))[1]) for part in range(self.num_parts)]

    def reset(self, part: int) -> None:
        """Forget a part."""
        _ENTRY.pack_into(self._journal, _at(part), 0, _NO_DIGEST)

    def reset_damaged(self) -> list[int]:
        """Forget the whole parts whose bytes on disk no longer have the noted digest, and name them."""
        noted = self.digests()
        damaged = [part for part in range(self.num_parts) if self.is_done(part) and self.digest(part) != noted[part]]
        for part in damaged:
            self.reset(part)
        return damaged

    def _distrust(self) -> None:
        self.reset_damaged()
        for part in self.missing():
            self.reset(part)

    # Ends -----------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Make the whole file appear under its name."""
        os.fsync(self._data)
        self.close()
        os.replace(self.data_path, self.target)
        self.journal_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete all that was fetched."""
        self.close()
        self.journal_path.unlink(missing_ok=True)
        self.data_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep everything for the next time."""
        if self._data >= 0:
            self._journal.close()
            os.close(self._data)
            self._data = -1


class PartWriter:
    """Appends to one part and keeps its counter and digest."""

    def __init__(self, partial: Partial, part: int) -> None:
        self._partial, self._part = partial, part
        self._start, self._end = partial.span(part)
        self.position = self._start + partial.done_bytes(part)
        self._hasher = hashlib.sha256()
        for at in range(self._start, self.position, _READ_BYTES):
            self._hasher.update(partial.read(at, min(_READ_BYTES, self.position - at)))
        if self.position == self._end:
            self._note()

    def is_done(self) -> bool:
        """Whether the part is whole."""
        return self.position == self._end

    def write(self, data: bytes) -> int:
        """Append what belongs to the part; returns how many bytes that were. Raises OSError, ENOSPC among others."""
        data = data[: self._end - self.position]
        view = memoryview(data)
        while view:
            count = os.pwrite(self._partial._data, view, self.position)
            self._hasher.update(view[:count])
            self.position += count
            view = view[count:]
            self._note()
        return len(data)

    def _note(self) -> None:
        digest = self._hasher.digest() if self.is_done() else _NO_DIGEST
        if self.is_done():
            os.fdatasync(self._partial._data)
        _ENTRY.pack_into(self._partial._journal, _at(self._part), self.position - self._start, digest)


def adopt_damaged(target: Path, size_bytes: int, etag: str, part_bytes: int, digests: Sequence[bytes]) -> Partial:
    """Turn a finished file whose bytes are no longer right into an unfinished one that lacks only its damaged parts.

    Without digests of its parts every part counts as there, since nothing tells which one is damaged.
    """
    partial = Partial.__new__(Partial)
    partial._name(target, size_bytes, etag, part_bytes)
    partial._data = os.open(target, os.O_RDWR)
    entries = bytearray()
    for part in range(partial.num_parts):
        start, end = partial.span(part)
        digest = partial.digest(part)
        is_right = not digests or digest == digests[part]
        entries += _ENTRY.pack(end - start, digest) if is_right else _ENTRY.pack(0, _NO_DIGEST)
    os.truncate(target, size_bytes)
    os.close(partial._data)
    # All the reading is done: between these two renames there is no time to be killed in.
    fresh = partial._fresh_journal(bytes(entries))
    partial.journal_path.unlink(missing_ok=True)
    os.replace(target, partial.data_path)
    os.replace(fresh, partial.journal_path)
    return Partial(target, size_bytes, etag, part_bytes)


def _at(part: int) -> int:
    return _HEADER_BYTES + part * _ENTRY.size


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
