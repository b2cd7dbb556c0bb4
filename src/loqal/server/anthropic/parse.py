"""Anthropic requests as generation requests. No side effects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from loqal.server.anthropic import protocol as fields
from loqal.server.anthropic.format import sign
from loqal.server.shared.body import Warnings
from loqal.server.shared.conversation import (
    TEXT_AFTER_CALL,
    ToolResult,
    decode_base64,
    in_call_order,
    media_part,
    with_one_system_message,
)
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import review, sampling_params
from loqal.server.shared.generation_request import ChatRequest
from loqal.server.shared.thinking import BUDGETS
from loqal.types.messages import MediaPart, Message, Part, TextPart, ToolCall
from loqal.types.reply_options import JsonSchema, NamedTool, ReplyOptions, Thinking, Tool, ToolChoice
from loqal.types.sampling import SamplingParams

_UNVERIFIED = "The signature does not match: the reasoning was changed, or this server did not generate it."


def parse(body: fields.MessagesBody, warnings: Warnings) -> ChatRequest:
    """The generation request of a body. Raises FieldError."""
    request = parse_count(body, warnings)
    return dataclasses.replace(request, params=_sampling(body), stream=body.stream)


def parse_count(body: fields.CountTokensBody, warnings: Warnings) -> ChatRequest:
    """The request of a body whose tokens are only counted. Raises FieldError."""
    review(body, warnings)
    messages = with_one_system_message(_conversation(body, warnings), "messages", warnings)
    return ChatRequest(body.model, messages, options=_reply_options(body))


def _conversation(body: fields.CountTokensBody, warnings: Warnings) -> list[Message]:
    """The messages of a body, system message first."""
    found: list[Message] = []
    if body.system:
        found.append(Message("system", _system_text(body.system)))
    for index, message in enumerate(body.messages):
        path = f"messages[{index}]"
        match message:
            case fields.SystemMessage():
                found.append(Message("system", _system_text(message.content)))
            case fields.AssistantMessage():
                found.append(_assistant(message, path, warnings))
            case fields.UserMessage():
                found += _user(message, found, path, warnings)
    return found


def _system_text(content: str | Sequence[fields.TextBlock]) -> str:
    return content if isinstance(content, str) else "\n\n".join(block.text for block in content)


def _assistant(message: fields.AssistantMessage, path: str, warnings: Warnings) -> Message:
    if isinstance(message.content, str):
        return Message("assistant", message.content, reasoning="")
    texts: list[Part] = []
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(message.content):
        match block:
            case fields.TextBlock():
                if calls:
                    warnings.warn(f"{path}.content[{index}]", TEXT_AFTER_CALL)
                texts.append(TextPart(block.text))
            case fields.ThinkingBlock():
                if block.thinking and block.signature != sign(block.thinking):
                    warnings.warn(f"{path}.content[{index}].signature", _UNVERIFIED)
                reasoning.append(block.thinking)
            case fields.ToolUseBlock():
                calls.append(ToolCall(block.name, block.input, block.id))
    return Message("assistant", texts, reasoning="\n".join(reasoning), tool_calls=calls)


def _user(message: fields.UserMessage, before: Sequence[Message], path: str, warnings: Warnings) -> list[Message]:
    """A user message: its tool results, in the order of their calls, then its other content."""
    if isinstance(message.content, str):
        return [Message("user", message.content)]
    results: list[ToolResult] = []
    parts: list[Part] = []
    for index, block in enumerate(message.content):
        where = f"{path}.content[{index}]"
        if isinstance(block, fields.ToolResultBlock):
            if parts:
                warnings.warn(where, "Tool results are read before the other content of the message.")
            content = (
                block.content if isinstance(block.content, str) else _parts(block.content or (), f"{where}.content")
            )
            results.append(ToolResult(f"{where}.tool_use_id", block.tool_use_id, Message("tool", content)))
        else:
            parts += _part(block, where)
    found = in_call_order(before, results, warnings)
    return [*found, Message("user", parts)] if parts or not found else found


def _parts(blocks: Sequence[fields.UserBlock | fields.ResultBlock], path: str) -> list[Part]:
    return [part for index, block in enumerate(blocks) for part in _part(block, f"{path}[{index}]")]


def _part(block: fields.UserBlock | fields.ResultBlock, path: str) -> list[Part]:
    """The part of a block; none for a block that was dropped in lenient mode."""
    match block:
        case fields.TextBlock():
            return [TextPart(block.text)]
        case fields.ImageBlock(source=fields.Base64Image() as source):
            data = decode_base64(source.data, f"{path}.source.data")
            if not _has_type(data, source.media_type):
                raise FieldError(
                    f"{path}.source.media_type",
                    f"The data is not of the type {source.media_type}.",
                    "Send the media type of the image.",
                )
            return [MediaPart("image", data)]
        case fields.ImageBlock(source=fields.UrlImage(url=url)):
            return [media_part("image", url, f"{path}.source.url")]
    return []


def _has_type(data: bytes, media_type: str) -> bool:
    if media_type == "image/webp":
        return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return data.startswith({"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/gif": b"GIF8"}[media_type])


def _sampling(body: fields.MessagesBody) -> SamplingParams:
    return sampling_params(body, stop=tuple(body.stop_sequences or ()))


def _reply_options(body: fields.CountTokensBody) -> ReplyOptions:
    config = body.output_config
    return ReplyOptions(
        tools=tuple(_tool(tool, f"tools[{index}].input_schema") for index, tool in enumerate(body.tools or ())),
        tool_choice=_tool_choice(body.tool_choice),
        parallel_tool_calls=not getattr(body.tool_choice, "disable_parallel_tool_use", False),
        thinking=_thinking(body),
        answer=JsonSchema(config.format.schema_, path="output_config.format.schema")
        if config and config.format
        else None,
        prefill=isinstance(body.messages[-1], fields.AssistantMessage),
    )


def _tool(tool: fields.Tool, path: str) -> Tool:
    extra = {"input_examples": tool.input_examples} if tool.input_examples else {}
    return Tool(tool.name, tool.description, tool.input_schema, tool.strict, extra, path=path)


def _tool_choice(choice: fields.ToolChoice | None) -> ToolChoice:
    match choice:
        case fields.ChooseTool(name=name):
            return NamedTool(name)
        case fields.ChooseAny():
            return "required"
        case fields.ChooseNone():
            return "none"
    return "auto"


def _thinking(body: fields.CountTokensBody) -> Thinking:
    effort = BUDGETS[body.output_config.effort] if body.output_config and body.output_config.effort else None
    match body.thinking:
        case fields.ThinkingEnabled(budget_tokens=budget):
            return Thinking(True, budget)
        case fields.ThinkingDisabled():
            return Thinking(False)
        case fields.ThinkingAdaptive():
            return Thinking(True, effort)
    return Thinking(None, effort)
