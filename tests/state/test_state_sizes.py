"""Bytes of states, against the memory that a backend takes for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loqal.model.sizes import SIZES
from loqal.ops.interface import KV_BLOCK, PAGE_TOKENS
from loqal.state import state_sizes
from loqal.testing.checkpoints import tiny_config
from state_rig import state_store


@pytest.mark.parametrize("num_draft_layers", [0, 1])
def test_a_slot_takes_what_its_arrays_take(num_draft_layers: int) -> None:
    config = tiny_config(num_draft_layers=num_draft_layers)
    store = state_store(num_draft_layers=num_draft_layers)
    assert store.slots.unit_bytes == state_sizes.slot_bytes(config)
    assert sum(array.nbytes for array in store.slot_memory(0)) == state_sizes.slot_bytes(config)
    assert store.pages.unit_bytes == state_sizes.page_bytes(config)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_a_token(size: str) -> None:
    config = replace(SIZES[size], num_draft_layers=0)
    values = sum(layer == "attention" for layer in config.layers) * 2 * config.num_kv_heads * config.head_dim
    assert state_sizes.kv_token_bytes(config) == 2 * values
    assert state_sizes.kv_token_bytes(config, 8) == values + 2 * values // KV_BLOCK  # a scale of two bytes a block
    drafting = replace(config, num_draft_layers=1)
    more = state_sizes.kv_token_bytes(drafting) - state_sizes.kv_token_bytes(config)
    assert more == 2 * 2 * config.num_kv_heads * config.head_dim
    assert state_sizes.page_bytes(config, 8) == PAGE_TOKENS * state_sizes.kv_token_bytes(config, 8)


@pytest.mark.parametrize("size", SIZES)
def test_slots_of_a_group_fill_a_huge_page(size: str) -> None:
    config = SIZES[size]
    one = config.num_value_heads * config.key_dim * config.value_dim * 4
    group = state_sizes.slot_group(config)
    assert group >= 1 and (group == 1 or group * one <= 2 << 20 < (group + 1) * one)


def test_a_journal_row_holds_the_inputs_of_the_delta_rule() -> None:
    config = tiny_config()
    shape = config.delta_shape
    heads = config.num_value_heads
    row = config.conv_channels + config.num_key_heads * shape.key_dim + heads * shape.value_dim + heads
    assert state_sizes.journal_bytes(config) == config.layers.count("delta") * row * 4
