"""The small operations against the reference."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tolerance
from loqal.formats import encode
from loqal.formats.tensor import Tensor
from loqal.ops.records import RopeConfig, YarnConfig
from op_backends import REFERENCE, backend_ops, on_all, on_cpu
from op_cases import EPS, normal, random_weight, same_bits


@on_cpu
@pytest.mark.parametrize("width", [1, 15, 16, 63, 256, 257, 1024])
def test_rms_norm(backend: str, width: int, rng: np.random.Generator) -> None:
    x, weight = normal(rng, 5, width) * np.float32([[1], [1e-4], [0], [1e4], [1]]), normal(rng, width)
    expected = REFERENCE.rms_norm(x, weight, EPS)
    tolerance.assert_within(backend_ops(backend).rms_norm(x, weight, EPS), expected, tolerance.rms_norm(expected))


@on_cpu
@pytest.mark.parametrize(
    "rope", [RopeConfig(), RopeConfig(yarn=YarnConfig(4.0, 262144)), RopeConfig(16, 1e4, (3, 3, 2))]
)
def test_rotary(backend: str, rope: RopeConfig, rng: np.random.Generator) -> None:
    """Angles must be formed in float64: at the far end of the context float32 is off by a hundredth of a radian."""
    positions = np.concatenate([[[0, 0, 0], [1, 2, 3], [1010000, 262143, 5]], rng.integers(0, 262144, (40, 3))])
    positions = positions.astype(np.int32)
    actual, expected = backend_ops(backend).rotary(positions, rope), REFERENCE.rotary(positions, rope)
    tolerance.assert_within(actual.cos, expected.cos, 4 * tolerance.UNIT)
    tolerance.assert_within(actual.sin, expected.sin, 4 * tolerance.UNIT)


@on_all
@pytest.mark.parametrize(("length", "k"), [(1, 1), (7, 7), (1000, 1), (1000, 64), (4099, 40), (300, 300)])
def test_candidates(backend: str, length: int, k: int, rng: np.random.Generator) -> None:
    logits = normal(rng, length, scale=5.0)
    logits = np.round(logits * 2) / 2 if length == 1000 else logits  # many ties
    ids, values, log_sum = backend_ops(backend).candidates(logits, k)
    expected = sorted(range(length), key=lambda at: (-logits[at], at))[:k]
    assert ids.dtype == np.int32
    assert ids.tolist() == expected
    assert values.tolist() == logits[expected].tolist()
    exact = float(np.logaddexp.reduce(logits.astype(np.float64)))
    assert abs(log_sum - exact) <= tolerance.log_sum_exp(logits, exact)


@on_all
def test_candidates_after_a_mask(backend: str) -> None:
    """Masked logits are minus infinity, and a constraint may leave fewer than k others."""
    logits = np.full(100, -np.inf, np.float32)
    logits[[70, 3, 20]] = [1.0, 2.0, 1.0]
    ids, values, log_sum = backend_ops(backend).candidates(logits, 5)
    assert ids.tolist() == [3, 20, 70, 0, 1]
    assert values.tolist() == [2.0, 1.0, 1.0, -np.inf, -np.inf]
    assert log_sum == pytest.approx(np.log(np.exp(2) + 2 * np.exp(1)), rel=1e-6)


@on_all
def test_select_and_concat(backend: str, rng: np.random.Generator) -> None:
    ops, left, right = backend_ops(backend), normal(rng, 4, 5), normal(rng, 4, 3)
    rows = np.array([3, 0, 0], np.int32)
    assert np.array_equal(ops.select(left, rows), left[rows])
    assert ops.select(left, rows[:0]).shape == (0, 5)
    assert np.array_equal(ops.concat(left, right), np.hstack([left, right]))


@on_all
@pytest.mark.parametrize("format", ["F32", "F16", "BF16"])
def test_put_vector_keeps_the_shape(backend: str, format: str, rng: np.random.Generator) -> None:
    weight = random_weight(rng, format, 4, 6)
    actual = backend_ops(backend).put_vector(weight.tensor)
    assert actual.dtype == np.float32
    assert np.array_equal(actual, weight.matrix)


@on_all
def test_one_thread_at_a_time_has_the_backend(backend: str) -> None:
    ops, order = backend_ops(backend), []

    def use() -> None:
        with ops.exclusive():
            order.append("other")

    other = threading.Thread(target=use)
    with ops.exclusive():
        other.start()
        other.join(0.05)
        order.append("own")
    other.join()
    assert order == ["own", "other"]


@on_all
def test_inputs_are_left_alone(backend: str, rng: np.random.Generator) -> None:
    ops, x, weight = backend_ops(backend), normal(rng, 3, 64), normal(rng, 64)
    before = x.copy()
    ops.rms_norm(x, weight, EPS)
    ops.linear(x, (ops.pack_weight(random_weight(rng, "Q8_0", 5, 64).tensor),))
    ops.candidates(x[0], 3)
    assert np.array_equal(x, before)


@on_all
@pytest.mark.parametrize("k", [1, 7, 300])
def test_largest_is_the_head_of_the_row(backend: str, k: int, rng: np.random.Generator) -> None:
    """The same ids and bits as sorting the whole row; excluded ids never appear, ties go to the lower id."""
    ops = backend_ops(backend)
    values = rng.standard_normal((263, 64)).astype(np.float32)
    values[200] = values[3]
    head = ops.pack_weight(Tensor("head", "F32", values.shape, encode("F32", values).reshape(-1), "test"))
    x = rng.standard_normal((5, 64)).astype(np.float32)
    excluded = np.array([0, 5, 262], np.int32)
    ids, logits = ops.top_k(x, head, k, excluded)
    rows = ops.unembed(x, head)
    for row in range(len(x)):
        allowed = np.setdiff1d(np.arange(263), excluded)
        order = allowed[np.lexsort((allowed, -rows[row][allowed]))][:k]
        assert ids[row].tolist() == order.tolist()
        assert same_bits(logits[row], rows[row][order])
