"""A reply while it is written: token events in, pieces of text out, and the whole reply at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import Protocol

from .chat.detokenizer import Detokenizer, StopStrings
from .chat.tokenizer import Tokenizer
from .engine.sequence import Sequence as EngineSequence
from .errors import RequestError
from .types import FinishReason, Reply, ReplyDelta, Timings, TokenEvent, TokenLogprobs, Usage


class Parser(Protocol):
    """Turns tokens into pieces of a reply; ``OutputParser`` for chats, ``PlainParser`` for raw continuations."""

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the reasoning so far."""
        ...

    def push(self, token_id: int) -> list[ReplyDelta]:
        """What became certain with this token."""
        ...

    def finish(self) -> list[ReplyDelta]:
        """What was held back, at the end."""
        ...


class PlainParser:
    """Reads a raw continuation: everything is text."""

    reasoning_tokens = 0

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._detokenizer = Detokenizer(tokenizer)

    def push(self, token_id: int) -> list[ReplyDelta]:
        """See Parser."""
        return [ReplyDelta(text=self._detokenizer.push(token_id), token_ids=(token_id,))]

    def finish(self) -> list[ReplyDelta]:
        """See Parser."""
        return [ReplyDelta(text=self._detokenizer.flush())]


class StopFilter:
    """Ends the answer before a stop string. Reasoning and tool calls pass: a stop string there is not meant.

    Pieces without content are withheld, and their token ids go to the next piece.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = StopStrings(stops)
        self._ids: tuple[int, ...] = ()
        self.stopped = False

    def push(self, deltas: Iterable[ReplyDelta]) -> list[ReplyDelta]:
        """The pieces that may be shown."""
        shown: list[ReplyDelta] = []
        for delta in deltas:
            self._ids += delta.token_ids
            if self.stopped:
                continue
            if delta.text:
                text, self.stopped = self._stops.push(delta.text)
                self._show(shown, ReplyDelta(text=text))
            elif delta.reasoning or delta.tool_call is not None:
                self._show(shown, ReplyDelta(text=self._stops.flush()))
                self._show(shown, delta)
        return shown

    def finish(self, deltas: Iterable[ReplyDelta], end_ids: tuple[int, ...] = ()) -> list[ReplyDelta]:
        """The last pieces; a piece of its own carries ids that showed nothing, ``end_ids`` among them."""
        shown = self.push(deltas)
        if not self.stopped:
            self._show(shown, ReplyDelta(text=self._stops.flush()))
        self._ids += end_ids
        return [*shown, ReplyDelta(token_ids=self._ids)] if self._ids else shown

    def _show(self, shown: list[ReplyDelta], delta: ReplyDelta) -> None:
        if delta.text or delta.reasoning or delta.tool_call is not None:
            shown.append(dataclasses.replace(delta, token_ids=self._ids))
            self._ids = ()


class ReplyStream:
    """An iterator of the pieces of a reply.

    Use it as a context manager, or close it: closing before the end cancels the request and frees its state. After the
    end ``reply`` holds the whole; after a cancellation it holds what was read until then.
    """

    def __init__(
        self,
        events: Generator[TokenEvent, None, None],
        parser: Parser,
        sequence: EngineSequence,
        *,
        load_ms: float,
        started: float,
    ) -> None:
        self._events, self._parser, self._sequence = events, parser, sequence
        self._filter = StopFilter(sequence.params.stop)
        self._load_ms, self._started = load_ms, started
        self._first_token_ms = self._prefill_s = self._decode_s = 0.0
        self._deltas: list[ReplyDelta] = []
        self._logprobs: list[TokenLogprobs] = []
        self._num_tokens = 0
        self._finish_reason: FinishReason | None = None
        self._pieces = self._read()

    def __iter__(self) -> Iterator[ReplyDelta]:
        return self

    def __next__(self) -> ReplyDelta:
        return next(self._pieces)

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the reply here. Does nothing after the end."""
        self._pieces.close()
        self._events.close()  # frees the sequence's state
        if self._finish_reason is None:
            self._finish_reason = FinishReason.CANCELLED
            self._deltas += self._filter.finish(self._parser.finish())

    def finish(self) -> Reply:
        """Read to the end and return the whole reply."""
        with self:
            for _ in self:
                pass
        return self.reply

    @property
    def reply(self) -> Reply:
        """The whole reply. Raises RequestError before the stream has ended or was closed."""
        if self._finish_reason is None:
            raise RequestError("The reply is not finished.", "Its stream has not ended.", "Read or close the stream.")
        return Reply(
            text="".join(delta.text for delta in self._deltas),
            reasoning="".join(delta.reasoning for delta in self._deltas),
            token_ids=tuple(self._sequence.token_ids[self._sequence.prompt_len :][: self._num_tokens]),
            finish_reason=self._finish_reason,
            usage=Usage(self._sequence.prompt_len, self._num_tokens, self._parser.reasoning_tokens),
            timings=self._timings(),
            seed=self._sequence.seed,
            tool_calls=tuple(delta.tool_call for delta in self._deltas if delta.tool_call is not None),
            logprobs=None if self._sequence.params.logprobs is None else tuple(self._logprobs),
        )

    def _read(self) -> Generator[ReplyDelta, None, None]:
        reason: FinishReason | None = None
        end_ids: tuple[int, ...] = ()
        while reason is None:
            event = self._next_event()
            reason = event.finish_reason
            if reason is FinishReason.STOP:  # the token that ends a reply is no part of its text
                end_ids = (event.token_id,)
                break
            deltas = self._filter.push(self._parser.push(event.token_id))
            self._deltas += deltas
            yield from deltas
            if self._filter.stopped:
                reason = FinishReason.STOP
        self._events.close()
        deltas = self._filter.finish(self._parser.finish(), end_ids)
        self._deltas += deltas
        called = any(delta.tool_call is not None for delta in self._deltas)
        self._finish_reason = FinishReason.TOOL_CALLS if called and reason is FinishReason.STOP else reason
        yield from deltas

    def _next_event(self) -> TokenEvent:
        """The next event, counted and timed. Time the caller spends between two of them is not."""
        began = time.perf_counter()
        event = next(self._events)
        ended = time.perf_counter()
        if self._num_tokens == 0:
            self._first_token_ms, self._prefill_s = (ended - self._started) * 1e3, ended - began
        else:
            self._decode_s += ended - began
        self._num_tokens += 1
        if event.logprobs is not None:
            self._logprobs.append(event.logprobs)
        return event

    def _timings(self) -> Timings:
        prompt_len, num_decoded = self._sequence.prompt_len, self._num_tokens - 1
        return Timings(
            load_ms=self._load_ms,
            first_token_ms=self._first_token_ms,
            prefill_tokens_per_s=prompt_len / self._prefill_s if self._prefill_s else 0.0,
            decode_tokens_per_s=num_decoded / self._decode_s if self._decode_s else 0.0,
        )
