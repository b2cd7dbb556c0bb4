"""The choice of a token: which tokens may win, how often, and what the choice depends on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.engine import sampling
from loqal.engine.sampling import portable_math
from loqal.engine.sampling.choose import TokenCounts
from loqal.engine.sampling.constraint import TokenMask, allow
from loqal.types.sampling import SamplingParams

NOISE = ["0x1.946ee1f694453p+0", "0x1.7aef8c68b9d9ap+1", "-0x1.6cd55936f57c5p-3"]
NOISE_OF_A_NEGATIVE_SEED = "0x1.2ba0b69f90968p+1"
EXP = ["0x1.cf46d99d52b3ap-1", "0x1.78b56362cef38p-2", "0x1.ff3864232b407p-45"]
LOG = ["-0x1.26bb1bbb55515p+1", "0x1.193ea7aad030bp+0", "-0x1.3926cd770aa67p+5"]

Row = npt.NDArray[np.float32]

NEUTRAL = SamplingParams(
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    repetition_penalty=1.0,
)


def candidates(row: Row, k: int) -> tuple[npt.NDArray[np.int32], Row, float]:
    order = np.argsort(-row, kind="stable")[:k].astype(np.int32)
    peak = float(row.max())
    return order, row[order], peak + float(np.log(np.exp(row.astype(np.float64) - peak).sum()))


class FullRow:
    """Logits that were all computed before."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def top_k(self, k: int) -> tuple[npt.NDArray[np.int32], Row]:
        ids, logits, _ = candidates(self._row, k)
        return ids, logits

    def row(self) -> Row:
        return self._row


def choose(row: Row, params: SamplingParams, seed: int = 0, position: int = 0, counted: list[int] | None = None) -> int:
    return sampling.choose(
        FullRow(row), params, candidates, seed=seed, position=position, counted=TokenCounts(counted or [])
    )


def winners(row: Row, params: SamplingParams, num_draws: int = 300) -> set[int]:
    return {choose(row, params, position=position) for position in range(num_draws)}


def row_of(*probabilities: float) -> Row:
    row: Row = np.log(np.array(probabilities)).astype(np.float32)
    return row


# Noise ----------------------------------------------------------------------------------------------------------------


def test_noise_is_frozen() -> None:
    """These values are part of every sampled answer ever given; changing them needs a new numerics version."""
    noise = sampling.gumbel_noise(1234, 7, np.array([0, 1, 248319], np.int32))
    assert [float(value).hex() for value in noise] == NOISE
    assert float(sampling.gumbel_noise(-1, 0, np.array([5], np.int32))[0]).hex() == NOISE_OF_A_NEGATIVE_SEED


def test_noise_belongs_to_its_key_alone() -> None:
    ids = np.arange(1000, dtype=np.int32)
    together = sampling.gumbel_noise(3, 5, ids)
    assert np.array_equal(together[::-7], sampling.gumbel_noise(3, 5, ids[::-7]))
    assert np.all(together != sampling.gumbel_noise(4, 5, ids))
    assert np.all(together != sampling.gumbel_noise(3, 6, ids))


@pytest.mark.parametrize("seed", [0, 1, 2**63, -(2**63), 2**64 - 1])
def test_noise_has_the_gumbel_distribution(seed: int) -> None:
    noise = np.sort(sampling.gumbel_noise(seed, 11, np.arange(100_000, dtype=np.int32)))
    expected = np.exp(-np.exp(-noise))
    actual = (np.arange(len(noise)) + 0.5) / len(noise)
    assert np.abs(actual - expected).max() * np.sqrt(len(noise)) < 1.63  # Kolmogorov-Smirnov, 1 %


