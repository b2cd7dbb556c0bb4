"""The prefix cache: what it finds, why it does not, what it captures, and what it lets go of."""

from __future__ import annotations

import gc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.engine.cache.prefix_cache import CacheReport, MissReason, PrefixCache
from loqal.errors import CapacityError
from loqal.ops.interface import PAGE_TOKENS
from state_rig import capture_of, state_of, state_store


def run_of(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, 5000)[:length].astype(np.int64)


def put(cache: PrefixCache, store: object, length: int, seed: int = 0) -> None:
    cache.put(run_of(length, seed), capture_of(store, length))  # type: ignore[arg-type]


def test_the_deepest_capture_within_the_limit() -> None:
    store = state_store()
    cache = PrefixCache(store)
    for length in (64, 128, 192):
        put(cache, store, length)
    capture, report = cache.take(run_of(300), 191)
    assert capture is not None and capture.length == report.cached == 128
    assert report.known == 192
    assert cache.num_captures == 3
    store.check(cache.holders)


def test_why_a_prompt_had_to_be_read() -> None:
    store = state_store()
    cache = PrefixCache(store)
    keys = run_of(200)
    assert cache.forecast(keys, 199) == CacheReport(0, 0, MissReason.UNKNOWN)
    put(cache, store, 128)
    assert cache.forecast(keys, 199) == CacheReport(128, 128, MissReason.DIFFERS)
    assert cache.forecast(keys, 128) == CacheReport(128, 128, None)
    cache.remember(keys)
    assert cache.forecast(keys, 199) == CacheReport(128, 200, None)
    assert cache.evict_one()
    assert cache.forecast(keys, 199) == CacheReport(0, 200, MissReason.EVICTED)
    assert cache.num_evicted == 1
    assert PrefixCache(store, is_on=False).forecast(keys, 199) == CacheReport(0, 0, MissReason.OFF)


def test_what_is_taken_stays_until_it_is_unpinned() -> None:
    store = state_store()
    cache = PrefixCache(store)
    put(cache, store, 64)
    first, _ = cache.take(run_of(100), 99)
    second, _ = cache.take(run_of(100), 99)
    assert first is second is not None
    for _ in range(2):
        assert not cache.evict_one()
        cache.unpin(first)
    assert cache.evict_one()
    assert not cache.evict_one()
    store.check([])


def test_a_second_capture_of_one_run_is_let_go() -> None:
    store = state_store()
    cache = PrefixCache(store)
    put(cache, store, 64)
    first = cache.take(run_of(64), 64)[0]
    put(cache, store, 64)
    assert cache.num_captures == 1 and cache.take(run_of(64), 64)[0] is first
    cache.put(run_of(0), capture_of(store, 0))  # nothing to keep
    store.check(cache.holders)


def test_a_cache_that_is_off_keeps_nothing() -> None:
    store = state_store()
    cache = PrefixCache(store, is_on=False)
    put(cache, store, 64)
    cache.remember(run_of(64))
    assert cache.take(run_of(64), 64) == (None, CacheReport(0, 0, MissReason.OFF))
    assert cache.plan(500, CacheReport(), [100, 200], [300]) == []
    store.check([])


def test_what_saves_the_least_goes_first() -> None:
    store = state_store(num_pages=64)
    cache = PrefixCache(store)
    put(cache, store, 64, seed=1)  # a page's worth of reading for a slot
    put(cache, store, 640, seed=2)
    assert cache.evict_one()
    assert cache.forecast(run_of(640, 2), 640).cached == 640
    assert cache.forecast(run_of(64, 1), 64).cached == 0


def test_a_capture_behind_another_saves_only_what_lies_between() -> None:
    store = state_store(num_pages=64)
    cache = PrefixCache(store)
    state = state_of(store, 600)
    cache.put(run_of(600), store.capture(state))
    store.reserve(state, 10)
    store.advance(state, 10)
    cache.put(run_of(610), store.retire(state))  # nearly the same beginning once more
    put(cache, store, 200, seed=2)
    assert cache.evict_one()
    assert cache.forecast(run_of(610), 610).cached == 600
    assert cache.forecast(run_of(200, 2), 200).cached == 200


def test_what_was_used_longest_ago_counts_least() -> None:
    store = state_store()
    cache = PrefixCache(store)
    for seed in (1, 2, 3):
        put(cache, store, 128, seed)
    for _ in range(20):
        for seed in (1, 3):
            capture, _ = cache.take(run_of(128, seed), 128)
            assert capture is not None
            cache.unpin(capture)
    assert cache.evict_one()
    assert [cache.forecast(run_of(128, seed), 128).cached for seed in (1, 2, 3)] == [128, 0, 128]


def test_the_cache_gives_way_when_the_store_is_short() -> None:
    store = state_store(num_slots=3)
    cache = PrefixCache(store)
    for seed in range(3):
        put(cache, store, 64, seed)
    state = store.open()
    assert cache.num_captures == 2
    store.check([state, *cache.holders])
    cache.clear()
    store.check([state])
    del cache
    gc.collect()
    others = [store.open(), store.open()]
    with pytest.raises(CapacityError):
        store.open()
    store.check([state, *others])


REPORTS = st.builds(CacheReport, st.integers(0, 400), st.integers(0, 900))


