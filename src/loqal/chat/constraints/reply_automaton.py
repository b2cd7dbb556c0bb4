"""A turn as one automaton over tokens: reasoning, then calls of tools or an answer, each with its own constraint.

It says what may come next and knows nothing of logits. What it says depends on the tokens of the reply and on the
request, so a reply stays a function of the request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from loqal.chat.constraints.reasoning_budget import Cycles, ReasoningBudget

_ANSWER_ROUNDS, _ANSWER_REPEATED = 16, 1024  # an answer may well repeat itself a few times
Mask = npt.NDArray[np.uint32]


class Matcher(Protocol):
    """Follows one reply through one grammar, see ``constraint``."""

    def copy(self) -> Matcher:
        """One that goes on by itself from the same place."""
        ...

    def mask(self) -> Mask:
        """The tokens that may come next, at least one. Raises RequestError when a bound is exceeded."""
        ...

    def push(self, token_id: int) -> None:
        """The token that was drawn. Raises RequestError when a bound is exceeded."""
        ...

    def prepare(self) -> None:
        """Begin to find the next mask beside what the caller does."""
        ...

    def draft_hint(self) -> Sequence[int]:
        """Tokens for text that must come next, as far as they were found by ``prepare``."""
        ...

    def accepts(self, token_ids: Sequence[int]) -> bool:
        """Follow given tokens; whether the grammar allows them all."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What a turn allows.

    Attributes:
        answer: follows everything after the reasoning; None where that is free.
        answer_may_call: a call of a tool may be such an answer.
        calls: follows what comes from an opening tag on, the tag included, where the rest is free.
        call_open, think_close: ids of tags; -1 where the vocabulary has none.
        gap: what stands between reasoning and an answer of a given form.
        banned_thoughts, banned_answers: ids that may not come in the reasoning, or in a free answer.
        num_words: of a mask.
    closers: tokens of texts that may end a part of a form.
    """

    ends: frozenset[int]
    num_words: int
    answer: Matcher | None = None
    answer_may_call: bool = False
    calls: Matcher | None = None
    call_open: int = -1
    think_close: int = -1
    gap: tuple[int, ...] = ()
    banned_thoughts: tuple[int, ...] = ()
    banned_answers: tuple[int, ...] = ()
    closers: tuple[tuple[int, ...], ...] = ()

    @property
    def say_anything(self) -> bool:
        """Whether an answer without reasoning is entirely free."""
        return self.answer is None and self.calls is None and not self.banned_answers


class ReplyConstraint:
    """Follows one reply, see ``engine.guide.TokenConstraint``.

    Args:
        governor: of the reasoning that the prompt has opened; None where it has not.

    Attributes:
        was_cycling: the answer repeated itself in a cycle and was brought to an end.
    """

    def __init__(self, rules: Rules, governor: ReasoningBudget | None) -> None:
        self._rules, self._governor = rules, governor
        self._matcher: Matcher | None = None
        self._has_ended = False
        self._forced: deque[int] = deque()
        self._cycles = Cycles(_ANSWER_ROUNDS, _ANSWER_REPEATED)
        self.was_cycling = False
        if governor is None:
            self._begin_answer()
        else:
            self._forced.extend(governor.forced())

    def mask(self) -> Mask | None:
        """See Guide."""
        if self._forced:
            mask: Mask = np.zeros(self._rules.num_words, np.uint32)
            mask[self._forced[0] >> 5] = 1 << (self._forced[0] & 31)
            return mask
        return None if self._matcher is None else self._matcher.mask()

    def banned(self) -> Sequence[int]:
        """See Guide."""
        if self._governor is not None:
            return self._rules.banned_thoughts
        return () if self._has_ended else self._rules.banned_answers

    def push(self, token_id: int) -> None:
        """See Guide."""
        was_forced = bool(self._forced)
        if was_forced:
            self._forced.popleft()
        if self._governor is not None:
            self._think(token_id, self._governor)
        elif token_id in self._rules.ends:
            self._matcher, self._has_ended = None, True
        elif not was_forced and not self._has_ended:
            self._answer(token_id)

    def prepare(self) -> None:
        """See Guide."""
        if self._matcher is not None and not self._forced:
            self._matcher.prepare()

    def draft_hint(self, most: int) -> Sequence[int]:
        """See Guide."""
        if self._forced:
            return list(self._forced)[:most]
        return self._matcher.draft_hint()[:most] if self._matcher is not None else ()

    def _think(self, token_id: int, governor: ReasoningBudget) -> None:
        if token_id == self._rules.think_close:
            self._governor = None
            self._forced.extend(self._rules.gap)
            self._begin_answer()
            return
        if token_id == self._rules.call_open and self._can_call:
            self._governor = None  # the call ends the reasoning, without its tag
            self._forced.clear()
            self._begin_answer()
            self._answer(token_id)
            return
        governor.push(token_id)
        if not self._forced:
            self._forced.extend(governor.forced())

    @property
    def _can_call(self) -> bool:
        return self._rules.calls is not None or (self._rules.answer is not None and self._rules.answer_may_call)

    def _begin_answer(self) -> None:
        self._matcher = None if self._rules.answer is None else self._rules.answer.copy()

    def _answer(self, token_id: int) -> None:
        if self._matcher is None and token_id == self._rules.call_open and self._rules.calls is not None:
            self._matcher = self._rules.calls.copy()
        if self._matcher is not None:
            self._matcher.push(token_id)
        self._cycles.push(token_id)
        if self._cycles.is_circling:
            self._leave_cycle()

    def _may_end(self, matcher: Matcher) -> bool:
        mask = matcher.copy().mask()
        return any(mask[token_id >> 5] >> (token_id & 31) & 1 for token_id in self._rules.ends)

    def _leave_cycle(self) -> None:
        """Force what ends the answer, or the part of its form that repeats itself."""
        self.was_cycling = True
        self._cycles = Cycles(_ANSWER_ROUNDS, _ANSWER_REPEATED)
        end = (min(self._rules.ends),) if self._rules.ends else ()
        if self._matcher is not None and not self._may_end(self._matcher):
            for tokens in self._rules.closers:
                matcher = self._matcher.copy()
                if tokens and matcher.accepts(tokens):
                    self._matcher = matcher
                    self._forced.extend(tokens)
                    return
        self._forced.extend(end)
