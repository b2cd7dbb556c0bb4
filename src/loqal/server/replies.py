"""The tokens of replies, so that a reply a client sends back is read as what was written.

A client sends text, reasoning and calls, and often not all of it, or not in the same order. What it sends of a reply
finds the tokens here; whether they fit is decided where the prompt is made. Forgotten replies are rendered anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

from ..types import Message, Reply, TextPart, ToolCall
from .request import ChatRequest
from .store import Store

_ENTRY_BYTES = 300
_TOKEN_BYTES = 36


class Replies:
    """What was written, by client and model."""

    def __init__(self) -> None:
        self._tokens: Store[tuple[int, ...]] = Store(max_entries=1 << 16, max_bytes=64 << 20)

    def keep(self, owner: str, model: str, reply: Reply) -> None:
        """Remember a reply."""
        if reply.token_ids:
            size_bytes = _ENTRY_BYTES + _TOKEN_BYTES * len(reply.token_ids)
            self._tokens.put(owner, _key(model, reply.text, reply.tool_calls), reply.token_ids, size_bytes)

    def recall(self, owner: str, asked: ChatRequest) -> ChatRequest:
        """The same request with the tokens of the replies in it."""
        if asked.turn.replay != "exact":
            return asked
        messages = tuple(self._with_tokens(owner, asked.model, message) for message in asked.messages)
        return dataclasses.replace(asked, messages=messages)

    def _with_tokens(self, owner: str, model: str, message: Message) -> Message:
        if message.role != "assistant" or message.token_ids is not None:
            return message
        parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
        text = "".join(part.text for part in parts if isinstance(part, TextPart))
        token_ids = self._tokens.get(owner, _key(model, text, message.tool_calls))
        return message if token_ids is None else dataclasses.replace(message, token_ids=token_ids)


def _key(model: str, text: str, calls: Sequence[ToolCall]) -> str:
    said = [model, text.strip(), [[call.name, dict(call.arguments)] for call in calls]]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
