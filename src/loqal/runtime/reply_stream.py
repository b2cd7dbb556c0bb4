"""Reply stream: token events to deltas of text, reasoning and tool calls, and to the whole reply."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Protocol

from loqal.chat.constraints.reply_automaton import ReplyConstraint
from loqal.chat.tokens.detokenizer import Detokenizer, StopStrings
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.engine.event_stream import EventStream
from loqal.engine.sequence import Sequence as EngineSequence
from loqal.errors import RequestError
from loqal.types.messages import MediaInfo
from loqal.types.reply import FinishReason, Reply, ReplyDelta, Timings, TokenEvent, TokenLogprobs, Usage


class Parser(Protocol):
    """Turns tokens into pieces of a reply; ``OutputParser`` for chats, ``PlainParser`` for raw continuations."""

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the reasoning so far."""
        ...

    def push(self, token_id: int) -> list[ReplyDelta]:
        """The pieces that this token completes."""
        ...

    def finish(self, *, cut: bool = False) -> list[ReplyDelta]:
        """The pieces that were held back, at the end; ``cut`` when the reply was ended from outside."""
        ...


class PlainParser:
    """Reads a raw continuation: everything is text."""

    reasoning_tokens = 0

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._detokenizer = Detokenizer(tokenizer)

    def push(self, token_id: int) -> list[ReplyDelta]:
        """See Parser."""
        return [ReplyDelta(text=self._detokenizer.push(token_id), token_ids=(token_id,))]

    def finish(self, *, cut: bool = False) -> list[ReplyDelta]:
        """See Parser."""
        return [ReplyDelta(text=self._detokenizer.flush())]


