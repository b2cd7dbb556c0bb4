"""Speculative decoding: draft tokens for running replies, which the next step verifies.

Draft tokens come from three sources: the constraint of the reply (``TokenConstraint.draft_hint``), the sequence itself
(``NgramIndex``) and the model's draft head. They change only the speed: a draft token is accepted exactly when it is
the token that would have been sampled.

The draft head keeps keys and values of its own, in the pages of the sequence but only from ``start`` on, since distant
positions improve drafts little and cost reading. Row p pairs the trunk's hidden row p with token p + 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from loqal.engine import sampling
from loqal.engine.options import EngineOptions
from loqal.engine.running import RunningSequence
from loqal.engine.speculation.depth import AcceptanceRate, allocate
from loqal.engine.speculation.ngram import NgramIndex
from loqal.engine.speculation.vocabulary import DraftVocabulary
from loqal.engine.step_batch import Run, build
from loqal.engine.step_budget import StepCosts
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.ops.interface import JOURNAL_ROWS, PAGE_TOKENS, FloatArray, IntArray
from loqal.state.store import SequenceState, StateStore
from loqal.types.sampling import SamplingParams

MOST_DRAFTS = JOURNAL_ROWS - 1
WINDOW_TOKENS = 2 * PAGE_TOKENS
"""Hidden rows before the newest token that the draft head reads when it starts."""

_HEAD_DEPTH = 4  # deeper draft tokens of the head are rarely accepted
_HINT_CHANCE = 0.9  # initial acceptance rate of a constraint's hints
_CANDIDATES = 64  # of a draft token, where the request sets no lower top_k


@dataclasses.dataclass(slots=True)
class DraftState:
    """State of speculative decoding for one sequence."""

    ngrams: NgramIndex = dataclasses.field(default_factory=NgramIndex)
    ngram_rate: AcceptanceRate = dataclasses.field(default_factory=AcceptanceRate)
    head_rate: AcceptanceRate = dataclasses.field(default_factory=AcceptanceRate)
    hint_rate: AcceptanceRate = dataclasses.field(default_factory=lambda: AcceptanceRate(_HINT_CHANCE))
    uses_head: bool = False  # for the draft tokens that are being verified
    used: AcceptanceRate = dataclasses.field(default_factory=AcceptanceRate)  # of the source that proposed them
    start: int = 0  # first position with keys and values of the draft head
    done: int = 0  # positions before this one have them
    backlog: list[FloatArray] = dataclasses.field(default_factory=list)  # hidden rows from ``done`` on

    def restart(self, position: int) -> None:
        """Restart with the hidden row at ``position``."""
        self.start = self.done = position
        self.backlog = []

    def shorten(self) -> None:
        """Drop old hidden rows, so that the first one left is at the start of a page."""
        rows = np.concatenate(self.backlog)
        first = max(self.done, self.backlog_end - WINDOW_TOKENS)
        first = min(-(-first // PAGE_TOKENS) * PAGE_TOKENS, self.backlog_end)
        rows = rows[first - self.done :]
        self.restart(first)
        if len(rows):
            self.backlog = [rows]

    @property
    def backlog_end(self) -> int:
        """One past the last position with a hidden row."""
        return self.done + sum(len(rows) for rows in self.backlog)


class Drafter:
    """Proposes draft tokens for all sequences of a step.

    Args:
        head: the model's draft head, or None.
    """

    def __init__(
        self,
        decoder: Decoder,
        head: DraftHead | None,
        store: StateStore,
        options: EngineOptions,
    ) -> None:
        self._context_len, self._clock = options.context_len, options.clock
        self._decoder, self._head, self._store = decoder, head, store
        padding_ids = np.array(options.padding_ids, np.int32)
        self._vocabulary = DraftVocabulary(decoder, padding_ids) if head is not None else None
        self._pass_s = 0.0  # of the draft head, running
        self._states: dict[int, DraftState] = {}  # by arrival

    def forget(self, active: RunningSequence) -> None:
        """Drop the state of a sequence that has ended or was preempted."""
        self._states.pop(active.arrival, None)

    def wanted_from(self, active: RunningSequence, start: int, end: int) -> int:
        """The first of the tokens ``start`` to ``end`` whose hidden row is needed; ``end`` for none."""
        if self._head is None:
            return end
        last_media = max((span.end for span in active.sequence.media), default=0)
        return min(end, max(start, last_media, len(active.sequence.token_ids) - WINDOW_TOKENS))

    def note(self, active: RunningSequence, position: int, hidden: FloatArray) -> None:
        """Add hidden rows [n D] of accepted tokens, the first of them at ``position``."""
        if self._head is None or not len(hidden):
            return
        state = self._states.setdefault(active.arrival, DraftState())
        if position != state.backlog_end or state.start % PAGE_TOKENS:
            state.restart(position)
        state.backlog.append(hidden.copy())
        if state.backlog_end - state.done > 2 * WINDOW_TOKENS or state.start % PAGE_TOKENS:
            state.shorten()

    def observe(self, active: RunningSequence, tried: int, accepted: int) -> None:
        """Learn how many of the draft tokens of a step were accepted."""
        state = self._states.setdefault(active.arrival, DraftState())
        for rate in (state.used,) if tried else (state.head_rate, state.ngram_rate, state.hint_rate):
            rate.observe(tried, accepted)

    def propose(self, writing: Sequence[RunningSequence], costs: StepCosts, other_s: float) -> list[list[int]]:
        """Draft tokens for each running reply.

        Args:
            other_s: seconds of the step that go to prompts.
        """
        states = [self._states.setdefault(active.arrival, DraftState()) for active in writing]
        copies, chances, limits = [], [], []
        for active, state in zip(writing, states, strict=True):
            most = self._most(active)
            copied, rate = self._known(active, state, most)
            head_limit = min(state.head_rate.limit(most), _HEAD_DEPTH) if self._can_draft(active, state) else 0
            # N-grams cost nothing, so they are preferred where their rate is about as good.
            state.uses_head = head_limit > 0 and not (copied and rate.expected >= state.head_rate.expected)
            state.used = state.head_rate if state.uses_head else rate
            copies.append(copied)
            chances.append(state.used.expected)
            limits.append(head_limit if state.uses_head else len(copied))
        pass_s = self._pass_s if any(state.uses_head for state in states) else 0.0
        depths = allocate(chances, limits, lambda rows: other_s + costs.of_rows(rows), pass_s)
        drafts = [copied[:depth] for copied, depth in zip(copies, depths, strict=True)]
        by_head = [i for i, state in enumerate(states) if state.uses_head and depths[i]]
        if by_head:
            found = self._run_head([(writing[i], states[i], depths[i]) for i in by_head])
            for i, tokens in zip(by_head, found, strict=True):
                drafts[i] = tokens
        return drafts

    def _known(self, active: RunningSequence, state: DraftState, most: int) -> tuple[list[int], AcceptanceRate]:
        """Draft tokens that cost nothing: the constraint's hint, or what followed the same n-gram before."""
        guide, sequence = active.sequence.guide, active.sequence
        draft_hint = [] if guide is None else list(guide.draft_hint(min(most, state.hint_rate.limit(most))))
        if draft_hint:
            return draft_hint, state.hint_rate
        return state.ngrams.propose(sequence.token_ids, min(most, state.ngram_rate.limit(most))), state.ngram_rate

    def _most(self, active: RunningSequence) -> int:
        """Maximum number of draft tokens that a sequence can use."""
        sequence = active.sequence
        left = self._context_len - len(sequence.token_ids)
        if sequence.params.max_tokens is not None:
            left = min(left, sequence.params.max_tokens - sequence.num_generated)
        return max(0, min(MOST_DRAFTS, left - 1))

    def _can_draft(self, active: RunningSequence, state: DraftState) -> bool:
        """Whether the hidden row of the newest token but one is there."""
        return self._head is not None and bool(state.backlog) and state.backlog_end == active.length

    def _run_head(self, wanted: list[tuple[RunningSequence, DraftState, int]]) -> list[list[int]]:
        """Draft tokens of the draft head, one pass for every depth."""
        started = self._clock()
        for active, _, depth in wanted:
            assert active.state is not None
            self._store.reserve(active.state, 1 + depth)
        rows, runs = [], []
        for active, state, _ in wanted:
            rows += state.backlog
            tokens = active.sequence.token_ids[state.done + 1 : state.backlog_end + 1]
            runs.append(self._draft_run(active, state, state.done, tokens))
            state.done, state.backlog = state.backlog_end, []
        drafts: list[list[int]] = [[] for _ in wanted]
        live = list(range(len(wanted)))
        num_passes = 0
        while live:
            num_passes += 1
            out = self._forward(runs, np.concatenate(rows))
            chosen = self._choose([(wanted[i][0], drafts[i]) for i in live], out)
            rows, runs, still_live = [], [], []
            for at, i in enumerate(live):
                active, state, depth = wanted[i]
                drafts[i].append(chosen[at])
                if len(drafts[i]) < depth:  # continue from the head's own output, as if the draft token were accepted
                    still_live.append(i)
                    rows.append(out[at : at + 1])
                    runs.append(self._draft_run(active, state, state.done + len(drafts[i]) - 1, drafts[i][-1:]))
            live = still_live
        seconds = (self._clock() - started) / num_passes
        self._pass_s += (seconds - self._pass_s) * (0.2 if self._pass_s else 1.0)
        return drafts

    def _draft_run(self, active: RunningSequence, state: DraftState, position: int, tokens: list[int]) -> Run:
        """Rows of the draft head from ``position`` on: its pages begin at ``start``."""
        assert active.state is not None
        first = state.start // PAGE_TOKENS
        view = SequenceState(active.state.slot, active.state.pages[first:], position - state.start)
        return Run(view, tokens, active.sequence.positions(position, position + len(tokens)), [len(tokens) - 1])

    def _forward(self, runs: list[Run], hidden: FloatArray) -> FloatArray:
        """The last hidden row of each run: -> [R D]."""
        assert self._head is not None
        head, pages, ops = self._head, self._store.draft_pages, self._decoder.ops
        batch = build(runs)
        with ops.exclusive():
            out = head.forward(batch, hidden, pages)
        return ops.select(out, batch.logit_rows)

    def _choose(self, drafted: list[tuple[RunningSequence, list[int]]], hidden: FloatArray) -> list[int]:
        """The tokens that the requests would sample from the draft logits, with their own noise."""
        assert self._vocabulary is not None
        every = [_draft_params(active.sequence.params) for active, _ in drafted]
        enough = [
            sampling.num_enough(params, active.sequence.counted) or _CANDIDATES
            for params, (active, _) in zip(every, drafted, strict=True)
        ]
        for active, _ in drafted:
            sequence = active.sequence
            self._vocabulary.show(sequence.token_ids if sequence.num_generated <= 2 else sequence.token_ids[-8:])
            self._vocabulary.show(sequence.end_ids)
        found = self._vocabulary.top_k(hidden, max(enough))
        return [
            sampling.choose(
                _Few(*few),
                params,
                self._decoder.ops.candidates,
                seed=active.sequence.seed,
                position=len(active.sequence.token_ids) + len(tokens),
                counted=active.sequence.counted,
            )
            for few, params, (active, tokens) in zip(found, every, drafted, strict=True)
        ]


class _Few:
    """``sampling.Logits`` that know the top k only."""

    def __init__(self, ids: IntArray, values: FloatArray) -> None:
        self._ids, self._values = ids, values

    def top_k(self, k: int) -> tuple[IntArray, FloatArray]:
        return self._ids[:k], self._values[:k]

    def row(self) -> FloatArray:
        raise NotImplementedError("draft tokens are chosen from the top k")


def _draft_params(params: SamplingParams) -> SamplingParams:
    """The request's parameters as far as they can be followed without the whole row of logits."""
    return dataclasses.replace(
        params,
        top_k=min(params.top_k or _CANDIDATES, _CANDIDATES),
        presence_penalty=max(0.0, params.presence_penalty or 0.0),
        frequency_penalty=max(0.0, params.frequency_penalty or 0.0),
        repetition_penalty=max(1.0, params.repetition_penalty or 1.0),
        logit_bias=None,
    )
