"""Plans and diagnoses: true under a limit, with another instruction set, without models and with a damaged note."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

import loqal
from loqal.cli.main import main
from loqal.errors import RequestError
from loqal.hub import catalog, paths
from loqal.model.sizes import SIZES
from loqal.ops.backends.cpu import CpuOps
from loqal.performance import memory_report
from loqal.performance.kernel_rates import FormatRate, KernelRates
from loqal.performance.machine_speed import Machine
from loqal.performance.planner import Plan, Planner, PlanRequest
from loqal.performance.predict import predict
from loqal.performance.weight_mix import of_release
from loqal.state import state_sizes
from loqal.system import hardware
from loqal.system.hardware import Gpu

OPS = CpuOps(threads=1)
SPEED = Machine("a processor", "avx2", 2, 30.0, 1000.0, 400.0, "now")
FORMATS = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q4_0", "IQ4_NL", "IQ4_XS", "MXFP4")
BITS = dict(zip(FORMATS, (32, 16, 16, 8.5, 6.5625, 5.625, 4.625, 3.5, 2.75, 4.5, 4.5, 4.25, 4.25), strict=True))
RATES = KernelRates(10.0, 2.5, 0.7, {name: FormatRate(BITS[name], 30.0, 600.0) for name in FORMATS}, "now")


@pytest.fixture
def plain_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose measurements take no time."""
    monkeypatch.setattr("loqal.performance.machine_speed.measured", lambda ops, **more: replace(SPEED, isa=ops.isa))
    monkeypatch.setattr("loqal.performance.planner.measured", lambda *args, **more: RATES)


@pytest.mark.parametrize("size", SIZES)
def test_the_memory_is_the_engines_plan_and_grows_by_what_users_and_tokens_take(size: str) -> None:
    config, weights = of_release(size, "Q4_K_M")
    given = {"kv_bits": 16, "limit_bytes": 1 << 40, "image_bytes": 1 << 20}

    def needs(context: int, users: int) -> int:
        plan = memory_report.account(config, OPS, weights, context_len=context, users=users, **given)
        lines = memory_report.lines(plan, weights.formats, users)
        assert sum(line.size_bytes for line in lines) == plan.filled_bytes(users, context)
        return plan.filled_bytes(users, context)

    page, group = state_sizes.page_bytes(config, 16), state_sizes.slot_group(config)
    journals = 8 * state_sizes.journal_bytes(config)
    assert needs(4096, 2 * group) - needs(4096, group) == group * (
        64 * page + state_sizes.slot_bytes(config) + journals
    )
    assert needs(4097, 1) - needs(4096, 1) == page
    assert weights.scale == pytest.approx(1, abs=0.05)  # the mixture is the one that is published
    assert needs(64, 1) > weights.file_bytes * 0.99


