"""Streaming: deltas of replies become events, events become bytes, and connections are kept alive or closed.

A client that disconnects cancels its request. One that stops reading is disconnected after a while; until then at most
one event is buffered for it. While a long prompt is processed, comments keep the connection alive.
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
"""Seconds without an event after which a keep-alive is sent."""

SEND_S = 60.0
"""Seconds after which a client that reads nothing is disconnected."""

_MAX_QUEUED_DELTAS = 64


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: a JSON value, or a string that is sent as it is."""

    data: Any
    name: str | None = None


class Formatter:
    """Turns the deltas of replies into a dialect's events. The base emits none; dialects override what they emit."""

    def start(self) -> Iterable[Event]:
        """Events before the first delta."""
        return ()

    def push(self, index: int, delta: ReplyDelta) -> Iterable[Event]:
        """Events for a delta of the reply ``index``."""
        return ()

    def end(self, index: int, reply: Reply) -> Iterable[Event]:
        """Events for the end of the reply ``index``."""
        return ()

    def close(self) -> Iterable[Event]:
        """Events after the end of all replies."""
        return ()

    def failed(self, found: Problem) -> Iterable[Event]:
        """Events for an error that ends the stream."""
        return ()

    def idle(self, read: int, total: int) -> Iterable[Event]:
        """Events for a pause; ``read`` of ``total`` prompt tokens are processed."""
        return ()


class ServerSentEvents:
    """Server-sent events, ``text/event-stream``."""

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
        """A comment, which clients ignore."""
        return f": {text}\n\n".encode()


class JsonLines:
    """JSON lines, ``application/x-ndjson``."""

    media_type = "application/x-ndjson"

    @staticmethod
    def encode(event: Event, event_id: str | None = None) -> bytes:
        """The bytes of one event; JSON lines have no ids."""
        return (json.dumps(event.data, ensure_ascii=False) + "\n").encode()

    @staticmethod
    def comment(text: str) -> bytes:
        """Nothing, because JSON lines have no comments."""
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
    """The bytes of a streamed response, event by event. An error becomes the last event.

    With a ``stream_id`` every event has an id: the stream's id, a colon and the event's number from 1 on.
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
                    if comment := wire.comment(
                        f"processed {read} of {total} prompt tokens" if read < total else "generating"
                    ):
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
    """The deltas of several replies as they come, each reply at its end, and None for every pause of ``idle_s``."""
    arrived: asyncio.Queue[tuple[int, ReplyDelta | Reply | BaseException]] = asyncio.Queue(_MAX_QUEUED_DELTAS)
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
    """Sends frames until they end, the client disconnects or stops reading; then always calls ``close``."""

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
        """Send the response; see ASGI."""
        sender = asyncio.ensure_future(self._send(send))
        watcher = asyncio.ensure_future(disconnected(receive))
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


async def disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
