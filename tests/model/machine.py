"""One model on one backend with room for a few sequences, driven step by step without the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from loqal.engine.step_batch import Run, build
from loqal.model.config import ModelConfig
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.ops.interface import FloatArray, IntArray, Ops
from loqal.quant.tensor import Tensor
from loqal.state.store import SequenceState, StateStore
from loqal.weights.load import Checkpoint

Ids = Sequence[int] | IntArray


def stored(tensors: Mapping[str, FloatArray]) -> dict[str, Tensor]:
    """Float32 arrays by our names as the loader hands them to the model."""
    return {
        name: Tensor(name, "F32", values.shape, np.ascontiguousarray(values).reshape(-1).view(np.uint8), "test")
        for name, values in tensors.items()
    }


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
        self.store = StateStore(ops, config, num_slots=num_slots, num_pages=num_pages, kv_bits=kv_bits)

    @classmethod
    def of(cls, checkpoint: Checkpoint, ops: Ops, **room: int) -> Machine:
        """The machine of an opened checkpoint."""
        return cls(checkpoint.config, checkpoint.tensors, ops, **room)

    def step(self, *runs: tuple[SequenceState, Ids], positions: IntArray | None = None) -> list[FloatArray]:
        """One step for several sequences: the hidden rows [n D] of each. ``positions`` [n 3] is for a lone sequence."""
        for state, ids in runs:
            self.store.reserve(state, len(ids))
        batch = build(
            [
                Run(state, list(ids), text_positions(state.length, len(ids)) if positions is None else positions)
                for state, ids in runs
            ]
        )
        hidden = self.ops.run_step(lambda batch: self.decoder.forward(batch, self.store), batch)
        for state, ids in runs:
            self.store.advance(state, len(ids))
        return [hidden[start:end] for start, end in zip(batch.starts[:-1], batch.starts[1:], strict=True)]

    def hidden(self, state: SequenceState, ids: Ids, positions: IntArray | None = None) -> FloatArray:
        """Run one sequence on by ``ids``: the hidden rows [n D]."""
        return self.step((state, ids), positions=positions)[0]

    def logits(self, state: SequenceState, ids: Ids, positions: IntArray | None = None) -> FloatArray:
        """Run one sequence on by ``ids``: the logits of every row [n V]."""
        return self.decoder.unembed(self.hidden(state, ids, positions))

    def draft(self, state: SequenceState, ids: Ids, hidden: FloatArray, positions: IntArray) -> FloatArray:
        """Rows of the draft head [n D] for ``hidden`` [n D] and the tokens that follow.

        ``state.length`` tokens were seen by the draft head so far; the caller gives it a state of its own.
        """
        assert self.draft_head is not None and self.store.draft_pages is not None
        self.store.reserve(state, len(ids))
        rows = self.draft_head.forward(build([Run(state, list(ids), positions)]), hidden, self.store.draft_pages)
        self.store.advance(state, len(ids))
        return rows


def text_positions(start: int, count: int) -> IntArray:
    """Rotary positions of plain text, [count 3]."""
    return np.repeat(np.arange(start, start + count, dtype=np.int32)[:, None], 3, axis=1)
