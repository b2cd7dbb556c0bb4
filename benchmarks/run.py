"""The driver behind `make bench`: tests first, then the suites ops, model and peers.

    python benchmarks/run.py
    python benchmarks/run.py --suite model --model 0.8B:Q4_K_M --model 4B:Q4_K_M
    python benchmarks/run.py --suite peers --peer-python /path/to/environment/bin/python

A model is a published size and a recipe, made with random weights when it is not there yet, or the path of a file.
Results are kept in benchmarks/results/<machine>/<suite>.json if the machine was quiet.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import operations
import peers
import record

from loqal.cli import bench as table
from loqal.performance.bench import QUICK, Bench, Workload, context_len_of
from loqal.testing.checkpoints import write_synthetic

_HERE = Path(__file__).parent
_SUITES = ("ops", "model", "peers")
_TESTED = ("tests/ops", "tests/model", "tests/engine", "tests/runtime")


def tests_pass() -> bool:
    """Run the tests of what is measured: the speed of a wrong answer is worth nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not parity and not slow", *_TESTED]
    done = subprocess.run(command, cwd=_HERE.parent, capture_output=True, text=True)
    print(done.stdout.rstrip().splitlines()[-1] if done.returncode == 0 else done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def find_model(name: str, folder: Path) -> Path:
    """The file of a model, made first if need be."""
    size, colon, recipe = name.partition(":")
    if not colon:
        return Path(name)
    path = folder / f"{size}-{recipe}.gguf"
    if not path.exists():
        print(f"Making {path} ...", flush=True)
        write_synthetic(path, size, recipe)
    return path


def measure_model(path: Path, plan: Workload, *, threads: int, keep: record.Keep) -> None:
    """The suite "model" for one file: what `loqal bench` measures."""
    print(f"\n{path.name}, {threads} threads\n\n{table.HEADINGS}", flush=True)
    bench = Bench(path, plan, threads=threads)
    watch = record.OtherPrograms()
    for phase, row in bench.rows():
        print(table.line(phase, row), flush=True)
    others, report = watch.share(), bench.report()
    print(table.summary(report))
    record.save("model", path.stem, dataclasses.asdict(report), others=others, keep=keep)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", choices=_SUITES, help="may be given several times (default: all)")
    parser.add_argument("--model", action="append", metavar="SIZE:RECIPE", help="or a path (default: 0.8B:Q4_K_M)")
    parser.add_argument("--folder", type=Path, default=_HERE.parent / "build" / "bench-models", help="of made models")
    parser.add_argument("--peer-python", help="the interpreter that has llama-cpp-python")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="shorter, fewer, and not kept: to see that all works")
    parser.add_argument("--no-tests", action="store_true", help="do not run the tests first")
    parser.add_argument("--save-anyway", action="store_true", help="keep results even if the machine was busy")
    given = parser.parse_args()
    if not given.no_tests and not tests_pass():
        print("Nothing is measured: the tests fail.")
        return 1
    suites = given.suite or _SUITES
    keep: record.Keep = "never" if given.quick else "always" if given.save_anyway else "if quiet"
    if "ops" in suites:
        operations.run(("Q4_K",) if given.quick else operations.FORMATS, threads=given.threads, keep=keep)
    paths = [find_model(name, given.folder) for name in given.model or ["0.8B:Q4_K_M"]]
    if "model" in suites:
        for path in paths:
            plan = (QUICK if given.quick else Workload(repeat=given.rounds)).within(context_len_of(path))
            measure_model(path, plan, threads=given.threads, keep=keep)
    if "peers" in suites and given.peer_python:
        chosen = peers.cases([64], 8, [0], [4]) if given.quick else peers.cases([512], 128, [0], [4, 8])
        for path in paths:
            rounds = 1 if given.quick else given.rounds
            peers.run(path, given.peer_python, chosen, threads=given.threads, rounds=rounds, keep=keep)
    elif "peers" in suites:
        print("\npeers: skipped, --peer-python names no environment with llama-cpp-python.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
