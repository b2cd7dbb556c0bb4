"""The official OpenAI client, its chats, completions and embeddings, against a real server."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

openai = pytest.importorskip("openai")

RECEIPT = [{"role": "user", "content": "Receipt to JSON:\n2 Milk 1.20\nTotal 2.40"}]
ANSWER = '{"lines":[{"item":"Milk","quantity":2,"price":1.20}],"total":2.40}'
SUM = [{"role": "user", "content": "What is 34 + 17?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def _chat(client: Any, messages: Any, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "demo", "messages": messages, "temperature": 0, **more})


def test_chat(client: Any) -> None:
    completion = _chat(client, RECEIPT)
    choice = completion.choices[0]
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (ANSWER, "assistant", "stop")
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_streaming(client: Any) -> None:
    with _chat(client, RECEIPT, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage.completion_tokens > 10


def test_several_answers(client: Any) -> None:
    asked = {"n": 3, "seed": 7, "temperature": 1, "max_tokens": 12}
    completion = _chat(client, SUM, **asked)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    with _chat(client, SUM, stream=True, **asked) as stream:
        texts = {0: "", 1: "", 2: ""}
        for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    assert list(texts.values()) == [choice.message.content for choice in completion.choices]


def test_reasoning(client: Any) -> None:
    message = _chat(client, SUM, reasoning_effort="low").choices[0].message
    assert message.content == "34+17=51"
    assert message.reasoning_content == message.reasoning != ""
    again = _chat(client, [*SUM, message.model_dump(exclude_none=True), *SUM], extra_body={"think": False})
    assert again.choices[0].message.content == "34+17=51"


def test_tools_round_trip(client: Any) -> None:
    question = {"role": "user", "content": "How is the weather in Rome?"}
    choice = {"type": "function", "function": {"name": "weather"}}
    asked = {"tools": [TOOL], "parallel_tool_calls": False, "max_tokens": 120}
    whole = _chat(client, [question], tool_choice=choice, **asked).choices[0]
    assert whole.finish_reason == "tool_calls"
    call = whole.message.tool_calls[0]
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    with client.chat.completions.stream(
        model="demo", messages=[question], temperature=0, tool_choice=choice, **asked
    ) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert (streamed.function.name, streamed.function.arguments) == (call.function.name, call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    answer = _chat(client, [question, whole.message, result], tool_choice="none", **asked)
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage.prompt_tokens_details.cached_tokens > 20


def test_structured_output(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"sum": {"const": 51}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema, "strict": True}}
    assert json.loads(_chat(client, SUM, response_format=form).choices[0].message.content) == {"sum": 51}
    thinking = _chat(client, SUM, response_format=form, reasoning_effort="low").choices[0].message
    assert thinking.reasoning
    assert json.loads(thinking.content) == {"sum": 51}


def test_images(client: Any, picture: bytes) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    text = {"type": "text", "text": "What is this?"}
    image = {"type": "image_url", "image_url": {"url": url}}

    def count(*content: Any) -> int:
        completion = _chat(client, [{"role": "user", "content": content}], model="eyes", max_tokens=2)
        return int(completion.usage.prompt_tokens)

    assert count(text, image) > count(text)


def test_logprobs(client: Any) -> None:
    logprobs = _chat(client, RECEIPT, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert "".join(entry.token for entry in logprobs).startswith(ANSWER)
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in logprobs)


def test_completions(client: Any) -> None:
    prompt = f"<|im_start|>user\n{RECEIPT[0]['content']}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    whole = client.completions.create(model="demo", prompt=prompt, max_tokens=60, temperature=0)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (ANSWER, "stop")
    with client.completions.create(model="demo", prompt=prompt, max_tokens=60, temperature=0, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == ANSWER


def test_embeddings(client: Any) -> None:
    both = client.embeddings.create(model="demo", input=["one", "two"])
    assert [entry.index for entry in both.data] == [0, 1]
    short = client.embeddings.create(model="demo", input="two", dimensions=8, encoding_format="float").data[0].embedding
    assert math.isclose(sum(value * value for value in short), 1, rel_tol=1e-5)


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["demo", "eyes"]
    assert client.models.retrieve("demo").id == "demo"


def test_errors(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as unknown:
        _chat(client, SUM, extra_body={"nonsense": 1})
    assert (unknown.value.param, unknown.value.type) == ("nonsense", "invalid_request_error")
    with pytest.raises(openai.NotFoundError):
        _chat(client, SUM, model="absent")
    with pytest.raises(openai.BadRequestError) as long:
        _chat(client, [{"role": "user", "content": "a b c " * 9000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError), _chat(client, SUM, stream=True, n=10**9):
        pass
