"""How far a correct float32 backend may be from the reference: bounds from operand norms, nothing tuned.

``UNIT`` is two unit roundoffs, which leaves room for a last rounding to float32. A sum of n terms in any order is off
by at most n * UNIT times the sum of magnitudes; the functions (exp, sigmoid, silu) may be off by FUNCTION relative.
Bounds of composed operations carry the bounds of their inputs through, to first order. Where a rounding to fewer bits
follows (int8 activations, float16 keys), an input close to a tie may land on the other side: the bounds look for such
inputs and charge a whole step for those alone.
"""

from __future__ import annotations

import numpy as np

from loqal.formats import RUN_LEN
from loqal.ops.backends.reference import delta_heads, gated_product, quantize_inputs, turned_heads
from loqal.ops.interface import RUN_INPUTS, Rotary
from op_cases import EPS, AttentionCase, DeltaCase, ExpertsCase, MlpCase, RandomWeight

UNIT = 2.0**-23
FUNCTION = 8 * UNIT
FLOOR = 2.0**-126
"""The smallest normal float32: backends may flush what is smaller to zero."""


def assert_within(actual: np.ndarray, expected: np.ndarray, bound: np.ndarray | float) -> None:
    """Every element within its own bound."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    excess = np.abs(actual.astype(np.float64) - expected) / (bound + FLOOR)
    assert np.isfinite(actual).all(), "not finite"
    assert excess.size == 0 or excess.max() <= 1, f"{excess.max():.3g} times the bound at {np.argmax(excess)}"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x.astype(np.float64)))


# Linear --------------------------------------------------------------------------------------------------------------


def linear(
    x: np.ndarray, weight: RandomWeight, *, float_inputs: bool = False, x_bound: np.ndarray | None = None
) -> np.ndarray:
    """Bound of x W^T, where x itself may be off by ``x_bound``."""
    inputs, off = np.abs(x.astype(np.float64)), np.zeros(x.shape) if x_bound is None else x_bound
    terms = x.shape[-1]
    if weight.quantized_inputs and not float_inputs:
        terms = 2 * (x.shape[-1] // RUN_LEN)  # the integer products are exact; per run one scale and one offset remain
        integers, scales = quantize_inputs(x)
        inputs = np.abs(integers) * np.repeat(scales.astype(np.float64), RUN_INPUTS, axis=-1)
        off = np.zeros(x.shape) if x_bound is None else _quantized_off(x, x_bound)
    magnitudes = weight.magnitudes.astype(np.float64)
    return (terms + 4) * UNIT * (inputs @ magnitudes.T) + off @ np.abs(weight.matrix).T


def _quantized_off(x: np.ndarray, x_bound: np.ndarray) -> np.ndarray:
    """By how much a quantized x may differ when x is off by ``x_bound``: the scale moves, and codes near a tie flip."""
    runs = x.reshape(len(x), -1, RUN_INPUTS).astype(np.float64)
    bound = x_bound.reshape(runs.shape)
    largest = np.abs(runs).max(axis=-1, keepdims=True)
    moved = bound.max(axis=-1, keepdims=True) / largest
    exact = runs * 127 / largest
    reach = bound * 127 / largest + np.abs(exact) * (moved + 2 * UNIT)
    flips = np.rint(exact + reach) - np.rint(exact - reach)
    return (largest / 127 * (flips + np.abs(exact) * moved)).reshape(x.shape)


def gated_product_bound(gate: np.ndarray, up: np.ndarray, gate_bound: np.ndarray, up_bound: np.ndarray) -> np.ndarray:
    """Bound of silu(gate) * up; silu is nowhere steeper than 1.1."""
    silu = np.abs(gate * sigmoid(gate))
    return np.abs(up) * (1.1 * gate_bound + FUNCTION * silu) + silu * (up_bound + UNIT * np.abs(up))


def feed_forward(x: np.ndarray, gate: RandomWeight, up: RandomWeight, down: RandomWeight) -> np.ndarray:
    """Bound of down(silu(gate x) * up x)."""
    gated, upped = _linear_of(x, gate), _linear_of(x, up)
    inner_bound = gated_product_bound(gated, upped, linear(x, gate), linear(x, up))
    return linear(gated_product(gated, upped), down, x_bound=inner_bound)


def mlp(case: MlpCase, expected: np.ndarray) -> np.ndarray:
    return feed_forward(case.x, case.gate, case.up, case.down) + UNIT * np.abs(expected)


def experts(case: ExpertsCase, expected: np.ndarray) -> np.ndarray:
    """Bound of the mixture. Fails when a router's choice is so close that a correct backend might choose otherwise."""
    logits, logits_bound = _linear_of(case.x, case.router), linear(case.x, case.router)
    order = np.argsort(-logits, axis=1)
    rows = np.arange(len(logits))
    last, next_best = order[:, case.num_active - 1], order[:, case.num_active]
    margin = logits[rows, last] - logits[rows, next_best]
    assert (margin > 2 * logits_bound.max(axis=1)).all(), "choose another seed: the router's choice is too close"
    shared_gate_off = linear(case.x, case.shared_router) / 4 + FUNCTION  # sigmoid is nowhere steeper than 1/4
    total = feed_forward(case.x, *case.shared) + shared_gate_off * np.abs(_feed_forward_of(case.x, *case.shared))
    for row in rows:
        chosen = order[row, : case.num_active]
        share = np.exp(logits[row, chosen] - logits[row, chosen[0]])
        share /= share.sum()
        share_off = 2 * logits_bound[row].max() + (logits.shape[1] + 4) * UNIT + FUNCTION
        for expert, weight in zip(chosen, share, strict=True):
            one = [part.expert(int(expert)) for part in case.experts]
            x = case.x[row : row + 1]
            total[row] += weight * (feed_forward(x, *one)[0] + share_off * np.abs(_feed_forward_of(x, *one)[0]))
    return total + (case.num_active + 2) * UNIT * (np.abs(expected) + np.abs(case.h))


