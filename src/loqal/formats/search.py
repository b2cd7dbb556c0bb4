"""Finding the scale (and minimum) that reproduces a run of values with the least weighted squared error.

Both searches try a handful of roundings: once the codes are fixed, the best scale and minimum follow in closed form.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loqal.formats.blocks import Floats, reciprocal


def best_scale(values: Floats, weights: Floats, anchors: Floats, quantize: Callable[[Floats], Floats]) -> Floats:
    """Return the scales s that make ``s * level`` close to the values.

    Args:
        values: float32 [N, L], N independent runs.
        weights: float32 [N, L], how much each squared error counts.
        anchors: the levels to try for the value of largest magnitude.
        quantize: rounds float32 [N, L] to the levels of the format.

    Returns:
        float32 [N, 1], possibly negative; 0 for a run of zeros.
    """
    extreme = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    normal = values * reciprocal(extreme)
    weighted = weights * values
    best_gain = np.zeros_like(extreme)
    scale = np.zeros_like(extreme)
    for anchor in anchors:
        levels = quantize(normal * anchor)
        cross = _row_sum(weighted * levels)
        square = _row_sum(weights * levels * levels)
        fitted = cross * reciprocal(square)
        gain = cross * fitted  # how much the fit lowers the squared error below that of all zeros
        better = gain > best_gain
        best_gain = np.where(better, gain, best_gain)
        scale = np.where(better, fitted, scale)
    return scale


def best_scale_and_minimum(values: Floats, weights: Floats, top: int, spans: Floats) -> tuple[Floats, Floats]:
    """Return scales s >= 0 and offsets m >= 0 that make ``s * code - m`` close to the values, code in 0 to ``top``.

    Args:
        values: float32 [N, L], N independent runs.
        weights: float32 [N, L], how much each squared error counts.
        top: the largest code.
        spans: the numbers of steps to try between the smallest value (or 0) and the largest.

    Returns:
        Two arrays, float32 [N, 1].
    """
    lowest = np.minimum(values.min(axis=1, keepdims=True), 0)
    above = values - lowest
    normal = above * reciprocal(above.max(axis=1, keepdims=True))
    total = _row_sum(weights)
    weighted = weights * values
    sum_x = _row_sum(weighted)
    best_error = _row_sum(weighted * values)
    scale, offset = np.zeros_like(total), np.zeros_like(total)
    for span in spans:
        codes = np.clip(np.rint(normal * span), 0, top)
        weighted_codes = weights * codes
        sum_q = _row_sum(weighted_codes)
        sum_qq = _row_sum(weighted_codes * codes)
        sum_qx = _row_sum(weighted * codes)
        slope = (total * sum_qx - sum_q * sum_x) * reciprocal(total * sum_qq - sum_q * sum_q)
        shift = (slope * sum_q - sum_x) * reciprocal(total)
        without = sum_qx * reciprocal(sum_qq)  # the best slope when the offset must be zero
        slope = np.maximum(np.where(shift < 0, without, slope), 0)
        shift = np.maximum(shift, 0)
        error = _row_sum(weights * (slope * codes - shift - values) ** 2)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        scale, offset = np.where(better, slope, scale), np.where(better, shift, offset)
    return scale, offset


def _row_sum(array: Floats) -> Floats:
    total: Floats = array.sum(axis=1, keepdims=True)
    return total
