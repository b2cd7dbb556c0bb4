"""Every operation in NumPy: the specification of the fast backends, and what their tests compare with.

Rules that hold throughout:

* results and states are float32, everything between is float64, so that a result is the rounded exact one;
* activations of quantized weights pass through ``quantize_inputs``, in float32 operation by operation: the fast
  backends must choose the very same integers;
* what depends on a row's content is computed one row at a time, because the summation order inside a BLAS product
  may depend on the number of rows, and rows must not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loqal.formats import decode
from loqal.formats.table import find_format
from loqal.formats.tensor import Tensor
from loqal.ops.fair_lock import FairLock
from loqal.ops.interface import (
    KV_BLOCK,
    PAGE_TOKENS,
    RUN_INPUTS,
    FloatArray,
    IntArray,
    RawArray,
    Rotary,
    StepBatch,
)
from loqal.ops.layers import run_layers, unchanged
from loqal.ops.records import (
    AttentionMixer,
    AttentionShape,
    DeltaMixer,
    DeltaShape,
    DenseMlp,
    Experts,
    Norm,
    RopeConfig,
)
from loqal.ops.rope import inverse_frequencies, vision_frequencies

DoubleArray = npt.NDArray[np.float64]

L2_EPS = 1e-6
"""Added to the sum of squares of a Gated DeltaNet query or key before its root."""


@dataclass(frozen=True, slots=True)
class ReferenceWeight:
    """A linear weight, decoded."""

    matrix: FloatArray  # [O K] or [E O K]
    quantized_inputs: bool  # whether activations are rounded to int8 before the product


@dataclass(frozen=True, slots=True)
class ReferencePages:
    """Keys and values of one attention layer. Fresh pages are NaN, so that reading before writing shows."""

    keys: npt.NDArray[np.floating]  # [num_pages Hkv PAGE_TOKENS head_dim]
    values: npt.NDArray[np.floating]  # the same
    kv_bits: int = 16

    def store(self, values: DoubleArray) -> DoubleArray:
        """What is read back of keys or values [... head_dim] after they were stored with ``kv_bits``."""
        single = values.astype(np.float32)
        if self.kv_bits == 8:
            blocks = single.reshape(*single.shape[:-1], -1, KV_BLOCK)
            scale = (np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(127)).astype(np.float16).astype(np.float32)
            inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
            codes: DoubleArray = np.clip(np.rint(blocks * inverse), -127, 127).astype(np.float64)
            codes *= scale
            return codes.reshape(single.shape)
        rounded: DoubleArray = single.astype(np.float16 if self.kv_bits == 16 else np.float32).astype(np.float64)
        return rounded


class JournalRow(NamedTuple):
    """What one token does to a recurrent state."""

    window: FloatArray  # [conv_width C] the inputs of the convolution, this token's last
    decay: DoubleArray  # [Hv]
    key: DoubleArray  # [Hv key_dim]
    delta: DoubleArray  # [Hv value_dim]


@dataclass(frozen=True, slots=True)
class ReferenceSlots:
    """Recurrent states of one Gated DeltaNet layer."""

    tail: FloatArray  # [num_slots conv_width-1 C] the last inputs of the convolution, oldest first
    state: FloatArray  # [num_slots Hv key_dim value_dim]
    journals: dict[int, list[JournalRow]]  # rows that a step kept out of the state


class ReferenceOps:
    """The NumPy backend. See ``interface.Ops`` for what the methods do."""

    name = "reference"
    state_layout = "reference 1"
    put_layers, run_layers = unchanged, run_layers

    def __init__(self) -> None:
        self._lock = FairLock()

    # Constructors -----------------------------------------------------------------------------------------------

    def pack_weight(self, tensor: Tensor, *, float_inputs: bool = False) -> ReferenceWeight:
        """Decode a weight [O K] or [E O K]."""
        quantized_inputs = not (find_format(tensor.format).is_float or float_inputs)
        return ReferenceWeight(decode(tensor.format, tensor.data, tensor.shape), quantized_inputs)

    def weight_bytes(self, format: str, shape: tuple[int, ...], *, float_inputs: bool = False) -> int:
        """Float32 values."""
        return 4 * math.prod(shape)

    def finish_loading(self) -> None:
        """Nothing is kept."""

    def put_vector(self, tensor: Tensor) -> FloatArray:
        """Decode a small tensor, keeping its shape."""
        return decode(tensor.format, tensor.data, tensor.shape)

    def new_pages(self, num_pages: int, shape: AttentionShape, kv_bits: int = 16) -> ReferencePages:
        """Pages full of NaN."""
        size = (num_pages, shape.num_kv_heads, PAGE_TOKENS, shape.head_dim)
        return ReferencePages(np.full(size, np.nan), np.full(size, np.nan), kv_bits)

    def new_slots(self, num_slots: int, shape: DeltaShape, num_journals: int = 0) -> ReferenceSlots:
        """States full of zeros."""
        channels = 2 * shape.num_key_heads * shape.key_dim + shape.num_value_heads * shape.value_dim
        return ReferenceSlots(
            np.zeros((num_slots, shape.conv_width - 1, channels), np.float32),
            np.zeros((num_slots, shape.num_value_heads, shape.key_dim, shape.value_dim), np.float32),
            {},
        )

    def commit(self, slots: ReferenceSlots, slot: int, journal: int, count: int) -> None:
        """Row by row."""
        for row in slots.journals.get(journal, [])[:count]:
            slots.tail[slot], slots.state[slot] = row.window[1:], _updated(slots.state[slot], row)

    def clear_slot(self, slots: ReferenceSlots, slot: int) -> None:
        """Zero one state."""
        slots.tail[slot] = 0
        slots.state[slot] = 0

    def copy_slot(self, slots: ReferenceSlots, source: int, target: int) -> None:
        """Copy one state over another."""
        slots.tail[target] = slots.tail[source]
        slots.state[target] = slots.state[source]

    def copy_page(self, pages: ReferencePages, source: int, target: int) -> None:
        """Copy one page over another."""
        pages.keys[target] = pages.keys[source]
        pages.values[target] = pages.values[source]

    def discard_slot(self, slots: ReferenceSlots, slot: int) -> None:
        """Lose the values."""
        slots.tail[slot], slots.state[slot] = np.nan, np.nan

    def discard_page(self, pages: ReferencePages, page: int) -> None:
        """Lose the values."""
        pages.keys[page] = pages.values[page] = np.nan

    def slot_arrays(self, slots: ReferenceSlots, slot: int) -> tuple[RawArray, ...]:
        """Tail and state."""
        return slots.tail[slot], slots.state[slot]

    def page_arrays(self, pages: ReferencePages, page: int) -> tuple[RawArray, ...]:
        """Keys and values."""
        return pages.keys[page], pages.values[page]

    # The network ------------------------------------------------------------------------------------------------

    def embed(self, table: ReferenceWeight, token_ids: IntArray) -> FloatArray:
        """Rows of the table, unquantized."""
        return table.matrix[token_ids]

    def rms_norm(self, x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
        """x / root mean square * weight."""
        return _rms_normed(x, weight, eps).astype(np.float32)

    def linear(
        self, x: FloatArray, weights: Sequence[ReferenceWeight], norm: Norm | None = None
    ) -> tuple[FloatArray, ...]:
        """One product per weight."""
        x = self._normed(x, norm)
        return tuple(_product(x, weight.matrix, weight.quantized_inputs) for weight in weights)

    def _normed(self, x: FloatArray, norm: Norm | None) -> FloatArray:
        return x if norm is None else self.rms_norm(x, norm.weight, norm.eps)

    def linear_add(self, h: FloatArray, x: FloatArray, weight: ReferenceWeight) -> FloatArray:
        """h += x W^T."""
        h += _product(x, weight.matrix, weight.quantized_inputs)
        return h

    def rotary(self, positions: IntArray, rope: RopeConfig) -> Rotary:
        """Angles in float64: at position 200000 float32 would be off by a hundredth of a radian."""
        inverse, axis, magnitude = inverse_frequencies(rope)
        angles = positions[:, axis] * inverse
        return Rotary(
            (np.cos(angles) * magnitude).astype(np.float32),
            (np.sin(angles) * magnitude).astype(np.float32),
        )

    def gated_attention(
        self,
        inputs: Sequence[FloatArray],
        mixer: AttentionMixer,
        rotary: Rotary,
        pages: ReferencePages,
        batch: StepBatch,
        eps: float,
    ) -> FloatArray:
        """Softmax over all earlier keys at once, row by row."""
        (query_gate, key, value), shape = inputs, mixer.shape
        num_rows, group = len(key), shape.num_heads // shape.num_kv_heads
        query_gate = query_gate.reshape(num_rows, shape.num_heads, 2, shape.head_dim)
        queries = turned_heads(query_gate[:, :, 0], mixer.query_norm, rotary, eps)
        queries = queries.reshape(num_rows, shape.num_kv_heads, group, shape.head_dim) * shape.head_dim**-0.5
        keys = turned_heads(key.reshape(num_rows, shape.num_kv_heads, shape.head_dim), mixer.key_norm, rotary, eps)
        values = value.reshape(num_rows, shape.num_kv_heads, shape.head_dim)
        context = np.empty((num_rows, shape.num_heads, shape.head_dim))
        for sequence, first, end in _sequences(batch):
            positions = batch.past_len[sequence] + np.arange(end - first)
            page, offset = batch.page_table[sequence][positions // PAGE_TOKENS], positions % PAGE_TOKENS
            pages.keys[page, :, offset] = pages.store(keys[first:end])
            pages.values[page, :, offset] = pages.store(values[first:end].astype(np.float64))
            used = batch.page_table[sequence][: -(-(int(positions[-1]) + 1) // PAGE_TOKENS)]
            seen_keys, seen_values = _gathered(pages.keys, used), _gathered(pages.values, used)
            for row, position in zip(range(first, end), positions, strict=True):
                scores = queries[row] @ seen_keys[:, : position + 1].swapaxes(1, 2)
                context[row] = (_softmax(scores) @ seen_values[:, : position + 1]).reshape(shape.num_heads, -1)
        gated = context * _sigmoid(query_gate[:, :, 1])
        return gated.astype(np.float32).reshape(num_rows, shape.num_heads * shape.head_dim)

    def gated_delta(
        self, inputs: Sequence[FloatArray], mixer: DeltaMixer, slots: ReferenceSlots, batch: StepBatch, eps: float
    ) -> FloatArray:
        """Token by token; the state is rounded to float32 after each, so steps may be cut anywhere."""
        (qkv, z, beta, alpha), weights, shape = inputs, mixer.small, mixer.shape
        decay = np.exp(weights.a * _softplus(alpha.astype(np.float64) + weights.dt_bias))
        strength = _sigmoid(beta)
        outputs = np.empty((len(qkv), shape.num_value_heads, shape.value_dim))
        captures = dict(zip(batch.capture_rows.tolist(), batch.capture_slots.tolist(), strict=True))
        for sequence, first, end in _sequences(batch):
            slot = int(batch.slots[sequence])
            journal = int(batch.journals[sequence]) if len(batch.journals) else -1
            if journal >= 0:
                self.commit(slots, slot, journal, int(batch.pending[sequence]))
            rows, tail, state = [], slots.tail[slot], slots.state[slot]
            for row in range(first, end):
                window = np.concatenate([tail, qkv[row : row + 1]])
                query, key, value = delta_heads(window, weights.conv, shape)
                decayed = state * decay[row, :, None, None]
                delta = strength[row, :, None] * (value - np.einsum("hkv,hk->hv", decayed, key))
                rows.append(JournalRow(window, decay[row], key, delta))
                tail, state = window[1:], _updated(state, rows[-1])
                outputs[row] = np.einsum("hkv,hk->hv", state.astype(np.float64), query)
                if row in captures:
                    slots.tail[captures[row]], slots.state[captures[row]] = tail, state
            if journal >= 0 and batch.defer_state[sequence]:
                slots.journals[journal] = rows
            else:
                slots.tail[slot], slots.state[slot] = tail, state
        gated = _rms_normed(outputs, weights.norm, eps) * _silu(z.reshape(outputs.shape))
        return gated.astype(np.float32).reshape(z.shape)

    def gated_mlp(self, h: FloatArray, x: FloatArray, mlp: DenseMlp, norm: Norm | None = None) -> FloatArray:
        """h += down(silu(gate x) * up x)."""
        return self.linear_add(h, gated_product(*self.linear(x, (mlp.gate, mlp.up), norm)), mlp.down)

    def routed_experts(self, h: FloatArray, x: FloatArray, experts: Experts, norm: Norm | None = None) -> FloatArray:
        """Row by row, expert by expert."""
        x = self._normed(x, norm)
        logits, shared_logits = self.linear(x, (experts.router, experts.shared_router))
        inner = gated_product(*self.linear(x, (experts.shared_gate, experts.shared_up)))
        (shared,) = self.linear(inner, (experts.shared_down,))
        mixed = shared * _sigmoid(shared_logits)
        parts = experts.gate, experts.up, experts.down
        for row in range(len(x)):
            chosen = np.argsort(-logits[row], kind="stable")[: experts.num_active]  # softmax keeps their order
            share = _softmax(logits[row].astype(np.float64))[chosen]
            for expert, weight in zip(chosen, share / share.sum(), strict=True):
                gate, up, down = (ReferenceWeight(part.matrix[expert], part.quantized_inputs) for part in parts)
                inner = gated_product(*self.linear(x[row : row + 1], (gate, up)))
                mixed[row] += weight * self.linear(inner, (down,))[0][0]
        h += mixed.astype(np.float32)
        return h

    def unembed(self, x: FloatArray, head: ReferenceWeight) -> FloatArray:
        """Logits."""
        return _product(x, head.matrix, head.quantized_inputs)

    def top_k(self, x: FloatArray, head: ReferenceWeight, k: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        """Sort each row."""
        allowed = np.setdiff1d(np.arange(head.matrix.shape[0], dtype=np.int32), excluded)
        rows = self.unembed(x, head)[:, allowed]
        order = np.argsort(-rows, axis=1, kind="stable")[:, :k]
        return allowed[order], np.take_along_axis(rows, order, axis=1)

    def gather_rows(self, weight: ReferenceWeight, rows: IntArray) -> tuple[ReferenceWeight, IntArray]:
        """Just these."""
        return ReferenceWeight(weight.matrix[rows], weight.quantized_inputs), rows

    def concat(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Side by side."""
        return np.concatenate([left, right], axis=1)

    def select(self, x: FloatArray, rows: IntArray) -> FloatArray:
        """Some rows."""
        return x[rows]

    def put_rows(self, x: FloatArray, rows: IntArray, values: FloatArray) -> FloatArray:
        """x[rows] = values."""
        x[rows] = values
        return x

    # The vision tower -------------------------------------------------------------------------------------------

    def layer_norm(self, x: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> FloatArray:
        """Centre, scale, weigh, shift."""
        centred = x.astype(np.float64) - x.mean(axis=-1, keepdims=True, dtype=np.float64)
        normed = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
        return np.asarray(normed * weight + bias, np.float32)

    def add_bias(self, x: FloatArray, bias: FloatArray) -> FloatArray:
        """x += bias."""
        x += bias
        return x

    def gelu(self, x: FloatArray, *, exact: bool) -> FloatArray:
        """Element by element."""
        x64 = x.astype(np.float64)
        # Neither form takes 1 + a number near -1, which would lose the digits of small results.
        if exact:
            x[...] = 0.5 * x64 * _erfc(-x64 / np.sqrt(2))
        else:
            x[...] = x64 * _sigmoid(2 * np.sqrt(2 / np.pi) * (x64 + 0.044715 * x64**3))
        return x

    def vision_rotary(self, places: IntArray, head_dim: int, theta: float) -> Rotary:
        """Angles in float64."""
        inverse, axis = vision_frequencies(head_dim, theta)
        angles = places[:, axis] * inverse
        return Rotary(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))

    def vision_heads(self, qkv: FloatArray, rotary: Rotary, num_heads: int) -> DoubleArray:
        """[query, key, value][H N head_dim], turned."""
        heads = qkv.reshape(len(qkv), 3, num_heads, -1).astype(np.float64).transpose(1, 2, 0, 3).copy()
        heads[0] = _turned(heads[0], rotary) * heads.shape[-1] ** -0.5
        heads[1] = _turned(heads[1], rotary)
        return heads

    def vision_attention(self, heads: DoubleArray, start: int, end: int) -> FloatArray:
        """Softmax over all keys at once, head by head, row by row."""
        query, key, value = heads
        out = np.empty((end - start, len(query), query.shape[-1]))
        for head in range(len(query)):
            for row in range(start, end):
                out[row - start, head] = _softmax(key[head] @ query[head, row]) @ value[head]
        return np.asarray(out.reshape(end - start, -1), np.float32)

    # Sampling and steps -----------------------------------------------------------------------------------------

    def candidates(self, logits: FloatArray, k: int) -> tuple[IntArray, FloatArray, float]:
        """A stable sort of the whole row."""
        ids = np.argsort(-logits, kind="stable")[:k].astype(np.int32)
        top = float(logits.max())
        return ids, logits[ids], top + float(np.log(np.exp(logits.astype(np.float64) - top).sum()))

    def exclusive(self) -> FairLock:
        """One lock."""
        return self._lock


