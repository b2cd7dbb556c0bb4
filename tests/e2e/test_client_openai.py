"""The official OpenAI client, chats, completions and embeddings, against a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from asked import ANSWER, CITY, RECEIPT
from waiting import PATIENCE_S

openai = pytest.importorskip("openai")

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": CITY,
        "strict": True,
    },
}


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: Any, content: Any = RECEIPT, **more: Any) -> Any:
    messages = more.pop("messages", [{"role": "user", "content": content}])
    return client.chat.completions.create(**{"model": "demo", "messages": messages, "temperature": 0, **more})


def test_a_chat(client: Any) -> None:
    found = ask(client)
    choice = found.choices[0]
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert ask(client).usage.prompt_tokens_details.cached_tokens > 0


def test_events_equal_the_whole(client: Any) -> None:
    events = list(ask(client, stream=True, stream_options={"include_usage": True}, logprobs=True, top_logprobs=2))
    whole = ask(client, logprobs=True, top_logprobs=2)
    assert "".join(event.choices[0].delta.content or "" for event in events[:-1]) == ANSWER
    assert events[-1].choices == [] and events[-1].usage.completion_tokens == whole.usage.completion_tokens
    streamed = [one for event in events[:-1] if event.choices[0].logprobs for one in event.choices[0].logprobs.content]
    assert streamed == whole.choices[0].logprobs.content


def test_log_probabilities(client: Any) -> None:
    content = ask(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    text = b"".join(bytes(one.bytes) for one in content[:-1]).decode()
    assert text == ANSWER
    assert all(len(one.top_logprobs) == 3 and one.logprob == one.top_logprobs[0].logprob <= 0 for one in content)


def test_choices_differ_by_their_seeds_and_come_again(client: Any) -> None:
    found = [ask(client, "Hello!", n=3, temperature=5, seed=5, max_tokens=20) for _ in range(2)]
    texts = [[choice.message.content for choice in one.choices] for one in found]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    alone = ask(client, "Hello!", temperature=5, seed=6, max_tokens=20)
    assert alone.choices[0].message.content == texts[0][1]
    streamed = ["", "", ""]
    for event in ask(client, "Hello!", n=3, temperature=5, seed=5, max_tokens=20, stream=True):
        for choice in event.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts[0]


def test_stops_biases_and_limits(client: Any) -> None:
    assert ask(client, stop=["quantity", "nowhere"]).choices[0].message.content == ANSWER[: ANSWER.index("quantity")]
    short = ask(client, max_completion_tokens=3).choices[0]
    assert short.finish_reason == "length" and ANSWER.startswith(short.message.content)
    first = ask(client, logprobs=True, max_tokens=1, top_logprobs=2).choices[0].logprobs.content[0]
    ids = client.post("/tokenize", body={"model": "demo", "text": first.token}, cast_to=object)["token_ids"]
    other = ask(client, logit_bias={str(ids[0]): -100}, max_tokens=1, logprobs=True).choices[0].logprobs.content[0]
    assert other.token == first.top_logprobs[1].token


def test_thinking_is_told_apart_under_both_names(client: Any) -> None:
    found = ask(client, "What is 34 + 17?", reasoning_effort="low", max_tokens=60)
    message = found.choices[0].message.model_dump()
    assert message["reasoning"] == message["reasoning_content"] != ""
    assert found.usage.completion_tokens_details.reasoning_tokens > 0
    history = [
        {"role": "user", "content": "What is 34 + 17?"},
        {"role": "assistant", "content": message["content"], "reasoning_content": message["reasoning"]},
        {"role": "user", "content": RECEIPT},
    ]
    assert ask(client, messages=history, max_tokens=5).choices[0].message.content


def test_a_round_trip_with_a_tool(client: Any) -> None:
    question = {"role": "user", "content": "How is the weather?"}
    more = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    first = ask(client, messages=[question], **more)
    calls = first.choices[0].message.tool_calls
    assert first.choices[0].finish_reason == "tool_calls" and calls
    for call in calls:
        assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
    history = [question, first.choices[0].message.model_dump(exclude_none=True), *results]
    assert ask(client, messages=history, tools=[TOOL], max_tokens=5).choices[0].finish_reason


def test_streamed_calls_equal_the_whole(client: Any) -> None:
    more: dict[str, Any] = {"tools": [TOOL], "max_tokens": 200, "temperature": 1, "seed": 1}
    more["tool_choice"] = {"type": "function", "function": {"name": "weather"}}
    whole = ask(client, "Weather?", **more).choices[0]
    names, arguments = "", ""
    for event in ask(client, "Weather?", stream=True, **more):
        for piece in event.choices[0].delta.tool_calls or []:
            if piece.index == 0:
                names += piece.function.name or ""
                arguments += piece.function.arguments
    assert (names, arguments) == ("weather", whole.message.tool_calls[0].function.arguments)


@pytest.mark.parametrize("think", [False, True])
def test_structured_answers(client: Any, think: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    found = ask(
        client,
        response_format={"type": "json_schema", "json_schema": {"name": "ok", "schema": schema, "strict": True}},
        max_tokens=100,
        extra_body={"enable_thinking": think},
    )
    assert isinstance(json.loads(found.choices[0].message.content)["ok"], bool)
    chosen = ask(client, extra_body={"structured_outputs": {"choice": ["yes", "no"]}, "enable_thinking": False})
    assert chosen.choices[0].message.content in ("yes", "no")
    matched = ask(client, extra_body={"structured_outputs": {"regex": "[a-c]{2}"}, "enable_thinking": False})
    assert re.fullmatch("[a-c]{2}", matched.choices[0].message.content)


def test_pictures(client: Any, picture: bytes) -> None:
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Receipt to JSON."}]
    found = ask(client, parts, extra_body={"enable_thinking": False})
    assert json.loads(found.choices[0].message.content)["total"] == 7.3 and found.usage.prompt_tokens > 64
    for bad in (
        "data:image/png;base64,AAAA",
        "data:image/png;base64,!",
        "https://127.0.0.1/x.png",
        "file:///etc/passwd",
    ):
        with pytest.raises(openai.BadRequestError):
            ask(client, [{"type": "image_url", "image_url": {"url": bad}}])


def test_completions(client: Any) -> None:
    def complete(prompt: Any, **more: Any) -> Any:
        return client.completions.create(
            **{"model": "demo", "prompt": prompt, "temperature": 0, "max_tokens": 2, **more}
        )

    text = complete("one two").choices[0].text
    assert complete(["one two", "three"], n=2).choices[1].text == text
    assert "".join(event.choices[0].text for event in complete("one two", stream=True)) == text
    echo = complete("one two", echo=True, logprobs=2)
    table = echo.choices[0].logprobs
    assert echo.choices[0].text == "one two" + text == "".join(table.tokens)
    assert table.token_logprobs[0] is None and all(value <= 0 for value in table.token_logprobs[1:])
    assert table.text_offset == [len("".join(table.tokens[:index])) for index in range(len(table.tokens))]
    assert all(
        max(top.values()) >= value for top, value in zip(table.top_logprobs[1:], table.token_logprobs[1:], strict=True)
    )
    ids = client.post("/tokenize", body={"model": "demo", "text": "one two"}, cast_to=object)["token_ids"]
    assert complete(ids).choices[0].text == text
    scored = complete(ids, echo=True, logprobs=2, max_tokens=0).choices[0]
    assert scored.text == "one two" and scored.logprobs.token_logprobs == table.token_logprobs[: len(ids)]
    score = client.post("/score", body={"model": "demo", "prompt": ids[:1], "continuations": [ids[1:]]}, cast_to=object)
    assert math.isclose(score["scores"][0]["logprob"], sum(scored.logprobs.token_logprobs[1:]))


def test_embeddings(client: Any) -> None:
    found = client.embeddings.create(model="demo", input=["a text", "another", "a text"])
    vectors = [one.embedding for one in found.data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.isclose(sum(value * value for value in vectors[0]), 1, rel_tol=1e-5)
    plain = client.embeddings.create(model="demo", input="a text", encoding_format="float", dimensions=8)
    assert len(plain.data[0].embedding) == 8
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="demo", input="a", dimensions=10**6)


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["demo", "eyes"]
    assert client.models.retrieve("demo").owned_by == "loqal"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
        ({"n": 10**9}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ],
)
def test_errors_name_the_field(client: Any, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **more)
    assert caught.value.param == param and caught.value.type == "invalid_request_error"


def test_what_does_not_fit_is_refused_with_both_counts(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "word " * 5000)
    assert caught.value.code == "context_length_exceeded"
    assert len(re.findall(r"\d+", caught.value.message)) >= 2


def test_lenient_callers_are_warned(client: Any) -> None:
    found = ask(client, store=True, extra_body={"nonsense": 1}, extra_headers={"Prefer": "handling=lenient"})
    assert found.choices[0].message.content == ANSWER
    assert [warning.split()[0] for warning in found.warnings] == ["nonsense", "store"]


def test_a_lost_stream_goes_on(server_url: str) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": RECEIPT}], "temperature": 0, "stream": True}
    url, headers = f"{server_url}/v1/chat/completions", {"Prefer": "resume=30"}
    seen: list[str] = []
    with httpx.stream("POST", url, json=body, headers=headers) as answer:
        for line in answer.iter_lines():
            seen.append(line)
            if line.startswith("data: ") and len(seen) > 10:
                break
    last = [line for line in seen if line.startswith("id: ")][-1].removeprefix("id: ")
    rest = httpx.post(url, json=body, headers={"Last-Event-ID": last}).text.splitlines()
    lines = [line.removeprefix("data: ") for line in seen + rest if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1]) == ANSWER
    assert httpx.post(url, json=body, headers={"Last-Event-ID": "absent:1"}).status_code == 410


def test_a_client_that_leaves_frees_the_machine(server_url: str) -> None:
    async def run() -> None:
        body = {"model": "demo", "prompt": "a", "max_tokens": 4000, "ignore_eos": True}
        async with httpx.AsyncClient(base_url=server_url) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/completions", json=body, timeout=0.3)
            async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
                async for _ in answer.aiter_bytes():
                    break
            page, free = "", ("loqal_running_replies 0.0", 'name="active"} 0.0')
            async with asyncio.timeout(PATIENCE_S):
                while not all(words in page for words in free):
                    page = (await client.get("/metrics")).text

    asyncio.run(run())
