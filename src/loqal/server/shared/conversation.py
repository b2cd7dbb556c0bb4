"""What the dialects share when they read and keep conversations."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace

from loqal.server.shared.errors import FieldError
from loqal.server.shared.generation_request import Warnings
from loqal.types.messages import Message, Part, TextPart
from loqal.types.reply import Reply

TEXT_BEHIND_CALL = "Text behind a call is read before it, as the model writes it."


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool answered: where the request names the call, the call's id, and the answer as a message."""

    path: str
    call_id: str
    message: Message


def in_call_order(before: Sequence[Message], results: Sequence[Result]) -> list[Message]:
    """Results in the order of the calls that the last turn of the assistant made: the model knows no ids.

    Raises:
        FieldError: a result belongs to none of these calls, or is the second of one.
    """
    last = next((message for message in reversed(before) if message.role == "assistant"), None)
    order = {call.id: index for index, call in enumerate(last.tool_calls if last else ())}
    placed: dict[int, Message] = {}
    for result in results:
        if result.call_id not in order:
            raise FieldError(
                result.path,
                f"The assistant's turn before it made no call {result.call_id!r}.",
                "Send the assistant's turn with its calls before their results.",
            )
        if order[result.call_id] in placed:
            raise FieldError(
                result.path, f"The call {result.call_id!r} has a result already.", "Send one for each call."
            )
        placed[order[result.call_id]] = result.message
    return [placed[index] for index in sorted(placed)]


def settled(messages: Sequence[Message], path: str, warnings: Warnings) -> tuple[Message, ...]:
    """A conversation the model's template has a place for: one system message, at the beginning.

    Those before the first other message become one. A later one becomes a message of the user at its place, so that
    what was read before it need not be read again; a note under ``path`` says so.
    """
    count = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
    leading, rest = messages[:count], messages[count:]
    if any(message.role == "system" for message in rest):
        warnings.warn(
            path, "A system message behind others is read as the user's, as the model has one, at the beginning."
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


def decoded(data: str, path: str) -> bytes:
    """The bytes of a base64 text. Raises FieldError."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise FieldError(path, "It is not base64.", "Send the file's bytes in base64, without line breaks.") from None


def said(reply: Reply) -> Message:
    """A reply as a turn of the conversation, with the exact tokens that were written."""
    return Message("assistant", reply.text, reply.reasoning, reply.tool_calls, reply.token_ids)


def size_of(messages: Sequence[Message]) -> int:
    """About how many bytes messages take in memory, for bounding what is kept."""
    total = 0
    for message in messages:
        parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
        sources = [part.text if isinstance(part, TextPart) else part.source for part in parts]
        total += sum(len(source) for source in sources if isinstance(source, (str, bytes)))
        total += len(message.reasoning or "") + len(str(message.tool_calls)) + 36 * len(message.token_ids or ()) + 500
    return total
