"""From what a caller asks to what the engine reads: a prompt in token ids, parameters, and how the reply is read."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from . import limits
from .chat import defaults, tools
from .chat.choice import TemplateChoice
from .chat.output_parser import OutputParser
from .chat.segments import Segment, ends_in_thinking
from .chat.tokenizer import Tokenizer
from .chat.turn_rules import TurnRules
from .engine.guide import Guide
from .eyes import Eyes, Seen
from .messages import to_messages
from .reply_stream import Parser, PlainParser
from .turns import AnswerFormat, Turn
from .types import Message, RenderedSegment, SamplingParams

_DRAWN_SEED_BYTES = 6  # a seed that every JSON reader keeps exactly

MessageLike = Message | Mapping[str, Any]


def _nothing() -> Guide | None:
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A request in token ids. ``parser`` and ``guide`` are made anew for every reply."""

    prompt_ids: list[int]
    params: SamplingParams
    parser: Callable[[str], Parser]  # gets what the ids of calls begin with
    started: float  # when it arrived
    guide: Callable[[], Guide | None] = _nothing
    seen: Seen = dataclasses.field(default_factory=lambda: Seen([], ()))
    thinks: bool = False
    replays: tuple[Literal["exact", "template"], ...] = ()
    priority: int = 0
    client: str = ""


def as_turn(turn: Turn | None, think: bool | None, definitions: Sequence[Mapping[str, Any]] | None) -> Turn:
    """A turn with the shorthands in it. Raises RequestError."""
    turn = turn or Turn()
    if think is not None:
        turn = dataclasses.replace(turn, thinking=dataclasses.replace(turn.thinking, enabled=think))
    if definitions is not None:
        turn = dataclasses.replace(turn, tools=tools.read(definitions))
    return turn


class Prompts:
    """Makes the prompts of one model.

    Args:
        context_len: most tokens of prompt and reply together.
        size: the published size, for the model card's values.
        file_values: sampling values that the model's files state.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: TemplateChoice,
        eyes: Eyes,
        *,
        context_len: int,
        size: str | None,
        file_values: Mapping[str, Any],
    ) -> None:
        self._tokenizer, self._template, self._eyes = tokenizer, template, eyes
        self._rules, self._context_len = TurnRules(tokenizer), context_len
        self._size, self._file_values = size, file_values

    def chat(self, messages: Iterable[MessageLike], params: SamplingParams | None, turn: Turn) -> Prepared:
        """A conversation. Raises RequestError and MediaError."""
        started = time.perf_counter()
        thinks = self._template.traits.thinks if turn.thinking.enabled is None else turn.thinking.enabled
        definitions = [tools.definition(tool) for tool in turn.tools]
        segments = self._template.template.render(to_messages(messages), tools=definitions, think=thinks)
        thinking = ends_in_thinking(segments)
        parser = functools.partial(OutputParser, self._tokenizer, thinking, definitions)
        seen = self._eyes.look(segments)
        params = self._resolve(params, thinking=thinking, media=bool(seen.items))
        prompt_ids = self._tokenizer.encode(seen.segments)
        room = max(1, min(params.max_tokens or self._context_len, self._context_len - len(prompt_ids)))
        guide = self._rules.guides(turn, thinking=thinking, room=room)
        return Prepared(prompt_ids, params, parser, started, guide, seen, thinking)

    def raw(
        self, prompt: str | Sequence[int], params: SamplingParams | None, answer: AnswerFormat | None = None
    ) -> Prepared:
        """A raw prompt. Raises RequestError."""
        started = time.perf_counter()
        prompt_ids = self._tokenizer.encode_with_control(prompt) if isinstance(prompt, str) else list(prompt)
        resolved, guide = self._resolve(params, thinking=False), self._rules.raw(answer)
        return Prepared(prompt_ids, resolved, lambda stem: PlainParser(self._tokenizer), started, guide)

    def _resolve(self, params: SamplingParams | None, *, thinking: bool, media: bool = False) -> SamplingParams:
        """The parameters with every default and a seed filled in."""
        params = params or SamplingParams()
        limits.check(params)
        if params.seed is None:
            params = dataclasses.replace(params, seed=int.from_bytes(os.urandom(_DRAWN_SEED_BYTES), "little"))
        return defaults.resolve(params, size=self._size, thinking=thinking, media=media, file_values=self._file_values)


def shown(segments: Iterable[Segment]) -> tuple[RenderedSegment, ...]:
    """The segments of a prompt for a reader."""
    return tuple(
        RenderedSegment("media" if s.media is not None else "template" if s.is_template else "content", s.text)
        for s in segments
    )
