"""Reading and storing conversations, for every dialect."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from loqal.server.shared.body import Warnings
from loqal.server.shared.errors import FieldError
from loqal.types.messages import MediaPart, Message, Part, TextPart
from loqal.types.reply import Reply

TEXT_AFTER_CALL = "The model reads this text before the tool calls of the message, in the order it writes them."


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool result: the JSON path that names its call, the id of the call, and the result as a message."""

    path: str
    call_id: str
    message: Message


def in_call_order(before: Sequence[Message], results: Sequence[ToolResult]) -> list[Message]:
    """Tool results in the order of the calls in the last assistant message, because the model sees no ids.

    Raises:
        FieldError: a result belongs to none of these calls, or is the second result of a call.
    """
    last = next((message for message in reversed(before) if message.role == "assistant"), None)
    order = {call.id: index for index, call in enumerate(last.tool_calls if last else ())}
    found: dict[int, Message] = {}
    for result in results:
        if result.call_id not in order:
            raise FieldError(
                result.path,
                f"The preceding assistant message has no tool call {result.call_id!r}.",
                "Send the assistant message with its tool calls before their results.",
            )
        if order[result.call_id] in found:
            raise FieldError(
                result.path, f"The tool call {result.call_id!r} already has a result.", "Send one result per tool call."
            )
        found[order[result.call_id]] = result.message
    return [found[index] for index in sorted(found)]


def with_one_system_message(messages: Sequence[Message], path: str, warnings: Warnings) -> tuple[Message, ...]:
    """The conversation as the model's template takes it: one system message, at the beginning.

    System messages before the first other message are joined. A later one becomes a user message at its place, so that
    the cached prefix before it stays valid, with a warning under ``path``.
    """
    count = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
    leading, rest = messages[:count], messages[count:]
    if any(message.role == "system" for message in rest):
        warnings.warn(
            path,
            "A system message after other messages is read as a user message, "
            "because the model's template has one system message, at the beginning.",
        )
    found = [replace(message, role="user") if message.role == "system" else message for message in rest]
    return (*([_joined(leading)] if leading else []), *found)


def _joined(messages: Sequence[Message]) -> Message:
    if len(messages) == 1:
        return messages[0]
    parts: list[Part] = []
    for message in messages:
        parts += [TextPart("\n\n")] if parts else []
        parts += [TextPart(message.content)] if isinstance(message.content, str) else message.content
    return Message("system", parts)


def media_part(kind: Any, url: str, path: str, **bounds: Any) -> MediaPart:
    """An image or a video from a ``data:`` or ``http(s):`` URL; a request cannot open files. Raises FieldError."""
    if not url.lower().startswith(("data:", "http://", "https://")):
        raise FieldError(path, "It must be a data: URL or an http(s) URL.", "Send the file as a data: URL.")
    return MediaPart(kind, url, **bounds)


def decode_base64(data: str, path: str) -> bytes:
    """The bytes of a base64 string. Raises FieldError."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise FieldError(path, "It is not valid base64.", "Encode the bytes in base64, without line breaks.") from None


def reply_message(reply: Reply) -> Message:
    """A reply as an assistant message, with the exact tokens that were generated."""
    return Message("assistant", reply.text, reply.reasoning, reply.tool_calls, reply.token_ids)


def size_of(messages: Sequence[Message]) -> int:
    """The approximate memory of messages in bytes, to limit what is stored."""
    total = 0
    for message in messages:
        parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
        sources = [part.text if isinstance(part, TextPart) else part.source for part in parts]
        total += sum(len(source) for source in sources if isinstance(source, (str, bytes)))
        total += len(message.reasoning or "") + len(str(message.tool_calls)) + 36 * len(message.token_ids or ()) + 500
    return total
