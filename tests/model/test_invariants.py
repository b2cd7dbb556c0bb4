"""The invariants, on tiny models of both kinds, unquantized and quantized."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import invariants
from loqal.formats import decode
from loqal.ops.backends.cpu import CpuOps, available_isas
from loqal.ops.backends.reference import ReferenceOps
from loqal.testing.checkpoints import random_tensors, tiny_config, write_gguf, write_safetensors
from loqal.weights.load import Checkpoint, open_checkpoint
from machine import Machine, stored

Kind = Literal["dense", "moe"]

MIXED = {
    "*": "Q4_K",
    "embed": "Q6_K",
    "output": "Q6_K",
    "delta.qkv": "Q5_K",
    "delta.z": "IQ4_XS",
    "mlp.gate": "Q3_K",
    "mlp.down": "Q6_K",
    "experts.down": "Q5_0",
    "experts.up": "IQ3_S",
    "attention.value": "Q8_0",
    "attention.out": "Q2_K",
}
"""A format for every kind of kernel: blocks of 256 and of 32, with and without offsets, and one kept as int8."""

MODELS: dict[str, tuple[Kind, dict[str, Any], str | dict[str, str]]] = {
    "dense": ("dense", {}, "F32"),
    "moe": ("moe", {}, "F32"),
    "dense-bf16": ("dense", {}, "BF16"),
    "dense-q8_0": ("dense", {"tied_head": False}, "Q8_0"),
    "dense-mixed": ("dense", {"width": 256, "ffn_width": 512, "tied_head": False}, MIXED),
    "moe-mixed": ("moe", {"width": 256}, MIXED),
}
IDS = np.random.default_rng(5).integers(0, 320, 150).astype(np.int32)
LONG = np.random.default_rng(6).integers(0, 320, 700).astype(np.int32)


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    kind, overrides, formats = MODELS[request.param]
    config = tiny_config(kind, num_heads=4, num_kv_heads=2, num_draft_layers=1, **overrides)
    path = tmp_path_factory.mktemp(request.param) / "model.gguf"
    return open_checkpoint(write_gguf(path, config, random_tensors(config), formats))


@pytest.fixture(scope="module")
def machine(checkpoint: Checkpoint) -> Machine:
    return Machine.of(checkpoint, CpuOps(threads=1))


@pytest.mark.parametrize("chunk_lens", [(1,), (7,), (63, 1, 1, 64, 21), (149, 1)], ids=str)
def test_chunked_is_whole(machine: Machine, chunk_lens: tuple[int, ...]) -> None:
    invariants.chunked_is_whole(machine, IDS, itertools.cycle(chunk_lens))


def test_chunked_is_whole_across_spans(machine: Machine) -> None:
    invariants.chunked_is_whole(machine, LONG, itertools.cycle((200, 1, 310, 2, 187)))


def test_batched_is_alone(machine: Machine) -> None:
    invariants.batched_is_alone(machine, [IDS[:12], IDS[20:90], IDS[5:], IDS[:3]], chunk_len=9)


@pytest.mark.parametrize("at", [1, 63, 64, 65, 140])
def test_a_prefix_can_be_taken_up(machine: Machine, at: int) -> None:
    invariants.adopted_is_computed(machine, IDS, at)
    invariants.captured_within_a_step(machine, IDS, at)
    invariants.rewound_is_never_left(machine, IDS, at, detour=IDS[:70])
    invariants.forks_are_independent(machine, IDS, at, other=IDS[:5])


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.slow
def test_tried_tokens_can_be_taken_back(checkpoint: Checkpoint, isa: str) -> None:
    machine = Machine.of(checkpoint, CpuOps(isa, threads=2))
    for at in (1, 2, 62):
        invariants.deferred_is_plain(machine, IDS, at, tries=[1, 2, 4, 1, 3, 6, 1, 1])


def test_the_specification_can_take_back_tried_tokens(checkpoint: Checkpoint) -> None:
    invariants.deferred_is_plain(Machine.of(checkpoint, ReferenceOps()), IDS[:40], 5, tries=[1, 2, 4, 1, 3])


@pytest.mark.parametrize("kv_bits", [8, 16, 32])
def test_leftovers_change_nothing(checkpoint: Checkpoint, kv_bits: int) -> None:
    invariants.leftovers_change_nothing(Machine.of(checkpoint, CpuOps(threads=1), kv_bits=kv_bits), IDS)


@pytest.mark.parametrize("kv_bits", [8, 16])
def test_instruction_sets_and_threads_change_nothing(checkpoint: Checkpoint, kv_bits: int) -> None:
    machines = {isa: Machine.of(checkpoint, CpuOps(isa, threads=1), kv_bits=kv_bits) for isa in available_isas()}
    for threads in (2, 3):
        machines[f"{threads} threads"] = Machine.of(checkpoint, CpuOps(threads=threads), kv_bits=kv_bits)
    invariants.same_everywhere(machines, IDS)


def test_close_to_the_reference(checkpoint: Checkpoint) -> None:
    machine, reference = (Machine.of(checkpoint, ops, kv_bits=32) for ops in (CpuOps(threads=1), ReferenceOps()))
    tensors = ((name, checkpoint.tensors[name]) for name in checkpoint.tensors)
    decoded = {name: decode(tensor.format, tensor.data, tensor.shape) for name, tensor in tensors}
    unrounded = Machine(checkpoint.config, stored(decoded), CpuOps(threads=1), kv_bits=32)
    invariants.close_to_the_reference(machine, reference, unrounded, IDS[:70], bound=1e-5)


@pytest.mark.parametrize("checkpoint", ["dense", "moe", "dense-q8_0"], indirect=True)
def test_the_reference_keeps_the_invariants(checkpoint: Checkpoint) -> None:
    reference = Machine.of(checkpoint, ReferenceOps())
    invariants.chunked_is_whole(reference, IDS[:70], (30, 1, 39))
    invariants.captured_within_a_step(reference, IDS[:70], 66)
    invariants.leftovers_change_nothing(reference, IDS[:70])


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("format", ["F32", "BF16", "F16"])
def test_file_formats_change_nothing(kind: Kind, format: Literal["F32", "BF16", "F16"], tmp_path: Path) -> None:
    config = tiny_config(kind, num_draft_layers=1)
    tensors = random_tensors(config)
    paths = {
        "GGUF": write_gguf(tmp_path / "model.gguf", config, tensors, format),
        "safetensors": write_safetensors(tmp_path / "model", config, tensors, format),
        "several files": write_safetensors(tmp_path / "parts", config, tensors, format, num_files=3),
    }
    machines = {name: Machine.of(open_checkpoint(path), CpuOps(threads=1)) for name, path in paths.items()}
    invariants.same_everywhere(machines, IDS)
