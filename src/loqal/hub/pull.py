"""From a name to files fetched: which files of which repository, then one after the other, each verified."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loqal.errors import CheckpointError
from loqal.formats.split_files import stem_of
from loqal.hub import cache, catalog, provenance, remote
from loqal.hub.download import Policy, fetch
from loqal.hub.glance import is_projector_name, projector_order, quant_of
from loqal.hub.locking import lock
from loqal.hub.names import Wanted
from loqal.hub.recommend import NeededBytes, choose
from loqal.hub.remote import RemoteFile, Repository

_ORIGINAL = re.compile(
    r"(?:.*\.safetensors(?:\.index\.json)?|(?:config|generation_config|tokenizer|tokenizer_config|preprocessor_config"
    r"|video_preprocessor_config|processor_config|chat_template)\.json|chat_template\.jinja)"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The files a name stands for. ``why`` says what was chosen where the name left it open."""

    repository: Repository
    files: tuple[RemoteFile, ...]
    main: RemoteFile
    is_folder: bool
    why: str | None

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


def select(
    wanted: Wanted,
    memory_bytes: int,
    read_gb_per_s: Callable[[], float],
    needed_bytes: NeededBytes,
    *,
    vision: bool = True,
) -> Selection:
    """Ask the hub and decide which files to fetch.

    Args:
        wanted: what was asked for.
        memory_bytes: what a model may use on this machine.
        read_gb_per_s: measures the machine; called only where the name leaves the choice to it.
        needed_bytes: the memory a published file takes.
        vision: whether to fetch the vision tower too.

    Raises:
        CheckpointError: the repository has no such file, or cannot be reached.
        CapacityError: nothing fits this machine.
    """
    why = None
    remote.check_online(wanted.name)
    if wanted.repo is None and wanted.is_open:
        chosen = choose(memory_bytes, read_gb_per_s(), needed_bytes, wanted.size)
        why = f"{catalog.FAMILY}:{chosen.size.lower()}-{chosen.quant.lower()}: {chosen.why}"
        wanted = Wanted(wanted.name, size=chosen.size, quant=chosen.quant, draft=wanted.draft)
    repository = remote.list_repository(_repo(wanted), wanted.revision)
    if wanted.safetensors or (wanted.repo is not None and wanted.quant is None and not _ggufs(repository)):
        return _original(repository, why)
    sets = _sets(repository)
    if wanted.quant is not None:
        stem = _named(repository, sets, wanted.quant)
    else:
        stem = _largest_fitting(sets, memory_bytes, needed_bytes)
        size_bytes = sum(file.size_bytes for file in sets[stem])
        why = f"{stem}: the largest of {len(sets)} that fits, {size_bytes / 1e9:.1f} GB"
    towers = [file for file in repository.files if vision and is_projector_name(file.path)]
    tower = sorted(towers, key=lambda file: projector_order(file.path))[:1]
    return Selection(repository, (*sets[stem], *tower), sets[stem][0], False, why)


def _repo(wanted: Wanted) -> str:
    if wanted.repo is not None:
        return wanted.repo
    assert wanted.size is not None
    release = catalog.releases()[wanted.size]
    if wanted.safetensors:
        return release.safetensors_repo
    return release.gguf_draft_repo if wanted.draft else release.gguf_repo


def _ggufs(repository: Repository) -> list[RemoteFile]:
    return [file for file in repository.files if file.path.endswith(".gguf") and not is_projector_name(file.path)]


def _original(repository: Repository, why: str | None) -> Selection:
    files = tuple(file for file in repository.files if _ORIGINAL.fullmatch(file.path))
    weights = [file for file in files if file.path.endswith(".safetensors")]
    if not weights:
        raise CheckpointError(
            f"{repository.repo} holds no weights that loqal reads.",
            "It has neither GGUF nor safetensors files.",
            "Name a repository of the Qwen 3.5 family.",
        )
    return Selection(repository, files, weights[0], True, why)


def _sets(repository: Repository) -> dict[str, list[RemoteFile]]:
    """The GGUF models of a repository, the parts of a split file together and in order."""
    sets: dict[str, list[RemoteFile]] = {}
    for file in sorted(_ggufs(repository), key=lambda file: file.path):
        sets.setdefault(stem_of(file.path), []).append(file)
    return sets


def _quant(stem: str) -> str:
    return quant_of(stem) or stem.rpartition("/")[2]


def _largest_fitting(sets: dict[str, list[RemoteFile]], memory_bytes: int, needed_bytes: NeededBytes) -> str:
    """The largest model that fits the memory, in a quantization that is preferred where there is one."""
    sizes = {stem: sum(file.size_bytes for file in files) for stem, files in sets.items()}
    affordable = [stem for stem in sets if needed_bytes(None, _quant(stem), sizes[stem]) <= memory_bytes]
    affordable = affordable or [min(sizes, key=lambda stem: sizes[stem])]
    preferred = [stem for stem in affordable if _quant(stem) in (*catalog.FAVOURITES, "Q4_K_M")]
    return max(preferred or affordable, key=lambda stem: sizes[stem])


def _named(repository: Repository, sets: dict[str, list[RemoteFile]], wanted: str) -> str:
    quants = {stem: _quant(stem) for stem in sets}
    exact = [stem for stem, quant in quants.items() if quant.lower() == wanted.lower()]
    plain = [stem for stem, quant in quants.items() if catalog.plain_quant(quant) == catalog.plain_quant(wanted)]
    if not (exact or plain):
        raise CheckpointError(
            f"{repository.repo} has no {wanted}.",
            f"It has {', '.join(sorted(quants.values())) or 'no GGUF file'}.",
            "Name one of these after a colon.",
        )
    return (exact or plain)[0]


def pull(
    selection: Selection,
    *,
    revision: str | None = None,
    policy: Policy | None = None,
    begun: Callable[[RemoteFile], None] | None = None,
    progress: Callable[[RemoteFile, int], None] | None = None,
) -> Path:
    """Fetch what is missing of a selection and return the path to open.

    Every file lies in the hub's shared cache afterwards, verified, with a record of its origin and licence.

    Raises: as ``download.fetch``.
    """
    repository = selection.repository
    shown: dict[str, Path] = {}
    for file in selection.files:
        blob = cache.blob_path(file.repo, file.etag)
        name = cache.snapshot_path(file.repo, file.commit, file.path)
        with lock(file.repo, file.etag, file.path):
            there = next((path for path in (blob, name) if path.exists()), None)
            if there is None or there.stat().st_size != file.size_bytes:
                if begun:
                    begun(file)
                note = (lambda done, file=file: progress(file, done)) if progress else None
                fetched = fetch(file, blob, policy=policy, progress=note)
                origin = f"{file.endpoint}/{file.repo}/blob/{file.commit}/{file.path}"
                provenance.note(file.etag, file.size_bytes, origin, repository.licence, fetched)
            shown[file.path] = cache.publish(file.repo, file.commit, file.path, file.etag, revision or "main")
    main = shown[selection.main.path]
    return main.parent if selection.is_folder else main
