"""Sees to it that reasoning ends and leaves room for an answer.

Everything here is a function of the reply's own tokens and of the request. Near the end of the budget a sentence tells
the model to finish, at the end of a line where there is one; at the end of the budget the reasoning is closed. So is
reasoning that runs in circles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loqal.chat.tokens.tokenizer import Tokenizer

_NUDGE = "I have thought about this for long and should come to my answer now.\n"
_FEWEST_TO_NUDGE = 128  # tokens of a budget; a smaller one has no room for a sentence
_MOST_KEPT = 1024  # tokens kept for the answer
_LONGEST_CYCLE, _FEWEST_ROUNDS, _FEWEST_REPEATED = 512, 4, 96


def budget_of(given: int | None, room: int) -> int:
    """Most tokens of reasoning, of ``room`` for the whole reply: a quarter of it is kept for the answer."""
    left = room - min(room // 4, _MOST_KEPT)
    return max(1, left if given is None else min(given, left))


@dataclass(frozen=True, slots=True)
class PhraseTokens:
    """What is written into reasoning, in token ids of one vocabulary."""

    line_end: list[int]
    wrap_up_hint: list[int]
    close: int  # the closing tag


def phrase_tokens(tokenizer: Tokenizer, close: int) -> PhraseTokens:
    """The words in a model's tokens."""
    return PhraseTokens(tokenizer.encode_text("\n"), tokenizer.encode_text(_NUDGE), close)


class ReasoningBudget:
    """Follows the reasoning of one reply.

    Args:
        budget: most tokens, the closing tag included; at least 1.
    """

    def __init__(self, tokenizer: Tokenizer, words: PhraseTokens, budget: int) -> None:
        self._tokenizer, self._words = tokenizer, words
        self._num_tokens = 0
        self._last_closing = budget - 1  # tokens after which nothing but the tag fits
        self._closing = max(0, self._last_closing - len(words.line_end))
        self._nudging = self._closing - budget // 8 - len(words.wrap_up_hint) if budget >= _FEWEST_TO_NUDGE else budget
        self._nudging_late = (
            self._closing - budget // 16 - len(words.wrap_up_hint) if self._nudging < budget else budget
        )
        self._was_nudged = False
        self._at_line_end = True
        self._cycles = Cycles()

    def forced(self) -> list[int]:
        """The tokens that come next whatever the model likes."""
        line_end = [] if self._at_line_end or self._num_tokens >= self._last_closing else self._words.line_end
        if self._num_tokens >= self._closing or self._cycles.is_circling:
            return [*line_end, self._words.close]
        late = self._num_tokens >= self._nudging_late
        if not self._was_nudged and (late or (self._at_line_end and self._num_tokens >= self._nudging)):
            self._was_nudged = True
            return [*line_end, *self._words.wrap_up_hint]
        return []

    def push(self, token_id: int) -> None:
        """A token of the reasoning."""
        self._num_tokens += 1
        self._at_line_end = self._tokenizer.token_bytes(token_id).endswith(b"\n")
        self._cycles.push(token_id)


class Cycles:
    """Notices that tokens repeat in a cycle.

    Args:
        rounds: of a cycle, beside the first.
        tokens: that are repeated, in short cycles.

    Attributes:
        is_circling: the newest tokens are at least so many more rounds of the same cycle.
    """

    def __init__(self, rounds: int = _FEWEST_ROUNDS, tokens: int = _FEWEST_REPEATED) -> None:
        self._recent: npt.NDArray[np.int64] = np.full(_LONGEST_CYCLE, -1, np.int64)  # newest first
        self._run: npt.NDArray[np.int64] = np.zeros(_LONGEST_CYCLE, np.int64)  # repeated tokens, by length of cycle
        self._enough = np.maximum(np.arange(1, _LONGEST_CYCLE + 1) * rounds, tokens)
        self.is_circling = False

    def push(self, token_id: int) -> None:
        """The next token."""
        self._run = np.where(self._recent == token_id, self._run + 1, 0)
        self._recent = np.concatenate([[token_id], self._recent[:-1]])
        self.is_circling = bool((self._run >= self._enough).any())
