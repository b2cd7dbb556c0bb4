"""Replies in the JSON of the Responses API, whole and as stream events. No side effects."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any

from loqal.server.openai_responses import protocol as fields
from loqal.server.shared.errors import Problem
from loqal.server.shared.logprobs import TokenBytes, format_logprobs
from loqal.server.shared.streaming import Event, Formatter
from loqal.types.reply import FinishReason, Reply, ReplyDelta, Usage

_PREFIX = "loqal:"
"""Marks reasoning in base64 in place of the encrypted one: a local server has no reason to encrypt it."""


def encode_reasoning(reasoning: str) -> str:
    """Reasoning as ``encrypted_content``, for clients that send back nothing else."""
    return _PREFIX + base64.b64encode(reasoning.encode()).decode()


def decode_reasoning(text: str) -> str | None:
    """The reasoning that ``encode_reasoning`` encoded; None for any other string."""
    try:
        return (
            base64.b64decode(text.removeprefix(_PREFIX), validate=True).decode() if text.startswith(_PREFIX) else None
        )
    except ValueError:
        return None


def wants_logprobs(body: fields.ResponseBody) -> bool:
    """Whether log probabilities are requested."""
    return bool(body.top_logprobs) or "message.output_text.logprobs" in (body.include or ())


class ResponseWriter(Formatter):
    """Writes a response: its events, and ``response``, the whole.

    Args:
        body: the request.
        model: the name of the model.
        now: returns the seconds since 1970.
        new_id: returns a new id with the given prefix.
        token_bytes: the bytes of a token.
        on_end: called with the reply when the response is complete.
        warnings: warnings of the request.
    """

    def __init__(
        self,
        body: fields.ResponseBody,
        model: str,
        *,
        now: Callable[[], float],
        new_id: Callable[[str], str],
        token_bytes: TokenBytes,
        on_end: Callable[[Reply], None] = lambda reply: None,
        warnings: Sequence[str] = (),
    ) -> None:
        self._now, self._new_id, self._token_bytes, self._on_end = now, new_id, token_bytes, on_end
        self._encodes_reasoning = "reasoning.encrypted_content" in (body.include or ())
        self._logprobs = wants_logprobs(body)
        self._num_events = 0
        self._item: dict[str, Any] | None = None  # the open item, without its text
        self._text: list[str] = []
        self._text_logprobs: list[dict[str, Any]] = []
        self.response: dict[str, Any] = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": now(),
            "status": "in_progress",
            "model": model,
            "output": [],
            **_echo(body),
        }
        if warnings:
            self.response["warnings"] = list(warnings)

    def start(self) -> list[Event]:
        """See Formatter."""
        return [self._about("response.created"), self._about("response.in_progress")]

    def push(self, index: int, delta: ReplyDelta) -> list[Event]:
        """See Formatter."""
        events: list[Event] = []
        if delta.reasoning:
            events += self._begin("reasoning")
            events.append(self._piece("response.reasoning_text.delta", delta.reasoning, content_index=0))
        if delta.text:
            events += self._begin("message")
            logprobs = format_logprobs(delta.logprobs, self._token_bytes) if self._logprobs else []
            self._text_logprobs += logprobs
            events.append(self._piece("response.output_text.delta", delta.text, content_index=0, logprobs=logprobs))
        if (piece := delta.call_piece) is not None:
            if piece.name is not None:
                events += self._begin("function_call", call_id=piece.id, name=piece.name)
            if piece.arguments:
                events.append(self._piece("response.function_call_arguments.delta", piece.arguments))
        return events

    def end(self, index: int, reply: Reply) -> list[Event]:
        """See Formatter."""
        status = _STATUSES.get(reply.finish_reason, "completed")
        events = []
        if name := _FUNCTION.search(reply.incomplete_call):
            events += self._begin("function_call", call_id=self._new_id("call"), name=name[1])
        if warnings := list(dict.fromkeys((*self.response.get("warnings", ()), *reply.warnings))):
            self.response["warnings"] = warnings
        events += self._end("completed" if status == "completed" else "incomplete")
        self.response |= {"status": status, "completed_at": self._now(), "usage": usage_of(reply.usage)}
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self._on_end(reply)
        return [*events, self._about("response.completed" if status == "completed" else "response.incomplete")]

    def failed(self, found: Problem) -> list[Event]:
        """See Formatter."""
        events = self._end("incomplete")
        code = _ERROR_CODES.get(found.kind, "invalid_prompt")
        self.response |= {"status": "failed", "error": {"code": code, "message": found.message}}
        return [*events, self._about("response.failed")]

    def _about(self, kind: str) -> Event:
        return self._event(kind, response={**self.response, "output": list(self.response["output"])})

    def _event(self, kind: str, **more: Any) -> Event:
        self._num_events += 1
        return Event({"type": kind, "sequence_number": self._num_events - 1, **more}, kind)

    def _of_item(self, kind: str, **more: Any) -> Event:
        assert self._item is not None
        return self._event(kind, item_id=self._item["id"], output_index=len(self.response["output"]), **more)

    def _piece(self, kind: str, text: str, **more: Any) -> Event:
        self._text.append(text)
        return self._of_item(kind, delta=text, **more)

    def _begin(self, kind: str, **call: str) -> list[Event]:
        """Open an item unless one of this type is open; each function call has its own item."""
        if self._item is not None and self._item["type"] == kind != "function_call":
            return []
        events = self._end("completed")
        prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[kind]
        self._item = {"id": self._new_id(prefix), "type": kind, **call}
        item = self._whole_item("in_progress", begun=True)
        events.append(self._event("response.output_item.added", output_index=len(self.response["output"]), item=item))
        if kind != "function_call":
            events.append(self._of_item("response.content_part.added", content_index=0, part=self._part()))
        return events

    def _end(self, status: str) -> list[Event]:
        """Close the open item."""
        if self._item is None:
            return []
        text, kind = "".join(self._text), self._item["type"]
        if kind == "function_call":
            ended = [self._of_item("response.function_call_arguments.done", name=self._item["name"], arguments=text)]
        else:
            part = self._part()
            if kind == "message":
                done = self._of_item(
                    "response.output_text.done", content_index=0, text=text, logprobs=self._text_logprobs
                )
            else:
                done = self._of_item("response.reasoning_text.done", content_index=0, text=text)
            ended = [done, self._of_item("response.content_part.done", content_index=0, part=part)]
        item = self._whole_item(status)
        ended.append(self._event("response.output_item.done", output_index=len(self.response["output"]), item=item))
        self.response["output"].append(item)
        self._item, self._text, self._text_logprobs = None, [], []
        return ended

    def _part(self) -> dict[str, Any]:
        """The content part of the open item so far."""
        assert self._item is not None
        text = "".join(self._text)
        if self._item["type"] == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(self._text_logprobs)}

    def _whole_item(self, status: str, *, begun: bool = False) -> dict[str, Any]:
        assert self._item is not None
        item = {**self._item, "status": status}
        if item["type"] == "function_call":
            return {**item, "arguments": "".join(self._text)}
        content = [] if begun else [self._part()]
        if item["type"] == "message":
            return {**item, "role": "assistant", "content": content}
        if self._encodes_reasoning and not begun:
            item["encrypted_content"] = encode_reasoning("".join(self._text))
        return {**item, "summary": [], "content": content}


_FUNCTION = re.compile(r"<function=([^<>\n]+)>")
_STATUSES = {FinishReason.LENGTH: "incomplete", FinishReason.CANCELLED: "cancelled"}
_ERROR_CODES = {"internal": "server_error", "overloaded": "server_error", "rate_limit": "rate_limit_exceeded"}


def _echo(body: fields.ResponseBody) -> dict[str, Any]:
    """The fields of the request that a response repeats."""
    dumped = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    tools = [{"parameters": None, "strict": True, **tool} for tool in dumped.get("tools") or ()]
    reasoning = dumped.get("reasoning") or {}
    return {
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "temperature": body.temperature,
        "tool_choice": dumped.get("tool_choice") or "auto",
        "tools": tools,
        "top_p": body.top_p,
        "background": bool(body.background),
        "max_output_tokens": body.max_output_tokens,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "store": body.store is not False,
        "text": {"format": {"type": "text"}, **(dumped.get("text") or {})},
        "top_logprobs": body.top_logprobs or 0,
        "truncation": "disabled",
        "usage": None,
    }


def usage_of(usage: Usage) -> dict[str, Any]:
    """Token counts."""
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    return counts if usage.cache_miss is None else {**counts, "cache_miss": usage.cache_miss}
