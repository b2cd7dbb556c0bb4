"""Random inputs of the operations, and the loops that feed them in steps.

Everything is a function of a seed, so that two backends can be given the very same inputs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loqal.formats import FORMATS, decode, random_blocks, to_int8
from loqal.formats.tensor import Tensor
from loqal.ops.backends.reference import ReferenceOps
from loqal.ops.interface import PAGE_TOKENS, Ops, Rotary, StepBatch
from loqal.ops.records import (
    AttentionMixer,
    AttentionShape,
    DeltaMixer,
    DeltaShape,
    DeltaWeights,
    DenseMlp,
    Experts,
    Norm,
    RopeConfig,
)

EPS = 1e-6


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Equality of bits: NaN equals itself, 0 differs from -0."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@contextlib.contextmanager
def left_alone(*arrays: np.ndarray) -> Iterator[None]:
    """Fails when an operation changes its inputs."""
    before = [array.copy() for array in arrays]
    yield
    assert all(same_bits(array, copy) for array, copy in zip(arrays, before, strict=True)), "an input was changed"


# Weights -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomWeight:
    """A weight in a format, with what the tolerances need to know about it."""

    tensor: Tensor

    @property
    def quantized_inputs(self) -> bool:
        return not FORMATS[self.tensor.format].is_float

    @functools.cached_property
    def matrix(self) -> np.ndarray:
        return decode(self.tensor.format, self.tensor.data, self.tensor.shape)

    @functools.cached_property
    def magnitudes(self) -> np.ndarray:
        """|code * scale| + |offset|: the sizes of the numbers that are added up, which may cancel in the matrix."""
        if FORMATS[self.tensor.format].is_float:
            return np.abs(self.matrix)
        codes, scales, offsets = to_int8(self.tensor.format, self.tensor.data, self.tensor.shape)
        repeats = codes.shape[1] // scales.shape[1]
        sizes = np.abs(codes * np.repeat(scales, repeats, axis=1))
        if offsets is not None:
            sizes += np.abs(np.repeat(offsets, repeats, axis=1))
        return sizes.reshape(self.tensor.shape)

    def expert(self, index: int) -> RandomWeight:
        """One matrix of a stack."""
        stack = self.tensor.data.reshape(self.tensor.shape[0], -1)
        name, format, shape = self.tensor.name, self.tensor.format, self.tensor.shape[1:]
        return RandomWeight(Tensor(name, format, shape, stack[index], "test"))


def random_weight(rng: np.random.Generator, format: str, *shape: int, std: float = 0.05) -> RandomWeight:
    return RandomWeight(Tensor("w", format, shape, random_blocks(format, shape, rng, std), "test"))


def input_widths(format: str) -> tuple[int, ...]:
    """Two or three widths the format can store, the smallest and an uneven one among them."""
    if FORMATS[format].is_float:
        return 1, 48, 257
    return (256, 768) if FORMATS[format].block_len == 256 else (32, 96, 512)


# Steps ---------------------------------------------------------------------------------------------------------------

Plan = Sequence[Sequence[int]]
"""How many tokens each sequence gets in each step."""


def plan_steps(lengths: Sequence[int], most: int) -> Plan:
    """Steps in which no sequence gets more than ``most`` tokens; the short ones end early and go on as empty ones."""
    left, plan = list(lengths), []
    while any(left):
        plan.append([min(most, count) for count in left])
        left = [count - new for count, new in zip(left, plan[-1], strict=True)]
    return plan


def make_batch(counts: Sequence[int], past: Sequence[int], slots: Sequence[int], **arrays: Any) -> StepBatch:
    """A step in which sequence s gets ``counts[s]`` tokens after ``past[s]`` earlier ones."""
    total = sum(counts)
    num_pages = max((at + new for at, new in zip(past, counts, strict=True)), default=0) // PAGE_TOKENS + 1
    table = np.arange(len(counts) * num_pages, dtype=np.int32).reshape(len(counts), num_pages)
    return StepBatch(
        token_ids=np.zeros(total, np.int32),
        positions=np.zeros((total, 3), np.int32),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        past_len=np.array(past, np.int32),
        slots=np.array(slots, np.int32),
        **{"page_table": table, **arrays},
    )


def _cut(streams: Sequence[np.ndarray], past: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """The rows of one step."""
    return np.concatenate([rows[at : at + new] for rows, at, new in zip(streams, past, counts, strict=True)])


def _walk(plan: Plan) -> Iterator[tuple[list[int], Sequence[int]]]:
    """Past lengths and new counts of every step."""
    past = [0] * len(plan[0])
    for counts in plan:
        yield list(past), counts
        past = [at + new for at, new in zip(past, counts, strict=True)]


def _join(plan: Plan, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of all steps, per sequence."""
    parts: list[list[np.ndarray]] = [[] for _ in plan[0]]
    for counts, output in zip(plan, outputs, strict=True):
        for sequence, rows in enumerate(np.split(output, np.cumsum(counts)[:-1])):
            parts[sequence].append(rows)
    return [np.concatenate(rows) for rows in parts]


