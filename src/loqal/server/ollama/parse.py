"""Ollama requests as generation requests. No side effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loqal.server.ollama import protocol as fields
from loqal.server.shared.body import Warnings
from loqal.server.shared.conversation import ToolResult, decode_base64, in_call_order, with_one_system_message
from loqal.server.shared.embeddings import EmbeddingRequest
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import review, sampling_params
from loqal.server.shared.generation_request import ChatRequest, RawRequest
from loqal.server.shared.thinking import BUDGETS
from loqal.types.messages import MediaPart, Message, Part, TextPart, ToolCall
from loqal.types.reply_options import AnswerFormat, JsonSchema, ReplyOptions, Thinking, Tool
from loqal.types.sampling import SamplingParams


def parse_chat(body: fields.OllamaChatBody, warnings: Warnings) -> ChatRequest:
    """The generation request of /api/chat. Raises FieldError."""
    review(body, warnings)
    messages = with_one_system_message(_conversation(body.messages, warnings), "messages", warnings)
    return ChatRequest(body.model, messages, _sampling(body), _reply_options(body), stream=body.stream)


def parse_generate(
    body: fields.OllamaGenerateBody, warnings: Warnings, before: Sequence[Message] = ()
) -> ChatRequest | RawRequest:
    """The generation request of /api/generate, after an earlier conversation. Raises FieldError."""
    review(body, warnings)
    if not body.raw:
        messages = tuple(_prompted(body, before))
        return ChatRequest(body.model, messages, _sampling(body), _reply_options(body), stream=body.stream)
    for name in ("system", "images", "think", "format", "context"):
        if getattr(body, name) not in (None, "", False):
            warnings.reject(name, "A raw prompt is used as it is.", "Remove raw, or put this into the prompt.")
    return RawRequest(body.model, (body.prompt,), _sampling(body), stream=body.stream)


def _conversation(messages: Sequence[fields.Message], warnings: Warnings) -> list[Message]:
    """The messages of /api/chat; tool results in the order of their calls."""
    found: list[Message] = []
    results: list[ToolResult] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if isinstance(message, fields.ToolMessage):
            content = Message("tool", _content(message.content, message.images, path))
            name = "tool_name" if message.tool_call_id is None else "tool_call_id"
            results.append(ToolResult(f"{path}.{name}", message.tool_call_id, content, message.tool_name))
            continue
        found += in_call_order(found, results, warnings)
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
    return [*found, *in_call_order(found, results, warnings)]


def _prompted(body: fields.OllamaGenerateBody, before: Sequence[Message]) -> list[Message]:
    """The messages of /api/generate, after those of an earlier conversation."""
    user = Message("user", _content(body.prompt, body.images, ""))
    if body.system is None:
        return [*before, user]
    rest = [message for message in before if message.role != "system"]
    return [Message("system", body.system), *rest, user]


def _content(text: str | None, images: Sequence[str] | None, path: str) -> str | list[Part]:
    if not images:
        return text or ""
    parts: list[Part] = [
        MediaPart("image", decode_base64(image, f"{path}.images[{index}]".lstrip(".")))
        for index, image in enumerate(images)
    ]
    return [*parts, TextPart(text or "")]


def parse_embed(body: fields.OllamaEmbedBody | fields.OllamaEmbeddingsBody, warnings: Warnings) -> EmbeddingRequest:
    """The embedding request of /api/embed or /api/embeddings. Raises FieldError."""
    review(body, warnings)
    max_tokens = body.options.num_ctx if body.options else None
    if isinstance(body, fields.OllamaEmbeddingsBody):
        return EmbeddingRequest(body.model, [body.prompt], "prompt", max_tokens=max_tokens)
    texts = [body.input] if isinstance(body.input, str) else body.input
    return EmbeddingRequest(body.model, texts, dimensions=body.dimensions, max_tokens=max_tokens)


def _sampling(body: fields.GenerationBody) -> SamplingParams:
    options = body.options or fields.Options()
    limit = options.num_predict
    return sampling_params(
        options,
        max_tokens=limit if limit is not None and limit > 0 else None,
        repetition_penalty=options.repeat_penalty,
        logprobs=(body.top_logprobs or 0) if body.logprobs or body.top_logprobs else None,
    )


def _reply_options(body: fields.GenerationBody) -> ReplyOptions:
    return ReplyOptions(
        tools=tuple(_tool(tool.function, f"tools[{index}].function") for index, tool in enumerate(body.tools or ()))
        if isinstance(body, fields.OllamaChatBody)
        else (),
        thinking=_thinking(body.think),
        answer=_answer(body.format),
        prefill=isinstance(body, fields.OllamaChatBody) and _is_assistant(body.messages),
    )


def _is_assistant(messages: Sequence[fields.Message]) -> bool:
    return bool(messages) and isinstance(messages[-1], fields.AssistantMessage)


def _tool(function: fields.Function, path: str) -> Tool:
    return Tool(function.name, function.description, function.parameters, function.strict, path=f"{path}.parameters")


def _thinking(think: bool | str | None) -> Thinking:
    return Thinking(True, BUDGETS[think]) if isinstance(think, str) else Thinking(think)


def _answer(form: str | dict[str, Any] | None) -> AnswerFormat | None:
    if form is None or form == "":
        return None
    if form == "json":
        return JsonSchema()
    if isinstance(form, str):
        raise FieldError("format", f"It is {form!r}.", "Send json, or a JSON schema as an object.")
    return JsonSchema(form, path="format")
