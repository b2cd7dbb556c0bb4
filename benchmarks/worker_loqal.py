"""One engine of a comparison: loqal. Reads a JSON command a line, answers with a JSON line, waits in between.

    python benchmarks/worker_loqal.py MODEL THREADS CONTEXT SEQUENCES

Commands: {"prefill": tokens}, {"decode": steps, "context": tokens, "batch": sequences}, {"yardsticks": true}.
The answer to a timing is {"seconds": ...}. The other engine (worker_llama.py) takes the same timing commands.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from loqal.performance.timed_model import TimedModel


def main() -> None:
    """Serve commands until the input ends."""
    path, threads, context_len, num_sequences = sys.argv[1], *map(int, sys.argv[2:])
    room = (context_len + 64) * num_sequences  # whole pages
    model = TimedModel(path, context_len=context_len, num_sequences=num_sequences, num_tokens=room, threads=threads)
    facts = {
        "engine": "loqal",
        "build": f"{model.ops.isa}, {model.ops.threads} threads, {model.kv_bits}-bit keys and values",
        "isa": model.ops.isa,
        "format": model.main_format,
        "weight_bytes": model.weight_bytes,
        "state_bytes": model.state_bytes,
        "kv_token_bytes": model.kv_bytes(1),
    }
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(model, json.loads(line))), flush=True)


def answer(model: TimedModel, command: dict[str, Any]) -> dict[str, Any]:
    """Do one command."""
    if "prefill" in command:
        return {"seconds": model.prefill(command["prefill"]).seconds}
    if "decode" in command:
        return {"seconds": model.decode(command["context"], command["batch"], command["decode"]).seconds}
    machine = model.measure_machine()
    return {name: getattr(machine, name) for name in ("read_gb_per_s", "int8_gops", "float_gflops")}


if __name__ == "__main__":
    main()
