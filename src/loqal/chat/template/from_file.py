"""Chat templates that come with a model file and are not the family's own.

Such a template sees the caller's text with some characters replaced by stand-ins from the private planes of Unicode,
and they are put back afterwards. What comes out of stand-ins is content; so no text of a caller can become, or
complete, a control token, and the template's own words still can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2

from loqal.chat.template.native import with_reasoning_apart
from loqal.chat.template.sandbox import Program
from loqal.chat.template.segments import Replayed, Segment
from loqal.chat.template.shield import Shield
from loqal.errors import RequestError, UnsupportedError
from loqal.types.messages import MediaPart, Message, TextPart

_MEDIA_SLOT = re.compile(r"(?:<\|vision_start\|>)?<\|(image|video)_pad\|>(?:<\|vision_end\|>)?")
_TOKENS = {"bos_token": "", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


class SandboxedTemplate:
    """A chat template from a model file.

    Args:
        source: its text.
        control_tokens: the texts of the checkpoint's control tokens.
        splits_reasoning: hand reasoning written inside an assistant's text to the template as a field of its own.
        now: the clock, for templates that write the date.

    Raises:
        UnsupportedError: the template is not valid, or uses something the sandbox does not offer.
    """

    def __init__(
        self,
        source: str,
        control_tokens: Iterable[str],
        *,
        splits_reasoning: bool = False,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._source = source
        self._shield = Shield(control_tokens)
        self._splits_reasoning = splits_reasoning
        try:
            self._program = Program(source, now)
        except (jinja2.TemplateError, RecursionError) as error:
            raise UnsupportedError(
                "The chat template of this model cannot be used.", str(error), "Choose another template."
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool,
        add_generation_prompt: bool = True,
        preserve_thinking: bool | None = None,
        add_vision_id: bool = False,
        replays: Mapping[int, Replayed] | None = None,
    ) -> list[Segment]:
        """The prompt of a conversation; arguments as in ``template.render``. Raises ``RequestError``.

        Earlier replies are always rendered anew, since only a template knows where its own words end.
        """
        variables: dict[str, Any] = {"enable_thinking": think, "add_generation_prompt": add_generation_prompt}
        if preserve_thinking is not None:
            variables["preserve_thinking"] = preserve_thinking
        if add_vision_id:
            variables["add_vision_id"] = True
        if self._splits_reasoning:
            messages = [with_reasoning_apart(message) for message in messages]
        data = [_as_dict(message) for message in messages]
        definitions = list(tools) if tools else None
        base = self._shield.base(json.dumps([data, definitions], ensure_ascii=False, default=str) + self._source)
        variables["messages"] = [self._shield.message(message, base) for message in data]
        variables["tools"] = self._shield.data(definitions, base, whole_names_only=True)
        text = self._run(variables)
        contents = [message.content for message in messages if not isinstance(message.content, str)]
        media = [part for content in contents for part in content if isinstance(part, MediaPart)]
        return _fill_slots(self._shield.segments(text, base), media)

    def text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, **variables: Any) -> str:
        """The plain rendering, without protection of control tokens. Raises ``RequestError``."""
        data = [_as_dict(message) for message in messages]
        return self._run({"messages": data, "tools": list(tools) if tools else None, **variables})

    def _run(self, variables: Mapping[str, Any]) -> str:
        try:
            return self._program.run({**_TOKENS, **variables})
        except Exception as error:  # a template can provoke any error of Python's own types
            raise RequestError(
                "The chat template of the model refused the conversation.",
                str(error) or type(error).__name__,
                "Change the messages accordingly, or choose another template.",
            ) from error


def _as_dict(message: Message) -> dict[str, Any]:
    """A message in the form templates are written for."""
    content: Any = message.content
    if not isinstance(content, str):
        content = [
            {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": part.kind}
            for part in content
        ]
        if all("text" in part for part in content):  # many templates know strings only
            content = "".join(part["text"] for part in content)
    data: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning is not None:
        data["reasoning_content"] = message.reasoning
    if message.tool_calls:
        data["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ]
    return data


def _fill_slots(segments: Sequence[Segment], media: Sequence[MediaPart]) -> list[Segment]:
    """The segments with each media slot of the template as a segment of its own that carries its part."""
    waiting = list(media)
    filled: list[Segment] = []
    for segment in segments:
        position = 0
        for match in _MEDIA_SLOT.finditer(segment.text) if segment.is_template else ():
            if not waiting or waiting[0].kind != match[1]:
                raise _wrong_slots(len(media))
            if match.start() > position:
                filled.append(Segment(segment.text[position : match.start()], is_template=True))
            filled.append(Segment(match[0], is_template=True, media=waiting.pop(0)))
            position = match.end()
        if position < len(segment.text):
            filled.append(Segment(segment.text[position:], segment.is_template))
    if waiting:
        raise _wrong_slots(len(media))
    return filled


def _wrong_slots(expected: int) -> RequestError:
    return RequestError(
        "The chat template of the model does not place the images and videos of the conversation.",
        f"There are {expected}, and it writes other slots, or in another order.",
        "Choose another template, or send text only.",
    )
