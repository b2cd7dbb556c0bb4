"""Sizes of states in bytes, from the shape of a model alone."""

from __future__ import annotations

from loqal.model.config import ModelConfig
from loqal.ops.interface import KV_BLOCK, PAGE_TOKENS

_FLOAT_BYTES = 4
_HUGE_PAGE_BYTES = 2 << 20


def kv_token_bytes(config: ModelConfig, kv_bits: int = 16) -> int:
    """Bytes of keys and values of one position, over all attention layers and the draft head."""
    num_layers = config.layers.count("attention") + config.num_draft_layers
    values = num_layers * 2 * config.num_kv_heads * config.head_dim
    scale_bytes = 2 * values // KV_BLOCK if kv_bits == 8 else 0
    return values * kv_bits // 8 + scale_bytes


def page_bytes(config: ModelConfig, kv_bits: int = 16) -> int:
    """Bytes of one KV page over all layers."""
    return PAGE_TOKENS * kv_token_bytes(config, kv_bits)


def slot_bytes(config: ModelConfig) -> int:
    """Bytes of the recurrent state of one sequence, convolution tails included, over all layers."""
    values = config.num_value_heads * config.key_dim * config.value_dim + (config.conv_width - 1) * config.conv_channels
    return config.layers.count("delta") * values * _FLOAT_BYTES


def slot_group(config: ModelConfig) -> int:
    """Slots whose states of one layer share a huge page of memory, which comes and goes as a whole."""
    layer_bytes = config.num_value_heads * config.key_dim * config.value_dim * _FLOAT_BYTES
    return max(1, _HUGE_PAGE_BYTES // layer_bytes)


def journal_bytes(config: ModelConfig) -> int:
    """Bytes of one token that is kept out of the recurrent states, over all layers: see JournalRow in the kernels."""
    values = config.conv_channels + config.num_key_heads * config.key_dim + config.value_width + config.num_value_heads
    return config.layers.count("delta") * values * _FLOAT_BYTES
