"""The memory a running model takes, line by line.

This is the one place that knows what the engine keeps: whoever changes that changes ``lines`` with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..model.config import ModelConfig
from ..ops.interface import PAGE_TOKENS
from ..state import sizes
from .kernel_rates import CHUNK_TOKENS
from .shapes import Weights

_PROGRAM_BYTES = 60_000_000  # Python, NumPy, the kernels and what they keep at hand, measured
_VOCABULARY_BYTES = 60  # a row of the vocabulary: tokens, merges and their index, measured
_KEPT_BLOCKS = 27_000_000  # results of a step that are kept for the next one, beyond the widest place, measured
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One part of the memory and what it is for."""

    name: str
    size_bytes: int
    why: str


def lines(
    config: ModelConfig,
    weights: Weights,
    packed_bits: Mapping[str, float],
    *,
    context_len: int,
    users: int,
    kv_bits: int,
) -> list[Line]:
    """What is resident with ``users`` sequences of ``context_len`` tokens each.

    ``packed_bits`` is what a weight of each format takes once it is packed for the kernels.
    """
    packed = sum(weights.total(format) * packed_bits[format] / 8 for format in weights.formats)
    pages = -(-context_len // PAGE_TOKENS) * users
    kv, state = pages * sizes.page_bytes(config, kv_bits), users * sizes.slot_bytes(config)
    vocabulary = config.vocab_size * _VOCABULARY_BYTES
    formats = " ".join(weights.formats)
    return [
        Line("weights", int(packed * weights.scale) + weights.small * _FLOAT, f"packed for the kernels: {formats}"),
        Line("keys and values", kv, f"{pages} pages of {PAGE_TOKENS} tokens, {kv_bits} bits"),
        Line("recurrent states", state, f"{users} of {sizes.slot_bytes(config) / 1e6:.1f} MB, whatever the context"),
        Line("working memory", working_bytes(config, min(CHUNK_TOKENS, context_len)), "the arrays of a step"),
        Line("program", _PROGRAM_BYTES + vocabulary, "Python, the kernels, and the vocabulary"),
    ]


def total(parts: Sequence[Line]) -> int:
    """The sum."""
    return sum(line.size_bytes for line in parts)


def working_bytes(config: ModelConfig, tokens: int) -> int:
    """The arrays that are alive at the widest place of a step, and the logits of a row."""
    shape = config.delta_shape
    width, values = config.width, shape.num_value_heads * shape.value_dim
    channels = 2 * shape.num_key_heads * shape.key_dim + values
    mixer = channels + 3 * values
    inner = config.ffn_width or (config.experts.shared_width + config.experts.expert_width if config.experts else 0)
    return _KEPT_BLOCKS + tokens * _FLOAT * (4 * width + max(mixer, 0) + 2 * inner) + config.vocab_size * _FLOAT
