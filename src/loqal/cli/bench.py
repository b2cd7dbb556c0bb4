"""``loqal bench``: prefill and decode speed, as shares of what this machine reaches."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.errors import RequestError
from loqal.performance.bench import QUICK, Bench, Phase, Report, Row, Workload, context_len_of
from loqal.runtime import open_model
from loqal.settings import SETTINGS

_USAGE = """loqal bench [options] [MODEL]

  loqal bench                        the embedded model
  loqal bench model.gguf             a file, a folder, or a name
  loqal bench --quick model.gguf     few and short measurements
"""
_MACHINE_FLAGS = ("threads", "isa", "kv_bits")
HEADINGS = f"{'':8}{'tokens':>8}{'context':>9}{'batch':>7}{'tokens/s':>11}{'spread':>8}  share of the machine"


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parsed = _parser().parse_args(list(words))
    settings = {setting.name: setting for setting in SETTINGS if setting.name in _MACHINE_FLAGS}
    given = {name: getattr(parsed, name) for name in settings}
    machine = {name: value and settings[name].parse(value, settings[name].flag) for name, value in given.items()}
    path = open_model.locate(parsed.model)
    runner = Bench(path, _plan(parsed, path), **machine)
    if not parsed.json:
        terminal.print_line(HEADINGS)
    for phase, row in runner.rows():
        if not parsed.json:
            terminal.print_line(line(phase, row))
    report = runner.report()
    if parsed.json:
        record = dataclasses.asdict(report)
        del record["machine"]["measured"]
        terminal.print_line(json.dumps(record, ensure_ascii=False))
    else:
        terminal.print_line(summary(report))
    return 0


def _parser() -> options.Parser:
    parser = options.Parser(
        "loqal bench", "Measure prefill and decode speed, as shares of what this machine reaches.", _USAGE
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a file, a folder, or a name (default: the embedded)")
    group = parser.add_argument_group("what to measure", "A LIST is comma-separated numbers.")
    group.add_argument(
        "--prefill", metavar="LIST", help=f"prompt lengths in tokens (default: {_text(Workload().prefill)})"
    )
    group.add_argument(
        "--context",
        metavar="LIST",
        help=f"context lengths of decode, in tokens (default: {_text(Workload().contexts)})",
    )
    group.add_argument(
        "--batch",
        metavar="LIST",
        help=f"batch sizes of decode, at the first context (default: {_text(Workload().batches)})",
    )
    group.add_argument(
        "--repeat", type=int, metavar="N", help=f"repetitions; the median is reported (default: {Workload().repeat})"
    )
    group.add_argument("--quick", action="store_true", help="fewer and shorter measurements, within seconds")
    group.add_argument("--json", action="store_true", help="print JSON")
    machine = parser.add_argument_group("machine")
    for setting in SETTINGS:
        if setting.name in _MACHINE_FLAGS:
            metavar = "N" if setting.kind is int else "NAME"
            machine.add_argument(setting.flag, default=None, metavar=metavar, help=f"{setting.help} [{setting.env}]")
    return parser


def _plan(parsed: argparse.Namespace, path: Path) -> Workload:
    """What the flags ask for; without a flag, as much of the default as the model's context allows."""
    default, context_len = QUICK if parsed.quick else Workload(), context_len_of(path)
    plan = default.within(context_len)
    for what, flag, kept, all_values in (
        ("prompts", parsed.prefill, plan.prefill, default.prefill),
        ("contexts", parsed.context, plan.contexts, default.contexts),
    ):
        if flag is None and kept != all_values:
            left_out = _text([value for value in all_values if value not in kept])
            terminal.print_note(f"Left out {what} of {left_out}: the model was made for {context_len} tokens.")
    if parsed.prefill is not None:
        plan = dataclasses.replace(plan, prefill=_numbers("--prefill", parsed.prefill))
    if parsed.context is not None:
        plan = dataclasses.replace(plan, contexts=_numbers("--context", parsed.context))
    if parsed.batch is not None:
        plan = dataclasses.replace(plan, batches=_numbers("--batch", parsed.batch))
    return plan if parsed.repeat is None else dataclasses.replace(plan, repeat=parsed.repeat)


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise RequestError(
            f"{flag} is {text!r}.", "It must be a comma-separated list of whole numbers.", "Write for example 1,2,4."
        ) from None


def _text(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def line(phase: Phase, row: Row) -> str:
    """One row of the table."""
    spread = (row.fastest_tokens_per_s - row.slowest_tokens_per_s) / row.tokens_per_s
    shares = [
        f"{share:.0%} of {limit}"
        for share, limit in (
            (row.share_of_read_bandwidth, "read bandwidth"),
            (row.share_of_int8_peak if phase == "prefill" else None, "int8 peak"),
            (row.share_of_float_peak if phase == "prefill" else None, "float peak"),
        )
        if share is not None
    ]
    if row.outside_kernels_ms is not None:
        shares.append(f"{row.outside_kernels_ms:.2f} ms a step outside kernels")
    return (
        f"{phase:8}{row.tokens:8,}{row.context:9,}{row.batch:7}{row.tokens_per_s:11,.1f}{spread:8.0%}  "
        f"{', '.join(shares)}"
    )


def summary(report: Report) -> str:
    """The lines below the table."""
    machine = report.machine
    return (
        f"\nmodel    {report.model}, mostly {report.format}, {report.weight_bytes / 1e9:.2f} GB of weights a step\n"
        f"machine  {machine.cpu}, {machine.isa}, {machine.threads} threads\n"
        f"         reads {machine.read_gb_per_s:.1f} GB/s; peaks {machine.int8_gops:,.0f} int8 GOPS, "
        f"{machine.float_gflops:,.0f} float GFLOPS (medians over the run)"
    )
