"""The ASGI application: the routes of all dialects over a pool of models."""

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
from loqal.server.service.dialect import Dialect, Route
from loqal.server.service.middleware import RequestMiddleware
from loqal.server.service.model_pool import Pool
from loqal.server.service.request_context import ClientGoneError, RequestContext
from loqal.server.service.state import ServerState
from loqal.server.shared.body import Body, Warnings, read_body
from loqal.server.shared.errors import Kind, Problem, RefusedError, openai_error, problem
from loqal.server.shared.streaming import ServerSentEvents
from loqal.settings import ServerSettings

DIALECTS: tuple[Dialect, ...] = (
    openai_routes.DIALECT,
    responses_routes.DIALECT,
    anthropic_routes.DIALECT,
    ollama_routes.DIALECT,
    native_routes.DIALECT,
)

_LARGE_BODY_BYTES = 1 << 18  # parsed in a worker thread from this size on
_IDLE_CHECK_S = 1.0
_BODY_S, _MIN_BYTES_PER_S = 30.0, 1 << 16
_log = logging.getLogger("loqal.server")


def create_app(
    pool: Pool,
    settings: ServerSettings | None = None,
    keys: Iterable[Key] = (),
    *,
    dialects: tuple[Dialect, ...] = DIALECTS,
) -> Starlette:
    """The application. It loads no model and opens no socket.

    Args:
        pool: the served models.
        settings: None for the defaults.
        keys: the valid API keys; without any, no key is required.
        dialects: the APIs to serve.
    """
    settings = settings or ServerSettings()
    state = ServerState(pool, settings, keys)
    middleware = Middleware(RequestMiddleware, addresses=Addresses(settings), metrics=state.metrics, error=openai_error)
    app = Starlette(
        routes=[
            HttpRoute(route.path, _endpoint(dialect, route, state), methods=[route.method], include_in_schema=False)
            for dialect in dialects
            for route in dialect.routes
        ],
        middleware=[middleware],
        exception_handlers={HTTPException: _http_error},
        lifespan=lambda _: _lifespan(state),
    )
    app.state.openapi = functools.cache(lambda: openapi(dialects, __version__))
    return app


async def _http_error(http: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind: Kind = "not_found" if error.status_code == 404 else "invalid_request"
    lines = (
        f"The server cannot answer {http.method} {http.url.path[:200]!r}.",
        f"{error.detail}.",
        "See /openapi.json for the routes and their methods.",
    )
    found = Problem(kind, "\n".join(lines), status=error.status_code)
    return JSONResponse(openai_error(found, ""), error.status_code, error.headers)


@asynccontextmanager
async def _lifespan(state: ServerState) -> AsyncIterator[None]:
    async def unload_idle() -> None:
        while True:
            await asyncio.sleep(_IDLE_CHECK_S)
            await state.pool.unload_idle()

    unloading = asyncio.create_task(unload_idle())
    try:
        yield
    finally:
        for task in (unloading, *state.tasks):
            task.cancel()
        await asyncio.gather(unloading, *state.tasks, return_exceptions=True)
        state.streams.close()
        await state.pool.close()


def _endpoint(dialect: Dialect, route: Route, state: ServerState) -> Callable[[Request], Awaitable[Response]]:
    async def handle(http: Request) -> Response:
        context = RequestContext(http.state.id, http, state, facts=http.state.facts)
        context.on_failure = lambda error: _report(context, error)
        try:
            context.client = state.authenticator.admit(http.headers, route.scope)
            context.warnings = Warnings(_is_lenient(http, state.settings.lenient))
            if route.wire is ServerSentEvents and "last-event-id" in http.headers:
                return context.resumed(*state.streams.find(context.client.name, http.headers["last-event-id"]))
            if route.body is None:
                return await route.handler(context)
            return await route.handler(context, await _body(context, route.body))
        except ClientGoneError:
            return Response(status_code=499)
        except Exception as error:
            context.on_failure(error)
            found = problem(error)
            return JSONResponse(dialect.error(found, context.id), found.status, dict(found.headers))

    return handle


def _report(context: RequestContext, error: BaseException) -> None:
    context.facts["error"] = type(error).__name__
    if not isinstance(error, LoqalError):
        _log.error("Request %s failed with an unexpected error.", context.id, exc_info=error)


def _is_lenient(http: Request, default: bool) -> bool:
    """Whether the Prefer header (RFC 7240) or the server's setting requests lenient handling."""
    preferences = [one.strip().lower() for one in http.headers.get("prefer", "").split(",")]
    return "handling=lenient" in preferences or (default and "handling=strict" not in preferences)


async def _body(context: RequestContext, kind: type[Body]) -> Body:
    data = await _read(context.http, context.state)
    try:
        if len(data) < _LARGE_BODY_BYTES:
            return read_body(kind, data, context.warnings)
        return await asyncio.to_thread(read_body, kind, data, context.warnings)
    finally:
        context.state.concurrency.read(-len(data))


async def _read(http: Request, state: ServerState) -> bytes:
    """The bytes of a body within limits of size and time. They count as in flight until the caller releases them."""
    limit = state.settings.max_body_bytes
    declared = http.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size, loop = 0, asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(_BODY_S) as timer:
            async for part in http.stream():
                state.concurrency.read(len(part))
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                timer.reschedule(started + _BODY_S + size / _MIN_BYTES_PER_S)
    except BaseException as error:
        state.concurrency.read(-size)
        if isinstance(error, TimeoutError):
            raise RefusedError(
                "timeout",
                "The request body arrived too slowly.",
                f"{size:,} bytes arrived; after {_BODY_S:.0f} s the minimum is {_MIN_BYTES_PER_S:,} bytes/s.",
                "Send a smaller body, or use a faster connection.",
            ) from error
        if isinstance(error, ClientDisconnect):
            raise ClientGoneError from error
        raise
    return b"".join(parts)


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        "too_large",
        "The request body is too large.",
        f"The maximum is {limit:,} bytes.",
        "Send a smaller body, or raise --max-body-bytes.",
    )
