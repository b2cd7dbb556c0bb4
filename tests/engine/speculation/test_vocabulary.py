"""The rows of the head that drafts are chosen from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loqal.engine.speculation import vocabulary
from loqal.engine.speculation.vocabulary import DraftVocabulary

VOCAB, FREQUENT = 100, 10


class Head:
    """A head whose hidden rows are its logits; rows come in blocks of four, as kernels pack them."""

    def __init__(self) -> None:
        self.config = type("Config", (), {"vocab_size": VOCAB})()
        self.ops, self.head = self, np.arange(VOCAB, dtype=np.int32)
        self.gathered = 0

    def gather_rows(self, head: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.gathered += 1
        blocks = sorted({row // 4 for row in rows.tolist()})
        ids = np.array([4 * block + i for block in blocks for i in range(4)], np.int32)
        return ids, ids

    def top_k(self, x: np.ndarray, ids: np.ndarray, k: int, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = x[:, ids].copy()
        rows[:, excluded] = -np.inf
        order = np.argsort(-rows, axis=1, kind="stable")[:, :k].astype(np.int32)
        return order, np.take_along_axis(rows, order, axis=1)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Head:
    monkeypatch.setattr(vocabulary, "_FREQUENT", FREQUENT)
    monkeypatch.setattr(vocabulary, "_STALE", 3)
    monkeypatch.setattr(vocabulary, "_MOST_SEEN", 5)
    return Head()


def vocabulary_of(head: Any, padding: tuple[int, ...] = ()) -> DraftVocabulary:
    return DraftVocabulary(head, np.array(padding, np.int32))


def candidates(drafts: DraftVocabulary) -> set[int]:
    """Ids that can be drafted at all."""
    (ids, values), *_ = drafts.top_k(np.zeros((1, VOCAB), np.float32), VOCAB)
    assert np.isin(values, [0.0, -np.inf]).all()
    return set(ids[values == 0.0].tolist())


def test_frequent_ids_and_those_that_were_shown(head: Head) -> None:
    drafts = vocabulary_of(head, padding=(3, 50))
    assert candidates(drafts) == set(range(FREQUENT)) - {3}
    drafts.show([5, 40, 41, 50, 99, VOCAB, -1])
    assert candidates(drafts) == (set(range(FREQUENT)) - {3}) | {40, 41, 99}


def test_the_largest_of_both_parts_and_the_lower_id_of_equals(head: Head) -> None:
    drafts = vocabulary_of(head)
    drafts.show([30, 31, 60])
    hidden = np.zeros((2, VOCAB), np.float32)
    hidden[0, [2, 30, 60, 77]] = [1.0, 2.0, 1.0, 9.0]
    hidden[1, 5] = 4.0
    first, second = drafts.top_k(hidden, 3)
    assert first[0].tolist() == [30, 2, 60] and first[1].tolist() == [2.0, 1.0, 1.0]
    assert second[0].tolist() == [5, 0, 1] and second[1].tolist() == [4.0, 0.0, 0.0]


def test_new_ids_are_taken_up_several_at_a_time(head: Head) -> None:
    drafts = vocabulary_of(head)
    drafts.show([20])
    assert 20 in candidates(drafts)  # the first at once
    gathered = head.gathered
    drafts.show([24, 28])
    drafts.show([28, 24])  # those are known
    assert not {24, 28} & candidates(drafts) and head.gathered == gathered
    drafts.show([32])
    assert {20, 24, 28, 32} <= candidates(drafts) and head.gathered == gathered + 1


def test_those_shown_first_go_when_there_are_too_many(head: Head) -> None:
    drafts = vocabulary_of(head)
    drafts.show(range(20, 90, 10))
    assert candidates(drafts) == set(range(FREQUENT)) | {40, 50, 60, 70, 80}
