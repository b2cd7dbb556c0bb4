"""Frees disk space: one model, or unreferenced files. Files of other tools stay unless ``foreign`` is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loqal.errors import RequestError
from loqal.hub import cache, paths, provenance
from loqal.hub.glance import read_summary
from loqal.hub.local_models import LocalModel, remove_links

_LEFT_BEHIND = (".loqal-partial", ".loqal-journal", ".loqal-journal.new")


@dataclass(frozen=True, slots=True)
class UnreferencedFiles:
    """A file that can be deleted, and why."""

    path: Path
    size_bytes: int  # on the disk
    why: str


def remove(model: LocalModel, *, foreign: bool = False) -> list[Path]:
    """Delete a model's files; of an import only the links. Returns what was deleted.

    Blobs that another snapshot still shows stay.

    Raises:
        RequestError: the files belong to another tool and ``foreign`` was not given.
    """
    if model.origin == "imported":
        folder = model.path.parent
        remove_links(folder)
        return [folder]
    if model.origin != "hub" and not foreign:
        raise RequestError(
            f"{model.name} belongs to {model.origin}.",
            "Deleting files of another tool without it would leave that tool inconsistent.",
            f"Remove it there, or force it: loqal rm --foreign {model.name}",
        )
    removed = []
    for path in model.files:
        blob = path.resolve()
        if model.origin == "hub" and path == model.mmproj and _others_need(path):
            continue
        path.unlink()
        removed.append(path)
        if model.origin == "hub" and blob != path and not _shown(blob):
            blob.unlink(missing_ok=True)
            provenance.forget(blob.name)
    if model.origin == "hub" and model.repo is not None:
        _remove_empty(cache.repo_folder(model.repo))
    return removed


def _others_need(tower: Path) -> bool:
    """Whether a model is left in the folder of a vision tower."""
    looks = (read_summary(path) for path in tower.parent.rglob("*.gguf"))
    return any(look is not None and not look.is_projector for look in looks)


def _shown(blob: Path) -> bool:
    """Whether any snapshot still has a link to a blob."""
    snapshots = blob.parent.parent / "snapshots"
    return any(path.is_symlink() and path.resolve() == blob for path in snapshots.rglob("*"))


def _remove_empty(folder: Path) -> None:
    for path in sorted((folder / "snapshots").rglob("*"), key=lambda path: -len(path.parts)):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def unreferenced() -> Iterator[UnreferencedFiles]:
    """Unfinished downloads, blobs without a name, broken links, records of deleted files."""
    etags = set()
    for folder in sorted(paths.hub_cache().glob("models--*")):
        blobs = [path for path in (folder / "blobs").glob("*") if path.is_file()]
        etags |= {path.name for path in blobs}
        ours = [path for path in blobs if path.name.endswith(_LEFT_BEHIND)]
        for path in ours:
            yield UnreferencedFiles(path, _on_disk(path), "unfinished download")
        shown = {path.resolve() for path in (folder / "snapshots").rglob("*") if path.is_symlink()}
        for path in blobs:
            if path not in ours and path.resolve() not in shown and provenance.find(path.name) is not None:
                yield UnreferencedFiles(path, _on_disk(path), "blob without a name")
        for path in (folder / "snapshots").rglob("*"):
            if path.is_symlink() and not path.exists():
                yield UnreferencedFiles(path, 0, "broken link")
    for folder in sorted((paths.own_folder() / "models").glob("*")):
        for path in sorted(folder.glob("*")):
            if path.is_symlink() and not path.exists():
                yield UnreferencedFiles(path, 0, "link to an imported file that was deleted")
    for etag in provenance.all_etags():
        if etag not in etags:
            yield UnreferencedFiles(paths.own_folder() / "records" / f"{etag}.json", 0, "record of a deleted file")


def _on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512
