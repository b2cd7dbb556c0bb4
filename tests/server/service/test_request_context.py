"""What a request holds while it is answered, and that it gives all of it back however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from loqal.errors import CapacityError
from loqal.server.service.auth import Client
from loqal.server.service.request_context import ClientGoneError, RequestContext, RunningGeneration
from loqal.server.service.state import ServerState
from loqal.server.shared.errors import RefusedError
from loqal.server.shared.streaming import Formatter, ServerSentEvents
from loqal.settings import ServerSettings
from loqal.types.reply import FinishReason, Reply, ReplyDelta, Timings, Usage
from waiting import idle_rounds


def reply(text: str = "a") -> Reply:
    return Reply(text, "", (1,), FinishReason.STOP, Usage(10, 3, cached_tokens=4), Timings(0, 0, 0, 0), 0)


class Stream:
    """A reply that is written when a test says so."""

    def __init__(self, *, ready: bool = True, error: Exception | None = None) -> None:
        self._done, self._error = asyncio.Event(), error
        self.progress, self.pieces, self.closed = (0, 10), [ReplyDelta(text="a")], 0
        self.reply, self.warnings = reply(), ()
        if ready:
            self._done.set()

    async def finish_async(self) -> Reply:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self.reply

    async def __aiter__(self) -> Any:
        await self._done.wait()
        for piece in self.pieces:
            yield piece

    def close(self) -> None:
        self.closed += 1


class Asked:
    """What a dialect hands over."""

    model, num_media = "tiny", 0

    def __init__(self, streams: Callable[[], Sequence[Stream]], num_replies: int = 1) -> None:
        self._streams, self.num_replies = streams, num_replies
        self.begun: list[tuple[Any, str]] = []

    def check_length(self, runtime: Any) -> None:
        pass

    def starter(self, runtime: Any, client: str) -> Callable[[], Any]:
        self.begun.append((runtime, client))
        return lambda: list(self._streams())


class Pool:
    """One model, and how often it is in use."""

    def __init__(self, error: Exception | None = None) -> None:
        self.in_use, self._error = 0, error

    async def acquire(self, name: str) -> Any:
        if self._error is not None:
            raise self._error
        self.in_use += 1
        return f"the model {name}"

    def release(self, name: str) -> None:
        self.in_use -= 1


class Http:
    """The connection of a client that may leave."""

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self.headers, self.leaves = headers or {}, asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def is_disconnected(self) -> bool:
        return self.leaves.is_set()


class Rig:
    def __init__(self, pool: Pool | None = None, most: int = 2, http: Http | None = None) -> None:
        self.pool, self.http = pool or Pool(), http or Http()
        self.state = ServerState(self.pool, ServerSettings(max_requests=most))  # type: ignore[arg-type]
        self.call = RequestContext("req_1", self.http, self.state, Client("me"))  # type: ignore[arg-type]

    async def answer(self, ask: Any) -> RunningGeneration:
        """Begin, wait for all of it, and let go."""
        work = await self.call.begin(ask)
        await self.call.finish(work, Formatter())
        return work

    def is_free(self) -> bool:
        """Whether all that a request held was given back."""
        self.state.concurrency.enter(2)
        self.state.concurrency.leave(2, 0.0)
        return self.pool.in_use == 0


def run(work: Callable[[], Any]) -> None:
    asyncio.run(work())


def test_complete_replies() -> None:
    async def scene() -> None:
        rig, stream = Rig(), Stream()
        ask = Asked(lambda: [stream])
        work = await rig.answer(ask)
        assert [one.reply for one in work.streams] == [stream.reply]
        assert work.runtime == "the model tiny" == ask.begun[0][0]
        assert stream.closed and rig.is_free()
        facts = rig.call.facts
        assert (facts["model"], facts["client"], facts["ended"]) == ("tiny", "me", "stop")
        assert (facts["prompt_tokens"], facts["cached_tokens"], facts["completion_tokens"]) == (10, 4, 3)

    run(scene)


def test_a_client_that_leaves_cancels_its_replies() -> None:
    async def scene() -> None:
        rig, stream = Rig(), Stream(ready=False)
        asking = asyncio.ensure_future(rig.answer(Asked(lambda: [stream])))  # type: ignore[arg-type]
        while not rig.pool.in_use and not asking.done():
            await asyncio.sleep(0)
        rig.http.leaves.set()
        with pytest.raises(ClientGoneError):
            await asking
        assert stream.closed and rig.is_free()

    run(scene)


def test_errors_on_the_way_give_everything_back() -> None:
    async def scene() -> None:
        def fail() -> list[Stream]:
            raise ZeroDivisionError

        short = CapacityError("no memory", "why", "fix")
        cases: list[tuple[Rig, Any, type[Exception]]] = [
            (Rig(Pool(short)), Asked(lambda: [Stream()]), CapacityError),
            (Rig(), Asked(fail), ZeroDivisionError),
            (Rig(), Asked(lambda: [Stream(), Stream(error=ZeroDivisionError())], 2), ZeroDivisionError),
            (Rig(), Asked(list, 3), RefusedError),
        ]
        for rig, ask, kind in cases:
            with pytest.raises(kind):
                await rig.answer(ask)
            assert rig.is_free()

    run(scene)


def test_a_stream_holds_until_it_is_sent() -> None:
    async def scene() -> None:
        rig, stream = Rig(), Stream()
        work = await rig.call.begin(Asked(lambda: [stream]))  # type: ignore[arg-type]
        response = rig.call.stream(work, Formatter(), ServerSentEvents)
        assert rig.pool.in_use == 1
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await response({"type": "http"}, rig.http.receive, send)
        assert stream.closed and rig.is_free()
        assert sent[0]["status"] == 200 and not sent[-1]["more_body"]

    run(scene)


def test_a_stream_that_may_be_resumed_outlives_its_connection() -> None:
    async def scene() -> None:
        rig, stream = Rig(http=Http({"prefer": "resume=30"})), Stream(ready=False)
        work = await rig.call.begin(Asked(lambda: [stream]))  # type: ignore[arg-type]
        response = rig.call.stream(work, Formatter(), ServerSentEvents)
        assert response.headers["preference-applied"] == "resume"
        rig.http.leaves.set()

        async def send(message: Any) -> None:
            pass

        await response({"type": "http"}, rig.http.receive, send)
        assert not stream.closed and rig.pool.in_use == 1
        rig.state.streams.close()
        await idle_rounds()
        assert stream.closed and rig.is_free()

    run(scene)


def test_a_model_for_other_work() -> None:
    async def scene() -> None:
        rig = Rig(most=2)
        async with rig.call.model("tiny") as runtime:
            assert runtime == "the model tiny" and rig.pool.in_use == 1
        assert rig.is_free()
        with pytest.raises(ZeroDivisionError):
            async with rig.call.model("tiny"):
                raise ZeroDivisionError
        assert rig.is_free()

    run(scene)


def test_warnings_go_with_an_answer() -> None:
    async def scene() -> None:
        rig = Rig()
        assert rig.call.json({"a": 1}, 201).body == b'{"a":1}' and rig.call.json({}, 201).status_code == 201
        rig.call.warnings.warn("field", "is ignored")
        assert b'"warnings":' in rig.call.json({"a": 1}).body

    run(scene)
