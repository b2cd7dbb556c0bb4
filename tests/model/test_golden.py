"""The network against recorded logits of transformers in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden.logit_cases import BOUNDS, CASES, Case, Recording, digest
from golden.logit_check import compare

from loqal.ops.choose import choose_ops
from loqal.ops.interface import FloatArray
from loqal.testing.checkpoints import write_gguf, write_safetensors
from loqal.weights.load import open_checkpoint
from machine import Machine

TINY = [name for name, case in CASES.items() if case.config.width < 1024]
REAL = [name for name in CASES if name not in TINY]


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A case and a folder with its checkpoint in both file formats."""
    case = CASES[request.param]
    tensors, folder = _weights(case), tmp_path_factory.mktemp(case.name)
    write_safetensors(folder / "published", case.config, tensors)
    write_safetensors(folder / "f32", case.config, tensors, "F32")
    write_gguf(folder / "f32.gguf", case.config, tensors)
    return case, folder


def _weights(case: Case) -> dict[str, FloatArray]:
    tensors = case.tensors()
    assert digest(tensors) == Recording.load(case.name).digest, "the weights are not the recorded ones: record again"
    return tensors


def _check(path: Path, case: Case, backend: str, kv_bits: int) -> None:
    machine = Machine.of(open_checkpoint(path), choose_ops(backend), kv_bits=kv_bits)
    compare(machine, case, Recording.load(case.name)).check(BOUNDS[kv_bits])


@pytest.mark.parametrize("kv_bits", BOUNDS)
@pytest.mark.parametrize("file", ["published", "f32", "f32.gguf"])
def test_tiny_models(tiny: tuple[Case, Path], file: str, kv_bits: int) -> None:
    _check(tiny[1] / file, tiny[0], "cpu", kv_bits)


@pytest.mark.parametrize("file", ["published", "f32.gguf"])
def test_tiny_models_on_the_reference_backend(tiny: tuple[Case, Path], file: str) -> None:
    _check(tiny[1] / file, tiny[0], "reference", 32)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.slow
def test_real_widths(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    write_safetensors(tmp_path, case.config, _weights(case))
    for kv_bits in BOUNDS:
        _check(tmp_path, case, "cpu", kv_bits)
