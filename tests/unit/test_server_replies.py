"""Replies that clients send back find the tokens that were written."""

from __future__ import annotations

from typing import Any

from loqal.server.replies import Replies
from loqal.server.request import ChatRequest
from loqal.turns import Turn
from loqal.types import FinishReason, Message, Reply, TextPart, Timings, ToolCall, Usage

CALLS = (ToolCall("f", {"a": 1, "b": 2}, "x"),)
REPLY = Reply("said ", "why", (1, 2), FinishReason.STOP, Usage(1, 2), Timings(0, 0, 0, 0), 1, tool_calls=CALLS)


def _recalled(replies: Replies, message: Message, owner: str = "me", model: str = "m", **turn: Any) -> object:
    asked = ChatRequest(model, (Message("user", "hi"), message), turn=Turn(**turn))
    return replies.recall(owner, asked).messages[1].token_ids


def test_what_clients_change_does_not_matter() -> None:
    replies = Replies()
    replies.keep("me", "m", REPLY)
    reordered = [ToolCall("f", {"b": 2, "a": 1}, "other")]
    for content, reasoning in (("said ", "why"), ("\nsaid", None), ([TextPart("sa"), TextPart("id")], "")):
        assert _recalled(replies, Message("assistant", content, reasoning, reordered)) == (1, 2)


def test_what_they_say_does() -> None:
    replies = Replies()
    replies.keep("me", "m", REPLY)
    assert _recalled(replies, Message("assistant", "said", None, ())) is None
    assert _recalled(replies, Message("assistant", "Said", None, CALLS)) is None
    assert _recalled(replies, Message("user", "said", None, CALLS)) is None
    assert _recalled(replies, Message("assistant", "said", None, CALLS), owner="you") is None
    assert _recalled(replies, Message("assistant", "said", None, CALLS), model="n") is None
    assert _recalled(replies, Message("assistant", "said", None, CALLS), replay="template") is None
    given = Message("assistant", "said", None, CALLS, token_ids=(7,))
    assert _recalled(replies, given) == (7,)
