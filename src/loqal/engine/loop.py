"""The engine's work, step by step, on one thread.

A step feeds many sequences at once: one row for each that writes, and as many rows of prompts as the time allows.
Reading a prompt and writing a reply are the same thing with different numbers of rows.

Invariants:
* a sequence is in ``_waiting`` without a state, or in ``_active`` with one;
* what a sequence is given depends on its own tokens, parameters and seed only; everything here decides *when*.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import CapacityError, LoqalError
from ..model.decoder import Decoder
from ..ops.interface import PAGE_TOKENS, FloatArray, IntArray, Ops
from ..state.store import StateStore
from ..types import TokenEvent
from . import head_logits, sampling, step_batch
from .active import Active
from .event_stream import Mailbox
from .head_logits import HeadLogits
from .prefix_cache import CacheReport, PrefixCache
from .scheduler import LATENCY_S, Fairness, StepCosts, deal
from .sequence import Reading, Sequence
from .step_batch import Run
from .token_tree import common_len


@dataclass(slots=True)
class Counts:
    """What the engine did since it began."""

    steps: int = 0
    read_tokens: int = 0  # of prompts, computed
    cached_tokens: int = 0  # of prompts, taken from the prefix cache or from a sequence beside
    written_tokens: int = 0
    preemptions: int = 0
    longest_step_s: float = 0.0


class Loop:
    """Everything between two tokens. Not for several threads; ``Engine`` owns the one that calls it.

    Args:
        most_active: sequences that compute at the same time; the others wait.
        latency_s: how long a step should take while replies are running.
        clock: seconds.
    """

    def __init__(
        self,
        decoder: Decoder,
        store: StateStore,
        ops: Ops,
        *,
        context_len: int,
        padding_ids: IntArray,
        chunk_tokens: int,
        most_active: int,
        caches: bool = True,
        latency_s: float = LATENCY_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decoder, self._store, self._ops = decoder, store, ops
        self._context_len, self._padding_ids, self._chunk_tokens = context_len, padding_ids, chunk_tokens
        self._most_active, self._latency_s, self._clock = most_active, latency_s, clock
        self.cache = PrefixCache(store, is_on=caches)
        self.costs, self.counts = StepCosts(), Counts()
        self._fairness = Fairness()
        self._waiting: list[Active] = []
        self._active: list[Active] = []
        self._num_arrived = 0
        self._is_tight = False  # somebody was preempted; nobody new comes in before somebody has left

    # Arrivals and departures ----------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._active

    def add(self, sequence: Sequence, mailbox: Mailbox[TokenEvent]) -> Active:
        """Take a sequence in."""
        self._fairness.arrive(sequence.client, {one.sequence.client for one in self._waiting + self._active})
        active = Active(sequence, mailbox, self._num_arrived, self.cache.media)
        self._num_arrived += 1
        self._waiting.append(active)
        return active

    def cancel(self, active: Active) -> None:
        """End a sequence before the next step. What it has read stays in the prefix cache."""
        active.is_cancelled = True
        if active in self._waiting:
            self._waiting.remove(active)
            active.mailbox.put(None)
        elif active in self._active:
            self._retire(active)
            active.mailbox.put(None)

    def cancel_all(self) -> None:
        """End every sequence before the next step."""
        for active in self._waiting + self._active:
            self.cancel(active)

    def fail_all(self, error: BaseException) -> None:
        """End what is running after an error in the middle of a step: no state can be trusted any more."""
        for active in self._active:
            if active.state is not None:
                self._store.release(active.state)
            active.mailbox.put(error)
        self._active.clear()
        self.cache.clear()

    def check(self) -> None:
        """Assert that every slot and page belongs to somebody, and to nobody twice."""
        self._store.check([*(one.state for one in self._active if one.state), *self.cache.captures])

    # A step ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Advance some of the sequences. Does nothing when there are none."""
        self._admit()
        shares = self._shares()
        runs: list[tuple[Active, Run]] = []
        for active, rows in shares:
            run = self._prepare(active, rows)
            if run is not None:
                runs.append((active, run))
        # Making room for one may have put another aside, after its run was laid out.
        self._drop_copies([run for active, run in runs if active.state is not run.state])
        runs = [(active, run) for active, run in runs if active.state is run.state]
        if runs:
            self._run(runs)

    def _run(self, runs: list[tuple[Active, Run]]) -> None:
        started = self._clock()
        writing = sum(len(run.token_ids) for active, run in runs if active.is_writing)
        batch = step_batch.build([run for _, run in runs])
        try:
            hidden = self._ops.run_step(lambda step: self._decoder.forward(step, self._store), batch)
            hidden = self._ops.select(hidden, batch.logit_rows)
        except BaseException:
            self._drop_copies([run for _, run in runs])
            raise
        for active, run in runs:
            self._store.advance(run.state, len(run.token_ids))
            self._keep(active, run)
        self._finish(runs, hidden)
        seconds = self._clock() - started
        self.costs.observe(writing, batch.num_tokens - writing, seconds)
        self.counts.steps += 1
        self.counts.longest_step_s = max(self.counts.longest_step_s, seconds)

    def _shares(self) -> list[tuple[Active, int]]:
        """Who computes how many rows now, the most urgent first."""
        order = sorted(self._active, key=self._urgency)
        writing = [active for active in order if active.is_writing]
        reading = [active for active in order if not active.is_writing]
        rows = self._chunk_tokens
        if writing:
            rows = self.costs.affordable_rows(len(writing), self._latency_s, rows)
        shares = zip(reading, deal([active.num_missing for active in reading], rows), strict=True)
        return [(active, 1) for active in writing] + [(active, share) for active, share in shares if share]

    def _urgency(self, active: Active) -> tuple[int, float, int]:
        sequence = active.sequence
        return sequence.priority, self._fairness.served(sequence.client), active.arrival

    def _prepare(self, active: Active, rows: int) -> Run | None:
        """Lay out the rows of one sequence and make room for them; None when it has to give way itself."""
        while active.state is not None:
            try:
                self._store.reserve(active.state, rows)
                break
            except CapacityError as error:
                if not self._give_way(active, error):
                    return None
        state, sequence = active.state, active.sequence
        if state is None:
            return None
        start, end = state.length, state.length + rows
        is_last = end == len(sequence.token_ids)
        if sequence.reading is not None:
            logit_rows = list(range(max(0, sequence.reading.start - start), rows))
        else:
            logit_rows = [rows - 1] if is_last else []
        try:
            inputs = active.inputs(start, end)
        except Exception as error:  # of whoever provides the media
            self._discard(active, error)
            return None
        positions, copies = sequence.positions(start, end), self._captures(active, start, end)
        return Run(state, sequence.token_ids[start:end], positions, logit_rows, copies, inputs=inputs)

    def _captures(self, active: Active, start: int, end: int) -> list[tuple[int, int]]:
        """Rows of a run after which its state is copied, and the slots for the copies."""
        due = [length for length in active.planned if start < length <= end]
        active.planned = [length for length in active.planned if length > end]
        found = []
        for length in due:
            try:
                found.append((length - start - 1, self._store.capture_slot()))
            except CapacityError:
                break  # copies are a convenience
        return found

    def _drop_copies(self, runs: list[Run]) -> None:
        """Give back the slots of copies that will not be made."""
        for run in runs:
            for _, slot in run.captures:
                self._store.drop_slot(slot)

    def _keep(self, active: Active, run: Run) -> None:
        """Put the copies that a step made into the prefix cache."""
        start = run.state.length - len(run.token_ids)
        for row, slot in run.captures:
            length = start + row + 1
            self.cache.put(active.keys(length), self._store.share(run.state, slot, length))

    def _finish(self, runs: list[tuple[Active, Run]], hidden: FloatArray) -> None:
        """Hand out what a step found: tokens drawn, rows read."""
        at = 0
        drawing: list[tuple[Active, FloatArray]] = []
        for active, run in runs:
            rows = hidden[at : at + len(run.logit_rows)]
            at += len(run.logit_rows)
            sequence = active.sequence
            self._fairness.charge(sequence.client, len(run.token_ids))
            sequence.num_read = min(max(sequence.num_read, run.state.length), sequence.prompt_len)
            start = run.state.length - len(run.token_ids)
            self.counts.read_tokens += max(0, min(run.state.length, sequence.prompt_len) - start)
            if sequence.reading is not None:
                self._hand_over(active, sequence.reading, rows)
            elif len(rows):
                drawing.append((active, rows))
                if sequence.num_generated == 0:
                    drawing += [(fork, rows) for fork in self._fork(active)]
        self._draw(drawing)

    def _hand_over(self, active: Active, reading: Reading, rows: FloatArray) -> None:
        """Give rows to whoever wanted them."""
        try:
            if len(rows):
                reading.take(rows)
        except Exception as error:  # theirs
            self._discard(active, error)
            return
        if active.num_missing == 0:
            self._end(active)

    def _draw(self, drawing: list[tuple[Active, FloatArray]]) -> None:
        """Draw the next token of each sequence from its hidden row [1 D]."""
        if not drawing:
            return
        enough = [sampling.num_enough(active.sequence.params, active.sequence.counted) for active, _ in drawing]
        hidden = np.concatenate([rows for _, rows in drawing])
        all_logits = head_logits.of_rows(self._decoder, hidden, enough, self._padding_ids)
        for (active, _), logits in zip(drawing, all_logits, strict=True):
            try:
                event = self._choose(active.sequence, logits)
            except LoqalError as error:
                self._discard(active, error)
                continue
            self.counts.written_tokens += 1
            active.sequence.mark_drawn(self._clock())
            active.mailbox.put(event)
            if event.finish_reason is not None:
                self._end(active)

    def _choose(self, sequence: Sequence, logits: HeadLogits) -> TokenEvent:
        params = sequence.params
        token_id = sampling.choose(
            logits,
            params,
            self._ops.candidates,
            seed=sequence.seed,
            position=len(sequence.token_ids),
            counted=sequence.counted,
        )
        logprobs = None
        if params.logprobs is not None:
            logprobs = sampling.logprobs(logits.row(), token_id, params.logprobs, self._ops.candidates)
        return TokenEvent(token_id, logprobs, sequence.append(token_id, self._context_len))

    # Coming in and going out ------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give states to those that wait, the most urgent first."""
        for active in sorted(self._waiting, key=self._urgency):
            if len(self._active) >= self._most_active or self._is_tight:
                if not self._preempt_for(active):
                    break
            elif self._leader_of(active) is not None:
                continue
            try:
                self._begin(active)
            except CapacityError as error:
                if not self._active:
                    self._waiting.remove(active)
                    active.mailbox.put(error)
                break

    def _begin(self, active: Active) -> None:
        """Give a state to a sequence that waits: from the deepest capture, or a fresh one."""
        sequence = active.sequence
        tokens = len(sequence.token_ids)
        limit = tokens - 1 if sequence.reading is None else min(sequence.reading.start, tokens - 1)
        keys = active.keys(tokens)
        capture, report = self.cache.take(keys, limit)
        try:
            active.state = self._store.open() if capture is None else self._store.adopt(capture)
        finally:
            if capture is not None:
                self.cache.unpin(capture)
        self._waiting.remove(active)
        self._active.append(active)
        if sequence.num_generated == 0:
            sequence.began_s = self._clock()
            sequence.cache = report
            sequence.num_read = report.cached
            self.counts.cached_tokens += report.cached
        ends = [span.end for span in sequence.media]
        active.planned = self.cache.plan(tokens, report, sequence.boundaries, ends)
        self.cache.remember(keys)

    def _leader_of(self, active: Active) -> Active | None:
        """A sequence that is reading the same beginning right now, and further than anything that is kept.

        Waiting for it saves reading twice: it leaves a copy where the two part, or forks where its prompt ends.
        """
        if active.sequence.reading is not None or active.sequence.num_generated:
            return None
        keys = active.prompt_keys
        for other in sorted(self._active, key=lambda one: one.arrival):
            if other.sequence.num_read >= other.sequence.prompt_len or not self.cache.is_on:
                continue
            shared = common_len(keys, other.prompt_keys)
            if shared - other.length < PAGE_TOKENS or other.sequence.priority > active.sequence.priority:
                continue
            part = min(shared, len(keys) - 1)
            is_same = shared == len(keys) == len(other.prompt_keys) and other.sequence.reading is None
            if part > other.length and not is_same and part not in other.planned:
                other.planned = sorted([*other.planned, part])
            return other
        return None

    def _fork(self, leader: Active) -> list[Active]:
        """Start those that wait with the very prompt that a sequence has just read, from its state."""
        forks: list[Active] = []
        for active in sorted(self._waiting, key=self._urgency):
            is_same = np.array_equal(active.prompt_keys, leader.prompt_keys)
            if not is_same or active.sequence.reading is not None or active.sequence.num_generated:
                continue
            if len(self._active) >= self._most_active or leader.state is None:
                break
            try:
                active.state = self._store.fork(leader.state)
            except CapacityError:
                break
            self._waiting.remove(active)
            self._active.append(active)
            length = active.sequence.prompt_len
            active.sequence.began_s = self._clock()
            active.sequence.cache = CacheReport(length, length, None)
            active.sequence.num_read = length
            self.counts.cached_tokens += length
            forks.append(active)
        return forks

    def _preempt_for(self, active: Active) -> bool:
        """Put the least urgent running sequence aside when a waiting one has a higher priority."""
        least = max(self._active, key=self._urgency, default=None)
        if least is None or least.sequence.priority <= active.sequence.priority:
            return False
        self._put_aside(least)
        return True

    def _give_way(self, active: Active, error: CapacityError) -> bool:
        """Free memory for a sequence by putting the least urgent one aside. False when that is the sequence itself."""
        least = max(self._active, key=self._urgency)
        if least is active and len(self._active) == 1:
            self._discard(active, error)
            return False
        self._put_aside(least)
        self._is_tight = True
        return least is not active

    def _put_aside(self, active: Active) -> None:
        """Back into the queue. What it has seen stays in the prefix cache for as long as there is room."""
        self._retire(active)
        self._waiting.append(active)
        self.counts.preemptions += 1

    def _end(self, active: Active) -> None:
        """The sequence is complete."""
        self._retire(active)
        active.mailbox.put(None)

    def _discard(self, active: Active, error: BaseException) -> None:
        """The sequence has failed, and its state may be the reason."""
        assert active.state is not None
        self._store.release(active.state)
        self._leave(active)
        active.mailbox.put(error)

    def _retire(self, active: Active) -> None:
        """Turn the state of a sequence that stops into a capture."""
        assert active.state is not None
        capture = self._store.retire(active.state)
        self.cache.put(active.keys(capture.length), capture)
        self.cache.remember(active.keys(len(active.sequence.token_ids)))
        self._leave(active)

    def _leave(self, active: Active) -> None:
        active.state = None
        self._active.remove(active)
        self._is_tight = False
        self._fairness.forget({one.sequence.client for one in self._waiting + self._active})
