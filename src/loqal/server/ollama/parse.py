"""Requests of Ollama's API as ours. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loqal.server.ollama import protocol as fields
from loqal.server.shared.conversation import Result, decoded, in_call_order, settled
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import review
from loqal.server.shared.generation_request import ChatRequest, RawRequest, Warnings
from loqal.server.shared.thinking import BUDGETS
from loqal.types.messages import MediaPart, Message, Part, TextPart, ToolCall
from loqal.types.reply_options import AnswerFormat, JsonSchema, ReplyOptions, Thinking, Tool
from loqal.types.sampling import SamplingParams


def parse_chat(body: fields.OllamaChatBody, warnings: Warnings) -> ChatRequest:
    """What a conversation asks for. Raises FieldError."""
    review(body, warnings)
    messages = settled(_conversation(body.messages), "messages", warnings)
    return ChatRequest(body.model, messages, _sampling(body), _turn(body), stream=body.stream)


def parse_generate(
    body: fields.OllamaGenerateBody, warnings: Warnings, before: Sequence[Message] = ()
) -> ChatRequest | RawRequest:
    """What a prompt asks for, after an earlier conversation. Raises FieldError."""
    review(body, warnings)
    if not body.raw:
        messages = tuple(_prompted(body, before))
        return ChatRequest(body.model, messages, _sampling(body), _turn(body), stream=body.stream)
    for name in ("system", "images", "think", "format", "context"):
        if getattr(body, name) not in (None, "", False):
            warnings.reject(name, "A raw prompt is read as it is.", "Leave raw out, or write it into the prompt.")
    return RawRequest(body.model, (body.prompt,), _sampling(body), stream=body.stream)


def _conversation(messages: Sequence[fields.Message]) -> list[Message]:
    """The messages of /api/chat; results of tools in the order of their calls."""
    found: list[Message] = []
    results: list[Result] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if isinstance(message, fields.ToolMessage):
            results.append(_result(message, path, found, results))
            continue
        found += in_call_order(found, results)
        results = []
        if isinstance(message, fields.AssistantMessage):
            calls = [
                ToolCall(call.function.name, call.function.arguments, call.id or f"call {number}")
                for number, call in enumerate(message.tool_calls or ())
            ]
            found.append(Message("assistant", message.content or "", message.thinking or "", calls))
        else:
            images = message.images if isinstance(message, fields.UserMessage) else None
            found.append(Message(message.role, _content(message.content, images, path)))
    return [*found, *in_call_order(found, results)]


def _result(message: fields.ToolMessage, path: str, before: Sequence[Message], earlier: Sequence[Result]) -> Result:
    """A tool's answer with the id of its call: the one it names, or the first open call of its tool."""
    content = Message("tool", _content(message.content, message.images, path))
    if message.tool_call_id is not None:
        return Result(f"{path}.tool_call_id", message.tool_call_id, content)
    calls = next((found.tool_calls for found in reversed(before) if found.role == "assistant"), ())
    answered = {result.call_id for result in earlier}
    for call in calls:
        if call.id not in answered and message.tool_name in (None, call.name):
            return Result(f"{path}.tool_name", str(call.id), content)
    raise FieldError(
        f"{path}.tool_name",
        "Before it stands no call without a result that it could answer.",
        "Send the assistant's turn with its calls before their results.",
    )


def _prompted(body: fields.OllamaGenerateBody, before: Sequence[Message]) -> list[Message]:
    """The messages of /api/generate after those of an earlier conversation."""
    user = Message("user", _content(body.prompt, body.images, ""))
    if body.system is None:
        return [*before, user]
    rest = [message for message in before if message.role != "system"]
    return [Message("system", body.system), *rest, user]


def _content(text: str | None, images: Sequence[str] | None, path: str) -> str | list[Part]:
    if not images:
        return text or ""
    parts: list[Part] = [
        MediaPart("image", decoded(image, f"{path}.images[{index}]".lstrip("."))) for index, image in enumerate(images)
    ]
    return [*parts, TextPart(text or "")]


def _sampling(body: fields.WriteBody) -> SamplingParams:
    options = body.options or fields.Options()
    limit = options.num_predict
    return SamplingParams(
        max_tokens=limit if limit is not None and limit > 0 else None,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        repetition_penalty=options.repeat_penalty,
        seed=options.seed,
        stop=tuple(options.stop or ()),
        logprobs=(body.top_logprobs or 0) if body.logprobs or body.top_logprobs else None,
    )


def _turn(body: fields.WriteBody) -> ReplyOptions:
    return ReplyOptions(
        tools=tuple(_tool(tool.function) for tool in body.tools or ())
        if isinstance(body, fields.OllamaChatBody)
        else (),
        thinking=_thinking(body.think),
        answer=_answer(body.format),
        prefill=isinstance(body, fields.OllamaChatBody) and _is_assistant(body.messages),
    )


def _is_assistant(messages: Sequence[fields.Message]) -> bool:
    return bool(messages) and isinstance(messages[-1], fields.AssistantMessage)


def _tool(function: fields.Function) -> Tool:
    return Tool(function.name, function.description, function.parameters, bool(function.strict))


def _thinking(think: bool | str | None) -> Thinking:
    return Thinking(True, BUDGETS[think]) if isinstance(think, str) else Thinking(think)


def _answer(form: str | dict[str, Any] | None) -> AnswerFormat | None:
    if form is None or form == "":
        return None
    if form == "json":
        return JsonSchema()
    if isinstance(form, str):
        raise FieldError("format", f"It is {form!r}.", "Give json, or the JSON schema of the answer as an object.")
    return JsonSchema(form)
