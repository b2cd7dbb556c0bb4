"""Whether the files of a model are what they were, and fetching again only what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loqal.errors import CheckpointError, RequestError
from loqal.hub import cache, checksums, paths, provenance, remote
from loqal.hub.download import Policy, fetch
from loqal.hub.local_models import LocalModel
from loqal.hub.locking import lock
from loqal.hub.partial import PART_BYTES, adopt_damaged

State = Literal["right", "damaged", "missing", "unknown", "noted"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one file."""

    path: Path
    state: State  # unknown: nothing states its digest; noted: its digest was noted now, for the next time
    why: str
    damaged_bytes: int = 0  # of the parts that are damaged, where the parts' digests are known


def verify(model: LocalModel, looked_at: Callable[[Path], None] | None = None) -> list[Verdict]:
    """Read every file of a model and compare it with its digest."""
    verdicts = []
    for path in model.files:
        if looked_at:
            looked_at(path)
        verdicts.append(_verify(path))
    return verdicts


def _verify(path: Path) -> Verdict:
    if not path.exists():
        return Verdict(path, "missing", "the link leads nowhere")
    etag = _etag(path)
    if etag is None:
        return _compare_noted(path)
    kept = provenance.find(etag)
    size = kept.size_bytes if kept else path.stat().st_size
    if path.stat().st_size != size:
        return Verdict(path, "damaged", f"has {path.stat().st_size:,} bytes instead of {size:,}", _damaged(path, kept))
    if checksums.hasher(etag, size) is None:
        return Verdict(path, "unknown", "its name states no digest")
    if checksums.is_right(path.resolve(), size, etag):
        return Verdict(path, "right", etag)
    return Verdict(path, "damaged", f"its digest is not {etag}", _damaged(path, kept))


def _etag(path: Path) -> str | None:
    """The digest a file's own name or its blob's states: of the hub's cache, of Ollama's."""
    real = path.resolve()
    if real.parent.name != "blobs":
        return None
    return real.name.removeprefix("sha256-")


def _compare_noted(path: Path) -> Verdict:
    """A file whose name states nothing: compare with what was noted when it was made or verified before."""
    real = path.resolve()
    kept = provenance.read_json(provenance.beside(real)) or provenance.read_json(_note_path(real))
    found = checksums.sha256(real)
    if kept is None:
        provenance.write_json(
            _note_path(real), {"etag": found, "size_bytes": real.stat().st_size, "noted": provenance.now()}
        )
        return Verdict(path, "noted", f"nothing stated its digest; from now on it is {found}")
    if kept.get("etag") == found:
        return Verdict(path, "right", found)
    return Verdict(path, "damaged", f"its digest was {kept.get('etag')} on {kept.get('noted')}")


def _note_path(real: Path) -> Path:
    key = checksums.text_key(str(real))
    return paths.own_folder() / "digests" / f"{key}.json"


def _damaged(path: Path, kept: provenance.Record | None) -> int:
    return sum(end - start for start, end in damaged_spans(path, kept)) if kept and kept.digests else 0


def damaged_spans(path: Path, kept: provenance.Record) -> list[tuple[int, int]]:
    """The byte ranges of the parts whose digests differ."""
    spans = []
    with path.open("rb") as file:
        for part, wanted in enumerate(kept.digests):
            start = part * kept.part_bytes
            end = min(start + kept.part_bytes, kept.size_bytes)
            file.seek(start)
            if checksums.of_bytes(file.read(end - start)) != wanted:
                spans.append((start, end))
    return spans


def repair(
    model: LocalModel,
    verdicts: list[Verdict],
    *,
    policy: Policy | None = None,
    progress: Callable[[remote.RemoteFile, int], None] | None = None,
) -> int:
    """Fetch again what is damaged or missing and return how many files that were.

    Raises:
        RequestError: the files belong to another tool, or nothing says where they came from.
        CheckpointError: the repository no longer has a file, or as ``download.fetch``.
    """
    broken = [verdict for verdict in verdicts if verdict.state in ("damaged", "missing")]
    if not broken:
        return 0
    if model.repo is None:
        raise RequestError(
            f"{model.name} cannot be repaired by loqal.",
            f"Its files belong to {model.origin}, and nothing says where they came from.",
            "Fetch it again with the tool that owns it.",
        )
    by_commit: dict[str, list[Verdict]] = {}
    for verdict in broken:
        by_commit.setdefault(_commit_of(verdict.path), []).append(verdict)
    for commit, verdicts_of_commit in by_commit.items():
        files = {file.path: file for file in remote.list_repository(model.repo, commit).files}
        for verdict in verdicts_of_commit:
            path = verdict.path.relative_to(_snapshot_of(verdict.path)).as_posix()
            if path not in files:
                raise CheckpointError(
                    f"{model.repo} has no {path} at {commit}.",
                    "The revision that was fetched no longer holds it.",
                    "Pull the model again.",
                )
            _repair(files[path], policy, progress)
    return len(broken)


def _repair(
    file: remote.RemoteFile, policy: Policy | None, progress: Callable[[remote.RemoteFile, int], None] | None
) -> None:
    blob = cache.blob_path(file.repo, file.etag)
    kept = provenance.find(file.etag)
    note = (lambda done: progress(file, done)) if progress else None
    with lock(file.repo, file.etag, file.path):
        partial = None
        if blob.exists():
            part_bytes = kept.part_bytes if kept and kept.digests else PART_BYTES
            digests = kept.part_digests if kept else []
            partial = adopt_damaged(blob, file.size_bytes, file.etag, part_bytes, digests)
        fetched = fetch(file, blob, policy=policy, progress=note, partial=partial)
        origin = f"{file.endpoint}/{file.repo}/blob/{file.commit}/{file.path}"
        provenance.note(file.etag, file.size_bytes, origin, kept.licence if kept else None, fetched)
        cache.publish(file.repo, file.commit, file.path, file.etag, file.commit)


def _snapshot_of(path: Path) -> Path:
    for folder in path.parents:
        if folder.parent.name == "snapshots":
            return folder
    raise CheckpointError(
        f"{path} is not in a snapshot.", "Only the hub's cache can be repaired.", "Pull the model again."
    )


def _commit_of(path: Path) -> str:
    return _snapshot_of(path).name
