"""Message dicts: conversations in JSON form to messages. Unknown keys are rejected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from loqal.errors import RequestError
from loqal.types.messages import MediaPart, Message, Part, Role, TextPart, ToolCall

_ROLES: tuple[str, ...] = get_args(Role)


def to_messages(messages: Iterable[Message | Mapping[str, Any]]) -> list[Message]:
    """Messages from Message objects and from dicts with the keys of Message, mixed as the caller likes.

    ``content`` of a dict is a text or a list of parts: texts, ``{"type": "text", "text": ...}`` or
    ``{"type": "image" | "video", "source": ...}``, the latter with the bounds of MediaPart where wanted. A tool call is
    ``{"name", "arguments", "id"}``, where arguments may be an object or the JSON text of one.

    Raises:
        RequestError: naming the path of what is not understood.
    """
    if isinstance(messages, (str, bytes, Mapping)):
        raise _refusal("messages", "must be a list of messages", 'Write [{"role": "user", "content": "..."}].')
    return [
        message if isinstance(message, Message) else _message(message, f"messages[{index}]")
        for index, message in enumerate(messages)
    ]


def _message(value: Any, path: str) -> Message:
    fields = _fields(value, path, {"role"}, {"content", "reasoning", "tool_calls", "token_ids"})
    if fields["role"] not in _ROLES:
        raise _refusal(f"{path}.role", f"is {fields['role']!r}", f"Roles are {', '.join(_ROLES)}.")
    reasoning = fields.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, str):
        raise _refusal(f"{path}.reasoning", "must be a string", "Leave it out if there is none.")
    calls = fields.get("tool_calls") or ()
    if isinstance(calls, (str, Mapping)) or not isinstance(calls, Sequence):
        raise _refusal(f"{path}.tool_calls", "must be a list", "Leave it out if there are none.")
    ids = fields.get("token_ids")
    if ids is not None and (not isinstance(ids, Sequence) or not all(type(one) is int for one in ids)):
        raise _refusal(f"{path}.token_ids", "must be a list of token ids", "Leave it out if they are not known.")
    return Message(
        role=fields["role"],
        content=_content(fields.get("content"), f"{path}.content"),
        reasoning=reasoning,
        tool_calls=tuple(_tool_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(calls)),
        token_ids=None if ids is None else tuple(ids),
    )


def _content(value: Any, path: str) -> str | tuple[Part, ...]:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) or not isinstance(value, Sequence):
        raise _refusal(path, "must be a string or a list of parts", "Write the text itself.")
    return tuple(_part(part, f"{path}[{index}]") for index, part in enumerate(value))


def _part(value: Any, path: str) -> Part:
    if isinstance(value, (TextPart, MediaPart)):
        return value
    if isinstance(value, str):
        return TextPart(value)
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        text = _fields(value, path, {"type", "text"}, set())["text"]
        if not isinstance(text, str):
            raise _refusal(f"{path}.text", "must be a string", "Write the text as a string.")
        return TextPart(text)
    if kind == "image" or kind == "video":
        bounds = {"min_tokens", "max_tokens"} if kind == "image" else {"max_tokens", "fps", "max_frames"}
        fields = dict(_fields(value, path, {"type", "source"}, bounds))
        return MediaPart(kind, **{key: item for key, item in fields.items() if key != "type"})
    raise _refusal(path, f"has the type {kind!r}", "Parts have the type text, image or video.")


def _tool_call(value: Any, path: str) -> ToolCall:
    if isinstance(value, ToolCall):
        return value
    fields = _fields(value, path, {"name", "arguments"}, {"id"})
    arguments = fields["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise _refusal(
                f"{path}.arguments", "is a string that is not JSON", "Give an object, or its JSON text."
            ) from None
    if not isinstance(arguments, Mapping):
        raise _refusal(f"{path}.arguments", "must be an object", "Give an object, or its JSON text.")
    if not isinstance(fields["name"], str):
        raise _refusal(f"{path}.name", "must be a string", "Give the name of the function.")
    return ToolCall(fields["name"], arguments, fields.get("id"))


def _fields(value: Any, path: str, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    """A mapping with all required and no unknown keys."""
    if not isinstance(value, Mapping):
        raise _refusal(path, f"is a {type(value).__name__}", "Give an object.")
    for key in value:
        if key not in required | optional:
            raise _refusal(
                f"{path}.{key}", "is not known", f"The known keys are {', '.join(sorted(required | optional))}."
            )
    for key in sorted(required):
        if key not in value:
            raise _refusal(f"{path}.{key}", "is missing", f"The required keys are {', '.join(sorted(required))}.")
    return value


def _refusal(path: str, what: str, fix: str) -> RequestError:
    return RequestError(f"{path} {what}.", "Messages are checked strictly; no field is ignored.", fix)
