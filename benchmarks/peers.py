"""Compare loqal with llama.cpp: same file, same threads, same minute.

    python benchmarks/peers.py model.gguf --peer-python /path/to/environment/bin/python

The peer's environment needs ``pip install llama-cpp-python==0.3.36`` (built from source, so that it uses this machine's
instructions). Each engine is a process of its own that holds the model and sleeps while the other one runs; the two are
timed in turn. Figures are medians with the slowest and fastest round; the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record

_HERE = Path(__file__).parent
_REST_S = 0.3  # until the threads of the engine that ran last have gone to sleep


@dataclass(frozen=True)
class Case:
    """Something both engines are asked to do."""

    title: str
    command: Mapping[str, int]
    tokens: int  # that it reads or writes


class Worker:
    """One engine in its own process."""

    def __init__(self, python: str, script: str, arguments: Sequence[object]) -> None:
        self._command = [python, str(_HERE / script), *map(str, arguments)]
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.facts = self._read()

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Send one command and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        time.sleep(_REST_S)
        return answer

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self._command)} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def cases(prefill: Sequence[int], steps: int, contexts: Sequence[int], batches: Sequence[int]) -> list[Case]:
    """What is compared: prompts, decoding of one sequence, decoding of several at the first context."""
    made = [Case(f"prefill {tokens}", {"prefill": tokens}, tokens) for tokens in prefill]
    for context in contexts:
        title = f"decode {steps} at context {context}"
        made.append(Case(title, {"decode": steps, "context": context, "batch": 1}, steps))
    for batch in batches:
        count = max(1, steps // 4)
        title = f"decode {count}, batch {batch}, in sum"
        made.append(Case(title, {"decode": count, "context": contexts[0], "batch": batch}, count * batch))
    return made


def compare(case: Case, loqal: Worker, peer: Worker, rounds: int) -> dict[str, Any]:
    """Time both in turn."""
    for worker in (loqal, peer):
        worker.ask(case.command)
    seconds: dict[str, list[float]] = {"loqal": [], "peer": []}
    yardsticks = [loqal.ask({"yardsticks": True})]
    for _ in range(rounds):
        seconds["loqal"].append(loqal.ask(case.command)["seconds"])
        seconds["peer"].append(peer.ask(case.command)["seconds"])
        yardsticks.append(loqal.ask({"yardsticks": True}))
    rates = {name: sorted(case.tokens / taken for taken in all_taken) for name, all_taken in seconds.items()}
    ratios = sorted(theirs / ours for ours, theirs in zip(seconds["loqal"], seconds["peer"], strict=True))
    return {
        "case": case.title,
        **case.command,
        "loqal_tokens_per_s": [rates["loqal"][0], statistics.median(rates["loqal"]), rates["loqal"][-1]],
        "peer_tokens_per_s": [rates["peer"][0], statistics.median(rates["peer"]), rates["peer"][-1]],
        "ratio": [ratios[0], statistics.median(ratios), ratios[-1]],
        **{name: statistics.median(each[name] for each in yardsticks) for name in yardsticks[0]},
    }


def share_of_read(row: Mapping[str, Any], facts: Mapping[str, Any]) -> float | None:
    """loqal's bytes per second in a decode row, as a share of the speed memory was read at beside it."""
    if "decode" not in row:
        return None
    position = row["context"] + row["decode"] // 2
    of_sequence = 2 * facts["state_bytes"] + position * facts["kv_token_bytes"]
    step_bytes = facts["weight_bytes"] + row["batch"] * of_sequence
    steps_per_s = row["loqal_tokens_per_s"][1] / row["batch"]
    return float(step_bytes * steps_per_s * 1e-9 / row["read_gb_per_s"])


def line(row: Mapping[str, Any]) -> str:
    """One line of the Markdown table."""
    cells = [row["case"]]
    for name, unit in (("loqal_tokens_per_s", ""), ("peer_tokens_per_s", ""), ("ratio", "x")):
        low, middle, high = row[name]
        digits = 2 if unit or high < 10 else 1
        cells.append(f"{middle:.{digits}f}{unit} ({low:.{digits}f}-{high:.{digits}f})")
    share = row["loqal_share_of_read_bandwidth"]
    cells += [f"{row['read_gb_per_s']:.1f}", f"{row['int8_gops']:.0f}", "" if share is None else f"{share:.0%}"]
    return "| " + " | ".join(cells) + " |"


def run(
    path: Path, peer_python: str, chosen: Sequence[Case], *, threads: int, rounds: int, keep: record.Keep = "if quiet"
) -> None:
    """Compare on one file, print the table as it grows, and save it."""
    context_len = max(case.command.get("prefill", 0) for case in chosen)
    decode = [case.command["context"] + case.command["decode"] for case in chosen if "decode" in case.command]
    context_len = -(-max(context_len, *decode, 1) // 256) * 256
    num_sequences = max(case.command.get("batch", 1) for case in chosen)
    arguments = (path, threads, context_len, num_sequences)
    loqal = Worker(sys.executable, "worker_loqal.py", arguments)
    peer = Worker(peer_python, "worker_llama.py", arguments)
    print(f"\n{path.name}, {threads} threads, {rounds} rounds")
    for worker in (loqal, peer):
        print(f"  {worker.facts['engine']}: {worker.facts['build']}")
    print("\n| | loqal tokens/s | llama.cpp tokens/s | ratio | read GB/s | int8 GOPS | loqal's share of reading |")
    print("|---|---|---|---|---|---|---|", flush=True)
    watch = record.OtherPrograms((loqal.pid, peer.pid))
    rows = []
    for case in chosen:
        row = compare(case, loqal, peer, rounds)
        row["loqal_share_of_read_bandwidth"] = share_of_read(row, loqal.facts)
        rows.append(row)
        print(line(row), flush=True)
    others = watch.share()
    for worker in (loqal, peer):
        worker.close()
    result = {"threads": threads, "rounds": rounds, "loqal": loqal.facts, "peer": peer.facts, "rows": rows}
    record.save("peers", path.stem, result, others=others, keep=keep)


def numbers(text: str) -> list[int]:
    """The numbers of a comma separated list, which may be empty."""
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="model.gguf")
    parser.add_argument("--peer-python", required=True, help="the interpreter that has llama-cpp-python")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefill", type=numbers, default=[512], metavar="LIST")
    parser.add_argument(
        "--steps", type=int, default=128, help="decoded tokens; a quarter of them with several sequences"
    )
    parser.add_argument("--context", type=numbers, default=[0], metavar="LIST")
    parser.add_argument("--batch", type=numbers, default=[4, 8], metavar="LIST")
    parser.add_argument("--save-anyway", action="store_true", help="keep the result even if the machine was busy")
    given = parser.parse_args()
    chosen = cases(given.prefill, given.steps, given.context, given.batch)
    for path in given.models:
        run(
            path,
            given.peer_python,
            chosen,
            threads=given.threads,
            rounds=given.rounds,
            keep="always" if given.save_anyway else "if quiet",
        )


if __name__ == "__main__":
    main()
