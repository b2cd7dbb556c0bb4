"""Prompts: a conversation and its options to token ids, sampling parameters, a constraint and an output parser."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from loqal.chat import defaults
from loqal.chat.constraints.rules import ConstraintBuilder
from loqal.chat.output.parser import OutputParser
from loqal.chat.template.native import with_reasoning_apart
from loqal.chat.template.segments import CALL_OPEN, THINK_CLOSE, Replayed, Segment, ends_in_thinking
from loqal.chat.template.select import TemplateChoice
from loqal.chat.template.tools import definition
from loqal.chat.template.tools import read as read_tools
from loqal.chat.tokens.replay import replay
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.engine.sampling.constraint import TokenConstraint
from loqal.errors import RequestError
from loqal.runtime.media_encoder import MediaEncoder, PlannedMedia
from loqal.runtime.message_dicts import to_messages
from loqal.runtime.reply_stream import Parser, PlainParser
from loqal.types import sampling
from loqal.types.messages import Message, TextPart
from loqal.types.reply import RenderedSegment
from loqal.types.reply_options import AnswerFormat, OneOf, ReplyOptions
from loqal.types.sampling import SamplingParams

_DRAWN_SEED_BYTES = 6  # a seed that every JSON reader keeps exactly

MessageLike = Message | Mapping[str, Any]


def _nothing() -> TokenConstraint | None:
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A request in token ids. ``parser`` and ``guide`` create new objects for every reply."""

    prompt_ids: list[int]
    params: SamplingParams
    parser: Callable[[str], Parser]  # takes the prefix of the ids of tool calls
    started: float  # when it arrived
    guide: Callable[[], TokenConstraint | None] = _nothing
    seen: PlannedMedia = dataclasses.field(default_factory=lambda: PlannedMedia([], ()))
    thinks: bool = False
    replays: tuple[Literal["exact", "template"], ...] = ()
    warnings: tuple[str, ...] = ()
    priority: int = 0
    client: str = ""


