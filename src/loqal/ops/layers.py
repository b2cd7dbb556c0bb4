"""A decoder layer, made of the operations: what ``Ops.run_layers`` stands for. Written once, for every size."""

from __future__ import annotations

from collections.abc import Sequence

from loqal.ops.interface import DeltaMixer, Experts, FloatArray, Layer, Ops, Pages, Rotary, Slots, StepBatch


def unchanged(ops: Ops, layers: Sequence[Layer]) -> Sequence[Layer]:
    """``Ops.put_layers`` of a backend that runs them by the functions here."""
    return layers


def run_layers(
    ops: Ops,
    h: FloatArray,
    layers: Sequence[Layer],
    states: Sequence[Pages | Slots],
    rotary: Rotary,
    batch: StepBatch,
) -> FloatArray:
    """See Ops."""
    for layer, state in zip(layers, states, strict=True):
        h = _mlp(ops, _mixer(ops, h, layer, state, rotary, batch), layer)
    return h


def _mixer(ops: Ops, h: FloatArray, layer: Layer, state: Pages | Slots, rotary: Rotary, batch: StepBatch) -> FloatArray:
    mixer, norm = layer.mixer, layer.input_norm
    if isinstance(mixer, DeltaMixer):
        qkv, z, beta, alpha = ops.linear(h, mixer.inputs, norm)
        o = ops.gated_delta(qkv, z, beta, alpha, mixer.small, state, batch, mixer.shape, norm.eps)
    else:
        query_gate, key, value = ops.linear(h, mixer.inputs, norm)
        norms = mixer.query_norm, mixer.key_norm
        o = ops.gated_attention(query_gate, key, value, *norms, rotary, state, batch, mixer.shape, norm.eps)
    return ops.linear_add(h, o, mixer.out)


def _mlp(ops: Ops, h: FloatArray, layer: Layer) -> FloatArray:
    mlp, norm = layer.mlp, layer.post_norm
    if not isinstance(mlp, Experts):
        return ops.gated_mlp(h, h, mlp.gate, mlp.up, mlp.down, norm)
    return ops.routed_experts(
        h,
        h,
        mlp.router,
        mlp.gate,
        mlp.up,
        mlp.down,
        mlp.shared_router,
        mlp.shared_gate,
        mlp.shared_up,
        mlp.shared_down,
        mlp.num_active,
        norm,
    )
