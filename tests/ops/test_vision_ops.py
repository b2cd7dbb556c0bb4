"""The operations of the vision tower: against the reference, and the promises of equal bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tolerance
from loqal.ops.interface import FloatArray, Ops, Rotary
from op_backends import CPU_BACKENDS, REFERENCE, backend_ops, on_all, on_cpu
from op_cases import EPS, normal, random_weight, same_bits

COUNTS = (1, 4, 15, 48, 49, 511, 513, 1040)
"""Patches in a picture: within and across tiles of queries, panels of keys and spans."""
HEADS = [(1, 64), (2, 72), (3, 32), (2, 24)]
"""Heads and their width."""


def picture(rng: np.random.Generator, count: int, heads: int, dim: int) -> tuple[FloatArray, Rotary]:
    places = rng.integers(0, 64, (count, 2)).astype(np.int32)
    return normal(rng, count, 3 * heads * dim), REFERENCE.vision_rotary(places, dim, 1e4)


def attended(ops: Ops, qkv: FloatArray, rotary: Rotary, heads: int, *cuts: int) -> FloatArray:
    held = ops.vision_heads(qkv, rotary, heads)
    bounds = [0, *cuts, len(qkv)]
    return np.concatenate([ops.vision_attention(held, a, b) for a, b in itertools.pairwise(bounds) if a < b])


@on_cpu
@pytest.mark.parametrize(("heads", "dim"), HEADS)
@pytest.mark.parametrize("count", COUNTS)
def test_attention(backend: str, count: int, heads: int, dim: int, rng: np.random.Generator) -> None:
    if backend == "cpu-plain" and count > 100:
        pytest.skip("the same bits as the others, see below, at a hundred times the cost")
    qkv, rotary = picture(rng, count, heads, dim)
    expected = attended(REFERENCE, qkv, rotary, heads)
    actual = attended(backend_ops(backend), qkv, rotary, heads)
    query, key, value = REFERENCE.vision_heads(qkv, rotary, heads)
    # A score is off by its terms' roundings, its weight by twice the largest of those, exp and the sum's order.
    scores_off = (dim + 8) * tolerance.UNIT * np.einsum("hnd,hmd->hnm", np.abs(query), np.abs(key)).max(axis=2)
    spread = np.abs(np.einsum("hnd,hmd->hnm", query, key)).max(axis=2)
    share_off = np.expm1(2 * scores_off + (2 * count + 2 * spread + 8) * tolerance.UNIT + 2 * tolerance.FUNCTION)
    bound = share_off[..., None] * np.abs(value).max(axis=1)[:, None] + tolerance.UNIT * np.abs(value).max()
    tolerance.assert_within(actual, expected, bound.transpose(1, 0, 2).reshape(expected.shape))


@on_all
def test_attention_may_be_cut_anywhere(backend: str, rng: np.random.Generator) -> None:
    qkv, rotary = picture(rng, 70, 2, 24)
    ops = backend_ops(backend)
    whole = attended(ops, qkv, rotary, 2)
    for cuts in ((1,), (11, 12, 13), (47, 49), (69,)):
        assert same_bits(attended(ops, qkv, rotary, 2, *cuts), whole), cuts


def test_all_instruction_sets_and_threads_agree(rng: np.random.Generator) -> None:
    qkv, rotary = picture(rng, 530, 2, 40)
    x = normal(rng, 200, 333, scale=3.0)
    weight, bias, wide = normal(rng, 333), normal(rng, 333), random_weight(rng, "F16", 100, 333)
    results: dict[str, list[FloatArray]] = {}
    for backend, threads in itertools.product(CPU_BACKENDS, (1, 2)):
        ops = backend_ops(backend, threads)
        (product,) = ops.linear(x, (ops.pack_weight(wide.tensor),))
        results[f"{backend}, {threads} threads"] = [
            attended(ops, qkv, rotary, 2),
            ops.layer_norm(x, weight, bias, EPS),
            ops.gelu(x.copy(), exact=True),
            ops.gelu(x.copy(), exact=False),
            ops.add_bias(x.copy(), bias),
            product,
            ops.linear_add(product.copy(), x, ops.pack_weight(wide.tensor)),
        ]
    (first, expected), *others = results.items()
    for name, found in others:
        for index, (left, right) in enumerate(zip(found, expected, strict=True)):
            assert same_bits(left, right), f"result {index} of {name} and {first}"


@on_cpu
@pytest.mark.parametrize("format", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("inputs", [1, 48, 191, 193, 400])
def test_many_rows_run_the_chains_of_one(backend: str, format: str, inputs: int, rng: np.random.Generator) -> None:
    """Tiles, blocks of inputs and what is beside a row change nothing."""
    ops, rows = backend_ops(backend), 23 if backend == "cpu-plain" else 205
    weight = random_weight(rng, format, 50, inputs)
    x, packed = normal(rng, rows + 24, inputs), ops.pack_weight(weight.tensor)
    (whole,) = ops.linear(x, (packed,))
    tolerance.assert_within(
        whole, REFERENCE.linear(x, (REFERENCE.pack_weight(weight.tensor),))[0], tolerance.linear(x, weight)
    )
    for start in (0, 1, 23, len(x) - 5):
        assert same_bits(ops.linear(x[start : start + 5].copy(), (packed,))[0], whole[start : start + 5])
    added = ops.linear_add(np.ones_like(whole), x, packed)
    assert same_bits(added, whole + np.float32(1))


@on_cpu
@pytest.mark.parametrize("width", [1, 15, 16, 63, 144, 257, 1152])
def test_layer_norm(backend: str, width: int, rng: np.random.Generator) -> None:
    x = normal(rng, 4, width) * np.float32([[1], [1e-4], [0], [100]]) + np.float32([[0], [0], [3], [1]])
    weight, bias = normal(rng, width), normal(rng, width)
    expected = REFERENCE.layer_norm(x, weight, bias, EPS)
    centred = np.abs(x - x.mean(axis=1, keepdims=True, dtype=np.float64))
    root = np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
    mean_off = (width / 16 + 8) * tolerance.UNIT * np.abs(x).mean(axis=1, keepdims=True)
    bound = np.abs(weight) * (mean_off + (width / 8 + 16) * tolerance.UNIT * (centred + mean_off)) / root
    bound = bound * (1 + mean_off / root) + tolerance.UNIT * (np.abs(bias) + np.abs(expected))
    tolerance.assert_within(backend_ops(backend).layer_norm(x, weight, bias, EPS), expected, bound)


@on_cpu
@pytest.mark.parametrize("exact", [True, False])
def test_gelu(backend: str, exact: bool) -> None:
    x = np.concatenate([np.linspace(-15, 15, 20_001), [0.0, -0.0, 1e-30, -1e-30, 88, -88, 1e4, -1e4, 1e30, -1e30]])
    x = x.astype(np.float32)[None].copy()
    expected = REFERENCE.gelu(x.copy(), exact=exact)
    actual = backend_ops(backend).gelu(x.copy(), exact=exact)
    # Where the result is tiny, its relative error is that of the exponent: a rounding of x^2.
    bound = (12 + x.astype(np.float64) ** 2 * 2) * tolerance.UNIT * np.abs(expected) + 2e-7 * np.abs(expected)
    tolerance.assert_within(actual, expected, bound + 1e-36)


@on_cpu
def test_vision_rotary(backend: str, rng: np.random.Generator) -> None:
    places = rng.integers(0, 400, (60, 2)).astype(np.int32)
    actual, expected = backend_ops(backend).vision_rotary(places, 72, 1e4), REFERENCE.vision_rotary(places, 72, 1e4)
    assert actual.cos.shape == (60, 36)
    tolerance.assert_within(actual.cos, expected.cos, 4 * tolerance.UNIT)
    tolerance.assert_within(actual.sin, expected.sin, 4 * tolerance.UNIT)


def test_shapes_are_checked(rng: np.random.Generator) -> None:
    ops = backend_ops(CPU_BACKENDS[0])
    qkv, rotary = picture(rng, 8, 2, 24)
    for wrong in (qkv[:, :-1].copy(), qkv[:5].copy()):
        with pytest.raises(ValueError, match="vision_heads"):
            ops.vision_heads(wrong, rotary, 2)
    held = ops.vision_heads(qkv, rotary, 2)
    for start, end in ((-1, 3), (3, 3), (0, 9)):
        with pytest.raises(ValueError, match="no such rows"):
            ops.vision_attention(held, start, end)
    with pytest.raises(ValueError, match="bias"):
        ops.layer_norm(qkv, np.ones(144, np.float32), np.ones(3, np.float32), EPS)
