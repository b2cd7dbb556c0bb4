"""Every operation once or twice on fixed inputs, for tests that compare one run of it with another, bit by bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loqal.formats import FORMATS
from loqal.ops.interface import Ops
from loqal.ops.records import AttentionShape, DeltaShape, RopeConfig, YarnConfig
from op_cases import (
    EPS,
    attention_case,
    delta_case,
    experts_case,
    mlp_case,
    normal,
    plan_steps,
    random_weight,
    run_attention,
    run_delta,
    run_experts,
    run_mlp,
)

Program = Callable[[Ops], list[np.ndarray]]


def _linear(format: str) -> Program:
    def run(ops: Ops) -> list[np.ndarray]:
        rng = np.random.default_rng(20)
        x = normal(rng, 19, 512)
        one, two = (random_weight(rng, format, outputs, 512) for outputs in (63, 257))
        weights = (
            ops.pack_weight(one.tensor),
            ops.pack_weight(two.tensor),
            ops.pack_weight(one.tensor, float_inputs=True),
        )
        row = ops.linear(x[:1], weights)
        added = ops.linear_add(normal(rng, 19, 63), x, weights[0])
        return [*ops.linear(x, weights), *row, added, ops.embed(weights[1], np.arange(0, 257, 9, dtype=np.int32))]

    return run


def _attention(ops: Ops) -> list[np.ndarray]:
    wide = attention_case(22, AttentionShape(8, 2, 256), [70, 1])
    spans = attention_case(21, AttentionShape(2, 1, 64), [530, 3, 65])
    return [
        *run_attention(ops, wide, [wide.lengths]),
        *run_attention(ops, spans, [[500, 1, 64], [30, 2, 1]], stale=True),
        *run_attention(ops, spans, [[500, 1, 64], [30, 2, 1]], stale=True, kv_bits=8),
        *run_attention(ops, spans, [[500, 1, 64], [30, 2, 1]], stale=True, kv_bits=32),
    ]


def _delta(ops: Ops) -> list[np.ndarray]:
    small = delta_case(23, DeltaShape(2, 4, 128, 128, 4), [40, 1, 9])
    wide = delta_case(24, DeltaShape(2, 2, 128, 128, 4), [9, 3])
    return [*run_delta(ops, small, plan_steps(small.lengths, 16)), *run_delta(ops, wide, [wide.lengths])]


def _mlp(ops: Ops) -> list[np.ndarray]:
    formats = [("F32", "F16", "BF16"), ("Q8_0", "Q8_0", "Q8_0"), ("Q4_K", "Q4_K", "Q6_K")]
    return [run_mlp(ops, mlp_case(25, three, rows, 256, 512)) for three in formats for rows in (1, 18, 101)]


def _experts(ops: Ops) -> list[np.ndarray]:
    return [
        run_experts(ops, experts_case(26, format, rows, 256, 256, (8, 2)))
        for format in ("F32", "Q8_0", "Q4_K")
        for rows in (1, 11)
    ]


def _norms(ops: Ops) -> list[np.ndarray]:
    rng = np.random.default_rng(27)
    return [ops.rms_norm(normal(rng, 5, width), normal(rng, width), EPS) for width in (1, 15, 16, 257, 1024)]


def _rotary(ops: Ops) -> list[np.ndarray]:
    positions = np.random.default_rng(28).integers(0, 262144, (30, 3)).astype(np.int32)
    turns = [ops.rotary(positions, rope) for rope in (RopeConfig(), RopeConfig(yarn=YarnConfig(2.0, 262144)))]
    return [part for turn in turns for part in (turn.cos, turn.sin)]


def _candidates(ops: Ops) -> list[np.ndarray]:
    logits = normal(np.random.default_rng(29), 5003, scale=4.0)
    ids, values, log_sum = ops.candidates(logits, 50)
    return [ids, values, np.array(log_sum)]


PROGRAMS: dict[str, Program] = {
    **{f"linear-{format}": _linear(format) for format in FORMATS},
    "gated_attention": _attention,
    "gated_delta": _delta,
    "gated_mlp": _mlp,
    "routed_experts": _experts,
    "rms_norm": _norms,
    "rotary": _rotary,
    "candidates": _candidates,
}
