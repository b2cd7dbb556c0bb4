"""What a dialect is, and what its handlers are given.

A dialect is a table of routes and the shape of its errors. A handler turns its body into a ``GenerationRequest``,
and the reply or its pieces into the dialect's own shape (pure); ``RequestContext`` does what lies between.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loqal.runtime.reply_stream import ReplyStream
from loqal.runtime.runtime import Runtime
from loqal.server.service.auth import Client, Scope
from loqal.server.service.conversation_store import Store
from loqal.server.service.model_pool import Pool
from loqal.server.service.state import ServerState
from loqal.server.shared.errors import Problem
from loqal.server.shared.generation_request import Body, ChatRequest, GenerationRequest, Warnings, check_length
from loqal.server.shared.resumable_streams import window_of
from loqal.server.shared.streaming import Event, Formatter, ServerSentEvents, StreamedResponse, Wire, frames, gone
from loqal.types.reply import Rendered, Reply

Writer = TypeVar("Writer", bound=Formatter)


@dataclass(frozen=True, slots=True)
class Route:
    """One verb and path. ``handler`` takes a Call, and the body where there is one.

    ``answer`` and ``event`` describe the JSON of an answer and of each event on the ``wire``, for the OpenAPI page.
    """

    method: str
    path: str
    scope: Scope
    handler: Callable[..., Awaitable[Response]]
    summary: str
    body: type[Body] | None = None
    answer: type[BaseModel] | None = None
    event: type[BaseModel] | None = None
    wire: Wire | None = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Routes that belong together. ``error`` gives the JSON of an error from it and the id of the request."""

    name: str
    routes: tuple[Route, ...]
    error: Callable[[Problem, str], Any]


def kept_response(state: ServerState, stream_id: str, start: int = 0) -> Response:
    """What a reader of a kept stream is sent, from the event with the number ``start`` on."""
    return StreamedResponse(
        state.streams.read(stream_id, start),
        ServerSentEvents.media_type,
        lambda: state.streams.left(stream_id),
        headers={"Preference-Applied": "resume"},
    )


class ClientGoneError(Exception):
    """The client left before its answer was complete."""


