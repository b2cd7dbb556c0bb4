"""Reading and storing conversations, for every dialect."""

from __future__ import annotations

import base64
import binascii
import json
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
    """A tool result: the JSON path that names its call, the id of the call, the result as a message, and the tool."""

    path: str
    call_id: str | None
    message: Message
    name: str | None = None


def in_call_order(before: Sequence[Message], results: Sequence[ToolResult], warnings: Warnings) -> list[Message]:
    """Tool results in the order of the calls in the last assistant message, because the model sees no ids.

    A result belongs to the call with its id, else to the next call of its tool, else to the next call without a result.
    Results without a call come last. Agents trim histories and rewrite ids, so both are accepted with a warning.
    """
    last = next((message for message in reversed(before) if message.role == "assistant"), None)
    waiting = dict(enumerate(last.tool_calls if last else ()))
    placed: dict[int, Message] = {}
    unknown: list[ToolResult] = []
    for result in results:
        index = next((index for index, call in waiting.items() if call.id == result.call_id is not None), None)
        if index is None:
            unknown.append(result)
        else:
            placed[index] = result.message
            del waiting[index]
    rest: list[Message] = []
    for result in unknown:
        named = [index for index, call in waiting.items() if result.name is not None and call.name == result.name]
        index = next(iter(named or waiting), None)
        if result.call_id is not None or (index is None and result.name is not None):
            warnings.warn(result.path, "No tool call before it has this id; it is read in the order of the calls.")
        if index is None:
            rest.append(result.message)
        else:
            placed[index] = result.message
            del waiting[index]
    if results and waiting:
        warnings.warn(results[-1].path, "A tool call before it has no result.")
    return [*(placed[index] for index in sorted(placed)), *rest]


def arguments_of(text: str | dict[str, Any] | None, path: str, warnings: Warnings) -> dict[str, Any]:
    """The arguments of an earlier tool call. A string without a JSON object becomes one argument, with a warning."""
    if isinstance(text, dict):
        return text
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = text
    if isinstance(found, dict):
        return found
    if found is None:
        return {}
    warnings.warn(path, "It is not a JSON object in a string; it is read as one argument.")
    return {"arguments": found}


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
