"""Replies that clients send back are matched with their generated tokens."""

from __future__ import annotations

from typing import Any

from loqal.server.service.reply_memory import ReplyMemory
from loqal.server.shared.generation_request import ChatRequest
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall
from loqal.types.reply import FinishReason, Reply, Timings, Usage
from loqal.types.reply_options import ReplyOptions

CALLS = (ToolCall("f", {"a": 1, "b": 2}, "x"),)
REPLY = Reply("said ", "why", (1, 2), FinishReason.STOP, Usage(1, 2), Timings(0, 0, 0, 0), 1, tool_calls=CALLS)


HI = Message("user", "hi")
SAID = Message("assistant", "said", None, CALLS)


def _kept() -> ReplyMemory:
    replies = ReplyMemory()
    replies.keep("me", ChatRequest("m", (HI,)), REPLY)
    return replies


def _recalled(*messages: Message, owner: str = "me", model: str = "m", **options: Any) -> object:
    request = ChatRequest(model, messages, options=ReplyOptions(**options))
    return _kept().recall(owner, request).messages[-1].token_ids


def test_what_clients_change_does_not_matter() -> None:
    reordered = [ToolCall("f", {"b": 2, "a": 1}, "other")]
    for content, reasoning in (("said ", "why"), ("\nsaid", None), ([TextPart("sa"), TextPart("id")], "")):
        assert _recalled(HI, Message("assistant", content, reasoning, reordered)) == (1, 2)
    assert _recalled(Message("system", "It is 9:41."), HI, SAID) == (1, 2)


def test_what_they_say_does() -> None:
    assert _recalled(HI, Message("assistant", "said", None, ())) is None
    assert _recalled(HI, Message("assistant", "Said", None, CALLS)) is None
    assert _recalled(HI, Message("user", "said")) is None


def test_a_reply_belongs_to_its_conversation() -> None:
    assert _recalled(Message("user", "ho"), SAID) is None
    assert _recalled(HI, HI, SAID) is None
    assert _recalled(Message("user", [TextPart("hi"), MediaPart("image", b"x")]), SAID) is None
    assert _recalled(HI, SAID, owner="you") is None
    assert _recalled(HI, SAID, model="n") is None
    assert _recalled(HI, SAID, replay="template") is None


def test_tokens_that_came_along_stay() -> None:
    assert _recalled(HI, Message("assistant", "said", None, CALLS, token_ids=(7,))) == (7,)
