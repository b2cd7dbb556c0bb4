"""The tokens of replies, so that a reply a client sends back is read as what was written.

A client sends text, reasoning and calls, and often not all of it, or not in the same order. What it sends of a reply,
behind what it sends of the conversation before, finds the tokens here; whether they fit is decided where the prompt is
made. Forgotten replies are rendered anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence

from loqal.server.service.conversation_store import Store
from loqal.server.shared.conversation import said
from loqal.server.shared.generation_request import ChatRequest
from loqal.types.messages import Message, TextPart
from loqal.types.reply import Reply

_ENTRY_BYTES = 300
_TOKEN_BYTES = 36


class ReplyMemory:
    """What was written, by client and by the conversation it ends."""

    def __init__(self) -> None:
        self._tokens: Store[tuple[int, ...]] = Store(max_entries=1 << 16, max_bytes=64 << 20)

    def keep(self, owner: str, asked: ChatRequest, reply: Reply) -> None:
        """Remember the reply to a request."""
        if reply.token_ids:
            *_, key = _keys(asked.model, (*asked.messages, said(reply)))
            self._tokens.put(owner, key, reply.token_ids, _ENTRY_BYTES + _TOKEN_BYTES * len(reply.token_ids))

    def recall(self, owner: str, asked: ChatRequest) -> ChatRequest:
        """The same request with the tokens of the replies in it."""
        if asked.turn.replay != "exact":
            return asked
        messages = list(asked.messages)
        for index, key in enumerate(_keys(asked.model, asked.messages)):
            if messages[index].role == "assistant" and messages[index].token_ids is None:
                messages[index] = dataclasses.replace(messages[index], token_ids=self._tokens.get(owner, key))
        return dataclasses.replace(asked, messages=tuple(messages))


def _keys(model: str, messages: Sequence[Message]) -> Iterator[str]:
    """For each message, a digest of the conversation to its end.

    Instructions do not count, since clients stamp times into them; nor does reasoning, which many leave out.
    """
    digest = hashlib.sha256(model.encode())
    for message in messages:
        if message.role != "system":
            parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
            text = "".join(part.text for part in parts if isinstance(part, TextPart)).strip()
            calls = [[call.name, dict(call.arguments)] for call in message.tool_calls]
            digest.update(json.dumps([message.role, text, calls], sort_keys=True).encode())
            for part in parts:
                if not isinstance(part, TextPart):
                    digest.update(part.source if isinstance(part.source, bytes) else str(part.source).encode())
        yield digest.hexdigest()
