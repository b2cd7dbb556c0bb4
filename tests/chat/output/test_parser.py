"""Generated tokens to reasoning, answer and tool calls."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_vocabulary import SPECIAL, tokenizer
from loqal.chat.output.parser import OutputParser
from loqal.chat.template.native import render
from loqal.chat.template.segments import Segment
from loqal.types.messages import Message, ToolCall
from loqal.types.reply import ReplyDelta

CALL = "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"
TOOLS = [{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}]
F1 = ToolCall("f", {"a": 1})


def parsed(ids: list[int], *, thinking: bool = False, tools: Any = TOOLS) -> list[ReplyDelta]:
    parser = OutputParser(tokenizer(), thinking, tools)
    deltas = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish()
    assert [i for delta in deltas for i in delta.token_ids] == ids
    for delta in deltas:
        assert bool(delta.text) + bool(delta.reasoning) + (delta.call_piece is not None) <= 1
    check_pieces(deltas)
    return deltas


def check_pieces(deltas: list[ReplyDelta]) -> None:
    """The pieces of calls add up to the calls, one after the other."""
    open_text: str | None = None
    calls: list[ToolCall] = []
    for piece, call in ((delta.call_piece, delta.tool_call) for delta in deltas):
        if piece is None:
            assert call is None and open_text is None
            continue
        assert piece.index == len(calls)
        assert (piece.name is not None) == (open_text is None)
        open_text = (open_text or "") + piece.arguments
        if call is not None:
            assert call.id == piece.id
            assert json.loads(open_text) == call.arguments
            calls.append(call)
            open_text = None
    assert open_text is None
    assert len({call.id for call in calls}) == len(calls)


def reply(text: str | list[int], **options: Any) -> tuple[str, str, list[ToolCall]]:
    """Reasoning, answer and calls of a reply whose control tokens are written out."""
    deltas = parsed(tokenizer().encode_with_control(text) if isinstance(text, str) else text, **options)
    calls = [replace(delta.tool_call, id=None) for delta in deltas if delta.tool_call]
    return "".join(d.reasoning for d in deltas), "".join(d.text for d in deltas), calls


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("Hello!<|im_end|>", False, ("", "Hello!", [])),
        ("  Hello \n", False, ("", "  Hello \n", [])),
        ("I think.\n</think>\n\nHello!<|im_end|>", True, ("I think.", "Hello!", [])),
        ("\n\n I think. \n</think> \n\n Hello! \n", True, ("I think.", "Hello! \n", [])),
        ("</think>\n\nHello!", True, ("", "Hello!", [])),
        ("I think", True, ("I think", "", [])),
        ("I think \n", True, ("I think \n", "", [])),
        ("<think>\nI think.</think>\nHello!", True, ("I think.", "Hello!", [])),
        ("<think>\nI think.</think>\nHello!", False, ("I think.", "Hello!", [])),
        ("a</think>b", False, ("", "a</think>b", [])),
        ("a<think>b", False, ("", "a<think>b", [])),
        ("x</think>y</think>z", True, ("x", "y</think>z", [])),
        (CALL, False, ("", "", [F1])),
        ("Look:\n\n" + CALL + "<|im_end|>", False, ("", "Look:", [F1])),
        (CALL + "\n" + CALL + "\n<|im_end|>", False, ("", "", [F1, F1])),
        ("why\n</think>\n\n" + CALL, True, ("why", "", [F1])),
        ("why\n" + CALL, True, ("why", "", [F1])),
        (CALL + "\nafter", False, ("", "after", [F1])),
        (CALL.removesuffix("\n</tool_call>"), False, ("", "", [F1])),
        (CALL.removesuffix("</tool_call>") + CALL, False, ("", "", [F1, F1])),
        (CALL[:-25], False, ("", CALL[:-25], [])),
        ("a <tool_call>", False, ("", "a <tool_call>", [])),
        ("a <tool_call> is a tag \n", False, ("", "a <tool_call> is a tag \n", [])),
        ("a <tool_call>\n</tool_call> b", False, ("", "a <tool_call>\n</tool_call> b", [])),
        ("a </tool_call> b", False, ("", "a </tool_call> b", [])),
        ("<tool_call><tool_call>" + CALL, False, ("", "<tool_call><tool_call>", [F1])),
        ("<tool_call>\n<function=f>\nno" + CALL, False, ("", "<tool_call>\n<function=f>\nno", [F1])),
        ("say <tool_call> here\n</think>\n\nHi", True, ("say <tool_call> here", "Hi", [])),
        ("say <tool_call>\n<function=f>\n</think>\nHi", True, ("say <tool_call>\n<function=f>", "Hi", [])),
        ("<|fim_pad|>x<|box_start|>y", False, ("", "<|fim_pad|>xy", [])),
        ("", False, ("", "", [])),
        ("", True, ("", "", [])),
    ],
)
def test_parts_of_a_reply(text: str, thinking: bool, expected: tuple[str, str, list[ToolCall]]) -> None:
    assert reply(text, thinking=thinking) == expected


@pytest.mark.parametrize("thinking", [False, True])
def test_tags_written_as_text_are_text(thinking: bool) -> None:
    prose = f"<think>use {CALL} and </think>"
    ids = tokenizer().encode_text(prose)
    assert reply(ids, thinking=thinking) == ((prose, "", []) if thinking else ("", prose, []))


def test_a_value_may_quote_calls() -> None:
    quoting = CALL.replace("1", f"write {CALL} so")
    call = ToolCall("f", {"a": f"write {CALL} so"})
    assert reply(quoting) == ("", "", [call])
    as_text = [
        *tokenizer().encode([Segment(CALL.split("1")[0], True), Segment(f"write {CALL} so")]),
        *tokenizer().encode_with_control(CALL.split("1")[1]),
    ]
    assert reply(as_text) == ("", "", [call])
    think_tags = CALL.replace("1", "<think>x</think>")
    assert reply(think_tags) == ("", "", [ToolCall("f", {"a": "<think>x</think>"})])


def test_an_unbalanced_quote_is_never_half_a_call() -> None:
    text = CALL.replace("1", "the <tool_call> tag")
    assert reply(text) == ("", text, [])


def test_without_tools_calls_stay_text() -> None:
    assert reply(CALL, tools=()) == ("", CALL, [])
    assert reply(CALL, tools=None) == ("", "", [ToolCall("f", {"a": "1"})])


def test_what_the_template_writes_reads_back() -> None:
    arguments = {"a": -3, "s": "x\n y", "l": [1, {"k": None}], "t": True}
    schema = {"a": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": "array"}, "t": {"type": "boolean"}}
    calls = [ToolCall("f", arguments), ToolCall("g", {})]
    turn = Message("assistant", "I look.", reasoning="because", tool_calls=calls)
    segments = render([Message("user", "q"), turn], think=True, add_generation_prompt=False)
    text = "".join(segment.text for segment in segments).split("<think>\n")[1]
    tools = [{"name": "f", "parameters": {"properties": schema}}, {"name": "g"}]
    assert reply(text, thinking=True, tools=tools) == ("because", "I look.", calls)


def test_counts_the_tokens_of_the_reasoning() -> None:
    parser = OutputParser(tokenizer(), True)
    thought = tokenizer().encode_with_control("a b c\n</think>")
    for token_id in thought:
        assert parser.in_reasoning
        parser.push(token_id)
    assert not parser.in_reasoning
    parser.push(tokenizer().encode_text("x")[0])
    assert parser.reasoning_tokens == len(thought)


def test_text_is_shown_as_soon_as_it_is_certain() -> None:
    parser = OutputParser(tokenizer(), False)
    shown = [[delta.text for delta in parser.push(token_id)] for token_id in tokenizer().encode_text("a b")]
    assert "".join(text for texts in shown for text in texts) == "a b"
    special = tokenizer().special_ids["<tool_call>"]
    assert parser.push(special) == []
    (delta,) = [delta for token_id in tokenizer().encode_text(" so") for delta in parser.push(token_id)][:1]
    assert delta.text.startswith("<tool_call> ")
    assert delta.token_ids[0] == special


PIECES = [
    *(
        "\n",
        " ",
        "x",
        "Hi there",
        "\n<function=f>\n",
        "<parameter=a>\n",
        "1",
        "\n</parameter>\n",
        "</function>\n",
        CALL,
    ),
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<|im_end|>", "<|vision_start|>", "é", "🦊"),
]


def resplit(ids: list[int], cuts: list[bool]) -> list[int]:
    """The same text in smaller tokens: ordinary tokens marked by ``cuts`` become their single bytes."""
    single = {tokenizer().token_bytes(i): i for i in range(256)}
    special = set(tokenizer().special_ids.values())
    smaller: list[int] = []
    for number, token_id in enumerate(ids):
        if token_id in special or not cuts[number % len(cuts)]:
            smaller.append(token_id)
        else:
            smaller += [single[bytes([byte])] for byte in tokenizer().token_bytes(token_id)]
    return smaller


@given(
    st.lists(st.sampled_from(PIECES), max_size=14),
    st.booleans(),
    st.lists(st.booleans(), min_size=1, max_size=7),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_split_into_tokens_does_not_matter(pieces: list[str], thinking: bool, cuts: list[bool]) -> None:
    ids = tokenizer().encode_with_control("".join(pieces))
    assert reply(ids, thinking=thinking) == reply(resplit(ids, cuts), thinking=thinking)


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_nothing_is_lost(pieces: list[str], thinking: bool) -> None:
    """Everything but white space, think tags, silent tokens and the text of complete calls comes out again."""
    text = "".join(pieces)
    reasoning, answer, calls = reply(text, thinking=thinking)
    silent = ("<|im_end|>", "<|vision_start|>", "<think>", "</think>")
    left = "".join(text.split())
    seen = "".join((reasoning + answer).split())
    for name in silent:
        left, seen = left.replace(name, ""), seen.replace(name, "")
    assert len(left) - len(seen) <= sum(_written_len(call) for call in calls)
    assert len(left) - len(seen) >= 0
    if not calls:
        assert seen == left


def _written_len(call: ToolCall) -> int:
    form = f"<tool_call><function={call.name}></function></tool_call>"
    return len(form) + sum(len("".join(f"<parameter={k}>{v}</parameter>".split())) for k, v in call.arguments.items())


@given(st.lists(st.integers(0, tokenizer().vocab_len - 1), max_size=40), st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_tokens_are_read(ids: list[int], thinking: bool) -> None:
    parsed(ids, thinking=thinking)
    parsed([*tokenizer().encode_with_control(SPECIAL[0]), *ids], thinking=thinking, tools=None)


@pytest.mark.parametrize("cut", [len(CALL) - 25, 30, 12, 20])
@pytest.mark.parametrize("thinking", [False, True])
def test_a_call_that_a_limit_cuts_is_no_text(cut: int, thinking: bool) -> None:
    parser = OutputParser(tokenizer(), thinking, TOOLS)
    ids = tokenizer().encode_with_control("Look:\n\n" + CALL[:cut])
    deltas = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish(cut=True)
    assert "".join(delta.text + delta.reasoning for delta in deltas) == "Look:"
    assert "".join(delta.incomplete_call for delta in deltas) == CALL[:cut]
    assert [token_id for delta in deltas for token_id in delta.token_ids] == ids


def test_a_call_that_lacks_only_its_last_tag_is_complete() -> None:
    parser = OutputParser(tokenizer(), False, TOOLS)
    ids = tokenizer().encode_with_control(CALL.removesuffix("</tool_call>"))
    deltas = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish(cut=True)
    assert [delta.tool_call.name for delta in deltas if delta.tool_call] == ["f"]