class RunningGeneration:
    """The replies of one request while they are written, and what they hold: room, and a model kept loaded.

    ``load_ns`` is how long the request waited for the model.
    """

    def __init__(
        self,
        runtime: Runtime,
        streams: list[ReplyStream],
        on_close: Callable[[list[Reply]], None],
        *,
        load_ns: int = 0,
    ) -> None:
        self.runtime, self.streams, self._on_close = runtime, streams, on_close
        self.load_ns = load_ns

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt; of the first, where there are several."""
        return self.streams[0].progress[1]

    async def close(self) -> None:
        """Cancel what is not finished and let go of the rest. Closing twice does nothing."""
        for stream in self.streams:
            stream.close()
        on_close, self._on_close = self._on_close, lambda replies: None
        on_close([stream.reply for stream in self.streams])


@dataclass(slots=True)
class RequestContext:
    """One request to a handler.

    Attributes:
        id: its own, in the answer's headers and in the log.
        warnings: collects warnings; ``json`` and streams add them to the answer.
        facts: what the log says of this request; never what it said.
    """

    id: str
    http: Request
    state: ServerState
    client: Client = field(default_factory=Client)
    warnings: Warnings = field(default_factory=Warnings)
    facts: dict[str, Any] = field(default_factory=dict)
    on_failure: Callable[[BaseException], None] = lambda error: None

    @property
    def pool(self) -> Pool:
        """The models of the server."""
        return self.state.pool

    def json(self, value: Any, status: int = 200) -> Response:
        """An answer, with the warnings if there are any."""
        if self.warnings.warnings:
            value = {**value, "warnings": self.warnings.warnings}
        return JSONResponse(value, status)

    async def replies(self, ask: GenerationRequest) -> tuple[list[Reply], Runtime]:
        """All replies, complete, and the model they are from. A client that leaves cancels them. Raises LoqalError."""
        work = await self.finished(ask)
        return [stream.reply for stream in work.streams], work.runtime

    async def written(self, ask: GenerationRequest, formatter: Callable[[RunningGeneration], Writer]) -> Writer:
        """A formatter that has seen all of the replies: what it has written is what its events would have said."""
        work = await self.finished(ask)
        writer = formatter(work)
        events: list[Iterable[Event]] = [writer.start()]
        for index, stream in enumerate(work.streams):
            events += [writer.push(index, piece) for piece in stream.pieces]
            events.append(writer.end(index, stream.reply))
        deque(chain(chain.from_iterable(events), writer.close()), maxlen=0)
        return writer

    async def finished(self, ask: GenerationRequest) -> RunningGeneration:
        """Replies that are complete. A client that leaves cancels them. Raises LoqalError."""
        work = await self.begin(ask)
        watcher = asyncio.ensure_future(gone(self.http.receive))
        finished = asyncio.gather(*(stream.finish_async() for stream in work.streams))
        try:
            await asyncio.wait((finished, watcher), return_when=asyncio.FIRST_COMPLETED)
            if not finished.done():
                raise ClientGoneError
            await finished
            return work
        finally:
            for task in (finished, watcher):
                task.cancel()
            await asyncio.gather(finished, watcher, return_exceptions=True)
            await work.close()

    async def stream(
        self, ask: GenerationRequest, formatter: Callable[[RunningGeneration], Formatter], wire: Wire
    ) -> Response:
        """The replies event by event. Raises LoqalError while nothing was sent yet."""
        work = await self.begin(ask)

        def body(stream_id: str | None = None) -> AsyncGenerator[bytes, None]:
            return frames(work.streams, formatter(work), wire, stream_id=stream_id, on_failure=self.on_failure)

        window_s = window_of(self.http.headers.get("prefer", ""))
        if window_s is not None and wire is ServerSentEvents:
            stream_id = self.state.streams.keep(self.client.name, body, work.close, window_s)
            if stream_id is not None:
                return kept_response(self.state, stream_id)
        return StreamedResponse(body(), wire.media_type, work.close)

    async def begin(self, ask: GenerationRequest) -> RunningGeneration:
        """Start the replies. The caller closes the work. Raises LoqalError."""
        started = time.monotonic()
        self.facts |= {"model": ask.model, "client": self.client.name}
        chat = self.recalled(ask) if isinstance(ask, ChatRequest) else None
        ask = chat or ask
        with ExitStack() as undo:
            self.state.concurrency.enter(ask.num_replies)
            undo.callback(lambda: self.state.concurrency.leave(ask.num_replies, time.monotonic() - started))
            taking = time.perf_counter_ns()
            runtime = await self.pool.take(ask.model)
            load_ns = time.perf_counter_ns() - taking
            undo.callback(lambda: self.pool.give_back(ask.model))
            async with self.state.media if ask.num_media else nullcontext():
                streams = await asyncio.to_thread(ask.begin, runtime, self.client.name)
            held = undo.pop_all()

        def on_close(replies: list[Reply]) -> None:
            held.close()
            self._count(ask.model, replies)
            if chat is not None:
                for reply in replies:
                    self.state.replies.keep(self.client.name, chat, reply)

        return RunningGeneration(runtime, streams, on_close, load_ns=load_ns)

    def _count(self, model: str, replies: list[Reply]) -> None:
        for reply in replies:
            self.state.metrics.replied(model, reply)
        prompt_tokens = sum(reply.usage.prompt_tokens for reply in replies)
        completion_tokens = sum(reply.usage.completion_tokens for reply in replies)
        self.state.guard.spend(self.client, prompt_tokens + completion_tokens)
        self.facts |= {
            "prompt_tokens": prompt_tokens,
            "cached_tokens": sum(reply.usage.cached_tokens for reply in replies),
            "completion_tokens": completion_tokens,
            "ended": ",".join(sorted({reply.finish_reason.value for reply in replies})),
        }

    @asynccontextmanager
    async def model(self, name: str) -> AsyncIterator[Runtime]:
        """A model for work that writes no replies. Raises RefusedError and LoqalError."""
        started = time.monotonic()
        self.facts |= {"model": name, "client": self.client.name}
        self.state.concurrency.enter(1)
        try:
            runtime = await self.pool.take(name)
            try:
                yield runtime
            finally:
                self.pool.give_back(name)
        finally:
            self.state.concurrency.leave(1, time.monotonic() - started)

    async def still_there(self) -> None:
        """Raise ClientGoneError when the client has left."""
        if await self.http.is_disconnected():
            raise ClientGoneError

    def spend(self, num_tokens: int) -> None:
        """Count tokens of a prompt that was read outside ``begin``."""
        self.state.guard.spend(self.client, num_tokens)
        self.facts["prompt_tokens"] = self.facts.get("prompt_tokens", 0) + num_tokens

    async def rendered(self, ask: ChatRequest) -> Rendered:
        """What a conversation becomes before the model reads it. Nothing is computed. Raises LoqalError."""
        messages = self.recalled(ask).messages

        def render(runtime: Runtime) -> Rendered:
            check_length(runtime, ask.texts())
            return runtime.render(messages, turn=ask.turn)

        async with self.model(ask.model) as runtime, self.state.media if ask.num_media else nullcontext():
            return await asyncio.to_thread(render, runtime)

    def recalled(self, ask: ChatRequest) -> ChatRequest:
        """A conversation with the tokens of the replies in it that were written here."""
        return self.state.replies.recall(self.client.name, ask)

    @property
    def kept(self) -> Store[Any]:
        """What requests of this server left for later ones to follow."""
        return self.state.kept
