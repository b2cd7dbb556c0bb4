"""Who comes in, who waits, who gives way, and what becomes of the states of those that leave."""

from __future__ import annotations

from typing import Any

import pytest

from engine_rig import PARAMS
from loqal.engine.admission import RequestQueue
from loqal.engine.cache.prefix_cache import PrefixCache
from loqal.engine.event_stream import Mailbox
from loqal.engine.metrics import Counts
from loqal.engine.options import EngineOptions
from loqal.engine.running import RunningSequence
from loqal.engine.sequence import PromptRead, Sequence
from loqal.errors import CapacityError
from loqal.types.reply import TokenEvent
from state_rig import state_store

A, B = list(range(200)), list(range(500, 700))


class Drafter:
    """Notes what it is told of."""

    def __init__(self, left: list[RunningSequence]) -> None:
        self._left = left

    def forget(self, active: RunningSequence) -> None:
        self._left.append(active)


class Queue:
    """A queue whose sequences read when a test says so."""

    def __init__(self, *, max_sequences: int = 2, num_slots: int = 12, num_pages: int = 40, is_on: bool = True) -> None:
        self.store = state_store(num_slots, num_pages)
        self.cache = PrefixCache(self.store, is_on=is_on)
        self.counts, self.left, self.now = Counts(), list[RunningSequence](), 0.0
        self.queue = RequestQueue(
            self.store,
            self.cache,
            self.counts,
            EngineOptions(context_len=4096, max_sequences=max_sequences, clock=lambda: self.now),
            Drafter(self.left),  # type: ignore[arg-type]
        )

    def add(self, prompt: list[int], **options: Any) -> RunningSequence:
        return self.queue.add(Sequence(prompt, PARAMS, **options), Mailbox())

    def read(self, active: RunningSequence, num_tokens: int) -> None:
        assert active.state is not None
        self.store.reserve(active.state, num_tokens)
        self.store.advance(active.state, num_tokens)
        active.sequence.num_read = active.length

    def check(self) -> None:
        """No sequence in two places, and nothing leaks."""
        assert all(active.state is None for active in self.queue.waiting)
        states = [active.state for active in self.queue.active]
        assert all(state is not None for state in states)
        self.store.check([*states, *self.cache.holders])  # type: ignore[list-item]


def items(active: RunningSequence) -> list[TokenEvent | BaseException | None]:
    found = []
    while not active.mailbox.items.empty():
        found.append(active.mailbox.items.get())
    return found


def test_as_many_come_in_as_may_compute() -> None:
    rig = Queue()
    first, second, third = rig.add(A), rig.add(B), rig.add(A[::-1])
    assert not rig.queue.is_empty
    rig.queue.admit()
    assert rig.queue.active == [first, second] and rig.queue.waiting == [third]
    rig.queue.end(first)
    assert items(first) == [None] and rig.left == [first]
    rig.queue.admit()
    assert rig.queue.active == [second, third] and not rig.queue.waiting
    rig.check()


def test_the_most_urgent_first() -> None:
    rig = Queue(max_sequences=1)
    late, first, served, urgent = (
        rig.add(A, priority=1),
        rig.add(A),
        rig.add(A, client="busy"),
        rig.add(A, priority=-1, client="busy"),
    )
    rig.queue.fairness.charge("busy", 10)
    assert sorted(rig.queue.waiting, key=rig.queue.urgency) == [urgent, first, served, late]
    rig.queue.admit()
    assert rig.queue.active == [urgent]


def test_a_more_urgent_one_takes_the_place_of_a_running_one() -> None:
    rig = Queue(max_sequences=1)
    slow, equal = rig.add(A), rig.add(B)
    rig.queue.admit()
    rig.read(slow, 100)
    urgent = rig.add(A[::-1], priority=-1)
    rig.queue.admit()
    assert rig.queue.active == [urgent]
    assert set(rig.queue.waiting) == {slow, equal}
    assert rig.counts.preemptions == 1 and not items(slow)
    rig.check()
    rig.queue.end(urgent)
    rig.queue.admit()
    assert rig.queue.active == [slow] and slow.length == 100  # what it has read was kept
    rig.check()


def test_what_was_read_is_taken_up() -> None:
    rig = Queue()
    first = rig.add(A)
    rig.queue.admit()
    assert first.sequence.cache.cached == 0
    rig.read(first, 200)
    rig.queue.end(first)
    beginning = rig.add([*A, 7])
    rig.queue.admit()
    again = rig.add(A)
    rig.queue.admit()
    assert again.length == 0  # its last token has to be computed, and there is no shorter capture
    assert beginning.length == beginning.sequence.cache.cached == beginning.sequence.num_read == 200
    assert rig.counts.cached_tokens == 200
    rig.check()


def test_a_row_that_is_wanted_does_not_come_from_the_cache() -> None:
    rig = Queue()
    first = rig.add(A)
    rig.queue.admit()
    rig.read(first, 150)
    rig.queue.cancel(first)
    reader = rig.add(A, reading=PromptRead(149, lambda rows: None))
    rig.queue.admit()
    assert reader.length == 0
    other = rig.add(A, reading=PromptRead(150, lambda rows: None))
    rig.queue.admit()
    assert other.length == 150


