"""Earlier replies as the very tokens that were written, where a caller sends them along.

Nothing is remembered here: the tokens come with the request (``Message.token_ids``), so an answer stays a function of
the request. They are believed only where reading them gives what the message says (the order of keys, white space at
the ends and reasoning that was left out do not matter), and only tags of reasoning and calls may be among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loqal.chat.output.parser import OutputParser
from loqal.chat.template.segments import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN, Replayed, Segment
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.types.messages import Message, TextPart, ToolCall

_TAGS = (THINK_OPEN, THINK_CLOSE, CALL_OPEN, CALL_CLOSE)


def replay(message: Message, tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]]) -> Replayed | None:
    """The tokens that a message of the assistant was; None where they do not say what the message says."""
    if message.token_ids is None or message.role != "assistant":
        return None
    ids = list(message.token_ids)
    while ids and ids[-1] in tokenizer.eos_ids:
        ids.pop()
    tags = {tokenizer.special_ids[tag] for tag in _TAGS if tag in tokenizer.special_ids}
    control = set(tokenizer.special_ids.values()) - tags
    if not ids or any(token_id not in range(tokenizer.vocab_len) or token_id in control for token_id in ids):
        return None
    close = tokenizer.special_ids.get(THINK_CLOSE, -1)
    for thought in (True, False) if close in ids else (False,):
        if _agrees(message, ids, tokenizer, tools, thought):
            answer = ids[ids.index(close) + 1 :] if thought else ids
            return Replayed(_segment(ids, tokenizer), _begun(answer, tokenizer), thought)
    return None


def _agrees(
    message: Message, ids: Sequence[int], tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]], thought: bool
) -> bool:
    parser = OutputParser(tokenizer, thought, tools or None)
    deltas = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish()
    reasoning = "".join(delta.reasoning for delta in deltas).strip()
    text = "".join(delta.text for delta in deltas).strip()
    calls = [delta.tool_call for delta in deltas if delta.tool_call is not None]
    parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
    said = "".join(part.text for part in parts if isinstance(part, TextPart)).strip()
    return (
        all(isinstance(part, TextPart) for part in parts)
        and said == text
        and (message.reasoning or "").strip() in ("", reasoning)
        and list(map(_plain, message.tool_calls)) == list(map(_plain, calls))
    )


def _plain(call: ToolCall) -> tuple[str, Any]:
    return call.name, _value(call.arguments)


def _value(value: Any) -> Any:
    """A JSON value such that equal ones are equal in Python: numbers by their size, booleans no numbers."""
    if isinstance(value, Mapping):
        return {key: _value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value]
    return ("boolean", value) if isinstance(value, bool) else value


def _begun(ids: Sequence[int], tokenizer: Tokenizer) -> Segment | None:
    """The ids from the first that is not white space; None where that begins inside a token."""
    for start, token_id in enumerate(ids):
        text = tokenizer.token_bytes(token_id)
        if text.strip():
            return _segment(ids[start:], tokenizer) if text == text.lstrip() else None
    return None


def _segment(ids: Sequence[int], tokenizer: Tokenizer) -> Segment:
    return Segment(tokenizer.decode(ids, skip_special=False), ids=tuple(ids))
