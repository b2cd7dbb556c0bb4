"""Request bodies: limits, validation errors and their JSON paths, lenient mode."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.server.openai.protocol import ChatBody
from loqal.server.shared.body import Warnings, load_json, read_body
from loqal.server.shared.conversation import media_part
from loqal.server.shared.errors import FieldError, RefusedError, problem
from loqal.types.messages import MediaPart

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refusal(body: Any, warnings: Warnings | None = None) -> FieldError:
    with pytest.raises(FieldError) as caught:
        read_body(ChatBody, json.dumps(body).encode(), warnings or Warnings())
    return caught.value


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"foo": 1}, "foo"),
        ({"model": None}, "model"),
        ({"temperature": "0"}, "temperature"),
        ({"n": 10**9}, "n"),
        ({"n": -1}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "pope", "content": ""}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a", "x": 1}]}, "messages[0].x"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "txt": ""}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "film"}]}]}, "messages[0].content[0]"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_refusal_names_the_field(change: dict[str, Any], path: str) -> None:
    assert refusal(CHAT | change).path == path


def test_lenient_callers_are_told_of_what_was_left_out() -> None:
    warnings = Warnings(lenient=True)
    body = CHAT | {"foo": 1, "messages": [{"role": "user", "content": "hi", "bar": {"deep": [1]}}]}
    assert read_body(ChatBody, json.dumps(body).encode(), warnings) == ChatBody(**CHAT)
    assert sorted(warning.split()[0] for warning in warnings.warnings) == ["foo", "messages[0].bar"]
    assert refusal(body | {"n": 0}, Warnings(lenient=True)).path == "n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b"[1, 2",
        b'{"a": NaN}',
        b'{"a": 1e999999}x',
        b"\xff\xfe",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b"[" + b"1," * 2_000_001 + b"1]",
        b'"\\ud800"',
        b'{"\\udfff": 1}',
    ],
)
def test_what_is_no_usable_json(data: bytes) -> None:
    with pytest.raises(FieldError):
        load_json(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(json_values)
def test_json_is_read_as_it_is(value: Any) -> None:
    assert load_json(json.dumps(value).encode()) == value


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(ChatBody.model_fields)), json_values), st.booleans())
def test_any_values_are_read_or_refused(body: dict[str, Any], lenient: bool) -> None:
    try:
        read_body(ChatBody, json.dumps(CHAT | body).encode(), Warnings(lenient))
    except FieldError as error:
        assert problem(error).status == 400


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", "FILE://x", "ftp://x", "", "~/x", "data", "\0"])
def test_no_request_opens_a_path(url: str) -> None:
    with pytest.raises(FieldError):
        media_part("image", url, "url")


def test_urls_of_media_are_taken_as_they_are() -> None:
    assert media_part("image", "data:;base64,AA==", "url", max_tokens=4) == MediaPart(
        "image", "data:;base64,AA==", max_tokens=4
    )
    assert media_part("video", "https://example.com/x", "url").source == "https://example.com/x"


def test_errors_become_problems() -> None:
    assert problem(FieldError("a.b", "why", "fix")).path == "a.b"
    busy = problem(RefusedError("rate_limit", "busy", "why", "fix", retry_s=2.6))
    assert (busy.status, busy.headers["Retry-After"]) == (429, "3")
    bug = problem(ZeroDivisionError("/root/secret"))
    assert bug.status == 500 and "secret" not in bug.message
