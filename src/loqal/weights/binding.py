"""Binds the tensors of the model to those of the files: every one is used, ignored for a stated reason, or an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loqal.errors import TensorError
from loqal.formats.table import num_bytes
from loqal.model.config import ModelConfig
from loqal.model.tensor_names import Entry, Option, Part, Resolution, entries, resolve
from loqal.weights.convert import apply, choose_conversion
from loqal.weights.mapped import MappedFile
from loqal.weights.source import StoredTensor, Tensor


@dataclass(frozen=True, slots=True)
class Located:
    """A stored tensor and the file it is in."""

    file: MappedFile
    tensor: StoredTensor


@dataclass(frozen=True, slots=True)
class IgnoredTensor:
    """A tensor of the file that the model does not use, and why that is right."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """The tensors that the headers of a checkpoint declare, and how the model's may be made of them.

    ``options`` gives the ways this vocabulary may store an entry, ``ignore`` the reason to skip an unused name or
    ``None``, and ``optional`` the parts that a file may lack as a whole. ``leading_ones`` is true for GGUF, which makes
    no difference between shapes that differ in leading axes of length 1.
    """

    where: str
    config: ModelConfig
    located: Mapping[str, Located]
    options: Callable[[Entry], Iterable[Option]]
    ignore: Callable[[str], str | None]
    optional: tuple[Part, ...]
    leading_ones: bool


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the headers, and the JSON files beside them, say of a model; fields as in ``load.Checkpoint``."""

    name: str
    inventory: Inventory
    metadata: dict[str, Any]
    chat_template: str | None
    eos_token_ids: tuple[int, ...]
    size_label: str | None
    mapped: tuple[MappedFile, ...]
    tokenizer_json: bytes | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Recipe:
    entry: Entry
    option: Option
    sources: tuple[Located, ...]
    format: str


class CheckpointTensors(Mapping[str, Tensor]):
    """The tensors of a model by our names.

    Reading one converts it anew when its stored form is not ours, so read each once; the others are views of the
    mapped files. Reading one also releases the file's pages of the one before, so that packing a model into a
    backend's layout never holds file and layout in memory together.
    """

    def __init__(self, recipes: dict[str, _Recipe], config: ModelConfig) -> None:
        self._recipes, self._config = recipes, config
        self._last_read: tuple[Located, ...] = ()

    def __getitem__(self, name: str) -> Tensor:
        recipe = self._recipes[name]
        for source in self._last_read:
            source.file.release(source.tensor.offset, source.tensor.size_bytes)
        self._last_read = recipe.sources
        stored = [(s.tensor.format, s.file.array(s.tensor.offset, s.tensor.size_bytes)) for s in recipe.sources]
        data = apply(recipe.entry, recipe.option, stored, recipe.format, self._config)
        first = recipe.sources[0]
        return Tensor(name, recipe.format, recipe.entry.shape, data, f"{first.file.path.name}: {first.tensor.name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)

    def format(self, name: str) -> str:
        """The format ``self[name]`` will have, without touching its data."""
        return self._recipes[name].format

    def size_bytes(self, name: str) -> int:
        """The bytes ``self[name].data`` will have, without touching them."""
        recipe = self._recipes[name]
        return num_bytes(recipe.format, recipe.entry.shape)


@dataclass(frozen=True, slots=True)
class Binding:
    """The outcome: ``config`` without the optional parts the files lack, and a note for each of those."""

    config: ModelConfig
    tensors: CheckpointTensors
    ignored: tuple[IgnoredTensor, ...]
    notes: tuple[str, ...]


def bind(inventory: Inventory) -> Binding:
    """Match the model's tensors with the files' and check every shape and format.

    Raises:
        TensorError: a tensor is missing, unknown, or has another shape than the model.
        UnsupportedError: a tensor is stored in a way that cannot be converted.
    """
    resolution = resolve(entries(inventory.config), inventory.located.keys(), inventory.options)
    config, absent, notes = _without_absent_parts(inventory, resolution)
    missing = [entry for entry in resolution.missing if entry.part not in absent]
    if missing:
        raise _missing(inventory, missing)
    recipes = {}
    for name, (entry, option) in resolution.found.items():
        sources = tuple(inventory.located[source] for source in option.sources)
        for source in sources:
            _check_shape(entry, option, source, inventory)
        stored = [source.tensor for source in sources]
        format = choose_conversion(entry, option, stored, sources[0].file.path.name)
        recipes[name] = _Recipe(entry, option, sources, format)
    reasons = {name: inventory.ignore(name) for name in resolution.unused}
    unknown = [name for name, reason in reasons.items() if reason is None]
    if unknown:
        raise TensorError(
            f"{inventory.where} holds {len(unknown)} tensors that are not part of this model: {_some(unknown)}.",
            "Leaving them out could change its answers.",
            "Use an unmodified checkpoint of the Qwen 3.5 family.",
        )
    ignored = tuple(IgnoredTensor(name, reason) for name, reason in reasons.items() if reason is not None)
    return Binding(config, CheckpointTensors(recipes, config), ignored, notes)


def _without_absent_parts(
    inventory: Inventory, resolution: Resolution
) -> tuple[ModelConfig, set[Part], tuple[str, ...]]:
    """Finetuning tools drop the draft head or the vision tower and keep declaring it: such a part is left out whole."""
    config = inventory.config
    absent: set[Part] = set(inventory.optional) - {entry.part for entry, _ in resolution.found.values()}
    notes = []
    if "draft" in absent and config.num_draft_layers:
        config = dataclasses.replace(config, num_draft_layers=0)
        notes.append("A draft head is declared, but its tensors are missing: the model runs without it.")
    if "vision" in absent and config.vision is not None:
        config = dataclasses.replace(config, vision=None)
        notes.append("A vision tower is declared, but its tensors are missing: the model reads text only.")
    return config, absent, tuple(notes)


def _missing(inventory: Inventory, missing: Sequence[Entry]) -> TensorError:
    names = [f"{entry.name} (in safetensors {entry.hf}, in GGUF {entry.gguf})" for entry in missing[:4]]
    return TensorError(
        f"{inventory.where} lacks {len(missing)} tensors: {_some(names, len(missing))}.",
        f"The model it describes has {len(entries(inventory.config))} tensors, and runs only with all of them.",
        "Fetch all files of the checkpoint again.",
    )


def _check_shape(entry: Entry, option: Option, source: Located, inventory: Inventory) -> None:
    shape, wanted = source.tensor.shape, option.shape
    if inventory.leading_ones:
        shape, wanted = _strip(shape), _strip(wanted)
    if shape != wanted:
        raise TensorError(
            f"{source.file.path.name}: {source.tensor.name} has shape {source.tensor.shape}.",
            f"As {entry.name} of the model described by the file it must have shape {option.shape}.",
            "Fetch the checkpoint again: the file does not belong to its description.",
        )


def _strip(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _some(names: Sequence[str], count: int | None = None) -> str:
    count = len(names) if count is None else count
    shown = ", ".join(names[:3])
    return shown if count <= 3 else f"{shown}, and {count - 3} more"
