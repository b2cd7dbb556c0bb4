"""Products with weights of every format against the reference."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

import tolerance
from loqal.formats import FORMATS
from loqal.formats.tensor import Tensor
from loqal.ops.interface import RUN_INPUTS
from op_backends import REFERENCE, backend_ops, on_all, on_cpu
from op_cases import RandomWeight, experts_case, input_widths, mlp_case, normal, random_weight, run_experts, run_mlp

ROWS = (1, 2, 3, 5, 8, 17, 33)
OUTPUTS = (1, 15, 16, 17, 63, 257)
on_formats = pytest.mark.parametrize("format", FORMATS)


@functools.cache
def product_case(format: str, num_outputs: int, width: int) -> tuple[np.ndarray, RandomWeight, np.ndarray, np.ndarray]:
    """Inputs, weight, reference result and bound; shared by the instruction sets."""
    rng = np.random.default_rng(num_outputs * 1000 + width)
    x = normal(rng, max(ROWS), width)
    x[1, : RUN_INPUTS // 2] = 0
    x[2, :RUN_INPUTS] = 0  # a run of zeros
    x[3] *= 1e4
    x[4, :RUN_INPUTS] *= 1e-38  # a run too small for the reciprocal of its scale
    weight = random_weight(rng, format, num_outputs, width)
    (expected,) = REFERENCE.linear(x, (REFERENCE.pack_weight(weight.tensor),))
    return x, weight, expected, tolerance.linear(x, weight)


@on_cpu
@on_formats
def test_linear(backend: str, format: str) -> None:
    ops = backend_ops(backend)
    for width in input_widths(format):
        for num_outputs in OUTPUTS:
            x, weight, expected, bound = product_case(format, num_outputs, width)
            handle = ops.pack_weight(weight.tensor)
            for rows in ROWS:
                (actual,) = ops.linear(x[:rows], (handle,))
                tolerance.assert_within(actual, expected[:rows], bound[:rows])


@on_cpu
@on_formats
def test_linear_with_float_inputs(backend: str, format: str, rng: np.random.Generator) -> None:
    ops, width = backend_ops(backend), input_widths(format)[-1]
    x, weight = normal(rng, 9, width), random_weight(rng, format, 33, width)
    (expected,) = REFERENCE.linear(x, (REFERENCE.pack_weight(weight.tensor, float_inputs=True),))
    (actual,) = ops.linear(x, (ops.pack_weight(weight.tensor, float_inputs=True),))
    tolerance.assert_within(actual, expected, tolerance.linear(x, weight, float_inputs=True))


@on_cpu
def test_linear_shares_one_activation(backend: str, rng: np.random.Generator) -> None:
    """Several formats, with and without int8 activations, in one call."""
    ops, x = backend_ops(backend), normal(rng, 7, 512)
    formats = [("Q4_K", False), ("Q8_0", False), ("Q8_0", True), ("F16", False), ("Q6_K", False), ("F32", False)]
    weights = [random_weight(rng, format, 20 + index, 512) for index, (format, _) in enumerate(formats)]
    results = []
    for one in (ops, REFERENCE):
        pairs = zip(weights, formats, strict=True)
        results.append(one.linear(x, [one.pack_weight(w.tensor, float_inputs=floats) for w, (_, floats) in pairs]))
    for actual, expected, weight, (_, floats) in zip(*results, weights, formats, strict=True):
        tolerance.assert_within(actual, expected, tolerance.linear(x, weight, float_inputs=floats))


@on_cpu
@pytest.mark.parametrize("format", ["F32", "BF16", "Q8_0", "Q4_K"])
def test_linear_add(backend: str, format: str, rng: np.random.Generator) -> None:
    ops = backend_ops(backend)
    h, x, weight = normal(rng, 6, 65), normal(rng, 6, 256), random_weight(rng, format, 65, 256)
    expected = REFERENCE.linear_add(h.copy(), x, REFERENCE.pack_weight(weight.tensor))
    in_place = h.copy()
    actual = ops.linear_add(in_place, x, ops.pack_weight(weight.tensor))
    assert np.shares_memory(actual, in_place)
    bound = tolerance.linear(x, weight) + tolerance.UNIT * (np.abs(h) + np.abs(expected))
    tolerance.assert_within(actual, expected, bound)


@on_cpu
@on_formats
def test_embed_and_unembed(backend: str, format: str, rng: np.random.Generator) -> None:
    ops, width = backend_ops(backend), input_widths(format)[-1]
    table = random_weight(rng, format, 70, width)
    handle, expected_handle = ops.pack_weight(table.tensor), REFERENCE.pack_weight(table.tensor)
    ids = np.array([0, 69, 16, 16, 31, 1], np.int32)
    actual, expected = ops.embed(handle, ids), REFERENCE.embed(expected_handle, ids)
    exact = FORMATS[format].is_float
    tolerance.assert_within(actual, expected, 0.0 if exact else 2 * tolerance.UNIT * table.magnitudes[ids])
    x = normal(rng, 3, width)
    expected = REFERENCE.unembed(x, expected_handle)
    tolerance.assert_within(ops.unembed(x, handle), expected, tolerance.linear(x, table))


@on_all
def test_no_rows(backend: str, rng: np.random.Generator) -> None:
    ops = backend_ops(backend)
    handle = ops.pack_weight(random_weight(rng, "Q8_0", 17, 64).tensor)
    assert ops.linear(normal(rng, 0, 64), (handle,))[0].shape == (0, 17)
    assert ops.unembed(normal(rng, 0, 64), handle).shape == (0, 17)
    assert ops.embed(handle, np.empty(0, np.int32)).shape == (0, 64)
    assert run_experts(ops, experts_case(1, "Q8_0", 0, 64, 64, (4, 2))).shape == (0, 64)


@on_cpu
@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize(
    "formats",
    [("F32", "F16", "BF16"), ("Q8_0", "Q8_0", "Q8_0"), ("Q4_K", "Q4_K", "Q6_K"), ("Q4_0", "Q5_1", "IQ4_NL")],
    ids="-".join,
)
def test_gated_mlp(backend: str, formats: tuple[str, str, str], rows: int) -> None:
    case = mlp_case(rows, formats, rows, 256, 512)
    expected = run_mlp(REFERENCE, case)
    tolerance.assert_within(run_mlp(backend_ops(backend), case), expected, tolerance.mlp(case, expected))


@on_cpu
@pytest.mark.parametrize("format", ["F32", "Q8_0", "Q4_K"])
@pytest.mark.parametrize("rows", [1, 2, 19])
def test_routed_experts(backend: str, format: str, rows: int) -> None:
    case = experts_case(rows, format, rows, 256, 256, (16, 4))
    expected = run_experts(REFERENCE, case)
    tolerance.assert_within(run_experts(backend_ops(backend), case), expected, tolerance.experts(case, expected))


@on_cpu
def test_equal_experts_go_to_the_lower_index(backend: str) -> None:
    """All router logits are equal: experts 0 and 1 must be taken, each with half the weight."""
    case = experts_case(1, "F32", 3, 32, 32, (8, 2))
    level = Tensor("w", "F32", (8, 32), np.zeros_like(case.router.tensor.data), "test")
    case = dataclasses.replace(case, router=RandomWeight(level))
    expected = run_experts(REFERENCE, case)
    alone = [tolerance.feed_forward(case.x, *(part.expert(index) for part in case.experts)) for index in (0, 1)]
    bound = sum(alone) + tolerance.feed_forward(case.x, *case.shared) + tolerance.FUNCTION * 4 * np.abs(expected)
    tolerance.assert_within(run_experts(backend_ops(backend), case), expected, bound)
