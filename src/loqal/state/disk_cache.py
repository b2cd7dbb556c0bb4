"""Disk cache of states: files named by the content they hold.

A full page of keys and values is one file, shared by all states that begin with the same tokens. The recurrent state
at a length, with the last page when it is not full, is another; it names the tokens, so a folder can be searched
without anything else.

Invariants:
* a name is a digest of the identity (checkpoint, numerics, layout) and of all tokens up to the end of what is held, so
  a file of another model, or of another beginning, is never found;
* a file appears under its name complete or not at all: it is written beside, synced, and renamed;
* every block carries a checksum over name, place and bytes; a file that fails is deleted, and counts as never written;
* a state is written after its pages and deleted before them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loqal.ops.interface import PAGE_TOKENS, RawArray

Keys = npt.NDArray[np.int64]

_MAGIC = b"loqalst1"
_BLOCK_BYTES = 1 << 20
_SUM_BYTES = 16
_START = struct.Struct("<8sQ")  # magic, bytes that follow without checksums
_HEADER = struct.Struct("<I")  # bytes of the description of a state
_ABOUT = struct.Struct("<QI")  # tokens, and digests of media, each with its length in front


class DamagedError(Exception):
    """A file of the cache is damaged."""


@dataclass(frozen=True, slots=True)
class DiskState:
    """A state in a file.

    ``keys`` are token ids, or negative for rows of media: -1 - (index into ``media`` << 32) - row.
    """

    name: str
    keys: Keys
    media: tuple[bytes, ...]  # digests
    page_names: tuple[str, ...]
    num_bytes: int  # of the file itself, without its pages
    used_s: float = field(compare=False, default=0.0)

    @property
    def length(self) -> int:
        """Tokens that the state has seen."""
        return len(self.keys)


class DiskCache:
    """The states of one identity in one folder. One thread at a time.

    Args:
        identity: whatever decides bits and layout of a state; each has a folder of its own inside ``folder``.
        quota_bytes: most bytes of that; what was used longest ago goes first.
    """

    def __init__(self, folder: Path, identity: bytes, quota_bytes: int) -> None:
        self._identity, self._quota_bytes = identity, quota_bytes
        self._folder = folder = folder / hashlib.blake2b(identity, digest_size=8).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        self.states: dict[str, DiskState] = {}
        for path in folder.glob("*.partial"):
            path.unlink(missing_ok=True)
        for path in sorted(folder.glob("*.state")):
            with contextlib.suppress(OSError, DamagedError):
                state = self._describe(path)
                if state is not None:
                    self.states[state.name] = state

    def save(
        self,
        keys: Keys,
        media: Sequence[bytes],
        pages: Sequence[Sequence[RawArray]],
        slot: Sequence[RawArray],
    ) -> DiskState | None:
        """Write a state: keys as in ``DiskState``, the arrays of each page, and those of the slot.

        Returns the new state; None when it is there already, larger than the folder may be, or the disk is full.
        """
        names = self._page_names(keys, media)
        name = self._name(keys, media)
        size = sum(array.nbytes for array in slot) + sum(array.nbytes for arrays in pages for array in arrays)
        if name in self.states or size > self._quota_bytes // 2:
            return None
        try:
            for page_name, arrays in zip(names, pages, strict=False):
                path = self._folder / f"{page_name}.page"
                if not path.exists():
                    self._write(path, page_name, arrays)
            about = _ABOUT.pack(len(keys), len(media)) + b"".join(bytes((len(one),)) + one for one in media)
            last = pages[len(names)] if len(pages) > len(names) else ()
            head = np.frombuffer(_HEADER.pack(len(about)) + about, np.uint8)
            num_bytes = self._write(self._folder / f"{name}.state", name, [head, keys, *last, *slot])
        except OSError:  # the disk is full, or the folder is gone
            return None
        state = DiskState(name, keys.copy(), tuple(media), tuple(names), num_bytes)
        self.states[name] = state
        self._keep_quota(state)
        return self.states.get(name)

    def restore(
        self, state: DiskState, page: Callable[[int], Sequence[RawArray] | None], slot: Sequence[RawArray]
    ) -> Iterator[None]:
        """Read a state back, a file at a time: yields in between, so that the caller can do other things.

        Args:
            page: the arrays to fill for the page of a number, counted from 0; None for one that is in place already.

        Raises:
            DamagedError: a file is missing or damaged. What is damaged is deleted.
        """
        try:
            for number, name in enumerate(state.page_names):
                arrays = page(number)
                if arrays is not None:
                    self._read(self._folder / f"{name}.page", name, arrays)
                    yield
            last = page(len(state.page_names)) if state.length % PAGE_TOKENS else ()
            path = self._folder / f"{state.name}.state"
            head = np.empty(_HEADER.size, np.uint8)
            with path.open("rb") as file:
                file.seek(_START.size)
                about_len = _HEADER.unpack(file.read(_HEADER.size))[0]
            about, keys = np.empty(min(about_len, _BLOCK_BYTES), np.uint8), np.empty(state.length, np.int64)
            self._read(path, state.name, [head, about, keys, *(last or ()), *slot])
            if not np.array_equal(keys, state.keys):
                raise DamagedError(f"{path} holds other tokens")
            os.utime(path)
        except (OSError, struct.error, DamagedError) as error:
            self.forget(state)
            raise DamagedError(str(error)) from error

    def forget(self, state: DiskState) -> None:
        """Delete a state; its pages are deleted when the quota needs their space."""
        self.states.pop(state.name, None)
        (self._folder / f"{state.name}.state").unlink(missing_ok=True)

    def num_bytes(self) -> int:
        """Bytes of the folder."""
        return sum(size for _, size, _ in self._files())

    # Names ------------------------------------------------------------------------------------------------------------

    def _name(self, keys: Keys, media: Sequence[bytes]) -> str:
        digest = hashlib.blake2b(self._identity, digest_size=20)
        for part in (keys.tobytes(), *media):
            digest.update(struct.pack("<Q", len(part)) + part)
        return digest.hexdigest()

    def _page_names(self, keys: Keys, media: Sequence[bytes]) -> list[str]:
        """Names of the full pages: each depends on all tokens up to its end."""
        names, chain = [], hashlib.blake2b(b"page" + self._identity, digest_size=20).digest()
        for end in range(PAGE_TOKENS, len(keys) + 1, PAGE_TOKENS):
            run = keys[end - PAGE_TOKENS : end]
            seen = sorted({int(-1 - key) >> 32 for key in run[run < 0]})
            parts = [chain, run.tobytes(), *(media[index] for index in seen)]
            chain = hashlib.blake2b(b"".join(parts), digest_size=20).digest()
            names.append(chain.hex())
        return names

    # Files ------------------------------------------------------------------------------------------------------------

    def _write(self, path: Path, name: str, arrays: Iterable[RawArray]) -> int:
        """Write arrays one after the other; returns the bytes of the file."""
        parts = [_bytes_of(np.ascontiguousarray(array)) for array in arrays]
        total = sum(map(len, parts))
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb", buffering=0) as file:
                _write_all(file.fileno(), _START.pack(_MAGIC, total))
                for index, block in enumerate(_blocks(parts)):
                    _write_all(file.fileno(), block)
                    _write_all(file.fileno(), _checksum(name, index, total, block))
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return path.stat().st_size

    def _read(self, path: Path, name: str, arrays: Iterable[RawArray]) -> None:
        """Fill arrays from a file. Raises DamagedError, after deleting it, and OSError when there is none."""
        try:
            views = [_bytes_of(array) for array in arrays]
            _fill(views, _checked_blocks(path, name, sum(map(len, views))))
        except DamagedError:
            path.unlink(missing_ok=True)
            raise

    def _describe(self, path: Path) -> DiskState | None:
        """The header of a file; None when it belongs to another identity. Raises DamagedError and OSError."""
        name = path.stem
        size, used_s = path.stat().st_size, path.stat().st_mtime
        blocks = _checked_blocks(path, name, None)
        data = bytearray(next(blocks, b""))
        if len(data) < _HEADER.size:
            raise DamagedError(f"{path} is too short")
        about_len = _HEADER.unpack_from(data)[0]
        start = _HEADER.size + about_len
        while len(data) < start and (block := next(blocks, None)) is not None:
            data += block
        try:
            length, media = _parse_about(bytes(data[_HEADER.size : start]))
        except (struct.error, IndexError) as error:
            raise DamagedError(f"{path} does not describe itself") from error
        while len(data) < start + 8 * length and (block := next(blocks, None)) is not None:
            data += block
        keys = np.frombuffer(bytes(data[start : start + 8 * length]), np.int64)
        if len(keys) != length or self._name(keys, media) != name:
            return None
        return DiskState(name, keys, media, tuple(self._page_names(keys, media)), size, used_s)

    def _files(self) -> list[tuple[Path, int, float]]:
        found = []
        for pattern in ("*.state", "*.page"):
            for path in self._folder.glob(pattern):
                with contextlib.suppress(OSError):
                    found.append((path, path.stat().st_size, path.stat().st_mtime))
        return found

    def _keep_quota(self, newest: DiskState) -> None:
        """Delete the least recently used states until the folder is within its quota."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        for path, size, _ in sorted((f for f in files if f[0].suffix == ".state"), key=lambda file: file[2]):
            if total <= self._quota_bytes:
                return
            if path.stem != newest.name:
                path.unlink(missing_ok=True)
                self.states.pop(path.stem, None)
                total -= size
                total -= self._drop_unused_pages()
        if total > self._quota_bytes:
            self.forget(newest)
            self._drop_unused_pages()

    def _drop_unused_pages(self) -> int:
        """Delete pages that no state names; returns their bytes."""
        used = {name for state in list(self.states.values()) for name in state.page_names}
        freed = 0
        for path in self._folder.glob("*.page"):
            if path.stem not in used:
                with contextlib.suppress(OSError):
                    freed += path.stat().st_size
                    path.unlink()
        return freed


