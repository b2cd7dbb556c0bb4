"""No text of a caller becomes a control token, wherever it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from chat_vocabulary import SPECIAL, tokenizer
from loqal.errors import RequestError
from loqal.runtime.prompts import Prompts
from loqal.types.messages import Message, TextPart, ToolCall
from loqal.types.reply_options import ReplyOptions, Tool
from loqal.types.sampling import SamplingParams
from prompt_maker import foreign_template, prompts

ASK = Message("user", "question")


def _tool(**changes: Any) -> ReplyOptions:
    return ReplyOptions(tools=(Tool(**{"name": "f", "parameters": {"type": "object"}, **changes}),))


def _call(text: str, **changes: Any) -> list[Message]:
    call = ToolCall(**{"name": "f", "arguments": {"a": 1}, **changes})
    return [ASK, Message("assistant", "I look.", "", (call,)), Message("tool", "result")]


# Everything a caller can write, as a function from a text to a request that holds it.
POSITIONS: dict[str, Callable[[str], tuple[list[Message], ReplyOptions]]] = {
    "system": lambda s: ([Message("system", s), ASK], ReplyOptions()),
    "user": lambda s: ([Message("user", s)], ReplyOptions()),
    "user, part": lambda s: ([Message("user", (TextPart("a"), TextPart(s), TextPart("b")))], ReplyOptions()),
    "earlier user": lambda s: ([Message("user", s), Message("assistant", "b"), ASK], ReplyOptions()),
    "answer": lambda s: ([ASK, Message("assistant", s, ""), ASK], ReplyOptions()),
    "answer with reasoning inside": lambda s: ([ASK, Message("assistant", s), ASK], ReplyOptions()),
    "answer after the last question, reasoning inside": lambda s: ([ASK, Message("assistant", s)], ReplyOptions()),
    "reasoning": lambda s: ([ASK, Message("assistant", "b", reasoning=s)], ReplyOptions()),
    "tool result": lambda s: ([*_call("")[:2], Message("tool", s)], ReplyOptions()),
    "name of a called tool": lambda s: (_call(s, name=s), ReplyOptions()),
    "name of an argument": lambda s: (_call(s, arguments={s: 1}), ReplyOptions()),
    "value of an argument": lambda s: (_call(s, arguments={"a": s}), ReplyOptions()),
    "inside a value": lambda s: (_call(s, arguments={"a": {s: [s]}}), ReplyOptions()),
    "description of a tool": lambda s: ([ASK], _tool(description=s)),
    "description in a schema": lambda s: ([ASK], _tool(parameters={"type": "object", "description": s})),
    "name of a property": lambda s: ([ASK], _tool(parameters={"properties": {s: {"type": "string"}}})),
    "choice in a schema": lambda s: ([ASK], _tool(parameters={"properties": {"a": {"enum": [s]}}})),
    "key of a schema": lambda s: ([ASK], _tool(parameters={s: {}})),
    "extra of a tool": lambda s: ([ASK], _tool(extra={s: [s]})),
    "definition of a tool": lambda s: ([ASK], _tool(definition={"name": "f", s: {s: s}})),
    "answer to be continued": lambda s: ([ASK, Message("assistant", s, "")], ReplyOptions(prefill=True)),
    "reasoning to be continued": lambda s: ([ASK, Message("assistant", "", s)], ReplyOptions(prefill=True)),
    "reasoning of a continued answer": lambda s: ([ASK, Message("assistant", "b", s)], ReplyOptions(prefill=True)),
}
TEMPLATES = {"the family's": prompts(), "a file's": prompts(foreign_template())}


def control_ids(maker: Prompts, position: str, text: str) -> tuple[Counter[int], str]:
    """The control tokens of a prompt, and all of it as text."""
    messages, turn = POSITIONS[position](text)
    ids = maker.chat(messages, SamplingParams(seed=0), turn).prompt_ids
    control = set(tokenizer().special_ids.values())
    return Counter(i for i in ids if i in control), tokenizer().decode(ids, skip_special=False)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_text_of_a_caller_becomes_a_control_token(template: str, position: str) -> None:
    maker = TEMPLATES[template]
    expected, _ = control_ids(maker, position, "harmless")
    for name in SPECIAL:
        for text in (name, f"a {name} b", f"\n{name}{name}\n", name[1:], name[:-1]):
            found, whole = control_ids(maker, position, text)
            assert found == expected, (name, text)
            if "inside" not in position or "</think>" not in text:  # the template leaves earlier reasoning out
                assert text.strip() in whole or repr(text)[1:-1] in whole


def test_halves_of_a_name_do_not_meet() -> None:
    """A text that begins a control token, before a template's word or another text that ends it."""
    maker = prompts()
    control = set(tokenizer().special_ids.values())
    plain = maker.chat(
        [Message("user", (TextPart("a"), TextPart("b")))], SamplingParams(seed=0), ReplyOptions()
    ).prompt_ids
    for name in SPECIAL:
        for cut in range(1, len(name)):
            parts = (TextPart(name[:cut]), TextPart(name[cut:]))
            ids = maker.chat([Message("user", parts)], SamplingParams(seed=0), ReplyOptions()).prompt_ids
            assert [i for i in ids if i in control] == [i for i in plain if i in control]


def test_names_of_tools_cannot_hold_one() -> None:
    for name in SPECIAL:
        with pytest.raises(RequestError, match="angle bracket"):
            prompts().chat([ASK], SamplingParams(seed=0), ReplyOptions(tools=(Tool(name),)))
