"""What a file holds, by role and format."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import tiny_checkpoint
from loqal.formats import FORMATS
from loqal.hub import catalog
from loqal.model.sizes import SIZES, parameter_count
from loqal.model.tensor_names import entries
from loqal.performance.weight_mix import of_checkpoint, of_release
from loqal.weights.load import open_checkpoint

RELEASES = [(size, file.quant) for size, release in catalog.releases().items() for file in release.files]


def total(group: object) -> int:
    return sum(group.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_has_one_role(size: str) -> None:
    config, weights = of_release(size, "Q4_K_M")
    every = sum(math.prod(entry.shape) for entry in entries(config) if entry.part != "vision")
    groups = (weights.body, weights.idle, weights.head, weights.embedding)
    assert sum(map(total, groups)) + weights.small == every
    assert sum(weights.total(format) for format in weights.formats) == sum(map(total, groups))
    totals = [weights.total(format) for format in weights.formats]
    assert totals == sorted(totals, reverse=True)
    assert bool(weights.embedding) is not config.tied_head
    counts = parameter_count(SIZES[size])
    if config.experts is not None:
        assert total(weights.body) + weights.small == pytest.approx(counts["active"], rel=0.02)
        assert weights.idle
    else:
        assert not weights.idle


@pytest.mark.parametrize(("size", "quant"), RELEASES)
def test_published_files_are_met_nearly(size: str, quant: str) -> None:
    _, weights = of_release(size, quant)
    file = catalog.releases()[size].file(quant)
    assert file is not None and weights.file_bytes == file.size_bytes
    assert 0.75 < weights.scale < (1.5 if quant.endswith("Q8_K_XL") else 1.35)  # those keep much in BF16
    assert set(weights.formats) <= FORMATS.keys()


def test_small_weights_that_decide_much_are_decoded() -> None:
    config, weights = of_release("9B", "Q4_K_M")
    steering = sum(math.prod(entry.shape) for entry in entries(config) if entry.suffix in ("delta.alpha", "delta.beta"))
    assert weights.body["F32"] == steering > 0


def test_an_unknown_quantization_is_estimated() -> None:
    _, weights = of_release("9B", "Q4_1")
    assert weights.scale == pytest.approx(1.0, rel=0.3) and "Q4_0" in weights.formats


def test_a_file_that_is_here(tmp_path: Path) -> None:
    path = tiny_checkpoint.gguf(tmp_path / "tiny.gguf")
    checkpoint = open_checkpoint(path)
    config, weights = of_checkpoint(checkpoint)
    assert weights.file_bytes == path.stat().st_size and weights.scale == 1.0
    every = sum(math.prod(entry.shape) for entry in entries(config) if entry.part != "vision")
    assert sum(map(total, (weights.body, weights.idle, weights.head, weights.embedding))) + weights.small == every
    assert set(weights.by_name) == {entry.name for entry in entries(config)}
    assert weights.num_merges == len(checkpoint.metadata["tokenizer.ggml.merges"])
