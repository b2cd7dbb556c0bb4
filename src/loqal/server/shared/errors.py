"""Errors over HTTP: a status, a kind, and loqal's three lines. Each dialect has its own JSON for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loqal.errors import CapacityError, ContextError, LoqalError, RequestError

Kind = Literal[
    "invalid_request",
    "context_length",
    "authentication",
    "permission",
    "not_found",
    "timeout",
    "conflict",
    "gone",
    "too_large",
    "rate_limit",
    "overloaded",
    "internal",
]

STATUS: dict[Kind, int] = {
    "invalid_request": 400,
    "context_length": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "timeout": 408,
    "conflict": 409,
    "gone": 410,
    "too_large": 413,
    "rate_limit": 429,
    "overloaded": 503,
    "internal": 500,
}


class FieldError(RequestError):
    """A field of a request is invalid. ``path`` is its JSON path, such as ``messages[0].content``."""

    def __init__(self, path: str, why: str, fix: str) -> None:
        super().__init__(f"The field {path!r} is invalid." if path else "The request body is invalid.", why, fix)
        self.path = path


class RefusedError(LoqalError):
    """The server refuses a request for a reason other than its fields. ``retry_s`` is when to send it again."""

    def __init__(self, kind: Kind, what: str, why: str, fix: str, *, retry_s: float | None = None) -> None:
        super().__init__(what, why, fix)
        self.kind, self.retry_s = kind, retry_s


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is sent to a client. ``path`` is the JSON path of the invalid field."""

    kind: Kind
    message: str
    path: str | None = None
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(error: BaseException) -> Problem:
    """What a client is told of an error. An unexpected exception reveals nothing of the server."""
    if isinstance(error, RefusedError):
        headers = {} if error.retry_s is None else {"Retry-After": str(max(1, round(error.retry_s)))}
        if error.kind == "authentication":
            headers["WWW-Authenticate"] = "Bearer"
        return _problem(error.kind, error, headers=headers)
    if isinstance(error, ContextError):
        return _problem("context_length", error)
    if isinstance(error, RequestError):
        return _problem("invalid_request", error)
    if isinstance(error, CapacityError):
        return _problem("overloaded", error)
    message = "The server failed.\nAn unexpected error occurred.\nThe server's log has the traceback."
    return Problem("internal", message, status=500)


def _problem(kind: Kind, error: LoqalError, headers: Mapping[str, str] | None = None) -> Problem:
    return Problem(kind, str(error), getattr(error, "path", None), STATUS[kind], headers or {})


_OPENAI_TYPES: dict[Kind, str] = {
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "internal": "server_error",
}
_OPENAI_CODES: dict[Kind, str] = {
    "context_length": "context_length_exceeded",
    "not_found": "not_found",
    "authentication": "invalid_api_key",
}


def openai_error(found: Problem, request_id: str) -> dict[str, Any]:
    """OpenAI's error JSON, which the Responses API and the native API use too."""
    kind = _OPENAI_TYPES.get(found.kind, "invalid_request_error")
    code = _OPENAI_CODES.get(found.kind)
    return {"error": {"message": found.message, "type": kind, "param": found.path, "code": code}}
