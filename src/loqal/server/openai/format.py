"""Replies in OpenAI's JSON, whole and as stream events. No side effects."""

from __future__ import annotations

import base64
import codecs
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from loqal.server.shared.embeddings import Vectors
from loqal.server.shared.errors import Problem, openai_error
from loqal.server.shared.logprobs import TokenBytes, format_logprobs
from loqal.server.shared.streaming import Event, Formatter
from loqal.types.reply import FinishReason, Reply, ReplyDelta, TokenLogprobs


def usage_of(replies: Sequence[Reply], *, per_prompt: int | None = None) -> dict[str, Any]:
    """Token counts. A prompt counts once for its replies: all of them, or ``per_prompt``."""
    prompts = replies[:1] if per_prompt is None else replies[::per_prompt]
    details: dict[str, Any] = {"cached_tokens": sum(reply.usage.cached_tokens for reply in prompts)}
    if replies[0].usage.cache_miss is not None:
        details["cache_miss"] = replies[0].usage.cache_miss
    drafted = sum(reply.usage.drafted_tokens for reply in replies)
    accepted = sum(reply.usage.accepted_tokens for reply in replies)
    return _usage(
        sum(reply.usage.prompt_tokens for reply in prompts),
        sum(reply.usage.completion_tokens for reply in replies),
        details,
        reasoning_tokens=sum(reply.usage.reasoning_tokens for reply in replies),
        accepted_prediction_tokens=accepted,
        rejected_prediction_tokens=drafted - accepted,
    )


def _usage(
    prompt_tokens: int,
    completion_tokens: int,
    prompt_details: dict[str, Any],
    *,
    reasoning_tokens: int = 0,
    accepted_prediction_tokens: int = 0,
    rejected_prediction_tokens: int = 0,
) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "accepted_prediction_tokens": accepted_prediction_tokens,
            "rejected_prediction_tokens": rejected_prediction_tokens,
        },
    }


def finish_reason(reason: FinishReason) -> str:
    """OpenAI's value for why a reply ended."""
    return reason.value if reason is not FinishReason.CANCELLED else "stop"