# Attention -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionCase:
    """Whole sequences of attention inputs: lists hold one array per sequence."""

    shape: AttentionShape
    query_gate: list[np.ndarray]
    key: list[np.ndarray]
    value: list[np.ndarray]
    rotary: list[Rotary]
    query_norm: np.ndarray
    key_norm: np.ndarray
    page_table: np.ndarray
    num_pages: int

    @property
    def lengths(self) -> list[int]:
        return [len(rows) for rows in self.key]


def attention_case(seed: int, shape: AttentionShape, lengths: Sequence[int]) -> AttentionCase:
    rng = np.random.default_rng(seed)
    rope = RopeConfig(rotary_dim=max(shape.head_dim // 4, 32))
    needed = [-(-length // PAGE_TOKENS) for length in lengths]
    num_pages = sum(needed) + 2
    free = rng.permutation(num_pages)
    table = np.full((len(lengths), max(needed) + 1), -1, np.int32)
    for sequence, count in enumerate(needed):
        table[sequence, :count], free = free[:count], free[count:]
    positions = [np.sort(rng.integers(0, 2000, (length, 3)), axis=0).astype(np.int32) for length in lengths]
    return AttentionCase(
        shape,
        [normal(rng, length, 2 * shape.num_heads * shape.head_dim) for length in lengths],
        [normal(rng, length, shape.num_kv_heads * shape.head_dim) for length in lengths],
        [normal(rng, length, shape.num_kv_heads * shape.head_dim) for length in lengths],
        [ReferenceOps().rotary(rows, rope) for rows in positions],
        1 + normal(rng, shape.head_dim, scale=0.3),
        1 + normal(rng, shape.head_dim, scale=0.3),
        table,
        num_pages,
    )


def attention_step(ops: Ops, case: AttentionCase, pages: Any, past: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """One step: sequence s gets ``counts[s]`` tokens after ``past[s]`` earlier ones."""
    streams = [_cut(part, past, counts) for part in (case.query_gate, case.key, case.value)]
    cos, sin = (_cut(part, past, counts) for part in zip(*((one.cos, one.sin) for one in case.rotary), strict=True))
    batch = make_batch(counts, past, range(len(counts)), page_table=case.page_table)
    mixer = AttentionMixer((None, None, None), case.query_norm, case.key_norm, None, case.shape)
    with left_alone(*streams, cos, sin, case.page_table):
        return ops.gated_attention(streams, mixer, Rotary(cos, sin), pages, batch, EPS)


def run_attention(
    ops: Ops, case: AttentionCase, plan: Plan, *, stale: bool = False, kv_bits: int = 16
) -> list[np.ndarray]:
    """Outputs per sequence. ``stale``: an earlier owner has left NaN in every page."""
    pages = ops.new_pages(case.num_pages, case.shape, kv_bits)
    if stale:
        _fill_with_nan(ops, case, pages)
    return _join(plan, [attention_step(ops, case, pages, past, counts) for past, counts in _walk(plan)])


def _fill_with_nan(ops: Ops, case: AttentionCase, pages: Any) -> None:
    """Let one sequence write NaN keys and values to all pages, as an earlier owner with broken weights would."""
    count = case.num_pages * PAGE_TOKENS
    owner = attention_case(0, case.shape, [count])
    for rows in (*owner.key, *owner.value):
        rows.fill(np.nan)
    table = np.arange(case.num_pages, dtype=np.int32)[None]
    attention_step(ops, dataclasses.replace(owner, page_table=table), pages, [0], [count])


# Gated DeltaNet ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeltaCase:
    """Whole sequences of Gated DeltaNet inputs: lists hold one array per sequence."""

    shape: DeltaShape
    qkv: list[np.ndarray]
    z: list[np.ndarray]
    beta: list[np.ndarray]
    alpha: list[np.ndarray]
    weights: DeltaWeights

    @property
    def lengths(self) -> list[int]:
        return [len(rows) for rows in self.qkv]

    def alone(self, sequence: int, first: int = 0) -> DeltaCase:
        """One sequence, from one token on."""
        parts = [[rows[sequence][first:]] for rows in (self.qkv, self.z, self.beta, self.alpha)]
        return DeltaCase(self.shape, *parts, self.weights)


def delta_case(seed: int, shape: DeltaShape, lengths: Sequence[int]) -> DeltaCase:
    rng = np.random.default_rng(seed)
    heads, width = shape.num_value_heads, shape.num_value_heads * shape.value_dim
    channels = 2 * shape.num_key_heads * shape.key_dim + width
    weights = DeltaWeights(
        conv=normal(rng, shape.conv_width, channels, scale=0.5),
        a=-np.exp(normal(rng, heads)),
        dt_bias=normal(rng, heads),
        norm=1 + normal(rng, shape.value_dim, scale=0.3),
    )
    qkv = [normal(rng, length, channels) for length in lengths]
    for rows in qkv:
        rows[5:9] *= 1e-3  # so small that the epsilon of the l2 norm counts
    return DeltaCase(
        shape,
        qkv,
        [normal(rng, length, width) for length in lengths],
        [normal(rng, length, heads) for length in lengths],
        [normal(rng, length, heads, scale=2.0) - 2 for length in lengths],
        weights,
    )


def delta_step(
    ops: Ops,
    case: DeltaCase,
    slots: Any,
    numbers: Sequence[int],
    past: Sequence[int],
    counts: Sequence[int],
    captures: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """One step over the slots called ``numbers``; ``captures`` are pairs of row and slot."""
    rows, targets = [row for row, _ in captures], [slot for _, slot in captures]
    batch = make_batch(
        counts,
        past,
        numbers,
        capture_rows=np.array(rows, np.int32),
        capture_slots=np.array(targets, np.int32),
    )
    streams = [_cut(part, past, counts) for part in (case.qkv, case.z, case.beta, case.alpha)]
    mixer = DeltaMixer((None, None, None, None), case.weights, None, case.shape)
    with left_alone(*streams, case.weights.conv, case.weights.a):
        return ops.gated_delta(streams, mixer, slots, batch, EPS)


def run_delta(ops: Ops, case: DeltaCase, plan: Plan) -> list[np.ndarray]:
    """Outputs per sequence, from cleared states; sequence s lives in slot 2s + 1."""
    numbers = [2 * sequence + 1 for sequence in range(len(case.qkv))]
    slots = ops.new_slots(2 * len(numbers) + 1, case.shape)
    return _join(plan, [delta_step(ops, case, slots, numbers, past, counts) for past, counts in _walk(plan)])


# Feed-forward --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MlpCase:
    """A gated feed-forward network."""

    h: np.ndarray
    x: np.ndarray
    gate: RandomWeight
    up: RandomWeight
    down: RandomWeight


def mlp_case(seed: int, formats: Sequence[str], rows: int, width: int, inner: int, scale: float = 1.0) -> MlpCase:
    """``formats`` are those of gate, up and down."""
    rng = np.random.default_rng(seed)
    gate, up, down = formats
    return MlpCase(
        normal(rng, rows, width),
        normal(rng, rows, width, scale=scale),
        random_weight(rng, gate, inner, width),
        random_weight(rng, up, inner, width),
        random_weight(rng, down, width, inner),
    )


def run_mlp(ops: Ops, case: MlpCase, norm: Norm | None = None) -> np.ndarray:
    """With a norm, of ``h`` itself."""
    weights, h = [ops.pack_weight(part.tensor) for part in (case.gate, case.up, case.down)], case.h.copy()
    with left_alone(case.x):
        return ops.gated_mlp(h, case.x if norm is None else h, DenseMlp(*weights), norm)


@dataclass(frozen=True)
class ExpertsCase:
    """A mixture of experts; ``experts`` and ``shared`` are gate, up and down."""

    h: np.ndarray
    x: np.ndarray
    router: RandomWeight
    experts: list[RandomWeight]
    shared_router: RandomWeight
    shared: list[RandomWeight]
    num_active: int


def experts_case(seed: int, format: str, rows: int, width: int, inner: int, counts: tuple[int, int]) -> ExpertsCase:
    """``counts``: experts, and those active per token."""
    rng = np.random.default_rng(seed)
    num_experts, num_active = counts
    return ExpertsCase(
        normal(rng, rows, width),
        normal(rng, rows, width),
        random_weight(rng, "F32", num_experts, width, std=0.2),
        [
            random_weight(rng, format, num_experts, inner, width),
            random_weight(rng, format, num_experts, inner, width),
            random_weight(rng, format, num_experts, width, inner),
        ],
        random_weight(rng, "F32", 1, width),
        [
            random_weight(rng, format, inner, width),
            random_weight(rng, format, inner, width),
            random_weight(rng, format, width, inner),
        ],
        num_active,
    )


def run_experts(ops: Ops, case: ExpertsCase, norm: Norm | None = None) -> np.ndarray:
    """With a norm, of ``h`` itself."""
    parts = (case.router, *case.experts, case.shared_router, *case.shared)
    weights, h = [ops.pack_weight(part.tensor) for part in parts], case.h.copy()
    with left_alone(case.x):
        return ops.routed_experts(h, case.x if norm is None else h, Experts(*weights, case.num_active), norm)
