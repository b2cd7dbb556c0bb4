"""The family's chat template, written natively.

The text of the segments equals what the template shipped with the models renders, including the cases it refuses.
Only the words of the template itself are template segments; names, arguments, tool definitions, reasoning and message
text are content and can never become control tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from loqal.chat.template.segments import IMAGE_SLOT, THINK_CLOSE, THINK_OPEN, VIDEO_SLOT, Replayed, Segment, joined
from loqal.errors import RequestError
from loqal.types.messages import MediaPart, Message, Role, TextPart, ToolCall

_THINKING, _NOT_THINKING = "<think>\n", "<think>\n\n</think>\n\n"
_TOOLS_BEFORE = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
_TOOLS_AFTER = (
    "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within "
    "<tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT "
    "after\n- If there is no function call available, answer the question like normal with your current knowledge and "
    "do not tell the user about function calls\n</IMPORTANT>"
)


def render(
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    think: bool,
    add_generation_prompt: bool = True,
    preserve_thinking: bool | None = None,
    add_vision_id: bool = False,
    replays: Mapping[int, Replayed] | None = None,
) -> list[Segment]:
    """The prompt of a conversation.

    Args:
        messages: the turns, oldest first. An assistant message whose ``reasoning`` is ``None`` and whose text holds
            ``</think>`` is split there, as the reference does; give ``""`` to keep the text whole.
        tools: definitions as the caller sent them; they are written as JSON, keys in their order.
        think: whether the reply begins inside a think block or behind an empty one.
        add_generation_prompt: end with the header of the reply.
        preserve_thinking: keep the reasoning of all turns; otherwise only of those after the last user message.
        add_vision_id: number pictures and videos in the text.
        replays: tokens of messages of the assistant, by index, to be written instead of their texts.

    Raises:
        RequestError: the template refuses the conversation.
    """
    if not messages:
        raise _refused("There are no messages.", "Send at least one user message.")
    for index, message in enumerate(messages):
        if message.role not in get_args(Role):
            raise _refused(f"Message {index} has the role {message.role!r}.", f"Roles: {', '.join(get_args(Role))}.")
    counts = {"image": 0, "video": 0}
    contents = [_content(message, counts if add_vision_id else None) for message in messages]
    last_query = _last_query(messages, contents)
    prompt = _Prompt()
    _write_system(prompt, messages[0], contents[0], tools)
    for index, (message, content) in enumerate(zip(messages, contents, strict=True)):
        if message.role == "system":
            if index > 0:
                raise _refused("Message 0 alone can be a system message.", f"Move message {index} to the beginning.")
        elif message.role == "user":
            prompt.template("<|im_start|>user\n").extend(content).template("<|im_end|>\n")
        elif message.role == "assistant":
            keep, tokens = bool(preserve_thinking) or index > last_query, (replays or {}).get(index)
            if tokens is None or not _replay(prompt, tokens, keep=keep):
                _write_assistant(prompt, message, content, keep=keep)
        else:
            before = messages[index - 1].role if index else "tool"
            after = messages[index + 1].role if index + 1 < len(messages) else None
            prompt.template("<|im_start|>user" if before != "tool" else "")
            prompt.template("\n<tool_response>\n").extend(content).template("\n</tool_response>")
            prompt.template("<|im_end|>\n" if after != "tool" else "")
    if add_generation_prompt:
        prompt.template("<|im_start|>assistant\n" + (_THINKING if think else _NOT_THINKING))
    return prompt.segments


class _Prompt:
    """Segments in the making; neighbours of the same kind grow together."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def template(self, text: str) -> _Prompt:
        return self.extend([Segment(text, is_template=True)])

    def content(self, text: str) -> _Prompt:
        return self.extend([Segment(text)])

    def extend(self, segments: Sequence[Segment]) -> _Prompt:
        for segment in segments:
            last = self.segments[-1] if self.segments else None
            if last and last.is_template == segment.is_template and last.is_text and segment.is_text:
                self.segments[-1] = replace(last, text=last.text + segment.text)
            elif segment.text:
                self.segments.append(segment)
        return self


def _content(message: Message, counts: dict[str, int] | None) -> list[Segment]:
    """The trimmed content of a message. ``counts`` numbers its media, ``None`` does not."""
    parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
    segments: list[Segment] = []
    for part in parts:
        if isinstance(part, TextPart):
            segments.append(Segment(part.text))
        else:
            if message.role == "system":
                raise _refused(f"The system message holds {_a(part)}.", "Put it into a user message.")
            if counts is not None:
                counts[part.kind] += 1
                title = "Picture" if part.kind == "image" else "Video"
                segments.append(Segment(f"{title} {counts[part.kind]}: ", is_template=True))
            slot = IMAGE_SLOT if part.kind == "image" else VIDEO_SLOT
            segments.append(Segment(slot, is_template=True, media=part))
    return _trimmed(segments)