class Envelope:
    """The fields that every response and event of one request has in common."""

    def __init__(self, request_id: str, model: str, *, prefix: str = "chatcmpl", now: float | None = None) -> None:
        self.id, self.model = f"{prefix}-{request_id.removeprefix('req_')}", model
        self.created = int(time.time() if now is None else now)

    def of(self, kind: str, choices: Any, **more: Any) -> dict[str, Any]:
        """A response or an event."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more, "system_fingerprint": "loqal"}


def _tool_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


# Chat completions -----------------------------------------------------------------------------------------------------


class ChatWriter(Formatter):
    """Writes a chat completion: its events, and after the last reply ``completion``, the whole.

    Args:
        num_replies: the number of choices.
        token_bytes: the bytes of a token.
        with_usage: whether a last event has token counts.
        tier: the service tier the request was served with.
        warnings: warnings of the request, for the first event.
    """

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
        self._envelope, self._num_replies, self._token_bytes = envelope, num_replies, token_bytes
        self._with_usage, self._tier, self._warnings = with_usage, tier, warnings
        self._replies: dict[int, Reply] = {}

    @property
    def completion(self) -> dict[str, Any]:
        """The whole chat completion."""
        replies = [self._replies[index] for index in sorted(self._replies)]
        choices = [
            {
                "index": index,
                "message": self._message(reply),
                "finish_reason": finish_reason(reply.finish_reason),
                "logprobs": None if reply.logprobs is None else self._logprobs(reply.logprobs),
            }
            for index, reply in enumerate(replies)
        ]
        return self._envelope.of("chat.completion", choices, usage=usage_of(replies), service_tier=self._tier)

    def start(self) -> Iterable[Event]:
        """See Formatter."""
        for index in range(self._num_replies):
            more: dict[str, Any] = {"warnings": self._warnings} if self._warnings and index == 0 else {}
            yield self._chunk(index, {"role": "assistant", "content": ""}, **more)

    def push(self, index: int, delta: ReplyDelta) -> Iterable[Event]:
        """See Formatter."""
        fields: dict[str, Any] = {}
        if delta.text:
            fields["content"] = delta.text
        if delta.reasoning:
            fields |= {"reasoning_content": delta.reasoning, "reasoning": delta.reasoning}
        if (piece := delta.call_piece) is not None:
            if piece.name is None:
                call: dict[str, Any] = {"function": {"arguments": piece.arguments}}
            else:
                call = _tool_call(piece.id, piece.name, piece.arguments)
            fields["tool_calls"] = [{"index": piece.index, **call}]
        logprobs = self._logprobs(delta.logprobs) if delta.logprobs else None
        if fields or logprobs:
            yield self._chunk(index, fields, logprobs=logprobs)

    def end(self, index: int, reply: Reply) -> Iterable[Event]:
        """See Formatter."""
        self._replies[index] = reply
        late = [warning for warning in reply.warnings if warning not in self._warnings]
        more: dict[str, Any] = {"warnings": late} if late else {}
        yield self._chunk(index, {}, finish=finish_reason(reply.finish_reason), **more)

    def close(self) -> Iterable[Event]:
        """See Formatter."""
        if self._with_usage:
            replies = [self._replies[index] for index in sorted(self._replies)]
            yield self._event([], usage=usage_of(replies))
        yield Event("[DONE]")

    def failed(self, found: Problem) -> Iterable[Event]:
        """See Formatter."""
        yield Event(openai_error(found, ""))

    def _message(self, reply: Reply) -> dict[str, Any]:
        calls = [
            _tool_call(call.id or "", call.name, json.dumps(call.arguments, ensure_ascii=False))
            for call in reply.tool_calls
        ]
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if calls:
            message |= {"content": reply.text or None, "tool_calls": calls}
        if reply.reasoning:
            message |= {"reasoning_content": reply.reasoning, "reasoning": reply.reasoning}
        return message

    def _logprobs(self, logprobs: Iterable[TokenLogprobs]) -> dict[str, Any]:
        return {"content": format_logprobs(logprobs, self._token_bytes), "refusal": None}

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


# Completions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt that is returned before its completion; log probabilities begin at its second token."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def rows(self) -> tuple[TokenLogprobs | int, ...]:
        """The entries for ``TokenTable``; the first token has no log probability."""
        return (*self.token_ids[:1], *self.logprobs)


class TokenTable:
    """The log probabilities of one choice in the older format: parallel lists by token."""

    def __init__(self, token_bytes: TokenBytes, num_top: int) -> None:
        self._token_bytes, self._num_top = token_bytes, num_top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_chars = 0

    def rows(self, found: Iterable[TokenLogprobs | int]) -> dict[str, Any]:
        """The lists for the next tokens; a bare id is a token without log probability, the first of a prompt."""
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


class CompletionWriter(Formatter):
    """Writes completions: their events, and after the last reply ``completion``, the whole.

    Args:
        echoes: one for each prompt.
        per_prompt: the number of choices for each prompt.
        token_bytes: the bytes of a token.
        num_top: the number of top log probabilities; None for no log probabilities.
        with_usage: whether a last event has token counts.
        warnings: warnings of the request, for the first event.
    """

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
        self._envelope, self._per_prompt, self._token_bytes = envelope, per_prompt, token_bytes
        self._num_top, self._with_usage, self._warnings = num_top, with_usage, warnings
        self._echoes = [echo for echo in echoes for _ in range(per_prompt)]
        self._tables = [None if num_top is None else TokenTable(token_bytes, num_top) for _ in self._echoes]
        self._replies: dict[int, Reply] = {}

    @property
    def completion(self) -> dict[str, Any]:
        """The whole response; without any reply, the echoed prompts alone."""
        if not self._replies:
            choices = [self._choice(index, echo.text, echo.rows, "length") for index, echo in enumerate(self._echoes)]
            read = sum(len(echo.token_ids) for echo in self._echoes)
            return self._envelope.of("text_completion", choices, usage=_usage(read, 0, {"cached_tokens": 0}))
        choices = [
            self._choice(
                index,
                echo.text + self._replies[index].text,
                (*echo.rows, *(self._replies[index].logprobs or ())),
                finish_reason(self._replies[index].finish_reason),
            )
            for index, echo in enumerate(self._echoes)
        ]
        return self._envelope.of("text_completion", choices, usage=self._total())

    def start(self) -> Iterable[Event]:
        """See Formatter."""
        for index, echo in enumerate(self._echoes):
            more: dict[str, Any] = {"warnings": self._warnings} if self._warnings and index == 0 else {}
            if echo.text or more:
                yield self._chunk(index, echo.text, echo.rows, **more)

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
            yield Event(self._envelope.of("text_completion", [], usage=self._total()))
        yield Event("[DONE]")

    def failed(self, found: Problem) -> Iterable[Event]:
        """See Formatter."""
        yield Event(openai_error(found, ""))

    def _total(self) -> dict[str, Any]:
        replies = [self._replies[index] for index in sorted(self._replies)]
        return usage_of(replies, per_prompt=self._per_prompt)

    def _choice(self, index: int, text: str, rows: Iterable[TokenLogprobs | int], finish: str) -> dict[str, Any]:
        logprobs = None if self._num_top is None else TokenTable(self._token_bytes, self._num_top).rows(rows)
        return {"index": index, "text": text, "finish_reason": finish, "logprobs": logprobs}

    def _chunk(
        self, index: int, text: str, rows: Iterable[TokenLogprobs | int], *, finish: str | None = None, **more: Any
    ) -> Event:
        table = self._tables[index]
        logprobs = None if table is None else table.rows(rows)
        choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": logprobs}
        return Event(self._envelope.of("text_completion", [choice], **more))


# Embeddings -----------------------------------------------------------------------------------------------------------


def format_embeddings(vectors: Vectors, model: str, num_tokens: int, *, as_base64: bool) -> dict[str, Any]:
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
