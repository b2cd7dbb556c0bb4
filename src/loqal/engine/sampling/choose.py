"""Sampling: one row of logits to one token.

The choice is a function of the row, the parameters, the seed, the position and what is allowed there, and of nothing
else. Tokens that are not allowed count as if their logits were minus infinity. In this order:

0. biases are added;
1. penalties: repetition, then frequency and presence, over the tokens counted so far;
2. temperature: logits are divided by it; at 0 the largest logit wins and steps 3 to 6 are skipped;
3. top_k: the k largest stay (ties: the lower id);
4. top_p: of these, the fewest of the most likely whose probabilities reach p of their sum;
5. min_p: of these, the ones at least min_p times as likely as the most likely one;
6. Gumbel-max: noise keyed by (seed, position, token id) is added to each, the largest sum wins (ties: the lower id).

Noise belongs to a token id, not to a draw, so the winner does not depend on how the candidates were found or on who
else is being sampled. A logit of minus infinity is never chosen; the padding of the vocabulary arrives so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from loqal.engine.sampling import portable_math
from loqal.engine.sampling.constraint import TokenMask
from loqal.engine.sampling.portable_math import DoubleArray
from loqal.ops.interface import FloatArray, IntArray
from loqal.types.reply import TokenLogprobs
from loqal.types.sampling import SamplingParams

Candidates = Callable[[FloatArray, int], tuple[IntArray, FloatArray, float]]
"""``ops.candidates``: the k largest of a row, largest first, and the log-sum-exp of the row."""

_FIRST_NUCLEUS = 256  # candidates tried first when top_p is not bounded by top_k; then 16 times as many, and so on

# SplitMix64: the step of its counter, and the shifts and factors of its finalizer.
_MASK = 2**64 - 1
_STEP = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)
_FRACTION_SHIFT = np.uint64(12)  # a float64 holds 52 bits behind a leading one


class TokenCounts:
    """How often each token was counted, as arrays that grow by one distinct token at a time."""

    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        self._index: dict[int, int] = {}
        self._table = np.zeros((2, 64), np.int32)  # ids, counts
        for token_id in token_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """Count one more occurrence of ``token_id``."""
        index = self._index.setdefault(token_id, len(self._index))
        if index == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)
        self._table[0, index] = token_id
        self._table[1, index] += 1

    @property
    def ids(self) -> IntArray:
        """The distinct tokens, in order of first appearance."""
        return self._table[0, : len(self._index)]

    @property
    def counts(self) -> IntArray:
        """How often each of ``ids`` was counted."""
        return self._table[1, : len(self._index)]


def gumbel_noise(seed: int, position: int, token_ids: IntArray) -> DoubleArray:
    """Standard Gumbel noise [K] of some token ids at one position.

    A counter-based generator: seed and position, taken as 64-bit patterns, are mixed into a starting point, and a token
    id is the index into the SplitMix64 sequence from there. So values can be made in any order and any subset.
    """
    start = _mix(_mix(seed & _MASK) ^ (position & _MASK))
    bits = token_ids.astype(np.uint64) * _STEP  # arithmetic of arrays wraps modulo 2^64
    bits += np.uint64(start)
    for shift, factor in _ROUNDS:
        bits ^= bits >> shift
        bits *= factor
    bits ^= bits >> _LAST_SHIFT
    uniform = ((bits >> _FRACTION_SHIFT).astype(np.float64) + 0.5) * 2.0**-52  # exact, strictly between 0 and 1
    return -portable_math.log(-portable_math.log(uniform))


class Logits(Protocol):
    """The logits of one row [V], as much of them as is asked for."""

    def top_k(self, k: int) -> tuple[IntArray, FloatArray]:
        """The k largest, largest first (ties: the lower id): ids [k], logits [k]."""
        ...

    def row(self) -> FloatArray:
        """All of them [V]."""
        ...


def choose(
    logits: Logits,
    params: SamplingParams,
    candidates: Candidates,
    *,
    seed: int,
    position: int,
    counted: TokenCounts,
    allowed: TokenMask | None = None,
) -> int:
    """The next token.

    Args:
        logits: its row is changed while this runs (penalties are applied in place), and restored before it returns.
        params: with every default filled in.
        position: index in the sequence at which the new token will stand.
        counted: the tokens that penalties apply to.
        allowed: the tokens that may follow; None for all.
    """
    only = allowed.only if allowed is not None else None
    if only is not None:
        return only
    few = _largest_allowed(logits, params, counted, allowed)
    if few is not None:
        ids, scaled = _filter_largest(*few, params, counted)
    else:
        row = logits.row()
        if allowed is not None or params.logit_bias:
            row = _changed(row, params, allowed)
        plain = row[counted.ids]
        row[counted.ids] = _penalize(plain, counted.counts, params)
        try:
            ids, scaled = _filter(row, params, candidates)
        finally:
            row[counted.ids] = plain
    if len(ids) == 1:
        return int(ids[0])
    score = scaled + gumbel_noise(seed, position, ids)
    return int(ids[score == score.max()].min())


def _largest_allowed(
    logits: Logits, params: SamplingParams, counted: TokenCounts, allowed: TokenMask | None
) -> tuple[IntArray, FloatArray] | None:
    """The largest logits of allowed tokens that hold everything the choice depends on; None when that takes the row."""
    enough = num_enough(params, counted)
    if enough is None or allowed is None:
        return None if enough is None else logits.top_k(enough)
    if allowed.mask is not None:  # any number of the largest may be forbidden
        return None
    ids, values = logits.top_k(enough + len(allowed.banned))
    kept = ~np.isin(ids, allowed.banned)
    return ids[kept], values[kept]


def _changed(row: FloatArray, params: SamplingParams, allowed: TokenMask | None) -> FloatArray:
    """A copy of a row with biases added and what is not allowed at minus infinity."""
    row = row.copy()
    for token_id, bias in (params.logit_bias or {}).items():
        row[token_id] += np.float32(bias)
    if allowed is not None:
        allowed.apply(row)
    return row


def num_enough(params: SamplingParams, counted: TokenCounts) -> int | None:
    """How many of the largest logits hold everything the choice depends on; None when it may take the whole row.

    Penalties that only lower logits can bring up at most one other candidate for each counted token.
    """
    if params.logit_bias:
        return None
    lowering = (
        _value(params.presence_penalty),
        _value(params.frequency_penalty),
        _value(params.repetition_penalty) - 1,
    )
    num_kept = 1 if _value(params.temperature) == 0 else int(_value(params.top_k))
    if num_kept == 0 or min(lowering) < 0:
        return None
    return num_kept + (len(counted.ids) if max(lowering) > 0 else 0)


def logprobs(row: FloatArray, token_id: int, num_top: int, candidates: Candidates) -> TokenLogprobs:
    """Log probabilities of a token and of the ``num_top`` most likely, under the softmax of the row as it is."""
    ids, logits, log_sum = candidates(row, max(1, min(num_top, len(row))))
    top = tuple((int(i), float(x) - log_sum) for i, x in zip(ids, logits, strict=True) if x > -np.inf)
    return TokenLogprobs(token_id, float(row[token_id]) - log_sum, top[:num_top])


def _mix(x: int) -> int:
    """One step of SplitMix64 from the state ``x``: its counter, then its finalizer."""
    x = (x + int(_STEP)) & _MASK
    for shift, factor in _ROUNDS:
        x = ((x ^ (x >> int(shift))) * int(factor)) & _MASK
    return x ^ (x >> int(_LAST_SHIFT))


def _penalize(logits: FloatArray, counts: IntArray, params: SamplingParams) -> FloatArray:
    """Step 1: penalties on the logits [N] of the counted tokens."""
    repetition, wide = _value(params.repetition_penalty), logits.astype(np.float64)
    wide = np.where(wide > 0, wide / repetition, wide * repetition)
    wide = wide - counts * _value(params.frequency_penalty) - _value(params.presence_penalty)
    return wide.astype(np.float32)


def _filter_largest(
    ids: IntArray, logits: FloatArray, params: SamplingParams, counted: TokenCounts
) -> tuple[IntArray, DoubleArray]:
    """Steps 1 to 5 over the ``num_enough`` largest logits."""
    _, ours, theirs = np.intersect1d(ids, counted.ids, assume_unique=True, return_indices=True)
    if len(ours):
        logits = logits.copy()
        logits[ours] = _penalize(logits[ours], counted.counts[theirs], params)
        order = np.lexsort((ids, -logits))
        ids, logits = ids[order], logits[order]
    if _value(params.temperature) == 0:
        return ids[:1], logits[:1].astype(np.float64)
    top_k = int(_value(params.top_k))
    return _top_p(ids[:top_k], logits[:top_k], params)


def _top_p(ids: IntArray, logits: FloatArray, params: SamplingParams) -> tuple[IntArray, DoubleArray]:
    """Steps 2, 4 and 5 over the top k, largest first."""
    scaled, top_p = logits.astype(np.float64) / _value(params.temperature), _value(params.top_p)
    mass = np.cumsum(portable_math.exp(scaled - scaled[0]))
    num_kept = _nucleus(mass, top_p * mass[-1]) if top_p < 1 else len(ids)
    return _min_p(ids[:num_kept], scaled[:num_kept], params)


def _min_p(ids: IntArray, scaled: DoubleArray, params: SamplingParams) -> tuple[IntArray, DoubleArray]:
    """Step 5: drop tokens below min_p."""
    min_p = _value(params.min_p)
    if min_p == 0:
        return ids, scaled
    kept = scaled - scaled.max() >= portable_math.log(np.array([min_p]))
    return ids[kept], scaled[kept]


def _filter(row: FloatArray, params: SamplingParams, candidates: Candidates) -> tuple[IntArray, DoubleArray]:
    """Steps 2 to 5 over a whole row: the ids that stay, and their logits divided by the temperature."""
    temperature, top_k, top_p = _value(params.temperature), int(_value(params.top_k)), _value(params.top_p)
    if temperature == 0:
        ids, logits, _ = candidates(row, 1)
        return ids, logits.astype(np.float64)
    if top_k:
        ids, logits, _ = candidates(row, min(top_k, len(row)))
        return _top_p(ids, logits, params)
    if top_p < 1:
        ids, scaled, num_kept = _unbounded_nucleus(row, temperature, top_p, candidates)
        return _min_p(ids[:num_kept], scaled[:num_kept], params)
    return _min_p(np.arange(len(row), dtype=np.int32), row.astype(np.float64) / temperature, params)


def _unbounded_nucleus(
    row: FloatArray, temperature: float, top_p: float, candidates: Candidates
) -> tuple[IntArray, DoubleArray, int]:
    """Step 4 over a whole row, sorting only as much of it as the wanted mass needs."""
    everything = row.astype(np.float64) / temperature
    peak = everything.max()
    wanted = top_p * np.cumsum(portable_math.exp(everything - peak))[-1]
    num_tried = _FIRST_NUCLEUS
    while True:
        ids, logits, _ = candidates(row, min(num_tried, len(row)))
        scaled = logits.astype(np.float64) / temperature
        mass = np.cumsum(portable_math.exp(scaled - peak))
        if mass[-1] >= wanted or num_tried >= len(row):
            return ids, scaled, _nucleus(mass, wanted)
        num_tried *= 16


def _nucleus(mass: DoubleArray, wanted: float) -> int:
    """Size of the smallest prefix of the sorted tokens that reaches the wanted probability mass."""
    return min(int(np.searchsorted(mass, wanted)) + 1, len(mass))


def _value(given: float | None) -> float:
    """A parameter whose default was filled in."""
    if given is None:
        raise ValueError("sampling parameters reach the engine with their defaults filled in")
    return given
