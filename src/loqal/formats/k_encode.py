"""Encoders for Q2_K to Q6_K: a weighted least-squares search per run, then one scale for all runs of a block.

Large weights matter more to a dot product, so an error is weighted by the size of the value plus the block's typical
size. The layouts are described in k_quants.py.
"""

from __future__ import annotations

import numpy as np

from loqal.formats.blocks import Bytes, Floats, as_half, pack_bits, reciprocal
from loqal.formats.search import best_scale, best_scale_and_minimum


def encode_q2_k(values: Floats) -> Bytes:
    """Encode float32 [N, 256] as uint8 [N, 84]."""
    scales, minima, halves, codes = _fit_above_minimum(values, runs=16, top=3, top_scale=15)
    return np.concatenate([scales | minima << np.uint8(4), pack_bits(codes, 2, 32), halves], axis=1)


def encode_q3_k(values: Floats) -> Bytes:
    """Encode float32 [N, 256] as uint8 [N, 110]."""
    scales, half, codes = _fit_about_zero(values, code_limit=4, scale_limit=32)
    high = pack_bits(codes >> np.uint8(2), 1, 32)
    packed_scales = [pack_bits(scales, 4, 8), pack_bits(scales >> np.uint8(4), 2, 4)]
    return np.concatenate([high, pack_bits(codes, 2, 32), *packed_scales, half], axis=1)


def encode_q4_k(values: Floats) -> Bytes:
    """Encode float32 [N, 256] as uint8 [N, 144]."""
    scales, minima, halves, codes = _fit_above_minimum(values, runs=8, top=15, top_scale=63)
    return np.concatenate([halves, _pack_scales_and_minima(scales, minima), pack_bits(codes, 4, 32)], axis=1)


def encode_q5_k(values: Floats) -> Bytes:
    """Encode float32 [N, 256] as uint8 [N, 176]."""
    scales, minima, halves, codes = _fit_above_minimum(values, runs=8, top=31, top_scale=63)
    high = pack_bits(codes >> np.uint8(4), 1, 32)
    return np.concatenate([halves, _pack_scales_and_minima(scales, minima), high, pack_bits(codes, 4, 32)], axis=1)


def encode_q6_k(values: Floats) -> Bytes:
    """Encode float32 [N, 256] as uint8 [N, 210]."""
    scales, half, codes = _fit_about_zero(values, code_limit=32, scale_limit=128)
    int8_scales = scales - np.uint8(128)  # wraps to the two's complement byte
    return np.concatenate([pack_bits(codes, 4, 64), pack_bits(codes >> np.uint8(4), 2, 32), int8_scales, half], axis=1)


def _weights(values: Floats) -> Floats:
    typical: Floats = np.sqrt(np.mean(values**2, axis=1, keepdims=True))
    return typical + np.abs(values)


def _fit_about_zero(values: Floats, code_limit: int, scale_limit: int) -> tuple[Bytes, Bytes, Bytes]:
    """Fit ``d * scale * code`` with runs of 16; codes and scales lie in [-limit, limit).

    Returns scales [N, 16], d as float16 bytes [N, 2] and codes [N, 256], scales and codes raised by their limit.
    """
    runs = values.reshape(-1, 16)
    weights = _weights(values).reshape(-1, 16)
    anchors = np.linspace(-code_limit - 0.9, -code_limit + 0.9, 19, dtype=np.float32)
    ideal = best_scale(runs, weights, anchors, lambda x: np.clip(np.rint(x), -code_limit, code_limit - 1))
    ideal = ideal.reshape(-1, 16)

    extreme = np.take_along_axis(ideal, np.abs(ideal).argmax(axis=1, keepdims=True), axis=1)
    half = as_half(extreme / np.float32(-scale_limit))
    d = half.view("<f2").astype(np.float32)
    scales = np.clip(np.rint(ideal * reciprocal(d)), -scale_limit, scale_limit - 1)
    codes = np.rint(runs * reciprocal((d * scales).reshape(-1, 1)))
    codes = np.clip(codes, -code_limit, code_limit - 1).reshape(values.shape)
    return (scales + scale_limit).astype(np.uint8), half, (codes + code_limit).astype(np.uint8)


def _fit_above_minimum(values: Floats, runs: int, top: int, top_scale: int) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Fit ``d * scale * code - dmin * min`` with codes from 0 to ``top``, scales and minima from 0 to ``top_scale``.

    Returns scales and minima [N, runs], d and dmin as float16 bytes [N, 4], and codes [N, 256].
    """
    cut = values.reshape(-1, values.shape[1] // runs)
    weights = _weights(values).reshape(cut.shape)
    spans = np.linspace(top - 1, top + 1, 21, dtype=np.float32)
    ideal_scales, ideal_offsets = best_scale_and_minimum(cut, weights, top, spans)

    scales, d_half, steps = _share_scale(ideal_scales.reshape(-1, runs), top_scale)
    minima, dmin_half, offsets = _share_scale(ideal_offsets.reshape(-1, runs), top_scale)
    codes = np.rint((cut + offsets.reshape(-1, 1)) * reciprocal(steps.reshape(-1, 1)))
    codes = np.clip(codes, 0, top).reshape(values.shape).astype(np.uint8)
    return scales, minima, np.concatenate([d_half, dmin_half], axis=1), codes


def _share_scale(ideal: Floats, top: int) -> tuple[Bytes, Bytes, Floats]:
    """Write numbers >= 0 as ``d`` times integers up to ``top``: the integers, d as float16 bytes, and the products."""
    half = as_half(ideal.max(axis=1, keepdims=True) / np.float32(top))
    d = half.view("<f2").astype(np.float32)
    whole = np.clip(np.rint(ideal * reciprocal(d)), 0, top)
    return whole.astype(np.uint8), half, d * whole


def _pack_scales_and_minima(scales: Bytes, minima: Bytes) -> Bytes:
    """The inverse of ``k_quants.unpack_scales_and_minima``."""
    four, upper = np.uint8(15), np.uint8(0x30)
    first = scales[:, :4] | (scales[:, 4:] & upper) << np.uint8(2)
    second = minima[:, :4] | (minima[:, 4:] & upper) << np.uint8(2)
    rest = scales[:, 4:] & four | minima[:, 4:] << np.uint8(4)
    return np.concatenate([first, second, rest], axis=1)
