"""The promises of equal bits: rows, cuts, threads, instruction sets, and what lay in memory before."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from loqal.formats import FORMATS
from loqal.ops.interface import Ops
from loqal.ops.records import AttentionShape, DeltaShape, Norm
from op_backends import CPU_BACKENDS, backend_ops, on_all, on_cpu
from op_cases import (
    EPS,
    AttentionCase,
    DeltaCase,
    MlpCase,
    Plan,
    attention_case,
    delta_case,
    experts_case,
    input_widths,
    mlp_case,
    normal,
    plan_steps,
    random_weight,
    run_attention,
    run_delta,
    run_experts,
    run_mlp,
    same_bits,
)
from op_programs import PROGRAMS

MOST_ROWS = 53  # more than are multiplied without a slab
on_programs = pytest.mark.parametrize("program", PROGRAMS)


@functools.cache
def first_run(program: str, backend: str) -> list[np.ndarray]:
    """The program on one thread."""
    return PROGRAMS[program](backend_ops(backend))


def assert_same(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    assert len(actual) == len(expected)
    for index, (left, right) in enumerate(zip(actual, expected, strict=True)):
        assert same_bits(left, right), f"result {index} differs"


# Rows ----------------------------------------------------------------------------------------------------------------


@on_all
@pytest.mark.parametrize("float_inputs", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_row_of_linear_ignores_its_companions(
    backend: str, format: str, float_inputs: bool, rng: np.random.Generator
) -> None:
    ops, width = backend_ops(backend), input_widths(format)[-1]
    x = normal(rng, MOST_ROWS, width)
    weight = ops.pack_weight(random_weight(rng, format, 63, width).tensor, float_inputs=float_inputs)
    (whole,) = ops.linear(x, (weight,))
    for rows in range(1, MOST_ROWS + 1):
        assert same_bits(ops.linear(x[:rows], (weight,))[0], whole[:rows]), f"{rows} rows"
        assert same_bits(ops.linear(x[rows - 1 : rows], (weight,))[0], whole[rows - 1 : rows]), f"row {rows - 1} alone"


@on_all
def test_weights_of_one_call_ignore_each_other(backend: str, rng: np.random.Generator) -> None:
    ops, x = backend_ops(backend), normal(rng, 6, 256)
    weights = [
        ops.pack_weight(random_weight(rng, format, 40, 256).tensor) for format in ("Q8_0", "F16", "Q4_K", "Q8_0")
    ]
    for together, weight in zip(ops.linear(x, weights), weights, strict=True):
        assert same_bits(together, ops.linear(x, (weight,))[0])


@on_all
def test_linear_add_is_linear_then_add(backend: str, rng: np.random.Generator) -> None:
    ops, h, x = backend_ops(backend), normal(rng, 6, 65), normal(rng, 6, 256)
    weight = ops.pack_weight(random_weight(rng, "Q8_0", 65, 256).tensor)
    alone = [ops.linear_add(h[row : row + 1].copy(), x[row : row + 1], weight) for row in range(6)]
    assert same_bits(ops.linear_add(h.copy(), x, weight), np.concatenate(alone))


@on_all
@pytest.mark.parametrize("format", ["F32", "Q8_0", "Q4_K"])
def test_a_row_of_gated_mlp_ignores_its_companions(backend: str, format: str) -> None:
    ops, case = backend_ops(backend), mlp_case(30, (format, format, format), MOST_ROWS, 256, 512)
    whole = run_mlp(ops, case)
    for rows in (1, 2, 5, 16, 17, 32):
        part = MlpCase(case.h[:rows], case.x[:rows], case.gate, case.up, case.down)
        assert same_bits(run_mlp(ops, part), whole[:rows]), f"{rows} rows"


@on_all
@pytest.mark.parametrize("format", ["F32", "Q8_0", "Q4_K"])
def test_a_row_of_routed_experts_ignores_its_companions(backend: str, format: str) -> None:
    ops, case = backend_ops(backend), experts_case(31, format, 21, 256, 256, (8, 3))
    whole = run_experts(ops, case)
    for first, end in ((0, 1), (4, 5), (3, 20)):
        part = dataclasses.replace(case, h=case.h[first:end], x=case.x[first:end])
        assert same_bits(run_experts(ops, part), whole[first:end])


@on_all
def test_a_row_without_numbers_stays_alone_among_experts(backend: str) -> None:
    ops, case = backend_ops(backend), experts_case(36, "Q8_0", 5, 256, 256, (8, 3))
    whole = run_experts(ops, case)
    case.x[2] = np.nan
    with np.errstate(invalid="ignore"):
        broken = run_experts(ops, case)
    others = [0, 1, 3, 4]
    assert np.isnan(broken[2]).all()
    assert same_bits(broken[others], whole[others])


@on_all
@pytest.mark.parametrize("rows", [1, 5, 30])
def test_a_norm_before_an_operation_is_the_norm_by_itself(backend: str, rows: int, rng: np.random.Generator) -> None:
    ops, x, norm = backend_ops(backend), normal(rng, rows, 256), Norm(normal(rng, 256), EPS)
    normed = ops.rms_norm(x, norm.weight, norm.eps)
    for formats in (("Q4_K", "F16"), ("F32", "BF16")):
        weights = [ops.pack_weight(random_weight(rng, format, 40, 256).tensor) for format in formats]
        for one, two in zip(ops.linear(x, weights, norm), ops.linear(normed, weights), strict=True):
            assert same_bits(one, two)
    for format in ("Q4_K", "F32"):
        mlp, experts = mlp_case(32, (format,) * 3, rows, 256, 512), experts_case(33, format, rows, 256, 256, (8, 3))
        for case, run in ((mlp, run_mlp), (experts, run_experts)):
            case = dataclasses.replace(case, h=x, x=normed)
            assert same_bits(run(ops, case, norm), run(ops, case)), f"{format} {run.__name__}"


@on_all
def test_a_row_of_rms_norm_ignores_its_companions(backend: str, rng: np.random.Generator) -> None:
    ops, x, weight = backend_ops(backend), normal(rng, MOST_ROWS, 257), normal(rng, 257)
    whole = ops.rms_norm(x, weight, EPS)
    for row in range(MOST_ROWS):
        assert same_bits(ops.rms_norm(x[row : row + 1], weight, EPS), whole[row : row + 1])


# Cuts and companions -------------------------------------------------------------------------------------------------


ATTENTION = attention_case(32, AttentionShape(2, 1, 64), [531, 65, 3, 128])
ATTENTION_PLANS: dict[str, Plan] = {
    "before each boundary": [[63, 63, 1, 127], [448, 1, 1, 1], [1, 1, 1, 0], [19, 0, 0, 0]],
    "at each boundary": [[64, 64, 3, 64], [448, 1, 0, 64], [19, 0, 0, 0]],
    "after each boundary": [[65, 65, 2, 65], [448, 0, 1, 63], [18, 0, 0, 0]],
    "chunks of 100": plan_steps(ATTENTION.lengths, 100),
    "last rows one by one": [[500, 33, 1, 100], *plan_steps([31, 32, 2, 28], 1)],
}


@on_all
@pytest.mark.parametrize("plan", ATTENTION_PLANS)
def test_attention_cut_into_steps(backend: str, plan: str) -> None:
    ops = backend_ops(backend)
    assert_same(run_attention(ops, ATTENTION, ATTENTION_PLANS[plan]), _whole_attention(backend))


@on_all
def test_attention_alone_and_in_other_pages(backend: str) -> None:
    ops = backend_ops(backend)
    for sequence, expected in enumerate(_whole_attention(backend)):
        fields = [[part[sequence]] for part in (ATTENTION.query_gate, ATTENTION.key, ATTENTION.value, ATTENTION.rotary)]
        table = np.arange(ATTENTION.num_pages, dtype=np.int32)[None, ::-1].copy()
        norms = ATTENTION.query_norm, ATTENTION.key_norm
        alone = AttentionCase(ATTENTION.shape, *fields, *norms, table, ATTENTION.num_pages)
        assert same_bits(run_attention(ops, alone, [alone.lengths])[0], expected)


@on_all
def test_attention_in_stale_pages(backend: str) -> None:
    """What an earlier owner left in a page, here NaN, is never read."""
    ops = backend_ops(backend)
    assert_same(
        run_attention(ops, ATTENTION, plan_steps(ATTENTION.lengths, 200), stale=True), _whole_attention(backend)
    )


@functools.cache
def _whole_attention(backend: str) -> list[np.ndarray]:
    return run_attention(backend_ops(backend), ATTENTION, [ATTENTION.lengths])


@on_all
@pytest.mark.parametrize("shape", [DeltaShape(2, 2, 128, 128, 4), DeltaShape(2, 4, 128, 128, 4)], ids=str)
def test_delta_cut_into_steps(backend: str, shape: DeltaShape) -> None:
    ops, case = backend_ops(backend), delta_case(33, shape, [70, 1, 0, 9, 3])
    whole = run_delta(ops, case, [case.lengths])
    for most in (1, 2, 3, 5, 64):
        assert_same(run_delta(ops, case, plan_steps(case.lengths, most)), whole)
    for sequence, expected in enumerate(whole):
        alone = case.alone(sequence)
        if alone.lengths[0]:
            assert same_bits(run_delta(ops, alone, [alone.lengths])[0], expected)


# Threads, instruction sets, memory -----------------------------------------------------------------------------------


@on_cpu
@on_programs
def test_two_threads_equal_one(backend: str, program: str) -> None:
    assert_same(PROGRAMS[program](backend_ops(backend, threads=2)), first_run(program, backend))


@pytest.mark.parametrize("backend", CPU_BACKENDS[1:])
@on_programs
def test_instruction_sets_agree(backend: str, program: str) -> None:
    assert_same(first_run(program, backend), first_run(program, CPU_BACKENDS[0]))


@on_all
@on_programs
def test_what_lay_in_memory_does_not_matter(backend: str, program: str, poison_memory: Callable[[], None]) -> None:
    """Fresh arrays full of NaN, and scratch memory that a step of NaN has gone through."""
    expected = first_run(program, backend)
    poison_memory()
    _leave_nan_in_scratch(backend)
    assert_same(PROGRAMS[program](backend_ops(backend)), expected)


@functools.cache
def _nan_cases() -> tuple[DeltaCase, np.ndarray]:
    delta = delta_case(34, DeltaShape(2, 4, 128, 128, 4), [20])
    for rows in (*delta.qkv, *delta.z, *delta.beta, *delta.alpha):
        rows.fill(np.nan)
    return delta, np.full((20, 512), np.nan, np.float32)


def _leave_nan_in_scratch(backend: str) -> None:
    ops: Ops = backend_ops(backend)
    delta, x = _nan_cases()
    rng = np.random.default_rng(35)
    with np.errstate(invalid="ignore"):
        run_delta(ops, delta, [[20]])
        for format in ("F32", "Q8_0"):
            parts = [random_weight(rng, format, 512, 512) for _ in range(3)]
            run_mlp(ops, MlpCase(x, x, *parts))
        ops.rms_norm(x, x[0], EPS)