# Parts that the tests of the fast backends use too -------------------------------------------------------------------


def quantize_inputs(x: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Activations as int8 in runs of RUN_INPUTS: [T K] -> integers [T K], scales [T K/RUN_INPUTS].

    Every operation is one float32 operation, rounding to nearest, ties to even. A run too small for ``127 / largest``
    to be finite counts as zero.
    """
    runs = x.reshape(len(x), x.shape[-1] // RUN_INPUTS, RUN_INPUTS)
    largest = np.abs(runs).max(axis=-1, initial=0)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(127) / largest
    alive = np.isfinite(inverse)
    integers = np.rint(runs * np.where(alive, inverse, np.float32(0))[..., None]).astype(np.int8)
    return integers.reshape(x.shape), np.where(alive, largest / np.float32(127), np.float32(0))


def turned_heads(x: FloatArray, norm: FloatArray, rotary: Rotary, eps: float) -> DoubleArray:
    """Norm every head [T H head_dim] and turn its first dimensions by the row's angles."""
    heads = _rms_normed(x, norm, eps)
    pairs = rotary.cos.shape[-1]
    cos, sin = rotary.cos[:, None].astype(np.float64), rotary.sin[:, None].astype(np.float64)
    left, right = heads[..., :pairs], heads[..., pairs : 2 * pairs]
    return np.concatenate([left * cos - right * sin, right * cos + left * sin, heads[..., 2 * pairs :]], axis=-1)


def gated_product(gate: FloatArray, up: FloatArray) -> FloatArray:
    """silu(gate) * up, rounded to float32 because it is an activation."""
    return (_silu(gate) * up).astype(np.float32)


def delta_heads(
    window: FloatArray, conv: FloatArray, shape: DeltaShape
) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Query, key [Hv key_dim] and value [Hv value_dim] of one token, from its conv_width inputs [conv_width C]."""
    mixed = _silu((window.astype(np.float64) * conv).sum(axis=0))
    width = shape.num_key_heads * shape.key_dim
    query = _l2_normed(mixed[:width].reshape(shape.num_key_heads, -1)) * shape.key_dim**-0.5
    key = _l2_normed(mixed[width : 2 * width].reshape(shape.num_key_heads, -1))
    repeats = shape.num_value_heads // shape.num_key_heads  # value head j reads key head j mod Hk
    value = mixed[2 * width :].reshape(shape.num_value_heads, -1)
    return np.tile(query, (repeats, 1)), np.tile(key, (repeats, 1)), value


def _updated(state: FloatArray, row: JournalRow) -> FloatArray:
    """A recurrent state [Hv key_dim value_dim] after one more token, rounded to float32."""
    return (state * row.decay[:, None, None] + row.key[:, :, None] * row.delta[:, None, :]).astype(np.float32)


def _product(x: FloatArray, matrix: FloatArray, quantized_inputs: bool) -> FloatArray:
    """x W^T: [T K], [O K] -> [T O]."""
    rows = _rounded_inputs(x) if quantized_inputs else x.astype(np.float64)
    matrix64 = matrix.astype(np.float64)
    out = np.empty((len(x), len(matrix)), np.float32)
    for index, row in enumerate(rows):
        out[index] = matrix64 @ row
    return out


def _rounded_inputs(x: FloatArray) -> DoubleArray:
    """What the integers of ``quantize_inputs`` stand for."""
    integers, scales = quantize_inputs(x)
    rounded: DoubleArray = integers.astype(np.float64) * np.repeat(scales.astype(np.float64), RUN_INPUTS, axis=-1)
    return rounded


def _sequences(batch: StepBatch) -> Iterator[tuple[int, int, int]]:
    """Sequence, first row and end row of every sequence that has rows in this step."""
    for sequence in range(len(batch.past_len)):
        first, end = int(batch.starts[sequence]), int(batch.starts[sequence + 1])
        if first < end:
            yield sequence, first, end


def _gathered(store: npt.NDArray[np.floating], pages: IntArray) -> DoubleArray:
    """The pages of one sequence end to end: [P Hkv PAGE_TOKENS head_dim] -> [Hkv P*PAGE_TOKENS head_dim]."""
    heads = store[pages].swapaxes(0, 1).astype(np.float64)
    return heads.reshape(heads.shape[0], -1, heads.shape[-1])


def _rms_normed(x: npt.NDArray[np.floating], weight: FloatArray, eps: float) -> DoubleArray:
    x64 = x.astype(np.float64)
    normed: DoubleArray = x64 / np.sqrt((x64 * x64).mean(axis=-1, keepdims=True) + eps) * weight
    return normed


def _l2_normed(x: DoubleArray) -> DoubleArray:
    normed: DoubleArray = x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + L2_EPS)
    return normed


def _softmax(x: DoubleArray) -> DoubleArray:
    """Over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: DoubleArray = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _turned(x: DoubleArray, rotary: Rotary) -> DoubleArray:
    """Heads [H N head_dim] turned over their whole width."""
    half = x.shape[-1] // 2
    cos, sin = rotary.cos.astype(np.float64), rotary.sin.astype(np.float64)
    left, right = x[..., :half], x[..., half:]
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _softplus(x: DoubleArray) -> DoubleArray:
    return np.logaddexp(0.0, x)


def _sigmoid(x: npt.NDArray[np.floating]) -> DoubleArray:
    return np.exp(-_softplus(-x.astype(np.float64)))


def _silu(x: npt.NDArray[np.floating]) -> DoubleArray:
    return x.astype(np.float64) * _sigmoid(x)
