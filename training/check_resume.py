"""Check that a run which was stopped and resumed ends where an unbroken one does, on a tiny network.

To the bit with one thread; with two, some sums of the libraries below differ in their last bits, from run to run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import train

STEPS, EVERY = 4, 2
WORDS = (
    f"--steps {STEPS} --every {EVERY} --check-every 1000 --rows 2 --length 256 --long-every 3 --long-from 0 --threads 1"
)


def run(folder: Path, *, stop_at_first: bool = False) -> None:
    """Train in a folder, or stop as soon as there is a checkpoint."""
    save: Callable[..., None] = train.save

    def save_and_stop(*args: Any) -> None:
        save(*args)
        raise KeyboardInterrupt

    sys.argv = ["train.py", "--run", str(folder), *WORDS.split(), "--long-length", "256"]
    train.save = save_and_stop if stop_at_first else save
    try:
        train.main()
    except KeyboardInterrupt:
        pass
    finally:
        train.save = save


def main() -> None:
    """Fail when the two differ."""
    train.Shape = partial(train.Shape, width=64, ffn_width=64, num_heads=1)
    train.EyeShape = partial(train.EyeShape, width=64, depth=1, num_heads=1, ffn_width=64, out_width=64)
    train.accuracies = lambda *args: {}
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name) / "whole", Path(name) / "broken"
        run(whole)
        run(broken, stop_at_first=True)
        run(broken)
        one, other = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, broken))
    if not all(torch.equal(one["weights"][key], other["weights"][key]) for key in one["weights"]):
        raise SystemExit("The resumed run differs.")
    print(f"{STEPS} steps in one go, and stopped after {EVERY}: the same weights.")


if __name__ == "__main__":
    main()
