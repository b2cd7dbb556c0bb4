"""Whole layers: one call equals the operations one by one, and wrong shapes are refused before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loqal.ops import layers as parts
from loqal.ops.interface import Ops, Rotary, StepBatch
from loqal.ops.records import (
    AttentionMixer,
    AttentionShape,
    DeltaMixer,
    DeltaShape,
    DenseMlp,
    Experts,
    Layer,
    Norm,
)
from op_backends import backend_ops, on_cpu
from op_cases import EPS, attention_case, delta_case, make_batch, normal, random_weight, same_bits

WIDTH = 256
LENGTHS = [1, 0, 20, 3]


class Stack:
    """Two layers, one of each mixer and of each network, and one step for them."""

    def __init__(self, ops: Ops) -> None:
        self.ops, self.rng = ops, np.random.default_rng(31)
        delta = delta_case(32, DeltaShape(1, 2, 128, 128, 4), LENGTHS)
        attention = attention_case(33, AttentionShape(3, 1, 64), LENGTHS)
        self.delta, self.attention = delta.shape, attention.shape
        self.num_pages = attention.num_pages
        self.h = normal(self.rng, sum(LENGTHS), WIDTH)
        self.batch: StepBatch = make_batch(LENGTHS, [0] * 4, range(4), page_table=attention.page_table)
        self.rotary = Rotary(
            *(np.concatenate([getattr(one, name) for one in attention.rotary]) for name in ("cos", "sin"))
        )
        qkv, z, beta, alpha = self._weights(512, 256, 2, 2)
        query_gate, key, value = self._weights(384, 64, 64)
        norms = attention.query_norm, attention.key_norm
        stacked = [self._weight("Q4_K", 4, WIDTH, WIDTH) for _ in range(3)]
        shared = [self._weight("Q8_0", WIDTH, WIDTH) for _ in range(3)]
        routers = [self._weight("F32", rows, WIDTH) for rows in (4, 1)]
        experts = Experts(routers[0], *stacked, routers[1], *shared, num_active=2)
        recurrent = DeltaMixer((qkv, z, beta, alpha), delta.weights, self._weight("Q6_K", WIDTH, 256), delta.shape)
        attending = AttentionMixer((query_gate, key, value), *norms, self._weight("F16", WIDTH, 192), attention.shape)
        dense = DenseMlp(*(self._weight("Q4_K", WIDTH, WIDTH) for _ in range(3)))
        self.layers = [
            Layer(self._norm(), recurrent, self._norm(), dense),
            Layer(self._norm(), attending, self._norm(), experts),
        ]

    def _weight(self, format: str, *shape: int) -> Any:
        return self.ops.pack_weight(random_weight(self.rng, format, *shape).tensor)

    def _weights(self, *rows: int) -> list[Any]:
        return [self._weight(f, count, WIDTH) for f, count in zip(("Q4_K", "Q6_K", "F32", "BF16"), rows, strict=False)]

    def _norm(self) -> Norm:
        return Norm(1 + normal(self.rng, WIDTH, scale=0.2), EPS)

    def states(self) -> list[Any]:
        return [self.ops.new_slots(4, self.delta), self.ops.new_pages(self.num_pages, self.attention)]

    def kept(self, states: list[Any]) -> list[np.ndarray]:
        page = int(self.batch.page_table[2, 0])
        return [*self.ops.slot_arrays(states[0], 2), *self.ops.page_arrays(states[1], page)]


@on_cpu
def test_whole_layers_equal_their_parts(backend: str) -> None:
    ops = backend_ops(backend)
    stack = Stack(ops)
    whole, one_by_one = stack.states(), stack.states()
    x = ops.run_layers(stack.h.copy(), ops.put_layers(stack.layers), whole, stack.rotary, stack.batch)
    y = parts.run_layers(ops, stack.h.copy(), stack.layers, one_by_one, stack.rotary, stack.batch)
    results = zip([x, *stack.kept(whole)], [y, *stack.kept(one_by_one)], strict=True)
    assert all(same_bits(left, right) for left, right in results)
    assert not same_bits(x, stack.h)


@on_cpu
def test_layers_keep_what_they_are_made_of(backend: str) -> None:
    """Weights and vectors may be forgotten by whoever made them."""
    ops = backend_ops(backend)
    stack = Stack(ops)
    layers = ops.put_layers(stack.layers)
    expected = ops.run_layers(stack.h.copy(), layers, stack.states(), stack.rotary, stack.batch)
    stack.layers.clear()
    actual = ops.run_layers(stack.h.copy(), layers, stack.states(), stack.rotary, stack.batch)
    assert same_bits(actual, expected)


@on_cpu
def test_wrong_shapes_are_refused_before_anything_is_written(backend: str) -> None:
    ops = backend_ops(backend)
    stack = Stack(ops)
    layers, states = ops.put_layers(stack.layers), stack.states()
    for h, given, message in (
        (stack.h[:-1].copy(), states, "h should be"),
        (stack.h.copy(), states[:1], "one store of states"),
        (stack.h.copy(), [states[0], ops.new_pages(1, stack.attention)], "no such page"),
    ):
        before = h.copy()
        with pytest.raises(ValueError, match=message):
            ops.run_layers(h, layers, given, stack.rotary, stack.batch)
        assert same_bits(h, before)
        assert not np.any(ops.slot_arrays(states[0], 2)[1])
