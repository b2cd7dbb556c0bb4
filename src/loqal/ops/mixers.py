"""The mixers of a layer, made of smaller operations: what ``Ops.attention_mixer`` and ``delta_mixer`` stand for."""

from __future__ import annotations

from collections.abc import Sequence

from .interface import (
    AttentionShape,
    DeltaShape,
    DeltaWeights,
    FloatArray,
    Norm,
    Ops,
    Pages,
    Rotary,
    Slots,
    StepBatch,
    Weight,
)


def attention_mixer(
    ops: Ops,
    h: FloatArray,
    norm: Norm,
    weights: Sequence[Weight],
    out: Weight,
    query_norm: FloatArray,
    key_norm: FloatArray,
    rotary: Rotary,
    pages: Pages,
    batch: StepBatch,
    shape: AttentionShape,
    eps: float,
) -> FloatArray:
    """See Ops."""
    query_gate, key, value = ops.linear(h, weights, norm)
    context = ops.gated_attention(query_gate, key, value, query_norm, key_norm, rotary, pages, batch, shape, eps)
    return ops.linear_add(h, context, out)


def delta_mixer(
    ops: Ops,
    h: FloatArray,
    norm: Norm,
    weights: Sequence[Weight],
    out: Weight,
    small: DeltaWeights,
    slots: Slots,
    batch: StepBatch,
    shape: DeltaShape,
    eps: float,
) -> FloatArray:
    """See Ops."""
    qkv, z, beta, alpha = ops.linear(h, weights, norm)
    o = ops.gated_delta(qkv, z, beta, alpha, small, slots, batch, shape, eps)
    return ops.linear_add(h, o, out)
