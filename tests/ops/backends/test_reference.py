"""The reference against the same mathematics written differently: as sums over pairs, or from hand-made numbers."""

from __future__ import annotations

import numpy as np

from loqal.ops.backends.reference import ReferenceOps, quantize_inputs
from loqal.ops.records import AttentionShape, DeltaShape, RopeConfig
from op_cases import (
    EPS,
    attention_case,
    delta_case,
    experts_case,
    mlp_case,
    plan_steps,
    run_attention,
    run_delta,
    run_experts,
    run_mlp,
)

OPS = ReferenceOps()


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x.astype(np.float64)))


def test_quantizer_rounds_halves_to_even() -> None:
    x = np.zeros((1, 96), np.float32)
    x[0, :6] = [127, 0.5, 1.5, -2.5, 126.5, 3.49]
    x[0, 64:67] = [1e-38, -1e-38, 3e-45]
    integers, scales = quantize_inputs(x)
    assert integers[0, :6].tolist() == [127, 0, 2, -2, 126, 3]
    assert scales.tolist() == [[1, 0, 0]]
    assert not integers[0, 32:].any()


def test_quantizer_keeps_the_largest() -> None:
    x = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    integers, scales = quantize_inputs(x)
    assert np.all(np.abs(integers.reshape(50, 2, 32)).max(axis=-1) == 127)
    assert np.all(np.abs(x - integers * np.repeat(scales, 32, axis=1)) <= np.repeat(scales, 32, axis=1) * 0.501)


def test_rotary_turns_by_position_times_frequency() -> None:
    positions = np.array([[0, 0, 0], [3, 5, 7], [200000, 0, 0]], np.int32)
    rotary = OPS.rotary(positions, RopeConfig())
    assert np.all(rotary.cos[0] == 1)
    assert np.all(rotary.sin[0] == 0)
    expected = np.sin([3.0, 5 * 1e7 ** (-1 / 32), 7 * 1e7 ** (-2 / 32), 3 * 1e7 ** (-3 / 32)])
    assert np.allclose(rotary.sin[1, :4], expected, atol=1e-7)
    assert rotary.cos[2, 0] == np.float32(np.cos(200000.0))


def test_attention_one_pair_at_a_time() -> None:
    shape, dim, pairs = AttentionShape(4, 2, 64), 64, 16
    case = attention_case(1, shape, [9])
    (output,) = run_attention(OPS, case, [[9]])
    angles = case.rotary[0]

    def prepared(x: np.ndarray, norm: np.ndarray, row: int) -> np.ndarray:
        x = x.astype(np.float64)
        x = x / np.sqrt(np.mean(x**2) + EPS) * norm
        turned = x.copy()
        for pair in range(pairs):
            as_complex = (x[pair] + 1j * x[pair + pairs]) * (angles.cos[row, pair] + 1j * angles.sin[row, pair])
            turned[pair], turned[pair + pairs] = as_complex.real, as_complex.imag
        return turned

    for row in range(9):
        for head in range(4):
            query = prepared(case.query_gate[0][row, 2 * head * dim : (2 * head + 1) * dim], case.query_norm, row)
            gate = case.query_gate[0][row, (2 * head + 1) * dim : (2 * head + 2) * dim].astype(np.float64)
            at = slice(head // 2 * dim, (head // 2 + 1) * dim)
            keys = [np.float16(prepared(case.key[0][past, at], case.key_norm, past)) for past in range(row + 1)]
            share = softmax(np.array([query @ key.astype(np.float64) / np.sqrt(dim) for key in keys]))
            context = sum(share[past] * case.value[0][past, at].astype(np.float16) for past in range(row + 1))
            expected = context / (1 + np.exp(-gate))
            assert np.allclose(output[row, head * dim : (head + 1) * dim], expected, atol=2e-4)


def test_delta_equals_its_closed_form() -> None:
    """Unrolled as one triangular system over the whole sequence (the chunked form), head by head."""
    shape = DeltaShape(2, 4, 16, 8, 4)
    case, count = delta_case(2, shape, [20]), 20
    (output,) = run_delta(OPS, case, [[count]])
    padded = np.concatenate([np.zeros((3, 96), np.float32), case.qkv[0]]).astype(np.float64)
    mixed = silu(sum(case.weights.conv[tap] * padded[tap : tap + count] for tap in range(4)))
    for head in range(4):
        at = (head % 2) * 16
        query, key = mixed[:, at : at + 16], mixed[:, 32 + at : 48 + at]
        value = mixed[:, 64 + head * 8 : 72 + head * 8]
        query = query / np.sqrt((query**2).sum(axis=1, keepdims=True) + 1e-6) / 4
        key = key / np.sqrt((key**2).sum(axis=1, keepdims=True) + 1e-6)
        alpha = case.alpha[0][:, head].astype(np.float64) + case.weights.dt_bias[head]
        total = np.cumsum(case.weights.a[head] * np.log1p(np.exp(alpha)))
        strength = 1 / (1 + np.exp(-case.beta[0][:, head].astype(np.float64)))
        fade = np.tril(np.exp(np.minimum(total[:, None] - total[None], 0)))
        system = np.eye(count) + np.tril(strength[:, None] * (key @ key.T) * fade, -1)
        change = np.linalg.solve(system, strength[:, None] * value)
        read = ((query @ key.T) * fade) @ change
        normed = read / np.sqrt((read**2).mean(axis=1, keepdims=True) + EPS) * case.weights.norm
        expected = normed * silu(case.z[0][:, head * 8 : head * 8 + 8])
        assert np.allclose(output[:, head * 8 : head * 8 + 8], expected, atol=1e-5)


def test_mlp_in_plain_float() -> None:
    case = mlp_case(3, ("F32", "F16", "BF16"), 5, 24, 40)
    inner = silu(case.x @ case.gate.matrix.T) * (case.x @ case.up.matrix.T)
    assert np.allclose(run_mlp(OPS, case), case.h + inner @ case.down.matrix.T, atol=1e-5)


def test_experts_in_plain_float() -> None:
    case = experts_case(4, "F32", 6, 24, 16, (8, 3))
    expected = case.h.astype(np.float64)
    for row, x in enumerate(case.x):
        probability = softmax(case.router.matrix @ x)
        chosen = np.argsort(probability)[::-1][:3]
        for expert in chosen:
            gate, up, down = (part.matrix[expert] for part in case.experts)
            expected[row] += probability[expert] / probability[chosen].sum() * (down @ (silu(gate @ x) * (up @ x)))
        gate, up, down = (part.matrix for part in case.shared)
        expected[row] += (down @ (silu(gate @ x) * (up @ x))) / (1 + np.exp(-case.shared_router.matrix[0] @ x))
    assert np.allclose(run_experts(OPS, case), expected, atol=1e-5)


def test_a_fresh_page_is_not_a_number() -> None:
    """So that a read before a write shows in any test that uses the reference."""
    assert np.isnan(OPS.new_pages(2, AttentionShape(2, 1, 8)).keys).all()


def test_plan_ends_every_sequence() -> None:
    assert plan_steps([3, 0, 7], 3) == [[3, 0, 3], [0, 0, 3], [0, 0, 1]]