def as_reply_options(
    options: ReplyOptions | None = None,
    turn: ReplyOptions | None = None,
    think: bool | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> ReplyOptions:
    """Reply options from ``ReplyArguments``. Raises RequestError."""
    if options is not None and turn is not None:
        raise RequestError("options and turn are both given.", "turn is an earlier name of options.", "Remove turn.")
    options = options or turn or ReplyOptions()
    if think is not None:
        options = dataclasses.replace(options, thinking=dataclasses.replace(options.thinking, enabled=think))
    if tools is not None:
        options = dataclasses.replace(options, tools=read_tools(tools))
    return options


class Prompts:
    """Prepares requests for one model.

    Args:
        context_len: maximum number of tokens of prompt and reply together.
        end_ids: ids that end its replies; None for those of the vocabulary.
        size: the published size, for the model card's values.
        file_values: sampling values that the model's files state.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: TemplateChoice,
        media_encoder: MediaEncoder,
        *,
        context_len: int,
        end_ids: frozenset[int] | None,
        size: str | None,
        file_values: Mapping[str, Any],
    ) -> None:
        self._tokenizer, self._template, self._media_encoder = tokenizer, template, media_encoder
        self._rules, self._context_len = ConstraintBuilder(tokenizer, end_ids), context_len
        self._size, self._file_values = size, file_values

    def chat(self, messages: Iterable[MessageLike], params: SamplingParams | None, options: ReplyOptions) -> Prepared:
        """A conversation. Raises RequestError and MediaError."""
        started = time.perf_counter()
        thinks = self._template.traits.thinks if options.thinking.enabled is None else options.thinking.enabled
        definitions = [definition(tool) for tool in options.tools]
        schemas = [{"name": tool.name, "parameters": tool.parameters} for tool in options.tools]
        history, begun = _split(to_messages(messages), options)
        thinks = thinks if begun is None else bool(begun.reasoning)
        replays = self._replays(history, schemas) if options.replay == "exact" else {}
        segments = self._template.template.render(history, tools=definitions, think=thinks, replays=replays)
        segments += [] if begun is None else _beginning(begun, is_open=ends_in_thinking(segments))
        thinking = ends_in_thinking(segments)
        seen = self._media_encoder.plan(segments)
        params = self._resolve(params, thinking=thinking, media=bool(seen.items))
        prompt_ids = self._tokenizer.encode(seen.segments)
        room = max(1, min(params.max_tokens or self._context_len, self._context_len - len(prompt_ids)))
        said = "" if begun is None else begun.text
        quotes_calls = any(CALL_OPEN in text for text in _texts(history)) or CALL_OPEN in said
        constraints = self._rules.guides(options, thinking=thinking, room=room, said=said, free_calls=quotes_calls)
        return Prepared(
            prompt_ids,
            params,
            functools.partial(OutputParser, self._tokenizer, thinking, schemas),
            started,
            constraints,
            seen,
            thinking,
            _how_replayed(history, segments),
            constraints.warnings,
        )

    def _replays(self, messages: Sequence[Message], schemas: Sequence[Mapping[str, Any]]) -> dict[int, Replayed]:
        found: dict[int, Replayed] = {}
        for index, message in enumerate(messages):
            one = replay(message, self._tokenizer, schemas)
            if one is not None:
                whole = dataclasses.replace(one.whole, message=index)
                answer = None if one.answer is None else dataclasses.replace(one.answer, message=index)
                found[index] = Replayed(whole, answer, one.thought)
        return found

    def warm_up_grammars(self) -> None:
        """See Runtime."""
        self._rules.raw(OneOf(("a",)))

    def raw(
        self, prompt: str | Sequence[int], params: SamplingParams | None, answer: AnswerFormat | None = None
    ) -> Prepared:
        """A raw prompt. Raises RequestError."""
        started = time.perf_counter()
        prompt_ids = self._tokenizer.encode_with_control(prompt) if isinstance(prompt, str) else list(prompt)
        resolved, guide = self._resolve(params, thinking=False), self._rules.raw(answer)
        prepared = Prepared(prompt_ids, resolved, lambda stem: PlainParser(self._tokenizer), started, guide)
        return dataclasses.replace(prepared, warnings=guide.warnings)

    def _resolve(self, params: SamplingParams | None, *, thinking: bool, media: bool = False) -> SamplingParams:
        """The parameters with every default and a seed filled in."""
        params = params or SamplingParams()
        sampling.check(params)
        if params.seed is None:
            params = dataclasses.replace(params, seed=int.from_bytes(os.urandom(_DRAWN_SEED_BYTES), "little"))
        return defaults.resolve(params, size=self._size, thinking=thinking, media=media, file_values=self._file_values)


def shown(segments: Iterable[Segment]) -> tuple[RenderedSegment, ...]:
    """The segments of a prompt for a reader."""
    return tuple(
        RenderedSegment("media" if s.media is not None else "template" if s.is_template else "content", s.text)
        for s in segments
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Begun:
    """A reply that is to be continued."""

    reasoning: str
    text: str


def _split(messages: list[Message], options: ReplyOptions) -> tuple[list[Message], _Begun | None]:
    """The conversation, and the reply that is to be continued. Raises RequestError."""
    if not options.prefill or not messages or messages[-1].role != "assistant":
        return messages, None
    last = with_reasoning_apart(messages[-1])
    parts = [TextPart(last.content)] if isinstance(last.content, str) else last.content
    if last.tool_calls or not all(isinstance(part, TextPart) for part in parts):
        raise RequestError(
            f"messages[{len(messages) - 1}] cannot be continued.",
            "It contains tool calls or images, and only text can be continued.",
            "Make the last message plain text, or leave prefill out.",
        )
    begun = _Begun(last.reasoning or "", "".join(part.text for part in parts if isinstance(part, TextPart)))
    return messages[:-1], begun if begun.reasoning or begun.text else None


def _texts(messages: Iterable[Message]) -> Iterable[str]:
    """The texts of messages."""
    for message in messages:
        parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
        yield from (part.text for part in parts if isinstance(part, TextPart))


def _beginning(begun: _Begun, *, is_open: bool) -> list[Segment]:
    """The segments of a reply to be continued; ``is_open`` says whether the prompt has opened its reasoning."""
    if begun.reasoning and not is_open:
        raise RequestError(
            "The last message contains reasoning to continue.",
            "The chat template of the model does not begin a reply with reasoning.",
            "Remove the reasoning from the last message.",
        )
    close = Segment(f"\n{THINK_CLOSE}\n\n", is_template=True)
    answer = [Segment(begun.text)] if begun.text else []
    return [*([Segment(begun.reasoning)] if begun.reasoning else []), *([close] if is_open and answer else []), *answer]


def _how_replayed(messages: Sequence[Message], segments: Sequence[Segment]) -> tuple[Literal["exact", "template"], ...]:
    """For each message of the assistant, how it became tokens."""
    exact = {segment.message for segment in segments}
    return tuple(
        "exact" if index in exact else "template"
        for index, message in enumerate(messages)
        if message.role == "assistant"
    )
