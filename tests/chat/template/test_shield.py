"""Stand-ins for a caller's characters: whatever a template does with a text, it stays the caller's."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loqal.chat.template.segments import joined
from loqal.chat.template.shield import Shield

CONTROL = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>"]
SHIELD = Shield(CONTROL)
BASE = SHIELD.base("")
PIECES = st.sampled_from([*"<|>/ ab\n", "im_start", "think", "tool", "\U000f0000", *CONTROL])
TEXTS = st.lists(PIECES, max_size=8).map("".join)
DATA = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def back(value: Any, base: int) -> Any:
    if isinstance(value, str):
        return joined(SHIELD.segments(value, base))
    if isinstance(value, dict):
        return {back(key, base): back(item, base) for key, item in value.items()}
    return [back(item, base) for item in value] if isinstance(value, list) else value


@given(DATA, st.booleans())
def test_what_is_exchanged_comes_back(value: Any, whole_names_only: bool) -> None:
    base = SHIELD.base(json.dumps(value, ensure_ascii=False))
    assert back(SHIELD.data(value, base, whole_names_only=whole_names_only), base) == value


@given(TEXTS)
def test_no_control_token_of_a_caller_is_left(text: str) -> None:
    base = SHIELD.base(text)
    shielded = SHIELD.data(text, base)
    assert not set("<|>") & set(shielded)
    written = f"<{shielded}><|{shielded}|></{shielded}>"  # what a template may put around it
    segments = SHIELD.segments(written, base)
    by_template = [segment.text for segment in segments if segment.is_template]
    assert not any(token in text for token in CONTROL for text in by_template)
    assert joined(segments) == f"<{text}><|{text}|></{text}>"


def test_the_stand_ins_occur_nowhere_else() -> None:
    assert SHIELD.base("plain") == 0xF0000
    taken = chr(0xF0000) + chr(0xF0000 + 128 + 5)
    assert SHIELD.base(taken) == 0xF0000 + 256
    used = "".join(chr(0xF0000 + 128 * block) for block in range(300))
    assert not {ord(char) // 128 for char in used} & {SHIELD.base(used) // 128}


def test_pieces_of_names_are_exchanged_whole() -> None:
    for text in ("think", "im_start", " think ", "hin", "tool_call"):
        assert not set(SHIELD.data(text, BASE).strip()) & set(text.strip())
    assert SHIELD.data("thinks", BASE) == "thinks"
    assert SHIELD.data("hin", BASE, whole_names_only=True) == "hin"
    assert SHIELD.data("think", BASE, whole_names_only=True) != "think"
    assert SHIELD.data("  ", BASE) == "  "


def test_a_message_keeps_its_form() -> None:
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "<a>"}, {"type": "image"}],
        "reasoning_content": "<b>",
        "tool_calls": [{"id": "<1>", "function": {"name": "<f>", "arguments": {"<k>": "<v>", "77": 5}}}],
    }
    shielded = SHIELD.message(message, BASE)
    assert shielded["role"] == "user" and shielded["content"][1] == {"type": "image"}
    assert shielded["content"][0]["type"] == "text" and shielded["content"][0]["text"] != "<a>"
    assert shielded["reasoning_content"] != "<b>"
    call = shielded["tool_calls"][0]
    assert call["id"] == "<1>" and call["function"]["arguments"]["77"] == 5
    assert "<" not in str(call["function"])
    assert message["content"][0]["text"] == "<a>"  # type: ignore[index] # the caller's own is as it was
    plain = SHIELD.message({"role": "user", "content": "<a>"}, BASE)
    assert set(plain) == {"role", "content"} and "<" not in plain["content"]


def test_segments_say_who_wrote_them() -> None:
    text = f"<|im_start|>user\n{SHIELD.data('<think>', BASE)}<|im_end|>"
    segments = SHIELD.segments(text, BASE)
    assert next(segment.text for segment in segments if segment.is_template) == "<|im_start|>user\n"
    assert joined(segments) == "<|im_start|>user\n<think><|im_end|>"
    assert SHIELD.segments("", BASE) == []
