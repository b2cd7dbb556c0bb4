"""The engine's loop: schedules and runs steps, on one thread.

A step is one forward pass for many sequences: a row for each running reply, rows for its draft tokens, and as many rows
of prompts as the time allows. Prefill, decode and verification of drafts differ only in the number of rows. Results
depend on a sequence's own tokens, parameters and seed; what is decided here changes only when they come.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from loqal.engine import sampling, step_batch
from loqal.engine.admission import RequestQueue
from loqal.engine.cache.prefix_cache import CacheReport, PrefixCache
from loqal.engine.event_stream import Mailbox
from loqal.engine.metrics import Counts
from loqal.engine.options import EngineOptions
from loqal.engine.running import RunningSequence, prompt_keys
from loqal.engine.sampling import head_logits
from loqal.engine.sampling.head_logits import HeadLogits
from loqal.engine.sequence import PromptRead, Sequence
from loqal.engine.speculation.drafter import Drafter
from loqal.engine.step_batch import Run
from loqal.engine.step_budget import StepCosts, deal
from loqal.errors import CapacityError, LoqalError
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.ops.interface import FloatArray, StepBatch
from loqal.state.disk_cache import DiskCache
from loqal.state.store import StateStore
from loqal.types.reply import TokenEvent

_Drawing = tuple[RunningSequence, Run, FloatArray]  # rows [n D], each followed by a token to be drawn


class Loop:
    """Runs steps. Not thread-safe; ``Engine`` owns the thread that calls it.

    Args:
        draft_head: proposes draft tokens, if the model has one.
        disk: where states outlive the process, if anywhere.
    """

    def __init__(
        self,
        decoder: Decoder,
        store: StateStore,
        options: EngineOptions,
        *,
        draft_head: DraftHead | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        self._decoder, self._store, self._ops = decoder, store, decoder.ops
        self._options, self._clock = options, options.clock
        self._padding_ids = np.array(options.padding_ids, np.int32)
        self.cache = PrefixCache(store, is_on=options.caches, disk=disk)
        self.costs, self.counts = StepCosts(), Counts()
        self._drafter: Drafter | None = None
        if options.drafts and store.journals.size:
            self._drafter = Drafter(decoder, draft_head, store, options)
        self._queue = RequestQueue(store, self.cache, self.counts, options, self._drafter)

    @property
    def is_idle(self) -> bool:
        """Whether no sequence is waiting or running."""
        return self._queue.is_empty

    def add(self, sequence: Sequence, mailbox: Mailbox[TokenEvent]) -> RunningSequence:
        """Add a sequence to the request queue."""
        return self._queue.add(sequence, mailbox)

    def forecast(self, sequence: Sequence) -> CacheReport:
        """The prefix cache's report for a prompt, without taking anything."""
        return self.cache.forecast(prompt_keys(sequence, self.cache.media), len(sequence.token_ids) - 1)

    def add_all(self, arrivals: list[tuple[Sequence, Mailbox[TokenEvent]]]) -> None:
        """Add sequences that arrive together to the request queue."""
        for sequence, mailbox in arrivals:
            self.add(sequence, mailbox)

    def cancel(self, mailbox: Mailbox[TokenEvent]) -> None:
        """End the sequence of a mailbox before the next step. What it has read stays in the prefix cache."""
        for active in self._queue.waiting + self._queue.active:
            if active.mailbox is mailbox:
                self._queue.cancel(active)

    def cancel_all(self) -> None:
        """End every sequence before the next step."""
        for active in self._queue.waiting + self._queue.active:
            self._queue.cancel(active)

    def fail_all(self, error: BaseException) -> None:
        """End every running sequence after an error inside a step, which leaves all states undefined."""
        self._queue.discard_all(error)
        self.cache.clear()

    def statistics(self) -> dict[str, float]:
        """Counters and current sizes by name."""
        return {
            **dataclasses.asdict(self.counts),
            "active": len(self._queue.active),
            "waiting": len(self._queue.waiting),
            "captures": self.cache.num_captures,
            "evictions": self.cache.num_evicted,
            "state_bytes": self._store.resident_bytes,
        }

    def close(self) -> None:
        """Finish writing to disk and drop views of weights. No step may follow."""
        if self.cache.saved is not None:
            self.cache.saved.flush()
        self._drafter = self._queue.drafter = None

    def check(self) -> None:
        """Assert that every slot and page has an owner, and none has two."""
        self._store.check([*(one.state for one in self._queue.active if one.state), *self.cache.holders])

    def tidy(self) -> None:
        """Advance the on-disk prefix cache."""
        if self.cache.saved is not None:
            self.cache.saved.collect()

    # A step ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Run one step for some of the sequences. Does nothing when there are none."""
        started = self._clock()
        self.tidy()
        self._queue.admit()
        drafts = self._drafts()
        drafting_s = self._clock() - started
        runs = self._plan(drafts, drafting_s)
        if not runs:
            return
        started = self._clock()
        writing = [(active, run, active.sequence.num_generated) for active, run in runs if active.is_writing]
        batch = step_batch.build([run for _, run in runs])
        try:
            with self._ops.exclusive():
                hidden = self._decoder.forward(batch, self._store)
        except BaseException:
            self._drop_copies([run for _, run in runs])
            raise
        self._advance(runs, batch, hidden)
        self._finish(runs, self._ops.select(hidden, batch.logit_rows))
        self._account(writing, batch.num_tokens, self._clock() - started, drafting_s)

    def _plan(self, drafts: dict[int, list[int]], drafting_s: float) -> list[tuple[RunningSequence, Run]]:
        """The rows of this step, by sequence, with memory reserved for them."""
        runs: list[tuple[RunningSequence, Run]] = []
        for active, rows in self._shares(sum(map(len, drafts.values())), self._options.latency_s - drafting_s):
            run = self._prepare(active, rows, drafts.get(active.arrival, []))
            if run is not None:
                runs.append((active, run))
        # Reserving memory for one may have preempted another whose rows were planned already.
        self._drop_copies([run for active, run in runs if active.state is not run.state])
        return [(active, run) for active, run in runs if active.state is run.state]

    def _drafts(self) -> dict[int, list[int]]:
        """Draft tokens by arrival of their sequence."""
        active_ones = self._queue.active
        writing = [active for active in active_ones if active.is_writing]
        if self._drafter is None or len(writing) not in self.costs.by_rows:
            return {}  # the cost of a step without drafts has to be known first
        other_s = self._options.latency_s if len(writing) < len(active_ones) else 0.0
        try:
            drafts = self._drafter.propose(writing, self.costs, other_s)
        except CapacityError:  # drafts are optional
            return {}
        return {
            active.arrival: tokens
            for active, tokens in zip(writing, drafts, strict=True)
            if tokens and active.state is not None and self._store.defer(active.state)
        }

    def _shares(self, num_drafts: int, target_s: float) -> list[tuple[RunningSequence, int]]:
        """How many rows each sequence gets in this step beside draft tokens, the most urgent first."""
        order = sorted(self._queue.active, key=self._queue.urgency)
        writing = [active for active in order if active.is_writing]
        reading = [active for active in order if not active.is_writing]
        rows = self._options.chunk_tokens
        if writing:
            rows = self.costs.affordable_rows(len(writing) + num_drafts, target_s, rows)
        shares = zip(reading, deal([active.num_missing for active in reading], rows), strict=True)
        return [(active, 1) for active in writing] + [(active, share) for active, share in shares if share]

    def _prepare(self, active: RunningSequence, rows: int, drafts: list[int]) -> Run | None:
        """The rows of one sequence, with memory reserved for them; None when the sequence itself is preempted."""
        while active.state is not None:
            try:
                self._store.reserve(active.state, rows + len(drafts))
                break
            except CapacityError as error:
                if not self._queue.preempt(active, error):
                    return None
        state, sequence = active.state, active.sequence
        if state is None:
            return None
        start, end = state.length, state.length + rows + len(drafts)
        if sequence.reading is not None:
            logit_rows = list(range(max(0, sequence.reading.start - start), rows))
        else:
            is_last = start + rows == len(sequence.token_ids)
            logit_rows = list(range(rows - 1, end - start)) if is_last else []
        try:
            inputs = active.inputs(start, end)
        except Exception as error:  # raised by the provider of the media
            self._queue.discard(active, error)
            return None
        return Run(
            state,
            sequence.token_ids[start : start + rows] + drafts,
            sequence.positions(start, end),
            logit_rows,
            [] if drafts else self._captures(active, start, end),  # drafts may be rejected
            bool(drafts),
            inputs,
        )

    def _captures(self, active: RunningSequence, start: int, end: int) -> list[tuple[int, int]]:
        """Rows of a run after which its state is captured, and the slots for the captures."""
        due = [length for length in active.planned if start < length <= end]
        active.planned = [length for length in active.planned if length > end]
        found = []
        for length in due:
            try:
                found.append((length - start - 1, self._store.capture_slot()))
            except CapacityError:
                break  # captures are optional
        return found

    def _drop_copies(self, runs: list[Run]) -> None:
        """Release the slots of captures that will not be made."""
        for run in runs:
            for _, slot in run.captures:
                self._store.drop_slot(slot)

    def _advance(self, runs: list[tuple[RunningSequence, Run]], batch: StepBatch, hidden: FloatArray) -> None:
        """Count the rows of a step as read, apart from those whose state is deferred."""
        for start, (active, run) in zip(batch.starts, runs, strict=False):
            if not run.defer_state:
                self._store.advance(run.state, len(run.token_ids))
                self._keep(active, run)
                self._note(active, hidden[start : start + len(run.token_ids)])

    def _account(
        self, writing: list[tuple[RunningSequence, Run, int]], num_tokens: int, step_s: float, drafting_s: float
    ) -> None:
        """Learn from the duration of a step. ``writing`` holds the tokens that each sequence had before it."""
        num_writing = sum(len(run.token_ids) for _, run, _ in writing)
        self.costs.observe(num_writing, num_tokens - num_writing, step_s)
        self.counts.steps += 1
        self.counts.longest_step_s = max(self.counts.longest_step_s, step_s + drafting_s)
        if num_writing == num_tokens:
            for active, _, before in writing:
                active.sequence.drafts.spent_s += step_s + drafting_s
                written = active.sequence.num_generated - before
                active.sequence.drafts.plain_s += written * self.costs.of_rows(len(writing))

    def _keep(self, active: RunningSequence, run: Run) -> None:
        """Put the captures of a step into the prefix cache."""
        start = run.state.length - len(run.token_ids)
        for row, slot in run.captures:
            length = start + row + 1
            is_last = not active.planned and row == run.captures[-1][0]  # the next message begins here
            self.cache.put(active.keys(length), self._store.share(run.state, slot, length), save=is_last)

    def _note(self, active: RunningSequence, hidden: FloatArray) -> None:
        """Give the drafter the newest hidden rows [n D] of accepted tokens."""
        if self._drafter is not None and active.sequence.reading is None:
            end = active.length
            first = self._drafter.wanted_from(active, end - len(hidden), end)
            self._drafter.note(active, first, hidden[len(hidden) - (end - first) :])

    def _finish(self, runs: list[tuple[RunningSequence, Run]], hidden: FloatArray) -> None:
        """Deliver the results of a step: hidden rows of prompts that are read, sampled tokens of replies."""
        at = 0
        drawing: list[_Drawing] = []
        for active, run in runs:
            rows = hidden[at : at + len(run.logit_rows)]
            at += len(run.logit_rows)
            sequence = active.sequence
            self._queue.fairness.charge(sequence.client, len(run.token_ids))
            if not run.defer_state:
                start = run.state.length - len(run.token_ids)
                self.counts.read_tokens += max(0, min(run.state.length, sequence.prompt_len) - start)
                sequence.num_read = min(max(sequence.num_read, run.state.length), sequence.prompt_len)
            if sequence.reading is not None:
                self._hand_over(active, sequence.reading, rows)
            elif len(rows):
                drawing.append((active, run, rows))
                if sequence.num_generated == 0:
                    drawing += [(fork, run, rows) for fork in self._queue.fork(active)]
        if drawing:
            self._draw_all(drawing)

    def _hand_over(self, active: RunningSequence, reading: PromptRead, rows: FloatArray) -> None:
        """Deliver hidden rows to the reader of a prompt."""
        try:
            if len(rows):
                reading.take(rows)
        except Exception as error:  # theirs
            self._queue.discard(active, error)
            return
        if active.num_missing == 0:
            self._queue.end(active)

    def _draw_all(self, drawing: list[_Drawing]) -> None:
        """Sample the next tokens of each sequence."""
        enough: list[int | None] = []
        ready: list[_Drawing] = []
        for active, run, rows in drawing:
            try:
                fewest = active.sequence.num_enough()
            except LoqalError as error:
                self._queue.discard(active, error)
                continue
            ready.append((active, run, rows))
            # A token drawn in this step may be counted for the next.
            enough += [None if fewest is None else fewest + row for row in range(len(rows))]
        if not ready:
            return
        hidden = np.concatenate([rows for _, _, rows in ready])
        logits = head_logits.of_rows(self._decoder, hidden, enough, self._padding_ids)
        at = 0
        for active, run, rows in ready:
            self._draw(active, run, rows, logits[at : at + len(rows)])
            at += len(rows)

    def _draw(self, active: RunningSequence, run: Run, rows: FloatArray, logits: list[HeadLogits]) -> None:
        """Sample tokens as long as each equals the draft token that the next row was computed with."""
        sequence = active.sequence
        drafts = run.token_ids[len(run.token_ids) - len(rows) + 1 :]
        num_drawn, event = 0, None
        try:
            for row, draft in zip(logits, [*drafts, None], strict=True):
                event = self._choose(sequence, row)
                num_drawn += 1
                sequence.mark_drawn(self._clock())
                active.mailbox.put(event)
                if event.finish_reason is not None or event.token_id != draft:
                    break
        except LoqalError as error:
            self._queue.discard(active, error)
            return
        self.counts.written_tokens += num_drawn
        if run.defer_state:
            self._store.advance(run.state, num_drawn, deferred=True)
            self._note(active, rows[:num_drawn])
        if self._drafter is not None and drafts == run.token_ids[1:]:
            self._drafter.observe(active, len(drafts), num_drawn - 1)
            sequence.drafts.drafted += len(drafts)
            sequence.drafts.accepted += num_drawn - 1
            self.counts.drafted_tokens += len(drafts)
            self.counts.accepted_tokens += num_drawn - 1
        if event is not None and event.finish_reason is not None:
            self._queue.end(active)
        elif sequence.guide is not None:
            sequence.guide.prepare()

    def _choose(self, sequence: Sequence, logits: HeadLogits) -> TokenEvent:
        params = sequence.params
        token_id = sampling.choose(
            logits,
            params,
            self._ops.candidates,
            seed=sequence.seed,
            position=len(sequence.token_ids),
            counted=sequence.counted,
            allowed=sequence.allowed(),
        )
        logprobs = None
        if params.logprobs is not None:
            logprobs = sampling.logprobs(logits.row(), token_id, params.logprobs, self._ops.candidates)
        return TokenEvent(token_id, logprobs, sequence.append(token_id, self._options.context_len))
