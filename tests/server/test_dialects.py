"""Parsing of requests: the results, and the errors."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from loqal.chat.template.native import render
from loqal.chat.template.segments import joined
from loqal.errors import RequestError
from loqal.server.anthropic import parse as anthropic_parse
from loqal.server.anthropic import protocol as claude
from loqal.server.anthropic.format import sign
from loqal.server.ollama import parse as ollama_parse
from loqal.server.ollama import protocol as llama
from loqal.server.openai_responses import parse as responses_parse
from loqal.server.openai_responses import protocol as openai
from loqal.server.openai_responses.format import encode_reasoning
from loqal.server.service.conversation_store import Store
from loqal.server.shared.body import Warnings, read_body
from loqal.server.shared.conversation import ToolResult, arguments_of, in_call_order, with_one_system_message
from loqal.server.shared.errors import FieldError
from loqal.server.shared.generation_request import ChatRequest, RawRequest
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall
from loqal.types.reply_options import JsonSchema, NamedTool, Thinking


def _claude(warnings: Warnings | None = None, **body: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **body}
    return anthropic_parse.parse(claude.MessagesBody.model_validate(body), warnings or Warnings())


def _llama(warnings: Warnings | None = None, **body: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    return ollama_parse.parse_chat(llama.OllamaChatBody.model_validate(body), warnings or Warnings())


def _openai(
    warnings: Warnings | None = None, before: tuple[Message, ...] = (), find: Any = lambda _: None, **body: Any
) -> ChatRequest:
    parsed = openai.ResponseBody.model_validate(body)
    return responses_parse.parse(parsed, "m", warnings or Warnings(), before, find)[0]


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text if isinstance(part, TextPart) else "<image>" for part in message.content)


def _said(request: ChatRequest) -> list[tuple[str, str]]:
    return [(message.role, _text(message)) for message in request.messages]


# Results of tools -----------------------------------------------------------------------------------------------------

CLAUDE_CALLS = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": name, "name": "f", "input": {"z": 1, "a": 2}} for name in ("x", "y")],
}


def _claude_results(*names: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": n, "content": f"of {n}"} for n in names]}


def test_results_stand_in_the_order_of_their_calls() -> None:
    expected = [("assistant", ""), ("tool", "of x"), ("tool", "of y")]
    assert _said(_claude(messages=[CLAUDE_CALLS, _claude_results("y", "x")])) == expected
    calls = [{"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"} for name in ("x", "y")]
    results = [{"type": "function_call_output", "call_id": name, "output": f"of {name}"} for name in ("y", "x")]
    assert _said(_openai(input=[*calls, *results])) == expected
    functions = [{"id": name, "function": {"name": f"f{name}", "arguments": {}}} for name in ("x", "y")]
    by_id = [{"role": "tool", "tool_call_id": name, "content": f"of {name}"} for name in ("y", "x")]
    by_name = [{"role": "tool", "tool_name": f"f{name}", "content": f"of {name}"} for name in ("y", "x")]
    for answers in (by_id, by_name):
        assert _said(_llama(messages=[{"role": "assistant", "tool_calls": functions}, *answers])) == expected


def test_results_of_no_call_are_read_with_a_warning() -> None:
    """By id, else by name, else in the order of the calls; what is left over comes last."""
    calls = Message("assistant", "", tool_calls=[ToolCall("f", {}, "a"), ToolCall("g", {}, "b")])

    def placed(*results: tuple[str | None, str | None, str]) -> tuple[list[str], int]:
        warnings = Warnings()
        given = [ToolResult(f"r[{i}]", one[0], Message("tool", one[2]), one[1]) for i, one in enumerate(results)]
        return [str(m.content) for m in in_call_order([calls], given, warnings)], len(warnings.warnings)

    assert placed(("b", None, "2"), ("a", None, "1")) == (["1", "2"], 0)
    assert placed((None, "g", "2"), (None, "f", "1")) == (["1", "2"], 0)
    assert placed((None, None, "1"), (None, None, "2")) == (["1", "2"], 0)
    assert placed(("x", "g", "2"), ("y", None, "1")) == (["1", "2"], 2)
    assert placed(("a", None, "1"), ("a", None, "again"), ("b", None, "2")) == (["1", "2", "again"], 1)
    assert placed(("a", None, "1")) == (["1"], 1)
    warnings = Warnings()
    alone = in_call_order([], [ToolResult("r", "x", Message("tool", "1"))], warnings)
    assert [m.content for m in alone] == ["1"] and warnings.warnings[0].startswith("r: ")


def test_arguments_keep_their_order() -> None:
    call = _claude(messages=[CLAUDE_CALLS]).messages[0].tool_calls[0]
    assert list(call.arguments) == ["z", "a"]
    item = {"type": "function_call", "call_id": "x", "name": "f", "arguments": '{"z": 1, "a": 2}'}
    assert _openai(input=[item]).messages[0].tool_calls == [ToolCall("f", {"z": 1, "a": 2}, "x")]


# Anthropic ------------------------------------------------------------------------------------------------------------


def test_what_else_a_user_says_follows_the_results() -> None:
    results = _claude_results("x")
    results["content"].insert(0, {"type": "text", "text": "look"})
    warnings = Warnings()
    assert _said(_claude(warnings, messages=[CLAUDE_CALLS, results])) == [
        ("assistant", ""),
        ("tool", "of x"),
        ("user", "look"),
    ]
    assert warnings.warnings[0].startswith("messages[1].content[1]: Tool results are read before")


def test_blocks_of_an_assistant_become_one_turn() -> None:
    blocks = [
        {"type": "thinking", "thinking": "so", "signature": sign("so")},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "one"},
        {"type": "tool_use", "id": "x", "name": "f", "input": {}},
    ]
    warnings = Warnings()
    message = _claude(warnings, messages=[{"role": "assistant", "content": blocks}]).messages[0]
    assert (message.reasoning, _text(message), len(message.tool_calls)) == ("so", "one", 1)
    assert [warning.partition(":")[0] for warning in warnings.warnings] == ["messages[0].content[1].type"]
    blocks[0]["signature"] = "?"
    warnings = Warnings()
    _claude(warnings, messages=[{"role": "assistant", "content": blocks}])
    assert "messages[0].content[0].signature" in warnings.warnings[1]


def test_refused_blocks_are_left_out_for_the_lenient() -> None:
    content = [{"type": "document", "source": {}}, {"type": "text", "text": "a"}]
    with pytest.raises(FieldError, match="send text, or the pages as images"):
        _claude(messages=[{"role": "user", "content": content}])
    warnings = Warnings(lenient=True)
    assert _said(_claude(warnings, messages=[{"role": "user", "content": content}])) == [("user", "a")]
    assert "messages[0].content[0].type was ignored" in warnings.warnings[0]


def test_claude_system_blocks() -> None:
    system = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    assert _said(_claude(system=system)) == [("system", "a\n\nb"), ("user", "hi")]
    assert _said(_claude(system="a")) == [("system", "a"), ("user", "hi")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, Thinking()),
        ({"thinking": {"type": "disabled"}}, Thinking(False)),
        ({"thinking": {"type": "adaptive"}}, Thinking(True)),
        ({"thinking": {"type": "enabled", "budget_tokens": 7}}, Thinking(True, 7)),
        ({"output_config": {"effort": "low"}}, Thinking(None, 1024)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, Thinking(True, 4096)),
    ],
)
def test_claude_thinking(body: dict[str, Any], expected: Thinking) -> None:
    assert _claude(**body).options.thinking == expected


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        (None, "auto", True),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", False),
        ({"type": "any"}, "required", True),
        ({"type": "tool", "name": "f"}, NamedTool("f"), True),
        ({"type": "none"}, "none", True),
    ],
)
def test_claude_tool_choice(choice: Any, expected: Any, parallel: bool) -> None:
    turn = _claude(tools=[{"name": "f", "input_schema": {"type": "object"}}], tool_choice=choice).options
    assert (turn.tool_choice, turn.parallel_tool_calls) == (expected, parallel)


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert _claude(messages=messages).options.prefill
    assert _llama(messages=messages).options.prefill
    assert not _claude().options.prefill


# Ollama ---------------------------------------------------------------------------------------------------------------


def test_ollama_images_stand_before_the_text() -> None:
    content = _llama(messages=[{"role": "user", "content": "a", "images": ["aGk="]}]).messages[0].content
    assert content == [MediaPart("image", b"hi"), TextPart("a")]
    with pytest.raises(FieldError) as broken:
        _llama(messages=[{"role": "user", "content": "a", "images": ["aGk=", "?"]}])
    assert broken.value.path == "messages[0].images[1]"


@pytest.mark.parametrize(
    ("think", "expected"),
    [(None, Thinking()), (True, Thinking(True)), (False, Thinking(False)), ("low", Thinking(True, 1024))],
)
def test_ollama_think(think: Any, expected: Thinking) -> None:
    assert _llama(think=think).options.thinking == expected


def test_ollama_formats() -> None:
    assert _llama(format="json").options.answer == JsonSchema()
    assert _llama(format={"type": "object"}).options.answer == JsonSchema({"type": "object"})
    assert _llama(format="").options.answer is None
    with pytest.raises(FieldError):
        _llama(format="xml")


def test_ollama_raw_prompts() -> None:
    def parse(**body: Any) -> Any:
        body = {"model": "m", "prompt": "<|im_start|>", **body}
        return ollama_parse.parse_generate(llama.OllamaGenerateBody.model_validate(body), Warnings())

    asked = parse(raw=True, options={"num_predict": -1, "seed": 3})
    assert isinstance(asked, RawRequest)
    assert (asked.prompts, asked.params.max_tokens, asked.params.seed) == (("<|im_start|>",), None, 3)
    with pytest.raises(FieldError) as refused:
        parse(raw=True, system="a")
    assert refused.value.path == "system"
    assert _said(parse(system="a")) == [("system", "a"), ("user", "<|im_start|>")]


def test_options_that_ask_for_what_happens_anyway_are_taken() -> None:
    warnings = Warnings()
    _llama(warnings, options={"mirostat": 0, "typical_p": 1.0, "repeat_last_n": -1, "penalize_newline": True})
    assert warnings.warnings == []


# Responses ------------------------------------------------------------------------------------------------------------


def test_items_become_turns() -> None:
    items = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": encode_reasoning("so")},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "x", "output": [{"type": "input_text", "text": "c"}]},
        {"role": "user", "content": "d"},
    ]
    request = _openai(input=items, instructions="first")
    expected = [
        ("system", "first\n\nrules"),
        ("user", "a"),
        ("assistant", "b"),
        ("tool", "c"),
        ("user", "d"),
    ]
    assert _said(request) == expected
    assert request.messages[2].reasoning == "so"
    assert [call.id for call in request.messages[2].tool_calls] == ["x"]


def test_foreign_reasoning_is_reported() -> None:
    warnings = Warnings()
    _openai(warnings, input=[{"type": "reasoning", "encrypted_content": "gAAAA"}])
    assert warnings.warnings[0].startswith("input[0].encrypted_content: ")


def test_items_are_found_by_reference() -> None:
    item = openai.MessageItem(role="user", content="kept")
    assert _said(_openai(input=[{"type": "item_reference", "id": "i"}], find={"i": item}.get)) == [("user", "kept")]
    with pytest.raises(FieldError) as unknown:
        _openai(input=[{"type": "item_reference", "id": "j"}])
    assert unknown.value.path == "input[0].id"


def test_instructions_of_earlier_responses_do_not_count() -> None:
    before = (Message("user", "a"), Message("assistant", "b"))
    request = _openai(before=before, input="c", instructions="new")
    assert _said(request) == [("system", "new"), ("user", "a"), ("assistant", "b"), ("user", "c")]


def test_allowed_tools_are_the_only_ones() -> None:
    tools = [{"type": "function", "name": name} for name in "fgh"]
    names = [{"type": "function", "name": name} for name in "gh"]
    turn = _openai(
        input="a", tools=tools, tool_choice={"type": "allowed_tools", "mode": "required", "tools": names}
    ).options
    assert ([tool.name for tool in turn.tools], turn.tool_choice) == (["g", "h"], "required")


def test_foreign_tools_and_items_are_refused_by_name() -> None:
    with pytest.raises(FieldError) as tool:
        _openai(input="a", tools=[{"type": "function", "name": "f"}, {"type": "web_search"}])
    assert tool.value.path == "tools[1].type"
    with pytest.raises(FieldError) as item:
        _openai(input=[{"type": "shell_call", "action": {}}])
    assert item.value.path == "input[0].type"


@pytest.mark.parametrize(
    ("text", "arguments", "warns"),
    [
        ('{"a": 1}', {"a": 1}, False),
        ("", {}, False),
        ("null", {}, False),
        ("[1]", {"arguments": [1]}, True),
        ('{"a": "b', {"arguments": '{"a": "b'}, True),
    ],
)
def test_arguments_that_are_no_json_are_one_argument(text: str, arguments: Any, warns: bool) -> None:
    warnings = Warnings()
    assert arguments_of(text, "p", warnings) == arguments
    assert [warning.split(":")[0] for warning in warnings.warnings] == ["p"] * warns


# System messages ------------------------------------------------------------------------------------------------------


def test_every_order_of_roles_is_read_or_refused_by_the_rule() -> None:
    roles = ("system", "user", "assistant", "tool")
    for length in range(1, 6):
        for order in itertools.product(roles, repeat=length):
            warnings = Warnings()
            messages = with_one_system_message(
                [Message(role, str(index)) for index, role in enumerate(order)], "messages", warnings
            )
            leading = next((index for index, role in enumerate(order) if role != "system"), length)
            assert bool(warnings.warnings) == ("system" in order[leading:])
            if {"user", "system"} & set(order[leading:]):
                text = joined(render(messages, think=False))
                assert [index for index in range(length) if str(index) in text] == list(range(length))
            else:
                with pytest.raises(RequestError, match="no user message"):
                    render(messages, think=False)


def test_system_messages_of_all_dialects() -> None:
    late = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
    for ask in (_claude, _llama):
        warnings = Warnings()
        assert _said(ask(warnings, messages=late)) == [("user", "a"), ("user", "b")]
        assert warnings.warnings[0].startswith("messages: ")
    assert _said(_claude(system="x", messages=[late[1], late[0]])) == [("system", "x\n\nb"), ("user", "a")]
    assert _said(_openai(input=late)) == [("user", "a"), ("user", "b")]


# Errors of bodies -----------------------------------------------------------------------------------------------------

TEXTLESS = {"role": "user", "content": [{"type": "text"}]}
USER = {"role": "user", "content": [{"type": "text", "text": "a", "foo": 1}]}


@pytest.mark.parametrize(
    ("kind", "body", "path"),
    [
        (claude.MessagesBody, {"messages": [USER]}, "messages[0].content[0].foo"),
        (claude.MessagesBody, {"messages": [TEXTLESS]}, "messages[0].content[0].text"),
        (openai.ResponseBody, {"input": [{"role": "user", "content": "a", "foo": 1}]}, "input[0].foo"),
        (openai.ResponseBody, {"input": "a", "bar": 1}, "bar"),
        (llama.OllamaChatBody, {"messages": [{"role": "user", "name": "x"}]}, "messages[0].name"),
        (llama.OllamaChatBody, {"messages": [], "options": {"num_ctx": "8"}}, "options.num_ctx"),
    ],
)
def test_errors_name_the_field_through_all_alternatives(kind: Any, body: dict[str, Any], path: str) -> None:
    body = {"model": "m", **({"max_tokens": 1} if kind is claude.MessagesBody else {}), **body}
    with pytest.raises(FieldError) as error:
        read_body(kind, json.dumps(body).encode(), Warnings())
    assert error.value.path == path


def test_unknown_fields_are_left_out_for_the_lenient() -> None:
    warnings = Warnings(lenient=True)
    body = {"model": "m", "max_tokens": 1, "messages": [USER], "bar": 2}
    read = read_body(claude.MessagesBody, json.dumps(body).encode(), warnings)
    assert sorted(warning.partition(" ")[0] for warning in warnings.warnings) == ["bar", "messages[0].content[0].foo"]
    assert read.messages[0].content[0].text == "a"  # type: ignore[union-attr]


# What is kept ---------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_bounded_and_private() -> None:
    store: Store[str] = Store(max_entries=3, max_bytes=100)
    for name in "abc":
        store.put("me", name, name, 30)
    assert store.get("me", "a") == "a"
    assert store.get("you", "a") is None
    store.put("me", "d", "d", 30)
    assert (store.get("me", "b"), store.get("me", "a"), len(store), store.size_bytes) == (None, "a", 3, 90)
    store.put("me", "e", "e", 80)
    assert (len(store), store.size_bytes) == (1, 80)
    store.put("me", "f", "f", 101)
    assert store.get("me", "f") is None
    assert store.drop("me", "e")
    assert not store.drop("me", "e")
    assert store.size_bytes == 0
