"""A file that llama.cpp's converter and quantizer wrote loads unchanged, and means here what it means there."""

from __future__ import annotations

import numpy as np
import pytest
from golden.llama_cases import SMALL, SMALL_FILE, LlamaRecording, divergence
from golden.logit_cases import digest

from loqal.formats import decode
from loqal.ops.choose import choose_ops
from loqal.weights.load import Checkpoint, open_checkpoint
from machine import Machine, stored


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(SMALL_FILE)


@pytest.fixture(scope="module")
def recording() -> LlamaRecording:
    recording = LlamaRecording.load()
    assert digest(SMALL.tensors()) == recording.digest, "the weights are not the recorded ones: record again"
    return recording


def _logits(machine: Machine) -> np.ndarray:
    return machine.logits(machine.store.open(), SMALL.ids())


def test_the_configuration(checkpoint: Checkpoint) -> None:
    assert checkpoint.config == SMALL.config
    assert not checkpoint.ignored


def test_every_tensor(checkpoint: Checkpoint) -> None:
    formats = {}
    for name, values in SMALL.tensors().items():
        tensor = checkpoint.tensors[name]
        decoded = decode(tensor.format, tensor.data, tensor.shape)
        if tensor.format == "F32":
            np.testing.assert_allclose(decoded, values, rtol=1e-6)
        else:
            formats[tensor.format] = np.corrcoef(decoded.ravel(), values.ravel())[0, 1]
    assert {"Q4_K", "Q5_0"} <= formats.keys()
    assert min(formats.values()) > 0.99, formats


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_logits(checkpoint: Checkpoint, recording: LlamaRecording, backend: str) -> None:
    """The divergence from llama.cpp is that of two ways to round activations to 8 bits, far below the weights' own."""
    logits = _logits(Machine.of(checkpoint, choose_ops(backend)))
    assert divergence(recording.quantised, logits) < 0.1 * divergence(recording.exact, recording.quantised)
    assert divergence(recording.exact, logits) < 1.1 * divergence(recording.exact, recording.quantised)


def test_the_unquantized_logits(recording: LlamaRecording) -> None:
    logits = _logits(Machine(SMALL.config, stored(SMALL.tensors()), choose_ops()))
    assert divergence(recording.exact, logits) < 1e-5  # the recording is in float16
