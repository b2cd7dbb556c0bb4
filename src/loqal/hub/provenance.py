"""What loqal knows of a file beyond its bytes: where it came from, its licence, its digest, and those of its parts.

One JSON file a digest in the own folder. Nothing depends on a record: without one a file can still be used and, where
its name states a digest, verified; only repairing it costs more.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loqal.hub import paths
from loqal.hub.checksums import sha256
from loqal.hub.download import Fetched


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one file."""

    etag: str  # its digest as the hub states it
    size_bytes: int
    origin: str  # repository, commit and path, or the path it was imported from
    licence: str | None
    noted: str  # ISO date and time
    part_bytes: int = 0
    digests: tuple[str, ...] = ()  # SHA-256 of the parts, hexadecimal; empty: not known
    made_from: str | None = None  # what was done to get it from its origin

    @property
    def part_digests(self) -> list[bytes]:
        """The digests as bytes."""
        return [bytes.fromhex(digest) for digest in self.digests]


def note(etag: str, size_bytes: int, origin: str, licence: str | None, fetched: Fetched | None) -> Record:
    """Write the record of a file that was just verified."""
    record = Record(
        etag=etag,
        size_bytes=size_bytes,
        origin=origin,
        licence=licence,
        noted=now(),
        part_bytes=fetched.part_bytes if fetched else 0,
        digests=tuple(digest.hex() for digest in fetched.digests) if fetched else (),
    )
    write_json(_path(etag), asdict(record))
    return record


def find(etag: str) -> Record | None:
    """The record of a digest; None when there is none, or none that can be read."""
    kept = read_json(_path(etag))
    try:
        return Record(**{**kept, "digests": tuple(kept["digests"])}) if kept else None
    except (TypeError, KeyError):
        return None


def forget(etag: str) -> None:
    """Delete a record."""
    _path(etag).unlink(missing_ok=True)


def all_etags() -> list[str]:
    """The digests of all records."""
    return sorted(path.stem for path in (paths.own_folder() / "records").glob("*.json"))


def beside(path: Path) -> Path:
    """Where a file that loqal made keeps its own record, so that both travel together."""
    return path.with_name(path.name + ".loqal.json")


def note_beside(path: Path, origin: str, licence: str | None, made_from: str) -> Record:
    """Write the record of a file that loqal made, beside it."""
    record = Record(sha256(path), path.stat().st_size, origin, licence, now(), made_from=made_from)
    write_json(beside(path), asdict(record))
    return record


def now() -> str:
    """The time as it is written in records."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when the file is not there or no longer one."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: object) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_text(json.dumps(value, indent=1), "utf-8")
    os.replace(fresh, path)


def _path(etag: str) -> Path:
    return paths.own_folder() / "records" / f"{etag}.json"
