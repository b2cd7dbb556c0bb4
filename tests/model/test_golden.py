"""The network against recorded logits of transformers in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden.logit_cases import CASES, EXACT_BOUND, Case, Recording, digest
from golden.logit_check import compare
from model.machine import Machine

from loqal.ops.choose import choose_ops
from loqal.ops.interface import AttentionShape
from loqal.ops.reference import ReferenceOps, ReferencePages
from loqal.testing import write_gguf, write_safetensors
from loqal.weights.load import open_checkpoint

TINY = [name for name, case in CASES.items() if case.config.width < 1024]
REAL = [name for name in CASES if name not in TINY]


class WidePagesOps(ReferenceOps):
    """The reference with keys and values in float32, as transformers keeps them."""

    def new_pages(self, num_pages: int, shape: AttentionShape) -> ReferencePages:
        pages = super().new_pages(num_pages, shape)
        return ReferencePages(pages.keys.astype(np.float32), pages.values.astype(np.float32))


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A case and a folder with its checkpoint in both file formats."""
    case = CASES[request.param]
    tensors, folder = _weights(case), tmp_path_factory.mktemp(case.name)
    write_safetensors(folder / "published", case.config, tensors)
    write_safetensors(folder / "f32", case.config, tensors, "F32")
    write_gguf(folder / "f32.gguf", case.config, tensors)
    return case, folder


def _weights(case: Case) -> dict[str, np.ndarray]:
    tensors = case.tensors()
    assert digest(tensors) == Recording.load(case.name).digest, "the weights are not the recorded ones: record again"
    return tensors


@pytest.mark.parametrize("file", ["published", "f32", "f32.gguf"])
def test_tiny_models(tiny: tuple[Case, Path], file: str) -> None:
    case, folder = tiny
    checkpoint = open_checkpoint(folder / file)
    compare(Machine.of(checkpoint, choose_ops()), case, Recording.load(case.name)).check()


@pytest.mark.parametrize("file", ["f32", "f32.gguf"])
def test_the_specification(tiny: tuple[Case, Path], file: str) -> None:
    case, folder = tiny
    machine = Machine.of(open_checkpoint(folder / file), WidePagesOps())
    compare(machine, case, Recording.load(case.name)).check(EXACT_BOUND)


@pytest.mark.parametrize("name", REAL)
def test_real_widths(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    write_safetensors(tmp_path, case.config, _weights(case))
    compare(Machine.of(open_checkpoint(tmp_path), choose_ops()), case, Recording.load(name)).check()
