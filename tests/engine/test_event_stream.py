"""The reader's end of a sequence: order, errors, cancelling, and readers of every kind."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from loqal.engine.event_stream import EventStream, Mailbox


def opened(*items: object) -> tuple[Mailbox[object], EventStream[object], list[str]]:
    mailbox: Mailbox[object] = Mailbox()
    for item in items:
        mailbox.put(item)
    cancelled: list[str] = []
    return mailbox, EventStream(mailbox, lambda: cancelled.append("cancelled")), cancelled


def test_items_come_in_order_and_then_the_end() -> None:
    _, stream, cancelled = opened("a", "b", None)
    assert list(stream) == ["a", "b"]
    assert stream.has_ended and list(stream) == [] and stream.poll() is None
    stream.close()
    assert not cancelled  # there is nothing to cancel


def test_an_error_is_raised_once() -> None:
    _, stream, cancelled = opened("a", ZeroDivisionError())
    assert next(stream) == "a" and not stream.has_ended
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert stream.has_ended and list(stream) == [] and not cancelled


def test_polling_does_not_wait() -> None:
    mailbox, stream, _ = opened()
    assert stream.poll() is None and not stream.has_ended
    mailbox.put("a")
    mailbox.put(None)
    assert stream.poll() == "a"
    assert stream.poll() is None and stream.has_ended
    _, failing, _ = opened(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        failing.poll()
    assert failing.has_ended


def test_closing_cancels_once() -> None:
    _, stream, cancelled = opened("a")
    with stream:
        pass
    stream.close()
    assert cancelled == ["cancelled"]
    assert list(stream) == [] and stream.poll() is None


def test_letting_go_cancels() -> None:
    _, stream, cancelled = opened("a")
    del stream
    gc.collect()
    assert cancelled == ["cancelled"]


def test_a_reader_of_an_event_loop_is_woken_from_another_thread() -> None:
    async def read() -> list[object]:
        mailbox, stream, _ = opened()

        def write() -> None:
            for item in ("a", "b", None):
                mailbox.put(item)

        thread = threading.Thread(target=write)
        reading = asyncio.ensure_future(_all(stream))
        await asyncio.sleep(0)  # let the reader find nothing
        thread.start()
        found = await asyncio.wait_for(reading, 10)
        thread.join()
        assert mailbox.wake is None
        assert stream.has_ended and await _all(stream) == []
        return found

    assert asyncio.run(read()) == ["a", "b"]


def test_errors_reach_an_event_loop() -> None:
    _, stream, _ = opened(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(_all(stream))
    assert asyncio.run(_all(stream)) == []


def test_a_writer_does_not_mind_that_the_loop_is_gone() -> None:
    mailbox, stream, _ = opened()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.001)

    asyncio.run(give_up())
    mailbox.put("a")
    assert next(stream) == "a"


def test_waking_a_closed_loop_does_nothing() -> None:
    mailbox: Mailbox[str] = Mailbox()
    loop = asyncio.new_event_loop()
    loop.close()
    mailbox.wake = lambda: loop.call_soon_threadsafe(print)
    mailbox.put("a")
    assert mailbox.items.get_nowait() == "a"


async def _all(stream: EventStream[object]) -> list[object]:
    return [item async for item in stream]