def test_a_file_is_planned_as_the_engine_plans_it(
    home: Path, plain_speeds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Planner().plan("demo", PlanRequest(512, 2))
    monkeypatch.setattr("loqal.engine.memory_plan.resident_bytes", lambda: lines_of(planned)["program"])
    engine = loqal.plan(context_len=512, max_sequences=2, cache_bytes=0)
    assert planned.resident_bytes == engine.filled_bytes(2, 512)
    assert lines_of(planned)["weights"] == engine.weight_bytes


def lines_of(plan: Plan) -> dict[str, int]:
    return {line.name: line.size_bytes for line in plan.lines}


def test_a_file_of_unknown_size_needs_what_the_nearest_published_one_needs() -> None:
    for size in ("0.8B", "4B", "35B-A3B"):
        file = catalog.releases()[size].file("Q4_K_M")
        assert file is not None
        known = memory_report.needed_bytes(size, "Q4_K_M", file.size_bytes)
        assert memory_report.needed_bytes(None, "Q4_K_M", file.size_bytes) == known > file.size_bytes
        assert memory_report.needed_bytes(size, "Q4_K_M", 2 * file.size_bytes) > known + 0.9 * file.size_bytes


def test_speeds_follow_bytes_and_arithmetic() -> None:
    speeds = {}
    for size in ("0.8B", "2B", "4B", "35B-A3B"):
        for quant in ("Q4_K_M", "Q8_0"):
            config, weights = of_release(size, quant)
            speeds[size, quant] = predict(config, weights, RATES, SPEED, context=0, kv_bits=16)
    assert speeds["0.8B", "Q4_K_M"].decode > 1.4 * speeds["0.8B", "Q8_0"].decode
    assert speeds["35B-A3B", "Q4_K_M"].decode > speeds["4B", "Q4_K_M"].decode  # three billion of them are active
    config, weights = of_release("4B", "Q4_K_M")
    far = predict(config, weights, RATES, SPEED, context=100_000, kv_bits=16)
    assert (
        far.decode < speeds["4B", "Q4_K_M"].decode
        and far.keys_ms > 100
        and far.prefill < speeds["4B", "Q4_K_M"].prefill
    )


@pytest.mark.slow
def test_a_plan_fits_what_it_says(home: Path, plain_speeds: None) -> None:
    planner = Planner(memory_bytes=6 << 30)
    plan = planner.plan("qwen3.5:4b-q4_k_m", PlanRequest(8192, 2))
    limit = int(planner.memory_bytes * 0.9)
    assert plan.fits and plan.resident_bytes == sum(line.size_bytes for line in plan.lines) <= limit
    at_most = planner.plan("qwen3.5:4b-q4_k_m", PlanRequest(plan.largest_context, 2))
    assert at_most.fits and at_most.largest_context == plan.largest_context
    assert not planner.plan("qwen3.5:4b-q4_k_m", PlanRequest(plan.largest_context + 64, 2)).fits
    crowd = planner.plan("qwen3.5:4b-q4_k_m", PlanRequest(8192, plan.most_users))
    assert crowd.fits and not planner.plan("qwen3.5:4b-q4_k_m", PlanRequest(8192, plan.most_users + 1)).fits
    eight = planner.plan("qwen3.5:4b-q4_k_m", PlanRequest(8192, 2, 8))
    assert eight.resident_bytes < plan.resident_bytes
    assert planner.plan("qwen3.5:4b", PlanRequest()).quant is not None  # chosen for the machine
    assert planner.plan("demo", PlanRequest(256)).quant is None
    table = planner.all_releases()
    assert {plan.size for plan in table} == set(SIZES) and not table[-1].fits
    with pytest.raises(RequestError):
        planner.plan("demo", PlanRequest(0))


@pytest.mark.slow
def test_plan_under_a_limit(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], plain_speeds: None
) -> None:
    limit = home / "memory.max"
    limit.write_text(str(3 << 30))
    monkeypatch.setattr("loqal.system.memory._limit_files", lambda: [limit])
    assert main(["plan"]) == 0
    out = capsys.readouterr().out
    assert "3.22 GB of memory" in out and "does not fit" in out and "recommended" in out
    assert main(["plan", "qwen3.5:9b-q4_k_m", "--context", "32768", "--users", "4"]) == 0
    assert "does not fit" in capsys.readouterr().out
    assert main(["plan", "qwen3.5:9b-q4_k_m", "--memory", "64G", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["plans"][0]["fits"] and record["machine"]["memory_bytes"] == 64 << 30
    assert list(record["machine"])[:4] == ["cpu", "isa", "threads", "memory_bytes"]
    assert main(["plan", "--memory", "much"]) == 2
    limit.write_text("20000000")
    assert main(["plan"]) == 0 and "recommended" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_machine_is_measured_once_and_a_damaged_note_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loqal.system.hardware.largest_cache_bytes", lambda: 0)
    monkeypatch.setattr("loqal.performance.machine_speed._READ_BYTES", 1 << 24)
    monkeypatch.setattr("loqal.performance.kernel_rates._DECODE_BYTES", 1 << 24)
    assert main(["plan", "demo", "--context", "256"]) == 0
    assert "measuring" in capsys.readouterr().err
    assert main(["plan", "demo", "--context", "256"]) == 0
    assert "measuring" not in capsys.readouterr().err
    kept = paths.measured_file()
    for damage in ("{", "[]", '{"a": {}}', kept.read_text().replace('"bits"', '"bat"')):
        kept.write_text(damage)
        assert main(["doctor", "--no-measure"]) == 0
    kept.write_text("{")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "is damaged" in out and "GB/s (measured" in out
    assert json.loads(kept.read_text())


@pytest.mark.parametrize("isa", CpuOps(threads=1).usable_isas)
def test_a_plan_for_a_forced_instruction_set(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], plain_speeds: None, isa: str
) -> None:
    monkeypatch.setenv("LOQAL_ISA", isa)
    assert main(["plan", "qwen3.5:4b-q4_k_m", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["machine"]["isa"] == isa and record["plans"][0]["resident_bytes"] > 2_500_000_000


def test_doctor_explains_what_was_forced(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], plain_speeds: None
) -> None:
    from loqal.ops.backends.cpu import available_isas

    monkeypatch.setenv("LOQAL_ISA", available_isas()[-1])
    monkeypatch.setenv("LOQAL_THREADS", "64")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "from LOQAL_ISA" in out and "64 (from LOQAL_THREADS)" in out and "disabled" in out
    assert "none; loqal pull" in out and "lower LOQAL_THREADS" in out
    if available_isas()[-1] != available_isas()[0]:
        assert "Unset LOQAL_ISA" in out
    monkeypatch.setenv("LOQAL_ISA", "avx9000")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any("avx9000" in finding["value"] for finding in found["findings"])


def test_graphics_processors_are_named_and_said_to_be_unused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], plain_speeds: None
) -> None:
    tool = home / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, PCIe, 81559, 81000'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    card = home / "drm" / "card1" / "device"
    card.mkdir(parents=True)
    (card / "mem_info_vram_total").write_text("17163091968\n")
    (card / "mem_info_vram_used").write_text("163091968\n")
    monkeypatch.setattr("loqal.system.hardware._CARDS", home / "drm")
    assert hardware.gpus() == [
        Gpu("NVIDIA H100, PCIe", 81559 << 20, 81000 << 20),
        Gpu("AMD, card1", 17163091968, 17000000000),
    ]
    assert main(["doctor"]) == 0
    assert "NVIDIA H100, PCIe, 85.5 GB, 84.9 GB free; not used: loqal runs on the CPU" in capsys.readouterr().out
    assert main(["plan", "qwen3.5:4b-q4_k_m"]) == 0
    assert "GPU detected but not used: AMD, card1 with 17.2 GB; loqal runs on the CPU" in capsys.readouterr().out
    tool.write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    (card / "mem_info_vram_used").unlink()
    assert hardware.gpus() == []
