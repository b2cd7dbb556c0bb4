"""The exact tokens of generated replies, so that a reply a client sends back is read as the same tokens.

A client sends back text, reasoning and tool calls, often incomplete or in another order. The message it sends, together
with the conversation before it, is the key to the tokens; whether they fit is decided where the prompt is made. A reply
that is no longer stored is rendered by the chat template.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence

from loqal.server.service.conversation_store import Store
from loqal.server.shared.conversation import reply_message
from loqal.server.shared.generation_request import ChatRequest
from loqal.types.messages import Message, TextPart
from loqal.types.reply import Reply

_ENTRY_BYTES = 300
_TOKEN_BYTES = 36


class ReplyMemory:
    """Tokens of replies by client and by the conversation that ends with the reply."""

    def __init__(self) -> None:
        self._tokens: Store[tuple[int, ...]] = Store(max_entries=1 << 16, max_bytes=64 << 20)

    def keep(self, owner: str, request: ChatRequest, reply: Reply) -> None:
        """Store the tokens of a reply to a request."""
        if reply.token_ids:
            *_, key = _keys(request.model, (*request.messages, reply_message(reply)))
            self._tokens.put(owner, key, reply.token_ids, _ENTRY_BYTES + _TOKEN_BYTES * len(reply.token_ids))

    def recall(self, owner: str, request: ChatRequest) -> ChatRequest:
        """The request with the stored tokens of the replies in it."""
        if request.options.replay != "exact":
            return request
        messages = list(request.messages)
        for index, key in enumerate(_keys(request.model, request.messages)):
            if messages[index].role == "assistant" and messages[index].token_ids is None:
                messages[index] = dataclasses.replace(messages[index], token_ids=self._tokens.get(owner, key))
        return dataclasses.replace(request, messages=tuple(messages))


def _keys(model: str, messages: Sequence[Message]) -> Iterator[str]:
    """For each message, a digest of the conversation up to it.

    System messages are left out, since clients put the time into them, and reasoning, which many clients omit.
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
