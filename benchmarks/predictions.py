"""What ``loqal plan`` predicts of speed beside what models do, in the same minute.

    python benchmarks/predictions.py build/0.8B-Q4_K_M.gguf build/4B-Q8_0.gguf [--rounds 3]

Machine and kernels are measured anew before and after the model is timed. Where the two predictions differ by more than
a tenth the machine changed meanwhile, and the round does not count. As with kernels, the fast ones of several timings
count, since neighbours slow the others down. Medians of the rounds are shown, with the ratios of all of them.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from loqal.performance.planner import Planner
from loqal.performance.timed_model import TimedModel

_PROMPT_TOKENS, _STEPS = 512, 6
_STEADY = 0.1  # difference of two predictions between which a model is timed


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'file':14} {'':8} {'predicted':>10} {'measured':>10} {'ratio':>6}   of the rounds; steps by part, ms")
    for path in given.files:
        model = TimedModel(path, context_len=_PROMPT_TOKENS, num_sequences=1, num_tokens=_PROMPT_TOKENS)
        found: dict[str, list[tuple[float, float]]] = {"prefill": [], "decode": []}
        before = Planner(again=True).plan(str(path)).speed
        for _ in range(given.rounds):
            model.prefill(64)
            prefill = max(_PROMPT_TOKENS / model.prefill(_PROMPT_TOKENS).seconds for _ in range(2))
            decode = sorted(_STEPS / model.decode(0, 1, _STEPS).seconds for _ in range(12))[-3]
            after = Planner(again=True).plan(str(path)).speed
            for phase, first, last, measured in (
                ("prefill", before.prefill, after.prefill, prefill),
                ("decode", before.decode, after.decode, decode),
            ):
                if abs(first / last - 1) < _STEADY:
                    found[phase].append(((first + last) / 2, measured))
            before = after
        parts = f"{before.weights_ms:.1f} weights, {before.state_ms:.1f} states, {before.calls_ms:.1f} calls"
        for phase, pairs in found.items():
            if not pairs:
                print(f"{path.stem:14} {phase:8} the machine was never steady")
                continue
            ratios = [predicted / measured for predicted, measured in pairs]
            predicted, measured = (statistics.median(column) for column in zip(*pairs, strict=True))
            shown = " ".join(f"{ratio:.2f}" for ratio in ratios) + (f"; {parts}" if phase == "decode" else "")
            name, ratio = f"{path.stem:14} {phase:8}", statistics.median(ratios)
            print(f"{name} {predicted:10,.1f} {measured:10,.1f} {ratio:6.2f}   {shown}", flush=True)


if __name__ == "__main__":
    main()
