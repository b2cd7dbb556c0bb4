"""What the next step is spent on: costs are learnt, rows are dealt, clients are served evenly. Arithmetic only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.engine.step_budget import Fairness, StepCosts, deal

COUNTS = st.integers(0, 300)


@given(st.lists(st.integers(0, 100), max_size=8), st.integers(0, 300))
def test_the_first_get_all_they_want(wanted: list[int], rows: int) -> None:
    shares = deal(wanted, rows)
    assert sum(shares) == min(rows, sum(wanted))
    for index, (share, want) in enumerate(zip(shares, wanted, strict=True)):
        assert share == min(want, rows - sum(shares[:index]))


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0.001, 1.0)), min_size=1))
def test_costs_stay_within_what_was_measured(steps: list[tuple[int, float]]) -> None:
    costs = StepCosts()
    for rows, seconds in steps:
        costs.observe(rows, 0, seconds)
    for rows in {rows for rows, _ in steps}:
        seen = [seconds for count, seconds in steps if count == rows]
        assert min(seen) * 0.999 <= costs.of_writing(rows) <= max(seen) * 1.001
        assert costs.of_rows(rows) == costs.of_writing(rows)


def test_costs_are_learnt() -> None:
    costs = StepCosts()
    assert costs.affordable_rows(2, 0.1, 512) == 16  # a careful beginning
    for _ in range(20):
        costs.observe(2, 0, 0.040)
        costs.observe(2, 32, 0.040 + 32 * 0.002)
    assert costs.affordable_rows(2, 0.1, 512) == 30
    assert costs.affordable_rows(2, 0.01, 512) == 1  # never nothing
    assert costs.affordable_rows(2, 10.0, 512) == 64  # not far beyond what was seen
    costs.observe(2, 32, 0.040 + 32 * 0.004)
    assert costs.affordable_rows(2, 0.1, 512) == 15  # a rise counts at once
    assert costs.of_rows(2) == pytest.approx(0.040)
    assert costs.of_rows(4) > costs.of_rows(3) > costs.of_rows(2)


def test_the_first_measurement_counts_whole_and_later_ones_in_part() -> None:
    costs = StepCosts()
    costs.observe(2, 0, 1.0)
    assert costs.of_writing(2) == 1.0
    costs.observe(2, 0, 2.0)
    assert costs.of_writing(2) == pytest.approx(1.3)


def test_costs_between_and_beyond_what_was_measured() -> None:
    costs = StepCosts()
    assert costs.of_writing(3) == 0.0
    assert costs.of_rows(0) == 1.0 < costs.of_rows(1) < costs.of_rows(10)
    costs.observe(2, 0, 0.2)
    costs.observe(6, 0, 0.4)
    assert costs.of_writing(0) == 0.0
    assert costs.of_writing(4) == 0.2  # the nearest, of two the smaller
    assert costs.of_writing(5) == costs.of_writing(100) == 0.4
    assert costs.of_rows(3) == pytest.approx(0.25)
    assert costs.of_rows(5) == pytest.approx(0.35)
    assert costs.of_rows(1) == pytest.approx(0.2 / 1.06)  # one row costs 6 % of a step, before it is known
    assert costs.of_rows(11) == pytest.approx(0.4 * 1.6 / 1.3)


@given(st.integers(0, 8), st.floats(0, 2), st.integers(1, 512))
def test_a_prompt_always_goes_on_and_never_too_fast(writing: int, target_s: float, most: int) -> None:
    costs = StepCosts()
    assert costs.affordable_rows(writing, target_s, most) == min(16, most)
    costs.observe(1, 0, 0.05)
    costs.observe(1, 20, 0.07)
    rows = costs.affordable_rows(writing, target_s, most)
    assert 1 <= rows <= min(most, 40)
    assert rows == 1 or rows * 0.001 + costs.of_writing(writing) <= target_s + 1e-9


def test_a_rise_counts_at_once_and_a_fall_slowly() -> None:
    costs = StepCosts()
    costs.observe(0, 10, 0.1)
    assert costs.per_row == pytest.approx(0.01)
    costs.observe(0, 10, 0.2)
    assert costs.per_row == pytest.approx(0.02)
    costs.observe(0, 100, 1.0)
    assert costs.per_row == pytest.approx(0.02 - 0.3 * 0.01)
    assert costs.most_seen == 100
    costs.observe(0, 5, 0.05)
    assert costs.most_seen == 100


def test_rows_of_a_prompt_never_cost_nothing() -> None:
    costs = StepCosts()
    costs.observe(1, 0, 1.0)
    costs.observe(1, 10, 0.5)  # less than the writing rows alone took
    assert costs.per_row == pytest.approx(0.005)


def test_a_client_that_comes_back_has_no_credit() -> None:
    fairness = Fairness()
    fairness.charge("a", 1000)
    fairness.charge("b", 400)
    fairness.arrive("new", ["a", "b", "unknown"])
    assert fairness.served("new") == 400
    fairness.arrive("a", ["b"])
    assert fairness.served("a") == 1000  # nor is a debt forgiven
    fairness.arrive("first", [])
    assert fairness.served("first") == 0
    fairness.forget(["b", "never seen"])
    assert (fairness.served("a"), fairness.served("b")) == (0, 400)


@given(st.lists(st.tuples(st.sampled_from("abc"), COUNTS)))
def test_what_was_charged_adds_up(charges: list[tuple[str, int]]) -> None:
    fairness = Fairness()
    for client, rows in charges:
        fairness.charge(client, rows)
    for client in "abc":
        assert fairness.served(client) == sum(rows for name, rows in charges if name == client)
