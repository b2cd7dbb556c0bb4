"""Lay the runs of several sequences end to end as the arrays of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ops.interface import IntArray, StepBatch
from ..state.store import SequenceState


@dataclass(frozen=True, slots=True)
class Run:
    """The new tokens of one sequence in a step."""

    state: SequenceState  # reserved for these tokens already
    token_ids: Sequence[int]
    positions: IntArray  # [n 3]
    logit_rows: Sequence[int] = ()  # rows of this run whose logits are wanted


def build(runs: Sequence[Run]) -> StepBatch:
    """The arrays of one step, in the order of ``runs``."""
    lengths = [len(run.token_ids) for run in runs]
    starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int32))).astype(np.int32)
    page_table = np.full((len(runs), max(len(run.state.pages) for run in runs)), -1, np.int32)
    for row, run in enumerate(runs):
        page_table[row, : len(run.state.pages)] = run.state.pages
    return StepBatch(
        token_ids=np.concatenate([np.asarray(run.token_ids, np.int32) for run in runs]),
        positions=np.ascontiguousarray(np.concatenate([run.positions for run in runs]), np.int32),
        starts=starts,
        past_len=np.array([run.state.length for run in runs], np.int32),
        slots=np.array([run.state.slot for run in runs], np.int32),
        page_table=page_table,
        logit_rows=np.array(
            [start + row for start, run in zip(starts, runs, strict=False) for row in run.logit_rows], np.int32
        ),
    )
