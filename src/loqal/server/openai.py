"""OpenAI's chat completions and models: ``parse`` and ``format`` are pure, routes join them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastapi.responses import Response

from ..turns import AnswerFormat, Grammar, JsonSchema, NamedTool, OneOf, Regex, Tool, ToolChoice, Turn
from ..types import FinishReason, Message, Part, Reply, ReplyDelta, SamplingParams, TextPart, TokenLogprobs, ToolCall
from . import openai_body as body_models
from .dialect import Call, Dialect, Route, Work
from .errors import FieldError, Problem
from .openai_body import ChatBody
from .pool import unknown_model
from .request import ChatRequest, Notes, media_part
from .streaming import Event, Formatter, ServerSentEvents
from .thinking import thinking

_PRIORITIES = {"flex": 10, "priority": -10}  # of service tiers; the lowest is served first
_DETAIL_TOKENS = {"low": 256}
_KINDS = {
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "internal": "server_error",
}
_CODES = {"context_length": "context_length_exceeded", "not_found": "not_found", "authentication": "invalid_api_key"}


# Parse ----------------------------------------------------------------------------------------------------------------


def parse(body: ChatBody, notes: Notes) -> ChatRequest:
    """The request that a body asks for. Raises FieldError."""
    for name, why in _refusals(body):
        notes.refuse(name, why)
    if body.metadata:
        notes.note("metadata", "nothing is stored, so it is not kept.")
    if body.prompt_cache_key is not None or body.prompt_cache_retention is not None:
        notes.note("prompt_cache_key", "prompts that begin alike find each other without a key.")
    if body.stream_options is not None and not body.stream:
        raise FieldError("stream_options", "It needs stream to be true.")
    if body.stream_options is not None and body.stream_options.include_obfuscation:
        notes.refuse("stream_options.include_obfuscation", "Nothing is obfuscated.")
    priority = body.priority
    if priority is None:
        priority = _PRIORITIES.get(body.service_tier or "", 0)
    return ChatRequest(
        model=body.model,
        messages=tuple(_message(message, f"messages[{index}]", notes) for index, message in enumerate(body.messages)),
        params=_params(body),
        turn=_turn(body, notes),
        n=body.n or 1,
        stream=bool(body.stream),
        priority=priority,
        user=body.safety_identifier or body.user or "",
    )


def _refusals(body: ChatBody) -> Iterable[tuple[str, str]]:
    if body.audio is not None or "audio" in (body.modalities or ()):
        yield "audio" if body.audio is not None else "modalities", "This family does not speak."
    if body.functions is not None or body.function_call is not None:
        yield "functions" if body.functions is not None else "function_call", "It was replaced by tools."
    if body.prediction is not None:
        yield "prediction", "Text cannot be predicted by the caller; guesses are made without."
    if body.store:
        yield "store", "Chat completions are not stored."
    if body.verbosity not in (None, "medium"):
        yield "verbosity", "The model has no such switch; say it in the system message."
    if body.web_search_options is not None:
        yield "web_search_options", "The server does not search the web."


def sampling(body: body_models.SamplingFields, **more: Any) -> SamplingParams:
    """The parameters that chats and completions share."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return SamplingParams(
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias=_biases(body.logit_bias),
        seed=body.seed,
        stop=stop,
        stop_token_ids=tuple(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        **more,
    )


def _biases(given: dict[str, float] | None) -> dict[int, float] | None:
    if given is None:
        return None
    for key in given:
        if not key.isascii() or not key.isdigit():
            raise FieldError(f"logit_bias.{key[:50]}", "The key must be a token id.", "See /v1/tokenize.")
    return {int(key): value for key, value in given.items()}


