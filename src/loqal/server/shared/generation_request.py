"""Generation requests: one record for chats and one for raw prompts, the same for every dialect."""

from __future__ import annotations

from collections.abc import Iterator
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

    def begin(self, runtime: Runtime, client: str) -> list[ReplyStream]:
        """Submit the request to the engine. Blocks while prompts are encoded. Raises LoqalError."""
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

    def begin(self, runtime: Runtime, client: str) -> list[ReplyStream]:
        """See GenerationRequest."""
        check_length(runtime, self.texts())
        return runtime.stream_choices(
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

    def begin(self, runtime: Runtime, client: str) -> list[ReplyStream]:
        """See GenerationRequest."""
        for prompt in self.prompts:
            check_length(runtime, [prompt] if isinstance(prompt, str) else [])
        streams: list[ReplyStream] = []
        for prompt in self.prompts:
            streams += runtime.stream_completions(
                prompt,
                self.params,
                n=self.n,
                answer=self.answer,
                priority=self.priority,
                client=f"{client}/{self.user}",
            )
        return streams
