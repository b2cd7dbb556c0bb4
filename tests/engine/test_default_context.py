"""The default context follows the model and the memory."""

from __future__ import annotations

import dataclasses

from loqal.engine import memory_plan
from loqal.model.sizes import SIZES
from loqal.system import memory

GIB = 2**30


def test_bytes_of_one_position() -> None:
    plain = dataclasses.replace(SIZES["0.8B"], num_draft_layers=0)
    assert memory_plan.kv_token_bytes(plain) == 12 * 1024
    assert memory_plan.kv_token_bytes(SIZES["0.8B"]) == 14 * 1024  # the draft head has an attention layer too


def test_a_large_machine_gets_the_models_own_context() -> None:
    for config in SIZES.values():
        assert memory_plan.default_context_len(config, 512 * GIB) == config.context_len


def test_a_small_machine_gets_what_fits_a_quarter_of_its_memory() -> None:
    config = SIZES["27B"]
    context_len = memory_plan.default_context_len(config, 16 * GIB)
    assert context_len % 64 == 0
    taken = context_len * memory_plan.kv_token_bytes(config)
    assert 3.9 * GIB < taken <= 4 * GIB


def test_no_machine_is_too_small_for_a_page() -> None:
    assert memory_plan.default_context_len(SIZES["27B"], 1024) == 64


def test_the_memory_of_this_machine() -> None:
    assert 2**26 < memory.machine_bytes() < 2**50
