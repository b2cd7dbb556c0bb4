"""How many tokens of context a machine can keep."""

from __future__ import annotations

import os
from pathlib import Path

from ..model.config import ModelConfig
from ..ops.interface import PAGE_TOKENS

_KV_VALUE_BYTES = 2  # float16
_SHARE_FOR_KV = 4  # keys and values may fill a quarter of the memory
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def kv_token_bytes(config: ModelConfig) -> int:
    """Bytes of keys and values of one position, over all attention layers and the draft head."""
    num_layers = config.layers.count("attention") + config.num_draft_layers
    return num_layers * 2 * config.num_kv_heads * config.head_dim * _KV_VALUE_BYTES


def machine_bytes() -> int:
    """Memory this process may use: the machine's, or less where a container limits it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CGROUP_LIMITS:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return total


def default_context_len(config: ModelConfig, memory_bytes: int) -> int:
    """The model's own context, or as many tokens as fit a quarter of the memory, in whole pages.

    Pages are reserved lazily, so a long context costs memory only as it is used.
    """
    affordable = memory_bytes // _SHARE_FOR_KV // kv_token_bytes(config) // PAGE_TOKENS * PAGE_TOKENS
    return max(PAGE_TOKENS, min(config.context_len, affordable))
