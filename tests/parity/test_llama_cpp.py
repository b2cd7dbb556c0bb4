"""The same GGUF files in loqal and in llama.cpp, live.

Needs llama-cpp-python 0.3.36. ``LLAMA_CPP_SOURCE`` names a folder with the sources of llama.cpp (``vendor/llama.cpp``
of the source package); without it the converter is not run, and the files start from loqal's own writer.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from golden import llama_peer
from golden.llama_cases import DENSE, MOE, LlamaCase, divergence

from loqal.formats import decode
from loqal.model.config import ExpertsConfig, YarnConfig
from loqal.ops.choose import choose_ops
from loqal.ops.interface import FloatArray
from loqal.testing.checkpoints import write_gguf
from loqal.weights.load import Checkpoint, open_checkpoint
from machine import Machine, stored

pytestmark = pytest.mark.parity
SOURCE = os.environ.get("LLAMA_CPP_SOURCE")
CASES = {"dense": DENSE, "moe": MOE}
VARIANTS = {
    "some experts": replace(MOE.config, experts=ExpertsConfig(4, 2, 256, 256)),
    "yarn": replace(
        DENSE.config,
        rope=replace(DENSE.config.rope, yarn=YarnConfig(factor=4.0, original_context=128)),
        context_len=512,
    ),
}
VOCABULARY = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen35",
    "tokenizer.ggml.tokens": [f"<{i}>" for i in range(DENSE.config.vocab_size)],
    "tokenizer.ggml.token_type": np.ones(DENSE.config.vocab_size, np.int32),
    "tokenizer.ggml.merges": ["< 0"],
}
CHANCE = 1.08
"""Two ways to round activations that are equally good differ by this much in what 512 tokens show."""

SUPER_BLOCKS = ("_K", "_K_S", "_K_M", "IQ3_S", "IQ3_M", "IQ4_XS")
"""Ends of the file types whose blocks hold 256 weights. There llama.cpp rounds activations in runs of 256 too, where
loqal keeps to its runs of 32."""


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> LlamaCase:
    return CASES[request.param]


@pytest.fixture(scope="module")
def exact_file(case: LlamaCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exact")
    if SOURCE is not None:
        return llama_peer.convert(Path(SOURCE), case, folder)
    return write_gguf(folder / "f32.gguf", case.config, case.tensors(), metadata=VOCABULARY)


@pytest.fixture(scope="module")
def exact(case: LlamaCase, exact_file: Path) -> FloatArray:
    """The logits of the unquantized model."""
    return _logits(case, Machine.of(open_checkpoint(exact_file), choose_ops()))


def _logits(case: LlamaCase, machine: Machine) -> FloatArray:
    return machine.logits(machine.store.open(), case.ids())


def _decoded(checkpoint: Checkpoint) -> dict[str, FloatArray]:
    tensors = ((name, checkpoint.tensors[name]) for name in checkpoint.tensors)
    return {name: decode(tensor.format, tensor.data, tensor.shape) for name, tensor in tensors}


@pytest.mark.skipif(SOURCE is None, reason="LLAMA_CPP_SOURCE does not name the sources of llama.cpp")
def test_the_converter(case: LlamaCase, exact_file: Path) -> None:
    """The converted file holds the tensors that loqal reads from the safetensors itself."""
    checkpoint = open_checkpoint(exact_file)
    assert checkpoint.config == case.config
    assert not checkpoint.ignored
    decoded = _decoded(checkpoint)
    for name, values in case.tensors().items():
        np.testing.assert_allclose(decoded[name], values, rtol=3e-7, err_msg=name)


def test_unquantized(case: LlamaCase, exact_file: Path, exact: FloatArray) -> None:
    _close(exact, llama_peer.logits(exact_file, case.ids()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_unquantized_variants(variant: str, tmp_path: Path) -> None:
    case = replace(DENSE, config=VARIANTS[variant])
    file = write_gguf(tmp_path / "model.gguf", case.config, case.tensors(), metadata=VOCABULARY)
    _close(_logits(case, Machine.of(open_checkpoint(file), choose_ops())), llama_peer.logits(file, case.ids()))


def _close(ours: FloatArray, theirs: FloatArray) -> None:
    error = float(np.abs(ours - theirs).max() / theirs.std())
    print(f"largest difference {error:.2e} standard deviations")
    assert error < 1e-3


@pytest.mark.parametrize("file_type", llama_peer.FILE_TYPES)
def test_quantized(case: LlamaCase, exact_file: Path, exact: FloatArray, file_type: str, tmp_path: Path) -> None:
    """loqal is no further than llama.cpp from the unquantized model, nor from the file's own weights in float32.

    The first distance is mostly the loss of the weights, which both share; the second is what the arithmetic adds.
    """
    file = llama_peer.quantize(exact_file, tmp_path / "model.gguf", file_type)
    checkpoint = open_checkpoint(file)
    ours, theirs = _logits(case, Machine.of(checkpoint, choose_ops())), llama_peer.logits(file, case.ids())
    plain = _logits(case, Machine(checkpoint.config, stored(_decoded(checkpoint)), choose_ops()))
    loss = divergence(exact, ours), divergence(exact, theirs)
    added = divergence(plain, ours), divergence(plain, theirs)
    print(f"{file_type}: from F32 {loss[0]:.4e} | {loss[1]:.4e}, from its weights {added[0]:.4e} | {added[1]:.4e}")
    assert loss[0] <= CHANCE * loss[1]
    assert added[0] <= (0.6 if file_type.endswith(SUPER_BLOCKS) else CHANCE) * added[1]
