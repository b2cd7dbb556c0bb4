"""The native template against the recorded renderings of the official one."""

from __future__ import annotations

import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loqal.chat.template.native import render
from loqal.chat.template.segments import Segment, ends_in_thinking, joined
from loqal.errors import RequestError
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall

GOLDEN = Path(__file__).parents[2] / "golden"
needs_template = pytest.mark.skipif(
    "LOQAL_OFFICIAL_TEMPLATE" not in os.environ, reason="LOQAL_OFFICIAL_TEMPLATE names no file"
)
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


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recording tool, beside its corpus."""
    monkeypatch.syspath_prepend(str(GOLDEN))
    spec = importlib.util.spec_from_file_location("record_templates", GOLDEN / "record_templates.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parity
@needs_template
def test_recording_equals_the_official_template_now(recorder: Any) -> None:
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


words = st.lists(
    st.sampled_from(
        [
            *(
                "",
                " ",
                "\n",
                "\n\n",
                "x",
                "é",
                "Hi there",
                "<think>",
                "</think>",
                "\u2003",
                "{{ x }}",
                "True",
                "&<>'\"",
            ),
            *("<tool_response>", "</tool_response>", "<tool_call>", "<|im_end|>", "\t"),
        ]
    ),
    max_size=5,
).map("".join)
parts = st.lists(
    st.one_of(
        words.map(lambda text: {"type": "text", "text": text}), st.sampled_from([{"type": "image"}, {"type": "video"}])
    ),
    max_size=4,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)
calls = st.fixed_dictionaries({"name": words, "arguments": st.dictionaries(words, json_values, max_size=3)})
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "tool", "user", "assistant", "tool", "system"]),
        "content": words | parts,
    },
    optional={
        "reasoning_content": words,
        "tool_calls": st.lists(calls.map(lambda call: {"type": "function", "function": call}), max_size=2),
    },
)
conversations = st.fixed_dictionaries(
    {"messages": st.lists(messages, max_size=6)},
    optional={
        "tools": st.lists(st.dictionaries(words, json_values, max_size=2), max_size=2),
        "add_generation_prompt": st.booleans(),
        "add_vision_id": st.booleans(),
    },
)


@pytest.mark.parity
@needs_template
@given(st.data())
@settings(
    max_examples=1000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_conversation_equals_the_official_rendering(recorder: Any, data: st.DataObject) -> None:
    template = _official(recorder)
    case = data.draw(conversations)
    for think in (True, False):
        segments = prompt(case, think)
        assert (None if segments is None else joined(segments)) == recorder.draw(template, case, think)


@cache
def _official(recorder: Any) -> Any:
    return recorder.load(Path(os.environ["LOQAL_OFFICIAL_TEMPLATE"]))
