"""File digests, which tell cached data of a file from data of another version of it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path


def files_digest(files: Sequence[Path]) -> str:
    """SHA-256 over the length and all bytes of each file, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(struct.pack("<Q", file.stat().st_size))
        with file.open("rb") as opened:
            while block := opened.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
