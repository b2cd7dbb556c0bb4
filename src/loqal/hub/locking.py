"""One process at a time writes a blob: several pulls at once wait for each other, and for the hub's own tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from loqal.errors import CheckpointError
from loqal.hub import paths
from loqal.hub.cache import repo_folder


@contextmanager
def lock(repo: str, etag: str, waiting: str) -> Iterator[None]:
    """Hold the lock under which a blob is written, the one the hub's own tools use.

    Raises:
        CheckpointError: another process holds it and did not let go within an hour.
    """
    path = paths.hub_cache() / ".locks" / repo_folder(repo).name / f"{etag}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path, mode=0o664)
    try:
        held.acquire(timeout=3600)
    except Timeout:
        raise CheckpointError(
            f"{waiting} is being fetched by another process.", f"It has held {path} for an hour.", "Stop it, or wait."
        ) from None
    try:
        yield
    finally:
        held.release()
