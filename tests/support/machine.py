"""One model on one backend with room for a few sequences, driven step by step without the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from loqal.engine.step_batch import Run, build
from loqal.formats.tensor import Tensor
from loqal.model.config import ModelConfig
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.ops.interface import FloatArray, IntArray, Ops, StepBatch
from loqal.state.store import SequenceState, StateStore
from loqal.weights.load import Checkpoint

Ids = Sequence[int] | IntArray


def stored(tensors: Mapping[str, FloatArray]) -> dict[str, Tensor]:
    """Float32 arrays by our names as the loader hands them to the model."""
    return {
        name: Tensor(name, "F32", values.shape, np.ascontiguousarray(values).reshape(-1).view(np.uint8), "test")
        for name, values in tensors.items()
    }


def text_positions(start: int, count: int) -> IntArray:
    """Rotary positions of plain text, [count 3]."""
    return np.repeat(np.arange(start, start + count, dtype=np.int32)[:, None], 3, axis=1)


class Machine:
    """A decoder, its draft head when it has one, and a store of states."""

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, Tensor],
        ops: Ops,
        *,
        num_slots: int = 4,
        num_pages: int = 32,
        kv_bits: int = 16,
    ) -> None:
        self.config, self.ops = config, ops
        self.decoder = Decoder(config, ops, tensors)
        self.draft_head = DraftHead(self.decoder, tensors) if config.num_draft_layers else None
        self.store = StateStore(ops, config, num_slots=num_slots, num_pages=num_pages, kv_bits=kv_bits, num_journals=1)

    @classmethod
    def of(cls, checkpoint: Checkpoint, ops: Ops, **room: int) -> Machine:
        """The machine of an opened checkpoint."""
        return cls(checkpoint.config, checkpoint.tensors, ops, **room)

    def hidden(
        self,
        state: SequenceState,
        ids: Ids,
        positions: IntArray | None = None,
        inputs: Sequence[tuple[int, FloatArray]] = (),
    ) -> FloatArray:
        """Run one sequence on by ``ids``: the trunk's rows [n D]. ``inputs`` as in ``step_batch.Run``."""
        self.store.reserve(state, len(ids))
        where = text_positions(state.length, len(ids)) if positions is None else positions
        batch = build([Run(state, list(ids), where, inputs=inputs)])
        with self.ops.exclusive():
            rows = self.decoder.forward(batch, self.store)
        self.store.advance(state, len(ids))
        return rows

    def logits(self, state: SequenceState, ids: Ids, positions: IntArray | None = None) -> FloatArray:
        """Run one sequence on by ``ids``: the trunk's logits [n V]."""
        return self.decoder.unembed(self.hidden(state, ids, positions))

    def logits_with(
        self, state: SequenceState, ids: Ids, positions: IntArray, inputs: Sequence[tuple[int, FloatArray]]
    ) -> FloatArray:
        """As ``logits``, with rows that are no tokens: [n V]."""
        return self.decoder.unembed(self.hidden(state, ids, positions, inputs))

    def draft(self, state: SequenceState, ids: Ids, hidden: FloatArray, positions: IntArray) -> FloatArray:
        """Rows of the draft head [n D] for ``hidden`` [n D] and the tokens that follow, in a state of its own."""
        assert self.draft_head is not None and self.store.draft_pages is not None
        self.store.reserve(state, len(ids))
        rows = self.draft_head.forward(build([Run(state, list(ids), positions)]), hidden, self.store.draft_pages)
        self.store.advance(state, len(ids))
        return rows

    def step(self, *runs: tuple[SequenceState, Ids], captures: Sequence[tuple[int, int]] = ()) -> list[FloatArray]:
        """One step of trunk and draft head for several sequences: the logits of both side by side, [n V or 2V] each.

        The draft head pairs every row with its own token, since any will do where bits are compared. ``captures`` are
        pairs of a row of the step and the slot that takes a copy of the state after it.
        """
        for state, ids in runs:
            self.store.reserve(state, len(ids))
        batch = build([Run(state, list(ids), text_positions(state.length, len(ids))) for state, ids in runs])
        rows, slots = np.array(captures, np.int32).reshape(-1, 2).T.copy()
        with self.ops.exclusive():
            logits = self._both(replace(batch, capture_rows=rows, capture_slots=slots))
        for state, ids in runs:
            self.store.advance(state, len(ids))
        return [logits[start:end] for start, end in zip(batch.starts[:-1], batch.starts[1:], strict=True)]

    def try_step(self, state: SequenceState, ids: Ids, kept: int) -> FloatArray:
        """A step that defers and keeps the first tokens only: the logits of all, [n V or 2V]."""
        assert self.store.defer(state)
        self.store.reserve(state, len(ids))
        batch = build([Run(state, list(ids), text_positions(state.length, len(ids)), defer_state=True)])
        with self.ops.exclusive():
            logits = self._both(batch)
        self.store.advance(state, kept, deferred=True)
        return logits

    def _both(self, batch: StepBatch) -> FloatArray:
        rows = self.decoder.forward(batch, self.store)
        logits = self.decoder.unembed(rows)
        if self.draft_head is None or self.store.draft_pages is None:
            return logits
        drafted = self.draft_head.forward(batch, rows, self.store.draft_pages)
        return np.concatenate([logits, self.decoder.unembed(drafted)], axis=1)
