"""Draw the losses and accuracies of a run's log.

python training/curves.py --run training/runs/main --out docs/embedded-model-curves.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path(__file__).parent / "runs" / "main")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    # A run that was stopped repeats the steps after its last checkpoint; the later record counts.
    records = {record["step"]: record for record in map(json.loads, (args.run / "log.jsonl").read_text().splitlines())}
    steps = sorted(records)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name in ("loss", "draft_loss", "notes_loss"):
        left.plot(steps, [records[step].get(name) for step in steps], label=name.replace("_", " "))
    left.set(xlabel="step", ylabel="weighted cross entropy", yscale="log")
    left.legend()
    checked = [step for step in steps if records[step].get("accuracy")]
    for index, task in enumerate(records[checked[-1]]["accuracy"] if checked else ()):
        style = "--" if index > 9 else "-"
        right.plot(checked, [records[step]["accuracy"].get(task) for step in checked], style, label=task, marker=".")
    right.set(xlabel="step", ylabel="whole answers right, held-out samples", ylim=(0, 1.02))
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
