"""Generation requests: one record for chats and one for raw prompts, the same for every dialect."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from loqal.runtime.reply_stream import ReplyStream
from loqal.runtime.runtime import Runtime
from loqal.server.shared.errors import FieldError
from loqal.server.shared.prompt_length import check_length
from loqal.types.messages import MediaPart, Message, TextPart
from loqal.types.reply_options import AnswerFormat, ReplyOptions
from loqal.types.sampling import SamplingParams

SERVICE_TIERS = {"flex": 10, "priority": -10}
"""Priorities of OpenAI's service tiers; the lowest number is served first."""

_MAX_MEDIA = 64


class GenerationRequest(Protocol):
    """What a dialect's ``parse`` returns: which model, how many replies, and how to start them."""

    @property
    def model(self) -> str:
        """The name of a served model."""
        ...

    @property
    def num_replies(self) -> int:
        """How many replies are generated."""
        ...

    @property
    def num_media(self) -> int:
        """How many images and videos have to be decoded."""
        ...

    def check_length(self, runtime: Runtime) -> None:
        """Raise ContextError when no prompt this long can fit the context, however it is tokenized."""
        ...

    def starter(self, runtime: Runtime, client: str) -> Callable[[], list[ReplyStream]]:
        """What submits the request to the engine. It blocks while prompts are encoded and raises LoqalError."""
        ...


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to continue.

    Attributes:
        n: the number of replies.
        priority: the lowest number is served first.
        user: the end user; users of one API key get equal shares of the machine.
    """

    model: str
    messages: tuple[Message, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    options: ReplyOptions = field(default_factory=ReplyOptions)
    n: int = 1
    stream: bool = False
    priority: int = 0
    user: str = ""

    def __post_init__(self) -> None:
        if self.num_media > _MAX_MEDIA:
            raise FieldError(
                "messages",
                f"They contain {self.num_media} images and videos; the maximum is {_MAX_MEDIA}.",
                "Send fewer images and videos.",
            )

    @property
    def num_replies(self) -> int:
        """See GenerationRequest."""
        return self.n

    @property
    def num_media(self) -> int:
        """See GenerationRequest."""
        parts = [part for message in self.messages if not isinstance(message.content, str) for part in message.content]
        return sum(isinstance(part, MediaPart) for part in parts)

    def check_length(self, runtime: Runtime) -> None:
        """See GenerationRequest."""
        check_length(runtime, self.texts())

    def starter(self, runtime: Runtime, client: str) -> Callable[[], list[ReplyStream]]:
        """See GenerationRequest."""
        return functools.partial(
            runtime.stream_choices,
            self.messages,
            self.params,
            n=self.n,
            options=self.options,
            priority=self.priority,
            client=f"{client}/{self.user}",
        )

    def texts(self) -> Iterator[str]:
        """Every text the model would read, for ``check_length``."""
        for message in self.messages:
            parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
            yield from (part.text for part in parts if isinstance(part, TextPart))
            yield message.reasoning or ""
            for call in message.tool_calls:
                yield from (call.name, str(call.arguments))
        for tool in self.options.tools:
            fields = (tool.name, tool.description or "", tool.parameters, tool.extra)
            yield from map(str, [tool.definition] if tool.definition else fields)


@dataclass(frozen=True, slots=True)
class RawRequest:
    """Prompts to continue as they are, without a chat template; ``n`` replies to each. Fields as in ChatRequest."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    answer: AnswerFormat | None = None
    stream: bool = False
    priority: int = 0
    user: str = ""

    @property
    def num_replies(self) -> int:
        """See GenerationRequest."""
        return self.n * len(self.prompts)

    @property
    def num_media(self) -> int:
        """See GenerationRequest."""
        return 0

    def check_length(self, runtime: Runtime) -> None:
        """See GenerationRequest."""
        for prompt in self.prompts:
            check_length(runtime, [prompt] if isinstance(prompt, str) else [])

    def starter(self, runtime: Runtime, client: str) -> Callable[[], list[ReplyStream]]:
        """See GenerationRequest."""
        start = functools.partial(
            runtime.stream_completions,
            params=self.params,
            n=self.n,
            answer=self.answer,
            priority=self.priority,
            client=f"{client}/{self.user}",
        )
        return lambda: [stream for prompt in self.prompts for stream in start(prompt)]
