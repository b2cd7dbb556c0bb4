"""Streamed and whole replies are equal wherever the text is split, in JSON that the official clients accept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import TypeAdapter

from loqal.server.anthropic import schema as anthropic_schema
from loqal.server.anthropic.format import MessageWriter
from loqal.server.ollama import schema as ollama_schema
from loqal.server.ollama.format import LineWriter
from loqal.server.openai_responses import schema as responses_schema
from loqal.server.openai_responses.format import ResponseWriter, decode_reasoning
from loqal.server.openai_responses.protocol import ResponseBody
from loqal.server.shared.errors import Problem
from loqal.server.shared.streaming import Event, Formatter
from loqal.types.messages import ToolCall
from loqal.types.reply import FinishReason, Reply, ReplyDelta, Timings, TokenLogprobs, ToolCallDelta, Usage

anthropic_types = pytest.importorskip("anthropic.types")
ollama_types = pytest.importorskip("ollama._types")
openai_types = pytest.importorskip("openai.types.responses")

CALLS = (ToolCall("look", {"at": "é", "n": [1]}, "call_0"), ToolCall("stop", {}, "call_1"))
REPLY = Reply(
    text="Hé!",
    reasoning="So…",
    token_ids=(1, 2, 3),
    finish_reason=FinishReason.TOOL_CALLS,
    usage=Usage(10, 3, 1, 4, "because"),
    timings=Timings(1.0, 2.0, 1000.0, 100.0),
    seed=1,
    tool_calls=CALLS,
)


def _deltas(cut: int | None) -> list[ReplyDelta]:
    """The pieces of the reply, every text cut at one place, or between all characters for None."""

    def pieces(text: str) -> Iterator[str]:
        yield from text if cut is None else filter(None, (text[:cut], text[cut:]))

    found = [ReplyDelta(reasoning=piece) for piece in pieces(REPLY.reasoning)]
    for number, piece in enumerate(pieces(REPLY.text)):
        found.append(ReplyDelta(text=piece, logprobs=(TokenLogprobs(number, -0.5, ((7, -0.25),)),)))
    for index, call in enumerate(CALLS):
        texts = list(pieces(json.dumps(call.arguments)))
        for number, piece in enumerate(texts):
            name = call.name if number == 0 else None
            last = call if number == len(texts) - 1 else None
            found.append(ReplyDelta(tool_call=last, call_piece=ToolCallDelta(index, call.id, name, piece)))
    return [*found, ReplyDelta(token_ids=(3,))]


CUTS = [0, 1, 2, 3, 5, 8, 13, 100, None]


def _events(writer: Formatter, deltas: Sequence[ReplyDelta], reply: Reply = REPLY) -> list[Event]:
    events = [*writer.start()]
    for delta in deltas:
        events += writer.push(0, delta)
    return [*events, *writer.end(0, reply), *writer.close()]


# Anthropic ------------------------------------------------------------------------------------------------------------


def _message_writer(**more: Any) -> MessageWriter:
    return MessageWriter("msg_1", "demo", 100, prompt_tokens=10, warnings=["a: b"], **more)


def _folded(events: Sequence[Event]) -> dict[str, Any]:
    """What a client makes of the events."""
    message: dict[str, Any] = {}
    for event in events:
        data = event.data
        match data["type"]:
            case "message_start":
                message = json.loads(json.dumps(data["message"]))
            case "content_block_start":
                assert data["index"] == len(message["content"])
                message["content"].append({**data["content_block"]})
            case "content_block_delta":
                block, delta = message["content"][data["index"]], data["delta"]
                kind = delta.pop("type")
                (key, text) = next(iter(delta.items()))
                block[key] = block.get(key, "") + text
                delta["type"] = kind
            case "content_block_stop":
                block = message["content"][data["index"]]
                if block["type"] == "tool_use":
                    block["input"] = json.loads(block.pop("partial_json"))
            case "message_delta":
                message |= {**data["delta"], "usage": data["usage"]}
    return message


@pytest.mark.parametrize("cut", CUTS)
def test_an_anthropic_message_is_its_events(cut: int | None) -> None:
    whole, writer = _message_writer(), _message_writer()
    _events(whole, _deltas(100))
    events = _events(writer, _deltas(cut))
    assert _folded(events) == writer.message == whole.message
    assert [event.name for event in events] == [event.data["type"] for event in events]
    anthropic_schema.MessageAnswer.model_validate(writer.message)
    stream = TypeAdapter(anthropic_types.RawMessageStreamEvent)
    for event in events:
        stream.validate_json(json.dumps(event.data), strict=True)
        anthropic_schema.MessageEvent.model_validate(event.data)


def test_an_anthropic_message_is_what_the_client_expects() -> None:
    writer = _message_writer()
    _events(writer, _deltas(1))
    message = anthropic_types.Message.model_validate_json(json.dumps(writer.message), strict=True)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.content[2].input == CALLS[0].arguments
    assert message.stop_reason == "tool_use"
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens == 10
    assert (usage.cache_read_input_tokens, usage.output_tokens) == (4, 3)
    assert usage.output_tokens_details.thinking_tokens == 1


def test_omitted_thinking_is_signed_all_the_same() -> None:
    shown, omitted = _message_writer(), _message_writer(shows_thinking=False)
    assert _folded(_events(omitted, _deltas(1))) == omitted.message
    _events(shown, _deltas(1))
    assert omitted.message["content"][0]["thinking"] == ""
    assert omitted.message["content"][0]["signature"] == shown.message["content"][0]["signature"]


@pytest.mark.parametrize(
    ("reason", "stop", "tokens", "expected"),
    [
        (FinishReason.STOP, None, 3, "end_turn"),
        (FinishReason.STOP, "###", 3, "stop_sequence"),
        (FinishReason.LENGTH, None, 100, "max_tokens"),
        (FinishReason.LENGTH, None, 99, "model_context_window_exceeded"),
        (FinishReason.TOOL_CALLS, None, 3, "tool_use"),
    ],
)
def test_stop_reasons(reason: FinishReason, stop: str | None, tokens: int, expected: str) -> None:
    reply = Reply("", "", (), reason, Usage(1, tokens), Timings(0, 0, 0, 0), 1, stop_string=stop)
    writer = _message_writer()
    _events(writer, [], reply)
    assert (writer.message["stop_reason"], writer.message["stop_sequence"]) == (expected, stop)


# Ollama ---------------------------------------------------------------------------------------------------------------


def _line_writer(chats: bool) -> LineWriter:
    return LineWriter(
        "demo",
        chats=chats,
        token_bytes=lambda token_id: f"<{token_id}>".encode(),
        elapsed_ns=lambda: 9,
        load_ns=2,
        context=None if chats else lambda reply: [1, 2],
        now=lambda: 0.0,
    )


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("chats", [True, False])
def test_ollama_lines_add_up(cut: int | None, chats: bool) -> None:
    whole, writer = _line_writer(chats), _line_writer(chats)
    _events(whole, _deltas(cut))
    events = _events(writer, _deltas(cut))
    kind = ollama_types.ChatResponse if chats else ollama_types.GenerateResponse
    ours = ollama_schema.OllamaChatAnswer if chats else ollama_schema.OllamaGenerateAnswer
    lines = [event.data for event in events]
    for line in lines:
        kind.model_validate_json(json.dumps(line), strict=True)
        ours.model_validate(line)
    added: dict[str, Any] = {"content": "", "thinking": "", "tool_calls": [], "logprobs": []}
    for line in lines:
        said = line["message"] if chats else line
        added["content"] += said["content" if chats else "response"]
        added["thinking"] += said.get("thinking", "")
        added["tool_calls"] += said.get("tool_calls", [])
        added["logprobs"] += line.get("logprobs", [])
    said = writer.whole["message"] if chats else writer.whole
    assert added["content"] == said["content" if chats else "response"] == REPLY.text
    assert added["thinking"] == said["thinking"] == REPLY.reasoning
    assert added["tool_calls"] == said["tool_calls"]
    assert added["logprobs"] == writer.whole["logprobs"]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert writer.whole == whole.whole
    ours.model_validate(writer.whole)
    assert [call["function"]["index"] for call in said["tool_calls"]] == [0, 1]


def test_ollama_durations_are_nanoseconds() -> None:
    writer = _line_writer(chats=False)
    _events(writer, _deltas(1))
    ending = ollama_types.GenerateResponse.model_validate_json(json.dumps(writer.whole), strict=True)
    assert (ending.total_duration, ending.load_duration, ending.prompt_eval_count, ending.eval_count) == (9, 2, 10, 3)
    assert ending.prompt_eval_duration == 6_000_000  # six tokens that were not cached
    assert ending.eval_duration == 20_000_000  # two after the first
    assert (ending.done, ending.done_reason, ending.context) == (True, "stop", [1, 2])
    assert writer.whole["cached_tokens"] == 4


# OpenAI Responses -----------------------------------------------------------------------------------------------------


def _response_writer(**body: Any) -> ResponseWriter:
    numbers = iter(range(100))
    return ResponseWriter(
        ResponseBody.model_validate({"model": "demo", "input": "hi", **body}),
        "demo",
        now=lambda: 0.0,
        new_id=lambda prefix: f"{prefix}_{next(numbers)}",
        token_bytes=lambda token_id: f"<{token_id}>".encode(),
        warnings=["a: b"],
    )


@pytest.mark.parametrize("cut", CUTS)
def test_a_response_is_its_events(cut: int | None) -> None:
    whole, writer = _response_writer(), _response_writer()
    _events(whole, _deltas(100))
    events = [event.data for event in _events(writer, _deltas(cut))]
    assert writer.response == whole.response == events[-1]["response"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    stream = TypeAdapter(openai_types.ResponseStreamEvent)
    responses_schema.ResponseAnswer.model_validate(writer.response)
    for event in events:
        stream.validate_json(json.dumps(event), strict=True)
        responses_schema.ResponseEvent.model_validate(event)
    texts: dict[str, str] = {}
    done: list[dict[str, Any]] = []
    for event in events:
        if event["type"].endswith(".delta"):
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
        elif event["type"].endswith((".text.done", "_text.done", "arguments.done")):
            assert texts[event["item_id"]] == event.get("text", event.get("arguments"))
        elif event["type"] == "response.output_item.added":
            assert event["output_index"] == len(done)
        elif event["type"] == "response.output_item.done":
            done.append(event["item"])
    assert done == writer.response["output"]
    assert list(texts.values()) == [REPLY.reasoning, REPLY.text, *(json.dumps(call.arguments) for call in CALLS)]


def test_a_response_is_what_the_client_expects() -> None:
    tools = [{"type": "function", "name": "look"}]
    schema = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    writer = _response_writer(
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        tools=tools,
        tool_choice={"type": "function", "name": "look"},
        text={"format": schema},
        reasoning={"effort": "low"},
        instructions="Be brief.",
        metadata={"a": "b"},
        temperature=0,
    )
    _events(writer, _deltas(1))
    response = openai_types.Response.model_validate_json(json.dumps(writer.response), strict=True)
    reasoning, message, *calls = response.output
    assert decode_reasoning(reasoning.encrypted_content) == reasoning.content[0].text == REPLY.reasoning
    assert [entry.token for entry in message.content[0].logprobs] == ["<0>", "<1>"]
    assert message.content[0].logprobs[0].top_logprobs[0].bytes == list(b"<7>")
    assert [(call.call_id, call.name, json.loads(call.arguments)) for call in calls] == [
        (call.id, call.name, call.arguments) for call in CALLS
    ]
    assert response.status == "completed"
    assert response.usage.total_tokens == 13
    assert response.usage.input_tokens_details.cached_tokens == 4
    assert response.text.format.schema_ == {"type": "object"}
    assert response.tools[0].name == "look"


def test_a_response_that_was_cut_or_failed_says_so() -> None:
    cut, failed = _response_writer(), _response_writer()
    reply = Reply("", "", (), FinishReason.LENGTH, Usage(1, 1), Timings(0, 0, 0, 0), 1)
    _events(cut, [ReplyDelta(text="a")], reply)
    assert (cut.response["status"], cut.response["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert cut.response["output"][0]["status"] == "incomplete"
    failed.start()
    failed.push(0, ReplyDelta(text="a"))
    events = failed.failed(Problem("internal", "It broke."))
    assert events[-1].data["response"]["error"] == {"code": "server_error", "message": "It broke."}
    openai_types.ResponseFailedEvent.model_validate_json(json.dumps(events[-1].data), strict=True)
