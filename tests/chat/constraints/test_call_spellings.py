"""Mask, reader and stream agree on tool calls, however they are spelled and split into tokens."""

from __future__ import annotations

import random
from typing import Any

import pytest

from call_spellings import TOOLS, Spellings
from chat_vocabulary import tokenizer
from loqal.chat.constraints.rules import ConstraintBuilder
from loqal.chat.output.parser import OutputParser
from loqal.types.reply import ReplyDelta
from loqal.types.reply_options import ReplyOptions

RULES = ConstraintBuilder(tokenizer())
SCHEMAS = [{"name": tool.name, "parameters": tool.parameters} for tool in TOOLS]
CHOICES = [("auto", True), ("required", True), ("required", False)]
GUIDES = {
    (choice, parallel, thinking): RULES.guides(
        ReplyOptions(tools=TOOLS, tool_choice=choice, parallel_tool_calls=parallel), thinking=thinking, room=1 << 20
    )
    for choice, parallel in CHOICES
    for thinking in (False, True)
}


def first_refused(guide: Any, ids: list[int]) -> int | None:
    """The index of the first token that a constraint does not let through."""
    for index, token_id in enumerate(ids):
        mask = guide.mask()
        if token_id in guide.banned() or (mask is not None and not mask[token_id >> 5] >> (token_id & 31) & 1):
            return index
        guide.push(token_id)
    return None


def read(ids: list[int], thinking: bool) -> tuple[str, str, list[tuple[str, Any]]]:
    parser = OutputParser(tokenizer(), thinking, SCHEMAS)
    deltas: list[ReplyDelta] = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish()
    calls = [(delta.tool_call.name, dict(delta.tool_call.arguments)) for delta in deltas if delta.tool_call]
    assert [token_id for delta in deltas for token_id in delta.token_ids] == ids
    return "".join(delta.reasoning for delta in deltas), "".join(delta.text for delta in deltas), calls


def test_random_spellings(pytestconfig: pytest.Config) -> None:
    """What is written is let through and read as it was meant. --spellings N makes the test more thorough."""
    for seed in range(pytestconfig.getoption("spellings")):
        rng = random.Random(seed)
        choice, parallel = rng.choice(CHOICES)
        thinking = rng.random() < 0.4
        spelling = Spellings(seed, tokenizer()).draw(thinking=thinking, free=choice == "auto", parallel=parallel)
        ids = spelling.ids(tokenizer(), rng)
        shown = repr(
            "".join(
                one if isinstance(one, str) else tokenizer().decode([one], skip_special=False)
                for one in spelling.pieces
            )
        )
        assert read(ids, thinking) == (spelling.reasoning, spelling.text, spelling.calls), (seed, shown)
        refused = first_refused(GUIDES[choice, parallel, thinking](), ids)
        assert refused is None, (seed, choice, shown, tokenizer().decode(ids[:refused], skip_special=False)[-60:])
