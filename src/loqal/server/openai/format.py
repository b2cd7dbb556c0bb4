"""Our replies in OpenAI's shapes, whole and in events. Pure."""

from __future__ import annotations

import base64
import codecs
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loqal.server.shared.errors import Problem
from loqal.server.shared.streaming import Event, Formatter
from loqal.types.reply import FinishReason, Reply, ReplyDelta, TokenLogprobs

TokenBytes = Callable[[int], bytes]

_KINDS = {
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "internal": "server_error",
}
_CODES = {"context_length": "context_length_exceeded", "not_found": "not_found", "authentication": "invalid_api_key"}


def usage_of(replies: Sequence[Reply], *, per_prompt: int | None = None) -> dict[str, Any]:
    """Counts of tokens. A prompt counts once for its replies: all of them, or ``per_prompt``."""
    prompts = replies[:1] if per_prompt is None else replies[::per_prompt]
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

    def __init__(self, call_id: str, model: str, *, prefix: str = "chatcmpl", now: float | None = None) -> None:
        self.id, self.model = f"{prefix}-{call_id.removeprefix('req_')}", model
        self.created = int(time.time() if now is None else now)

    def of(self, kind: str, choices: Any, **more: Any) -> dict[str, Any]:
        """An answer or an event."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more, "system_fingerprint": "loqal"}


def format_reply(
    replies: Sequence[Reply], envelope: Envelope, token_bytes: TokenBytes, *, tier: str = "default"
) -> dict[str, Any]:
    """The answer to a chat."""
    choices = []
    for index, reply in enumerate(replies):
        calls = [
            _call(call.id or "", call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in reply.tool_calls
        ]
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if calls:
            message |= {"content": reply.text or None, "tool_calls": calls}
        if reply.reasoning:
            message |= {"reasoning_content": reply.reasoning, "reasoning": reply.reasoning}
        logprobs = None if reply.logprobs is None else format_logprobs(reply.logprobs, token_bytes)
        reason = finish_reason(reply.finish_reason)
        choices.append({"index": index, "message": message, "finish_reason": reason, "logprobs": logprobs})
    return envelope.of("chat.completion", choices, usage=usage_of(replies), service_tier=tier)


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def format_logprobs(logprobs: Iterable[TokenLogprobs], token_bytes: TokenBytes) -> dict[str, Any]:
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
        token_bytes: TokenBytes,
        *,
        with_usage: bool = False,
        tier: str = "default",
        warnings: Sequence[str] = (),
    ) -> None:
        self._tier = tier
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
            if piece.name is None:
                call: dict[str, Any] = {"function": {"arguments": piece.arguments}}
            else:
                call = _call(piece.id, piece.name, piece.arguments)
            shown["tool_calls"] = [{"index": piece.index, **call}]
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
            yield self._event([], usage=usage_of(replies))
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
        return self._event([choice], **more)

    def _event(self, choices: list[Any], **more: Any) -> Event:
        return Event(self._envelope.of("chat.completion.chunk", choices, **more, service_tier=self._tier))


def error(found: Problem, call_id: str) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    kind = _KINDS.get(found.kind, "invalid_request_error")
    return {"error": {"message": found.message, "type": kind, "param": found.path, "code": _CODES.get(found.kind)}}


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt that is put before its answers; log probabilities begin at its second token."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()


class TokenTable:
    """The older shape of log probabilities, token by token, for one answer."""

    def __init__(self, token_bytes: TokenBytes, num_top: int) -> None:
        self._token_bytes, self._num_top = token_bytes, num_top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_chars = 0

    def rows(self, found: Iterable[TokenLogprobs | int]) -> dict[str, Any]:
        """The next tokens; a bare id is a token without a log probability, the first of a prompt."""
        rows: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for one in found:
            token_id = one if isinstance(one, int) else one.token_id
            rows["tokens"].append(self._text(token_id))
            rows["text_offset"].append(self._num_chars)
            self._num_chars += len(self._decoder.decode(self._token_bytes(token_id)))
            if isinstance(one, int):
                rows["token_logprobs"].append(None)
                rows["top_logprobs"].append(None)
            else:
                rows["token_logprobs"].append(one.logprob)
                rows["top_logprobs"].append({self._text(other): value for other, value in reversed(one.top)})
        if not self._num_top:
            rows["top_logprobs"] = None
        return rows

    def _text(self, token_id: int) -> str:
        data = self._token_bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class CompletionChunks(Formatter):
    """The events of streamed continuations, and the whole answer. ``echoes`` holds one echo for each prompt."""

    def __init__(
        self,
        envelope: Envelope,
        echoes: Sequence[Echo],
        per_prompt: int,
        token_bytes: TokenBytes,
        *,
        num_top: int | None = None,
        with_usage: bool = False,
        warnings: Sequence[str] = (),
    ) -> None:
        self._envelope, self._per_prompt = envelope, per_prompt
        self._echoes = [echo for echo in echoes for _ in range(per_prompt)]
        self._with_usage, self._warnings = with_usage, warnings
        self._tables = [None if num_top is None else TokenTable(token_bytes, num_top) for _ in self._echoes]
        self._replies: dict[int, Reply] = {}

    def start(self) -> Iterable[Event]:
        """See Formatter."""
        for index, echo in enumerate(self._echoes):
            more: dict[str, Any] = {"warnings": self._warnings} if self._warnings and index == 0 else {}
            if echo.text or more:
                rows: tuple[TokenLogprobs | int, ...] = (*echo.token_ids[:1], *echo.logprobs)
                yield self._chunk(index, echo.text, rows, **more)

    def push(self, index: int, delta: ReplyDelta) -> Iterable[Event]:
        """See Formatter."""
        if delta.text or delta.logprobs:
            yield self._chunk(index, delta.text, delta.logprobs)

    def end(self, index: int, reply: Reply) -> Iterable[Event]:
        """See Formatter."""
        self._replies[index] = reply
        yield self._chunk(index, "", (), finish=finish_reason(reply.finish_reason))

    def close(self) -> Iterable[Event]:
        """See Formatter."""
        if self._with_usage:
            replies = [self._replies[index] for index in sorted(self._replies)]
            yield Event(self._envelope.of("text_completion", [], usage=usage_of(replies, per_prompt=self._per_prompt)))
        yield Event("[DONE]")

    def failed(self, found: Problem) -> Iterable[Event]:
        """See Formatter."""
        yield Event(error(found, ""))

    def _chunk(
        self, index: int, text: str, rows: Iterable[TokenLogprobs | int], *, finish: str | None = None, **more: Any
    ) -> Event:
        table = self._tables[index]
        logprobs = None if table is None else table.rows(rows)
        choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": logprobs}
        return Event(self._envelope.of("text_completion", [choice], **more))


def format_completion(
    replies: Sequence[Reply], envelope: Envelope, echoes: Sequence[Echo], token_bytes: TokenBytes, num_top: int | None
) -> dict[str, Any]:
    """The continuations of one or more prompts. Without replies, the echoes alone."""
    choices = []
    per_prompt = len(replies) // len(echoes) or 1
    for index in range(per_prompt * len(echoes)):
        echo = echoes[index // per_prompt]
        reply = replies[index] if replies else None
        logprobs = None
        if num_top is not None:
            written = () if reply is None or reply.logprobs is None else reply.logprobs
            logprobs = TokenTable(token_bytes, num_top).rows((*echo.token_ids[:1], *echo.logprobs, *written))
        choices.append(
            {
                "index": index,
                "text": echo.text + ("" if reply is None else reply.text),
                "finish_reason": "length" if reply is None else finish_reason(reply.finish_reason),
                "logprobs": logprobs,
            }
        )
    if replies:
        usage = usage_of(replies, per_prompt=per_prompt)
    else:
        read = sum(len(echo.token_ids) for echo in echoes)
        usage = {
            "prompt_tokens": read,
            "completion_tokens": 0,
            "total_tokens": read,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": dict.fromkeys(
                ("reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"), 0
            ),
        }
    return envelope.of("text_completion", choices, usage=usage)


def format_embeddings(
    vectors: npt.NDArray[np.float32], model: str, num_tokens: int, *, as_base64: bool
) -> dict[str, Any]:
    """Vectors [N D] in their order."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_base64 else row.tolist(),
        }
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}
