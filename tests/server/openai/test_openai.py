"""The OpenAI API without a model: parsing, and events that add up to the whole response."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.server.openai import schema as answers
from loqal.server.openai.format import (
    ChatWriter,
    CompletionWriter,
    Echo,
    Envelope,
)
from loqal.server.openai.parse import parse, parse_completion
from loqal.server.openai.protocol import ChatBody, CompletionBody
from loqal.server.shared.body import Warnings, read_body
from loqal.server.shared.errors import FieldError, Problem, openai_error
from loqal.server.shared.streaming import Event
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall
from loqal.types.reply import FinishReason, Reply, ReplyDelta, Timings, TokenLogprobs, ToolCallDelta, Usage
from loqal.types.reply_options import Grammar, JsonSchema, NamedTool, OneOf, Regex, Thinking

USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("f", "g")]


def request(**fields: Any) -> Any:
    return parse(ChatBody(**({"model": "m", "messages": [USER]} | fields)), Warnings())


def refusal(**fields: Any) -> str:
    with pytest.raises(FieldError) as caught:
        request(**fields)
    return caught.value.path


# Parse ----------------------------------------------------------------------------------------------------------------


def test_sampling_goes_where_it_belongs() -> None:
    params = request(
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop="x",
        max_completion_tokens=5,
        logit_bias={"3": -1.0},
        logprobs=True,
        top_logprobs=2,
        frequency_penalty=0.1,
    ).params
    assert (params.temperature, params.top_p, params.seed, params.stop) == (0.5, 0.9, 7, ("x",))
    assert (params.max_tokens, params.logit_bias, params.logprobs) == (5, {3: -1.0}, 2)
    assert params.frequency_penalty == 0.1
    assert request(logprobs=True).params.logprobs == 0
    assert request().params.logprobs is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias.a"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"store": True}, "store"),
        ({"functions": []}, "functions"),
        ({"verbosity": "low"}, "verbosity"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "h"}}}, "tool_choice.function.name"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs"),
        ({"think": True, "enable_thinking": False}, "enable_thinking"),
        ({"messages": [{"role": "function", "content": "", "name": "f"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "reasoning": "a", "reasoning_content": "b"}]}, "messages[0].reasoning"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "/etc/passwd"}]}]},
            "messages[0].content[0].image_url",
        ),
    ],
)
def test_what_is_refused_is_named(fields: dict[str, Any], path: str) -> None:
    assert refusal(**fields) == path


def test_messages_of_every_role() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    other = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}}
    image = {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}}
    found = request(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "reasoning": "hm",
                "tool_calls": [call, other],
            },
            {"role": "tool", "content": "2", "tool_call_id": "c2"},
            {"role": "tool", "content": "1", "tool_call_id": "c1"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    ).messages
    assert found == (
        Message("system", "be brief"),
        Message("user", (TextPart("look"), MediaPart("image", "data:,x", max_tokens=256))),
        Message("assistant", "", "hm", (ToolCall("f", {"a": 1}, "c1"), ToolCall("g", {}, "c2"))),
        Message("tool", "1"),
        Message("tool", "2"),
        Message("assistant", (TextPart("no"),)),
    )


def test_tools_and_choices() -> None:
    turn = request(tools=TOOLS, parallel_tool_calls=False).options
    assert [tool.definition for tool in turn.tools] == TOOLS
    assert (turn.tool_choice, turn.parallel_tool_calls) == ("auto", False)
    named = request(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "g"}}).options
    assert named.tool_choice == NamedTool("g")
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    some = request(tools=TOOLS, tool_choice={"type": "allowed_tools", "allowed_tools": allowed}).options
    assert [tool.name for tool in some.tools] == ["g"] and some.tool_choice == "required"


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, JsonSchema()),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}, JsonSchema({})),
        ({"structured_outputs": {"json": '{"type": "null"}'}}, JsonSchema({"type": "null"})),
        ({"structured_outputs": {"regex": "a+"}}, Regex("a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, OneOf(("a", "b"))),
        ({"structured_outputs": {"grammar": "start: A"}}, Grammar("start: A")),
    ],
)
def test_forms_of_the_answer(fields: dict[str, Any], answer: object) -> None:
    assert request(**fields).options.answer == answer


@pytest.mark.parametrize(
    ("fields", "answer", "path"),
    [
        ({"guided_json": {"type": "null"}}, JsonSchema({"type": "null"}), "guided_json"),
        ({"json_schema": '{"type": "null"}'}, JsonSchema({"type": "null"}), "json_schema"),
        ({"guided_regex": "a+"}, Regex("a+"), ""),
        ({"regex": "a+"}, Regex("a+"), ""),
        ({"guided_choice": ["a", "b"]}, OneOf(("a", "b")), ""),
        ({"guided_grammar": 'root ::= "a"'}, Grammar('root ::= "a"'), ""),
        ({"grammar": 'root ::= "a"'}, Grammar('root ::= "a"'), ""),
        ({"ebnf": 'root ::= "a"'}, Grammar('root ::= "a"'), ""),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "object"}}},
            JsonSchema({"type": "object"}),
            "response_format.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": True}}},
            JsonSchema({}, strict=True),
            "response_format.json_schema.schema",
        ),
    ],
)
def test_forms_by_the_names_of_other_servers(fields: dict[str, Any], answer: Any, path: str) -> None:
    found = request(**fields).options.answer
    assert found == answer
    assert getattr(found, "path", "") == path


@pytest.mark.parametrize("name", ["structural_tag", "stop_regex"])
def test_what_would_hold_an_answer_is_never_left_out(name: str) -> None:
    data = json.dumps({"model": "m", "messages": [USER], name: "a+"}).encode()
    for lenient in (False, True):
        with pytest.raises(FieldError) as caught:
            read_body(ChatBody, data, Warnings(lenient))
        assert caught.value.path == name


def test_tools_say_how_they_are_held() -> None:
    tools = [{"type": "function", "function": {"name": str(s), "parameters": {}, "strict": s}} for s in (True, False)]
    found = request(tools=[*tools, TOOLS[0]]).options.tools
    assert [tool.strict for tool in found] == [True, False, None]
    assert found[1].path == "tools[1].function.parameters"


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, Thinking()),
        ({"enable_thinking": False}, Thinking(False)),
        ({"chat_template_kwargs": {"enable_thinking": True}}, Thinking(True)),
        ({"think": True}, Thinking(True)),
        ({"think": "low"}, Thinking(True, 1024)),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Thinking(True, 9)),
        ({"thinking": {"type": "disabled"}}, Thinking(False)),
        ({"reasoning_effort": "none"}, Thinking(False)),
        ({"reasoning_effort": "minimal"}, Thinking(True, 256)),
        ({"reasoning_effort": "max"}, Thinking(True)),
        ({"reasoning": {"effort": "low", "max_tokens": 20}}, Thinking(True, 20)),
        ({"thinking_budget": 0}, Thinking(False)),
        ({"thinking_token_budget": 7, "enable_thinking": True}, Thinking(True, 7)),
    ],
)
def test_every_spelling_of_thinking(fields: dict[str, Any], thinking: Thinking) -> None:
    assert request(**fields).options.thinking == thinking


def test_whom_and_when() -> None:
    assert request(user="u").user == "u"
    assert request(user="u", safety_identifier="s").user == "s"
    assert request(service_tier="flex").priority > request().priority > request(service_tier="priority").priority
    assert request(priority=3, service_tier="flex").priority == 3


def test_ignored_fields_warn() -> None:
    warnings = Warnings()
    fields = {"metadata": {"a": "b"}, "prompt_cache_key": "k", "prediction": {"type": "content"}}
    parse(ChatBody(model="m", messages=[USER | {"name": "Ann"}], **fields), warnings)
    assert [warning.split(":")[0] for warning in warnings.warnings] == [
        "messages[0].name",
        "metadata",
        "prediction",
        "prompt_cache_key",
    ]


def test_completions() -> None:
    def completion(**fields: Any) -> Any:
        return parse_completion(CompletionBody(model="m", **fields), Warnings())

    assert completion(prompt="a").params.max_tokens == 16
    assert completion(prompt="a").prompts == ("a",)
    assert completion(prompt=[1, 2]).prompts == ((1, 2),)
    assert completion(prompt=["a", [1, 2]]).prompts == ("a", (1, 2))
    assert completion(prompt=["a", "b"], n=3).num_replies == 6
    assert completion(prompt="a", echo=True, max_tokens=0).params.max_tokens is None
    for fields, path in (
        ({"max_tokens": 0}, "max_tokens"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
    ):
        with pytest.raises(FieldError) as caught:
            completion(prompt="a", **fields)
        assert caught.value.path == path


# Format ---------------------------------------------------------------------------------------------------------------


def token_bytes(token_id: int) -> bytes:
    return bytes([token_id])


logprobs = st.builds(
    TokenLogprobs,
    st.integers(0, 255),
    st.floats(-9, 0),
    st.lists(st.tuples(st.integers(0, 255), st.floats(-9, 0)), max_size=2).map(tuple),
)
pieces = st.one_of(
    st.text(min_size=1).map(lambda text: ReplyDelta(text=text)),
    st.text(min_size=1).map(lambda text: ReplyDelta(reasoning=text)),
    st.dictionaries(st.text(), st.integers() | st.text(), max_size=3).map(
        lambda arguments: ReplyDelta(tool_call=ToolCall("f", arguments))
    ),
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[ReplyDelta], Reply]:
    """The pieces of a reply as the runtime gives them, and the reply."""
    deltas: list[ReplyDelta] = []
    calls: list[ToolCall] = []
    for piece in draw(st.lists(pieces, max_size=8)):
        if piece.tool_call is None:
            deltas.append(piece)
            continue
        call = ToolCall("f", piece.tool_call.arguments, f"call_{len(calls)}")
        text = json.dumps(call.arguments, ensure_ascii=False)
        cut = draw(st.integers(0, len(text)))
        deltas.append(ReplyDelta(call_piece=ToolCallDelta(len(calls), call.id or "", "f")))
        deltas.append(ReplyDelta(call_piece=ToolCallDelta(len(calls), call.id or "", arguments=text[:cut])))
        last = ToolCallDelta(len(calls), call.id or "", arguments=text[cut:])
        deltas.append(ReplyDelta(call_piece=last, tool_call=call))
        calls.append(call)
    deltas.append(ReplyDelta())
    found = [draw(st.lists(logprobs, max_size=2)) for _ in deltas]
    deltas = [_with(delta, one) for delta, one in zip(deltas, found, strict=True)]
    reply = Reply(
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        token_ids=(1, 2),
        finish_reason=draw(st.sampled_from([FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS])),
        usage=Usage(5, 2, 1, 3, None, 4, 2),
        timings=Timings(0, 0, 0, 0),
        seed=0,
        tool_calls=tuple(calls),
        logprobs=tuple(one for some in found for one in some),
    )
    return deltas, reply


def _with(delta: ReplyDelta, found: Sequence[TokenLogprobs]) -> ReplyDelta:
    return ReplyDelta(delta.text, delta.reasoning, delta.tool_call, (), delta.call_piece, tuple(found))


def events_of(formatter: Any, written: Sequence[tuple[list[ReplyDelta], Reply]]) -> list[Any]:
    events: list[Event] = [*formatter.start()]
    for index, (deltas, reply) in enumerate(written):
        for delta in deltas:
            events += formatter.push(index, delta)
        events += formatter.end(index, reply)
    events += formatter.close()
    assert events[-1].data == "[DONE]"
    return [event.data for event in events[:-1]]


def put_together(chunks: Iterable[dict[str, Any]], index: int) -> dict[str, Any]:
    """What a client makes of the events of one choice."""
    message: dict[str, Any] = {"role": None, "content": "", "reasoning_content": "", "reasoning": ""}
    calls: list[dict[str, Any]] = []
    content: list[Any] = []
    finish = None
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            message["role"] = delta.get("role", message["role"])
            for name in ("content", "reasoning_content", "reasoning"):
                message[name] += delta.get(name) or ""
            for piece in delta.get("tool_calls", ()):
                if "id" in piece:
                    calls.append(
                        {
                            "id": piece["id"],
                            "type": piece["type"],
                            "function": {"name": piece["function"]["name"], "arguments": ""},
                        }
                    )
                calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
            content += (choice["logprobs"] or {"content": []})["content"]
            finish = choice["finish_reason"] or finish
    return {"message": message, "calls": calls, "finish_reason": finish, "logprobs": content}


@settings(deadline=None)
@given(st.lists(streams(), min_size=1, max_size=2))
def test_the_events_of_a_chat_add_up_to_the_whole(written: list[tuple[list[ReplyDelta], Reply]]) -> None:
    envelope = Envelope("req_1", "m", now=5)
    writer = ChatWriter(envelope, len(written), token_bytes, with_usage=True)
    chunks = events_of(writer, written)
    whole = writer.completion
    answers.ChatCompletion.model_validate(whole)
    for chunk in chunks:
        answers.ChatCompletionChunk.model_validate(chunk)
    assert chunks[-1]["usage"] == whole["usage"] and chunks[-1]["choices"] == []
    for choice in whole["choices"]:
        found = put_together(chunks, choice["index"])
        message = choice["message"]
        assert found["message"]["content"] == (message["content"] or "")
        assert found["message"]["reasoning"] == found["message"]["reasoning_content"] == message.get("reasoning", "")
        assert found["calls"] == message.get("tool_calls", [])
        assert found["finish_reason"] == choice["finish_reason"]
        assert found["logprobs"] == choice["logprobs"]["content"]


@settings(deadline=None)
@given(st.lists(streams(), min_size=2, max_size=2), st.booleans(), st.sampled_from([None, 0, 2]))
def test_the_events_of_completions_add_up(
    written: list[tuple[list[ReplyDelta], Reply]], echo: bool, num_top: int | None
) -> None:
    plain = [([d for d in deltas if not d.reasoning and d.call_piece is None], reply) for deltas, reply in written]
    written = [(deltas, _only(deltas, reply)) for deltas, reply in plain]
    envelope = Envelope("req_1", "m", now=5)
    echoes = [Echo("é", (0xC3, 0xA9), (TokenLogprobs(0xA9, -1.0, ((5, -0.5),)),)) if echo else Echo()]
    writer = CompletionWriter(envelope, echoes, 2, token_bytes, num_top=num_top)
    chunks = events_of(writer, written)
    whole = writer.completion
    answers.Completion.model_validate(whole)
    for choice in whole["choices"]:
        mine = [one for chunk in chunks for one in chunk["choices"] if one["index"] == choice["index"]]
        answers.Completion.model_validate(chunks[0])
        assert "".join(one["text"] for one in mine) == choice["text"]
        if num_top is None:
            assert choice["logprobs"] is None
            continue
        for name in ("tokens", "token_logprobs", "text_offset"):
            assert [x for one in mine for x in one["logprobs"][name]] == choice["logprobs"][name]
        assert (choice["logprobs"]["top_logprobs"] is None) == (num_top == 0)


def _only(deltas: list[ReplyDelta], reply: Reply) -> Reply:
    found = tuple(one for delta in deltas for one in delta.logprobs)
    text = "".join(delta.text for delta in deltas)
    return Reply(text, "", (), FinishReason.LENGTH, reply.usage, reply.timings, 0, (), found)


def test_token_tables_keep_bytes_and_offsets() -> None:
    echo = Echo("aé", (0x61, 0xC3, 0xA9), (TokenLogprobs(0xC3, -1.0), TokenLogprobs(0xA9, -2.0)))
    table = CompletionWriter(Envelope("r", "m"), [echo], 1, token_bytes, num_top=0).completion["choices"][0]["logprobs"]
    assert table["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9"]
    assert table["token_logprobs"] == [None, -1.0, -2.0]
    assert table["text_offset"] == [0, 1, 1]


def test_errors_have_the_dialects_shape() -> None:
    found = openai_error(Problem("context_length", "too long", "messages", 400), "id")
    answers.Error.model_validate(found)
    assert found["error"]["code"] == "context_length_exceeded"