def test_noise_of_neighbours_is_not_correlated() -> None:
    ids = np.arange(20_000, dtype=np.int32)
    base = sampling.gumbel_noise(1, 1, ids)
    for other in (sampling.gumbel_noise(1, 2, ids), sampling.gumbel_noise(2, 1, ids), np.roll(base, 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / np.sqrt(len(ids))


def test_choices_follow_the_softmax() -> None:
    probabilities = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
    num_draws = 4000
    counts = Counter(choose(row_of(*probabilities), NEUTRAL, seed=5, position=n) for n in range(num_draws))
    observed = np.array([counts[i] for i in range(5)])
    expected = probabilities * num_draws
    assert ((observed - expected) ** 2 / expected).sum() < 18.5  # chi-square of 4 degrees, 0.1 %


def test_temperature_sharpens() -> None:
    probabilities = np.array([0.5, 0.3, 0.2])
    sharp = probabilities**2 / (probabilities**2).sum()
    num_draws = 4000
    params = replace(NEUTRAL, temperature=0.5)
    counts = Counter(choose(row_of(*probabilities), params, seed=8, position=n) for n in range(num_draws))
    expected = sharp * num_draws
    assert sum((counts[i] - expected[i]) ** 2 / expected[i] for i in range(3)) < 13.8


# Filters --------------------------------------------------------------------------------------------------------------


def test_temperature_zero_takes_the_largest_and_of_equals_the_lowest() -> None:
    params = replace(NEUTRAL, temperature=0.0, top_k=20, top_p=0.1)
    assert choose(np.array([1, 5, 2, 5], np.float32), params) == 1


def test_top_k_keeps_exactly_the_k_largest() -> None:
    row = np.array([0.1, 0.5, 0.3, 0.2, 0.4], np.float32)
    assert winners(row, replace(NEUTRAL, top_k=3)) == {1, 2, 4}
    assert winners(row, replace(NEUTRAL, top_k=99)) == {0, 1, 2, 3, 4}
    assert winners(np.zeros(6, np.float32), replace(NEUTRAL, top_k=2)) == {0, 1}


@pytest.mark.parametrize("top_k", [0, 4])
def test_top_p_keeps_the_fewest_that_reach_it(top_k: int) -> None:
    row = row_of(0.5, 0.3, 0.15, 0.05)
    kept = {0.3: {0}, 0.49: {0}, 0.75: {0, 1}, 0.9: {0, 1, 2}, 0.999: {0, 1, 2, 3}}
    for top_p, expected in kept.items():
        assert winners(row, replace(NEUTRAL, top_k=top_k, top_p=top_p)) == expected


def test_top_p_counts_what_top_k_left() -> None:
    """0.5 and 0.3 of 0.8: the first alone has 0.625."""
    assert winners(row_of(0.5, 0.3, 0.2), replace(NEUTRAL, top_k=2, top_p=0.6)) == {0}


@pytest.mark.parametrize("top_k", [0, 4])
def test_min_p_compares_with_the_likeliest(top_k: int) -> None:
    row = row_of(0.5, 0.26, 0.2, 0.04)
    assert winners(row, replace(NEUTRAL, top_k=top_k, min_p=0.5)) == {0, 1}
    assert winners(row, replace(NEUTRAL, top_k=top_k, min_p=1.0)) == {0}


@pytest.mark.parametrize("top_p", [0.3, 0.8, 0.99, 1.0])
def test_the_whole_row_and_all_candidates_choose_alike(rng: np.random.Generator, top_p: float) -> None:
    """A nucleus of a whole row is found without sorting it whole; the outcome must be the same."""
    row = rng.normal(0, 2, 5000).astype(np.float32)
    for position in range(20):
        params = replace(NEUTRAL, top_p=top_p)
        every = replace(params, top_k=len(row))
        assert choose(row, params, position=position) == choose(row, every, position=position)


def test_minus_infinity_is_never_chosen() -> None:
    row = np.array([-np.inf, 0, -np.inf, 1], np.float32)
    for params in (NEUTRAL, replace(NEUTRAL, top_k=4), replace(NEUTRAL, top_p=0.99), replace(NEUTRAL, min_p=0.01)):
        assert winners(row, params) == {1, 3}
    assert choose(row, replace(NEUTRAL, temperature=0.0)) == 3


def test_a_seed_repeats_and_another_differs(rng: np.random.Generator) -> None:
    row = rng.normal(0, 1, 1000).astype(np.float32)
    params = replace(NEUTRAL, top_k=50)
    runs = [[choose(row, params, seed=seed, position=n) for n in range(30)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_a_winner_wins_in_every_smaller_company() -> None:
    """Whoever wins among many also wins among the few it stays with: the noise knows nothing of the others."""
    row = np.linspace(0, 1, 50, dtype=np.float32)
    for position in range(100):
        winner = choose(row, NEUTRAL, position=position)
        fewer = choose(row, replace(NEUTRAL, top_k=20), position=position)
        assert winner < 30 or fewer == winner


# Penalties ------------------------------------------------------------------------------------------------------------


def test_penalties() -> None:
    row = np.array([2.0, -1.0, 0.5, 1.9], np.float32)
    greedy = replace(NEUTRAL, temperature=0.0)
    assert choose(row, greedy, counted=[0]) == 0
    assert choose(row, replace(greedy, presence_penalty=0.2), counted=[0, 0]) == 3
    assert choose(row, replace(greedy, frequency_penalty=0.06), counted=[0]) == 0
    assert choose(row, replace(greedy, frequency_penalty=0.06), counted=[0, 0]) == 3
    assert choose(row, replace(greedy, repetition_penalty=1.1), counted=[0]) == 3
    assert choose(row, replace(greedy, repetition_penalty=0.1), counted=[2]) == 2  # rewards
    assert choose(row, replace(greedy, presence_penalty=-1.5), counted=[2, 2]) == 0
    assert choose(row, replace(greedy, presence_penalty=-1.6), counted=[2, 2]) == 2


def test_repetition_moves_negative_logits_down() -> None:
    row = np.array([-1.0, -1.5], np.float32)
    assert choose(row, replace(NEUTRAL, temperature=0.0, repetition_penalty=2.0), counted=[0]) == 1


def test_penalties_can_bring_a_token_into_the_top_k() -> None:
    row = np.array([3.0, 2.0, 1.0], np.float32)
    assert winners(row, replace(NEUTRAL, top_k=1, presence_penalty=2.5), 3) == {0}
    params = replace(NEUTRAL, top_k=1, presence_penalty=1.5)
    assert {choose(row, params, counted=[0], position=n) for n in range(3)} == {1}


def test_the_row_is_left_as_it_was(rng: np.random.Generator) -> None:
    row = rng.normal(0, 1, 100).astype(np.float32)
    before = row.tobytes()
    choose(row, replace(NEUTRAL, presence_penalty=0.3, repetition_penalty=1.3), counted=[1, 2, 3])
    assert row.tobytes() == before


@given(st.lists(st.integers(0, 200), max_size=300))
def test_token_counts(token_ids: list[int]) -> None:
    counts = TokenCounts(token_ids)
    assert dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True)) == Counter(token_ids)


# Log probabilities ----------------------------------------------------------------------------------------------------


def test_logprobs_are_of_the_plain_distribution() -> None:
    row = row_of(0.5, 0.25, 0.125, 0.125)
    found = sampling.logprobs(row, 2, 2, candidates)
    assert found.token_id == 2
    assert found.logprob == pytest.approx(np.log(0.125))
    assert [token_id for token_id, _ in found.top] == [0, 1]
    assert [logprob for _, logprob in found.top] == pytest.approx(np.log([0.5, 0.25]))


def test_logprobs_without_alternatives() -> None:
    assert sampling.logprobs(row_of(0.5, 0.5), 1, 0, candidates).top == ()


def test_logprobs_leave_padding_out() -> None:
    row = np.array([0, -np.inf, 0], np.float32)
    assert [token_id for token_id, _ in sampling.logprobs(row, 0, 3, candidates).top] == [0, 2]


# Portable functions ---------------------------------------------------------------------------------------------------


def test_portable_functions_are_accurate(rng: np.random.Generator) -> None:
    x = -rng.exponential(50, 20_000)
    assert np.abs(portable_math.exp(x) - np.exp(x)).max() <= 2 * np.spacing(1.0)
    relative = np.abs(portable_math.exp(x) - np.exp(x)) / np.spacing(np.exp(x))
    assert relative.max() <= 2
    u = np.concatenate([rng.random(20_000), rng.random(1000) * 1e-15, 1 - rng.random(1000) * 1e-15])
    assert (np.abs(portable_math.log(u) - np.log(u)) <= 3 * np.spacing(np.abs(np.log(u)))).all()


def test_portable_functions_are_frozen() -> None:
    assert [float(value).hex() for value in portable_math.exp(np.array([-0.1, -1, -30.5]))] == EXP
    assert [float(value).hex() for value in portable_math.log(np.array([0.1, 3, 1e-17]))] == LOG
    assert portable_math.exp(np.array([-np.inf, 0.0])).tolist() == [0.0, 1.0]


# What is allowed ------------------------------------------------------------------------------------------------------


def masked(size: int, ids: list[int]) -> npt.NDArray[np.uint32]:
    mask = np.zeros(-(-size // 32), np.uint32)
    for token_id in ids:
        mask[token_id >> 5] |= np.uint32(1 << (token_id & 31))
    return mask


def choose_allowed(row: Row, params: SamplingParams, allowed: TokenMask | None, position: int) -> int:
    counted = TokenCounts([3, 3, 40])
    return sampling.choose(
        FullRow(row), params, candidates, seed=5, position=position, counted=counted, allowed=allowed
    )


PARAMETERS = [
    NEUTRAL,
    replace(NEUTRAL, temperature=0.0),
    replace(NEUTRAL, top_k=3),
    replace(NEUTRAL, top_p=0.6),
    replace(NEUTRAL, min_p=0.2, presence_penalty=1.0),
    replace(NEUTRAL, top_k=4, frequency_penalty=2.0),
    replace(NEUTRAL, top_k=4, logit_bias={3: 5.0, 64: -2.0}),
]


@pytest.mark.parametrize("params", PARAMETERS)
@pytest.mark.parametrize("num_allowed", [1, 2, 5, 70])
def test_what_is_not_allowed_counts_as_minus_infinity(
    params: SamplingParams, num_allowed: int, rng: np.random.Generator
) -> None:
    for position in range(20):
        row = rng.normal(0, 3, 70).astype(np.float32)
        ids = sorted(rng.choice(70, num_allowed, replace=False).tolist())
        banned = np.setdiff1d(np.arange(70, dtype=np.int32), ids).astype(np.int32)
        lowered = row.copy()
        lowered[banned] = -np.inf
        kept = row.copy()
        expected = choose_allowed(lowered, params, None, position)
        assert choose_allowed(row, params, allow(masked(70, ids), banned[:0]), position) == expected
        assert choose_allowed(row, params, allow(None, banned), position) == expected
        assert expected in ids
        assert row.tobytes() == kept.tobytes()


def test_a_bias_is_added_before_all_else() -> None:
    row = row_of(0.5, 0.3, 0.2)
    assert winners(row, replace(NEUTRAL, logit_bias={2: 30.0})) == {2}
    assert winners(row, replace(NEUTRAL, logit_bias={0: -60.0})) == {1, 2}
    assert winners(row, replace(NEUTRAL, temperature=0.0, logit_bias={0: -0.6})) == {1}
    assert winners(row, replace(NEUTRAL, top_k=1, logit_bias={1: 1.0})) == {1}


def test_a_ban_gives_way_to_a_mask_that_leaves_nothing_else() -> None:
    banned = np.array([4], np.int32)
    only, two = allow(masked(70, [4]), banned), allow(masked(70, [4, 69]), banned)
    assert only is not None and only.only == 4
    assert two is not None and two.only == 69
    assert allow(None, banned[:0]) is None
    strange = np.array([-1, 5, 1000], np.int32)
    left = allow(masked(70, [4, 5, 69]), strange)
    assert left is not None and left.mask is not None
    assert left.mask.tobytes() == masked(70, [4, 69]).tobytes()
    unmasked = allow(None, strange)
    row = np.zeros(70, np.float32)
    assert unmasked is not None
    unmasked.apply(row)
    assert np.flatnonzero(row).tolist() == [5]