class StopFilter:
    """Ends the answer before a stop string. Reasoning and tool calls pass unchanged.

    Pieces without content are held back, and their token ids go to the next piece.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = StopStrings(stops)
        self._ids: tuple[int, ...] = ()
        self.stopped = False

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.met

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
            elif delta.reasoning or delta.call_piece is not None or delta.incomplete_call:
                self._show(shown, ReplyDelta(text=self._stops.flush()))
                self._show(shown, delta)
        return shown

    def finish(self, deltas: Iterable[ReplyDelta], end_ids: tuple[int, ...] = ()) -> list[ReplyDelta]:
        """The last pieces; one without text carries the ids that produced none, ``end_ids`` among them."""
        shown = self.push(deltas)
        if not self.stopped:
            self._show(shown, ReplyDelta(text=self._stops.flush()))
        self._ids += end_ids
        return [*shown, ReplyDelta(token_ids=self._ids)] if self._ids else shown

    def _show(self, shown: list[ReplyDelta], delta: ReplyDelta) -> None:
        if delta.text or delta.reasoning or delta.call_piece is not None or delta.incomplete_call:
            shown.append(dataclasses.replace(delta, token_ids=self._ids))
            self._ids = ()


class ReplyStream:
    """The pieces of a reply, for ``for`` or ``async for``.

    ``warnings`` name what of the request is not held, before the first piece.

    Use it as a context manager, or close it: closing before the end cancels the request and frees its state. After the
    end ``reply`` holds the whole; after a cancellation it holds what was read until then.
    """

    def __init__(
        self,
        events: EventStream[TokenEvent],
        parser: Parser,
        sequence: EngineSequence,
        *,
        load_ms: float,
        started: float,
        explain: Callable[[EngineSequence], str | None] = lambda sequence: None,
        media: tuple[MediaInfo, ...] = (),
        replays: tuple[Literal["exact", "template"], ...] = (),
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._events, self._parser, self._sequence = events, parser, sequence
        self._filter = StopFilter(sequence.params.stop)
        self._load_ms, self._started, self._explain = load_ms, started, explain
        self._media, self._replays, self.warnings = media, replays, warnings
        self._deltas: list[ReplyDelta] = []
        self._ready: deque[ReplyDelta] = deque()
        self._logprobs: list[TokenLogprobs] = []
        self._num_tokens = self._num_shown = 0
        self._finish_reason: FinishReason | None = None

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> ReplyDelta:
        while not self._ready:
            if self._finish_reason is not None:
                raise StopIteration
            self._take(next(self._events, None))
        return self._ready.popleft()

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> ReplyDelta:
        while not self._ready:
            if self._finish_reason is not None:
                raise StopAsyncIteration
            self._take(await anext(self._events, None))
        return self._ready.popleft()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> ReplyStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the reply now. Does nothing after the end."""
        self._events.close()  # frees the sequence's state
        self._ready.clear()
        if self._finish_reason is None:
            self._end(FinishReason.CANCELLED)
            self._ready.clear()

    def finish(self) -> Reply:
        """Read to the end and return the whole reply."""
        with self:
            for _ in self:
                pass
        return self.reply

    async def finish_async(self) -> Reply:
        """Read to the end without blocking the event loop and return the whole reply."""
        async with self:
            async for _ in self:
                pass
        return self.reply

    @property
    def progress(self) -> tuple[int, int]:
        """Tokens of the prompt that were read so far, cached ones included, and all of them. From any thread."""
        return self._sequence.num_read, self._sequence.prompt_len

    @property
    def pieces(self) -> tuple[ReplyDelta, ...]:
        """The pieces read so far."""
        return tuple(self._deltas)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The tokens of the prompt."""
        return tuple(self._sequence.token_ids[: self._sequence.prompt_len])

    @property
    def reply(self) -> Reply:
        """The whole reply. Raises RequestError before the stream has ended or was closed."""
        if self._finish_reason is None:
            raise RequestError("The reply is not finished.", "Its stream has not ended.", "Read or close the stream.")
        sequence = self._sequence
        return Reply(
            text="".join(delta.text for delta in self._deltas),
            reasoning="".join(delta.reasoning for delta in self._deltas),
            token_ids=tuple(sequence.token_ids[sequence.prompt_len :][: self._num_tokens]),
            finish_reason=self._finish_reason,
            usage=Usage(
                sequence.prompt_len,
                self._num_tokens,
                self._parser.reasoning_tokens,
                sequence.cache.cached,
                self._explain(sequence),
                sequence.drafts.drafted,
                sequence.drafts.accepted,
            ),
            timings=self._timings(),
            seed=sequence.seed,
            tool_calls=tuple(delta.tool_call for delta in self._deltas if delta.tool_call is not None),
            logprobs=None if sequence.params.logprobs is None else tuple(self._logprobs),
            media=self._media,
            stop_string=self._filter.stop_string,
            replays=self._replays,
            incomplete_call="".join(delta.incomplete_call for delta in self._deltas),
            warnings=(*self.warnings, *self._ending_warnings()),
        )

    def _take(self, event: TokenEvent | None) -> None:
        """Read one token, or the end of a sequence that the engine cancelled."""
        if event is None:
            self._end(FinishReason.CANCELLED)
            return
        self._num_tokens += 1
        if event.logprobs is not None:
            self._logprobs.append(event.logprobs)
        if event.finish_reason is FinishReason.STOP:  # the token that ends a reply is no part of its text
            self._end(FinishReason.STOP, (event.token_id,))
            return
        self._show(self._filter.push(self._parser.push(event.token_id)))
        if self._filter.stopped:
            self._end(FinishReason.STOP)
        elif event.finish_reason is not None:
            self._end(event.finish_reason)

    def _end(self, reason: FinishReason, end_ids: tuple[int, ...] = ()) -> None:
        self._events.close()
        self._show(self._filter.finish(self._parser.finish(cut=reason is not FinishReason.STOP), end_ids))
        called = any(delta.tool_call is not None for delta in self._deltas)
        self._finish_reason = FinishReason.TOOL_CALLS if called and reason is FinishReason.STOP else reason

    def _ending_warnings(self) -> list[str]:
        """What the reader should know of how the reply ended."""
        found = []
        if any(delta.incomplete_call for delta in self._deltas):
            found.append("The reply ended inside a tool call, which was left out because it is not complete.")
        guide = self._sequence.guide
        if isinstance(guide, ReplyConstraint) and guide.was_cycling:
            found.append("The answer repeated itself in a cycle and was brought to an end.")
        return found

    def _show(self, deltas: Iterable[ReplyDelta]) -> None:
        for delta in deltas:
            if self._logprobs:
                end = self._num_shown + len(delta.token_ids)
                delta = dataclasses.replace(delta, logprobs=tuple(self._logprobs[self._num_shown : end]))
                self._num_shown = end
            self._deltas.append(delta)
            self._ready.append(delta)

    def _timings(self) -> Timings:
        sequence = self._sequence
        read_s = sequence.first_drawn_s - sequence.began_s
        write_s = sequence.last_drawn_s - sequence.first_drawn_s
        num_drawn = sequence.num_generated - 1
        return Timings(
            load_ms=self._load_ms,
            first_token_ms=(sequence.first_drawn_s - self._started) * 1e3 if self._num_tokens else 0.0,
            prefill_tokens_per_s=(sequence.prompt_len - sequence.cache.cached) / read_s if read_s > 0 else 0.0,
            decode_tokens_per_s=num_drawn / write_s if write_s > 0 else 0.0,
            draft_gain=sequence.drafts.gain if sequence.drafts.drafted else None,
        )
