"""``loqal plan``: memory and speed of models on this machine, before anything is downloaded or loaded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from loqal.cli import options, terminal
from loqal.cli.progress import amount
from loqal.errors import CapacityError, RequestError
from loqal.hub import catalog
from loqal.performance.planner import SPARE_SHARE, Plan, Planner, PlanRequest

_USAGE = f"""loqal plan [options] [MODEL]

  loqal plan                                    every published size and quantization on this machine
  loqal plan {catalog.FAMILY}:9b --context 32768 --users 4   one model, line by line
  loqal plan model.gguf                         a local file
"""
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser("loqal plan", "Predict memory and speed of models on this machine.", _USAGE)
    parser.add_argument("model", nargs="?", metavar="MODEL")
    parser.add_argument(
        "--context", type=int, default=8192, metavar="N", help="context length of each user, in tokens (default: 8192)"
    )
    parser.add_argument("--users", type=int, default=1, metavar="N", help="concurrent users (default: 1)")
    parser.add_argument(
        "--kv-bits", type=int, choices=(8, 16, 32), metavar="N", help="precision of the KV cache: 8, 16 or 32"
    )
    parser.add_argument("--memory", metavar="SIZE", help="memory size, for example 16G (default: that of this machine)")
    parser.add_argument("--measure", action="store_true", help="repeat the measurements of this machine")
    parser.add_argument("--all", action="store_true", help="list all quantizations, not only the common ones")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args(list(words))
    planner = Planner(memory_bytes=_size(parsed.memory), again=parsed.measure, note=terminal.print_note)
    wish = PlanRequest(parsed.context, parsed.users, parsed.kv_bits)
    plans = [planner.plan(parsed.model, wish)] if parsed.model else planner.all_releases(wish)
    try:
        chosen: tuple[str, str] | None = planner.recommended()
    except CapacityError:
        chosen = None
    if parsed.json:
        record: dict[str, object] = {"machine": _machine_record(planner)}
        record["plans"] = [dataclasses.asdict(plan) for plan in plans]
        record["recommended"] = None if chosen is None else f"{catalog.FAMILY}:{chosen[0]}-{chosen[1]}".lower()
        terminal.print_line(json.dumps(record, ensure_ascii=False))
        return 0
    machine = planner.machine
    terminal.print_line(
        f"{machine.cpu}, {machine.isa}, {machine.threads} threads; {amount(planner.memory_bytes)} of memory, reads "
        f"{machine.read_gb_per_s:.1f} GB/s, {machine.int8_gops:,.0f} int8 GOPS ({machine.measured})\n"
    )
    for gpu in planner.gpus:
        terminal.print_line(
            f"GPU detected but not used: {gpu.name} with {amount(gpu.memory_bytes)}; loqal runs on the CPU\n"
        )
    if parsed.model:
        _explain(plans[0], planner.memory_bytes)
    else:
        _table(plans, chosen, every=parsed.all)
    return 0


def _machine_record(planner: Planner) -> dict[str, object]:
    machine = planner.machine
    return {
        "cpu": machine.cpu,
        "isa": machine.isa,
        "threads": machine.threads,
        "memory_bytes": planner.memory_bytes,
        "read_gb_per_s": machine.read_gb_per_s,
        "int8_gops": machine.int8_gops,
        "measured": machine.measured,
        "gpus": [dataclasses.asdict(gpu) for gpu in planner.gpus],
    }


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    unit = _UNITS.get(text[-1:].upper(), 1)
    try:
        return int(float(text[:-1] if unit > 1 else text) * unit)
    except ValueError:
        raise RequestError(
            f"--memory is {text!r}.",
            "It must be a number of bytes, optionally with K, M, G or T.",
            "Write for example 16G.",
        ) from None


def _table(plans: Sequence[Plan], chosen: tuple[str, str] | None, *, every: bool) -> None:
    usual = {"UD-Q2_K_XL", "UD-Q3_K_XL", "Q4_K_M", "UD-Q4_K_XL", "Q6_K", "Q8_0", "BF16"}
    first = plans[0]
    terminal.print_line(
        f"{'model':28} {'file':>9} {'resident':>9} {'prefill':>9} {'decode':>8}   tokens/s; {first.users} users with "
        f"{first.context_len:,} tokens each"
    )
    for plan in plans:
        if not every and plan.quant not in usual:
            continue
        mark = "recommended" if (plan.size, plan.quant) == chosen else "" if plan.fits else "does not fit"
        terminal.print_line(
            f"{plan.name:28} {amount(plan.file_bytes):>9} {amount(plan.resident_bytes):>9} {plan.speed.prefill:9,.0f} "
            f"{plan.speed.decode:8,.1f}   {mark}".rstrip()
        )
    terminal.print_line("\nSpeeds are predictions for one sequence, from kernels measured on this machine.")


def _explain(plan: Plan, memory_bytes: int) -> None:
    terminal.print_line(
        f"{plan.name}: a file of {amount(plan.file_bytes)}; {plan.users} users with {plan.context_len:,} tokens each\n"
    )
    for line in plan.lines:
        terminal.print_line(f"{line.name:18} {line.size_bytes:16,}  {line.why}")
    verdict = "fits" if plan.fits else "does not fit"
    limit = int(memory_bytes * SPARE_SHARE)
    terminal.print_line(f"{'resident':18} {plan.resident_bytes:16,}  {verdict} {limit:,}, 90 % of the memory")
    for line in plan.picture_lines:
        terminal.print_line(f"  + {line.name:14} {line.size_bytes:16,}  {line.why}")
    terminal.print_line(
        f"\nup to {plan.largest_context:,} tokens with {plan.users} users, or {plan.most_users:,} users with "
        f"{plan.context_len:,} tokens; the prefix cache may use the remaining memory (--cache-bytes)"
    )
    speed = plan.speed
    terminal.print_line(
        f"prefill {speed.prefill:,.0f} tokens/s, decode {speed.decode:,.1f} tokens/s: a step takes "
        f"{speed.weights_ms:.1f} ms for weights, {speed.state_ms:.1f} ms for states, {speed.calls_ms:.1f} ms for calls"
    )
