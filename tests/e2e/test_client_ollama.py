"""The official Ollama client against a real server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from asked import ANSWER, RECEIPT

ollama = pytest.importorskip("ollama")

SUM = "What is 34 + 17?"
GREEDY = {"temperature": 0, "num_predict": 60}


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[Any]:
    made = ollama.Client(server_url)
    yield made
    made._client.close()


def _user(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, **more}]


def test_chat(client: Any) -> None:
    answer = client.chat("demo", _user(RECEIPT), options=GREEDY)
    assert (answer.message.role, answer.message.content, answer.done_reason) == ("assistant", ANSWER, "stop")
    assert answer.total_duration >= answer.eval_duration > 0
    assert answer.eval_count > 10


def test_streaming(client: Any) -> None:
    lines = list(client.chat("demo", _user(RECEIPT), options=GREEDY, stream=True))
    assert "".join(line.message.content for line in lines) == ANSWER
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    cut = list(client.generate("demo", RECEIPT, options={"num_predict": 3}, stream=True))
    assert (cut[-1].done_reason, cut[-1].eval_count) == ("length", 3)


def test_thinking(client: Any) -> None:
    thinks = client.chat("demo", _user(SUM), think=True, options=GREEDY)
    assert thinks.message.thinking
    assert thinks.message.content == "34+17=51"
    assert client.chat("demo", _user(SUM), think=False, options=GREEDY).message.thinking is None
    lines = list(client.generate("demo", SUM, think="low", options=GREEDY, stream=True))
    assert "".join(line.thinking or "" for line in lines) == thinks.message.thinking


def test_generate_goes_on_with_its_context(client: Any) -> None:
    listing = "oak: 12\nelm: 7\n\nWhat is elm?"
    first = client.generate("demo", listing, options=GREEDY)
    second = client.generate("demo", "What is oak?", context=first.context, options=GREEDY)
    chatted = client.chat(
        "demo",
        [*_user(listing), {"role": "assistant", "content": first.response}, *_user("What is oak?")],
        options=GREEDY,
    )
    assert second.response == chatted.message.content
    assert second.prompt_eval_count == chatted.prompt_eval_count
    with pytest.raises(ollama.ResponseError, match="context"):
        client.generate("demo", "What is oak?", context=[1, 2, 3])


def test_raw_prompts(client: Any) -> None:
    prompt = f"<|im_start|>user\n{RECEIPT}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert client.generate("demo", prompt, raw=True, options=GREEDY).response == ANSWER


def test_structured_output(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"sum": {"const": 51}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    answer = client.chat("demo", _user(SUM), format=schema, options={"num_predict": 100})
    assert answer.message.content.replace(" ", "").replace("\n", "").startswith('{"sum":51')
    assert client.chat("demo", _user(RECEIPT), format="json", options=GREEDY).message.content == ANSWER


def test_tools_round_trip(client: Any) -> None:
    def weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name
        """
        return city

    call = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    messages = [
        *_user("How is the weather in Rome?"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "weather", "content": "21 degrees"},
    ]
    plain = client.chat("demo", messages, options=GREEDY)
    offered = client.chat("demo", messages, tools=[weather], options=GREEDY)
    assert offered.prompt_eval_count > plain.prompt_eval_count
    other = client.chat(
        "demo", [*messages[:2], {"role": "tool", "tool_name": "other", "content": "21 degrees"}], options=GREEDY
    )
    assert other.message.content == plain.message.content  # it is read as the result of the call before it


def test_images(client: Any, picture: bytes) -> None:
    seen = client.chat("demo", _user("Receipt to JSON.", images=[picture]), options=GREEDY)
    assert json.loads(seen.message.content)["total"] == 7.3 and seen.prompt_eval_count > 64
    whole = client.generate("demo", "Receipt to JSON.", images=[picture], options=GREEDY)
    assert whole.response == seen.message.content


def test_logprobs(client: Any) -> None:
    answer = client.chat("demo", _user(RECEIPT), logprobs=True, top_logprobs=2, options=GREEDY)
    assert "".join(entry.token for entry in answer.logprobs).startswith(ANSWER)
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in answer.logprobs)


def test_num_ctx_bounds_prompt_and_reply(client: Any) -> None:
    answer = client.chat("demo", _user(RECEIPT), options={"temperature": 0, "num_ctx": 40})
    assert (answer.prompt_eval_count + answer.eval_count, answer.done_reason) == (40, "length")
    with pytest.raises(ollama.ResponseError, match="num_ctx allows 10"):
        client.chat("demo", _user(RECEIPT), options={"num_ctx": 10})


def test_embeddings(client: Any) -> None:
    both = client.embed("demo", ["one", "two"])
    assert len(both.embeddings) == 2
    assert both.prompt_eval_count > 1
    alone = client.embed("demo", "two").embeddings[0]
    assert alone == both.embeddings[1] == client.embeddings("demo", "two").embedding
    short = client.embed("demo", "two", dimensions=8).embeddings[0]
    assert len(short) == 8
    assert math.isclose(sum(value * value for value in short), 1, rel_tol=1e-5)


def test_models(client: Any) -> None:
    assert [model.model for model in client.list().models] == ["demo", "eyes"]
    assert [model.model for model in client.ps().models] == ["demo", "eyes"]
    shown = client.show("demo")
    assert "completion" in shown.capabilities
    assert "vision" in client.show("eyes").capabilities
    assert shown.modelinfo["general.architecture"] == "qwen35"


def test_errors(client: Any) -> None:
    with pytest.raises(ollama.ResponseError) as absent:
        client.chat("absent", _user("hi"))
    assert absent.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="mirostat") as refused:
        client.chat("demo", _user("hi"), options={"mirostat": 2})
    assert refused.value.status_code == 400
    for manage in (lambda: client.pull("x"), lambda: client.delete("demo"), lambda: client.copy("demo", "x")):
        with pytest.raises(ollama.ResponseError, match="disk") as managing:
            manage()
        assert managing.value.status_code == 403


def test_loading_and_unloading(client: Any) -> None:
    assert client.generate("eyes").done_reason == "load"
    assert client.chat("eyes", keep_alive=0).done_reason == "unload"
    assert [model.model for model in client.ps().models] == ["demo"]
    assert [(model.model, model.size is None) for model in client.list().models] == [("demo", False), ("eyes", True)]
    assert client.chat("eyes", [], keep_alive="5m").done_reason == "load"
    assert len(client.ps().models) == 2
