"""Model info: the facts of a checkpoint, without reading its weights."""

from __future__ import annotations

from dataclasses import dataclass

from loqal.model.sizes import parameter_count
from loqal.weights.load import Checkpoint


@dataclass(frozen=True, slots=True)
class FormatShare:
    """The tensors of one quantization format."""

    format: str
    num_tensors: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IgnoredGroup:
    """Tensors of the files that are not used for one reason."""

    reason: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A checkpoint as ``loqal show`` and ``Runtime.info`` describe it."""

    name: str
    architecture: str
    size_label: str | None  # for example "4B"
    format: str  # of the files
    files: tuple[str, ...]
    file_bytes: int
    parameters: dict[str, int]  # see model.sizes.parameter_count
    num_delta_layers: int
    num_attention_layers: int
    width: int
    vocab_size: int
    context_len: int  # the model's own
    has_draft_head: bool
    has_vision: bool
    quantization: tuple[FormatShare, ...]  # most bytes first
    tokenizer: str
    template: str
    thinks_by_default: bool
    eos_token_ids: tuple[int, ...]
    ignored: tuple[IgnoredGroup, ...]
    notes: tuple[str, ...]


def describe(checkpoint: Checkpoint, *, tokenizer: str, template: str, thinks_by_default: bool) -> ModelInfo:
    """Describe an open checkpoint. What only the chat layer can tell is passed in."""
    config = checkpoint.config
    return ModelInfo(
        name=checkpoint.name,
        architecture="qwen35moe" if config.experts else "qwen35",
        size_label=checkpoint.size_label,
        format=checkpoint.format,
        files=tuple(str(path) for path in checkpoint.files),
        file_bytes=sum(path.stat().st_size for path in checkpoint.files),
        parameters=parameter_count(config),
        num_delta_layers=config.layers.count("delta"),
        num_attention_layers=config.layers.count("attention"),
        width=config.width,
        vocab_size=config.vocab_size,
        context_len=config.context_len,
        has_draft_head=config.num_draft_layers > 0,
        has_vision=config.vision is not None,
        quantization=_quantization(checkpoint),
        tokenizer=tokenizer,
        template=template,
        thinks_by_default=thinks_by_default,
        eos_token_ids=checkpoint.eos_token_ids,
        ignored=_ignored(checkpoint),
        notes=checkpoint.notes,
    )


def _quantization(checkpoint: Checkpoint) -> tuple[FormatShare, ...]:
    tensors = checkpoint.tensors
    counts: dict[str, tuple[int, int]] = {}
    for name in tensors:
        count, size_bytes = counts.get(tensors.format(name), (0, 0))
        counts[tensors.format(name)] = (count + 1, size_bytes + tensors.size_bytes(name))
    shares = [FormatShare(name, count, size_bytes) for name, (count, size_bytes) in counts.items()]
    return tuple(sorted(shares, key=lambda share: (-share.size_bytes, share.format)))


def _ignored(checkpoint: Checkpoint) -> tuple[IgnoredGroup, ...]:
    groups: dict[str, list[str]] = {}
    for tensor in checkpoint.ignored:
        groups.setdefault(tensor.reason, []).append(tensor.name)
    return tuple(IgnoredGroup(reason, tuple(names)) for reason, names in groups.items())
