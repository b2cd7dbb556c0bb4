"""A model that answers by a script, for tests of what stands above a model."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

from loqal.errors import ContextError
from loqal.types.messages import Message
from loqal.types.reply import FinishReason, Reply, ReplyDelta, Timings, Usage
from loqal.types.sampling import SamplingParams


class Stream:
    """A reply of one word, or one that is interrupted after it."""

    def __init__(self, text: str, interrupted: bool) -> None:
        self._text, self._interrupted = text, interrupted

    def __iter__(self) -> Iterator[ReplyDelta]:
        yield ReplyDelta(text=self._text)
        if self._interrupted:
            raise KeyboardInterrupt

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def reply(self) -> Reply:
        reason = FinishReason.CANCELLED if self._interrupted else FinishReason.STOP
        return Reply(self._text, "", (1,), reason, Usage(1, 1), Timings(0, 0, 0, 0), 0)


class Model:
    """Answers with the number of the request; remembers what it was asked."""

    info = SimpleNamespace(name="scripted")

    def __init__(self) -> None:
        self.asked: list[list[Message]] = []
        self.thinks: list[bool | None] = []

    def stream_chat(self, messages: list[Message], params: SamplingParams, *, think: bool | None) -> Stream:
        if messages[-1].content == "too long":
            raise ContextError("too long", "why", "fix")
        self.asked.append(list(messages))
        self.thinks.append(think)
        text = "" if messages[-1].content == "stop at once" else f"answer {len(self.asked)}"
        return Stream(text, str(messages[-1].content).startswith("stop"))
