"""Pieces of a prompt that say where they come from."""

from __future__ import annotations

import pytest

from loqal.chat.template.segments import Segment, ends_in_thinking, joined
from loqal.types.messages import MediaPart


def test_what_a_segment_is() -> None:
    assert Segment("x").is_text and Segment("x", is_template=True).is_text
    assert not Segment("x", media=MediaPart("image")).is_text
    assert not Segment("x", ids=()).is_text
    assert joined([Segment("a"), Segment("b", is_template=True)]) == "ab"


@pytest.mark.parametrize(
    ("texts", "thinks"),
    [
        ([], False),
        ([("<think>\n", True)], True),
        ([("<think>", True), ("why</think>", True)], False),
        ([("<think></think><think>", True)], True),
        ([("<think>", False)], False),  # a caller's words open nothing
        ([("<think>", True), ("</think>", False)], True),  # and close nothing
        ([("<thi", True), ("x", False), ("nk>", True)], False),
        ([("<thi", True), ("nk>", True)], True),
    ],
)
def test_whether_the_reply_begins_with_reasoning(texts: list[tuple[str, bool]], thinks: bool) -> None:
    assert ends_in_thinking([Segment(text, is_template=template) for text, template in texts]) is thinks
