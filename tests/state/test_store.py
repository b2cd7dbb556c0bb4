"""States, captures and forks of them: what is shared, what is copied, and what it all may take."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.errors import CapacityError
from loqal.ops.interface import PAGE_TOKENS
from loqal.state.store import Capture, SequenceState, num_pages
from state_rig import capture_of, contents, fill, state_of, state_store


def copied(arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [array.copy() for array in arrays]


def are_equal(left: Iterable[np.ndarray], right: Iterable[np.ndarray]) -> bool:
    return all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(("length", "pages"), [(0, 0), (1, 1), (PAGE_TOKENS, 1), (PAGE_TOKENS + 1, 2)])
def test_pages_of_a_length(length: int, pages: int) -> None:
    assert num_pages(length) == pages
    assert len(state_of(state_store(), length).pages) == pages


def test_a_fresh_state_is_empty_whatever_was_there() -> None:
    store = state_store(num_slots=1)
    state = store.open()
    fill(store, state, 1)
    store.release(state)
    assert not any(array.any() for array in store.slot_memory(store.open().slot))


def test_a_capture_is_a_copy_of_the_slot_and_shares_the_pages() -> None:
    store = state_store()
    state = state_of(store, PAGE_TOKENS + 9)
    fill(store, state, 1)
    capture = store.capture(state)
    kept = copied(contents(store, capture))
    assert are_equal(kept, contents(store, state))
    assert capture.slot != state.slot and list(capture.pages) == state.pages and capture.length == state.length
    # Going on copies the page that is partly filled, and writes neither it nor the capture's slot.
    store.reserve(state, 1)
    assert state.pages[0] == capture.pages[0] and state.pages[1] != capture.pages[1]
    per_page = len(store.page_memory(0))
    assert are_equal(store.page_memory(state.pages[1]), kept[per_page : 2 * per_page])
    fill(store, SequenceState(state.slot, state.pages[1:]), 2)
    assert are_equal(contents(store, capture), kept)
    store.check([state, capture])


def test_full_pages_are_not_copied() -> None:
    store = state_store()
    state = state_of(store, PAGE_TOKENS)
    capture = store.capture(state)
    store.reserve(state, 1)
    assert state.pages[0] == capture.pages[0] and len(state.pages) == 2
    store.check([state, capture])


def test_an_adopted_capture_stays_usable() -> None:
    store = state_store()
    capture = capture_of(store, PAGE_TOKENS + 9)
    fill(store, capture, 1)
    kept = copied(contents(store, capture))
    first, second = store.adopt(capture), store.adopt(capture)
    assert first.length == capture.length and are_equal(contents(store, first), kept)
    for state in (first, second):
        store.reserve(state, 1)
        fill(store, SequenceState(state.slot, state.pages[1:]), 3)
    assert first.pages[1] != second.pages[1]
    assert are_equal(contents(store, capture), kept)
    store.check([first, second, capture])
    for held in (first, second, capture):
        store.release(held)
    store.check([])


def test_retiring_copies_nothing_and_drops_what_was_only_reserved() -> None:
    store = state_store()
    state = state_of(store, 10)
    store.reserve(state, 3 * PAGE_TOKENS)
    pages, slot = list(state.pages), state.slot
    capture = store.retire(state)
    assert (capture.slot, list(capture.pages)) == (slot, pages[:1])
    store.check([capture])


def test_forks_go_separate_ways() -> None:
    store = state_store()
    state = state_of(store, 10)
    fill(store, state, 1)
    twin = store.fork(state)
    assert are_equal(contents(store, state), contents(store, twin)) and twin.slot != state.slot
    store.reserve(twin, 1)
    assert twin.pages[0] != state.pages[0]
    store.reserve(state, 1)  # alone again: nothing to copy
    store.check([state, twin])


def test_a_reservation_that_fails_changes_nothing() -> None:
    store = state_store(num_pages=3)
    state = state_of(store, PAGE_TOKENS + 1)
    capture = store.capture(state)
    before = (list(state.pages), state.length)
    with pytest.raises(CapacityError):
        store.reserve(state, PAGE_TOKENS)  # a copy and a fresh page; one is left
    assert (state.pages, state.length) == before
    store.check([state, capture])
    store.reserve(state, 1)


def test_what_is_tried_waits_in_a_journal() -> None:
    store = state_store(num_journals=1)
    one, two = state_of(store, 5), state_of(store, 5)
    assert store.defer(one) and store.defer(one)
    assert not store.defer(two)
    store.reserve(one, 3)
    store.advance(one, 2, deferred=True)
    assert (one.length, one.pending) == (7, 2)
    store.check([one, two])
    store.advance(one, 1)
    assert (one.length, one.pending) == (8, 0)
    capture = store.retire(one)
    assert store.defer(two)  # the journal is free again
    store.check([two, capture])
    store.release(two)
    store.check([capture])


def test_captures_that_a_step_makes() -> None:
    store = state_store()
    state = state_of(store, 2 * PAGE_TOKENS)
    slot, unused = store.capture_slot(), store.capture_slot()
    capture = store.share(state, slot, PAGE_TOKENS + 1)
    assert capture == Capture(slot, tuple(state.pages), PAGE_TOKENS + 1)
    store.drop_slot(unused)
    assert store.share(state, store.capture_slot(), PAGE_TOKENS).pages == tuple(state.pages[:1])


def test_holding_keeps_a_capture_alive() -> None:
    store = state_store()
    capture = capture_of(store, 70)
    assert store.hold(capture) is capture
    store.release(capture)
    store.check([capture])
    store.release(capture)
    store.check([])


def test_sharing_full_pages() -> None:
    store = state_store()
    capture = capture_of(store, 2 * PAGE_TOKENS + 5)
    state = store.open()
    store.share_pages(state, capture, 2)
    assert state.length == 2 * PAGE_TOKENS and state.pages == list(capture.pages[:2])
    store.check([state, capture])
    with pytest.raises(AssertionError):
        store.share_pages(store.open(), capture, 3)  # the third is not full


def test_what_releasing_would_free() -> None:
    store = state_store()
    state = state_of(store, 3 * PAGE_TOKENS)
    capture = store.capture(state)
    assert store.num_freed_bytes(capture) == store.slots.unit_bytes
    store.release(state)
    assert store.num_freed_bytes(capture) == store.slots.unit_bytes + 3 * store.pages.unit_bytes


def test_advancing_beyond_what_was_reserved_is_noticed() -> None:
    store = state_store()
    with pytest.raises(AssertionError):
        store.advance(state_of(store, 1), PAGE_TOKENS)


def test_memory_is_reclaimed_before_anything_fails() -> None:
    store = state_store(num_slots=2)
    held = [store.open(), store.open()]
    asked = []

    def reclaim() -> bool:
        asked.append(1)
        if len(asked) > 1:
            return False
        store.release(held.pop())
        return True

    store.reclaim = reclaim
    held.append(store.open())
    with pytest.raises(CapacityError):
        store.open()
    assert len(asked) == 2
    store.check(held)


def test_slots_give_their_memory_to_pages_and_back() -> None:
    probe = state_store()
    slot, page = probe.slots.unit_bytes, probe.pages.unit_bytes
    store = state_store(budget_bytes=2 * slot + page)
    first, second = store.open(), store.open()
    store.reserve(first, 1)
    with pytest.raises(CapacityError):
        store.reserve(first, PAGE_TOKENS + 1)
    store.release(second)
    store.reserve(first, PAGE_TOKENS + 1)  # the slot's memory becomes a page
    assert store.resident_bytes <= store.budget_bytes  # type: ignore[operator]
    store.check([first])
    store.release(first)
    store.check([store.open(), store.open()])


VERBS = st.sampled_from(["open", "grow", "capture", "adopt", "fork", "retire", "release", "hold"])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(VERBS, st.integers(0, 99), st.integers(1, 150)), max_size=30), st.booleans(), st.integers(1, 3)
)
def test_nothing_leaks_and_the_budget_holds(steps: list[tuple[str, int, int]], bounded: bool, group: int) -> None:
    probe = state_store()
    budget = 5 * probe.slots.unit_bytes + 6 * probe.pages.unit_bytes if bounded else None
    store = state_store(num_slots=6, num_pages=9, budget_bytes=budget, slot_group=group)
    states: list[SequenceState] = []
    captures: list[Capture] = []
    for verb, choice, count in steps:
        try:
            if verb == "open":
                states.append(store.open())
            elif verb in ("adopt", "hold") and captures:
                capture = captures[choice % len(captures)]
                if verb == "adopt":
                    states.append(store.adopt(capture))
                else:
                    captures.append(store.hold(capture))
            elif verb in ("grow", "capture", "fork", "retire") and states:
                state = states[choice % len(states)]
                if verb == "grow":
                    store.reserve(state, count)
                    store.advance(state, count)
                elif verb == "capture":
                    captures.append(store.capture(state))
                elif verb == "fork":
                    states.append(store.fork(state))
                else:
                    states.remove(state)
                    captures.append(store.retire(state))
            elif verb == "release" and (states or captures):
                pool: list[SequenceState] | list[Capture] = states or captures
                store.release(pool.pop(choice % len(pool)))
        except CapacityError:
            pass
        store.check([*states, *captures])


def test_leaks_of_every_kind_are_noticed() -> None:
    store = state_store(num_journals=1)
    state = state_of(store, 5)
    assert store.defer(state)
    wrong = [
        SequenceState(state.slot + 1, state.pages, 5, state.journal),
        SequenceState(state.slot, [state.pages[0] + 1], 5, state.journal),
        SequenceState(state.slot, state.pages, 5),
        SequenceState(state.slot, [], 5, state.journal),
    ]
    store.check([state])
    for held in wrong:
        with pytest.raises(AssertionError):
            store.check([held])
    store.budget_bytes = store.resident_bytes - 1
    with pytest.raises(AssertionError):
        store.check([state])


def test_what_nobody_holds_is_spoilt_on_demand() -> None:
    store = state_store()
    store.poison_freed = True
    state = state_of(store, 5)
    fill(store, state, 1)
    memory = contents(store, state)
    capture = store.capture(state)
    store.release(state)
    pages = len(store.page_memory(0))
    assert not any((array.view(np.uint8) == 0xFF).any() for array in memory[:pages])  # the capture has the page
    assert all((array.view(np.uint8) == 0xFF).all() for array in memory[pages:])
    store.release(capture)
    assert all((array.view(np.uint8) == 0xFF).all() for array in memory)
