"""The engine's plan of a model's memory for so many users, line by line. The model need not be on this machine."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from loqal.engine.memory_plan import MemoryPlan
from loqal.model.config import ModelConfig
from loqal.model.sizes import SIZES
from loqal.ops.choose import choose_ops
from loqal.ops.interface import PAGE_TOKENS, Ops
from loqal.performance.weight_mix import Weights, of_release
from loqal.runtime import memory_needs
from loqal.runtime.media_encoder import largest_reading_bytes


@dataclass(frozen=True, slots=True)
class Line:
    """One part of the memory and what it is for."""

    name: str
    size_bytes: int
    why: str


def account(
    config: ModelConfig,
    ops: Ops,
    weights: Weights,
    *,
    context_len: int,
    users: int,
    kv_bits: int,
    limit_bytes: int,
    image_bytes: int,
) -> MemoryPlan:
    """What the engine will plan for the model in a fresh process. ``image_bytes`` is for pictures that are kept.

    A published mixture that is not known to the tensor is scaled to the size of its file.
    """
    return memory_needs.account(
        config,
        ops,
        weights.by_name.__getitem__,
        num_merges=weights.num_merges,
        context_len=context_len,
        users=users,
        kv_bits=kv_bits,
        limit_bytes=limit_bytes,
        image_bytes=image_bytes,
        scale=weights.scale,
    )


@functools.cache
def needed_bytes(size: str | None, quant: str | None, file_bytes: int) -> int:
    """See ``hub.recommend.NeededBytes``.

    A file whose size is not known is taken for the published size whose file of this quantization is nearest in bytes.
    """
    quant = quant or "Q4_K_M"
    if size is None:
        published = {label: of_release(label, quant)[1].file_bytes for label in SIZES}
        size = min(published, key=lambda label: abs(math.log(published[label] / max(file_bytes, 1))))
    config, weights = of_release(size, quant)
    scale = weights.scale * file_bytes / weights.file_bytes
    ops = choose_ops("cpu", threads=1)
    merges = weights.num_merges
    return memory_needs.needed_bytes(config, ops, weights.by_name.__getitem__, num_merges=merges, scale=scale)


def lines(plan: MemoryPlan, formats: Sequence[str], users: int) -> list[Line]:
    """What is resident with ``users`` sequences of the plan's context each, no picture read.

    ``formats`` are those of the weights, with most values first.
    """
    pages = -(-plan.context_len // PAGE_TOKENS) * users
    slots = -(-users // plan.slot_group) * plan.slot_group
    together = f", which come in groups of {plan.slot_group}" if plan.slot_group > 1 else ""
    found = [
        Line("weights", plan.weight_bytes, f"packed for the kernels: {' '.join(formats)}"),
        Line("vision tower", plan.vision_bytes, "its weights"),
        Line("draft head", plan.draft_head_bytes, "its weights, and rows of the vocabulary"),
        Line("keys and values", pages * plan.page_bytes, f"{pages} pages of {PAGE_TOKENS} tokens"),
        Line(
            "recurrent states",
            slots * plan.slot_bytes,
            f"{slots} of {plan.slot_bytes / 1e6:.1f} MB{together}, at any context length",
        ),
        Line("speculation journal", plan.journal_bytes, "undo log of draft tokens"),
        Line("working memory", plan.scratch_bytes, "activations of a step, logits, and data about tokens"),
        Line("program", plan.process_bytes, "Python, the kernels, and the vocabulary"),
    ]
    return [line for line in found if line.size_bytes]


def most_users(plan: MemoryPlan, users: int, limit_bytes: int) -> int:
    """How many with the plan's context fit a limit. ``users`` are those of the plan."""
    group, journal = plan.slot_group, plan.journal_bytes // users
    each = -(-plan.context_len // PAGE_TOKENS) * plan.page_bytes + journal
    left = limit_bytes - (plan.fixed_bytes - plan.image_bytes - plan.journal_bytes)
    groups, left = divmod(max(0, left), group * (plan.slot_bytes + each))
    return groups * group + max(0, left - group * plan.slot_bytes) // each


def picture_lines(plan: MemoryPlan, config: ModelConfig) -> list[Line]:
    """What pictures take beyond that; less where memory is short."""
    reading = largest_reading_bytes(config.vision, {})
    found = [
        Line("encoded pictures", plan.image_bytes, "cache, at most (--media-cache-bytes)"),
        Line("reading a picture", reading, "at most, for the largest picture allowed"),
    ]
    return [line for line in found if line.size_bytes]