def _trimmed(segments: list[Segment]) -> list[Segment]:
    """Segments without the white space at both ends, which may span several of them."""
    text = joined(segments)
    return _slice(segments, len(text) - len(text.lstrip()), len(text.rstrip()))


def _last_query(messages: Sequence[Message], contents: Sequence[list[Segment]]) -> int:
    """Index of the last user message that is not a tool result in disguise."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            text = joined(contents[index])
            if not (text.startswith("<tool_response>") and text.endswith("</tool_response>")):
                return index
    raise _refused("There is no user message to answer.", "Send at least one user message that is not a tool result.")


def _write_system(
    prompt: _Prompt, first: Message, content: list[Segment], tools: Sequence[Mapping[str, Any]] | None
) -> None:
    is_system = first.role == "system"
    if tools:
        prompt.template("<|im_start|>system\n" + _TOOLS_BEFORE)
        for tool in tools:
            prompt.template("\n").content(json.dumps(dict(tool), ensure_ascii=False))
        prompt.template(_TOOLS_AFTER)
        if is_system and content:
            prompt.template("\n\n").extend(content)
        prompt.template("<|im_end|>\n")
    elif is_system:
        prompt.template("<|im_start|>system\n").extend(content).template("<|im_end|>\n")


def _write_assistant(prompt: _Prompt, message: Message, content: list[Segment], *, keep: bool) -> None:
    if message.reasoning is None:
        reasoning, content = split_reasoning(content)
    else:
        reasoning = _trimmed([Segment(message.reasoning)])
    prompt.template("<|im_start|>assistant\n")
    if keep:
        prompt.template("<think>\n").extend(reasoning).template("\n</think>\n\n")
    prompt.extend(content)
    for number, call in enumerate(message.tool_calls):
        if number:
            prompt.template("\n")
        elif joined(content).strip():
            prompt.template("\n\n")
        _write_call(prompt, call)
    prompt.template("<|im_end|>\n")


def _replay(prompt: _Prompt, tokens: Replayed, *, keep: bool) -> bool:
    """Write a message of the assistant in its own tokens; False where the template does not permit it."""
    written = tokens.whole if keep else tokens.answer
    if written is None:
        return False
    opening = "" if not keep else _THINKING if tokens.thought else _NOT_THINKING
    prompt.template("<|im_start|>assistant\n" + opening).extend([written])
    prompt.template("<|im_end|>\n")
    return True


def split_reasoning(content: list[Segment]) -> tuple[list[Segment], list[Segment]]:
    """The reasoning written inside an assistant's text, trimmed, and the text without it.

    This is the reference's rule for histories that do not keep the two apart: the reasoning ends at the first closing
    tag, the text begins behind the last one.
    """
    text = joined(content)
    if THINK_CLOSE not in text:
        return [], content
    reasoning = text.split(THINK_CLOSE)[0].rstrip("\n")
    begin = len(reasoning) - len(reasoning.split(THINK_OPEN)[-1].lstrip("\n"))
    answer = text.split(THINK_CLOSE)[-1].lstrip("\n")
    return _trimmed(_slice(content, begin, len(reasoning))), _slice(content, len(text) - len(answer), len(text))


def with_reasoning_apart(message: Message) -> Message:
    """An assistant message of text only with the reasoning moved out of its text, see ``split_reasoning``."""
    if message.role != "assistant" or message.reasoning is not None:
        return message
    parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if len(texts) < len(parts) or THINK_CLOSE not in "".join(texts):
        return message
    reasoning, answer = split_reasoning([Segment("".join(texts))])
    return replace(message, reasoning=joined(reasoning), content=joined(answer))


def _slice(segments: Sequence[Segment], begin: int, end: int) -> list[Segment]:
    """The part of the segments between two character positions, neither of which lies inside a media slot."""
    cut: list[Segment] = []
    for segment in segments:
        text = segment.text[max(begin, 0) : max(end, 0)]
        if text:
            cut.append(replace(segment, text=text))
        begin, end = begin - len(segment.text), end - len(segment.text)
    return cut


def _write_call(prompt: _Prompt, call: ToolCall) -> None:
    prompt.template("<tool_call>\n<function=").content(call.name).template(">\n")
    for name, value in call.arguments.items():
        prompt.template("<parameter=").content(name).template(">\n")
        prompt.content(argument_text(value)).template("\n</parameter>\n")
    prompt.template("</function>\n</tool_call>")


def argument_text(value: Any) -> str:
    """How the template writes the value of an argument: objects and arrays as JSON, the rest as Python's ``str``."""
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _a(part: MediaPart) -> str:
    return "an image" if part.kind == "image" else "a video"


def _refused(what: str, fix: str) -> RequestError:
    return RequestError(what, "The chat template of the model does not allow it.", fix)
