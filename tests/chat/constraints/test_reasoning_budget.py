"""Reasoning ends in time, whatever the model would like."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from chat_vocabulary import tokenizer
from loqal.chat.constraints import reasoning_budget
from loqal.chat.constraints.reasoning_budget import Cycles, budget_of
from loqal.chat.constraints.reply_automaton import Mask, ReplyConstraint
from loqal.chat.constraints.rules import ConstraintBuilder
from loqal.types.reply_options import OneOf, ReplyOptions, Thinking

RULES = ConstraintBuilder(tokenizer())
CLOSE = tokenizer().special_ids["</think>"]
NUDGE = "come to my answer"


def guide(budget: int | None, room: int = 4000, turn: ReplyOptions | None = None) -> ReplyConstraint:
    made = RULES.guides(turn or ReplyOptions(thinking=Thinking(True, budget)), thinking=True, room=room)()
    assert made is not None
    return made


def only(mask: Mask | None) -> int | None:
    if mask is None:
        return None
    (token_id,) = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
    return int(token_id)


def think(guide: ReplyConstraint, wish: Callable[[int], int], most: int = 5000) -> list[int]:
    """The reasoning of a model with wishes, which are its tokens where they are not forced."""
    ids: list[int] = []
    while CLOSE not in ids and len(ids) < most:
        forced = only(guide.mask())
        ids.append(wish(len(ids)) if forced is None else forced)
        guide.push(ids[-1])
    return ids


def words(text: str, seed: int = 0) -> Callable[[int], int]:
    """A wish for tokens of a text in any order, which is no cycle."""
    rng, ids = random.Random(seed), tokenizer().encode_text(text)
    return lambda index: rng.choice(ids)


@pytest.mark.parametrize("budget", [*range(1, 12), 127, 128, 129, 500, 1000])
@pytest.mark.parametrize("text", ["a b c d e f\n", "abcdefg", "\n"])
def test_a_budget_holds(budget: int, text: str) -> None:
    ids = think(guide(budget), words(text))
    assert ids[-1] == CLOSE
    assert len(ids) <= budget
    assert len(ids) >= budget - 2 or text == "\n"
    said = tokenizer().decode(ids)
    assert text == "\n" or said.count(NUDGE) == (budget >= 128)
    assert budget < 3 or said.endswith("\n</think>")


def test_the_nudge_waits_for_the_end_of_a_line() -> None:
    said = tokenizer().decode(think(guide(1000), words("a b c d e f\n")))
    before, after = said.split("I have thought")
    assert before.endswith("\n")
    assert len(tokenizer().encode_text(after)) < 180  # an eighth of the budget is left, and the sentence itself


def test_a_part_of_the_reply_is_kept_for_the_answer() -> None:
    assert budget_of(None, 100) == 75
    assert budget_of(None, 100_000) == 100_000 - 1024
    assert budget_of(50, 100) == 50
    assert budget_of(500, 100) == 75
    assert budget_of(None, 1) == 1
    assert len(think(guide(None, room=100), words("a b c d e f"))) == 75


@pytest.mark.parametrize("length", [1, 2, 7, 40, 512])
def test_a_cycle_is_closed(length: int) -> None:
    rng = random.Random(length)
    lead, cycle = ([rng.randrange(256) for _ in range(n)] for n in (300, length))
    text = lead + cycle * (6000 // length)
    ids = think(guide(None, room=20_000), lambda index: text[index])
    rounds = (len(ids) - 2 - len(lead)) / length
    assert rounds == pytest.approx(max(5, 96 / length + 1), abs=0.01)


def test_what_merely_repeats_itself_a_little_is_no_cycle() -> None:
    cycles = Cycles()
    for line in range(400):  # a table: much is the same in every line, and something is not
        for token_id in [*range(20), 100 + line % 97, 100 + line // 7]:
            cycles.push(token_id)
            assert not cycles.is_circling


def test_the_model_may_stop_earlier() -> None:
    ids = think(guide(1000), lambda index: CLOSE if index == 10 else index)
    assert len(ids) == 11


def test_no_reply_ends_in_its_reasoning() -> None:
    assert set(guide(100).banned()) == tokenizer().eos_ids


def test_a_form_begins_after_the_reasoning() -> None:
    turn = ReplyOptions(thinking=Thinking(True, 20), answer=OneOf(("yes",)))
    one = guide(20, turn=turn)
    think(one, words("a b c"))
    written: list[int] = []
    while not set(written) & tokenizer().eos_ids:
        mask = one.mask()
        assert mask is not None
        written.append(int(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))[-1]))
        one.push(written[-1])
    assert tokenizer().decode(written) == "\n\nyes"


def test_what_is_forced_depends_on_the_tokens_alone() -> None:
    one, other = (think(guide(300), words("a b c d\n", seed=4)) for _ in range(2))
    assert one == other
    assert reasoning_budget.budget_of(7, 10) == 7
