"""Memory plan: the bytes a model needs, computed before loading, and the share left for states.

The engine allocates within the plan and refuses what does not fit. Python and its libraries are counted as they stand
when the plan is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from loqal.errors import CapacityError
from loqal.model.config import ModelConfig
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.model.tensor_names import entries
from loqal.model.vision_tower import VisionTower
from loqal.ops.backends.counting import BlockCount, CountingOps, hollow
from loqal.ops.interface import JOURNAL_ROWS, PAGE_TOKENS, Ops
from loqal.state.state_sizes import journal_bytes, kv_token_bytes, page_bytes, slot_bytes, slot_group
from loqal.system.memory import machine_bytes, resident_bytes

__all__ = [
    "MemoryPlan",
    "account",
    "default_context_len",
    "default_kv_bits",
    "kv_token_bytes",
    "make_plan",
]

_SHARE_FOR_STATES = 4  # unless told otherwise, states may fill a quarter of the memory
_FLOAT_BYTES = 4
_QUANTISED_BYTES = 2  # an activation as int8 with the scale and sums of its run of 32
LOGIT_ROWS = 8  # whole rows of logits at a time: as many as share one reading of the head
_BOOKKEEPING_BYTES = 8 << 20  # Python's objects and the threads' stacks, measured
_DRAFT_IDS = 1024  # of the vocabulary that the draft head copies


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes by purpose. Pages and slots share ``state_bytes``; the rest is the prefix cache."""

    limit_bytes: int
    process_bytes: int  # taken before loading
    weight_bytes: int
    draft_head_bytes: int
    scratch_bytes: int  # the largest step
    image_bytes: int  # encoded pictures that are kept
    journal_bytes: int
    state_bytes: int
    page_bytes: int
    slot_bytes: int
    slot_group: int  # slots that are taken from the system and given back together
    context_len: int
    max_sequences: int
    vision_bytes: int = 0  # weights of the vision tower
    picture_bytes: int = 0  # for pictures while they are read; smaller than the largest allowed where memory is short

    @property
    def fixed_bytes(self) -> int:
        """Bytes of everything but states and media that are being decoded."""
        return (
            self.process_bytes
            + self.weight_bytes
            + self.vision_bytes
            + self.draft_head_bytes
            + self.scratch_bytes
            + self.image_bytes
            + self.journal_bytes
        )

    @property
    def total_bytes(self) -> int:
        """All bytes."""
        return self.fixed_bytes + self.picture_bytes + self.state_bytes

    def filled_bytes(self, num_sequences: int, context_len: int) -> int:
        """Resident bytes with so many sequences of so many tokens each, when no image was read."""
        pages = -(-context_len // PAGE_TOKENS)
        slots = -(-num_sequences // self.slot_group) * self.slot_group
        states = num_sequences * pages * self.page_bytes + slots * self.slot_bytes
        return self.fixed_bytes - self.image_bytes + states

    @property
    def required_bytes(self) -> int:
        """Share of ``state_bytes`` for one full context, and a slot and a page for each other running sequence."""
        pages = -(-self.context_len // PAGE_TOKENS) + self.max_sequences
        slots = -(-self.max_sequences // self.slot_group) * self.slot_group
        return pages * self.page_bytes + slots * self.slot_bytes

    @property
    def cache_bytes(self) -> int:
        """Share of ``state_bytes`` left for the prefix cache when one context is full."""
        return self.state_bytes - self.required_bytes

    @property
    def num_pages(self) -> int:
        """Maximum number of pages."""
        return self.state_bytes // self.page_bytes

    @property
    def num_slots(self) -> int:
        """Maximum number of slots."""
        return max(self.max_sequences, self.state_bytes // max(self.slot_bytes, 1))

    def largest_context(self) -> int:
        """Maximum tokens of one sequence within the limit."""
        others = self.max_sequences * (self.slot_bytes + self.page_bytes)
        return max(0, (self.limit_bytes - self.fixed_bytes - others) // self.page_bytes * PAGE_TOKENS)

    def most_sequences(self) -> int:
        """Maximum number of sequences of ``context_len`` tokens each within the limit."""
        each = self.slot_bytes + -(-self.context_len // PAGE_TOKENS) * self.page_bytes
        return max(0, (self.limit_bytes - self.fixed_bytes) // each)

    def lines(self) -> list[str]:
        """The plan as a table."""
        parts = (
            ("limit", self.limit_bytes),
            ("Python and libraries", self.process_bytes),
            ("weights", self.weight_bytes),
            ("vision tower", self.vision_bytes),
            ("draft head", self.draft_head_bytes),
            ("scratch memory of a step", self.scratch_bytes),
            ("cache of encoded images", self.image_bytes),
            ("an image while it is decoded", self.picture_bytes),
            ("speculation journal", self.journal_bytes),
            (f"a context of {self.context_len:,} tokens, {self.max_sequences} requests", self.required_bytes),
            ("prefix cache", self.cache_bytes),
            ("total", self.total_bytes),
        )
        table = [f"{name:48} {num_bytes:18,}" for name, num_bytes in parts]
        return [
            *table,
            f"{'largest context within the limit, tokens':48} {self.largest_context():18,}",
            f"{'full contexts within the limit':48} {self.most_sequences():18,}",
        ]


def default_kv_bits(weight_format: str) -> int:
    """Default bits of a stored key or value: 32 with F32 weights, else 16."""
    return 32 if weight_format == "F32" else 16


def default_context_len(config: ModelConfig, memory_bytes: int, kv_bits: int = 16) -> int:
    """The model's own context, or as many tokens as fit a quarter of the memory, in whole pages.

    Pages are reserved lazily, so a long context costs memory only as it is used.
    """
    affordable = memory_bytes // _SHARE_FOR_STATES // kv_token_bytes(config, kv_bits) // PAGE_TOKENS * PAGE_TOKENS
    return max(PAGE_TOKENS, min(config.context_len, affordable))


def account(
    config: ModelConfig,
    ops: Ops,
    format_of: Callable[[str], str],
    *,
    context_len: int,
    kv_bits: int,
    max_sequences: int,
    chunk_tokens: int,
    process_bytes: int,
    limit_bytes: int,
    drafts: bool = True,
    image_bytes: int = 0,
) -> MemoryPlan:
    """The bytes a model needs, whether it fits or not, from its shape and the formats of its tensors alone.

    Args: as for ``make_plan``; ``process_bytes`` is what Python takes before anything is loaded.
    """
    weights, vision, draft_head = _weights(config, ops, format_of)
    plan = MemoryPlan(
        limit_bytes=limit_bytes,
        process_bytes=process_bytes,
        weight_bytes=weights,
        vision_bytes=vision,
        draft_head_bytes=draft_head,
        scratch_bytes=_scratch(config, chunk_tokens),
        image_bytes=image_bytes,
        journal_bytes=max_sequences * JOURNAL_ROWS * journal_bytes(config) if drafts else 0,
        state_bytes=0,
        page_bytes=page_bytes(config, kv_bits),
        slot_bytes=slot_bytes(config),
        slot_group=slot_group(config),
        context_len=context_len,
        max_sequences=max_sequences,
    )
    return replace(plan, state_bytes=plan.required_bytes)


def make_plan(
    config: ModelConfig,
    ops: Ops,
    format_of: Callable[[str], str],
    *,
    context_len: int | None,
    kv_bits: int,
    max_sequences: int,
    chunk_tokens: int,
    cache_bytes: int | None = None,
    limit_bytes: int | None = None,
    drafts: bool = True,
    image_bytes: int = 0,
    picture_bytes: int = 0,
) -> MemoryPlan:
    """Plan a model.

    Args:
        format_of: the format of each tensor, by our names.
        context_len: None for the default, within the limit.
        cache_bytes: for the prefix cache; None for what is left of a quarter of the memory, or of a given limit.
        limit_bytes: most memory of the process; None for all that the machine or its container has.
        image_bytes: for encoded pictures that are kept.
        picture_bytes: what reading the largest picture takes. It gets at most half of what the others leave.

    Raises:
        CapacityError: it does not fit the limit; both numbers are given.
    """
    limit = limit_bytes or machine_bytes()
    plan = account(
        config,
        ops,
        format_of,
        context_len=context_len or default_context_len(config, limit, kv_bits),
        kv_bits=kv_bits,
        max_sequences=max_sequences,
        chunk_tokens=chunk_tokens,
        process_bytes=resident_bytes(),
        limit_bytes=limit,
        drafts=drafts,
        image_bytes=image_bytes,
    )
    if context_len is None:
        plan = replace(plan, context_len=max(PAGE_TOKENS, min(plan.context_len, plan.largest_context())))
    needed = plan.fixed_bytes + plan.required_bytes + (cache_bytes or 0)
    if needed > limit:
        raise CapacityError(
            f"The model takes {needed:,} bytes with a context of {plan.context_len:,} tokens.",
            f"It may take {limit:,} bytes, of which {plan.fixed_bytes:,} are needed without any context.",
            f"At most {plan.largest_context():,} tokens of context fit; or choose fewer sequences, or a smaller model.",
        )
    picture_bytes = min(picture_bytes, (limit - needed) // 2)
    if cache_bytes is None:
        room = limit - needed - picture_bytes
        cache_bytes = max(0, room if limit_bytes else min(room, limit // _SHARE_FOR_STATES - plan.required_bytes))
    return replace(plan, picture_bytes=picture_bytes, state_bytes=plan.required_bytes + cache_bytes)


def _weights(config: ModelConfig, ops: Ops, format_of: Callable[[str], str]) -> tuple[int, int, int]:
    """Bytes of decoder, vision tower and draft head: what the backend allocates for them."""
    tensors = {entry.name: hollow(entry.name, format_of(entry.name), entry.shape) for entry in entries(config)}
    counting: Any = CountingOps(ops)
    trunk = Decoder(config, counting, tensors)
    trunk_bytes = counting.num_bytes
    if config.vision is not None:
        VisionTower(config.vision, counting, tensors)
    vision_bytes = counting.num_bytes - trunk_bytes
    if config.num_draft_layers:
        DraftHead(trunk, tensors)
        head = "embed" if config.tied_head else "output"
        # Panels of 16 rows around each id that requests have shown.
        counting.num_bytes += 16 * min(_DRAFT_IDS, config.vocab_size // 16) * _row_bytes(config, ops, format_of(head))
    return trunk_bytes, vision_bytes, counting.num_bytes - trunk_bytes - vision_bytes


def _row_bytes(config: ModelConfig, ops: Ops, format: str) -> int:
    return ops.weight_bytes(format, (16, config.width)) // 16


def _scratch(config: ModelConfig, rows: int) -> int:
    """Scratch memory in bytes of a step of so many rows, and of the logits of some rows.

    Blocks of results are kept for the next step, so what counts are the blocks of every place of a step: those alive
    together while a mixer, the feed-forward network or the head runs.
    """
    width, values, heads = config.width, config.value_width, config.num_heads * config.head_dim
    floats, codes = _FLOAT_BYTES * rows, _QUANTISED_BYTES * rows
    shared = [floats * width, floats * width, codes * width]  # the residual, its norm, and that quantized
    places = []
    if "delta" in config.layers:
        places.append([*shared, floats * config.conv_channels, floats * values, floats * values, codes * values])
    keys = floats * config.num_kv_heads * config.head_dim
    places.append([*shared, floats * 2 * heads, keys, keys, floats * heads, floats * heads])
    if config.experts:
        experts = config.experts
        inner = experts.num_experts + experts.expert_width
        places.append([*shared, floats * inner, *[floats * width] * (1 + experts.num_active)])
    else:
        inner = config.ffn_width or 0
        places.append([*shared, floats * inner, codes * inner])
    places.append([LOGIT_ROWS * config.vocab_size * _FLOAT_BYTES])
    blocks = BlockCount()
    for place in places * 2:  # the second step finds what the first one left
        blocks.use(place)
    return blocks.num_bytes + _BOOKKEEPING_BYTES
