"""Replies on their way to a client: pieces become events, events become bytes, and nobody waits for ever.

A client that goes away cancels its request. One that does not read is dropped after a while; until then at most one
event is held for it. While a long prompt is read, or nothing else comes, the connection is kept alive.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from loqal.runtime.reply_stream import ReplyStream
from loqal.server.shared.errors import Problem, problem
from loqal.types.reply import Reply, ReplyDelta

IDLE_S = 5.0
"""After so long without an event a sign of life is sent."""

SEND_S = 60.0
"""So long a client may leave what was sent to it unread."""

_PIECES_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: a JSON value, or a text to be sent as it is."""

    data: Any
    name: str | None = None


class Formatter:
    """Turns the pieces of replies into a dialect's events. The base says nothing; dialects override what they say."""

    def start(self) -> Iterable[Event]:
        """Before the first piece."""
        return ()

    def push(self, index: int, delta: ReplyDelta) -> Iterable[Event]:
        """A piece of the reply ``index``."""
        return ()

    def end(self, index: int, reply: Reply) -> Iterable[Event]:
        """The reply ``index`` is complete."""
        return ()

    def close(self) -> Iterable[Event]:
        """All replies are complete."""
        return ()

    def failed(self, found: Problem) -> Iterable[Event]:
        """Nothing more will come, because of an error."""
        return ()

    def idle(self, read: int, total: int) -> Iterable[Event]:
        """Nothing came for a while; ``read`` of ``total`` tokens of the prompts are read."""
        return ()


class ServerSentEvents:
    """``text/event-stream``."""

    media_type = "text/event-stream"

    @staticmethod
    def encode(event: Event, event_id: str | None = None) -> bytes:
        """The bytes of one event."""
        data = event.data if isinstance(event.data, str) else json.dumps(event.data, ensure_ascii=False)
        lines = [f"id: {event_id}"] if event_id else []
        lines += [f"event: {event.name}"] if event.name else []
        return "\n".join([*lines, f"data: {data}", "", ""]).encode()

    @staticmethod
    def comment(text: str) -> bytes:
        """What clients skip."""
        return f": {text}\n\n".encode()


class JsonLines:
    """``application/x-ndjson``: one JSON value a line."""

    media_type = "application/x-ndjson"

    @staticmethod
    def encode(event: Event, event_id: str | None = None) -> bytes:
        """The bytes of one event; lines have no ids."""
        return (json.dumps(event.data, ensure_ascii=False) + "\n").encode()

    @staticmethod
    def comment(text: str) -> bytes:
        """Lines have no comments."""
        return b""


Wire = type[ServerSentEvents] | type[JsonLines]


async def frames(
    streams: Sequence[ReplyStream],
    formatter: Formatter,
    wire: Wire,
    *,
    stream_id: str | None = None,
    idle_s: float = IDLE_S,
    on_failure: Callable[[BaseException], None] = lambda error: None,
) -> AsyncGenerator[bytes, None]:
    """The bytes of a streamed answer, event by event. An error becomes the last event.

    With a ``stream_id`` every event has an id, made of it and of the event's number from 1 on.
    """
    numbers = itertools.count(1)

    def encode(event: Event) -> bytes:
        return wire.encode(event, f"{stream_id}:{next(numbers)}" if stream_id else None)

    try:
        for event in formatter.start():
            yield encode(event)
        async with aclosing(_merged(streams, idle_s)) as pieces:
            async for index, piece in pieces:
                if piece is None:
                    read, total = map(sum, zip(*(stream.progress for stream in streams), strict=True))
                    if comment := wire.comment(f"read {read} of {total} tokens" if read < total else "writing"):
                        yield comment
                    events = formatter.idle(read, total)
                elif isinstance(piece, Reply):
                    events = formatter.end(index, piece)
                else:
                    events = formatter.push(index, piece)
                for event in events:
                    yield encode(event)
        for event in formatter.close():
            yield encode(event)
    except Exception as error:
        on_failure(error)
        for event in formatter.failed(problem(error)):
            yield encode(event)


async def _merged(
    streams: Sequence[ReplyStream], idle_s: float
) -> AsyncGenerator[tuple[int, ReplyDelta | Reply | None], None]:
    """The pieces of several replies as they come, each reply at its end, and None for every while without any."""
    arrived: asyncio.Queue[tuple[int, ReplyDelta | Reply | BaseException]] = asyncio.Queue(_PIECES_AHEAD)
    feeders = [asyncio.ensure_future(_feed(index, stream, arrived)) for index, stream in enumerate(streams)]
    num_open = len(feeders)
    try:
        while num_open:
            try:
                async with asyncio.timeout(idle_s):
                    index, piece = await arrived.get()
            except TimeoutError:
                yield 0, None
                continue
            if isinstance(piece, BaseException):
                raise piece
            num_open -= isinstance(piece, Reply)
            yield index, piece
    finally:
        for feeder in feeders:
            feeder.cancel()
        await asyncio.gather(*feeders, return_exceptions=True)


async def _feed(index: int, stream: ReplyStream, arrived: asyncio.Queue[Any]) -> None:
    try:
        async for delta in stream:
            await arrived.put((index, delta))
        await arrived.put((index, stream.reply))
    except Exception as error:
        await arrived.put((index, error))


class StreamedResponse(Response):
    """Sends frames until they end, the client goes away, or it stops reading; then calls ``close``, always."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        media_type: str,
        close: Callable[[], Awaitable[None]],
        *,
        headers: Mapping[str, str] | None = None,
        send_s: float = SEND_S,
    ) -> None:
        self.status_code, self.background = 200, None
        self.media_type = media_type
        self._frames, self._close, self._send_s = body, close, send_s
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; see ASGI."""
        sender = asyncio.ensure_future(self._send(send))
        watcher = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sender.cancel()
            watcher.cancel()
            await asyncio.gather(sender, watcher, return_exceptions=True)
            await self._close()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        async for frame in self._frames:
            async with asyncio.timeout(self._send_s):
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
