"""From a turn to the rules of its automaton: names of tools, and how many calls there may be."""

from __future__ import annotations

from typing import Any

import pytest

from chat_vocabulary import tokenizer
from loqal.chat.constraints.rules import ConstraintBuilder
from loqal.errors import RequestError
from loqal.types.reply_options import ReplyOptions, Tool

RULES = ConstraintBuilder(tokenizer())


def guide(*names: str, **more: Any) -> Any:
    return RULES.guides(ReplyOptions(tools=tuple(map(Tool, names)), **more), thinking=False, room=1 << 20)()


@pytest.mark.parametrize("name", ["a", "a b", "get.weather", "ä"])
def test_names(name: str) -> None:
    guide(name, name + "x")


@pytest.mark.parametrize("names", [("",), ("a", "a"), ("a<b",), ("a>",), ("a\nb",), (" a",), ("a ",)])
def test_names_that_cannot_be_called(names: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match=rf"tools\[{len(names) - 1}\]\.name"):
        guide(*names)


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_one_call_or_several(choice: Any, parallel: bool) -> None:
    found = guide("f", tool_choice=choice, parallel_tool_calls=parallel)
    ids = tokenizer().special_ids
    for token_id in [
        ids["<tool_call>"],
        *tokenizer().encode_text("\n<function=f>\n</function>\n"),
        ids["</tool_call>"],
    ]:
        found.push(token_id)
    mask = found.mask()

    def allows(token_id: int) -> bool:
        return bool(mask[token_id >> 5] >> (token_id & 31) & 1)

    assert allows(ids["<tool_call>"]) == parallel and allows(min(RULES.end_ids))
