"""Step batch: the runs of several sequences laid end to end as the arrays of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from loqal.ops.interface import FloatArray, IntArray, StepBatch
from loqal.state.store import SequenceState


@dataclass(frozen=True, slots=True)
class Run:
    """The new tokens of one sequence in a step."""

    state: SequenceState  # reserved for these tokens already
    token_ids: Sequence[int]
    positions: IntArray  # [n 3]
    logit_rows: Sequence[int] = ()  # rows of this run whose logits are wanted
    captures: Sequence[tuple[int, int]] = ()  # rows of this run after which the state is copied, and to which slot
    defer_state: bool = False  # leave the recurrent state unchanged, since some of the tokens may be rejected
    inputs: Sequence[tuple[int, FloatArray]] = ()  # rows that are no tokens: the first of a block, and the block [n D]


def build(runs: Sequence[Run]) -> StepBatch:
    """The arrays of one step, in the order of ``runs``."""
    starts = [0, *accumulate(len(run.token_ids) for run in runs)]
    states = [run.state for run in runs]
    past_len, slots, journals, pending, defer_state = np.array(  # one array, since making one takes microseconds
        [
            [state.length for state in states],
            [state.slot for state in states],
            [state.journal for state in states],
            [state.pending for state in states],
            [run.defer_state for run in runs],
        ],
        np.int32,
    )
    page_table = np.full((len(runs), max(len(run.state.pages) for run in runs)), -1, np.int32)
    for row, run in enumerate(runs):
        page_table[row, : len(run.state.pages)] = run.state.pages
    captures = [(start + row, slot) for start, run in zip(starts, runs, strict=False) for row, slot in run.captures]
    inputs = [(start + row, block) for start, run in zip(starts, runs, strict=False) for row, block in run.inputs]
    return StepBatch(
        token_ids=np.concatenate([np.asarray(run.token_ids, np.int32) for run in runs]),
        positions=np.ascontiguousarray(np.concatenate([run.positions for run in runs]), np.int32),
        starts=np.array(starts, np.int32),
        past_len=past_len,
        slots=slots,
        page_table=page_table,
        capture_rows=np.array([row for row, _ in captures], np.int32),
        capture_slots=np.array([slot for _, slot in captures], np.int32),
        journals=journals,
        pending=pending,
        defer_state=defer_state,
        logit_rows=np.array(
            [start + row for start, run in zip(starts, runs, strict=False) for row in run.logit_rows], np.int32
        ),
        input_rows=np.concatenate([np.arange(row, row + len(block), dtype=np.int32) for row, block in inputs])
        if inputs
        else np.empty(0, np.int32),
        input_embeddings=np.concatenate([block for _, block in inputs]) if inputs else None,
    )
