"""A reply as one automaton: reasoning, what stands after it, an answer or calls, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loqal.chat.constraints.reply_automaton import ReplyConstraint, Rules

END, CALL, CLOSE, GAP, WORD = 1, 2, 3, 4, 40


class Tape:
    """A matcher that allows one token and notes what it gets."""

    def __init__(self, token_id: int) -> None:
        self.token_id, self.pushed, self.prepared, self.copies = token_id, list[int](), 0, list["Tape"]()

    def copy(self) -> Tape:
        self.copies.append(Tape(self.token_id))
        return self.copies[-1]

    def mask(self) -> np.ndarray:
        return mask_of(self.token_id)

    def push(self, token_id: int) -> None:
        self.pushed.append(token_id)

    def prepare(self) -> None:
        self.prepared += 1

    def draft_hint(self) -> Sequence[int]:
        return [7, 8, 9]

    def accepts(self, token_ids: Sequence[int]) -> bool:
        return True


class Budget:
    """Closes the reasoning after some tokens, in two forced steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def forced(self) -> Sequence[int]:
        return (WORD, CLOSE) if self.left == 0 else ()

    def push(self, token_id: int) -> None:
        self.left -= 1


def mask_of(*token_ids: int) -> np.ndarray:
    mask = np.zeros(2, np.uint32)
    for token_id in token_ids:
        mask[token_id >> 5] |= 1 << (token_id & 31)
    return mask


def rules(**more: Any) -> Rules:
    return Rules(
        ends=frozenset({END}),
        num_words=2,
        call_open=CALL,
        think_close=CLOSE,
        banned_thoughts=(END, CALL),
        **more,
    )


def constraint(found: Rules, budget: Budget | None = None) -> ReplyConstraint:
    return ReplyConstraint(found, budget)  # type: ignore[arg-type]


def only(guide: ReplyConstraint) -> int | None:
    mask = guide.mask()
    if mask is None:
        return None
    bits = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
    assert len(bits) == 1
    return int(bits[0])


def test_an_answer_of_a_form_is_followed_to_its_end() -> None:
    answer = Tape(50)
    guide = constraint(rules(answer=answer))
    assert only(guide) == 50 and not answer.pushed
    guide.push(50)
    guide.prepare()
    assert list(guide.draft_hint(2)) == [7, 8]
    guide.push(END)
    assert guide.mask() is None and list(guide.banned()) == [] and list(guide.draft_hint(9)) == []
    guide.push(50)  # what comes after the end is not looked at
    assert answer.copies[0].pushed == [50] and answer.copies[0].prepared == 1


def test_reasoning_is_free_and_then_the_answer_begins_after_the_gap() -> None:
    answer = Tape(50)
    guide = constraint(rules(answer=answer, gap=(GAP, GAP + 1)), Budget(99))
    assert guide.mask() is None and list(guide.banned()) == [END, CALL]
    guide.push(20)
    assert not answer.copies
    guide.push(CLOSE)
    assert list(guide.banned()) == []
    assert list(guide.draft_hint(9)) == [GAP, GAP + 1] and list(guide.draft_hint(1)) == [GAP]
    for token_id in (GAP, GAP + 1):
        assert only(guide) == token_id
        guide.prepare()
        guide.push(token_id)
    assert not answer.copies[0].pushed and answer.copies[0].prepared == 0  # the gap is no part of the answer
    assert only(guide) == 50


def test_a_spent_budget_closes_the_reasoning() -> None:
    guide = constraint(rules(), Budget(2))
    for token_id in (20, 21):
        assert guide.mask() is None
        guide.push(token_id)
    for token_id in (WORD, CLOSE):
        assert only(guide) == token_id
        guide.push(token_id)
    assert guide.mask() is None and list(guide.banned()) == []


def test_no_budget_at_all_closes_it_at_once() -> None:
    assert only(constraint(rules(), Budget(0))) == WORD


def test_a_call_is_followed_from_its_tag_on() -> None:
    calls = Tape(51)
    guide = constraint(rules(calls=calls))
    assert guide.mask() is None
    guide.push(20)
    assert guide.mask() is None and not calls.copies
    guide.push(CALL)
    assert only(guide) == 51 and calls.copies[0].pushed == [CALL]
    guide.push(51)
    guide.push(CALL)  # the second call belongs to the same grammar
    assert calls.copies[0].pushed == [CALL, 51, CALL] and len(calls.copies) == 1


def test_a_call_in_the_reasoning_ends_it() -> None:
    calls = Tape(51)
    guide = constraint(rules(calls=calls), Budget(99))
    guide.push(20)
    assert list(guide.banned()) == [END, CALL] and guide.mask() is None
    guide.push(CALL)
    assert list(guide.banned()) == [] and only(guide) == 51 and calls.copies[0].pushed == [CALL]
    guide.push(CLOSE)  # belongs to the call
    assert calls.copies[0].pushed == [CALL, CLOSE]


def test_a_call_in_the_reasoning_may_be_the_answer_that_has_a_form() -> None:
    answer = Tape(50)
    guide = constraint(rules(answer=answer, answer_may_call=True, gap=(GAP,)), Budget(99))
    guide.push(CALL)
    assert only(guide) == 50 and answer.copies[0].pushed == [CALL]  # no gap before it


def test_a_tag_in_the_reasoning_begins_no_call_where_none_may_come() -> None:
    answer = Tape(50)
    for more in ({}, {"answer": answer}):
        guide = constraint(rules(**more), Budget(99))
        guide.push(CALL)
        assert guide.mask() is None and list(guide.banned()) == [END, CALL] and not answer.copies


def test_what_a_free_answer_may_not_hold() -> None:
    guide = constraint(rules(banned_answers=(CALL,)))
    assert list(guide.banned()) == [CALL]
    guide.push(END)
    assert list(guide.banned()) == []


def test_two_replies_do_not_share_a_matcher() -> None:
    answer = Tape(50)
    one, two = constraint(rules(answer=answer)), constraint(rules(answer=answer))
    one.push(50)
    assert [tape.pushed for tape in answer.copies] == [[50], []]
    assert only(two) == 50
