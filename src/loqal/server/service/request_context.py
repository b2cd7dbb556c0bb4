"""The context of one HTTP request: what handlers use to run replies, stream them and answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loqal.runtime.reply_stream import ReplyStream
from loqal.runtime.runtime import Runtime
from loqal.server.service.auth import Client
from loqal.server.service.state import ServerState
from loqal.server.shared.body import Warnings
from loqal.server.shared.embeddings import EmbeddingRequest, Vectors, embed
from loqal.server.shared.generation_request import ChatRequest, GenerationRequest
from loqal.server.shared.prompt_length import check_length
from loqal.server.shared.resumable_streams import window_of
from loqal.server.shared.streaming import (
    Event,
    Formatter,
    ServerSentEvents,
    StreamedResponse,
    Wire,
    disconnected,
    frames,
)
from loqal.types.reply import Rendered, Reply


class ClientGoneError(Exception):
    """The client disconnected before the response was complete."""


class RunningGeneration:
    """The replies of one request while they are generated, with the resources they hold.

    Attributes:
        load_ns: how long the request waited for the model to load.
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
        """The number of tokens of the (first) prompt."""
        return self.streams[0].progress[1]

    async def close(self) -> None:
        """Cancel unfinished replies and release resources. A second call does nothing."""
        for stream in self.streams:
            stream.close()
        on_close, self._on_close = self._on_close, lambda replies: None
        on_close([stream.reply for stream in self.streams])


def _events(streams: Sequence[ReplyStream], formatter: Formatter) -> Iterator[Event]:
    """The events of finished replies."""
    yield from formatter.start()
    for index, stream in enumerate(streams):
        for delta in stream.pieces:
            yield from formatter.push(index, delta)
        yield from formatter.end(index, stream.reply)
    yield from formatter.close()