@settings(max_examples=200)
@given(
    st.integers(1, 900), REPORTS, st.lists(st.integers(0, 900), max_size=40).map(sorted), st.lists(st.integers(0, 900))
)
def test_what_a_prompt_is_captured_at(prompt: int, report: CacheReport, marks: list[int], required: list[int]) -> None:
    store = state_store(num_slots=40)
    cache = PrefixCache(store)
    planned = cache.plan(prompt, report, marks, required)
    first, last = report.cached, prompt - 1
    assert planned == sorted(set(planned))
    assert all(first < point <= last for point in planned)
    inside = [mark for mark in marks if first < mark <= last]
    assert {mark for mark in required if first < mark <= last} <= set(planned)
    assert set(inside[-2:]) <= set(planned)
    if first + PAGE_TOKENS <= report.known <= last:
        assert report.known in planned
    if last > first and last - max(planned, default=first) >= PAGE_TOKENS:
        pytest.fail("the same prompt once more would read a page")
    ends = [first, *planned]
    assert all(after - before <= 2 * cache.spacing_tokens for before, after in pairwise(ends))
    others = set(planned) - set(required) - set(inside[-2:]) - {report.known, last}
    extra = [point for point in others if point % cache.spacing_tokens]  # marks of messages, thinned
    assert len(extra) <= max(2, 40 // 4)


def test_marks_a_page_apart_are_captured() -> None:
    cache = PrefixCache(state_store(num_slots=40))
    assert cache.spacing_tokens % PAGE_TOKENS == 0
    planned = cache.plan(330, CacheReport(), [10, 70, 80, 140, 300, 310], [])
    assert {70, 140, 300, 310} <= set(planned)
    assert not {10, 80} & set(planned)


VERBS = st.sampled_from(["put", "take", "evict", "remember"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["put", "take", "evict", "remember"]), st.integers(1, 300), st.integers(0, 2)))
)
def test_nothing_leaks(steps: list[tuple[str, int, int]]) -> None:
    store = state_store(num_slots=4, num_pages=8)
    cache = PrefixCache(store)
    for verb, length, seed in steps:
        keys = run_of(length, seed)
        if verb == "put":
            put(cache, store, length, seed)
        elif verb == "take":
            expected = cache.forecast(keys, length)
            capture, report = cache.take(keys, length)
            assert report == expected
            assert (capture.length if capture else 0) == report.cached <= length
            if capture is not None:
                cache.unpin(capture)
        elif verb == "evict":
            before = cache.num_captures
            assert cache.evict_one() == (before > 0)
            assert cache.num_captures == max(0, before - 1)
        else:
            cache.remember(keys)
        store.check(cache.holders)
    cache.clear()
    store.check([])


def test_many_messages_are_captured_farther_apart() -> None:
    marks = list(range(PAGE_TOKENS, 21 * PAGE_TOKENS, PAGE_TOKENS))  # twenty, for a quarter of forty slots
    cache = PrefixCache(state_store(num_slots=40))
    planned = cache.plan(21 * PAGE_TOKENS, CacheReport(), marks, [])
    assert set(planned) == {*marks[1::2], marks[-1], marks[-2]}
    few = PrefixCache(state_store(num_slots=4))
    assert len([mark for mark in few.plan(21 * PAGE_TOKENS, CacheReport(), marks, []) if mark in marks[:-2]]) <= 2
    slot = state_store().slots.unit_bytes
    bounded = PrefixCache(state_store(num_slots=40, budget_bytes=16 * slot))
    assert len([mark for mark in bounded.plan(21 * PAGE_TOKENS, CacheReport(), marks, []) if mark in marks[:-2]]) <= 4


def test_a_long_prompt_without_messages_is_captured_at_even_spacing() -> None:
    cache = PrefixCache(state_store(num_slots=40))
    spacing = cache.spacing_tokens
    length = 3 * spacing + 2 * PAGE_TOKENS
    assert cache.plan(length, CacheReport(), [], []) == [spacing, 2 * spacing, 3 * spacing, length - 1]
    assert cache.plan(length, CacheReport(cached=spacing), [], []) == [2 * spacing, 3 * spacing, length - 1]
    near = 2 * spacing - 1  # a mark just before makes the even one needless
    assert cache.plan(length, CacheReport(), [near], []) == [spacing, near, 3 * spacing, length - 1]


def test_where_two_requests_part_a_third_may() -> None:
    cache = PrefixCache(state_store(num_slots=40))
    part = PAGE_TOKENS + 5
    assert part in cache.plan(500, CacheReport(0, part), [], [])
    assert part not in cache.plan(500, CacheReport(6, part), [], [])  # hardly more than what was cached
    assert part not in cache.plan(part, CacheReport(0, part), [], [])
    assert cache.plan(5, CacheReport(4, 4), [], []) == cache.plan(5, CacheReport(5, 5), [], []) == []


@pytest.mark.parametrize(("uses", "left"), [(10, 128), (16, 65)])
def test_what_a_capture_is_worth_halves_with_sixteen_uses_of_the_cache(uses: int, left: int) -> None:
    """Both take as many bytes; the older one saves nearly twice as much reading."""
    store = state_store()
    cache = PrefixCache(store)
    put(cache, store, 128, seed=1)
    for _ in range(uses):
        cache.take(run_of(9, 9), 9)
    put(cache, store, 65, seed=2)
    assert cache.evict_one()
    assert [cache.forecast(run_of(128, seed), 128).cached for seed in (1, 2)] == ([128, 0] if left == 128 else [0, 65])
