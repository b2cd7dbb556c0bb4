"""What models take of the memory beside what was planned: files are loaded, contexts really filled, bytes compared.

    python benchmarks/memory.py build/0.8B-Q4_K_M.gguf build/2B-Q8_0.gguf [--context 2048] [--users 1]

Each file is a fresh process. Two plans are compared with what is resident: the one the engine made when it loaded the
file (``loqal.plan``), and the one for a file that need not be here (``loqal plan``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import loqal
from loqal.performance.planner import Planner, PlanRequest
from loqal.system.memory import resident_bytes
from loqal.types.sampling import SamplingParams

_ROOM = 64  # of the context, for the reply


def measure(path: Path, context: int, users: int) -> dict[str, int]:
    """Load a file, fill ``users`` contexts at the same time and count."""
    given = {"context_len": context, "max_sequences": users, "drafts": "off"}
    planned = loqal.plan(path, cache_bytes=0, **given)
    # The engine plans one full context and a little for everyone else; the rest of theirs is room for earlier states.
    states = planned.filled_bytes(users, context) - planned.filled_bytes(0, 0)
    with loqal.load(path, cache_bytes=max(0, states - planned.required_bytes), **given) as model:
        dice = np.random.default_rng(0)
        prompts = [dice.integers(1000, 200_000, context - _ROOM).tolist() for _ in range(users)]
        params = SamplingParams(max_tokens=_ROOM - 1, temperature=0.0, presence_penalty=0.0, ignore_eos=True)
        model.batch(prompts, params)
        engine_bytes = model.plan.filled_bytes(users, context)
        return {"engine": engine_bytes, "resident": resident_bytes(), "states": int(model.statistics()["state_bytes"])}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(measure(given.files[0], given.context, given.users)))
        return
    planner = Planner()
    print(f"{'file':20} {'resident':>14} {'of the engine':>14} {'off':>7} {'loqal plan':>14} {'off':>7}")
    for path in given.files:
        command = [sys.executable, __file__, "--alone", "--context", str(given.context), "--users", str(given.users)]
        shown = subprocess.run([*command, str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(shown.splitlines()[-1])
        journals = PlanRequest(given.context, given.users)
        plan = planner.plan(str(path), journals)
        ahead = plan.resident_bytes - sum(line.size_bytes for line in plan.lines if line.name == "guessed tokens")
        row = [found["resident"], found["engine"], found["engine"] / found["resident"] - 1]
        print(
            f"{path.stem:20} {row[0]:14,} {row[1]:14,} {row[2]:7.2%} {ahead:14,} {ahead / found['resident'] - 1:7.2%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
