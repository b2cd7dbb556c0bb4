"""ASGI middleware: checks Host and Origin, adds CORS headers and request ids, and logs one line per request."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loqal.server.service.auth import Addresses
from loqal.server.service.metrics import Metrics
from loqal.server.shared.errors import Problem, RefusedError, problem

_log = logging.getLogger("loqal.server")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Max-Age": "600",
}


class RequestMiddleware:
    """Wraps the application. ``error`` makes the JSON of a refusal."""

    def __init__(
        self,
        app: ASGIApp,
        addresses: Addresses,
        metrics: Metrics,
        error: Callable[[Problem, str], Any],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app, self._addresses, self._metrics, self._error, self._clock = app, addresses, metrics, error, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = self._clock(), 0
        facts: dict[str, Any] = {}
        scope["state"] = {**scope.get("state", {}), "id": f"req_{secrets.token_hex(12)}", "facts": facts}
        headers = Headers(scope=scope)
        origin = headers.get("origin")

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                changed = MutableHeaders(raw=message["headers"])
                for name in ("x-request-id", "request-id"):  # the names of OpenAI and of Anthropic
                    changed[name] = scope["state"]["id"]
                changed["x-content-type-options"] = "nosniff"
                if origin is not None:
                    changed.append("Vary", "Origin")
                    if status != 403:
                        changed["Access-Control-Allow-Origin"] = origin
                        changed["Access-Control-Expose-Headers"] = "x-request-id, retry-after"
            await send(message)

        try:
            await self._inner(scope, headers)(scope, receive, sending)
        except asyncio.CancelledError:
            facts["error"] = "server shutdown"
        finally:
            seconds = self._clock() - started
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(scope["method"], route, status, seconds)
            _log_request(scope, status, seconds, facts)

    def _inner(self, scope: Scope, headers: Headers) -> ASGIApp:
        refusal = self._refusal(headers)
        if refusal is not None:
            return JSONResponse(self._error(problem(refusal), ""), 403)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return Response(status_code=204, headers=_PREFLIGHT)
        return self._app

    def _refusal(self, headers: Headers) -> RefusedError | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._addresses.permits_host(host):
            return RefusedError(
                "permission",
                f"The host name {host[:200]!r} is not allowed.",
                "Against DNS rebinding, only localhost, IP addresses and the names in --allow-hosts are allowed.",
                "Start the server with --allow-hosts to allow this name.",
            )
        if origin is None:
            is_allowed = headers.get("sec-fetch-site") != "cross-site"
        else:
            is_allowed = self._addresses.permits_origin(origin, host)
        if is_allowed:
            return None
        return RefusedError(
            "permission",
            f"The origin {origin[:200]!r} is not allowed." if origin else "Cross-site requests are not allowed.",
            "Only web pages of this machine and the origins in --allow-origins are allowed.",
            "Start the server with --allow-origins to allow this origin.",
        )


def _log_request(scope: Scope, status: int, seconds: float, facts: Mapping[str, Any]) -> None:
    """One line of JSON: metadata, never content."""
    record = {
        "id": scope["state"]["id"],
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 4),
        **facts,
    }
    _log.info(json.dumps(record, ensure_ascii=False))
