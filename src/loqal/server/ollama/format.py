"""Replies in Ollama's JSON, whole and line by line. No side effects."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from loqal.runtime.model_info import ModelInfo
from loqal.server.shared.errors import Problem
from loqal.server.shared.logprobs import TokenBytes, format_logprobs
from loqal.server.shared.streaming import Event, Formatter
from loqal.types.messages import ToolCall
from loqal.types.reply import FinishReason, Reply, ReplyDelta

NEVER = "9999-12-31T23:59:59Z"


class LineWriter(Formatter):
    """Writes a reply: its lines, and ``whole``, the object of a reply that is not streamed.

    Args:
        model: the name of the model in the request.
        chats: whether the text is in ``message`` (/api/chat) instead of ``response`` (/api/generate).
        token_bytes: the bytes of a token.
        elapsed_ns: returns the time since the request arrived.
        load_ns: the time to load the model.
        context: returns the tokens that continue the conversation; None for none.
        warnings: warnings of the request.
        now: returns the seconds since 1970.
    """

    def __init__(
        self,
        model: str,
        *,
        chats: bool,
        token_bytes: TokenBytes,
        elapsed_ns: Callable[[], int],
        load_ns: int = 0,
        context: Callable[[Reply], Sequence[int]] | None = None,
        warnings: Sequence[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._model, self._chats, self._token_bytes = model, chats, token_bytes
        self._elapsed_ns, self._load_ns, self._context, self._warnings = elapsed_ns, load_ns, context, warnings
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self.whole: dict[str, Any] = {}

    def push(self, index: int, delta: ReplyDelta) -> list[Event]:
        """See Formatter."""
        calls = [] if delta.tool_call is None else [self._call(delta.tool_call)]
        logprobs = format_logprobs(delta.logprobs, self._token_bytes)
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        self._calls += calls
        self._logprobs += logprobs
        if not (delta.text or delta.reasoning or calls or logprobs):
            return []
        return [Event({**self._line(delta.text, delta.reasoning, calls, logprobs), "done": False})]

    def end(self, index: int, reply: Reply) -> list[Event]:
        """See Formatter."""
        ending = _ending(reply, self._elapsed_ns(), self._load_ns)
        if self._context is not None:
            ending["context"] = list(self._context(reply))
        if warnings := list(dict.fromkeys((*self._warnings, *reply.warnings))):
            ending["warnings"] = warnings
        line = self._line("".join(self._text), "".join(self._reasoning), self._calls, self._logprobs)
        self.whole = {**line, **ending}
        return [Event({**self._line("", "", [], []), **ending})]

    def failed(self, found: Problem) -> list[Event]:
        """See Formatter."""
        return [Event(error(found))]

    def idle(self, read: int, total: int) -> list[Event]:
        """See Formatter. A line without text keeps the connection alive."""
        return [Event({**self._line("", "", [], []), "done": False})]

    def _line(
        self, text: str, reasoning: str, calls: list[dict[str, Any]], logprobs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {"content" if self._chats else "response": text}
        if reasoning:
            fields["thinking"] = reasoning
        if calls:
            fields["tool_calls"] = calls
        body: dict[str, Any] = {"model": self._model, "created_at": _time(self._now())}
        body |= {"message": {"role": "assistant", **fields}} if self._chats else fields
        return {**body, "logprobs": logprobs} if logprobs else body

    def _call(self, call: ToolCall) -> dict[str, Any]:
        function = {"index": len(self._calls), "name": call.name, "arguments": dict(call.arguments)}
        return {"id": call.id, "function": function}


def _ending(reply: Reply, total_ns: int, load_ns: int) -> dict[str, Any]:
    usage, timings = reply.usage, reply.timings
    read = usage.prompt_tokens - usage.cached_tokens
    ending: dict[str, Any] = {
        "done": True,
        "done_reason": "length" if reply.finish_reason is FinishReason.LENGTH else "stop",
        "total_duration": total_ns,
        "load_duration": load_ns,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _duration(read, timings.prefill_tokens_per_s),
        "eval_count": usage.completion_tokens,
        "eval_duration": _duration(usage.completion_tokens - 1, timings.decode_tokens_per_s),
        "cached_tokens": usage.cached_tokens,
    }
    return ending if usage.cache_miss is None else {**ending, "cache_miss": usage.cache_miss}


def _duration(tokens: int, per_second: float) -> int:
    return round(tokens / per_second * 1e9) if per_second > 0 else 0


def idle(model: str, *, chats: bool, reason: str, now: float) -> dict[str, Any]:
    """The response to a request without a prompt, which loads or unloads a model."""
    empty: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chats else {"response": ""}
    return {"model": model, "created_at": _time(now), **empty, "done": True, "done_reason": reason}


def error(found: Problem, request_id: str = "") -> dict[str, Any]:
    """The JSON of an error, as a body and as the last line."""
    return {"error": found.message}


def listed(name: str, info: ModelInfo | None, created_s: int) -> dict[str, Any]:
    """A listed model. The digest identifies the model's description, not its weights."""
    entry = {
        "name": name,
        "model": name,
        "modified_at": _time(created_s),
        "digest": hashlib.sha256(repr(info or name).encode()).hexdigest(),
    }
    return entry if info is None else {**entry, "size": info.file_bytes, "details": _details(info)}


def described(info: ModelInfo, created_s: int) -> dict[str, Any]:
    """The description of one model."""
    family = info.architecture
    facts = {
        "general.architecture": family,
        "general.parameter_count": info.parameters["total"],
        f"{family}.context_length": info.context_len,
        f"{family}.embedding_length": info.width,
        f"{family}.block_count": info.num_delta_layers + info.num_attention_layers,
        f"{family}.vocab_size": info.vocab_size,
    }
    capabilities = ["completion", "tools", "thinking", "embedding"] + (["vision"] if info.has_vision else [])
    shown = {"details": _details(info), "model_info": facts, "capabilities": capabilities}
    return {**shown, "modified_at": _time(created_s), "template": info.template}


def _details(info: ModelInfo) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": info.format,
        "family": info.architecture,
        "families": [info.architecture],
        "parameter_size": info.size_label or f"{info.parameters['total'] / 1e6:.1f}M",
        "quantization_level": info.quantization[0].format if info.quantization else "",
    }


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")
