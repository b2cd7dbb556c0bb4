"""Streams that outlive their connection for a while, so that a client that lost it can go on where it was.

A client asks for it with ``Prefer: resume=SECONDS``. Events then have ids, and the same request sent again with
``Last-Event-ID`` goes on behind that event. Without the wish, a client that leaves cancels its request at once.

The events of a stream are kept up to a bound. Those that were sent go first; when what is left is still too much, the
reply is not read further until somebody reads, or until nobody did for as long as the client wished.
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
_MAX_BYTES = 4 << 20  # of one stream

Frames = AsyncGenerator[bytes, None]


class ResumableStream:
    """One stream. It has at most one reader; a new one takes over."""

    def __init__(self, owner: str, frames: Frames, close: Callable[[], Awaitable[None]], window_s: float) -> None:
        self.owner, self.window_s, self.num_readers = owner, window_s, 0
        self._frames, self._close = frames, close
        self._events: deque[bytes] = deque()
        self._num_dropped = self._num_sent = self._size = 0
        self._reader = 0
        self._has_ended = False
        self._changed = asyncio.Event()
        self._pump = asyncio.ensure_future(self._read_on())

    async def read(self, start: int) -> Frames:
        """The events from number ``start`` on, as they come. Raises RefusedError when they are not kept any more."""
        self.check(start)
        self._reader += 1
        me = self._reader
        while self._reader == me:
            if start < self._num_dropped + len(self._events):
                frame = self._events[start - self._num_dropped]
                start += 1
                yield frame
                self._num_sent = max(self._num_sent, start)
                self._trim()
            elif self._has_ended:
                return
            elif not await self._change():
                yield b": waiting\n\n"

    def check(self, start: int) -> None:
        """Raise RefusedError when the events from ``start`` on are not kept."""
        if not self._num_dropped <= start <= self._num_dropped + len(self._events):
            raise _gone()

    def cancel(self) -> None:
        """End the stream here."""
        self._pump.cancel()

    async def _read_on(self) -> None:
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    if frame.startswith(b":"):
                        continue  # signs of life are for connections
                    self._events.append(frame)
                    self._size += len(frame)
                    self._wake()
                    self._trim()
                    while self._size > _MAX_BYTES:
                        await self._change()
        finally:
            self._has_ended = True
            self._wake()
            await self._close()

    def _trim(self) -> None:
        while self._size > _MAX_BYTES and self._num_dropped < self._num_sent:
            self._size -= len(self._events.popleft())
            self._num_dropped += 1
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> bool:
        """Whether something changed before it was time for a sign of life."""
        try:
            async with asyncio.timeout(IDLE_S):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


class ResumableStreams:
    """All of them, by their ids."""

    def __init__(self) -> None:
        self._streams: dict[str, ResumableStream] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}

    def keep(
        self, owner: str, frames: Callable[[str], Frames], close: Callable[[], Awaitable[None]], window_s: float
    ) -> str | None:
        """Begin a stream, whose ``frames`` are made for its id; None when there is no room for another."""
        if len(self._streams) >= _MAX_STREAMS:
            return None
        stream_id = secrets.token_hex(12)
        self._streams[stream_id] = ResumableStream(owner, frames(stream_id), close, window_s)
        return stream_id

    def read(self, stream_id: str, start: int = 0) -> Frames:
        """What a reader is sent. When it leaves, the stream waits for the next one as long as was wished."""
        stream = self._streams[stream_id]
        stream.num_readers += 1
        if end := self._ends.pop(stream_id, None):
            end.cancel()
        return stream.read(start)

    async def left(self, stream_id: str) -> None:
        """A reader is gone."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.num_readers -= 1
            if not stream.num_readers:
                loop = asyncio.get_running_loop()
                self._ends[stream_id] = loop.call_later(stream.window_s, self._drop, stream_id)

    def find(self, owner: str, event_id: str) -> tuple[str, int]:
        """Stream and number of the event behind one that a client has seen. Raises RefusedError."""
        stream_id, _, number = event_id.partition(":")
        stream = self._streams.get(stream_id)
        if stream is None or stream.owner != owner or not number.isascii() or not number.isdigit():
            raise _gone()
        stream.check(int(number[:12]))
        return stream_id, int(number[:12])

    def close(self) -> None:
        """End all of them."""
        for stream_id in list(self._streams):
            self._drop(stream_id)

    def _drop(self, stream_id: str) -> None:
        self._ends.pop(stream_id, None)
        self._streams.pop(stream_id).cancel()


def window_of(prefer: str) -> float | None:
    """How long a client wishes that its stream is kept; see RFC 7240."""
    for wish in prefer.split(","):
        name, _, value = wish.strip().partition("=")
        if name.lower() == "resume" and value.isascii() and value.isdigit():
            return min(int(value[:9]), MAX_WINDOW_S) or None
    return None


def _gone() -> RefusedError:
    return RefusedError(
        "gone", "The stream cannot be continued.", "Its events are not kept any more.", "GenerationRequest again."
    )
