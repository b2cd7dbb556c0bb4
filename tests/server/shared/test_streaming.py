"""Streaming: order of events, keep-alives, clients that disconnect, read slowly or reconnect. On a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from loqal.server.shared import resumable_streams
from loqal.server.shared.errors import Problem, RefusedError
from loqal.server.shared.resumable_streams import EventLog, ResumableStreams, window_of
from loqal.server.shared.streaming import Event, Formatter, JsonLines, ServerSentEvents, StreamedResponse, frames
from loqal.types.reply import Reply, ReplyDelta
from waiting import idle_rounds, run_in_no_time


class FakeStream:
    """A reply whose pieces come after given times; the text "!" fails."""

    def __init__(self, pieces: Iterable[tuple[float, str]]) -> None:
        self._pieces = list(pieces)
        self.progress = (0, 5)
        self.reply = object.__new__(Reply)

    async def __aiter__(self) -> AsyncIterator[ReplyDelta]:
        for wait_s, text in self._pieces:
            await asyncio.sleep(wait_s)
            if text == "!":
                raise ZeroDivisionError
            yield ReplyDelta(text=text)


class Plain(Formatter):
    def start(self) -> Iterable[Event]:
        yield Event("start")

    def push(self, index: int, delta: ReplyDelta) -> Iterable[Event]:
        yield Event(f"{index}{delta.text}")

    def end(self, index: int, reply: Reply) -> Iterable[Event]:
        yield Event(f"end{index}")

    def close(self) -> Iterable[Event]:
        yield Event("close")

    def failed(self, found: Problem) -> Iterable[Event]:
        yield Event(f"failed {found.status}")

    def idle(self, read: int, total: int) -> Iterable[Event]:
        yield Event(f"idle {read}/{total}")


async def all_of(*streams: FakeStream, **more: Any) -> list[str]:
    made = frames(streams, Plain(), more.pop("wire", ServerSentEvents), **more)  # type: ignore[arg-type]
    return [frame.decode() async for frame in made]


def test_pieces_come_in_order() -> None:
    found = run_in_no_time(all_of(FakeStream([(0, "a"), (0, "b")])))
    assert found == [f"data: {text}\n\n" for text in ("start", "0a", "0b", "end0", "close")]


def test_replies_come_beside_each_other() -> None:
    found = run_in_no_time(all_of(FakeStream([(0, "a"), (0.02, "b")]), FakeStream([(0.01, "c")])))
    assert [frame.strip()[6:] for frame in found] == ["start", "0a", "1c", "end1", "0b", "end0", "close"]


def test_an_error_is_the_last_event() -> None:
    failures: list[BaseException] = []
    found = run_in_no_time(all_of(FakeStream([(0, "a"), (0, "!"), (0, "b")]), on_failure=failures.append))
    assert [frame.strip()[6:] for frame in found] == ["start", "0a", "failed 500"]
    assert isinstance(failures[0], ZeroDivisionError)


def test_signs_of_life() -> None:
    found = run_in_no_time(all_of(FakeStream([(0.05, "a")]), idle_s=0.02))
    assert ": processed 0 of 5 prompt tokens\n\n" in found
    assert "data: idle 0/5\n\n" in found
    assert found[-3:] == ["data: 0a\n\n", "data: end0\n\n", "data: close\n\n"]
    lines = run_in_no_time(all_of(FakeStream([(0.05, "a")]), idle_s=0.02, wire=JsonLines))
    assert '"idle 0/5"\n' in lines and not any(line.startswith(":") for line in lines)


def test_events_are_numbered_where_they_are_kept() -> None:
    found = run_in_no_time(all_of(FakeStream([(0, "a")]), stream_id="s"))
    assert [frame.split("\n")[0] for frame in found] == ["id: s:1", "id: s:2", "id: s:3", "id: s:4"]
    event = ServerSentEvents.encode(Event({"ä": "\n"}, "name"), "7")
    assert event == 'id: 7\nevent: name\ndata: {"ä": "\\n"}\n\n'.encode()


async def respond(response: StreamedResponse, *, leaves_after_s: float = 60, read_s: float = 0) -> list[bytes]:
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(leaves_after_s)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b"head"))
        await asyncio.sleep(read_s)

    await response({}, receive, send)
    return sent


def response_of(texts: Iterable[tuple[float, str]], closed: list[bool], **more: Any) -> StreamedResponse:
    async def body() -> AsyncIterator[bytes]:
        for wait_s, text in texts:
            await asyncio.sleep(wait_s)
            yield text.encode()

    async def close() -> None:
        closed.append(True)

    return StreamedResponse(body(), "text/event-stream", close, **more)


def test_a_whole_answer_is_sent_and_closed() -> None:
    closed: list[bool] = []
    assert run_in_no_time(respond(response_of([(0, "a"), (0, "b")], closed))) == [b"head", b"a", b"b", b""]
    assert closed == [True]


def test_a_client_that_leaves_ends_the_request() -> None:
    closed: list[bool] = []
    sent = run_in_no_time(respond(response_of([(0, "a"), (50, "b")], closed), leaves_after_s=0.02))
    assert sent == [b"head", b"a"] and closed == [True]


def test_a_client_that_does_not_read_is_dropped() -> None:
    closed: list[bool] = []
    sent = run_in_no_time(respond(response_of([(0, "a"), (0, "b")], closed, send_s=0.02), read_s=0.01))
    assert len(sent) == 4
    sent = run_in_no_time(respond(response_of([(0, "a"), (0, "b")], closed, send_s=0.02), read_s=0.2))
    assert sent == [b"head", b"a"] and len(closed) == 2


# Kept streams ---------------------------------------------------------------------------------------------------------


def kept(
    events: Iterable[tuple[float, bytes]], closed: list[bool], window_s: float = 60
) -> tuple[ResumableStreams, str]:
    async def body(stream_id: str) -> Any:
        for wait_s, event in events:
            await asyncio.sleep(wait_s)
            yield event

    async def close() -> None:
        closed.append(True)

    streams = ResumableStreams()
    stream_id = streams.keep("me", body, close, window_s)
    assert stream_id is not None
    return streams, stream_id


def test_a_client_that_comes_back_misses_nothing() -> None:
    async def run() -> None:
        closed: list[bool] = []
        streams, stream_id = kept([(0.001, b"%d" % number) for number in range(20)], closed)
        seen = []
        async for event in streams.read(stream_id):
            seen.append(event)
            if len(seen) == 7:
                break
        await streams.left(stream_id)
        found, start = streams.find("me", f"{stream_id}:7")
        assert (found, start) == (stream_id, 7)
        seen += [event async for event in streams.read(stream_id, start)]
        assert seen == [b"%d" % number for number in range(20)]
        assert closed == [True]
        for owner, event_id in (
            ("you", f"{stream_id}:7"),
            ("me", "other:7"),
            ("me", stream_id),
            ("me", f"{stream_id}:99"),
        ):
            with pytest.raises(RefusedError):
                streams.find(owner, event_id)
        streams.close()

    run_in_no_time(run())


def test_nobody_comes_back() -> None:
    async def run() -> None:
        closed: list[bool] = []
        streams, stream_id = kept([(0, b"a"), (50, b"b")], closed, window_s=0.02)
        streams.read(stream_id)
        await streams.left(stream_id)
        await asyncio.sleep(0.019)
        assert not closed
        await asyncio.sleep(0.002)
        assert closed == [True]
        with pytest.raises(RefusedError):
            streams.find("me", f"{stream_id}:0")

    run_in_no_time(run())


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_streams, "_MAX_BYTES", 100)
    made: list[int] = []

    async def run() -> None:
        async def body(stream_id: str) -> Any:
            for number in range(50):
                made.append(number)
                yield b"%010d" % number

        async def close() -> None:
            pass

        streams = ResumableStreams()
        stream_id = streams.keep("me", body, close, 60)
        assert stream_id is not None
        await idle_rounds()
        assert len(made) == 11  # waits for a reader
        assert [int(event) async for event in streams.read(stream_id)] == list(range(50))
        with pytest.raises(RefusedError):
            streams.find("me", f"{stream_id}:1")
        assert [int(event) async for event in streams.read(*streams.find("me", f"{stream_id}:45"))] == list(
            range(45, 50)
        )
        streams.close()

    run_in_no_time(run())


def test_the_wish_to_come_back() -> None:
    assert window_of("handling=lenient, resume=30") == 30
    assert window_of("resume=999999") == resumable_streams.MAX_WINDOW_S
    for text in ("", "resume", "resume=0", "resume=-1", "resume=x"):
        assert window_of(text) is None


def test_several_readers_follow_one_log() -> None:
    async def run() -> None:
        log = EventLog()

        async def read(start: int) -> list[bytes]:
            return [frame async for frame in log.follow(start)]

        readers = [asyncio.create_task(read(start)) for start in (0, 2)]
        for number in range(4):
            log.append(b"%d" % number)
            await asyncio.sleep(0)
        log.close()
        assert await asyncio.gather(*readers) == [[b"0", b"1", b"2", b"3"], [b"2", b"3"]]
        assert await read(4) == []

    run_in_no_time(run())
