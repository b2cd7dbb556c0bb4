"""The arrays of a step, from the runs of several sequences."""

from __future__ import annotations

import numpy as np

from loqal.engine.step_batch import Run, build
from loqal.state.store import SequenceState


def positions(start: int, count: int) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.int32)[:, None] + np.array([0, 100, 200], np.int32)


def test_runs_stand_end_to_end() -> None:
    first = Run(SequenceState(3, [7, 9], length=64), [11, 12], positions(64, 2), logit_rows=[1], captures=[(0, 5)])
    block = np.arange(8, dtype=np.float32).reshape(2, 4)
    second = Run(
        SequenceState(1, [2], length=0, journal=4, pending=2),
        [21, 22, 23],
        positions(0, 3),
        logit_rows=[0, 2],
        captures=[(1, 6), (2, 0)],
        defer_state=True,
        inputs=[(1, block)],
    )
    batch = build([first, second])
    assert batch.token_ids.tolist() == [11, 12, 21, 22, 23] and batch.num_tokens == 5
    assert batch.starts.tolist() == [0, 2, 5]
    assert np.array_equal(batch.positions, np.concatenate([positions(64, 2), positions(0, 3)]))
    assert batch.past_len.tolist() == [64, 0]
    assert batch.slots.tolist() == [3, 1]
    assert batch.page_table.tolist() == [[7, 9], [2, -1]]
    assert batch.capture_rows.tolist() == [0, 3, 4] and batch.capture_slots.tolist() == [5, 6, 0]
    assert batch.journals.tolist() == [-1, 4] and batch.pending.tolist() == [0, 2]
    assert batch.defer_state.tolist() == [0, 1]
    assert batch.logit_rows.tolist() == [1, 2, 4]
    assert batch.input_rows.tolist() == [3, 4]
    assert batch.input_embeddings is not None and np.array_equal(batch.input_embeddings, block)


def test_every_array_of_indices_is_int32_also_when_it_is_empty() -> None:
    batch = build([Run(SequenceState(0, [0]), [5], positions(0, 1))])
    assert batch.input_embeddings is None
    for name in (
        "token_ids",
        "positions",
        "starts",
        "past_len",
        "slots",
        "page_table",
        "capture_rows",
        "capture_slots",
    ):
        assert getattr(batch, name).dtype == np.int32, name
    for name in ("capture_rows", "capture_slots", "logit_rows", "input_rows"):
        assert getattr(batch, name).shape == (0,) and getattr(batch, name).dtype == np.int32, name
