"""The network against transformers in float32, live: the recorded cases, then the whole 0.8B shape."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from golden import reference_model
from golden.logit_cases import CASES, Case, Recording
from golden.logit_check import compare
from model.machine import Machine

from loqal.model.sizes import SIZES
from loqal.ops.choose import choose_ops
from loqal.testing import write_safetensors
from loqal.weights.load import open_checkpoint

pytestmark = [
    pytest.mark.parity,
    # transformers says at length which optional kernels are missing, and torch what it will deprecate.
    pytest.mark.filterwarnings("ignore"),
]

WHOLE = Case("0.8B, whole", replace(SIZES["0.8B"], vision=None, num_draft_layers=0))


def _compare(case: Case, folder: Path, recording: Recording, record_property: pytest.RecordProperty) -> None:
    machine = Machine.of(open_checkpoint(folder), choose_ops(), num_pages=16)
    comparison = compare(machine, case, recording)
    record_property("comparison", str(comparison))
    print(f"{case.name}: {comparison}")
    comparison.check()


@pytest.mark.parametrize("name", CASES)
def test_recorded_cases(name: str, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    case = CASES[name]
    write_safetensors(tmp_path, case.config, case.tensors())
    _compare(case, tmp_path, reference_model.run(case, tmp_path, 0), record_property)


def test_the_whole_smallest_size(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    """All 24 layers and the whole vocabulary, which takes about 6 GB of memory and 3 GB of disk."""
    write_safetensors(tmp_path, WHOLE.config, WHOLE.tensors(), "F32")
    gc.collect()
    recording = reference_model.run(WHOLE, tmp_path, 0)
    gc.collect()
    _compare(WHOLE, tmp_path, recording, record_property)
