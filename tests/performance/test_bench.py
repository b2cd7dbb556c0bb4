"""Measuring: what is counted is right, what is reported is complete, what cannot be measured is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

import loqal
import tiny_checkpoint
from loqal.cli import bench as table
from loqal.cli import main as cli
from loqal.model.tensor_names import entries
from loqal.ops.backends.cpu import CpuOps, available_isas
from loqal.performance.bench import Bench, Report, Row, Workload
from loqal.performance.timed_model import TimedModel
from loqal.system import hardware

PLAN = Workload(prefill=(5, 70), contexts=(0, 130), batches=(1, 3), repeat=2, decode_tokens=2)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of this shell do not count, and its reading is measured on little memory."""
    for name in ("THREADS", "ISA", "BACKEND", "KV_BITS"):
        monkeypatch.delenv(f"LOQAL_{name}", raising=False)
    monkeypatch.setattr("loqal.performance.machine_speed._READ_BYTES", 1 << 20)
    monkeypatch.setattr(hardware, "largest_cache_bytes", lambda: 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint.gguf(tmp_path_factory.mktemp("bench") / "tiny.gguf")


def timed(path: Path, **settings: Any) -> TimedModel:
    return TimedModel(path, context_len=200, num_sequences=3, num_tokens=3 * 256, threads=2, **settings)


@pytest.mark.parametrize("isa", available_isas())
def test_yardsticks(isa: str) -> None:
    ops = CpuOps(isa, threads=2)
    assert ops.read_gb_per_s(1 << 20) > 0
    assert ops.int8_gops() > 0
    assert ops.float_gflops() > 0


def test_the_weights_of_a_step_are_counted(model: Path) -> None:
    subject = timed(model)
    assert subject.config.tied_head
    panels = [
        -(-entry.shape[0] // 16) * 16 * math.prod(entry.shape[1:]) * 4
        for entry in entries(subject.config)
        if len(entry.shape) == 2 and entry.suffix != "delta.conv"
    ]
    assert subject.weight_bytes == sum(panels)
    assert subject.decode(0, 3, 5).weight_bytes == 5 * sum(panels)


def test_the_state_is_counted(model: Path) -> None:
    subject = timed(model)
    assert subject.state_bytes == 3 * (4 * 128 * 128 + 3 * (2 * 2 + 4) * 128) * 4
    assert subject.kv_bytes(10) == 10 * 2 * 256 * 4, "float32 beside F32 weights"
    assert timed(model, kv_bits=16).kv_bytes(10) == 10 * 2 * 256 * 2


def test_timing(model: Path) -> None:
    subject = timed(model)
    for timing in (subject.prefill(70), subject.decode(130, 3, 2), subject.decode(64, 1, 1), subject.decode(3, 1, 1)):
        assert 0 < timing.busy_s < timing.seconds
    assert subject._store.pages.num_free == subject._store.pages.size
    assert subject._store.slots.num_free == subject._store.slots.size


def test_a_made_up_context_has_its_length(model: Path) -> None:
    subject = timed(model)
    state = subject._open_at(130)
    assert state.length == 130
    assert len(state.pages) == 3


def test_the_report(model: Path) -> None:
    bench = Bench(model, PLAN, threads=2)
    rows = list(bench.rows())
    assert [phase for phase, _ in rows] == ["prefill"] * 2 + ["decode"] * 3
    report = bench.report()
    assert [*report.prefill, *report.decode] == [row for _, row in rows]
    assert [(row.tokens, row.context, row.batch) for row in report.prefill] == [(5, 0, 1), (70, 0, 1)]
    assert [(row.tokens, row.context, row.batch) for row in report.decode] == [(2, 0, 1), (2, 130, 1), (2, 0, 3)]
    for row in report.prefill:
        assert row.share_of_read_bandwidth is None
        assert row.share_of_float_peak is not None  # the weights are F32
    for row in report.decode:
        assert row.share_of_read_bandwidth is not None
        assert row.slowest_tokens_per_s <= row.tokens_per_s <= row.fastest_tokens_per_s
    assert report.decode[1].step_bytes - report.decode[0].step_bytes == 130 * 2 * 256 * 4  # type: ignore[operator]
    assert report.machine.threads == 2
    json.dumps(dataclasses.asdict(report))


def test_quantized_weights_are_compared_with_the_int8_peak(tmp_path: Path) -> None:
    path = tiny_checkpoint.gguf(tmp_path / "tiny.gguf", formats="Q8_0")
    plan = dataclasses.replace(PLAN, prefill=(5,), contexts=(0,), batches=(1,), repeat=1)
    bench = Bench(path, plan, threads=1)
    for phase, row in bench.rows():
        assert row.share_of_int8_peak is not None
        assert row.share_of_float_peak is None
        assert "%" in table.line(phase, row)
    assert "Q8_0" in table.summary(bench.report())


@pytest.mark.parametrize(
    "changes", [{"prefill": (0,)}, {"prefill": ()}, {"contexts": (-1,)}, {"batches": (0, 1)}, {"repeat": 0}]
)
def test_nonsense_is_refused(model: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(loqal.RequestError, match="at least"):
        Bench(model, dataclasses.replace(PLAN, **changes))


def test_more_than_the_models_context_is_refused(model: Path) -> None:
    with pytest.raises(loqal.RequestError, match="4098 tokens"):
        Bench(model, dataclasses.replace(PLAN, contexts=(4096,)))


def test_more_than_the_memory_is_refused(model: Path) -> None:
    with pytest.raises(loqal.CapacityError):
        Bench(model, dataclasses.replace(PLAN, contexts=(4000,), batches=(1 << 24,)))


def test_the_reference_is_not_measured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOQAL_BACKEND", "reference")
    with pytest.raises(loqal.RequestError, match="reference"):
        Bench(model)


# The command ----------------------------------------------------------------------------------------------------------

WORDS = ["bench", "--prefill", "5", "--context", "0,70", "--batch", "1,2", "--repeat", "1", "--quick", "--threads", "2"]


def test_the_json_record(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--json", str(model)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record) == [field.name for field in dataclasses.fields(Report)]
    assert list(record["machine"]) == ["cpu", "isa", "threads", "read_gb_per_s", "int8_gops", "float_gflops"]
    fields = [field.name for field in dataclasses.fields(Row)]
    assert len(record["prefill"]) == 1
    assert len(record["decode"]) == 3
    assert all(list(row) == fields for row in record["prefill"] + record["decode"])


def test_defaults_too_long_for_the_model_are_left_out_and_named(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--prefill", "5", "--batch", "1", "--repeat", "1", "--threads", "2", "--json", str(model)]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert [row["context"] for row in json.loads(out)["decode"]] == [0]
    assert "contexts of 4096,16384" in err
    assert "prompts" not in err


def test_the_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["prefill", "decode", "decode", "decode"]
    assert lines[-2].startswith("machine")


def test_a_wrong_command_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--batch", "1,two", str(model)]) == 2
    assert cli.main(["bench", "--threads", "none", str(model)]) == 2
    assert cli.main(["bench", "--repeat", "0", str(model)]) == 2
    assert cli.main(["bench", str(model.with_name("absent.gguf"))]) == 3
    assert capsys.readouterr().out == ""
