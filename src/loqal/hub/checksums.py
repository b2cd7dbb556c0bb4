"""Digests as the hub names them: SHA-256 of a large file, git's SHA-1 of a small one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

_READ_BYTES = 1 << 20


class Hasher(Protocol):
    """What hashlib returns."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""
        ...


def hasher(etag: str, size_bytes: int) -> Hasher | None:
    """What computes the digest an etag states; None for an etag that is no digest."""
    if not set(etag) <= set("0123456789abcdef"):
        return None
    if len(etag) == 64:
        return hashlib.sha256()
    if len(etag) == 40:
        return hashlib.sha1(f"blob {size_bytes}\0".encode(), usedforsecurity=False)
    return None


def is_right(path: Path, size_bytes: int, etag: str) -> bool:
    """Whether a file has the size and the digest its etag states; the size alone where the etag is no digest."""
    if path.stat().st_size != size_bytes:
        return False
    found = hasher(etag, size_bytes)
    if found is None:
        return True
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            found.update(data)
    return found.hexdigest() == etag


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            found.update(data)
    return found.hexdigest()


def of_bytes(data: bytes) -> str:
    """SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def text_key(text: str) -> str:
    """A file name that stands for a text."""
    return of_bytes(text.encode())[:32]
