"""Attention and Gated DeltaNet: against the reference, and what they promise about state."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tolerance
from loqal.ops.records import AttentionShape, DeltaShape
from op_backends import REFERENCE, backend_ops, on_all, on_cpu
from op_cases import (
    attention_case,
    attention_step,
    delta_case,
    delta_step,
    plan_steps,
    run_attention,
    run_delta,
    same_bits,
)

ATTENTION_SHAPES = [AttentionShape(2, 2, 64), AttentionShape(3, 1, 128), AttentionShape(8, 2, 256)]
DELTA_SHAPES = [DeltaShape(2, 2, 128, 128, 4), DeltaShape(2, 4, 128, 128, 4), DeltaShape(1, 3, 128, 128, 4)]


@on_cpu
@pytest.mark.parametrize("shape", ATTENTION_SHAPES, ids=str)
def test_gated_attention(backend: str, shape: AttentionShape) -> None:
    """Whole sequences around a page boundary, an empty one among them."""
    case = attention_case(5, shape, [1, 0, 63, 64, 65, 17])
    expected = run_attention(REFERENCE, case, [case.lengths])
    actual = run_attention(backend_ops(backend), case, [case.lengths])
    for sequence, rows in enumerate(expected):
        tolerance.assert_within(actual[sequence], rows, tolerance.attention(case, sequence, rows))


@on_cpu
def test_gated_attention_over_spans(backend: str) -> None:
    """More keys than one span holds, the last row of which stands alone in its step."""
    case = attention_case(6, AttentionShape(2, 1, 64), [600, 513])
    plan = [[512, 512], [87, 0], [1, 1]]
    expected = run_attention(REFERENCE, case, plan)
    actual = run_attention(backend_ops(backend), case, plan)
    for sequence, rows in enumerate(expected):
        tolerance.assert_within(actual[sequence], rows, tolerance.attention(case, sequence, rows))


@on_cpu
@pytest.mark.parametrize("kv_bits", [8, 32])
def test_gated_attention_with_other_precisions(backend: str, kv_bits: int) -> None:
    """With 8 bits, inputs near a rounding tie may fall to either side: one step of 1/127 in a dimension of a key."""
    case = attention_case(6, AttentionShape(6, 2, 128), [70, 513])
    expected = run_attention(REFERENCE, case, [[64, 512], [6, 1]], kv_bits=kv_bits)
    actual = run_attention(backend_ops(backend), case, [[64, 512], [6, 1]], kv_bits=kv_bits)
    for sequence, rows in enumerate(expected):
        if kv_bits == 32:
            tolerance.assert_within(actual[sequence], rows, tolerance.attention(case, sequence, rows))
        else:
            assert np.abs(actual[sequence] - rows).max() < 1 / 127 * np.abs(rows).max()


@on_all
def test_copied_page_is_read_like_the_original(backend: str) -> None:
    """A sequence goes on from copies of its pages after others have overwritten the originals."""
    ops, shape = backend_ops(backend), AttentionShape(2, 1, 64)
    case, other = attention_case(7, shape, [70]), attention_case(8, shape, [70])
    pages = ops.new_pages(case.num_pages, shape)
    attention_step(ops, case, pages, [0], [69])
    sources = case.page_table[0, :2].tolist()
    targets = sorted(set(range(case.num_pages)) - set(sources))
    for source, target in zip(sources, targets, strict=True):
        ops.copy_page(pages, source, target)
    expected = attention_step(ops, case, pages, [69], [1])
    attention_step(ops, dataclasses.replace(other, page_table=case.page_table), pages, [0], [70])
    moved = dataclasses.replace(case, page_table=np.array([targets], np.int32))
    assert same_bits(attention_step(ops, moved, pages, [69], [1]), expected)


@on_cpu
@pytest.mark.parametrize("shape", DELTA_SHAPES, ids=str)
def test_gated_delta(backend: str, shape: DeltaShape) -> None:
    case = delta_case(8, shape, [1, 0, 2, 33, 7])
    expected = run_delta(REFERENCE, case, plan_steps(case.lengths, 20))
    actual = run_delta(backend_ops(backend), case, plan_steps(case.lengths, 20))
    for sequence, rows in enumerate(expected):
        tolerance.assert_within(actual[sequence], rows, tolerance.delta(case, sequence, rows))


@on_all
def test_capture_continues_like_the_original(backend: str) -> None:
    """A state captured after row r, and a copy of it, go on exactly as the sequence itself did."""
    ops, shape = backend_ops(backend), DeltaShape(2, 4, 128, 128, 4)
    case = delta_case(9, shape, [12, 9])
    slots = ops.new_slots(7, shape)
    captures = [(0, 4), (4, 2), (11, 0), (12 + 5, 3)]
    whole = delta_step(ops, case, slots, [1, 5], [0, 0], [12, 9], captures)
    ops.copy_slot(slots, 2, 6)
    for slot, sequence, after in ((4, 0, 1), (2, 0, 5), (6, 0, 5), (3, 1, 6)):
        rest = case.alone(sequence)
        left = rest.lengths[0] - after
        expected = (whole[:12], whole[12:])[sequence][after:]
        assert same_bits(delta_step(ops, rest, slots, [slot], [after], [left]), expected), slot


@on_all
def test_slots_outside_the_step_stay(backend: str) -> None:
    ops, shape = backend_ops(backend), DeltaShape(1, 2, 128, 128, 4)
    case = delta_case(10, shape, [6])
    slots = ops.new_slots(3, shape)
    expected = delta_step(ops, case, slots, [0], [0], [6])
    assert same_bits(delta_step(ops, case, slots, [2], [0], [6]), expected), "new slots are zero"
    ops.clear_slot(slots, 0)
    assert same_bits(delta_step(ops, case, slots, [0], [0], [6]), expected), "a cleared slot is new"
    assert same_bits(delta_step(ops, case, slots, [1], [0], [6]), expected), "the others were not touched"
    assert not same_bits(delta_step(ops, case, slots, [2], [0], [6]), expected), "a used slot remembers"
