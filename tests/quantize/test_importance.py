"""Sums of squares of what passes through weights, and the file that keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loqal.errors import CheckpointError, FormatError
from loqal.quantize.importance import Sums, read, write
from loqal.weights.gguf_writer import write_file
from loqal.weights.source import OutTensor


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (count, 6)).astype(np.float32)


def test_the_mean_square_of_every_column() -> None:
    sums = Sums()
    sums.add("a", rows(5))
    sums.add("a", rows(9, 1))
    sums.add("b", rows(2))
    every = np.concatenate([rows(5), rows(9, 1)]).astype(np.float64)
    means = sums.means()
    assert means["a"].shape == (1, 6) and means["a"].dtype == np.float32
    assert means["a"][0] == pytest.approx((every**2).mean(0), rel=1e-6)
    assert set(means) == {"a", "b"}


def test_sums_are_taken_in_float64() -> None:
    sums = Sums()
    sums.add("a", np.full((1, 1), 1e4, np.float32))
    for _ in range(10):
        sums.add("a", np.full((1, 1), 1.0, np.float32))
    assert sums.squares["a"][0, 0] == 1e8 + 10


def test_an_expert_that_nothing_passed_through_gets_the_mean_of_the_others() -> None:
    sums = Sums()
    sums.add("x", rows(4), matrix=0, num_matrices=3)
    sums.add("x", rows(6, 1), matrix=2, num_matrices=3)
    means = sums.means()["x"]
    every = np.concatenate([rows(4), rows(6, 1)])
    assert means[1] == pytest.approx((every**2).mean(0), rel=1e-5)
    assert means[0] == pytest.approx((rows(4) ** 2).mean(0), rel=1e-5)
    assert means[2] == pytest.approx((rows(6, 1) ** 2).mean(0), rel=1e-5)


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    sums = Sums()
    sums.add("blk.0.x.weight", rows(4), matrix=1, num_matrices=2)
    sums.add("y", rows(3))
    path = write(tmp_path / "m.gguf", sums, {"imatrix.datasets": ["texts"]})
    found = read(path)
    assert set(found) == {"blk.0.x.weight", "y"}
    for name, means in sums.means().items():
        assert found[name] == pytest.approx(means, rel=1e-6)


def written(path: Path, kind: str = "imatrix", **tensors: np.ndarray) -> Path:
    names = {"squares": "x.in_sum2", "counts": "x.counts", "other": "other"}
    stored = [
        OutTensor(names[name], "F32", values.shape, values.astype("<f4").tobytes()) for name, values in tensors.items()
    ]
    write_file(path, {"general.type": kind}, stored)
    return path


ONE, TWO = np.ones((2, 6)), np.ones((2, 1))


@pytest.mark.parametrize(
    "tensors",
    [
        {"squares": ONE},
        {"squares": ONE, "counts": np.ones((3, 1))},
        {"squares": -ONE, "counts": TWO},
        {"squares": np.full((2, 6), np.nan), "counts": TWO},
        {"squares": np.full((2, 6), np.inf), "counts": TWO},
    ],
)
def test_sums_that_are_none(tmp_path: Path, tensors: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        read(written(tmp_path / "m.gguf", **tensors))


def test_files_that_are_no_importance(tmp_path: Path) -> None:
    assert np.array_equal(read(written(tmp_path / "a", squares=ONE, counts=TWO, other=ONE))["x"], ONE)
    with pytest.raises(FormatError):
        read(written(tmp_path / "b", "model", squares=ONE, counts=TWO))
    (tmp_path / "c").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError):
        read(tmp_path / "c")
