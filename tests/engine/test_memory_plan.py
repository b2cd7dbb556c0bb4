"""The plan: exact sums, what fits a limit, and refusals with both numbers. And positions stretched on request."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from loqal import settings
from loqal.engine import memory_plan
from loqal.engine.memory_plan import MemoryPlan, make_plan
from loqal.errors import CapacityError, RequestError
from loqal.model.config import ModelConfig
from loqal.model.sizes import SIZES
from loqal.ops.backends.cpu import CpuOps
from loqal.runtime import assembly
from loqal.state import state_sizes
from loqal.system import memory

OPS = CpuOps(threads=1)
GIB = 2**30


def plan_of(size: str, **given: int | None) -> MemoryPlan:
    arguments = {"context_len": 4096, "kv_bits": 16, "max_sequences": 4, "chunk_tokens": 512, "limit_bytes": 64 * GIB}
    config = dataclasses.replace(SIZES[size], vision=None)
    return make_plan(config, OPS, lambda name: "Q8_0", **(arguments | given))


@pytest.mark.parametrize("size", ["0.8B", "4B", "27B", "35B-A3B"])
def test_the_sum_is_the_parts(size: str) -> None:
    plan = plan_of(size)
    assert plan.total_bytes == plan.fixed_bytes + plan.required_bytes + plan.cache_bytes + plan.picture_bytes
    assert plan.total_bytes <= plan.limit_bytes
    assert plan.num_pages * plan.page_bytes <= plan.state_bytes


def test_the_table_shows_every_part() -> None:
    plan = plan_of("4B")
    shown = [int(line.split()[-1].replace(",", "")) for line in plan.lines()]
    parts = (plan.process_bytes, plan.weight_bytes, plan.scratch_bytes, plan.required_bytes, plan.cache_bytes)
    assert {plan.limit_bytes, *parts, plan.total_bytes, plan.largest_context(), plan.most_sequences()} <= set(shown)
    at = len(shown) - 1 - shown[::-1].index(plan.total_bytes)
    assert sum(shown[1:at]) == plan.total_bytes
    assert len({line.rsplit(maxsplit=1)[0] for line in plan.lines()}) == len(plan.lines())


def test_known_sizes() -> None:
    plan = plan_of("0.8B", cache_bytes=0)
    assert plan.slot_bytes == 18 * 4 * (16 * 128 * 128 + 3 * 6144)  # about 19 MiB
    assert plan.page_bytes == 64 * 14 * 1024
    assert plan.required_bytes == (64 + 4) * plan.page_bytes + 4 * plan.slot_bytes
    # 8-bit codes and one float16 scale for 32 of them, as in the file.
    text = sum(
        rows * inputs * 34 // 32
        for rows, inputs in ((248320, 1024), *[(3584, 1024)] * 48, *[(1024, 3584)] * 24, *[(6144, 1024)] * 18)
    )
    assert text < plan.weight_bytes < 1.35 * text


def test_the_largest_context_fits_and_one_page_more_does_not() -> None:
    plan = plan_of("4B", limit_bytes=8 * GIB, cache_bytes=0)
    largest = plan.largest_context()
    assert plan_of("4B", limit_bytes=8 * GIB, cache_bytes=0, context_len=largest - 64).total_bytes <= 8 * GIB
    with pytest.raises(CapacityError, match=r"\d+,\d+ bytes[\s\S]*8,589,934,592 bytes"):
        plan_of("4B", limit_bytes=8 * GIB, cache_bytes=0, context_len=largest + 6400)


def test_reading_pictures_gets_at_most_half_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "resident_bytes", lambda: GIB // 8)  # whatever else this process has done
    plan = plan_of("0.8B", limit_bytes=2 * GIB, picture_bytes=4 * GIB)
    left = plan.limit_bytes - plan.fixed_bytes - plan.required_bytes
    assert plan.picture_bytes == left // 2 and plan.total_bytes == plan.limit_bytes
    assert plan_of("0.8B", picture_bytes=GIB).picture_bytes == GIB


def test_users() -> None:
    plan = plan_of("0.8B", limit_bytes=4 * GIB)
    users = plan.most_sequences()
    each = plan.slot_bytes + 64 * plan.page_bytes
    assert plan.fixed_bytes + users * each <= 4 * GIB < plan.fixed_bytes + (users + 1) * each


def test_a_limit_decides_the_context_when_nobody_else_does() -> None:
    plan = plan_of("9B", context_len=None, limit_bytes=12 * GIB)
    assert 64 <= plan.context_len < SIZES["9B"].context_len
    assert plan.total_bytes <= 12 * GIB


def test_limits_of_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{3 * GIB}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 16 * GIB // 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert memory.machine_bytes() == 3 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.machine_bytes() == 16 * GIB


def stretched(config: ModelConfig, **given: object) -> ModelConfig:
    return assembly.effective_config(config, settings.resolve(given, {}))


def test_a_longer_context_has_to_be_asked_for() -> None:
    config = SIZES["4B"]
    with pytest.raises(RequestError, match=r"300000[\s\S]*262144[\s\S]*yarn"):
        stretched(config, context_len=300_000)
    assert stretched(config, context_len=300_000, yarn=2).context_len == 524_288
    longest = stretched(config, context_len=1_010_000, yarn=4)
    assert longest.context_len == 1_010_000
    assert longest.rope.yarn is not None
    assert (longest.rope.yarn.factor, longest.rope.yarn.original_context) == (4.0, 262_144)
    with pytest.raises(RequestError, match="1010000"):
        stretched(config, context_len=1_010_001, yarn=4)
    with pytest.raises(RequestError, match="already"):
        stretched(longest, yarn=2)


def test_guesses_can_be_left_out() -> None:
    assert stretched(SIZES["4B"], drafts="off") == dataclasses.replace(SIZES["4B"], num_draft_layers=0)


def test_a_million_tokens_are_planned() -> None:
    config = stretched(SIZES["4B"], context_len=1_010_000, yarn=4)
    plan = make_plan(
        config,
        OPS,
        lambda name: "Q4_K",
        context_len=1_010_000,
        kv_bits=8,
        max_sequences=1,
        chunk_tokens=512,
        limit_bytes=64 * GIB,
    )
    assert plan.required_bytes > 1_010_000 * state_sizes.kv_token_bytes(config, 8)
