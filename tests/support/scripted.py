"""A model whose hidden rows are its logits, with a draft head that is right as often as a test says, and a fake clock.

The logits after a token depend on that token and its position alone, so every row can be checked, and what a step costs
is what the test says it costs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from loqal.engine.loop import Loop
from loqal.engine.options import EngineOptions
from loqal.model.config import ModelConfig
from loqal.ops.interface import FloatArray, IntArray, StepBatch
from loqal.state.store import StateStore
from loqal.testing.checkpoints import tiny_config

VOCAB = 64


def logits_after(token_id: int, position: int) -> FloatArray:
    """What follows a token at a position: [V]."""
    return np.random.default_rng((token_id, position)).normal(0, 3, VOCAB).astype(np.float32)


class ScriptedOps:
    """No memory and no arithmetic; a step takes as long as its rows cost."""

    def __init__(self, step_s: Callable[[int], float], pass_s: float) -> None:
        self.step_s, self.pass_s = step_s, pass_s
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()

    def new_pages(self, *_: object) -> None:
        return None

    new_slots = clear_slot = copy_slot = copy_page = discard_slot = discard_page = commit = new_pages

    def gather_rows(self, weight: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
        return rows, rows

    def select(self, x: FloatArray, rows: IntArray) -> FloatArray:
        return x[rows]

    def top_k(self, x: FloatArray, head: IntArray, k: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        rows = x[:, head]
        order = np.argsort(-rows, axis=1, kind="stable")[:, :k].astype(np.int32)
        return order, np.take_along_axis(rows, order, axis=1)

    def candidates(self, logits: FloatArray, k: int) -> tuple[IntArray, FloatArray, float]:
        order = np.argsort(-logits, kind="stable")[:k].astype(np.int32)
        return order, logits[order], float(np.log(np.exp(logits.astype(np.float64)).sum()))


class ScriptedModel:
    """Trunk and head in one."""

    def __init__(self, ops: ScriptedOps) -> None:
        self.ops = ops
        self.config: ModelConfig = tiny_config(vocab_size=VOCAB, num_draft_layers=1)
        self.head = np.arange(VOCAB, dtype=np.int32)

    def forward(self, batch: StepBatch, store: StateStore) -> FloatArray:
        self.ops.now += self.ops.step_s(batch.num_tokens)
        rows = zip(batch.token_ids, batch.positions[:, 0], strict=True)
        return np.stack([logits_after(int(token), int(position)) for token, position in rows])

    def top_k(self, hidden: FloatArray, k: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        return self.ops.top_k(hidden, self.head, k, excluded)

    def unembed(self, hidden: FloatArray) -> FloatArray:
        return hidden.copy()


class ScriptedHead:
    """Right with a given chance, by position."""

    def __init__(self, ops: ScriptedOps, chance: Callable[[int], float]) -> None:
        self._ops, self._chance = ops, chance

    def forward(self, batch: StepBatch, hidden: FloatArray, pages: object) -> FloatArray:
        self._ops.now += self._ops.pass_s
        rows = []
        for token, place in zip(batch.token_ids.tolist(), batch.positions[:, 0].tolist(), strict=True):
            row = logits_after(token, place + 1)
            is_right = np.random.default_rng((7, place)).random() < self._chance(place)
            rows.append(row if is_right else np.roll(row, 1) - 100 * (row == row.max()))
        return np.stack(rows).astype(np.float32)


def scripted_loop(
    ops: ScriptedOps, chance: Callable[[int], float] | None, *, num_slots: int = 8, **settings: Any
) -> Loop:
    """A loop over the scripted model; without ``chance`` it never guesses."""
    model: Any = ScriptedModel(ops)
    anything: Any = ops
    store = StateStore(anything, model.config, num_slots=num_slots, num_pages=200, num_journals=num_slots)
    options = {"context_len": 4096, "drafts": chance is not None, "clock": ops.clock, "max_sequences": num_slots}
    head: Any = None if chance is None else ScriptedHead(ops, chance)
    return Loop(model, store, EngineOptions(**(options | settings)), draft_head=head)
