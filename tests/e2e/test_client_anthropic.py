"""The official Anthropic client against a real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from asked import ANSWER, CITY, RECEIPT

anthropic = pytest.importorskip("anthropic")

CONVERSATION = [{"role": "user", "content": RECEIPT}]
GREEDY: dict[str, Any] = {"extra_body": {"temperature": 0}}  # newer clients have no name for it
SUM = [{"role": "user", "content": "What is 34 + 17?"}]
TOOL = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": CITY,
    "strict": True,
}


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=server_url, api_key="none", max_retries=0) as made:
        yield made


def test_chat(client: Any) -> None:
    message = client.messages.create(model="demo", max_tokens=60, messages=CONVERSATION, **GREEDY)
    assert [block.type for block in message.content] == ["text"]
    assert (message.content[0].text, message.stop_reason, message.role) == (ANSWER, "end_turn", "assistant")
    assert message.usage.output_tokens > 10


def test_streaming(client: Any) -> None:
    with client.messages.stream(model="demo", max_tokens=60, messages=CONVERSATION, **GREEDY) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == message.content[0].text == ANSWER
    assert message.usage.output_tokens > 10


def test_counted_tokens_are_those_that_are_read(client: Any) -> None:
    system = [{"type": "text", "text": "Answer briefly.", "cache_control": {"type": "ephemeral"}}]
    for more in ({}, {"system": system}, {"tools": [TOOL]}, {"thinking": {"type": "enabled", "budget_tokens": 20}}):
        counted = client.messages.count_tokens(model="demo", messages=SUM, **more)
        usage = client.messages.create(model="demo", messages=SUM, max_tokens=1, **more).usage
        assert usage.input_tokens + usage.cache_read_input_tokens == counted.input_tokens


def test_stop_sequences(client: Any) -> None:
    message = client.messages.create(
        model="demo", max_tokens=60, messages=CONVERSATION, stop_sequences=["quantity", "price"], **GREEDY
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "quantity")
    assert message.content[0].text == '{"lines":[{"item":"Milk","'


def test_thinking_comes_back(client: Any) -> None:
    first = client.messages.create(
        model="demo", max_tokens=200, messages=SUM, **GREEDY, thinking={"type": "enabled", "budget_tokens": 100}
    )
    assert [block.type for block in first.content] == ["thinking", "text"]
    assert first.content[1].text == "34+17=51"
    again = [*SUM, {"role": "assistant", "content": first.content}, *SUM]
    second = client.messages.create(model="demo", max_tokens=20, messages=again, thinking={"type": "disabled"})
    assert [block.type for block in second.content] == ["text"]
    assert getattr(second, "warnings", None) is None


def test_tools_round_trip(client: Any) -> None:
    question = {"role": "user", "content": "How is the weather in Rome?"}
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    asked = {"model": "demo", "max_tokens": 120, "tools": [TOOL], **GREEDY}
    with client.messages.stream(messages=[question], tool_choice=choice, **asked) as stream:
        call = stream.get_final_message()
    assert call.stop_reason == "tool_use"
    use = call.content[-1]
    assert (use.type, use.name) == ("tool_use", "weather")
    assert use.input["city"] in ("Oslo", "Rome")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "21 degrees"}]}
    answer = client.messages.create(
        messages=[question, {"role": "assistant", "content": call.content}, {"role": "user", "content": [result]}],
        tool_choice={"type": "none"},
        **asked,
    )
    assert [block.type for block in answer.content] == ["text"]
    assert answer.usage.cache_read_input_tokens >= _read(call) + call.usage.output_tokens - 2  # the very same tokens


def _read(message: Any) -> int:
    return int(message.usage.input_tokens + message.usage.cache_read_input_tokens)


def test_structured_output(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model="demo", max_tokens=100, messages=SUM, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert message.content[0].text.startswith('{"sum":')


def test_images(client: Any, picture: bytes) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(picture).decode()}
    text = {"type": "text", "text": "Receipt to JSON."}
    content = [{"type": "image", "source": source}, text]

    def count(content: Any) -> int:
        counted = client.messages.count_tokens(model="demo", messages=[{"role": "user", "content": content}])
        return int(counted.input_tokens)

    message = client.messages.create(model="demo", max_tokens=120, messages=[{"role": "user", "content": content}])
    assert json.loads(message.content[0].text)["total"] == 7.3
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == count(content) > count([text])


def test_errors(client: Any) -> None:
    with pytest.raises(anthropic.BadRequestError) as unknown:
        client.messages.create(model="demo", max_tokens=5, messages=CONVERSATION, extra_body={"nonsense": 1})
    assert unknown.value.body["error"]["type"] == "invalid_request_error"
    assert unknown.value.body["error"]["param"] == "nonsense"
    assert unknown.value.request_id == unknown.value.body["request_id"]
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="absent", max_tokens=5, messages=CONVERSATION)
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        client.messages.create(model="demo", max_tokens=5, messages=[])
    long = [{"role": "user", "content": "a b c " * 9000}]
    with pytest.raises(anthropic.BadRequestError, match="tokens"):
        client.messages.create(model="demo", max_tokens=5, messages=long)
    with (
        pytest.raises(anthropic.BadRequestError),
        client.messages.stream(model="demo", max_tokens=5, messages=CONVERSATION, extra_body={"container": "x"}),
    ):
        pass


def test_the_lenient_are_warned(client: Any) -> None:
    message = client.messages.create(
        model="demo",
        max_tokens=5,
        messages=CONVERSATION,
        extra_headers={"Prefer": "handling=lenient"},
        extra_body={"container": "x", "nonsense": 1},
    )
    assert sorted(warning.split()[0] for warning in message.warnings) == ["container", "nonsense"]
