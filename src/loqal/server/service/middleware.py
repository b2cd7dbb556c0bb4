"""The outermost layer: which hosts and origins may call, the headers of browsers, and one log line a request."""

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
from loqal.server.shared.errors import Problem

_log = logging.getLogger("loqal.server")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Max-Age": "600",
}


class RequestMiddleware:
    """Wraps the application. ``error`` gives the JSON of a refusal."""

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
        warnings: dict[str, Any] = {}
        scope["state"] = {**scope.get("state", {}), "id": f"req_{secrets.token_hex(12)}", "warnings": warnings}
        headers = Headers(scope=scope)
        origin = headers.get("origin")

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                changed = MutableHeaders(raw=message["headers"])
                for name in ("x-request-id", "request-id"):  # as OpenAI and Anthropic call it
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
            warnings["error"] = "the server ended"
        finally:
            seconds = self._clock() - started
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(scope["method"], route, status, seconds)
            _log_line(scope, status, seconds, warnings)

    def _inner(self, scope: Scope, headers: Headers) -> ASGIApp:
        why = self._refusal(headers)
        if why is not None:
            return JSONResponse(self._error(Problem("permission", why), ""), 403)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return Response(status_code=204, headers=_PREFLIGHT)
        return self._app

    def _refusal(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._addresses.permits_host(host):
            return f"This server is not called {host[:200]!r}.\nPass the name with --allow-hosts if it should be."
        if origin is None:
            if headers.get("sec-fetch-site") == "cross-site":
                return "Pages of other sites may not call.\nPass their origin with --allow-origins if they should."
        elif not self._addresses.permits_origin(origin, host):
            return f"Pages of {origin[:200]!r} may not call.\nPass the origin with --allow-origins if they should."
        return None


def _log_line(scope: Scope, status: int, seconds: float, warnings: Mapping[str, Any]) -> None:
    """What was done, never what was said."""
    record = {
        "id": scope["state"]["id"],
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 4),
        **warnings,
    }
    _log.info(json.dumps(record, ensure_ascii=False))
