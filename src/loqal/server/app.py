"""The server as an ASGI application over a pool of models."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from .. import __version__
from ..errors import LoqalError
from . import anthropic, ollama, openai, responses
from .dialect import Call, ClientGoneError, Dialect, Route
from .errors import Problem, RefusedError, problem
from .pool import Pool
from .request import Notes, read_body
from .store import Store

DIALECTS: tuple[Dialect, ...] = (openai.DIALECT, responses.DIALECT, anthropic.DIALECT, ollama.DIALECT)

_REF = "#/components/schemas/{model}"
_BIG_BODY = 1 << 18  # parsed beside the event loop
_MAX_BODY = 64 << 20
_log = logging.getLogger("loqal.server")


def create_app(pool: Pool, *, dialects: tuple[Dialect, ...] = DIALECTS, lenient: bool = False) -> FastAPI:
    """The application. Nothing is loaded or opened here.

    Args:
        pool: where models come from.
        lenient: leave out what is not supported and say so in ``warnings``, rather than refusing the request.
    """
    app = FastAPI(title="loqal", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.kept = Store[Any]()
    routes = [(dialect, route) for dialect in dialects for route in dialect.routes]
    for dialect, route in routes:
        endpoint = _endpoint(dialect, route, pool, lenient)
        app.add_api_route(
            route.path,
            endpoint,
            methods=[route.method],
            name=f"{dialect.name} {route.method} {route.path}",
            operation_id=f"{dialect.name}_{route.handler.__name__}",
            summary=route.summary,
            tags=[dialect.name],
            response_class=JSONResponse,
            responses=_answers(route),
            openapi_extra=_request(route),
        )
    _declare(app, [route.body for _, route in routes if route.body is not None])

    @app.exception_handler(HTTPException)
    async def no_route(http: Request, error: HTTPException) -> Response:
        kinds: dict[int, Any] = {404: "not_found"}
        found = Problem(kinds.get(error.status_code, "invalid_request"), f"{error.detail}.", status=error.status_code)
        return JSONResponse(openai.DIALECT.error(found, ""), error.status_code, error.headers)

    return app


def _endpoint(dialect: Dialect, route: Route, pool: Pool, lenient: bool) -> Callable[[Request], Awaitable[Response]]:
    async def handle(http: Request) -> Response:
        call = Call(f"req_{secrets.token_hex(12)}", http, pool, notes=Notes(_is_lenient(http, lenient)))
        call.on_failure = lambda error: _report(call, error)
        try:
            if route.body is None:
                return await route.handler(call)
            data = await _read(http)
            if len(data) < _BIG_BODY:
                body = read_body(route.body, data, call.notes)
            else:
                body = await asyncio.to_thread(read_body, route.body, data, call.notes)
            del data
            return await route.handler(call, body)
        except ClientGoneError:
            return Response(status_code=499)
        except Exception as error:
            call.on_failure(error)
            found = problem(error)
            headers = {"x-request-id": call.id, **found.headers}
            return JSONResponse(dialect.error(found, call.id), found.status, headers)

    handle.__doc__ = route.handler.__doc__
    return handle


def _report(call: Call, error: BaseException) -> None:
    if not isinstance(error, LoqalError):
        _log.error("%s failed", call.id, exc_info=error)


def _is_lenient(http: Request, default: bool) -> bool:
    """See RFC 7240."""
    wishes = [wish.strip().lower() for wish in http.headers.get("prefer", "").split(",")]
    return "handling=lenient" in wishes or (default and "handling=strict" not in wishes)


async def _read(http: Request) -> bytes:
    parts, size = [], 0
    async for part in http.stream():
        parts.append(part)
        size += len(part)
        if size > _MAX_BODY:
            raise RefusedError(
                "too_large", f"The body has more than {_MAX_BODY:,} bytes.", "That is the limit.", "Send less."
            )
    return b"".join(parts)


def _answers(route: Route) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {}
    found: dict[str, Any] = {"description": route.summary}
    if route.answer is not None:
        found["model"] = route.answer
    if route.event is not None and route.wire is not None:
        content[route.wire.media_type] = {"schema": {"$ref": _REF.format(model=route.event.__name__)}}
        found["content"] = content
    return {200: found}


def _request(route: Route) -> dict[str, Any]:
    if route.body is None:
        return {}
    schema = {"$ref": _REF.format(model=route.body.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _declare(app: FastAPI, bodies: list[type[BaseModel]]) -> None:
    """Bodies are read by ``read_body``, not by the framework, so the page is told of them here."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        page = plain()
        _, found = models_json_schema([(body, "validation") for body in dict.fromkeys(bodies)], ref_template=_REF)
        page.setdefault("components", {}).setdefault("schemas", {}).update(found.get("$defs", {}))
        return page

    app.openapi = openapi  # type: ignore[method-assign]
