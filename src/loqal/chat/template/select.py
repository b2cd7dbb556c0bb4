"""Which chat template to use: the native one where the model file's template is the same, otherwise the file's own.

Sameness is measured. The file's template renders a few conversations that together visit every branch of the family's
template; where all of them equal the native rendering, the native one is used. For the published texts the outcome is
recorded by digest, so that ordinary models start without the template language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from loqal.chat.defaults import thinks_by_default
from loqal.chat.template import native
from loqal.chat.template.segments import THINK_CLOSE, THINK_OPEN, Replayed, Segment, joined
from loqal.errors import RequestError
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """What is known about a template's text.

    ``thinks`` says whether replies begin with reasoning when the caller does not say. ``splits_reasoning`` says whether
    the template separates reasoning written inside an earlier reply.
    """

    native: bool
    thinks: bool
    splits_reasoning: bool = True


class ChatTemplate(Protocol):
    """Renders conversations; see ``template.render`` for the arguments."""

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
        """The prompt as segments. Raises ``RequestError`` where the template refuses the conversation."""
        ...


@dataclass(frozen=True, slots=True)
class TemplateChoice:
    """The template to use and what is known about it."""

    template: ChatTemplate
    traits: TemplateTraits


# SHA-256 of the stripped text. The two differ in what happens when the caller does not choose: 4B and up, 0.8B and 2B.
_KNOWN = {
    "a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715": TemplateTraits(native=True, thinks=True),
    "273d8e0e683b885071fb17e08d71e5f2a5ddfb5309756181681de4f5a1822d80": TemplateTraits(native=True, thinks=False),
    # The template of the model in this package, training/chat_template.jinja.
    "d25e0828baa6fc2404100417f56893b2b7f6297f09a9da3a31620b9aa114f8d2": TemplateTraits(native=True, thinks=False),
}


def choose_template(source: str | None, *, size: str | None, control_tokens: Iterable[str]) -> TemplateChoice:
    """The template for a checkpoint.

    Args:
        source: the text of the template in the checkpoint, ``None`` if it has none.
        size: the model's published size, which decides about thinking where there is no template.
        control_tokens: texts of the checkpoint's control tokens.

    Raises:
        UnsupportedError: the file's template cannot be used.
    """
    if source is None:
        return TemplateChoice(native, TemplateTraits(native=True, thinks=thinks_by_default(size)))
    traits = _KNOWN.get(digest(source))
    if traits and traits.native:
        return TemplateChoice(native, traits)
    # Imported where it is used: most starts never need the template language, and loading it takes a while.
    from loqal.chat.template.from_file import SandboxedTemplate

    traits = measure(SandboxedTemplate(source, control_tokens))
    if traits.native:
        return TemplateChoice(native, traits)
    own = SandboxedTemplate(source, control_tokens, splits_reasoning=traits.splits_reasoning)
    return TemplateChoice(own, traits)


def digest(source: str) -> str:
    """Identity of a template's text."""
    return hashlib.sha256(source.strip().encode()).hexdigest()


class PlainTemplate(Protocol):
    """A template that can be rendered without protection, to see what it does."""

    def text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, **variables: Any) -> str:
        """The rendering as one string."""
        ...


def measure(template: PlainTemplate) -> TemplateTraits:
    """The traits of a template, seen from what it renders."""
    return TemplateTraits(
        native=all(_same(template, probe) for probe in _PROBES),
        thinks=_opens_thinking(template),
        splits_reasoning=_splits_reasoning(template),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


def _user(*content: str | MediaPart) -> Message:
    return Message("user", tuple(TextPart(part) if isinstance(part, str) else part for part in content))


_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Find <a> & 'b' \u00e9",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
_VALUES = {"s": " text\n", "n": 1.5, "t": True, "f": False, "z": None, "d": {"b": 1, "a": ["\u00e9"]}, "l": [1, "x"]}
_TWO_CALLS = (ToolCall("look_up", {"word": "x"}), ToolCall("none", {}))
_LOOP = (
    Message("system", " Be brief.\n"),
    _user("old question"),
    Message("assistant", "old answer", reasoning="old thoughts"),
    _user("  question ", MediaPart("image"), MediaPart("video"), " more "),
    Message("assistant", "", reasoning=" \nthoughts\n", tool_calls=(ToolCall("look_up", _VALUES),)),
    Message("tool", " result "),
    Message("tool", "second"),
    Message("assistant", "I look again.", tool_calls=_TWO_CALLS),
    Message("tool", "third"),
    Message("assistant", "<think>\n\nwritten inside\n\n</think>\n\nanswer"),
)
# Together they visit every branch of the family's template, its refusals included.
_PROBES = (
    _Probe((Message("user", "hello"),)),
    _Probe(_LOOP, (_TOOL, {**_TOOL, "strict": True})),
    _Probe(_LOOP[1:]),
    _Probe(_LOOP[:4], (_TOOL,)),
    _Probe((*_LOOP, _user("<tool_response>\nas a user message\n</tool_response>"))),
    _Probe((Message("system", " \n"), Message("user", " \u00e9\t"), Message("assistant", "kept\n")), (_TOOL,)),
    _Probe((Message("tool", "first of all"), Message("user", "q"), Message("tool", "t"), Message("user", "r"))),
    _Probe((Message("user", "q"), Message("system", "late"))),
    _Probe((Message("system", "alone"), Message("assistant", "without a question"))),
    _Probe((Message("system", (MediaPart("image"),)), Message("user", "q"))),
    _Probe(()),
)


def _same(template: PlainTemplate, probe: _Probe) -> bool:
    for think, prompt in ((True, True), (False, True), (True, False)):
        ours = _or_none(_native_text, probe, think, prompt)
        theirs = _or_none(
            template.text, probe.messages, probe.tools, enable_thinking=think, add_generation_prompt=prompt
        )
        if ours != theirs:
            return False
    return True


def _native_text(probe: _Probe, think: bool, prompt: bool) -> str:
    return joined(native.render(probe.messages, tools=probe.tools, think=think, add_generation_prompt=prompt))


def _opens_thinking(template: PlainTemplate) -> bool:
    text = _or_none(template.text, [Message("user", "hello")], None, add_generation_prompt=True) or ""
    return text.rfind(THINK_OPEN) > text.rfind(THINK_CLOSE)


def _splits_reasoning(template: PlainTemplate) -> bool:
    history = [Message("user", "q"), Message("assistant", "thoughts</think>answer"), Message("user", "r")]
    text = _or_none(template.text, history, None, add_generation_prompt=True) or ""
    return "thoughts</think>answer" not in text


def _or_none(draw: Callable[..., str], *args: Any, **kwargs: Any) -> str | None:
    """What it renders, ``None`` when it refuses."""
    try:
        return draw(*args, **kwargs)
    except RequestError:
        return None
