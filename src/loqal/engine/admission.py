"""Admission and preemption: the waiting queue and the running set.

Invariants:
* a sequence is in ``waiting`` without a state, or in ``active`` with one;
* a sequence that leaves ``active`` gives its state to the prefix cache, unless the state may be what failed.
"""

from __future__ import annotations

import numpy as np

from loqal.engine.cache.prefix_cache import CacheReport, PrefixCache
from loqal.engine.cache.radix_tree import common_len
from loqal.engine.event_stream import Mailbox
from loqal.engine.metrics import Counts
from loqal.engine.options import EngineOptions
from loqal.engine.running import RunningSequence
from loqal.engine.sequence import Sequence
from loqal.engine.speculation.drafter import Drafter
from loqal.engine.step_budget import Fairness
from loqal.errors import CapacityError
from loqal.ops.interface import PAGE_TOKENS
from loqal.state.store import StateStore
from loqal.types.reply import TokenEvent


class RequestQueue:
    """The waiting queue and the running set.

    Args:
        drafter: told of every sequence that loses its state, if there is one.
    """

    def __init__(
        self,
        store: StateStore,
        cache: PrefixCache,
        counts: Counts,
        options: EngineOptions,
        drafter: Drafter | None,
    ) -> None:
        self._store, self._cache, self._counts, self.drafter = store, cache, counts, drafter
        self._restore_s = options.latency_s / 2  # for reading from the disk between two steps while others compute
        self._max_sequences, self._clock = options.max_sequences or store.slots.size, options.clock
        self.fairness = Fairness()
        self.waiting: list[RunningSequence] = []
        self.active: list[RunningSequence] = []
        self._num_arrived = 0
        self._is_tight = False  # a sequence was preempted for memory: none is admitted before one has left

    @property
    def is_empty(self) -> bool:
        """Whether no sequence is waiting or running."""
        return not self.waiting and not self.active

    def add(self, sequence: Sequence, mailbox: Mailbox[TokenEvent]) -> RunningSequence:
        """Add a sequence to the queue."""
        self.fairness.arrive(sequence.client, {one.sequence.client for one in self.waiting + self.active})
        active = RunningSequence(sequence, mailbox, self._num_arrived, self._cache.media)
        self._num_arrived += 1
        self.waiting.append(active)
        return active

    def cancel(self, active: RunningSequence) -> None:
        """End a sequence. What it has read stays in the prefix cache."""
        if active in self.waiting:
            self.waiting.remove(active)
            active.restoring = None
            active.mailbox.put(None)
        elif active in self.active:
            self.end(active)

    def urgency(self, active: RunningSequence) -> tuple[int, float, int]:
        """The sort key of scheduling: the most urgent sequence has the smallest."""
        sequence = active.sequence
        return sequence.priority, self.fairness.served(sequence.client), active.arrival

    # Coming in ------------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Admit waiting sequences, the most urgent first."""
        for active in sorted(self.waiting, key=self.urgency):
            if len(self.active) >= self._max_sequences or self._is_tight:
                if not self._preempt_for(active):
                    break
            elif self._leader_of(active) is not None:
                continue
            if self._is_restoring(active):
                continue
            try:
                self._begin(active)
            except CapacityError as error:
                if not self.active:
                    self.waiting.remove(active)
                    active.mailbox.put(error)
                break

    def fork(self, leader: RunningSequence) -> list[RunningSequence]:
        """Start waiting sequences that have the prompt which ``leader`` has just read, from its state."""
        forks: list[RunningSequence] = []
        for active in sorted(self.waiting, key=self.urgency):
            is_same = np.array_equal(active.prompt_keys, leader.prompt_keys)
            if not is_same or active.sequence.reading is not None or active.sequence.num_generated:
                continue
            if len(self.active) >= self._max_sequences or leader.state is None:
                break
            try:
                active.state = self._store.fork(leader.state)
            except CapacityError:
                break
            length = active.sequence.prompt_len
            self._enter(active, CacheReport(length, length, None))
            forks.append(active)
        return forks

    def _is_restoring(self, active: RunningSequence) -> bool:
        """Continue to restore the prefix from disk; True while more of it is to come."""
        if active.restoring is None:
            keys = active.keys(len(active.sequence.token_ids))
            active.restoring = self._cache.restore(keys, _limit(active.sequence))
        until = self._clock() + self._restore_s
        return any(self.active and self._clock() > until for _ in active.restoring)

    def _begin(self, active: RunningSequence) -> None:
        """Give a waiting sequence its state: from the longest matching capture, or a fresh one."""
        sequence = active.sequence
        tokens = len(sequence.token_ids)
        keys = active.keys(tokens)
        capture, report = self._cache.take(keys, _limit(sequence))
        try:
            active.state = self._store.open() if capture is None else self._store.adopt(capture)
        finally:
            if capture is not None:
                self._cache.unpin(capture)
        self._enter(active, report)
        active.planned = self._cache.plan(tokens, report, sequence.boundaries, [span.end for span in sequence.media])
        self._cache.remember(keys)

    def _enter(self, active: RunningSequence, report: CacheReport) -> None:
        self.waiting.remove(active)
        self.active.append(active)
        sequence = active.sequence
        if sequence.num_generated == 0:
            sequence.began_s = self._clock()
            sequence.cache, sequence.num_read = report, report.cached
            self._counts.cached_tokens += report.cached

    def _leader_of(self, active: RunningSequence) -> RunningSequence | None:
        """A running sequence that is reading the same prefix, further than any capture of it.

        Waiting for it saves reading the prefix twice: it leaves a capture where the two differ, or forks at the end of
        its prompt.
        """
        if active.sequence.reading is not None or active.sequence.num_generated or not self._cache.is_on:
            return None
        keys = active.prompt_keys
        for other in sorted(self.active, key=lambda one: one.arrival):
            if other.sequence.num_read >= other.sequence.prompt_len:
                continue
            shared = common_len(keys, other.prompt_keys)
            is_same = shared == len(keys) == len(other.prompt_keys) and other.sequence.reading is None
            gains = is_same or shared - other.length >= PAGE_TOKENS
            if not gains or other.sequence.priority > active.sequence.priority:
                continue
            part = min(shared, len(keys) - 1)
            if part > other.length and not is_same and part not in other.planned:
                other.planned = sorted([*other.planned, part])
            return other
        return None

    # Going out ------------------------------------------------------------------------------------------------------

    def end(self, active: RunningSequence) -> None:
        """End a sequence that is complete or cancelled."""
        self._retire(active)
        active.mailbox.put(None)

    def discard(self, active: RunningSequence, error: BaseException) -> None:
        """End a sequence with an error. Its state may be the cause, so it is not cached."""
        assert active.state is not None
        self._store.release(active.state)
        self._leave(active)
        active.mailbox.put(error)

    def discard_all(self, error: BaseException) -> None:
        """End every running sequence with an error; every waiting one when none is running."""
        if not self.active:
            for active in self.waiting:
                active.restoring = None
                active.mailbox.put(error)
            self.waiting.clear()
        for active in list(self.active):
            self.discard(active, error)

    def preempt(self, active: RunningSequence, error: CapacityError) -> bool:
        """Free memory for a sequence by preempting the least urgent one. False when that is the sequence itself."""
        for one in self.waiting:
            one.restoring = iter(())  # what is on its way from the disk gives its memory back
        least = max(self.active, key=self.urgency)
        if least is active and len(self.active) == 1:
            self.discard(active, error)
            return False
        self._requeue(least)
        self._is_tight = True
        return least is not active

    def _preempt_for(self, active: RunningSequence) -> bool:
        """Preempt the least urgent running sequence when a waiting one has a higher priority."""
        least = max(self.active, key=self.urgency, default=None)
        if least is None or least.sequence.priority <= active.sequence.priority:
            return False
        self._requeue(least)
        return True

    def _requeue(self, active: RunningSequence) -> None:
        """Move a running sequence back into the queue. Its state stays in the prefix cache while there is room."""
        self._retire(active)
        self.waiting.append(active)
        self._counts.preemptions += 1

    def _retire(self, active: RunningSequence) -> None:
        """Turn the state of a sequence that stops into a capture of the prefix cache."""
        assert active.state is not None
        capture = self._store.retire(active.state)
        self._cache.put(active.keys(capture.length), capture, save=True)
        self._cache.remember(active.keys(len(active.sequence.token_ids)))
        self._leave(active)

    def _leave(self, active: RunningSequence) -> None:
        active.state = None
        self.active.remove(active)
        self._is_tight = False
        if self.drafter is not None:
            self.drafter.forget(active)
        self.fairness.forget({one.sequence.client for one in self.waiting + self.active})


def _limit(sequence: Sequence) -> int:
    """Maximum tokens from the cache: a row that is sampled or read has to be computed."""
    last = len(sequence.token_ids) - 1
    return last if sequence.reading is None else min(sequence.reading.start, last)
