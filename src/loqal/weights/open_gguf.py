"""A GGUF checkpoint: the parts of a split set, a separate vision tower (mmproj), a separate draft head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loqal.errors import CheckpointError, FormatError, UnsupportedError
from loqal.formats.gguf_header import StringArray, is_projector
from loqal.formats.split_files import part_of
from loqal.model.config import ModelConfig
from loqal.model.sizes import size_label
from loqal.model.tensor_names import gguf_options
from loqal.weights.binding import Inventory, Located, ModelFile
from loqal.weights.config_gguf import read_config, read_vision
from loqal.weights.folder import parts, two_models
from loqal.weights.gguf import GgufHeader, read_header
from loqal.weights.mapped import MappedFile
from loqal.weights.source import StoredTensor

# Texts that end a turn or a document in this family, whatever single id a file declares.
_END_TEXTS = ("<|im_end|>", "<|endoftext|>")
_EOS_KEYS = ("eos_token_id", "eot_token_id", "eos_token_ids")


@dataclass(frozen=True, slots=True)
class _File:
    """One GGUF file, or one split set: metadata of the first part, tensors of all."""

    path: Path
    metadata: dict[str, Any]
    located: dict[str, Located]
    mapped: tuple[MappedFile, ...]

    @property
    def is_projector(self) -> bool:
        return is_projector(self.metadata)

    @property
    def is_draft_only(self) -> bool:
        """A file with the draft head and copies of the embedding, but no layers."""
        names = self.located
        return "blk.0.attn_norm.weight" not in names and any(n.endswith(".nextn.eh_proj.weight") for n in names)


def open_model(path: Path, mmproj: Path | None) -> ModelFile:
    """Open the model in ``path``, with the vision tower in ``mmproj`` if given."""
    model = _read(path)
    if model.is_projector:
        raise UnsupportedError(
            f"{path} is the vision tower (mmproj) of a model.",
            "It has no language model.",
            "Open the model's own file.",
        )
    if model.is_draft_only:
        raise UnsupportedError(
            f"{path} is the draft head of a model.",
            "It speeds another file up and cannot answer by itself.",
            "Open the model's own file, or a folder with both.",
        )
    return _join(model, _read(mmproj) if mmproj is not None else None, None)


def find_in_folder(folder: Path, files: list[Path], mmproj: Path | None) -> ModelFile:
    """Open the only model among ``files``, with the only vision tower and the only draft head beside it."""
    models: list[_File] = []
    projectors: list[_File] = []
    drafts: list[_File] = []
    for path in files:
        part = part_of(path.name)
        if part is not None and part.number != 1:
            continue
        file = _read(path)
        kind = projectors if file.is_projector else drafts if file.is_draft_only else models
        kind.append(file)
        if len(models) > 1:
            raise two_models(folder, models[0].path, models[1].path)
    if not models:
        raise CheckpointError(
            f"{folder} holds no language model.",
            f"{files[0].name} is only a part of one.",
            "Fetch the model's own file.",
        )
    if mmproj is not None:
        projectors = [_read(mmproj)]
    if len(projectors) > 1:
        first, second = projectors[:2]
        raise CheckpointError(
            f"{folder} holds more than one vision tower.",
            f"They are {first.path.name} and {second.path.name}.",
            "Name the one to use as mmproj.",
        )
    if len(drafts) > 1:
        first, second = drafts[:2]
        raise CheckpointError(
            f"{folder} holds more than one draft head.",
            f"They are {first.path.name} and {second.path.name}.",
            "Keep one of them.",
        )
    return _join(models[0], projectors[0] if projectors else None, drafts[0] if drafts else None)


def _read(path: Path) -> _File:
    """Read the file, and the other parts if it is one of a split set."""
    file = MappedFile(path)
    header = read_header(file.view, str(path))
    kind = header.metadata.get("general.type", "model")
    if not _is(kind, "model") and not _is(kind, "mmproj"):
        raise UnsupportedError(
            f"{path} is of the type {ascii(kind)[:100]}.",
            "loqal opens models and vision towers.",
            "Open the model's file.",
        )
    count = header.metadata.get("split.count", 1)
    if type(count) is not int or count <= 1:
        located = {tensor.name: Located(file, tensor) for tensor in header.tensors}
        return _File(path, header.metadata, located, (file,))
    mapped = tuple(MappedFile(part) for part in parts(path, count))
    headers = [read_header(part.view, str(part.path)) for part in mapped]
    return _File(path, headers[0].metadata, _joined_parts(mapped, headers), mapped)


def _joined_parts(mapped: tuple[MappedFile, ...], headers: list[GgufHeader]) -> dict[str, Located]:
    located: dict[str, Located] = {}
    for number, (file, header) in enumerate(zip(mapped, headers, strict=True)):
        keys = header.metadata
        if not _is(keys.get("split.no"), number) or not _is(keys.get("split.count"), len(mapped)):
            raise FormatError(
                f"{file.path} says it is part {keys.get('split.no')} of {keys.get('split.count')}.",
                f"Its name says {number} of {len(mapped)}, counted from 0.",
                "Fetch all parts again.",
            )
        for tensor in header.tensors:
            if tensor.name in located:
                raise FormatError(
                    f"{tensor.name} is in two parts of {mapped[0].path}.",
                    "One of them is not a part of this model.",
                    "Fetch all parts again.",
                )
            located[tensor.name] = Located(file, tensor)
    declared = headers[0].metadata.get("split.tensors.count", len(located))
    if not _is(declared, len(located)):
        raise FormatError(
            f"The parts of {mapped[0].path} hold {len(located)} tensors.",
            f"The first part announces {declared}.",
            "Fetch all parts again.",
        )
    return located


def _join(model: _File, projector: _File | None, draft: _File | None) -> ModelFile:
    tensors = _stored(model)
    config = read_config(model.metadata, tensors, str(model.path))
    located, notes = dict(model.located), []
    reasons: dict[str, str] = {}
    mapped = model.mapped
    block = f"blk.{len(config.layers)}."
    if draft is not None:
        if any(name.startswith(block) for name in located):
            notes.append(f"{draft.path.name} is not used: {model.path.name} has a draft head.")
        else:
            config = dataclasses.replace(config, num_draft_layers=1)
            for name, found in draft.located.items():
                if name in located:
                    reasons[f"{draft.path.name}: {name}"] = f"{model.path.name} has it too"
                    located[f"{draft.path.name}: {name}"] = found
                else:
                    located[name] = found
            mapped += draft.mapped
    if projector is not None:
        if config.vision is not None:
            raise CheckpointError(
                f"{model.path} has a vision tower of its own.",
                f"{projector.path.name} is a second one.",
                f"Leave {projector.path.name} out.",
            )
        config = _with_vision(config, projector, located)
        mapped += projector.mapped
    inventory = Inventory(
        where=str(model.path),
        config=config,
        located=located,
        options=lambda entry: gguf_options(entry, config),
        ignore=reasons.get,
        optional=("draft",),
        leading_ones=True,
    )
    title, template = model.metadata.get("general.name"), model.metadata.get("tokenizer.chat_template")
    label = model.metadata.get("general.size_label")
    return ModelFile(
        name=title if isinstance(title, str) and title else model.path.stem,
        inventory=inventory,
        metadata=model.metadata,
        chat_template=template if isinstance(template, str) else None,
        eos_token_ids=_eos_token_ids(model.metadata),
        size_label=size_label(config) or (label if isinstance(label, str) else None),
        notes=tuple(notes),
        mapped=mapped,
    )


def _is(value: Any, wanted: str | int) -> bool:
    """Whether a metadata value, which may be an array, is the given text or number."""
    return type(value) is type(wanted) and bool(value == wanted)


def _stored(file: _File) -> dict[str, StoredTensor]:
    return {name: found.tensor for name, found in file.located.items()}


def _with_vision(config: ModelConfig, projector: _File, located: dict[str, Located]) -> ModelConfig:
    if not projector.is_projector:
        raise UnsupportedError(
            f"{projector.path} is not a vision tower.",
            f"Its architecture is {ascii(projector.metadata.get('general.architecture'))[:100]}, not clip.",
            "Name the mmproj file published with this model.",
        )
    vision = read_vision(projector.metadata, str(projector.path))
    if vision.out_width != config.width:
        raise UnsupportedError(
            f"{projector.path} belongs to another model.",
            f"Its output has width {vision.out_width}, the model's width is {config.width}.",
            "Name the mmproj file published with this model.",
        )
    for name, found in projector.located.items():
        if name in located:
            raise FormatError(
                f"{name} is in {projector.path} and in the model.", "Only one can be meant.", "Use another mmproj file."
            )
        located[name] = found
    return dataclasses.replace(config, vision=vision)


def _eos_token_ids(metadata: dict[str, Any]) -> tuple[int, ...]:
    found: list[Any] = []
    for key in _EOS_KEYS:
        value = metadata.get(f"tokenizer.ggml.{key}")
        found += value.tolist() if isinstance(value, np.ndarray) else [value]
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, StringArray):
        found += [tokens.find(text) for text in _END_TEXTS]
    return tuple(dict.fromkeys(i for i in found if type(i) is int and i >= 0))
