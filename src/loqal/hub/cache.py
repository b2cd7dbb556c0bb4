"""The layout of the cache that the hub's tools share, so that what one of them fetched all can use.

models--owner--name/blobs/<etag>                    the bytes, under their digest
models--owner--name/snapshots/<commit>/<path>       links to them, under their names
models--owner--name/refs/<revision>                 the commit a branch or tag stood for when it was asked last
.locks/models--owner--name/<etag>.lock              held while a blob is written
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from loqal.errors import CheckpointError
from loqal.hub import paths

_SAFE = re.compile(r"[\w.=+-]+", re.ASCII)


def repo_folder(repo: str, cache: Path | None = None) -> Path:
    """The folder of a repository."""
    return (cache or paths.hub_cache()) / ("models--" + repo.replace("/", "--"))


def repo_of(folder: Path) -> str | None:
    """The repository a folder of the cache belongs to."""
    kind, _, name = folder.name.partition("--")
    return name.replace("--", "/", 1) if kind == "models" and name else None


def blob_path(repo: str, etag: str) -> Path:
    """Where the bytes of a file lie. Raises CheckpointError for an etag that is no file name."""
    if not _SAFE.fullmatch(etag) or etag in (".", ".."):
        raise CheckpointError(
            f"The hub gives {etag!r} as the etag of a file of {repo}.", "It is not a digest.", "Use another endpoint."
        )
    return repo_folder(repo) / "blobs" / etag


def snapshot_path(repo: str, commit: str, path: str) -> Path:
    """Where a file appears under its name. Raises CheckpointError for a name that leads out of the folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or not _SAFE.fullmatch(commit):
        raise CheckpointError(
            f"{repo} holds a file called {path!r}.",
            "The name leads out of its folder.",
            "Report it to the owner of the repository.",
        )
    return repo_folder(repo) / "snapshots" / commit / Path(*parts)


def publish(repo: str, commit: str, path: str, etag: str, revision: str) -> Path:
    """Make a blob appear under its name in a snapshot, and note which commit a revision stood for."""
    shown, blob = snapshot_path(repo, commit, path), blob_path(repo, etag)
    shown.parent.mkdir(parents=True, exist_ok=True)
    if not shown.exists():
        shown.unlink(missing_ok=True)  # a link to a blob that is gone
        try:
            shown.symlink_to(os.path.relpath(blob, shown.parent))
        except FileExistsError:  # another process was as fast
            pass
        except OSError:  # a system without links: the name gets the bytes, as the hub's tools do it
            os.replace(blob, shown)
    if revision != commit and _SAFE.fullmatch(revision):
        reference = repo_folder(repo) / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        if not reference.exists() or reference.read_text() != commit:
            fresh = reference.with_name(f"{reference.name}.{os.getpid()}.new")
            fresh.write_text(commit)
            os.replace(fresh, reference)
    return shown


def snapshots(folder: Path) -> list[Path]:
    """The snapshots of a repository's folder, the one a branch points to first, then the newest."""
    found = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    heads = {path.read_text().strip() for path in (folder / "refs").glob("*") if path.is_file()}
    return sorted(found, key=lambda path: (path.name not in heads, -path.stat().st_mtime, path.name))


def etag_of(path: Path) -> str | None:
    """The etag of a file of a snapshot: the name of its blob."""
    real = path.resolve()
    return real.name if real.parent.name == "blobs" else None
