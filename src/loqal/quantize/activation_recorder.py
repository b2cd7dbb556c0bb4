"""Runs texts and pictures through a model and sums the squares of what passes through every weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loqal.engine.step_batch import Run, build
from loqal.formats import FORMATS
from loqal.formats.tensor import Tensor
from loqal.model.config import ModelConfig
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.model.tensor_names import entries
from loqal.ops.interface import PAGE_TOKENS, FloatArray, IntArray, Ops, Weight
from loqal.ops.layers import run_layers, unchanged
from loqal.ops.records import DenseMlp, Experts, Norm
from loqal.quantize.importance import Sums
from loqal.state.store import SequenceState, StateStore

CHUNK_TOKENS = 512
"""Texts are cut into pieces of this many tokens, each read from an empty state, as llama.cpp's tool does it.

The sums and the file depend on it, so it is not the engine's chunk size, on which no result depends."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is read from an empty state: tokens, where they stand, and rows that are no tokens as in ``Run.inputs``."""

    token_ids: Sequence[int]
    positions: IntArray  # [n 3]
    inputs: Sequence[tuple[int, FloatArray]] = ()


def text_pieces(token_ids: Sequence[int]) -> list[Piece]:
    """A text, cut."""
    cuts = [token_ids[start : start + CHUNK_TOKENS] for start in range(0, len(token_ids), CHUNK_TOKENS)]
    return [Piece(cut, np.repeat(np.arange(len(cut), dtype=np.int32)[:, None], 3, axis=1)) for cut in cuts]


class RecordingOps:
    """A backend in front of another that notes the inputs of every weight. What it computes is not bit-exact.

    Fused operations are taken apart, since what passes between their halves matters too. Stacked experts are kept as
    single weights.
    """

    put_layers, run_layers = unchanged, run_layers

    def __init__(self, ops: Ops, names: Mapping[str, str]) -> None:
        self._ops, self._names, self.sums = ops, names, Sums()
        self._known: dict[int, tuple[str, Weight, int, int]] = {}  # by id: name, weight, matrix, number of matrices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def pack_weight(self, tensor: Tensor, *, float_inputs: bool = False) -> Weight:
        """See Ops. The tensor's name is kept with the handle."""
        name = self._names[tensor.name]
        if len(tensor.shape) == 2:
            weight = self._ops.pack_weight(tensor, float_inputs=float_inputs)
            self._known[id(weight)] = (name, weight, 0, 1)
            return weight
        count, *shape = tensor.shape
        size = len(tensor.data) // count
        experts = []
        for i in range(count):
            one = replace(tensor, shape=tuple(shape), data=tensor.data[i * size : (i + 1) * size])
            experts.append(self._ops.pack_weight(one, float_inputs=float_inputs))
            self._known[id(experts[-1])] = (name, experts[-1], i, count)
        return experts

    def linear(self, x: FloatArray, weights: Sequence[Weight], norm: Norm | None = None) -> tuple[FloatArray, ...]:
        """See Ops."""
        x = self._normed(x, norm)
        for weight in weights:
            self._note(weight, x)
        return self._ops.linear(x, weights)

    def linear_add(self, h: FloatArray, x: FloatArray, weight: Weight) -> FloatArray:
        """See Ops."""
        self._note(weight, x)
        return self._ops.linear_add(h, x, weight)

    def gated_mlp(self, h: FloatArray, x: FloatArray, mlp: DenseMlp, norm: Norm | None = None) -> FloatArray:
        """See Ops."""
        return self.linear_add(h, _gated(*self.linear(x, (mlp.gate, mlp.up), norm)), mlp.down)

    def routed_experts(self, h: FloatArray, x: FloatArray, experts: Experts, norm: Norm | None = None) -> FloatArray:
        """See Ops."""
        x = self._normed(x, norm)
        logits, shared_logits = self.linear(x, (experts.router, experts.shared_router))
        chosen = np.argsort(-logits, axis=1, kind="stable")[:, : experts.num_active]
        picked = np.take_along_axis(logits, chosen, axis=1).astype(np.float64)
        share = np.exp(picked - picked.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        for expert in np.unique(chosen).tolist():
            rows, places = np.nonzero(chosen == expert)
            inner = _gated(*self.linear(x[rows], (experts.gate[expert], experts.up[expert])))
            (out,) = self.linear(inner, (experts.down[expert],))
            h[rows] += share[rows, places][:, None].astype(np.float32) * out
        shared_inner = _gated(*self.linear(x, (experts.shared_gate, experts.shared_up)))
        (shared,) = self.linear(shared_inner, (experts.shared_down,))
        h += shared / (1 + np.exp(-shared_logits))
        return h

    def unembed(self, x: FloatArray, head: Weight) -> FloatArray:
        """Notes the inputs of the head; the logits are not needed."""
        self._note(head, x)
        return np.empty((len(x), 0), np.float32)

    def _normed(self, x: FloatArray, norm: Norm | None) -> FloatArray:
        return x if norm is None else self._ops.rms_norm(x, norm.weight, norm.eps)

    def _note(self, weight: Weight, x: FloatArray) -> None:
        name, _, matrix, count = self._known[id(weight)]
        self.sums.add(name, x, matrix, count)


def _gated(gate: FloatArray, up: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        out: FloatArray = gate / (1 + np.exp(-gate)) * up
    return np.ascontiguousarray(out)


def collect(
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    ops: Ops,
    pieces: Sequence[Piece],
    progress: Callable[[int], None],
) -> Sums:
    """The sums over some pieces. ``progress`` gets the number of tokens that were read.

    The draft head reads along: at every token, the trunk's row and the token that follows, as when it guesses the one
    after that. The head's sums are of the trunk's rows alone, which decide answers.
    """
    config = replace(config, vision=None)
    recorder = RecordingOps(ops, {entry.name: entry.gguf for entry in entries(config)})
    decoder = Decoder(config, recorder, tensors)
    draft_head = DraftHead(decoder, tensors) if config.num_draft_layers else None
    recorder.finish_loading()
    kv_bits = 32 if FORMATS[tensors["embed"].format].is_float else 16
    num_pages = -(-max(len(piece.token_ids) for piece in pieces) // PAGE_TOKENS)
    store = StateStore(recorder, config, num_slots=1, num_pages=num_pages, kv_bits=kv_bits)
    num_read = 0
    for piece in pieces:
        state = store.open()
        store.reserve(state, len(piece.token_ids))
        hidden = decoder.forward(build([Run(state, piece.token_ids, piece.positions, inputs=piece.inputs)]), store)
        decoder.unembed(hidden)
        if draft_head is not None and store.draft_pages is not None and len(piece.token_ids) > 1:
            own = SequenceState(state.slot, state.pages)
            following = build([Run(own, piece.token_ids[1:], piece.positions[:-1])])
            draft_head.forward(following, np.ascontiguousarray(hidden[:-1]), store.draft_pages)
        store.release(state)
        num_read += len(piece.token_ids)
        progress(num_read)
    return recorder.sums
