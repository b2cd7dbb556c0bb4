"""Fetches one file: parts in parallel, resumed at the exact byte, hashed while they arrive, retried with patience.

A connection that breaks, stalls, sends another range or less than it promised costs what had not arrived, never what
had. When the whole file's digest is wrong, parts whose bytes changed on the disk are fetched again; if there are none,
the damage came over the wire, and parts are fetched once more and compared until the digest is right. An encrypted
connection notices damage by itself and breaks, so that happens behind plain HTTP or a broken cache only.
"""

from __future__ import annotations

import errno
import hashlib
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loqal.errors import CapacityError, CheckpointError, LoqalError
from loqal.hub.checksums import Hasher, hasher
from loqal.hub.partial import PART_BYTES, Partial
from loqal.hub.transfer_error import TransferError

_SPARE_BYTES = 64 << 20  # left free on the disk
_HASH_BYTES = 1 << 22


class Remote(Protocol):
    """What is fetched; see ``remote.RemoteFile``."""

    @property
    def path(self) -> str:
        """Its name, for messages."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its size."""
        ...

    @property
    def etag(self) -> str:
        """Its digest."""
        ...

    def open(self, start: int, end: int) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """Bytes of a range, and the position of the first of them. Raises TransferError and CheckpointError."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """How hard to try."""

    part_bytes: int = PART_BYTES
    connections: int = 4
    patience: int = 8  # failures in a row without a single new byte, after which a part gives up
    first_wait_s: float = 0.5  # doubled with every failure, up to the last
    last_wait_s: float = 30.0


Progress = Callable[[int], None]
"""Called with the number of bytes that are there, of the whole file."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is known of a file that was fetched whole."""

    part_bytes: int
    digests: tuple[bytes, ...]  # SHA-256 of every part
    sha256: str | None  # of the file, where its etag is that