def _params(body: ChatBody) -> SamplingParams:
    if body.top_logprobs is not None and not body.logprobs:
        raise FieldError("top_logprobs", "It needs logprobs to be true.")
    limits = [limit for limit in (body.max_completion_tokens, body.max_tokens) if limit is not None]
    if len(set(limits)) > 1:
        raise FieldError("max_tokens", "It contradicts max_completion_tokens.", "Give one of them.")
    return sampling(
        body,
        max_tokens=limits[0] if limits else None,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _turn(body: ChatBody, notes: Notes) -> Turn:
    tools = []
    for index, tool in enumerate(body.tools or ()):
        if isinstance(tool, body_models.CustomTool):
            notes.refuse(f"tools[{index}]", "Tools of type custom are not supported.", "Describe it as a function.")
            continue
        function = tool.function
        tools.append(
            Tool(
                function.name,
                function.description,
                function.parameters,
                bool(function.strict),
                definition=tool.model_dump(exclude_unset=True),
            )
        )
    if len({tool.name for tool in tools}) < len(tools):
        raise FieldError("tools", "Two tools have the same name.")
    tools, choice = _choice(body, tools)
    return Turn(
        tools=tuple(tools),
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        thinking=thinking(body),
        answer=_answer(body),
        replay=body.replay or "exact",
        prefill=bool(body.continue_final_message),
    )


def _choice(body: ChatBody, tools: list[Tool]) -> tuple[list[Tool], ToolChoice]:
    choice, names = body.tool_choice, {tool.name for tool in tools}
    if choice is None or isinstance(choice, str):
        if choice == "required" and not tools:
            raise FieldError("tool_choice", "There are no tools.")
        return tools, choice or "auto"
    if isinstance(choice, body_models.NamedFunctionTool):
        if choice.function.name not in names:
            raise FieldError("tool_choice.function.name", f"There is no tool {choice.function.name!r}.")
        return tools, NamedTool(choice.function.name)
    allowed = {tool.function.name for tool in choice.allowed_tools.tools}
    if not allowed or allowed - names:
        raise FieldError("tool_choice.allowed_tools.tools", "It must name tools of the request.")
    return [tool for tool in tools if tool.name in allowed], choice.allowed_tools.mode


def _answer(body: ChatBody) -> AnswerFormat | None:
    wished = body.response_format
    found: list[AnswerFormat] = []
    if isinstance(wished, body_models.JsonObjectFormat):
        found.append(JsonSchema())
    if isinstance(wished, body_models.JsonSchemaFormat):
        found.append(JsonSchema(wished.json_schema.schema_))
    other = body.structured_outputs
    if other is not None:
        if other.json_ is not None:
            found.append(JsonSchema(_schema(other.json_)))
        if other.regex is not None:
            found.append(Regex(other.regex))
        if other.choice is not None:
            found.append(OneOf(tuple(other.choice)))
        if other.grammar is not None:
            found.append(Grammar(other.grammar))
        if len(found) != 1:
            raise FieldError("structured_outputs", "There must be exactly one constraint on the answer.")
    return found[0] if found else None


def _schema(given: dict[str, Any] | str) -> Any:
    if isinstance(given, dict):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise FieldError("structured_outputs.json", f"It is not JSON: {error}.") from None


def _message(message: Any, path: str, notes: Notes) -> Message:
    if getattr(message, "name", None) is not None and message.role != "tool":
        notes.note(f"{path}.name", "the model's template has no place for names.")
    content = _content(message.content, f"{path}.content")
    if isinstance(message, body_models.FunctionMessage):
        notes.refuse(f"{path}.role", "The role function was replaced by tool.")
        return Message("tool", content)
    if isinstance(message, body_models.AssistantMessage):
        return _assistant(message, content, path, notes)
    return Message("system" if message.role == "developer" else message.role, content)


def _assistant(
    message: body_models.AssistantMessage, content: str | tuple[Part, ...], path: str, notes: Notes
) -> Message:
    if message.audio is not None:
        notes.refuse(f"{path}.audio", "This family does not speak.")
    if message.function_call is not None:
        notes.refuse(f"{path}.function_call", "It was replaced by tool_calls.")
    both = {text for text in (message.reasoning_content, message.reasoning) if text is not None}
    if len(both) > 1:
        raise FieldError(f"{path}.reasoning", "It differs from reasoning_content.", "Give one of them.")
    if message.refusal is not None:
        content = (*_parts(content), TextPart(message.refusal))
    calls = tuple(
        ToolCall(call.function.name, _arguments(call.function.arguments, f"{path}.tool_calls[{index}]"), call.id)
        for index, call in enumerate(message.tool_calls or ())
    )
    return Message("assistant", content, both.pop() if both else None, calls)


def _arguments(text: str, path: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FieldError(f"{path}.function.arguments", "It must be the JSON text of an object.")
    return found


def _parts(content: str | tuple[Part, ...]) -> tuple[Part, ...]:
    return (TextPart(content),) if isinstance(content, str) else content


def _content(content: Any, path: str) -> str | tuple[Part, ...]:
    if content is None or isinstance(content, str):
        return content or ""
    return tuple(_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def _part(part: Any, path: str) -> Part:
    if isinstance(part, body_models.TextContent):
        return TextPart(part.text)
    if isinstance(part, body_models.RefusalContent):
        return TextPart(part.refusal)
    if isinstance(part, body_models.ImageContent):
        image = part.image_url
        if isinstance(image, str):
            return media_part("image", image, f"{path}.image_url")
        most = image.max_tokens or _DETAIL_TOKENS.get(image.detail or "")
        return media_part("image", image.url, f"{path}.image_url.url", min_tokens=image.min_tokens, max_tokens=most)
    if isinstance(part, body_models.VideoContent):
        video = part.video_url
        if isinstance(video, str):
            return media_part("video", video, f"{path}.video_url")
        bounds = {"fps": video.fps, "max_frames": video.max_frames, "max_tokens": video.max_tokens}
        return media_part("video", video.url, f"{path}.video_url.url", **bounds)
    raise FieldError(path, f"Parts of type {part.type} cannot be read.", "Send text, images or videos.")


# Format ---------------------------------------------------------------------------------------------------------------


def usage_of(replies: Sequence[Reply], *, shared_prompt: bool = True) -> dict[str, Any]:
    """Counts of tokens. Replies to one prompt count it once."""
    prompts = replies[:1] if shared_prompt else replies
    prompt_tokens = sum(reply.usage.prompt_tokens for reply in prompts)
    completion_tokens = sum(reply.usage.completion_tokens for reply in replies)
    details: dict[str, Any] = {"cached_tokens": sum(reply.usage.cached_tokens for reply in prompts)}
    if replies[0].usage.cache_miss is not None:
        details["cache_miss"] = replies[0].usage.cache_miss
    drafted = sum(reply.usage.drafted_tokens for reply in replies)
    accepted = sum(reply.usage.accepted_tokens for reply in replies)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": sum(reply.usage.reasoning_tokens for reply in replies),
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": drafted - accepted,
        },
    }


def finish_reason(reason: FinishReason) -> str:
    """OpenAI's word for why a reply ended."""
    return reason.value if reason is not FinishReason.CANCELLED else "stop"


class Envelope:
    """What every answer to one request begins with."""

    def __init__(self, call_id: str, model: str, tier: str = "default", now: float | None = None) -> None:
        self.id, self.model, self.tier = f"chatcmpl-{call_id.removeprefix('req_')}", model, tier
        self.created = int(time.time() if now is None else now)

    def of(self, kind: str, choices: Any, **more: Any) -> dict[str, Any]:
        """An answer or an event."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more, "system_fingerprint": "loqal", "service_tier": self.tier}


def format_reply(replies: Sequence[Reply], envelope: Envelope, token_bytes: Callable[[int], bytes]) -> dict[str, Any]:
    """The answer to a chat."""
    choices = []
    for index, reply in enumerate(replies):
        calls = [
            call_piece(number, call.id or "", call.name, json.dumps(call.arguments, ensure_ascii=False))
            for number, call in enumerate(reply.tool_calls)
        ]
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if calls:
            message |= {"content": reply.text or None, "tool_calls": calls}
        if reply.reasoning:
            message |= {"reasoning_content": reply.reasoning, "reasoning": reply.reasoning}
        logprobs = None if reply.logprobs is None else format_logprobs(reply.logprobs, token_bytes)
        reason = finish_reason(reply.finish_reason)
        choices.append({"index": index, "message": message, "finish_reason": reason, "logprobs": logprobs})
    return envelope.of("chat.completion", choices, usage=usage_of(replies))


def call_piece(index: int, call_id: str, name: str | None, arguments: str) -> dict[str, Any]:
    """A call of a tool, or a piece of one."""
    if name is None:
        return {"index": index, "function": {"arguments": arguments}}
    return {
        "index": index,
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def format_logprobs(logprobs: Iterable[TokenLogprobs], token_bytes: Callable[[int], bytes]) -> dict[str, Any]:
    """Log probabilities, with the exact bytes of every token."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        data = token_bytes(token_id)
        return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}

    content = [
        {**entry(one.token_id, one.logprob), "top_logprobs": [entry(*pair) for pair in one.top]} for one in logprobs
    ]
    return {"content": content, "refusal": None}


