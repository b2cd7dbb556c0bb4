"""Conversations as the dialects read and keep them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.server.shared.body import Warnings
from loqal.server.shared.conversation import (
    ToolResult,
    decode_base64,
    in_call_order,
    reply_message,
    size_of,
    with_one_system_message,
)
from loqal.server.shared.errors import FieldError
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall
from loqal.types.reply import FinishReason, Reply, Timings, Usage


def system(text: str) -> Message:
    return Message("system", text)


USER, ASSISTANT = Message("user", "hi"), Message("assistant", "ho")


def calls(*ids: str) -> Message:
    return Message("assistant", tool_calls=[ToolCall("f", {}, one) for one in ids])


def results(*ids: str) -> list[ToolResult]:
    return [ToolResult(f"messages[{index}]", one, Message("tool", one)) for index, one in enumerate(ids)]


@given(st.permutations(["a", "b", "c"]), st.integers(0, 3))
def test_results_come_in_the_order_of_the_calls(order: list[str], count: int) -> None:
    warnings = Warnings()
    found = in_call_order([calls("old"), USER, calls("a", "b", "c")], results(*order[:count]), warnings)
    assert [message.content for message in found] == sorted(order[:count])
    assert bool(warnings.warnings) == (0 < count < 3)  # calls are left without a result


@pytest.mark.parametrize(
    ("before", "ids", "order"),
    [
        ([calls("a"), USER, calls("b")], ("a",), ["a"]),
        ([calls("a", "b")], ("b", "a", "b2"), ["a", "b", "b2"]),
        ([calls("a", "b")], ("other", "a"), ["a", "other"]),
        ([USER], ("a",), ["a"]),
        ([], ("a",), ["a"]),
        ([calls("a"), ASSISTANT], ("a",), ["a"]),
    ],
)
def test_results_whose_id_no_call_has_are_read_in_order_and_that_is_said(
    before: list[Message], ids: tuple[str, ...], order: list[str]
) -> None:
    warnings = Warnings()
    assert [message.content for message in in_call_order(before, results(*ids), warnings)] == order
    assert any("has this id" in warning for warning in warnings.warnings)


def test_system_messages_at_the_beginning_become_one() -> None:
    warnings = Warnings()
    assert with_one_system_message([system("a"), USER], "messages", warnings) == (system("a"), USER)
    joined, user = with_one_system_message(
        [system("a"), Message("system", [TextPart("b"), TextPart("c")]), system("d"), USER], "messages", warnings
    )
    assert joined.role == "system" and user == USER
    assert "".join(part.text for part in joined.content) == "a\n\nbc\n\nd"  # type: ignore[union-attr]
    assert with_one_system_message([], "messages", warnings) == () and not warnings.warnings


def test_a_later_system_message_is_the_users_and_that_is_said() -> None:
    warnings = Warnings()
    found = with_one_system_message([USER, system("a"), ASSISTANT, system("b")], "input", warnings)
    assert [message.role for message in found] == ["user", "user", "assistant", "user"]
    assert len(warnings.warnings) == 1 and "input" in str(warnings.warnings)


def test_base64() -> None:
    assert decode_base64(base64.b64encode(b"\0\xff").decode(), "x") == b"\0\xff"
    assert decode_base64("", "x") == b""
    for data in ("a", "ab=c", "a\nb=", "ä===", "_-__"):
        with pytest.raises(FieldError) as caught:
            decode_base64(data, "content[0].data")
        assert caught.value.path == "content[0].data"


def test_a_reply_as_a_message_keeps_everything() -> None:
    call = ToolCall("f", {"a": 1}, "x")
    reply = Reply("t", "r", (1, 2), FinishReason.STOP, Usage(1, 2), Timings(0, 0, 0, 0), 0, (call,))
    assert reply_message(reply) == Message("assistant", "t", "r", (call,), (1, 2))


def test_sizes_grow_with_everything_that_is_kept() -> None:
    plain = Message("user", "x" * 1000)
    assert 1000 <= size_of([plain]) <= 2000
    assert size_of([plain, plain]) == 2 * size_of([plain]) and size_of([]) == 0
    for larger in (
        Message("user", "x" * 1001),
        Message("user", [TextPart("x" * 1000), MediaPart("image", b"y" * 10)]),
        Message("assistant", "x" * 1000, reasoning="why"),
        Message("assistant", "x" * 1000, tool_calls=[ToolCall("f", {"a": "long"})]),
        Message("assistant", "x" * 1000, token_ids=(1,)),
    ):
        assert size_of([larger]) > size_of([plain])
    assert size_of([Message("user", [MediaPart("image", b"y" * 10**6)])]) > 10**6