def _bytes_of(array: RawArray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _parse_about(about: bytes) -> tuple[int, tuple[bytes, ...]]:
    """How many tokens a state has seen, and the digests of its media. Raises struct.error and IndexError."""
    length, num_media = _ABOUT.unpack_from(about)
    media, at = [], _ABOUT.size
    for _ in range(num_media):
        media.append(about[at + 1 : at + 1 + about[at]])
        at += 1 + about[at]
    return length, tuple(media)


def _checksum(name: str, index: int, total: int, block: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=_SUM_BYTES, key=name.encode()[:64], salt=struct.pack("<QQ", index, total))
    digest.update(block)
    return digest.digest()


def _blocks(parts: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
    """The bytes of some parts in blocks of one size, the last one shorter."""
    pending = bytearray()
    for part in parts:
        at = 0
        if pending:
            at = min(_BLOCK_BYTES - len(pending), len(part))
            pending += part[:at]
            if len(pending) == _BLOCK_BYTES:
                yield bytes(pending)
                pending.clear()
        if pending:
            continue
        while len(part) - at >= _BLOCK_BYTES:
            yield part[at : at + _BLOCK_BYTES]
            at += _BLOCK_BYTES
        pending += part[at:]
    if pending:
        yield bytes(pending)


def _checked_blocks(path: Path, name: str, expected: int | None) -> Iterator[bytes]:
    """The blocks of a file. Raises DamagedError at the first that is not what was written, and OSError."""
    with path.open("rb") as file:
        try:
            magic, total = _START.unpack(file.read(_START.size))
        except struct.error as error:
            raise DamagedError(f"{path} is too short") from error
        if magic != _MAGIC or (expected is not None and total != expected):
            raise DamagedError(f"{path} has another form")
        left, index = total, 0
        while left:
            size = min(left, _BLOCK_BYTES)
            block = file.read(size)
            if len(block) != size or file.read(_SUM_BYTES) != _checksum(name, index, total, block):
                raise DamagedError(f"{path} is damaged in block {index}")
            yield block
            left, index = left - size, index + 1
        if file.read(1):
            raise DamagedError(f"{path} is too long")


def _fill(views: list[memoryview], blocks: Iterable[bytes]) -> None:
    """Spread blocks over arrays."""
    target, at = 0, 0
    for block in blocks:
        start = 0
        while start < len(block):
            while target < len(views) and at == len(views[target]):
                target, at = target + 1, 0
            count = min(len(block) - start, len(views[target]) - at)
            views[target][at : at + count] = block[start : start + count]
            start, at = start + count, at + count


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]
