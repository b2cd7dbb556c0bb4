"""How many tokens of context a machine can keep."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..model.config import ModelConfig
from ..ops.interface import PAGE_TOKENS
from ..state.sizes import kv_token_bytes, page_bytes, slot_bytes

__all__ = ["StateRoom", "default_context_len", "default_kv_bits", "kv_token_bytes", "machine_bytes", "plan_states"]

_SHARE_FOR_KV = 4  # keys and values may fill a quarter of the memory
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def default_kv_bits(weight_format: str) -> int:
    """How keys and values are kept unless told otherwise: as exactly as float32 weights deserve, else float16."""
    return 32 if weight_format == "F32" else 16


def machine_bytes() -> int:
    """Memory this process may use: the machine's, or less where a container limits it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CGROUP_LIMITS:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return total


def default_context_len(config: ModelConfig, memory_bytes: int, kv_bits: int = 16) -> int:
    """The model's own context, or as many tokens as fit a quarter of the memory, in whole pages.

    Pages are reserved lazily, so a long context costs memory only as it is used.
    """
    affordable = memory_bytes // _SHARE_FOR_KV // kv_token_bytes(config, kv_bits) // PAGE_TOKENS * PAGE_TOKENS
    return max(PAGE_TOKENS, min(config.context_len, affordable))


@dataclass(frozen=True, slots=True)
class StateRoom:
    """How much sequences may remember. Pages and slots share the bytes, so their numbers alone are no plan."""

    num_slots: int
    num_pages: int
    budget_bytes: int


def plan_states(
    config: ModelConfig, context_len: int, kv_bits: int, max_sequences: int, cache_bytes: int | None
) -> StateRoom:
    """Room for one full context, the recurrent states of all running sequences, and the prefix cache.

    Args:
        cache_bytes: None for as much as a quarter of the memory leaves.
    """
    page, slot = page_bytes(config, kv_bits), slot_bytes(config)
    required = (-(-context_len // PAGE_TOKENS) + max_sequences) * page + max_sequences * slot
    if cache_bytes is None:
        cache_bytes = max(0, machine_bytes() // _SHARE_FOR_KV - required)
    budget = required + cache_bytes
    return StateRoom(max(max_sequences, budget // max(slot, 1)), budget // page, budget)
