"""What a file holds, as far as memory and speed depend on it: which format every weight has, packed how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from loqal.formats import FORMATS
from loqal.hub import catalog
from loqal.model.config import ModelConfig
from loqal.model.sizes import SIZES
from loqal.model.tensor_names import Entry, entries
from loqal.quantize.recipes import RECIPES, STATE_GATES, Recipe, format_of
from loqal.weights.load import Checkpoint

_FLOAT_INPUTS = (*STATE_GATES, "experts.router", "experts.shared_router")


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a file by role and format, in values.

    ``scale`` is how much more or fewer bytes a published file has than the mixture it is taken for.
    """

    body: Mapping[str, int]  # format -> values every token multiplies with, the active experts' share
    idle: Mapping[str, int]  # experts a token does not pass through
    head: Mapping[str, int]
    embedding: Mapping[str, int]  # that is not the head: a token reads one row
    small: int  # values of vectors, kept in F32
    file_bytes: int
    by_name: Mapping[str, str]  # tensor -> format, with the vision tower
    num_merges: int  # of the vocabulary, which takes memory too
    scale: float = 1.0

    @property
    def formats(self) -> list[str]:
        """All formats, those of most values first."""
        totals: dict[str, int] = {}
        for group in (self.body, self.idle, self.head, self.embedding):
            for format, count in group.items():
                totals[format] = totals.get(format, 0) + count
        return sorted(totals, key=lambda format: -totals[format])

    def total(self, format: str) -> int:
        """Values of one format."""
        return sum(group.get(format, 0) for group in (self.body, self.idle, self.head, self.embedding))


def of_checkpoint(checkpoint: Checkpoint) -> tuple[ModelConfig, Weights]:
    """Shape and weights of a file that is here."""
    config = checkpoint.config
    formats = {entry.name: checkpoint.tensors.format(entry.name) for entry in entries(config)}
    weights = _weights(config, formats, sum(path.stat().st_size for path in checkpoint.files))
    merges = checkpoint.metadata.get("tokenizer.ggml.merges")
    return config, weights if merges is None else replace(weights, num_merges=len(merges))


def of_release(size: str, quant: str) -> tuple[ModelConfig, Weights]:
    """Shape and weights of a published file that need not be here; what is not in the catalog is estimated.

    With the vision tower that is fetched along, in F16.
    """
    config = replace(SIZES[size], num_draft_layers=0)
    recipe = _recipe(quant)
    formats = {entry.name: _published(recipe, entry, config) for entry in entries(config)}
    weights = _weights(config, formats, 0)
    estimated = sum(
        weights.total(format) * 8 * FORMATS[format].block_bytes // FORMATS[format].block_len // 8
        for format in weights.formats
    )
    file = catalog.releases()[size].file(quant)
    file_bytes = file.size_bytes if file else estimated + 4 * weights.small
    return config, replace(weights, file_bytes=file_bytes, scale=file_bytes / (estimated + 4 * weights.small))


def _published(recipe: Recipe, entry: Entry, config: ModelConfig) -> str:
    if entry.part == "vision":
        return "F32" if entry.f32 else "F16"
    return format_of(recipe, entry, config)


def _recipe(quant: str) -> Recipe:
    """The mixture a published name comes nearest to."""
    plain = catalog.plain_quant(quant)
    if plain in RECIPES:
        return RECIPES[plain]
    if plain in ("Q4_1", "Q8_K_XL"):
        return RECIPES["Q4_0" if plain == "Q4_1" else "Q8_0"]
    if plain.startswith("MXFP4"):
        return Recipe("MXFP4", "Q8_0", "Q8_0")
    base = next((name for name in FORMATS if plain.startswith(name)), None)
    if base is None:
        base = {"IQ2_M": "IQ2_S", "IQ3_M": "IQ3_S"}.get(plain, "Q" + plain[-4:])
    if base not in FORMATS:
        base = "Q4_K"
    return Recipe(base, "Q5_K", "Q5_K")


def _weights(config: ModelConfig, formats: Mapping[str, str], file_bytes: int) -> Weights:
    groups: dict[str, dict[str, int]] = {"body": {}, "idle": {}, "head": {}, "embedding": {}}
    small = 0

    def add(group: str, format: str, count: int) -> None:
        if count:
            groups[group][format] = groups[group].get(format, 0) + count

    for entry in entries(config):
        count, format = math.prod(entry.shape), formats[entry.name]
        if entry.part == "vision":  # a file of its own, and no part of a step
            continue
        if len(entry.shape) == 1 or entry.suffix == "delta.conv":
            small += count
        elif entry.part == "draft":  # packed with the rest, but no step multiplies with it yet
            add("idle", format, count)
        elif entry.name == "output" or (entry.name == "embed" and config.tied_head):
            add("head", format, count)
        elif entry.name == "embed":
            add("embedding", format, count)
        elif len(entry.shape) == 3 and config.experts is not None:
            active = count * config.experts.num_active // config.experts.num_experts
            add("body", format, active)
            add("idle", format, count - active)
        else:
            add("body", _kept(entry, format), count)
    return Weights(
        groups["body"],
        groups["idle"],
        groups["head"],
        groups["embedding"],
        small,
        file_bytes,
        formats,
        config.vocab_size,
    )


def _kept(entry: Entry, format: str) -> str:
    """Small weights that decide much get float32 inputs and are decoded for it."""
    return "F32" if entry.suffix in _FLOAT_INPUTS and not FORMATS[format].is_float else format