@dataclass(slots=True)
class RequestContext:
    """One request, for its handler.

    Attributes:
        id: the request's id, which response headers and the log contain.
        warnings: warnings of the request; ``json`` and streams add them to the response.
        facts: fields for the log; never content.
    """

    id: str
    http: Request
    state: ServerState
    client: Client = field(default_factory=Client)
    warnings: Warnings = field(default_factory=Warnings)
    facts: dict[str, Any] = field(default_factory=dict)
    on_failure: Callable[[BaseException], None] = lambda error: None

    def json(self, value: Any, status: int = 200) -> Response:
        """A JSON response, with the warnings if there are any."""
        if self.warnings.warnings:
            value = {**value, "warnings": self.warnings.warnings}
        return JSONResponse(value, status)

    # Replies --------------------------------------------------------------------------------------------------------

    async def begin(self, request: GenerationRequest) -> RunningGeneration:
        """Start the replies; ``stream`` or ``finish`` must follow. Raises LoqalError."""
        started = time.monotonic()
        self.facts |= {"model": request.model, "client": self.client.name}
        chat = self._with_tokens(request) if isinstance(request, ChatRequest) else None
        request = chat or request
        with ExitStack() as undo:
            self.state.concurrency.enter(request.num_replies)
            undo.callback(lambda: self.state.concurrency.leave(request.num_replies, time.monotonic() - started))
            load_started = time.perf_counter_ns()
            runtime = await self.state.pool.acquire(request.model)
            load_ns = time.perf_counter_ns() - load_started
            undo.callback(lambda: self.state.pool.release(request.model))
            async with self.state.media if request.num_media else nullcontext():
                await asyncio.to_thread(request.check_length, runtime)
                streams = await asyncio.to_thread(request.starter(runtime, self.client.name))
            resources = undo.pop_all()
        self._tell(warning for stream in streams for warning in stream.warnings)

        def on_close(replies: list[Reply]) -> None:
            resources.close()
            self._count(request.model, replies)
            if chat is not None:
                for reply in replies:
                    self.state.replies.keep(self.client.name, chat, reply)

        return RunningGeneration(runtime, streams, on_close, load_ns=load_ns)

    def stream(self, generation: RunningGeneration, formatter: Formatter, wire: Wire) -> Response:
        """A response that sends the replies event by event."""

        def body(stream_id: str | None = None) -> AsyncGenerator[bytes, None]:
            return frames(generation.streams, formatter, wire, stream_id=stream_id, on_failure=self.on_failure)

        window_s = window_of(self.http.headers.get("prefer", ""))
        if window_s is not None and wire is ServerSentEvents:
            stream_id = self.state.streams.keep(self.client.name, body, generation.close, window_s)
            if stream_id is not None:
                return self.resumed(stream_id)
        return StreamedResponse(body(), wire.media_type, generation.close)

    def resumed(self, stream_id: str, start: int = 0) -> Response:
        """A response that sends the events of a resumable stream from number ``start`` on."""
        return StreamedResponse(
            self.state.streams.read(stream_id, start),
            ServerSentEvents.media_type,
            lambda: self.state.streams.left(stream_id),
            headers={"Preference-Applied": "resume"},
        )

    async def finish(self, generation: RunningGeneration, formatter: Formatter) -> None:
        """Wait for the replies and pass them through the formatter, whose events are dropped.

        The formatter then holds the whole response. Raises LoqalError, and ClientGoneError when the client disconnects.
        """
        await self._finished(generation)
        for _ in _events(generation.streams, formatter):
            pass

    async def _finished(self, generation: RunningGeneration) -> None:
        watcher = asyncio.ensure_future(disconnected(self.http.receive))
        finished = asyncio.gather(*(stream.finish_async() for stream in generation.streams))
        try:
            await asyncio.wait((finished, watcher), return_when=asyncio.FIRST_COMPLETED)
            if not finished.done():
                raise ClientGoneError
            await finished
            self._tell(warning for stream in generation.streams for warning in stream.reply.warnings)
        finally:
            for task in (finished, watcher):
                task.cancel()
            await asyncio.gather(finished, watcher, return_exceptions=True)
            await generation.close()

    def _tell(self, warnings: Iterable[str]) -> None:
        """Add warnings of the replies to those of the request, each once."""
        self.warnings.warnings += [one for one in dict.fromkeys(warnings) if one not in self.warnings.warnings]

    def _count(self, model: str, replies: list[Reply]) -> None:
        for reply in replies:
            self.state.metrics.replied(model, reply)
        prompt_tokens = sum(reply.usage.prompt_tokens for reply in replies)
        completion_tokens = sum(reply.usage.completion_tokens for reply in replies)
        self.state.authenticator.spend(self.client, prompt_tokens + completion_tokens)
        self.facts |= {
            "prompt_tokens": prompt_tokens,
            "cached_tokens": sum(reply.usage.cached_tokens for reply in replies),
            "completion_tokens": completion_tokens,
            "ended": ",".join(sorted({reply.finish_reason.value for reply in replies})),
        }

    def _with_tokens(self, request: ChatRequest) -> ChatRequest:
        """The request with the exact tokens of the replies in it that this server generated."""
        return self.state.replies.recall(self.client.name, request)

    # Everything else ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def model(self, name: str) -> AsyncIterator[Runtime]:
        """A model for computations other than replies. Raises RefusedError and LoqalError."""
        started = time.monotonic()
        self.facts |= {"model": name, "client": self.client.name}
        self.state.concurrency.enter(1)
        try:
            runtime = await self.state.pool.acquire(name)
            try:
                yield runtime
            finally:
                self.state.pool.release(name)
        finally:
            self.state.concurrency.leave(1, time.monotonic() - started)

    async def render(self, request: ChatRequest) -> Rendered:
        """The prompt that a conversation becomes. Nothing is computed. Raises LoqalError."""
        messages = self._with_tokens(request).messages

        def render(runtime: Runtime) -> Rendered:
            check_length(runtime, request.texts())
            return runtime.render(messages, options=request.options)

        async with self.model(request.model) as runtime, self.state.media if request.num_media else nullcontext():
            return await asyncio.to_thread(render, runtime)

    async def embed(self, request: EmbeddingRequest) -> tuple[Vectors, int]:
        """Vectors [N D] of texts, and the number of their tokens. Raises LoqalError."""
        async with self.model(request.model) as runtime:
            vectors, num_tokens = await embed(runtime, request, self.check_connected)
        self.spend(num_tokens)
        return vectors, num_tokens

    async def check_connected(self) -> None:
        """Raise ClientGoneError when the client has disconnected."""
        if await self.http.is_disconnected():
            raise ClientGoneError

    def spend(self, num_tokens: int) -> None:
        """Count prompt tokens that were processed outside ``begin``."""
        self.state.authenticator.spend(self.client, num_tokens)
        self.facts["prompt_tokens"] = self.facts.get("prompt_tokens", 0) + num_tokens
