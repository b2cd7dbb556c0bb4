"""Records the logits of the reference implementation for the cases of logit_cases.py.

    PYTHONPATH=src:tests python -m golden.record_logits [NAME ...]

with torch 2.13.0 and transformers 5.23 installed writes logits_NAME.npz beside this file, for every case when none is
named.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from golden.logit_cases import CASES, digest
from golden.reference_model import Reference

from loqal.testing.checkpoints import write_safetensors


def main(names: list[str]) -> None:
    for name in names or CASES:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            tensors = case.tensors()
            weights_digest = digest(tensors)
            write_safetensors(Path(folder), case.config, tensors)
            del tensors
            recording = Reference(case, Path(folder)).record(weights_digest)
        recording.save(name)
        print(f"{name}: std {recording.std:.3f}, smallest margin {recording.margins.min() / recording.std:.2e} std")


if __name__ == "__main__":
    main(sys.argv[1:])
