"""The interface of compute backends: the operations of the network and their arrays.

The model calls these and nothing else; a backend supplies them. ``reference`` (NumPy) is the specification, ``cpu`` the
native kernels. Letters in shapes: T tokens in the step, S sequences in the step, H heads, D model width, E experts,
K inputs and O outputs of a weight, V vocabulary.

What every backend promises (docs/numerics.md):

* a row's result depends on that row, the weights, and what its own sequence wrote before it, never on its companions;
* cutting a sequence's tokens into steps differently changes no bit;
* the arrays handed in are not changed, except where a method says "in place".
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from loqal.formats.tensor import Tensor
from loqal.ops.records import (
    AttentionMixer,
    AttentionShape,
    DeltaMixer,
    DeltaShape,
    DenseMlp,
    Experts,
    Layer,
    Norm,
    RopeConfig,
)
from loqal.ops.records import FloatArray as FloatArray
from loqal.ops.records import IntArray as IntArray
from loqal.ops.records import Weight as Weight

RawArray = npt.NDArray[Any]
Layers = Any  # a backend's own form of some decoder layers
Pages = Any  # a backend's own store of keys and values of one layer
Slots = Any  # a backend's own store of recurrent states of one layer
VisionHeads = Any  # a backend's own form of the queries, keys and values of one image

NUMERICS_VERSION = 1
"""Raised whenever a change alters a bit of any result; saved states carry it (docs/numerics.md)."""

PAGE_TOKENS = 64
"""Positions in one KV page. A page never holds positions of two sequences."""

KV_BLOCK = 64
"""Dimensions that share a scale in 8-bit keys and values."""

JOURNAL_ROWS = 8
"""Most rows of a step that a sequence may keep out of its recurrent state until it is known which of them stay."""

VISION_SPAN = 512
"""Attention inside an image visits keys in spans of this many patches, counted from the first."""

RUN_INPUTS = 32
"""Inputs that share one scale when an activation is quantized for an int8 product."""


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The arrays of one step: the new tokens of S sequences, laid end to end.

    Sequence ``s`` owns rows ``starts[s]:starts[s + 1]``; its first new token stands at position ``past_len[s]`` of its
    own KV. Prefill, decode and verification of drafts differ only in how many rows a sequence has.
    """

    token_ids: IntArray  # [T]
    positions: IntArray  # [T 3] rotary positions: time, height, width
    starts: IntArray  # [S+1]
    past_len: IntArray  # [S]
    slots: IntArray  # [S] the slot that holds each sequence's recurrent state
    page_table: IntArray  # [S P] page numbers in position order, padded with -1
    capture_rows: IntArray = field(default_factory=lambda: np.empty(0, np.int32))  # [C] ascending
    capture_slots: IntArray = field(default_factory=lambda: np.empty(0, np.int32))  # [C]
    journals: IntArray = field(default_factory=lambda: np.empty(0, np.int32))  # [S] -1: none; empty: nobody has one
    pending: IntArray = field(default_factory=lambda: np.empty(0, np.int32))  # [S] journal rows to be applied first
    defer_state: IntArray = field(default_factory=lambda: np.empty(0, np.int32))  # [S] 1: this run goes to the journal
    logit_rows: IntArray = field(default_factory=lambda: np.empty(0, np.int32))  # [R] rows whose logits are wanted
    input_rows: IntArray = field(default_factory=lambda: np.empty(0, np.int32))  # [M] rows that are no token's
    input_embeddings: FloatArray | None = None  # [M D] what enters the network in these rows

    @property
    def num_tokens(self) -> int:
        """T, the rows of this step."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Rotary:
    """Cosines and sines of one step, already multiplied by the YaRN magnitude: [T rotary_dim/2] each."""

    cos: FloatArray
    sin: FloatArray


class Ops(Protocol):
    """A backend."""

    name: str
    state_layout: str
    """How states lie in memory: those of two backends can be exchanged when this is the same."""

    # Constructors -----------------------------------------------------------------------------------------------

    def pack_weight(self, tensor: Tensor, *, float_inputs: bool = False) -> Weight:
        """Take a linear weight [O K] (or stacked [E O K]) into the backend's own layout.

        With 16 and 32 bit formats the product uses float32 activations. With quantized formats activations are
        quantized to int8 in runs of RUN_INPUTS (largest magnitude to 127, half to even; a run whose 127 / magnitude
        overflows counts as zero), unless ``float_inputs`` asks for float32 ones (small weights whose
        results decide much: decay, write strength, routing).
        """
        ...

    def weight_bytes(self, format: str, shape: tuple[int, ...], *, float_inputs: bool = False) -> int:
        """Bytes that ``pack_weight`` takes for a tensor of this format and shape."""
        ...

    def put_layers(self, layers: Sequence[Layer]) -> Layers:
        """Take decoder layers, whose weights are in the backend already, for ``run_layers``."""
        ...

    def finish_loading(self) -> None:
        """Called once after the last ``pack_weight``. Raises OSError when packed weights cannot be kept on disk."""
        ...

    def put_vector(self, tensor: Tensor) -> FloatArray:
        """Take a small float tensor (norm, bias, convolution) as float32 of its own shape."""
        ...

    def new_pages(self, num_pages: int, shape: AttentionShape, kv_bits: int = 16) -> Pages:
        """Allocate ``num_pages`` pages of keys and values of one attention layer.

        ``kv_bits`` says how they are stored, and so decides bits of the results: 16 is float16, 32 float32; with 8,
        runs of KV_BLOCK dimensions share a float16 scale, largest magnitude / 127, and are rounded half to even.
        """
        ...

    def new_slots(self, num_slots: int, shape: DeltaShape, num_journals: int = 0) -> Slots:
        """Allocate ``num_slots`` recurrent states (float32) of one Gated DeltaNet layer, all zero, and for journals."""
        ...

    def commit(self, slots: Slots, slot: int, journal: int, count: int) -> None:
        """Apply the first ``count`` rows of a journal to a recurrent state, in place: bits as if never deferred."""
        ...

    def clear_slot(self, slots: Slots, slot: int) -> None:
        """Zero one recurrent state in place."""
        ...

    def copy_slot(self, slots: Slots, source: int, target: int) -> None:
        """Copy one recurrent state over another in place."""
        ...

    def copy_page(self, pages: Pages, source: int, target: int) -> None:
        """Copy one page of keys and values over another in place."""
        ...

    def discard_slot(self, slots: Slots, slot: int) -> None:
        """Return the memory of one recurrent state to the system. Its values are lost; it may be used again."""
        ...

    def discard_page(self, pages: Pages, page: int) -> None:
        """Return the memory of one page to the system. Its values are lost; it may be used again."""
        ...

    def slot_arrays(self, slots: Slots, slot: int) -> tuple[RawArray, ...]:
        """The memory of one recurrent state, to be saved, restored or poisoned: arrays of any type, not copies."""
        ...

    def page_arrays(self, pages: Pages, page: int) -> tuple[RawArray, ...]:
        """The memory of one page, to be saved, restored or poisoned: arrays of any type, not copies."""
        ...

    # The network ------------------------------------------------------------------------------------------------

    def embed(self, table: Weight, token_ids: IntArray) -> FloatArray:
        """Rows of the embedding table: [T] -> [T D]."""
        ...

    def rms_norm(self, x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
        """x * rsqrt(mean(x^2) + eps) * weight over the last axis: [T D] -> [T D]."""
        ...

    def linear(self, x: FloatArray, weights: Sequence[Weight], norm: Norm | None = None) -> tuple[FloatArray, ...]:
        """x W^T for several weights that share one activation, normed first if asked: [T K] -> one [T O] each."""
        ...

    def linear_add(self, h: FloatArray, x: FloatArray, weight: Weight) -> FloatArray:
        """h + x W^T, in place on h: [T O], [T K] -> [T O]."""
        ...

    def rotary(self, positions: IntArray, rope: RopeConfig) -> Rotary:
        """Angles of one step, interleaved over three axes, YaRN when configured: [T 3] -> [T rotary_dim/2] twice."""
        ...

    def gated_attention(
        self,
        inputs: Sequence[FloatArray],
        mixer: AttentionMixer,
        rotary: Rotary,
        pages: Pages,
        batch: StepBatch,
        eps: float,
    ) -> FloatArray:
        """Causal grouped attention with an output gate, between the projections of a mixer: -> [T H*head_dim].

        ``inputs`` are query and gate side by side per head [T H*2*head_dim], key and value [T Hkv*head_dim]. Queries
        and keys are normed per head, then rotated. Keys and values are written to ``pages`` in place, then every row
        attends to positions 0 .. its own of its sequence; the context is multiplied by sigmoid(gate).
        """
        ...

    def gated_delta(
        self,
        inputs: Sequence[FloatArray],
        mixer: DeltaMixer,
        slots: Slots,
        batch: StepBatch,
        eps: float,
    ) -> FloatArray:
        """The Gated DeltaNet recurrence, between the projections of a mixer: -> [T Hv*dv].

        ``inputs`` are qkv [T C], z [T Hv*dv], beta and alpha [T Hv].

        Causal convolution of width 4 and silu; queries and keys l2-normed per head (eps 1e-6 on the sum of squares),
        queries scaled by key_dim^-0.5; decay exp(a * softplus(alpha + dt_bias)), write strength sigmoid(beta); per
        token S <- decay S, S <- S + k (strength (v - S^T k))^T, o = S^T q; norm per head over value_dim with weight,
        times silu(z). The state of ``batch.slots`` is advanced in place, and copied to ``capture_slots[i]`` after row
        ``capture_rows[i]``; a capture slot belongs to no sequence of the same step. Heads are 128 wide.

        A sequence with a journal first applies its ``pending`` rows. When it ``defer_state``, its own rows, at most
        JOURNAL_ROWS and without captures, are then recorded in the journal instead of changing the state.
        """
        ...

    def gated_mlp(self, h: FloatArray, x: FloatArray, mlp: DenseMlp, norm: Norm | None = None) -> FloatArray:
        """h + (silu(x gate^T) * (x up^T)) down^T, in place on h: [T D] twice -> [T D].

        With a norm, x is normed first, and may be h itself.
        """
        ...

    def routed_experts(self, h: FloatArray, x: FloatArray, experts: Experts, norm: Norm | None = None) -> FloatArray:
        """h + mixture of experts + gated shared expert, in place on h: [T D] twice -> [T D].

        Softmax over all experts in float32, the ``num_active`` largest (ties: lower index first), weights divided by
        their sum, contributions added to h one by one in descending order of weight; then the shared expert times
        sigmoid(x shared_router^T). With a norm, x is normed first, and may be h itself.
        """
        ...

    def run_layers(
        self, h: FloatArray, layers: Layers, states: Sequence[Pages | Slots], rotary: Rotary, batch: StepBatch
    ) -> FloatArray:
        """Decoder layers one after the other, in place on h, each with its pages or slots: [T D] -> [T D].

        Bit for bit what the operations above give one by one, as layers.py puts them together.
        """
        ...

    def unembed(self, x: FloatArray, head: Weight) -> FloatArray:
        """Logits: [R D] -> [R V]."""
        ...

    def top_k(self, x: FloatArray, head: Weight, k: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        """``candidates`` of each row of ``unembed`` without the excluded ids (ascending).

        [R D] -> ids [R n], logits [R n], where n = min(k, V - excluded). The rows themselves are not stored.
        """
        ...

    def gather_rows(self, weight: Weight, rows: IntArray) -> tuple[Weight, IntArray]:
        """A weight made of some rows of another [O K], ascending, and those that the layout keeps together with them.

        Returns it and which rows it has, ascending. Leading rows of the other are shared, not copied.
        """
        ...

    def concat(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Side by side: [T A], [T B] -> [T A+B]."""
        ...

    def select(self, x: FloatArray, rows: IntArray) -> FloatArray:
        """Some rows: [T D], [R] -> [R D]."""
        ...

    def put_rows(self, x: FloatArray, rows: IntArray, values: FloatArray) -> FloatArray:
        """x with some rows replaced, in place: [T D], [M], [M D] -> [T D]."""
        ...

    # The vision tower -------------------------------------------------------------------------------------------

    def layer_norm(self, x: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> FloatArray:
        """(x - mean) * rsqrt(variance + eps) * weight + bias over the last axis: [N D] -> [N D]."""
        ...

    def add_bias(self, x: FloatArray, bias: FloatArray) -> FloatArray:
        """x + bias in every row, in place: [N D], [D] -> [N D]."""
        ...

    def gelu(self, x: FloatArray, *, exact: bool) -> FloatArray:
        """x times the normal distribution function of x, in place: [N D] -> [N D].

        Exact through the error function, otherwise 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
        """
        ...

    def vision_rotary(self, places: IntArray, head_dim: int, theta: float) -> Rotary:
        """Angles of patches at (row, column) places, [N 2] -> [N head_dim/2] twice.

        The first head_dim/4 pairs turn by the row, the others by the column, each with frequencies
        theta^(-4j / head_dim).
        """
        ...

    def vision_heads(self, qkv: FloatArray, rotary: Rotary, num_heads: int) -> VisionHeads:
        """Take one image's [N 3*H*head_dim] into the backend's own layout for ``vision_attention``.

        ``qkv`` holds queries, keys and values side by side, heads in order. Queries and keys are turned over the whole
        head, pair i being dimensions i and i + head_dim/2; queries are scaled by head_dim^-0.5.
        """
        ...

    def vision_attention(self, heads: VisionHeads, start: int, end: int) -> FloatArray:
        """Rows start to end of softmax attention in which every patch sees all others: -> [end-start, H*head_dim].

        Keys are visited in spans of VISION_SPAN, in ascending order.
        """
        ...

    # Sampling and steps -----------------------------------------------------------------------------------------

    def candidates(self, logits: FloatArray, k: int) -> tuple[IntArray, FloatArray, float]:
        """The min(k, V) largest of one row [V] and the log-sum-exp of the row: ids [k], logits [k], number.

        Largest first; of equal logits the lower id first.
        """
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Exclusive use of the backend for a forward pass or a part of one, first come, first served. Not reentrant."""
        ...
