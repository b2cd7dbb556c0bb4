"""The models on this machine, in the folders of all tools. Files of other tools are used in place and never changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loqal.errors import CheckpointError, RequestError
from loqal.formats.split_files import part_of, stem_of
from loqal.hub import cache, glance, paths
from loqal.hub.provenance import read_json, write_json

Origin = Literal["hub", "ollama", "lm studio", "llama.cpp", "imported"]

_MODEL_LAYER = "application/vnd.ollama.image.model"
_PROJECTOR_LAYER = "application/vnd.ollama.image.projector"
_SAFE_NAME = re.compile(r"[\w][\w.:-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that can be run as it lies."""

    name: str  # what commands take
    origin: Origin
    path: Path  # what is opened: a file, the first of several, or a folder
    files: tuple[Path, ...]  # all of it, the vision tower included
    mmproj: Path | None
    size: str | None  # a published size, by its shape
    quant: str | None  # as the name states it; "safetensors" for original weights
    size_bytes: int

    @property
    def repo(self) -> str | None:
        """The repository of a file of the hub's cache."""
        return self.name.partition(":")[0] if self.origin == "hub" else None


def all_models() -> list[LocalModel]:
    """Every model of the family that is found, in the order of preference among equals."""
    return [*_imported(), *_hub(), *_lm_studio(), *_llama_cpp(), *_ollama()]


# Places ---------------------------------------------------------------------------------------------------------------


def _hub() -> Iterator[LocalModel]:
    for folder in sorted(paths.hub_cache().glob("models--*")):
        repo = cache.repo_of(folder)
        if repo is None:
            continue
        seen: set[str] = set()
        for snapshot in cache.snapshots(folder):
            files = [path for path in sorted(snapshot.rglob("*.gguf")) if path.exists()]
            for model in _gguf_models(files, _named(repo + ":"), "hub"):
                if model.name not in seen:
                    seen.add(model.name)
                    yield model
            if repo not in seen and glance.is_checkpoint_folder(snapshot):
                seen.add(repo)
                yield _folder_model(repo, "hub", snapshot)


def _lm_studio() -> Iterator[LocalModel]:
    for root in paths.lm_studio_folders():
        for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
            prefix = f"lmstudio/{folder.parent.name}/{folder.name}"
            files = sorted(folder.glob("*.gguf"))
            yield from _gguf_models(files, _named(prefix + ":"), "lm studio")
            if glance.is_checkpoint_folder(folder):
                yield _folder_model(prefix, "lm studio", folder)


def _llama_cpp() -> Iterator[LocalModel]:
    for root in paths.llama_cpp_folders():
        # One folder for all: a vision tower belongs to the files whose names begin like its own.
        for path in sorted(root.glob("*.gguf")):
            owner = path.name.partition("-GGUF_")[0]
            named = (other for other in root.glob("*.gguf") if glance.is_projector_name(other.name))
            beside = [other for other in named if other.name.partition("-GGUF_")[0] == owner]
            yield from _gguf_models([path, *beside], lambda stem: f"llama.cpp/{stem}", "llama.cpp")


def _ollama() -> Iterator[LocalModel]:
    for root in paths.ollama_folders():
        for manifest in sorted(path for path in (root / "manifests").rglob("*") if path.is_file()):
            layers = (read_json(manifest) or {}).get("layers")
            blobs: dict[str, Path] = {}
            for layer in layers if isinstance(layers, list) else []:
                if isinstance(layer, dict) and re.fullmatch(r"sha256:[0-9a-f]{64}", str(layer.get("digest"))):
                    blobs.setdefault(str(layer.get("mediaType")), root / "blobs" / layer["digest"].replace(":", "-"))
            model, projector = blobs.get(_MODEL_LAYER), blobs.get(_PROJECTOR_LAYER)
            if model is None or not model.exists():
                continue
            look = glance.read_summary(model)
            if look is None or not look.is_model:
                continue
            projector = projector if projector is not None and projector.exists() else None
            parts = manifest.relative_to(root / "manifests").parts
            named = [part for part in parts[1:-1] if part != "library"]
            files = (model, *([projector] if projector else []))
            tag = parts[-1]
            yield LocalModel(
                name="ollama/" + "/".join(named) + f":{tag}",
                origin="ollama",
                path=model,
                files=files,
                mmproj=projector,
                size=look.size,
                quant=glance.quant_of(tag) or _ollama_quant(root, manifest),
                size_bytes=sum(path.stat().st_size for path in files),
            )


