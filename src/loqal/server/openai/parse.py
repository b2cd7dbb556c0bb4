"""OpenAI requests as generation requests. No side effects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loqal.server.openai import protocol as fields
from loqal.server.shared.body import Warnings
from loqal.server.shared.conversation import (
    ToolResult,
    arguments_of,
    in_call_order,
    media_part,
    with_one_system_message,
)
from loqal.server.shared.embeddings import EmbeddingRequest
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import review, sampling_params
from loqal.server.shared.generation_request import SERVICE_TIERS, ChatRequest, RawRequest
from loqal.server.shared.thinking import thinking
from loqal.types.messages import Message, Part, TextPart, ToolCall
from loqal.types.reply_options import (
    AnswerFormat,
    Grammar,
    JsonSchema,
    NamedTool,
    OneOf,
    Regex,
    ReplyOptions,
    Tool,
    ToolChoice,
)
from loqal.types.sampling import SamplingParams

_DETAIL_TOKENS = {"low": 256}  # maximum number of tokens of an image
_COMPLETION_TOKENS = 16  # OpenAI's default max_tokens of completions


def parse(body: fields.ChatBody, warnings: Warnings) -> ChatRequest:
    """The generation request of a body. Raises FieldError."""
    review(body, warnings)
    _check_stream(body)
    priority = body.priority
    if priority is None:
        priority = SERVICE_TIERS.get(body.service_tier or "", 0)
    return ChatRequest(
        model=body.model,
        messages=with_one_system_message(_messages(body.messages, warnings), "messages", warnings),
        params=_chat_params(body),
        options=_reply_options(body),
        n=body.n or 1,
        stream=bool(body.stream),
        priority=priority,
        user=body.safety_identifier or body.user or "",
    )


def parse_completion(body: fields.CompletionBody, warnings: Warnings) -> RawRequest:
    """The generation request of a body. Raises FieldError."""
    review(body, warnings)
    _check_stream(body)
    if body.max_tokens == 0 and not body.echo:
        raise FieldError(
            "max_tokens", "It is 0, so nothing would be generated.", "Set echo, or a max_tokens of at least 1."
        )
    limit = _COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    return RawRequest(
        model=body.model,
        prompts=prompts_of(body.prompt),
        params=_params(body, max_tokens=limit or None),
        n=body.n or 1,
        answer=_structured(body),
        stream=bool(body.stream),
        priority=body.priority or 0,
        user=body.user or "",
    )


def parse_embeddings(body: fields.EmbeddingBody, warnings: Warnings) -> EmbeddingRequest:
    """The embedding request of a body. Raises FieldError."""
    review(body, warnings)
    return EmbeddingRequest(
        body.model, prompts_of(body.input), pooling=body.pooling or "mean", dimensions=body.dimensions
    )


def prompts_of(given: Any) -> tuple[str | tuple[int, ...], ...]:
    """One or more prompts, each a text or token ids."""
    if isinstance(given, str):
        return (given,)
    if all(isinstance(item, int) for item in given):
        return (tuple(given),)
    return tuple(item if isinstance(item, str) else tuple(item) for item in given)


def _check_stream(body: fields.SamplingFields) -> None:
    if body.stream_options is not None and not body.stream:
        raise FieldError(
            "stream_options", "It requires stream to be true.", "Set stream to true, or remove stream_options."
        )


def _params(body: fields.SamplingFields, **converted: Any) -> SamplingParams:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return sampling_params(body, stop=stop, logit_bias=_biases(body.logit_bias), **converted)


def _biases(given: dict[str, float] | None) -> dict[int, float] | None:
    if given is None:
        return None
    for key in given:
        if not key.isascii() or not key.isdigit():
            raise FieldError(
                f"logit_bias.{key[:50]}",
                "The key must be a token id, in decimal digits.",
                "Look up token ids with /v1/tokenize.",
            )
    return {int(key): value for key, value in given.items()}


def _chat_params(body: fields.ChatBody) -> SamplingParams:
    if body.top_logprobs is not None and not body.logprobs:
        raise FieldError("top_logprobs", "It requires logprobs to be true.", "Set logprobs to true.")
    limits = [limit for limit in (body.max_completion_tokens, body.max_tokens) if limit is not None]
    if len(set(limits)) > 1:
        raise FieldError("max_tokens", "It differs from max_completion_tokens.", "Send one of the two fields.")
    return _params(
        body,
        max_tokens=limits[0] if limits else None,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _reply_options(body: fields.ChatBody) -> ReplyOptions:
    tools = []
    for index, tool in enumerate(body.tools or ()):
        if isinstance(tool, fields.FunctionTool):
            function = tool.function
            definition = tool.model_dump(exclude_unset=True)
            tools.append(
                Tool(
                    function.name,
                    function.description,
                    function.parameters,
                    function.strict,
                    definition=definition,
                    path=f"tools[{index}].function.parameters",
                )
            )
    if len({tool.name for tool in tools}) < len(tools):
        raise FieldError("tools", "Two tools have the same name.", "Send tools with distinct names.")
    tools, choice = _choice(body, tools)
    return ReplyOptions(
        tools=tuple(tools),
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        thinking=thinking(body),
        answer=_answer(body),
        replay=body.replay or "exact",
        prefill=bool(body.continue_final_message),
    )


def _choice(body: fields.ChatBody, tools: list[Tool]) -> tuple[list[Tool], ToolChoice]:
    choice, names = body.tool_choice, {tool.name for tool in tools}
    if choice is None or isinstance(choice, str):
        if choice == "required" and not tools:
            raise FieldError(
                "tool_choice", "It is required, but the request has no tools.", "Add tools, or remove tool_choice."
            )
        return tools, choice or "auto"
    if isinstance(choice, fields.NamedFunctionTool):
        if choice.function.name not in names:
            raise FieldError(
                "tool_choice.function.name",
                f"The request has no tool {choice.function.name!r}.",
                "Name a tool of the request.",
            )
        return tools, NamedTool(choice.function.name)
    allowed = {tool.function.name for tool in choice.allowed_tools.tools}
    if not allowed or allowed - names:
        raise FieldError(
            "tool_choice.allowed_tools.tools",
            "It is empty, or names a tool that the request does not have.",
            "Name tools of the request.",
        )
    return [tool for tool in tools if tool.name in allowed], choice.allowed_tools.mode


def _answer(body: fields.ChatBody) -> AnswerFormat | None:
    chosen, constraint = body.response_format, _structured(body)
    if chosen is None or isinstance(chosen, fields.TextFormat):
        return constraint
    if constraint is not None:
        raise FieldError(
            "structured_outputs", "It cannot be combined with response_format.", "Send one of the two fields."
        )
    if isinstance(chosen, fields.JsonObjectFormat):
        return JsonSchema(chosen.schema_, path="response_format.schema")
    named = chosen.json_schema
    return JsonSchema(named.schema_, named.strict, "response_format.json_schema.schema")


def _structured(body: fields.SamplingFields) -> AnswerFormat | None:
    given = body.structured_outputs or fields.StructuredOutputs()
    schemas = {
        "structured_outputs.json": given.json_,
        "guided_json": body.guided_json,
        "json_schema": body.json_schema,
    }
    found: list[AnswerFormat] = [
        JsonSchema(_schema(schema, path), path=path) for path, schema in schemas.items() if schema is not None
    ]
    found += [Regex(text) for text in (given.regex, body.guided_regex, body.regex) if text is not None]
    found += [OneOf(tuple(choice)) for choice in (given.choice, body.guided_choice) if choice is not None]
    grammars = (given.grammar, body.guided_grammar, body.grammar, body.ebnf)
    found += [Grammar(text) for text in grammars if text is not None]
    if given.json_object:
        found.append(JsonSchema())
    if len(found) > 1 or (body.structured_outputs is not None and not found):
        raise FieldError(
            "structured_outputs",
            f"It has {len(found)} constraints; exactly one is allowed.",
            "Send one of json, regex, choice, grammar and json_object.",
        )
    return found[0] if found else None


def _schema(given: dict[str, Any] | str, path: str) -> Any:
    if isinstance(given, dict):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise FieldError(path, f"It is not valid JSON: {error}.", "Send a JSON schema as an object.") from None


def _messages(given: Sequence[Any], warnings: Warnings) -> list[Message]:
    messages: list[Message] = []
    results: list[ToolResult] = []
    for index, message in enumerate(given):
        path = f"messages[{index}]"
        if isinstance(message, fields.FunctionMessage):
            continue  # rejected, or dropped in lenient mode
        content = _content(message.content, f"{path}.content")
        if isinstance(message, fields.ToolMessage):
            found = Message("tool", content)
            results.append(ToolResult(f"{path}.tool_call_id", message.tool_call_id, found, message.name))
            continue
        if results:
            messages += in_call_order(messages, results, warnings)
            results = []
        if isinstance(message, fields.AssistantMessage):
            messages.append(_assistant(message, content, path, warnings))
        else:
            messages.append(Message("user" if message.role == "user" else "system", content))
    return messages + (in_call_order(messages, results, warnings) if results else [])


def _assistant(
    message: fields.AssistantMessage, content: str | tuple[Part, ...], path: str, warnings: Warnings
) -> Message:
    both = {text for text in (message.reasoning_content, message.reasoning) if text is not None}
    if len(both) > 1:
        raise FieldError(f"{path}.reasoning", "It differs from reasoning_content.", "Send one of the two fields.")
    if message.refusal is not None:
        parts = (TextPart(content),) if isinstance(content, str) else content
        content = (*parts, TextPart(message.refusal))
    calls = tuple(
        ToolCall(
            call.function.name,
            arguments_of(call.function.arguments, f"{path}.tool_calls[{index}].function.arguments", warnings),
            call.id,
        )
        for index, call in enumerate(message.tool_calls or ())
    )
    return Message("assistant", content, both.pop() if both else None, calls)


def _content(content: Any, path: str) -> str | tuple[Part, ...]:
    if content is None or isinstance(content, str):
        return content or ""
    parts = (_part(part, f"{path}[{index}]") for index, part in enumerate(content))
    return tuple(part for part in parts if part is not None)


def _part(part: Any, path: str) -> Part | None:
    if isinstance(part, fields.TextContent):
        return TextPart(part.text)
    if isinstance(part, fields.RefusalContent):
        return TextPart(part.refusal)
    if isinstance(part, fields.ImageContent):
        image = part.image_url
        if isinstance(image, str):
            return media_part("image", image, f"{path}.image_url")
        limit = image.max_tokens or _DETAIL_TOKENS.get(image.detail or "")
        return media_part("image", image.url, f"{path}.image_url.url", min_tokens=image.min_tokens, max_tokens=limit)
    if isinstance(part, fields.VideoContent):
        video = part.video_url
        if isinstance(video, str):
            return media_part("video", video, f"{path}.video_url")
        bounds = {"fps": video.fps, "max_frames": video.max_frames, "max_tokens": video.max_tokens}
        return media_part("video", video.url, f"{path}.video_url.url", **bounds)
    return None  # rejected, or dropped in lenient mode
