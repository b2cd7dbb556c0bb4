"""Our replies as objects of Ollama's API, whole or line by line. Pure."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from loqal.runtime.model_info import ModelInfo
from loqal.server.shared.errors import Problem
from loqal.server.shared.streaming import Event, Formatter
from loqal.types.messages import ToolCall
from loqal.types.reply import FinishReason, Reply, ReplyDelta, TokenLogprobs

NEVER = "9999-12-31T23:59:59Z"

Spell = Callable[[int], bytes]
"""The bytes of one token, which need not be whole characters."""


class LineWriter(Formatter):
    """Writes one reply. ``whole`` is the one object of a reply that is not streamed.

    Args:
        model: the name the caller asked for.
        chats: the text stands in ``message`` rather than in ``response``.
        spell: the bytes of a token.
        elapsed_ns: the time since the request came.
        load_ns: the time its model took to load.
        context: the tokens of the conversation to follow it with, where the caller may.
        warnings: what became of fields that could not simply be obeyed.
        now: seconds since 1970.
    """

    def __init__(
        self,
        model: str,
        *,
        chats: bool,
        spell: Spell,
        elapsed_ns: Callable[[], int],
        load_ns: int = 0,
        context: Callable[[Reply], Sequence[int]] | None = None,
        warnings: Sequence[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._model, self._chats, self._spell = model, chats, spell
        self._elapsed_ns, self._load_ns, self._context, self._warnings = elapsed_ns, load_ns, context, warnings
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self.whole: dict[str, Any] = {}

    def push(self, index: int, delta: ReplyDelta) -> list[Event]:
        """See Formatter."""
        calls = [] if delta.tool_call is None else [self._call(delta.tool_call)]
        logprobs = [self._logprob(entry) for entry in delta.logprobs]
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        self._calls += calls
        self._logprobs += logprobs
        if not (delta.text or delta.reasoning or calls or logprobs):
            return []
        return [Event({**self._said(delta.text, delta.reasoning, calls, logprobs), "done": False})]

    def end(self, index: int, reply: Reply) -> list[Event]:
        """See Formatter."""
        ending = _ending(reply, self._elapsed_ns(), self._load_ns)
        if self._context is not None:
            ending["context"] = list(self._context(reply))
        if self._warnings:
            ending["warnings"] = list(self._warnings)
        said = self._said("".join(self._text), "".join(self._reasoning), self._calls, self._logprobs)
        self.whole = {**said, **ending}
        return [Event({**self._said("", "", [], []), **ending})]

    def failed(self, found: Problem) -> list[Event]:
        """See Formatter."""
        return [Event(error(found))]

    def idle(self, read: int, total: int) -> list[Event]:
        """See Formatter. A line without text keeps the connection alive, and clients add nothing."""
        return [Event({**self._said("", "", [], []), "done": False})]

    def _said(
        self, text: str, reasoning: str, calls: list[dict[str, Any]], logprobs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        said: dict[str, Any] = {"content" if self._chats else "response": text}
        if reasoning:
            said["thinking"] = reasoning
        if calls:
            said["tool_calls"] = calls
        body: dict[str, Any] = {"model": self._model, "created_at": _time(self._now())}
        body |= {"message": {"role": "assistant", **said}} if self._chats else said
        return {**body, "logprobs": logprobs} if logprobs else body

    def _call(self, call: ToolCall) -> dict[str, Any]:
        function = {"index": len(self._calls), "name": call.name, "arguments": dict(call.arguments)}
        return {"id": call.id, "function": function}

    def _logprob(self, entry: TokenLogprobs) -> dict[str, Any]:
        top = [self._token(token_id, logprob) for token_id, logprob in entry.top]
        return {**self._token(entry.token_id, entry.logprob), "top_logprobs": top}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        spelled = self._spell(token_id)
        return {"token": spelled.decode(errors="replace"), "bytes": list(spelled), "logprob": logprob}


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
    """The answer to a request without a prompt, which loads or unloads a model."""
    said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chats else {"response": ""}
    return {"model": model, "created_at": _time(now), **said, "done": True, "done_reason": reason}


def error(found: Problem, request_id: str = "") -> dict[str, Any]:
    """The body of an error, and the line that ends a stream with one."""
    return {"error": found.message}


def listed(name: str, info: ModelInfo | None, created_s: int) -> dict[str, Any]:
    """A model in a list. The digest tells models apart; it is of what is known of the model, not of its weights."""
    entry = {
        "name": name,
        "model": name,
        "modified_at": _time(created_s),
        "digest": hashlib.sha256(repr(info or name).encode()).hexdigest(),
    }
    return entry if info is None else {**entry, "size": info.file_bytes, "details": _details(info)}


def described(info: ModelInfo, created_s: int) -> dict[str, Any]:
    """A model by itself."""
    family = info.architecture
    facts = {
        "general.architecture": family,
        "general.parameter_count": info.parameters["total"],
        f"{family}.context_length": info.context_len,
        f"{family}.embedding_length": info.width,
        f"{family}.block_count": info.num_delta_layers + info.num_attention_layers,
        f"{family}.vocab_size": info.vocab_size,
    }
    abilities = ["completion", "tools", "thinking", "embedding"] + (["vision"] if info.has_vision else [])
    shown = {"details": _details(info), "model_info": facts, "capabilities": abilities}
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
