"""One sequence: positions, what may be drawn, and when it ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine_rig import PARAMS
from loqal.engine.sequence import MediaSpan, Sequence
from loqal.types.reply import FinishReason


class Constraint:
    """Allows one token."""

    def __init__(self, only: int | None = None, banned: tuple[int, ...] = ()) -> None:
        self.only, self._banned, self.pushed, self.asked = only, banned, list[int](), 0

    def mask(self) -> np.ndarray | None:
        self.asked += 1
        return None if self.only is None else np.array([1 << self.only], np.uint32)

    def banned(self) -> tuple[int, ...]:
        return self._banned

    def push(self, token_id: int) -> None:
        self.pushed.append(token_id)

    def prepare(self) -> None:
        pass

    def draft_hint(self, most: int) -> tuple[int, ...]:
        return ()


def test_positions_of_text_count_from_zero() -> None:
    sequence = Sequence([5, 6, 7], PARAMS)
    assert sequence.positions(1, 5).tolist() == [[i, i, i] for i in range(1, 5)]


def test_what_is_written_goes_on_past_the_largest_position() -> None:
    given = np.array([[0, 0, 0], [1, 1, 9], [1, 2, 1]], np.int32)
    sequence = Sequence([5, 6, 7], PARAMS, positions=given)
    assert sequence.positions(0, 5).tolist() == [*given.tolist(), [10] * 3, [11] * 3]
    assert sequence.positions(2, 4).tolist() == [[1, 2, 1], [10] * 3]
    assert sequence.positions(4, 5).tolist() == [[11] * 3]
    with pytest.raises(ValueError, match="positions"):
        Sequence([5, 6], PARAMS, positions=given)
    with pytest.raises(ValueError, match="seed"):
        Sequence([5], replace(PARAMS, seed=None))


def test_how_a_reply_ends() -> None:
    sequence = Sequence([5], replace(PARAMS, max_tokens=3), end_ids=[9])
    assert sequence.append(1, 100) is None
    assert sequence.append(9, 100) is FinishReason.STOP
    assert sequence.append(1, 100) is FinishReason.LENGTH and sequence.num_generated == 3
    assert Sequence([5, 6], PARAMS).append(1, 3) is FinishReason.LENGTH  # the context is full
    assert Sequence([5, 6], PARAMS).append(1, 4) is None
    assert Sequence([5, 6], PARAMS, end_ids=[1]).append(1, 3) is FinishReason.STOP


def test_ends_are_banned_until_the_least_length() -> None:
    sequence = Sequence([5], replace(PARAMS, min_tokens=2), end_ids=[9, 3])
    for _ in range(2):
        allowed = sequence.allowed()
        assert allowed is not None and allowed.banned.tolist() == [3, 9]
        sequence.append(1, 100)
    assert sequence.allowed() is None


def test_a_constraint_is_asked_once_a_token_and_hears_of_each() -> None:
    guide = Constraint(only=4)
    sequence = Sequence([5], PARAMS, guide=guide)
    for _ in range(3):
        allowed = sequence.allowed()
        assert allowed is not None and allowed.only == 4
    assert guide.asked == 1
    sequence.append(4, 100)
    sequence.allowed()
    assert guide.asked == 2 and guide.pushed == [4]


def test_how_many_logits_a_choice_needs() -> None:
    plain = Sequence([5], PARAMS).num_enough()
    assert plain is not None
    assert Sequence([5], PARAMS, guide=Constraint(banned=(1, 2))).num_enough() == plain + 2
    assert Sequence([5], PARAMS, guide=Constraint(only=4)).num_enough() is None  # a mask needs the whole row


def test_times_of_tokens() -> None:
    sequence = Sequence([5], PARAMS)
    for now in (1.0, 2.0, 3.0):
        sequence.append(1, 100)
        sequence.mark_drawn(now)
    assert (sequence.first_drawn_s, sequence.last_drawn_s) == (1.0, 3.0)


def test_boundaries_and_media_of_a_prompt() -> None:
    span = MediaSpan(2, 3, b"x", lambda: np.zeros((3, 1), np.float32))
    assert span.end == 5
    assert Sequence([5] * 9, PARAMS, boundaries=[4, 1, 4]).boundaries == (1, 4)