class ChatChunks(Formatter):
    """The events of a streamed chat."""

    def __init__(
        self,
        envelope: Envelope,
        num_replies: int,
        token_bytes: Callable[[int], bytes],
        *,
        with_usage: bool = False,
        warnings: Sequence[str] = (),
    ) -> None:
        self._envelope, self._num_replies, self._token_bytes = envelope, num_replies, token_bytes
        self._with_usage, self._warnings = with_usage, warnings
        self._replies: dict[int, Reply] = {}

    def start(self) -> Iterable[Event]:
        """See Formatter."""
        for index in range(self._num_replies):
            more: dict[str, Any] = {"warnings": self._warnings} if self._warnings and index == 0 else {}
            yield self._chunk(index, {"role": "assistant", "content": ""}, **more)

    def push(self, index: int, delta: ReplyDelta) -> Iterable[Event]:
        """See Formatter."""
        shown: dict[str, Any] = {}
        if delta.text:
            shown["content"] = delta.text
        if delta.reasoning:
            shown |= {"reasoning_content": delta.reasoning, "reasoning": delta.reasoning}
        if (piece := delta.call_piece) is not None:
            shown["tool_calls"] = [call_piece(piece.index, piece.id, piece.name, piece.arguments)]
        logprobs = format_logprobs(delta.logprobs, self._token_bytes) if delta.logprobs else None
        if shown or logprobs:
            yield self._chunk(index, shown, logprobs=logprobs)

    def end(self, index: int, reply: Reply) -> Iterable[Event]:
        """See Formatter."""
        self._replies[index] = reply
        yield self._chunk(index, {}, finish=finish_reason(reply.finish_reason))

    def close(self) -> Iterable[Event]:
        """See Formatter."""
        if self._with_usage:
            replies = [self._replies[index] for index in sorted(self._replies)]
            yield Event(self._envelope.of("chat.completion.chunk", [], usage=usage_of(replies)))
        yield Event("[DONE]")

    def failed(self, found: Problem) -> Iterable[Event]:
        """See Formatter."""
        yield Event(error(found, ""))

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        finish: str | None = None,
        logprobs: dict[str, Any] | None = None,
        **more: Any,
    ) -> Event:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return Event(self._envelope.of("chat.completion.chunk", [choice], **more))


