"""Anthropic's Messages API. What its requests become is here; what its replies look like, in ``anthropic_writer``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from starlette.responses import Response

from loqal.server.anthropic import protocol as fields
from loqal.server.anthropic import schema as answers
from loqal.server.anthropic.format import MessageWriter, error, sign
from loqal.server.service.request_context import Dialect, RequestContext, Route, RunningGeneration
from loqal.server.shared.conversation import TEXT_BEHIND_CALL, Result, decoded, in_call_order, settled
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import review
from loqal.server.shared.generation_request import ChatRequest, Warnings, media_part
from loqal.server.shared.streaming import ServerSentEvents
from loqal.server.shared.thinking import BUDGETS
from loqal.types.messages import MediaPart, Message, Part, TextPart, ToolCall
from loqal.types.reply_options import JsonSchema, NamedTool, ReplyOptions, Thinking, Tool, ToolChoice
from loqal.types.sampling import SamplingParams

_FOREIGN_REASONING = "It does not fit: this reasoning was changed, or written elsewhere."

# Requests -------------------------------------------------------------------------------------------------------------


def parse(body: fields.MessagesBody, warnings: Warnings) -> ChatRequest:
    """What a request asks for. Raises FieldError."""
    asked = parse_count(body, warnings)
    return dataclasses.replace(asked, params=_sampling(body), stream=body.stream)


def parse_count(body: fields.CountTokensBody, warnings: Warnings) -> ChatRequest:
    """The conversation of a request that is only to be counted. Raises FieldError."""
    review(body, warnings)
    return ChatRequest(body.model, settled(_conversation(body, warnings), "messages", warnings), turn=_turn(body))


def _conversation(body: fields.CountTokensBody, warnings: Warnings) -> list[Message]:
    """The messages of a request, instructions first."""
    found: list[Message] = []
    if body.system:
        found.append(Message("system", _instructions(body.system)))
    for index, message in enumerate(body.messages):
        path = f"messages[{index}]"
        match message:
            case fields.SystemMessage():
                found.append(Message("system", _instructions(message.content)))
            case fields.AssistantMessage():
                found.append(_assistant(message, path, warnings))
            case fields.UserMessage():
                found += _user(message, found, path, warnings)
    return found


def _instructions(content: str | Sequence[fields.TextBlock]) -> str:
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
                    warnings.warn(f"{path}.content[{index}]", TEXT_BEHIND_CALL)
                texts.append(TextPart(block.text))
            case fields.ThinkingBlock():
                if block.thinking and block.signature != sign(block.thinking):
                    warnings.warn(f"{path}.content[{index}].signature", _FOREIGN_REASONING)
                reasoning.append(block.thinking)
            case fields.ToolUseBlock():
                calls.append(ToolCall(block.name, block.input, block.id))
    return Message("assistant", texts, reasoning="\n".join(reasoning), tool_calls=calls)


def _user(message: fields.UserMessage, before: Sequence[Message], path: str, warnings: Warnings) -> list[Message]:
    """A user's turn: the results of tools in it, in the order of their calls, and what else the user says."""
    if isinstance(message.content, str):
        return [Message("user", message.content)]
    results: list[Result] = []
    parts: list[Part] = []
    for index, block in enumerate(message.content):
        where = f"{path}.content[{index}]"
        if isinstance(block, fields.ToolResultBlock):
            if parts:
                warnings.warn(where, "Results of tools are read before what else the user says.")
            content = (
                block.content if isinstance(block.content, str) else _parts(block.content or (), f"{where}.content")
            )
            results.append(Result(f"{where}.tool_use_id", block.tool_use_id, Message("tool", content)))
        else:
            parts += _part(block, where)
    found = in_call_order(before, results)
    return [*found, Message("user", parts)] if parts or not found else found


def _parts(blocks: Sequence[fields.UserBlock | fields.ResultBlock], path: str) -> list[Part]:
    return [part for index, block in enumerate(blocks) for part in _part(block, f"{path}[{index}]")]


def _part(block: fields.UserBlock | fields.ResultBlock, path: str) -> list[Part]:
    """A block the model reads; none for blocks that a lenient caller was warned of."""
    match block:
        case fields.TextBlock():
            return [TextPart(block.text)]
        case fields.ImageBlock(source=fields.Base64Image() as source):
            data = decoded(source.data, f"{path}.source.data")
            if not _looks_like(source.media_type, data):
                raise FieldError(f"{path}.source.media_type", f"The bytes are not of the type {source.media_type}.")
            return [MediaPart("image", data)]
        case fields.ImageBlock(source=fields.UrlImage(url=url)):
            return [media_part("image", url, f"{path}.source.url")]
    return []


def _looks_like(media_type: str, data: bytes) -> bool:
    if media_type == "image/webp":
        return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return data.startswith({"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/gif": b"GIF8"}[media_type])


def _sampling(body: fields.MessagesBody) -> SamplingParams:
    return SamplingParams(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        seed=body.seed,
        stop=tuple(body.stop_sequences or ()),
    )


def _turn(body: fields.CountTokensBody) -> ReplyOptions:
    config = body.output_config
    return ReplyOptions(
        tools=tuple(_tool(tool) for tool in body.tools or ()),
        tool_choice=_tool_choice(body.tool_choice),
        parallel_tool_calls=not getattr(body.tool_choice, "disable_parallel_tool_use", False),
        thinking=_thinking(body),
        answer=JsonSchema(config.format.schema_) if config and config.format else None,
        prefill=isinstance(body.messages[-1], fields.AssistantMessage),
    )


def _tool(tool: fields.Tool) -> Tool:
    extra = {"input_examples": tool.input_examples} if tool.input_examples else {}
    return Tool(tool.name, tool.description, tool.input_schema, tool.strict, extra)


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


# Routes ---------------------------------------------------------------------------------------------------------------


async def create(call: RequestContext, body: fields.MessagesBody) -> Response:
    """Answer a conversation, whole or as a stream of events."""
    asked = parse(body, call.warnings)
    shows = getattr(body.thinking, "display", None) != "omitted"

    def writer(work: RunningGeneration) -> MessageWriter:
        return MessageWriter(
            f"msg_{call.id.removeprefix('req_')}",
            body.model,
            body.max_tokens,
            prompt_tokens=work.prompt_tokens,
            shows_thinking=shows,
            warnings=call.warnings.warnings,
            request_id=call.id,
        )

    if body.stream:
        return await call.stream(asked, writer, ServerSentEvents)
    return call.json((await call.written(asked, writer)).message)


async def count_tokens(call: RequestContext, body: fields.CountTokensBody) -> Response:
    """The tokens of a conversation as the model would read it: what ``usage`` of its answer counts, cached or not."""
    rendered = await call.rendered(parse_count(body, call.warnings))
    return call.json({"input_tokens": len(rendered.token_ids)})


DIALECT = Dialect(
    "anthropic",
    (
        Route(
            "POST",
            "/v1/messages",
            "infer",
            create,
            "Answer a conversation",
            body=fields.MessagesBody,
            answer=answers.MessageAnswer,
            event=answers.MessageEvent,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/messages/count_tokens",
            "infer",
            count_tokens,
            "Count the tokens of a conversation",
            body=fields.CountTokensBody,
            answer=answers.CountAnswer,
        ),
    ),
    error,
)