def fetch(
    remote: Remote,
    target: Path,
    *,
    policy: Policy | None = None,
    progress: Progress | None = None,
    partial: Partial | None = None,
) -> Fetched:
    """Fetch ``remote`` to ``target``, which appears when every byte was verified. The caller holds the file's lock.

    Interrupted in any way, the next call continues.

    Raises:
        CapacityError: the disk is too small or full.
        CheckpointError: the server refuses, keeps failing, or serves a file that is not what it declares.
        KeyboardInterrupt: as usual; everything that arrived is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial or Partial(target, remote.size_bytes, remote.etag, (policy or Policy()).part_bytes)
    transfer = _Transfer(remote, partial, policy or Policy(), progress or (lambda done: None))
    try:
        return transfer.run()
    finally:
        if transfer.is_idle:  # else a connection is still being given up, and must not write into another file
            partial.close()


class _Transfer:
    def __init__(self, remote: Remote, partial: Partial, policy: Policy, progress: Progress) -> None:
        self._remote, self._partial, self._policy, self._progress = remote, partial, policy, progress
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._news = threading.Event()
        self._failure: BaseException | None = None
        self._todo: list[int] = []
        self._workers: list[threading.Thread] = []

    @property
    def is_idle(self) -> bool:
        """Whether no worker is left."""
        return not any(worker.is_alive() for worker in self._workers)

    def run(self) -> Fetched:
        self._check_space()
        is_right = self._fetch_missing()
        if not is_right and self._partial.reset_damaged():
            is_right = self._fetch_missing()
        if not is_right:
            self._search_damage()
        digests = tuple(self._partial.digests())
        self._partial.finish()
        etag = self._remote.etag
        return Fetched(self._partial.part_bytes, digests, etag if len(etag) == 64 else None)

    def _check_space(self) -> None:
        missing = self._remote.size_bytes - self._partial.total_done()
        free = shutil.disk_usage(self._partial.target.parent).free
        if missing and missing + _SPARE_BYTES > free:
            raise _no_space(
                f"{self._remote.path} needs {missing / 1e9:.2f} GB more in {self._partial.target.parent}, "
                f"{free / 1e9:.2f} GB are free."
            )

    # Parallel parts -------------------------------------------------------------------------------------------------

    def _fetch_missing(self) -> bool:
        """Fetch all parts that are missing; whether the file's digest is right then."""
        self._todo = self._partial.missing()[::-1]
        count = min(self._policy.connections, len(self._todo))
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for worker in self._workers:
            worker.start()
        try:
            digest = self._hash_along()
        except BaseException:
            self._stop.set()
            raise
        finally:
            for worker in self._workers:
                worker.join(timeout=1.0 if self._stop.is_set() else None)
        if self._failure is not None:
            raise self._failure
        return digest is None or digest.hexdigest() == self._remote.etag

    def _hash_along(self) -> Hasher | None:
        """Hash the bytes in order as far as they have come without a gap, while the workers bring more."""
        found, at = hasher(self._remote.etag, self._remote.size_bytes), 0
        while at < self._remote.size_bytes and self._failure is None:
            end = self._partial.frontier(at // self._partial.part_bytes)
            if end > at:
                while found is not None and at < end:
                    data = self._partial.read(at, min(_HASH_BYTES, end - at))
                    found.update(data)
                    at += len(data)
                at = end
            elif not self.is_idle:
                self._news.wait(0.1)
                self._news.clear()
            elif self._partial.frontier(at // self._partial.part_bytes) == at:
                break
            self._progress(self._partial.total_done())
        return found

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    if not self._todo:
                        return
                    part = self._todo.pop()
                self._fetch_part(part)
                self._news.set()
        except BaseException as error:
            self._failure = self._failure or _understood(error, self._remote.path)
            self._stop.set()
        finally:
            self._news.set()

    def _fetch_part(self, part: int) -> None:
        writer, failures = self._partial.writer(part), 0
        _, end = self._partial.span(part)
        while not writer.is_done() and not self._stop.is_set():
            before, wait_s, why = writer.position, None, "the connection ended early"
            try:
                with self._remote.open(writer.position, end) as (position, chunks):
                    for chunk in chunks:
                        skip = min(len(chunk), max(0, writer.position - position))
                        writer.write(chunk[skip:])
                        position += len(chunk)
                        if writer.is_done() or self._stop.is_set():
                            break
            except TransferError as error:
                wait_s, why = error.wait_s, str(error)
            if writer.is_done():
                return
            failures = 0 if writer.position > before else failures + 1
            if failures >= self._policy.patience:
                raise CheckpointError(
                    f"{self._remote.path} could not be fetched: {why}.",
                    f"{failures} attempts in a row brought no new byte; {self._partial.total_done():,} bytes are kept.",
                    "Run the same command again later; it continues where it stopped.",
                )
            self._stop.wait(self._pause(failures) if wait_s is None else wait_s)

    def _pause(self, failures: int) -> float:
        longest = min(self._policy.last_wait_s, self._policy.first_wait_s * 2.0**failures)
        return longest * random.uniform(0.5, 1.0)  # so that several pulls do not knock at the same moment

    # Damage ---------------------------------------------------------------------------------------------------------

    def _search_damage(self) -> None:
        """Find the parts that came damaged over the wire: fetch one after the other again until the digest is right.

        The hub states one digest for the whole file, so nothing tells which part it was. A part that comes different is
        replaced, and the file's digest asked. Only when all were compared and it is still wrong, because what came now
        was damaged in its turn, are the parts that differed fetched a third time.
        """
        differing: list[int] = []
        for parts in (range(self._partial.num_parts), differing):
            for part in parts:
                again = self._fetched_again(*self._partial.span(part))
                if hashlib.sha256(again).digest() == self._partial.digests()[part]:
                    continue
                self._partial.reset(part)
                self._partial.writer(part).write(again)
                if self._fetch_missing():
                    return
                if parts is not differing:
                    differing.append(part)
        self._partial.discard()
        raise CheckpointError(
            f"{self._remote.path} is not what the hub declares.",
            f"Its parts came again as they were, but their digest is not {self._remote.etag}.",
            "The copy on this server is damaged; use another endpoint, or tell its owner.",
        )

    def _fetched_again(self, start: int, end: int) -> bytes:
        found, failures = bytearray(), 0
        while len(found) < end - start:
            before = len(found)
            try:
                with self._remote.open(start + before, end) as (position, chunks):
                    for chunk in chunks:
                        skip = min(len(chunk), max(0, start + len(found) - position))
                        found += chunk[skip:][: end - start - len(found)]
                        position += len(chunk)
            except TransferError:
                pass
            failures = 0 if len(found) > before else failures + 1
            if failures >= self._policy.patience:
                raise CheckpointError(
                    f"{self._remote.path} came damaged, and the server no longer answers.",
                    "Its digest is wrong.",
                    "Run the same command again later.",
                )
            if failures:
                self._stop.wait(self._pause(failures))
        return bytes(found)


def _understood(error: BaseException, path: str) -> BaseException:
    if isinstance(error, OSError) and not isinstance(error, LoqalError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(f"The disk was full before {path} was whole.")
    return error


def _no_space(what: str) -> CapacityError:
    return CapacityError(
        what,
        "A model is fetched only where it fits.",
        "Free some space (`loqal gc --dry-run` shows what could go) or set HF_HUB_CACHE to a larger disk; "
        "the same command continues.",
    )