def error(found: Problem, call_id: str) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    kind = _KINDS.get(found.kind, "invalid_request_error")
    return {"error": {"message": found.message, "type": kind, "param": found.path, "code": _CODES.get(found.kind)}}


# Routes ---------------------------------------------------------------------------------------------------------------


async def chat_completions(call: Call, body: ChatBody) -> Response:
    """Continue a conversation."""
    request = parse(body, call.notes)
    envelope = Envelope(call.id, body.model, _tier(body))
    if request.stream:
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)

        def chunks(work: Work) -> ChatChunks:
            return ChatChunks(
                envelope, request.n, work.runtime.token_bytes, with_usage=with_usage, warnings=call.notes.warnings
            )

        return await call.stream(request, chunks, ServerSentEvents)
    replies, runtime = await call.replies(request)
    return call.json(format_reply(replies, envelope, runtime.token_bytes))


def _tier(body: ChatBody) -> str:
    return body.service_tier if body.service_tier in _PRIORITIES else "default"


async def models(call: Call) -> Response:
    """The models that are served."""
    return call.json({"object": "list", "data": [_model(call, name) for name in call.pool.names()]})


async def model(call: Call) -> Response:
    """One model that is served."""
    name = call.http.path_params["model"]
    if name not in call.pool.names():
        raise unknown_model(name, call.pool.names())
    return call.json(_model(call, name))


def _model(call: Call, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": call.pool.created, "owned_by": "loqal"}


DIALECT = Dialect(
    "openai",
    (
        Route(
            "POST",
            "/v1/chat/completions",
            "infer",
            chat_completions,
            "Continue a conversation",
            body=ChatBody,
            answer=body_models.ChatCompletion,
            event=body_models.ChatCompletionChunk,
            wire=ServerSentEvents,
        ),
        Route("GET", "/v1/models", "read", models, "The models that are served", answer=body_models.ModelList),
        Route("GET", "/v1/models/{model:path}", "read", model, "One model", answer=body_models.Model),
    ),
    error,
)
