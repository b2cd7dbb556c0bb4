"""Replies in Anthropic's JSON, whole and as stream events. No side effects."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from loqal.server.shared.errors import Kind, Problem
from loqal.server.shared.streaming import Event, Formatter
from loqal.types.reply import FinishReason, Reply, ReplyDelta, Usage


def sign(reasoning: str) -> str:
    """The signature of a thinking block: a digest that shows whether the reasoning was changed."""
    return base64.b64encode(hashlib.sha256(b"loqal reasoning\0" + reasoning.encode()).digest()).decode()


class MessageWriter(Formatter):
    """Writes a message: its events, and ``message``, the whole.

    Args:
        identity: the id of the message.
        model: the name of the model in the request.
        max_tokens: the request's limit; a reply that was cut before it reached the end of the context.
        prompt_tokens: the number of tokens of the prompt.
        shows_thinking: whether thinking blocks have their text.
        warnings: warnings of the request.
        request_id: the id of the request, for errors.
    """

    def __init__(
        self,
        identity: str,
        model: str,
        max_tokens: int,
        *,
        prompt_tokens: int,
        shows_thinking: bool = True,
        warnings: Sequence[str] = (),
        request_id: str = "",
    ) -> None:
        self._max_tokens, self._shows_thinking, self._request_id = max_tokens, shows_thinking, request_id
        self._open: str | None = None  # type of the open block
        self._written: list[str] = []  # text of the open block
        self._reasoning: list[str] = []  # reasoning of the open block, shown or not
        self.message: dict[str, Any] = {
            "id": identity,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": prompt_tokens, "output_tokens": 0},
        }
        self._warnings = warnings
        if warnings:
            self.message["warnings"] = list(warnings)

    def start(self) -> list[Event]:
        """See Formatter."""
        return [_event("message_start", message={**self.message, "content": []})]

    def push(self, index: int, delta: ReplyDelta) -> list[Event]:
        """See Formatter."""
        events: list[Event] = []
        if delta.reasoning:
            events += self._begin({"type": "thinking", "thinking": "", "signature": ""})
            self._reasoning.append(delta.reasoning)
            if self._shows_thinking:
                events.append(self._piece("thinking_delta", "thinking", delta.reasoning))
        if delta.text:
            events += self._begin({"type": "text", "text": ""})
            events.append(self._piece("text_delta", "text", delta.text))
        if (piece := delta.call_piece) is not None:
            if piece.name is not None:
                events += self._begin({"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}})
            if piece.arguments:
                events.append(self._piece("input_json_delta", "partial_json", piece.arguments))
        return events

    def end(self, index: int, reply: Reply) -> list[Event]:
        """See Formatter."""
        events = self._end()
        reason = _stop_reason(reply, self._max_tokens)
        self.message |= {"stop_reason": reason, "stop_sequence": reply.stop_string, "usage": usage_of(reply.usage)}
        ending = {"stop_reason": reason, "stop_sequence": reply.stop_string}
        late = [warning for warning in reply.warnings if warning not in self._warnings]
        if late:
            self.message["warnings"] = [*self.message.get("warnings", ()), *late]
        more: dict[str, Any] = {"warnings": late} if late else {}
        events.append(_event("message_delta", delta=ending, usage=self.message["usage"], **more))
        return [*events, _event("message_stop")]

    def failed(self, found: Problem) -> list[Event]:
        """See Formatter."""
        return [Event(error(found, self._request_id), "error")]

    def idle(self, read: int, total: int) -> list[Event]:
        """See Formatter."""
        return [_event("ping")]

    def _begin(self, block: dict[str, Any]) -> list[Event]:
        """Open a block unless one of this type is open; each tool call has its own block."""
        if self._open == block["type"] != "tool_use":
            return []
        events = self._end()
        self._open = block["type"]
        self.message["content"].append(block)
        return [*events, _event("content_block_start", index=self._index, content_block=dict(block))]

    @property
    def _index(self) -> int:
        return len(self.message["content"]) - 1

    def _piece(self, kind: str, key: str, text: str) -> Event:
        self._written.append(text)
        return _event("content_block_delta", index=self._index, delta={"type": kind, key: text})

    def _end(self) -> list[Event]:
        """Close the open block."""
        if self._open is None:
            return []
        block, text = self.message["content"][-1], "".join(self._written)
        events: list[Event] = []
        if self._open == "thinking":
            block |= {"thinking": text, "signature": sign("".join(self._reasoning))}
            events.append(self._piece("signature_delta", "signature", block["signature"]))
        elif self._open == "text":
            block["text"] = text
        else:
            block["input"] = json.loads(text or "{}")
        self._open = None
        self._written.clear()
        self._reasoning.clear()
        return [*events, _event("content_block_stop", index=self._index)]


def _event(kind: str, **more: Any) -> Event:
    return Event({"type": kind, **more}, kind)


def _stop_reason(reply: Reply, max_tokens: int) -> str:
    if reply.finish_reason is FinishReason.TOOL_CALLS:
        return "tool_use"
    if reply.finish_reason is FinishReason.LENGTH:
        return "max_tokens" if reply.usage.completion_tokens >= max_tokens else "model_context_window_exceeded"
    return "end_turn" if reply.stop_string is None else "stop_sequence"


def usage_of(usage: Usage) -> dict[str, Any]:
    """Token counts. As in Anthropic's API, ``input_tokens`` are the prompt tokens that were not cached."""
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
    return counts if usage.cache_miss is None else {**counts, "cache_miss": usage.cache_miss}


_ERROR_TYPES: dict[Kind, str] = {
    "invalid_request": "invalid_request_error",
    "context_length": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "internal": "api_error",
}


def error(found: Problem, request_id: str) -> dict[str, Any]:
    """The JSON of an error, as a body and as the last event. ``param``, the field's path, is an extension."""
    fields = {"type": _ERROR_TYPES[found.kind], "message": found.message}
    if found.path is not None:
        fields["param"] = found.path
    return {"type": "error", "error": fields, "request_id": request_id}
