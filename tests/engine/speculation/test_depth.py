"""How many tokens are drafted: the most tokens per second, from costs and chances alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.engine.speculation.depth import AcceptanceRate, allocate


def cheap(rows: int) -> float:
    return 1.0 + 0.01 * rows


def rate(chances: list[float], depths: tuple[int, ...], pass_s: float) -> float:
    """Tokens per second of given depths."""
    tokens = sum(sum(chance**k for k in range(depth + 1)) for chance, depth in zip(chances, depths, strict=True))
    return tokens / (cheap(len(chances) + sum(depths)) + max(depths) * pass_s)


CHANCES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=3)


@given(CHANCES, st.floats(0, 0.5), st.data())
def test_drafts_never_make_it_slower(chances: list[float], pass_s: float, data: st.DataObject) -> None:
    limits = [data.draw(st.integers(0, 3)) for _ in chances]
    depths = allocate(chances, limits, cheap, pass_s)
    assert all(0 <= depth <= limit for depth, limit in zip(depths, limits, strict=True))
    assert rate(chances, tuple(depths), pass_s) >= rate(chances, (0,) * len(chances), pass_s)


@given(CHANCES, st.data())
def test_where_passes_cost_nothing_no_further_draft_is_worth_it(chances: list[float], data: st.DataObject) -> None:
    limits = [data.draw(st.integers(0, 3)) for _ in chances]
    depths = allocate(chances, limits, cheap, 0.0)
    for at, limit in enumerate(limits):
        if depths[at] < limit:
            more = tuple(depth + (index == at) for index, depth in enumerate(depths))
            assert rate(chances, more, 0.0) <= 1.02 * rate(chances, tuple(depths), 0.0) + 1e-9


@given(st.floats(0.0, 1.0), st.integers(0, 6))
def test_one_sequence_gets_the_best_depth_within_the_margin(chance: float, limit: int) -> None:
    depth = allocate([chance], [limit], cheap, 0.1)[0]
    best = max(rate([chance], (k,), 0.1) for k in range(limit + 1))
    assert rate([chance], (depth,), 0.1) * 1.02**limit >= best


def test_certain_drafts_are_tried_to_the_limit_and_hopeless_ones_never() -> None:
    assert allocate([1.0, 0.0], [5, 5], cheap, 0.01) == [5, 0]
    assert allocate([], [], cheap, 0.01) == []
    assert allocate([1.0], [5], lambda rows: float(rows), 0.0) == [0]  # a row costs as much as a token yields


def test_a_gain_below_the_margin_is_not_worth_it() -> None:
    def flat(rows: int) -> float:
        return 1.0

    assert allocate([0.021], [1], flat, 0.0) == [1]
    assert allocate([0.019], [1], flat, 0.0) == [0]


def test_passes_are_shared_by_all_sequences() -> None:
    alone = allocate([0.6], [1], cheap, 0.6)
    together = allocate([0.6] * 4, [1] * 4, cheap, 0.6)
    assert alone == [0] and sum(together) == 0  # one sequence's draft does not pay the pass, and none goes first
    assert allocate([0.9] + [0.6] * 4, [1] * 5, cheap, 0.15) == [1] * 5


def test_the_chance_follows_what_was_accepted() -> None:
    rate = AcceptanceRate()
    assert rate.expected == 0.5
    for _ in range(200):
        rate.observe(2, 2)
    assert rate.expected > 0.99
    for _ in range(200):
        rate.observe(2, 0)
    assert rate.expected < 0.01


def test_only_drafts_up_to_the_first_wrong_one_say_anything() -> None:
    one, two = AcceptanceRate(), AcceptanceRate()
    one.observe(4, 1)
    two.observe(2, 1)
    assert one.chance == two.chance
    three = AcceptanceRate()
    three.observe(1, 1)
    assert three.chance == 0.75  # the first counts half, and it is the mean of what was seen
    three.observe(1, 0)
    assert three.chance == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60))
def test_a_chance_is_a_probability(steps: list[tuple[int, int]]) -> None:
    rate = AcceptanceRate()
    for tried, accepted in steps:
        assert 0 <= rate.limit(4) <= 4
        rate.observe(tried, min(tried, accepted))
        assert 0.0 <= rate.chance <= 1.0


def test_steps_without_drafts_keep_their_cost_known() -> None:
    rate = AcceptanceRate()
    limits = []
    for _ in range(200):
        limits.append(rate.limit(4))
        rate.observe(limits[-1], limits[-1])
    assert [index for index, limit in enumerate(limits) if limit == 0] == [64, 129, 194]
    assert set(limits) == {0, 4}


def pauses(rate: AcceptanceRate, accepted: int, count: int) -> list[int]:
    """Steps without drafts before each of some probes."""
    found = []
    for _ in range(count):
        for waited in itertools.count():  # noqa: B007 - used below
            limit = rate.limit(4)
            if rate.expected == 1.0 and limit == 1:
                break
            rate.observe(0, 0)
        found.append(waited)
        rate.observe(1, accepted)
    return found


def test_drafts_that_never_pay_are_tried_ever_more_seldom() -> None:
    assert pauses(AcceptanceRate(chance=0.0), accepted=0, count=8) == [16, 32, 64, 128, 256, 512, 512, 512]


def test_a_probe_that_is_right_is_repeated_at_once_until_the_chance_has_risen() -> None:
    rate = AcceptanceRate(chance=0.0)
    pauses(rate, accepted=0, count=3)
    waited = pauses(rate, accepted=1, count=3)
    assert waited[0] == 128 and set(waited[1:]) == {0}
    for _ in range(20):
        rate.limit(4)
        rate.observe(1, 1)
    assert rate.chance > 0.5 and rate.limit(4) == 4
