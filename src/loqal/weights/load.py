"""Opens a checkpoint: files in either format become a configuration and named tensors, the same for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loqal.errors import CheckpointError
from loqal.model.config import ModelConfig
from loqal.weights.binding import CheckpointTensors, IgnoredTensor, ModelFile, bind
from loqal.weights.folder import list_files, safetensors_files, two_models, unknown_file
from loqal.weights.mapped import MappedFile, unreadable
from loqal.weights.open_gguf import find_in_folder, open_model
from loqal.weights.open_safetensors import open_files

__all__ = ["Checkpoint", "CheckpointTensors", "IgnoredTensor", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk, opened: everything is known and checked, no weight has been read yet."""

    name: str
    format: Literal["safetensors", "gguf"]
    config: ModelConfig
    tensors: CheckpointTensors  # by our names, see model/tensor_names.py
    ignored: tuple[IgnoredTensor, ...]  # tensors of the files that are not used, and why
    notes: tuple[str, ...]  # what a user should know about how the files were read
    files: tuple[Path, ...]
    metadata: Mapping[str, Any]  # GGUF: key -> value; safetensors: file name -> parsed JSON
    tokenizer_json: bytes | None  # safetensors only; GGUF keeps the vocabulary in ``metadata``
    chat_template: str | None
    eos_token_ids: tuple[int, ...]  # declared ends of a turn or text, without duplicates
    size_label: str | None  # for example "4B" or "35B-A3B"
    mapped: tuple[MappedFile, ...]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors together, in the formats the model gets them in."""
        return sum(self.tensors.size_bytes(name) for name in self.tensors)

    def close(self) -> None:
        """Give the mapped files up. Tensors already read stay valid."""
        for file in self.mapped:
            file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_checkpoint(path: str | Path, *, mmproj: Path | None = None) -> Checkpoint:
    """Open a GGUF file, a safetensors file, or a folder that holds one model in either format.

    Any part of a split GGUF set stands for the whole set. ``mmproj`` names the separate vision tower of a GGUF model;
    in a folder it is found, as is a separate draft head.

    Raises:
        CheckpointError: the files cannot be read, are broken, or are not a model loqal runs.
    """
    path = Path(path)
    try:
        exists, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except OSError as error:
        raise unreadable(path, error) from error
    if not exists:
        raise CheckpointError(
            f"{path} does not exist.",
            "There is neither a file nor a folder.",
            "Check the path, or download the model first.",
        )
    if is_folder:
        return _open_folder(path, mmproj)
    if not is_file:
        raise unknown_file(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path, mmproj)
    if _is_gguf(path):
        return _bound(open_model(path, mmproj), "gguf")
    raise unknown_file(path)


def _open_folder(folder: Path, mmproj: Path | None) -> Checkpoint:
    safetensors = list_files(folder, ".safetensors")
    ggufs = list_files(folder, ".gguf")
    if safetensors and ggufs:
        raise two_models(folder, safetensors[0], ggufs[0])
    if safetensors:
        return _open_safetensors(folder, mmproj)
    if ggufs:
        return _bound(find_in_folder(folder, ggufs, mmproj), "gguf")
    raise unknown_file(folder)


def _is_gguf(path: Path) -> bool:
    """Whether the file says so in its first letters; Ollama stores models under names without an ending."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError as error:
        raise unreadable(path, error) from error


def _open_safetensors(path: Path, mmproj: Path | None) -> Checkpoint:
    if mmproj is not None:
        raise CheckpointError(
            f"{mmproj} cannot be joined with {path}.",
            "An mmproj file is the vision tower of a GGUF model; safetensors carry their own.",
            "Leave the mmproj file out.",
        )
    files, index = safetensors_files(path)
    return _bound(open_files(files, index), "safetensors")


def _bound(model: ModelFile, format: Literal["safetensors", "gguf"]) -> Checkpoint:
    bound = bind(model.inventory)
    return Checkpoint(
        name=model.name,
        format=format,
        config=bound.config,
        tensors=bound.tensors,
        ignored=bound.ignored,
        notes=model.notes + bound.notes,
        files=tuple(file.path for file in model.mapped),
        metadata=model.metadata,
        tokenizer_json=model.tokenizer_json,
        chat_template=model.chat_template,
        eos_token_ids=model.eos_token_ids,
        size_label=model.size_label,
        mapped=model.mapped,
    )
