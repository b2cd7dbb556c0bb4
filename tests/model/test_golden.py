"""The network against recorded logits of transformers in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden.logit_cases import CASES, Recording, digest
from golden.logit_check import compare
from model.machine import Machine

from loqal.ops.choose import choose_ops
from loqal.testing import write_gguf, write_safetensors
from loqal.weights.load import open_checkpoint

TINY = [name for name, case in CASES.items() if case.config.width < 1024]
REAL = [name for name in CASES if name not in TINY]


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A case and a folder with its checkpoint in both file formats."""
    case = CASES[request.param]
    tensors, folder = case.tensors(), tmp_path_factory.mktemp(request.param)
    assert digest(tensors) == Recording.load(case.name).digest, "the weights are not the recorded ones: record again"
    write_safetensors(folder / "safetensors", case.config, tensors)
    write_safetensors(folder / "safetensors_f32", case.config, tensors, "F32")
    write_gguf(folder / "model.gguf", case.config, tensors)
    return case.name, folder


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("file", ["safetensors", "safetensors_f32", "model.gguf"])
def test_tiny_models(tiny: tuple[str, Path], file: str, backend: str) -> None:
    name, folder = tiny
    if (backend, file) == ("reference", "safetensors"):
        pytest.skip("the slow backend once per file format is enough")
    checkpoint = open_checkpoint(folder / file)
    comparison = compare(Machine.of(checkpoint, choose_ops(backend)), CASES[name], Recording.load(name))
    comparison.check()


@pytest.mark.parametrize("name", REAL)
def test_real_widths(name: str, tmp_path: Path) -> None:
    case, recording = CASES[name], Recording.load(name)
    tensors = case.tensors()
    assert digest(tensors) == recording.digest, "the weights are not the recorded ones: record again"
    write_safetensors(tmp_path, case.config, tensors)
    del tensors
    compare(Machine.of(open_checkpoint(tmp_path), choose_ops()), case, recording).check()
