"""The server as an ASGI application over a pool of models."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as HttpRoute

from loqal import __version__
from loqal.errors import LoqalError
from loqal.server.anthropic import routes as anthropic_routes
from loqal.server.native import routes as native_routes
from loqal.server.ollama import routes as ollama_routes
from loqal.server.openai import routes as openai_routes
from loqal.server.openai_responses import routes as responses_routes
from loqal.server.openapi import openapi
from loqal.server.service.auth import Addresses, Key
from loqal.server.service.middleware import RequestMiddleware
from loqal.server.service.model_pool import Pool
from loqal.server.service.request_context import ClientGoneError, Dialect, RequestContext, Route, kept_response
from loqal.server.service.state import ServerState
from loqal.server.shared.errors import Kind, Problem, RefusedError, problem
from loqal.server.shared.generation_request import Body, Warnings, read_body
from loqal.server.shared.streaming import ServerSentEvents
from loqal.settings import ServerSettings

DIALECTS: tuple[Dialect, ...] = (
    openai_routes.DIALECT,
    responses_routes.DIALECT,
    anthropic_routes.DIALECT,
    ollama_routes.DIALECT,
    native_routes.DIALECT,
)

_BIG_BODY = 1 << 18  # parsed beside the event loop
_TIDY_S = 1.0
_BODY_S, _SLOWEST_BYTES_PER_S = 30.0, 1 << 16
_log = logging.getLogger("loqal.server")


def create_app(
    pool: Pool,
    settings: ServerSettings | None = None,
    keys: Iterable[Key] = (),
    *,
    dialects: tuple[Dialect, ...] = DIALECTS,
) -> Starlette:
    """The application. Nothing is loaded or opened here.

    Args:
        pool: where models come from.
        keys: who may call; without any, everybody.
    """
    settings = settings or ServerSettings()
    state = ServerState(pool, settings, keys)
    middleware = Middleware(
        RequestMiddleware, addresses=Addresses(settings), metrics=state.metrics, error=openai_routes.DIALECT.error
    )
    app = Starlette(
        routes=[
            HttpRoute(route.path, _endpoint(dialect, route, state), methods=[route.method], include_in_schema=False)
            for dialect in dialects
            for route in dialect.routes
        ],
        middleware=[middleware],
        exception_handlers={HTTPException: _no_route},
        lifespan=lambda _: _lifespan(state),
    )
    app.state.page = functools.cache(lambda: openapi(dialects, __version__))
    return app


async def _no_route(http: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind: Kind = "not_found" if error.status_code == 404 else "invalid_request"
    found = Problem(kind, f"{error.detail}.", status=error.status_code)
    return JSONResponse(openai_routes.DIALECT.error(found, ""), error.status_code, error.headers)


@asynccontextmanager
async def _lifespan(state: ServerState) -> AsyncIterator[None]:
    async def tidy() -> None:
        while True:
            await asyncio.sleep(_TIDY_S)
            await state.pool.tidy()

    tidying = asyncio.create_task(tidy())
    try:
        yield
    finally:
        for task in (tidying, *state.tasks):
            task.cancel()
        await asyncio.gather(tidying, *state.tasks, return_exceptions=True)
        state.streams.close()
        await state.pool.close()


def _endpoint(dialect: Dialect, route: Route, state: ServerState) -> Callable[[Request], Awaitable[Response]]:
    async def handle(http: Request) -> Response:
        call = RequestContext(http.state.id, http, state, facts=http.state.warnings)
        call.on_failure = lambda error: _report(call, error)
        try:
            call.client = state.guard.admit(http.headers, route.scope)
            call.warnings = Warnings(_is_lenient(http, state.settings.lenient))
            if route.wire is ServerSentEvents and "last-event-id" in http.headers:
                found = state.streams.find(call.client.name, http.headers["last-event-id"])
                return kept_response(state, *found)
            if route.body is None:
                return await route.handler(call)
            return await route.handler(call, await _body(call, route.body))
        except ClientGoneError:
            return Response(status_code=499)
        except Exception as error:
            call.on_failure(error)
            wrong = problem(error)
            return JSONResponse(dialect.error(wrong, call.id), wrong.status, dict(wrong.headers))

    return handle


def _report(call: RequestContext, error: BaseException) -> None:
    call.facts["error"] = type(error).__name__
    if not isinstance(error, LoqalError):
        _log.error("%s failed", call.id, exc_info=error)


def _is_lenient(http: Request, default: bool) -> bool:
    """See RFC 7240."""
    wishes = [wish.strip().lower() for wish in http.headers.get("prefer", "").split(",")]
    return "handling=lenient" in wishes or (default and "handling=strict" not in wishes)


async def _body(call: RequestContext, kind: type[Body]) -> Body:
    data = await _read(call.http, call.state)
    try:
        if len(data) < _BIG_BODY:
            return read_body(kind, data, call.warnings)
        return await asyncio.to_thread(read_body, kind, data, call.warnings)
    finally:
        call.state.concurrency.read(-len(data))


async def _read(http: Request, state: ServerState) -> bytes:
    """The bytes of a body, bounded in number and in time. They count as read until the caller gives them back."""
    most = state.settings.max_body_bytes
    declared = http.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size, loop = 0, asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(_BODY_S) as limit:
            async for part in http.stream():
                state.concurrency.read(len(part))
                parts.append(part)
                size += len(part)
                if size > most:
                    raise _too_large(most)
                limit.reschedule(started + _BODY_S + size / _SLOWEST_BYTES_PER_S)
    except BaseException as error:
        state.concurrency.read(-size)
        if isinstance(error, TimeoutError):
            raise RefusedError("timeout", "The body came too slowly.", f"Of it {size:,} bytes came.") from error
        if isinstance(error, ClientDisconnect):
            raise ClientGoneError from error
        raise
    return b"".join(parts)


def _too_large(most: int) -> RefusedError:
    return RefusedError("too_large", "The body is too large.", f"At most {most:,} bytes are read.", "Send less.")
