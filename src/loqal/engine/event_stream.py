"""Event streams: tokens from the engine's thread to any thread or event loop, through a mailbox per sequence.

The engine never waits for a reader: unread items are buffered, at most a whole reply. Closing a stream, or dropping
the last reference to it, cancels its sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """The engine's end. ``SimpleQueue`` is reentrant, so even the garbage collector may use the other end."""

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[Item | BaseException | None] = queue.SimpleQueue()
        self.wake: Callable[[], object] | None = None

    def put(self, item: Item | BaseException | None) -> None:
        """Add an item, an error for the reader to raise, or None for the end."""
        self.items.put(item)
        wake = self.wake
        if wake is not None:
            with contextlib.suppress(RuntimeError):  # the reader's event loop is gone
                wake()


class EventStream(Generic[Item]):
    """The reader's end: an iterator, an asynchronous iterator, and a context manager.

    One reader at a time. Items come in order; an error of the engine is raised once, and then the stream has ended.
    """

    def __init__(self, mailbox: Mailbox[Item], cancel: Callable[[], None]) -> None:
        self._mailbox, self._cancel = mailbox, cancel
        self._ended = False

    def __iter__(self) -> EventStream[Item]:
        return self

    def __next__(self) -> Item:
        if self._ended:
            raise StopIteration
        found = self._open(self._mailbox.items.get())
        if found is None:
            raise StopIteration
        return found

    def __aiter__(self) -> EventStream[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._ended:
            raise StopAsyncIteration
        found = self._open(await self._receive())
        if found is None:
            raise StopAsyncIteration
        return found

    def poll(self) -> Item | None:
        """The next item if one is there; None if not, or if the stream has ended."""
        try:
            return None if self._ended else self._open(self._mailbox.items.get_nowait())
        except queue.Empty:
            return None

    @property
    def has_ended(self) -> bool:
        """Whether the stream has ended."""
        return self._ended

    def close(self) -> None:
        """Cancel the sequence; its state is freed after the current step. Does nothing after the end."""
        if not self._ended:
            self._ended = True
            self._cancel()

    def __enter__(self) -> EventStream[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _open(self, found: Item | BaseException | None) -> Item | None:
        if found is None or isinstance(found, BaseException):
            self._ended = True
        if isinstance(found, BaseException):
            raise found
        return found

    async def _receive(self) -> Item | BaseException | None:
        loop = asyncio.get_running_loop()
        while True:
            arrived = asyncio.Event()
            self._mailbox.wake = lambda: loop.call_soon_threadsafe(arrived.set)  # noqa: B023 - this round's event
            try:
                return self._mailbox.items.get_nowait()
            except queue.Empty:
                await arrived.wait()
            finally:
                self._mailbox.wake = None
