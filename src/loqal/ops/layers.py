"""The decoder layer, made of operations: the definition of ``Ops.run_layers`` for every model size."""

from __future__ import annotations

from collections.abc import Sequence

from loqal.ops.interface import FloatArray, Ops, Pages, Rotary, Slots, StepBatch
from loqal.ops.records import DeltaMixer, Experts, Layer


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
    inputs = ops.linear(h, mixer.inputs, norm)
    if isinstance(mixer, DeltaMixer):
        o = ops.gated_delta(inputs, mixer, state, batch, norm.eps)
    else:
        o = ops.gated_attention(inputs, mixer, rotary, state, batch, norm.eps)
    return ops.linear_add(h, o, mixer.out)


def _mlp(ops: Ops, h: FloatArray, layer: Layer) -> FloatArray:
    mlp, norm = layer.mlp, layer.post_norm
    if isinstance(mlp, Experts):
        return ops.routed_experts(h, h, mlp, norm)
    return ops.gated_mlp(h, h, mlp, norm)
