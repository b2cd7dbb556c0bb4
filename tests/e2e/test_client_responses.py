"""The official OpenAI client and its Responses API against a real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from asked import ANSWER, CITY, RECEIPT
from waiting import wait_until

openai = pytest.importorskip("openai")

SUM = "What is 34 + 17?"
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": CITY,
    "strict": True,
}


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def _ask(client: Any, items: Any, **more: Any) -> Any:
    return client.responses.create(**{"model": "demo", "input": items, "temperature": 0, **more})


def test_a_response(client: Any) -> None:
    response = _ask(client, RECEIPT)
    assert (response.output_text, response.status, response.error) == (ANSWER, "completed", None)
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_streaming(client: Any) -> None:
    with client.responses.stream(model="demo", input=RECEIPT, temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
    assert final.output_text == ANSWER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"


def test_responses_follow_each_other(client: Any) -> None:
    first = _ask(client, "oak: 12\nelm: 7\n\nWhat is elm?", instructions="Look it up.")
    second = _ask(client, "What is oak?", previous_response_id=first.id)
    whole = _ask(
        client,
        [
            {"role": "user", "content": "oak: 12\nelm: 7\n\nWhat is elm?"},
            *first.output,
            {"role": "user", "content": "What is oak?"},
        ],
    )
    assert second.output_text == whole.output_text
    assert second.usage.input_tokens == whole.usage.input_tokens
    assert second.previous_response_id == first.id
    referred = _ask(client, [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "a"}])
    assert referred.status == "completed"


def test_kept_responses(client: Any) -> None:
    response = _ask(client, RECEIPT, metadata={"a": "b"})
    again = client.responses.retrieve(response.id)
    assert (again.output_text, again.metadata) == (response.output_text, {"a": "b"})
    items = client.responses.input_items.list(response.id).data
    assert [item.content[0].text for item in items] == [RECEIPT]
    client.responses.delete(response.id)
    for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            gone(response.id)
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        _ask(client, SUM, previous_response_id=response.id)
    unkept = _ask(client, RECEIPT, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_input_items_in_pages(client: Any) -> None:
    texts = [str(number) for number in range(5)]
    items = [{"role": "user", "content": text} for text in texts]
    response = _ask(client, items, max_output_tokens=1)
    page = client.responses.input_items.list(response.id, limit=2, order="asc")
    assert [item.content[0].text for item in page] == texts  # the client turns the pages
    newest = client.responses.input_items.list(response.id, limit=2)
    assert [item.content[0].text for item in newest.data] == ["4", "3"]
    assert newest.has_more


def test_in_the_background(client: Any) -> None:
    begun = _ask(client, RECEIPT, background=True)
    assert begun.status == "in_progress"
    assert _wait(client, begun.id).output_text == ANSWER
    with client.responses.retrieve(begun.id, stream=True) as events:
        numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(numbers)))
    with client.responses.retrieve(begun.id, stream=True, starting_after=4) as events:
        assert [event.sequence_number for event in events] == numbers[5:]


def test_cancelling(client: Any) -> None:
    endless = {"type": "json_schema", "name": "x", "schema": {"type": "array", "minItems": 3000}}
    begun = _ask(client, SUM, background=True, text={"format": endless})
    with pytest.raises(openai.BadRequestError, match="in_progress"):
        _ask(client, SUM, previous_response_id=begun.id)
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert client.responses.retrieve(begun.id).status == "cancelled"
    foreground = _ask(client, SUM)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(foreground.id)


def _wait(client: Any, identity: str) -> Any:
    wait_until(lambda: client.responses.retrieve(identity).status not in ("queued", "in_progress"))
    return client.responses.retrieve(identity)


def test_reasoning(client: Any) -> None:
    response = _ask(client, SUM, reasoning={"effort": "low"}, store=False, include=["reasoning.encrypted_content"])
    reasoning, message = response.output
    assert (reasoning.type, message.content[0].text) == ("reasoning", "34+17=51")
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    items = [{"role": "user", "content": SUM}, *response.output, {"role": "user", "content": SUM}]
    again = _ask(client, items, reasoning={"effort": "none"})
    assert [item.type for item in again.output] == ["message"]
    assert getattr(again, "warnings", None) is None


def test_tools_round_trip(client: Any) -> None:
    asked = {"tools": [TOOL], "parallel_tool_calls": False}
    first = _ask(client, "How is the weather in Rome?", tool_choice="required", max_output_tokens=120, **asked)
    call = next(item for item in first.output if item.type == "function_call")
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}]
    more = {"tool_choice": "none", "max_output_tokens": 40, **asked}
    followed = _ask(client, output, previous_response_id=first.id, **more)
    whole = _ask(client, [{"role": "user", "content": "How is the weather in Rome?"}, *first.output, *output], **more)
    assert followed.output_text == whole.output_text


def test_structured_output(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"sum": {"const": 51}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    response = _ask(client, SUM, text={"format": {"type": "json_schema", "name": "sum", "schema": schema}})
    assert json.loads(response.output_text) == {"sum": 51}
    assert json.loads(_ask(client, RECEIPT, text={"format": {"type": "json_object"}}).output_text)["total"] == 2.4


def test_images(client: Any, picture: bytes) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    text = {"type": "input_text", "text": "Receipt to JSON."}
    image = {"type": "input_image", "image_url": url, "detail": "auto"}

    def count(*content: Any) -> int:
        response = _ask(client, [{"role": "user", "content": content}], max_output_tokens=120)
        counted = client.responses.input_tokens.count(model="demo", input=[{"role": "user", "content": content}])
        assert counted.input_tokens == response.usage.input_tokens
        return int(response.usage.input_tokens)

    assert count(text, image) > count(text)
    seen = _ask(client, [{"role": "user", "content": [image, text]}], max_output_tokens=120)
    assert json.loads(seen.output_text)["total"] == 7.3


def test_logprobs(client: Any) -> None:
    response = _ask(client, RECEIPT, include=["message.output_text.logprobs"], top_logprobs=2)
    logprobs = response.output[0].content[0].logprobs
    assert "".join(entry.token for entry in logprobs) == ANSWER
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs)


def test_cut_responses(client: Any) -> None:
    response = _ask(client, RECEIPT, max_output_tokens=3)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_errors(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as unknown:
        _ask(client, SUM, extra_body={"nonsense": 1})
    assert (unknown.value.param, unknown.value.type) == ("nonsense", "invalid_request_error")
    with pytest.raises(openai.NotFoundError):
        _ask(client, SUM, model="absent")
    with pytest.raises(openai.BadRequestError) as tool:
        _ask(client, SUM, tools=[{"type": "web_search"}])
    assert tool.value.param == "tools[0].type"
    with pytest.raises(openai.BadRequestError) as long:
        _ask(client, "a b c " * 9000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as schema:
        _ask(client, SUM, text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "nonsense"}}})
    assert schema.value.status_code == 400