def test_one_that_reads_the_same_beginning_is_waited_for() -> None:
    rig = Queue(max_sequences=4)
    leader = rig.add([*A, *B])
    rig.queue.admit()
    same, other, short = rig.add([*A, *B]), rig.add([*A, 9, 9, 9]), rig.add(A[:20])
    rig.queue.admit()
    assert rig.queue.active == [leader, short] and set(rig.queue.waiting) == {same, other}
    assert len(A) in leader.planned  # where the two part, a copy is left
    rig.read(leader, 400)
    assert rig.queue.fork(leader) == [same]
    assert same.length == 400 and same.sequence.cache.cached == 400
    rig.queue.admit()
    assert other in rig.queue.active  # nobody reads any more what it waits for
    rig.check()


def test_nobody_waits_for_one_that_is_less_urgent_or_without_a_cache() -> None:
    rig = Queue(max_sequences=4)
    leader = rig.add(A, priority=1)
    rig.queue.admit()
    urgent = rig.add(A)
    rig.queue.admit()
    assert rig.queue.active == [leader, urgent]
    off = Queue(is_on=False)
    one, two = off.add(A), off.add(A)
    off.queue.admit()
    assert off.queue.active == [one, two]


def test_forks_are_bounded_and_only_of_the_very_prompt() -> None:
    rig = Queue(max_sequences=2)
    leader = rig.add(A)
    rig.queue.admit()
    same, third = rig.add(A), rig.add(A)
    longer, reader = rig.add([*A, 1]), rig.add(A, reading=PromptRead(0, lambda rows: None))
    rig.read(leader, 200)
    assert rig.queue.fork(leader) == [same]
    assert rig.queue.waiting == [third, longer, reader]
    rig.check()


def test_cancelling() -> None:
    rig = Queue(max_sequences=1)
    runs, waits, gone = rig.add(A), rig.add(B), rig.add(B)
    rig.queue.admit()
    rig.read(runs, 130)
    rig.queue.cancel(waits)
    assert items(waits) == [None] and waits not in rig.queue.waiting
    rig.queue.cancel(runs)
    assert items(runs) == [None] and runs.state is None
    assert rig.cache.forecast(runs.keys(200), 199).cached == 130
    rig.queue.cancel(gone)
    rig.queue.cancel(gone)  # once more does nothing
    assert items(gone) == [None]
    assert rig.queue.is_empty
    rig.check()


def test_what_failed_leaves_no_state_behind() -> None:
    rig = Queue()
    active, waits = rig.add(A), rig.add(B)
    rig.queue.admit()
    rig.read(active, 130)
    error = ZeroDivisionError()
    rig.queue.discard(active, error)
    assert items(active) == [error]
    assert rig.cache.num_captures == 0
    rig.read(waits, 10)
    late = rig.add(A)
    rig.queue.discard_all(error)
    assert items(waits) == [error] and rig.queue.waiting == [late]
    rig.queue.discard_all(error)
    assert items(late) == [error] and rig.queue.is_empty
    rig.check()


def test_a_prompt_that_can_never_begin_fails() -> None:
    rig = Queue(num_slots=1)
    taken = rig.store.open()
    alone = rig.add(A)
    rig.queue.admit()
    found = items(alone)
    assert len(found) == 1 and isinstance(found[0], CapacityError)
    assert rig.queue.is_empty
    rig.store.release(taken)
    first, waits = rig.add(A), rig.add(B)
    rig.queue.admit()
    assert rig.queue.active == [first] and rig.queue.waiting == [waits] and not items(waits)


@pytest.mark.parametrize("is_least", [False, True])
def test_giving_way_for_want_of_memory(is_least: bool) -> None:
    rig = Queue(max_sequences=4)
    old, new = rig.add(A), rig.add(B)
    rig.queue.admit()
    rig.read(old, 64)
    rig.read(new, 64)
    short = CapacityError("no memory", "why", "fix")
    assert rig.queue.preempt(new if is_least else old, short) is not is_least
    assert rig.queue.active == [old] and rig.queue.waiting == [new]
    rig.queue.admit()
    assert rig.queue.waiting == [new]  # nobody comes in before somebody has left
    assert not rig.queue.preempt(old, short)
    assert items(old) == [short]  # alone, and still too large
    rig.queue.admit()
    assert rig.queue.active == [new]
    assert rig.counts.preemptions == 1
    rig.check()


def test_times_and_counts_are_of_the_first_beginning() -> None:
    rig = Queue(max_sequences=1)
    rig.now = 5.0
    slow = rig.add(A)
    rig.queue.admit()
    assert slow.sequence.began_s == 5.0
    rig.read(slow, 100)
    slow.sequence.append(3, 1000)
    urgent = rig.add(B, priority=-1)
    rig.now = 6.0
    rig.queue.admit()
    rig.queue.end(urgent)
    rig.now = 7.0
    rig.queue.admit()
    assert rig.queue.active == [slow]
    assert slow.sequence.began_s == 5.0 and rig.counts.cached_tokens == 0
