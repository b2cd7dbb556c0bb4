"""Streams that continue after their connection is lost, so that a client can reconnect and read on.

A client requests it with ``Prefer: resume=SECONDS``. Events then have ids, and the same request sent again with
``Last-Event-ID`` continues after that event. Without the header, a client that disconnects cancels its request.

The events of a stream are kept up to a limit. Events that were sent are dropped first; when the rest still exceeds the
limit, the reply is not read on until a client reads, or until none did for as long as the client requested.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from loqal.server.shared.errors import RefusedError
from loqal.server.shared.streaming import IDLE_S

MAX_WINDOW_S = 600
_MAX_STREAMS = 256
_MAX_BYTES = 4 << 20  # per stream

Frames = AsyncGenerator[bytes, None]


class EventLog:
    """The encoded events of one stream, numbered from 0, which readers can follow while it grows."""

    def __init__(self) -> None:
        self._events: deque[bytes] = deque()
        self.first = 0  # number of the oldest event that is kept
        self.size_bytes = 0
        self.has_ended = False
        self._changed = asyncio.Event()

    @property
    def end(self) -> int:
        """The number of the next event."""
        return self.first + len(self._events)

    def append(self, frame: bytes) -> None:
        """Add an event."""
        self._events.append(frame)
        self.size_bytes += len(frame)
        self._wake()

    def drop_first(self) -> None:
        """Forget the oldest event."""
        self.size_bytes -= len(self._events.popleft())
        self.first += 1
        self._wake()

    def close(self) -> None:
        """Mark the end of the stream."""
        self.has_ended = True
        self._wake()

    async def follow(self, start: int, on_sent: Callable[[int], bool] = lambda end: True) -> Frames:
        """The events from number ``start`` on, as they come, and comments that keep the connection alive.

        Args:
            on_sent: called before each wait and after each event with the number of the next event; False ends this.
        """
        while on_sent(start):
            if start < self.end:
                start += 1
                yield self._events[start - 1 - self.first]
            elif self.has_ended:
                return
            elif not await self.wait():
                yield b": waiting\n\n"

    async def wait(self) -> bool:
        """Whether the log changed before a keep-alive is due."""
        try:
            async with asyncio.timeout(IDLE_S):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class ResumableStream:
    """One stream. It has at most one reader; a new reader replaces the previous one."""

    def __init__(self, owner: str, frames: Frames, close: Callable[[], Awaitable[None]], window_s: float) -> None:
        self.owner, self.window_s, self.num_readers = owner, window_s, 0
        self._frames, self._close = frames, close
        self._log = EventLog()
        self._num_sent = self._reader = 0
        self._pump = asyncio.ensure_future(self._fill())

    async def read(self, start: int) -> Frames:
        """The events from number ``start`` on, as they come. Raises RefusedError when they are not kept any more."""
        self.check(start)
        self._reader += 1
        reader = self._reader

        def on_sent(end: int) -> bool:
            if self._reader != reader:
                return False
            self._num_sent = max(self._num_sent, end)
            self._trim()
            return True

        async with aclosing(self._log.follow(start, on_sent)) as frames:
            async for frame in frames:
                yield frame

    def check(self, start: int) -> None:
        """Raise RefusedError when the events from ``start`` on are not kept."""
        if not self._log.first <= start <= self._log.end:
            raise _gone()

    def cancel(self) -> None:
        """End the stream."""
        self._pump.cancel()

    async def _fill(self) -> None:
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    if frame.startswith(b":"):
                        continue  # keep-alive comments belong to a connection
                    self._log.append(frame)
                    self._trim()
                    while self._log.size_bytes > _MAX_BYTES:
                        await self._log.wait()
        finally:
            self._log.close()
            await self._close()

    def _trim(self) -> None:
        while self._log.size_bytes > _MAX_BYTES and self._log.first < self._num_sent:
            self._log.drop_first()


class ResumableStreams:
    """The resumable streams of a server, by id."""

    def __init__(self) -> None:
        self._streams: dict[str, ResumableStream] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def keep(
        self, owner: str, frames: Callable[[str], Frames], close: Callable[[], Awaitable[None]], window_s: float
    ) -> str | None:
        """Start a stream; ``frames`` makes its events for the id. None when there are too many streams."""
        if len(self._streams) >= _MAX_STREAMS:
            return None
        stream_id = secrets.token_hex(12)
        self._streams[stream_id] = ResumableStream(owner, frames(stream_id), close, window_s)
        return stream_id

    def read(self, stream_id: str, start: int = 0) -> Frames:
        """The events for a reader. When it disconnects, the stream waits for the next one as long as requested."""
        stream = self._streams[stream_id]
        stream.num_readers += 1
        if timer := self._timers.pop(stream_id, None):
            timer.cancel()
        return stream.read(start)

    async def left(self, stream_id: str) -> None:
        """A reader has disconnected."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.num_readers -= 1
            if not stream.num_readers:
                loop = asyncio.get_running_loop()
                self._timers[stream_id] = loop.call_later(stream.window_s, self._drop, stream_id)

    def find(self, owner: str, event_id: str) -> tuple[str, int]:
        """The stream of an event a client has received, and the number of the next event. Raises RefusedError."""
        stream_id, _, number = event_id.partition(":")
        stream = self._streams.get(stream_id)
        if stream is None or stream.owner != owner or not number.isascii() or not number.isdigit():
            raise _gone()
        stream.check(int(number[:12]))
        return stream_id, int(number[:12])

    def close(self) -> None:
        """End all streams."""
        for stream_id in list(self._streams):
            self._drop(stream_id)

    def _drop(self, stream_id: str) -> None:
        self._timers.pop(stream_id, None)
        self._streams.pop(stream_id).cancel()


def window_of(prefer: str) -> float | None:
    """The seconds of ``resume`` in a Prefer header (RFC 7240); None without it."""
    for preference in prefer.split(","):
        name, _, value = preference.strip().partition("=")
        if name.lower() == "resume" and value.isascii() and value.isdigit():
            return min(int(value[:9]), MAX_WINDOW_S) or None
    return None


def _gone() -> RefusedError:
    return RefusedError(
        "gone",
        "The stream cannot be resumed.",
        "The server no longer has its events.",
        "Send the request again without Last-Event-ID.",
    )