def _linear_of(x: np.ndarray, weight: RandomWeight) -> np.ndarray:
    rows = x.astype(np.float64)
    if weight.quantized_inputs:
        integers, scales = quantize_inputs(x)
        rows = integers * np.repeat(scales.astype(np.float64), RUN_INPUTS, axis=-1)
    return (rows @ weight.matrix.T.astype(np.float64)).astype(np.float32)


def _feed_forward_of(x: np.ndarray, gate: RandomWeight, up: RandomWeight, down: RandomWeight) -> np.ndarray:
    return _linear_of(gated_product(_linear_of(x, gate), _linear_of(x, up)), down)


# Norms and logits ----------------------------------------------------------------------------------------------------


def rms_norm(expected: np.ndarray) -> np.ndarray:
    """A sum of squares has no cancellation, so the error is relative; a root halves it."""
    return (expected.shape[-1] / 2 + 8) * UNIT * np.abs(expected)


def log_sum_exp(logits: np.ndarray, expected: float) -> float:
    spread = float(logits.max() - logits.min())
    return (len(logits) + spread) * UNIT + FUNCTION + 2 * UNIT * (abs(expected) + abs(float(logits.max())))


# Attention -----------------------------------------------------------------------------------------------------------


def attention(case: AttentionCase, sequence: int, expected: np.ndarray) -> np.ndarray:
    """Bound of one whole sequence's outputs [N H*head_dim]."""
    shape, count = case.shape, len(expected)
    if count == 0:
        return np.zeros(expected.shape)
    dim, group = shape.head_dim, shape.num_heads // shape.num_kv_heads
    rotary = case.rotary[sequence]
    query_gate = case.query_gate[sequence].reshape(count, shape.num_heads, 2, dim)
    query, query_off = _heads(query_gate[:, :, 0], case.query_norm, rotary)
    key, key_off = _heads(case.key[sequence].reshape(count, shape.num_kv_heads, dim), case.key_norm, rotary)
    stored = _half(key)
    stored_off = np.maximum(np.abs(_half(key + key_off) - stored), np.abs(_half(key - key_off) - stored))
    value = np.abs(_half(case.value[sequence].reshape(count, shape.num_kv_heads, dim)))
    gate = sigmoid(query_gate[:, :, 1])
    gate_off = FUNCTION * gate
    bound = np.empty((count, shape.num_heads, dim))
    later = np.triu(np.ones((count, count), bool), 1)
    for head in range(shape.num_heads):
        kv_head = head // group
        q, k, k_off = query[:, head], stored[:, kv_head], stored_off[:, kv_head]
        scores = np.where(later, -np.inf, q @ k.T * dim**-0.5)
        sizes = np.abs(q) @ np.abs(k).T
        scores_off = (query_off[:, head] @ np.abs(k).T + np.abs(q) @ k_off.T + (dim + 4) * UNIT * sizes) * dim**-0.5
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        spread = np.where(later, 0, np.abs(scores)).max(axis=1)
        worst = np.where(later, 0, scores_off).max(axis=1)
        share_off = np.expm1(2 * worst + (2 * count + 2 * spread) * UNIT + 2 * FUNCTION)
        context_off = (share @ value[:, kv_head]) * share_off[:, None]
        bound[:, head] = gate[:, head] * context_off + (share @ value[:, kv_head]) * gate_off[:, head]
    return bound.reshape(expected.shape) + 4 * UNIT * np.abs(expected)


def _heads(x: np.ndarray, norm: np.ndarray, rotary: Rotary) -> tuple[np.ndarray, np.ndarray]:
    """Normed and turned heads and their bound. A turned pair is off relative to the pair's length."""
    heads = turned_heads(x, norm, rotary, EPS)
    pairs = rotary.cos.shape[-1]
    sizes = np.abs(heads)
    length = np.hypot(heads[..., :pairs], heads[..., pairs : 2 * pairs])
    sizes[..., : 2 * pairs] = np.concatenate([length, length], axis=-1)
    return heads, (x.shape[-1] / 2 + 12) * UNIT * sizes


