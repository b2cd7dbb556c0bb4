"""Logits that are computed only as far as a choice needs them, and are the same however far that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loqal.engine.sampling.head_logits import of_rows
from loqal.errors import CheckpointError
from scripted import VOCAB, ScriptedModel, ScriptedOps

PADDING = np.array([3, 60], np.int32)


class Counting(ScriptedModel):
    """Counts the passes over the head."""

    def __init__(self) -> None:
        super().__init__(ScriptedOps(lambda rows: 0.0, 0.0))
        self.passes: list[tuple[str, int]] = []

    def top_k(self, hidden: np.ndarray, k: int, excluded: np.ndarray) -> Any:
        self.passes.append(("top", len(hidden)))
        masked = hidden.copy()
        masked[:, excluded] = -np.inf
        return super().top_k(masked, k, excluded)

    def unembed(self, hidden: np.ndarray) -> np.ndarray:
        self.passes.append(("whole", len(hidden)))
        return super().unembed(hidden)


@pytest.fixture
def model() -> Any:
    return Counting()


@pytest.fixture
def hidden() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (20, VOCAB)).astype(np.float32)


def expected(row: np.ndarray, k: int) -> list[int]:
    order = np.argsort(-row, kind="stable")
    return [int(token) for token in order if token not in PADDING][:k]


def test_one_pass_finds_the_largest_of_all_rows(model: Any, hidden: np.ndarray) -> None:
    rows = of_rows(model, hidden, [4, 2, 7] + [1] * 17, PADDING)
    for row, logits in zip(hidden, rows, strict=True):
        for k in (1, 3, 7):
            ids, values = logits.top_k(k)
            assert ids.tolist() == expected(row, k)
            assert np.array_equal(values, row[ids])
    assert model.passes == [("top", 20)]
    rows[5].top_k(9)  # more than was thought
    assert model.passes[1:] == [("top", 1)]


def test_whole_rows_are_computed_eight_at_a_time_and_only_when_one_is_asked_for(model: Any, hidden: np.ndarray) -> None:
    rows = of_rows(model, hidden, [None] * 20, PADDING)
    assert model.passes == []
    for index in (0, 7, 3, 19, 8):
        found = rows[index].row()
        assert np.isneginf(found[PADDING]).all()
        others = np.setdiff1d(np.arange(VOCAB), PADDING)
        assert np.array_equal(found[others], hidden[index, others])
        assert rows[index].row() is found
    assert model.passes == [("whole", 8), ("whole", 4), ("whole", 8)]


def test_rows_and_largest_mix(model: Any, hidden: np.ndarray) -> None:
    rows = of_rows(model, hidden[:3], [None, 2, None], PADDING)
    assert rows[1].top_k(2)[0].tolist() == expected(hidden[1], 2)
    assert rows[2].row()[5] == hidden[2, 5]
    assert rows[2].top_k(4)[0].tolist() == expected(hidden[2], 4)  # of the row that is there
    assert rows[1].row()[5] == hidden[1, 5]  # alone
    assert model.passes == [("top", 1), ("whole", 2), ("whole", 1)]


def test_many_of_the_largest_come_from_the_whole_row(
    model: Any, hidden: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loqal.engine.sampling.head_logits._MOST_TRACKED", 5)
    rows = of_rows(model, hidden[:2], [5, 6], PADDING)
    assert rows[1].top_k(6)[0].tolist() == expected(hidden[1], 6)
    assert rows[0].top_k(5)[0].tolist() == expected(hidden[0], 5)
    assert model.passes == [("top", 1), ("whole", 1)]


def test_no_finite_logit_is_the_checkpoints_fault(model: Any) -> None:
    for value in (np.nan, -np.inf, np.inf):
        row = np.full((1, VOCAB), value, np.float32)
        with pytest.raises(CheckpointError):
            of_rows(model, row, [1], PADDING)[0].top_k(1)
