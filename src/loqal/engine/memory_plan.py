"""How many tokens of context a machine can keep."""

from __future__ import annotations

import os
from pathlib import Path

from ..model.config import ModelConfig
from ..ops.interface import KV_BLOCK, PAGE_TOKENS

_SHARE_FOR_KV = 4  # keys and values may fill a quarter of the memory
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def default_kv_bits(weight_format: str) -> int:
    """How keys and values are kept unless told otherwise: as exactly as float32 weights deserve, else float16."""
    return 32 if weight_format == "F32" else 16


def kv_token_bytes(config: ModelConfig, kv_bits: int = 16) -> int:
    """Bytes of keys and values of one position, over all attention layers and the draft head."""
    num_layers = config.layers.count("attention") + config.num_draft_layers
    values = num_layers * 2 * config.num_kv_heads * config.head_dim
    scale_bytes = 2 * values // KV_BLOCK if kv_bits == 8 else 0
    return values * kv_bits // 8 + scale_bytes


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
