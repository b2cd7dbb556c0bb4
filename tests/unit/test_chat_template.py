"""The native template against the recorded renderings of the official one."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from loqal.chat.segments import Segment, ends_in_thinking, joined
from loqal.chat.template import render
from loqal.errors import RequestError
from loqal.types import MediaPart, Message, TextPart, ToolCall

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "templates.json").read_text(encoding="utf-8"))["cases"]


def message(data: dict[str, Any]) -> Message:
    content = data["content"]
    if isinstance(content, list):
        content = [TextPart(part["text"]) if "text" in part else MediaPart(part["type"]) for part in content]
    calls = [call["function"] for call in data.get("tool_calls", ())]
    return Message(
        data["role"],
        content,
        reasoning=data.get("reasoning_content"),
        tool_calls=[ToolCall(call["name"], call["arguments"]) for call in calls],
    )


def prompt(case: dict[str, Any], think: bool) -> list[Segment] | None:
    try:
        return render(
            [message(data) for data in case["messages"]],
            tools=case.get("tools"),
            think=think,
            add_generation_prompt=case.get("add_generation_prompt", True),
            add_vision_id=case.get("add_vision_id", False),
        )
    except RequestError:
        return None


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_equals_the_official_rendering(case: dict[str, Any]) -> None:
    for think, expected in ((True, case["thinking"]), (False, case["plain"])):
        segments = prompt(case, think)
        assert (None if segments is None else joined(segments)) == expected
    assert (expected is None) == case["name"].startswith("refused")


@pytest.mark.parity
@pytest.mark.skipif("LOQAL_OFFICIAL_TEMPLATE" not in os.environ, reason="LOQAL_OFFICIAL_TEMPLATE names no file")
def test_recording_equals_the_official_template_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GOLDEN))
    spec = importlib.util.spec_from_file_location("record_templates", GOLDEN / "record_templates.py")
    assert spec and spec.loader
    recorder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorder)
    template = recorder.load(Path(os.environ["LOQAL_OFFICIAL_TEMPLATE"]))
    assert len(recorder.CONVERSATIONS) == len(CASES)
    for case in CASES:
        conversation = recorder.CONVERSATIONS[case["name"]]
        for think, expected in ((True, case["thinking"]), (False, case["plain"])):
            assert recorder.draw(template, conversation, think) == expected


def test_callers_text_is_content_and_the_templates_words_are_not() -> None:
    words = ["SYSTEM", "QUESTION", "THOUGHT", "ANSWER", "NAME", "KEY", "VALUE", "RESULT", "TOOL"]
    segments = render(
        [
            Message("system", "SYSTEM"),
            Message("user", "QUESTION"),
            Message("assistant", "ANSWER", reasoning="THOUGHT", tool_calls=[ToolCall("NAME", {"KEY": "VALUE"})]),
            Message("tool", "RESULT"),
        ],
        tools=[{"name": "TOOL"}],
        think=True,
    )
    content = [segment.text for segment in segments if not segment.is_template]
    assert content == ['{"name": "TOOL"}', "SYSTEM", "QUESTION", "THOUGHT", "ANSWER", "NAME", "KEY", "VALUE", "RESULT"]
    template = "".join(segment.text for segment in segments if segment.is_template)
    assert not any(word in template for word in words)


def test_media_slots_carry_their_parts_in_order() -> None:
    parts = [MediaPart("image", "a"), TextPart(" and "), MediaPart("video", "b"), MediaPart("image", "c")]
    segments = render([Message("user", parts)], think=False, add_vision_id=True)
    slots = [segment for segment in segments if segment.media]
    assert [slot.media for slot in slots] == [parts[0], parts[2], parts[3]]
    assert [slot.text for slot in slots] == [
        f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video", "image")
    ]
    assert all(slot.is_template for slot in slots)


def test_preserve_thinking_keeps_the_reasoning_of_every_turn() -> None:
    messages = [Message("user", "q"), Message("assistant", "a", reasoning="because"), Message("user", "s")]
    kept = joined(render(messages, think=True, preserve_thinking=True))
    assert "<|im_start|>assistant\n<think>\nbecause\n</think>\n\na<|im_end|>" in kept
    assert "because" not in joined(render(messages, think=True))


def test_reasoning_given_as_a_field_keeps_the_text_whole() -> None:
    answer = Message("assistant", "The tag </think> ends it.", reasoning="")
    assert answer.content in joined(render([Message("user", "q"), answer, Message("user", "r")], think=True))


def test_unknown_roles_are_refused() -> None:
    with pytest.raises(RequestError, match="developer"):
        render([Message("developer", "x"), Message("user", "q")], think=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(("think", "expected"), [(True, True), (False, False)])
def test_ends_in_thinking(think: bool, expected: bool) -> None:
    messages = [Message("user", "I write </think> and <think>")]
    assert ends_in_thinking(render(messages, think=think)) is expected
    assert not ends_in_thinking(render(messages, think=True, add_generation_prompt=False))