def _ollama_quant(root: Path, manifest: Path) -> str | None:
    """The quantization that the configuration beside the layers states."""
    config = (read_json(manifest) or {}).get("config")
    digest = config.get("digest") if isinstance(config, dict) else None
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", str(digest)):
        return None
    stated = (read_json(root / "blobs" / str(digest).replace(":", "-")) or {}).get("file_type")
    return stated.upper() if isinstance(stated, str) else None


def _imported() -> Iterator[LocalModel]:
    root = paths.own_folder() / "models"
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        note = read_json(folder / "import.json") or {}
        linked = folder / "checkpoint"
        if linked.exists():
            yield _folder_model(str(note.get("name", folder.name)), "imported", linked)
        files = [path for path in sorted(folder.glob("*.gguf")) if path.exists()]
        yield from list(_gguf_models(files, _constant(str(note.get("name", folder.name))), "imported"))[:1]


def _named(prefix: str) -> Callable[[str], str]:
    """Names files by their quantization."""
    return lambda stem: prefix + (glance.quant_of(stem) or stem)


def _constant(name: str) -> Callable[[str], str]:
    return lambda stem: name


def _folder_model(name: str, origin: Origin, folder: Path) -> LocalModel:
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    size_bytes = sum(path.stat().st_size for path in files)
    return LocalModel(name, origin, folder, files, None, glance.size_of_folder(folder), "safetensors", size_bytes)


def _gguf_models(files: Iterable[Path], name_of: Callable[[str], str], origin: Origin) -> Iterator[LocalModel]:
    """The models among GGUF files that lie together: parts of a set joined, with the best vision tower beside them."""
    files = list(files)
    looks = {path: look for path in files if (look := glance.read_summary(path)) is not None}
    towers = sorted((path for path, look in looks.items() if look.is_projector), key=_tower_order)
    mmproj = towers[0] if towers else None
    for path, look in looks.items():
        part = part_of(path.name)
        if not look.is_model or (part and part.number != 1):
            continue
        whole = part.all_parts(path) if part else [path]
        if not all(piece.exists() for piece in whole):
            continue
        stem = stem_of(path.name)
        every = (*whole, *([mmproj] if mmproj else []))
        size_bytes = sum(piece.stat().st_size for piece in every)
        yield LocalModel(name_of(stem), origin, path, every, mmproj, look.size, glance.quant_of(stem), size_bytes)


def _tower_order(path: Path) -> tuple[int, str]:
    return glance.projector_order(path.name)


# Imports --------------------------------------------------------------------------------------------------------------


def import_model(path: Path, name: str | None = None) -> LocalModel:
    """Register a local model under a name, by links: nothing is copied or moved.

    Raises:
        CheckpointError: there is no model of the family.
        RequestError: the name is taken or no name.
    """
    path = path.expanduser().absolute()
    chosen = name or re.sub(r"[^\w.-]", "-", path.stem if path.suffix == ".gguf" else path.name)
    if not _SAFE_NAME.fullmatch(chosen):
        raise RequestError(
            f"{chosen!r} is not a valid name.",
            "Names consist of letters, digits, dots and dashes.",
            "Give one with --name.",
        )
    folder = paths.own_folder() / "models" / chosen.replace(":", "--")
    if folder.exists():
        raise RequestError(
            f"A model is already imported as {chosen!r}.",
            f"Its links are in {folder}.",
            f"Remove it: loqal rm {chosen}",
        )
    links = {"checkpoint": path} if path.is_dir() and glance.is_checkpoint_folder(path) else _gguf_links(path)
    folder.mkdir(parents=True)
    for linked, target in links.items():
        (folder / linked).symlink_to(target)
    write_json(folder / "import.json", {"name": chosen, "from": str(path)})
    found = next((model for model in _imported() if model.name == chosen), None)
    if found is None:
        remove_links(folder)
        raise _no_model(path)
    return found


def _gguf_links(path: Path) -> dict[str, Path]:
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        models = [file for file in files if (look := glance.read_summary(file)) and look.is_model]
        if not models:
            raise _no_model(path)
        path = models[0]
    part = part_of(path.name)
    beside = [piece for piece in part.all_parts(path) if piece.exists()] if part else []
    towers = [file for file in path.parent.glob("*.gguf") if (look := glance.read_summary(file)) and look.is_projector]
    looked = glance.read_summary(path)
    if looked is None or not looked.is_model:
        raise _no_model(path)
    name = path.name if path.suffix == ".gguf" else path.name + ".gguf"
    return {name: path, **{file.name: file for file in [*beside, *sorted(towers, key=_tower_order)[:1]]}}


def remove_links(folder: Path) -> None:
    """Forget an import: its links and its note, never what they point to."""
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()


def _no_model(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} holds no model of the Qwen 3.5 family.",
        "Neither a GGUF file of this family nor a whole safetensors checkpoint is there.",
        "Check the path.",
    )