def _half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).astype(np.float16).astype(np.float64)


# Gated DeltaNet ------------------------------------------------------------------------------------------------------


def delta(case: DeltaCase, sequence: int, expected: np.ndarray) -> np.ndarray:
    """Bound of one whole sequence's outputs [N Hv*value_dim], carried along the recurrence column by column.

    With keys of length 1 and write strengths below 1, S <- S - k (strength k^T S) never lengthens a column, so an error
    of the state only decays; each token adds what its own roundings contribute.
    """
    shape, weights = case.shape, case.weights
    heads, size = shape.num_value_heads, shape.value_dim
    alpha, beta = case.alpha[sequence].astype(np.float64), case.beta[sequence]
    log_decay = weights.a * np.logaddexp(0, alpha + weights.dt_bias)
    strength = sigmoid(beta)
    inputs = np.concatenate(
        [np.zeros((shape.conv_width - 1, case.qkv[sequence].shape[1]), np.float32), case.qkv[sequence]]
    )
    state = np.zeros((heads, shape.key_dim, size))
    state_off = np.zeros((heads, size))  # per column, as a length
    outputs, outputs_off = np.empty((2, len(expected), heads, size))
    for row in range(len(expected)):
        window = inputs[row : row + shape.conv_width]
        query, key, value = delta_heads(window, weights.conv, shape)
        key_rel, query_rel, value_off = _delta_inputs_off(window, case)
        decay_rel = FUNCTION * (1 + np.abs(log_decay[row])) + UNIT * np.abs(weights.a * (np.abs(alpha[row]) + 1))
        state = state * np.exp(log_decay[row])[:, None, None]
        length = np.linalg.norm(state, axis=1)
        dot_rel = (shape.key_dim + 8) * UNIT
        read_off = length * (key_rel[:, None] + dot_rel)
        change = strength[row][:, None] * (value - np.einsum("hkv,hk->hv", state, key))
        change_off = strength[row][:, None] * (value_off + read_off) + (FUNCTION + 2 * UNIT) * (np.abs(value) + length)
        state_off = state_off * np.exp(log_decay[row])[:, None] + length * (decay_rel[:, None] + 4 * UNIT)
        state_off = state_off + change_off + np.abs(change) * key_rel[:, None]
        state = state + key[:, :, None] * change[:, None, :]
        length = np.linalg.norm(state, axis=1)
        outputs[row] = np.einsum("hkv,hk->hv", state, query)
        scale = np.linalg.norm(query, axis=1)[:, None]
        outputs_off[row] = scale * (state_off + length * (query_rel[:, None] + dot_rel))
    return _gated_norm_off(case, sequence, outputs, outputs_off, expected)


def _delta_inputs_off(window: np.ndarray, case: DeltaCase) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relative bounds of key and query per value head [Hv], and the bound of the values [Hv value_dim]."""
    shape, conv = case.shape, case.weights.conv.astype(np.float64)
    summed = (window * conv).sum(axis=0)
    mixed = np.abs(summed * sigmoid(summed))
    mixed_off = 1.1 * (shape.conv_width + 1) * UNIT * np.abs(window * conv).sum(axis=0) + FUNCTION * mixed
    width, repeats = shape.num_key_heads * shape.key_dim, shape.num_value_heads // shape.num_key_heads
    relative = []
    for at in (width, 0):
        part = mixed[at : at + width].reshape(shape.num_key_heads, -1)
        off = mixed_off[at : at + width].reshape(shape.num_key_heads, -1)
        ratio = 2 * np.linalg.norm(off, axis=1) / np.linalg.norm(part, axis=1)
        relative.append(np.tile(ratio + (shape.key_dim / 2 + 8) * UNIT, repeats))
    return relative[0], relative[1], mixed_off[2 * width :].reshape(shape.num_value_heads, -1)


def _gated_norm_off(
    case: DeltaCase, sequence: int, outputs: np.ndarray, outputs_off: np.ndarray, expected: np.ndarray
) -> np.ndarray:
    """Carry a bound through the norm per head and the multiplication with silu(z)."""
    size = case.shape.value_dim
    z = case.z[sequence].reshape(outputs.shape)
    root = np.sqrt((outputs**2).mean(axis=-1, keepdims=True) + EPS)
    root_rel = np.linalg.norm(outputs_off, axis=-1, keepdims=True) / (root * size**0.5) + (size / 2 + 4) * UNIT
    factor = np.abs(case.weights.norm * z * sigmoid(z)) / root
    bound = factor * (outputs_off + np.abs(outputs) * (root_rel + FUNCTION + 4 * UNIT))
    return bound.reshape(expected.shape)
