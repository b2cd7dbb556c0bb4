"""What an error is over HTTP: a status, a kind, and loqal's three lines. Each dialect words it in its own shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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
    """A field of a request cannot be used; ``path`` is where it stands, as in ``messages[0].content``."""

    def __init__(self, path: str, why: str, fix: str = "") -> None:
        super().__init__(f"{path or 'The body'} cannot be used.", why, fix)
        self.path = path


class RefusedError(LoqalError):
    """The server does not take a request, whatever is in it. ``retry_s`` says when it may."""

    def __init__(self, kind: Kind, what: str, why: str = "", fix: str = "", *, retry_s: float | None = None) -> None:
        super().__init__(what, why, fix)
        self.kind, self.retry_s = kind, retry_s


@dataclass(frozen=True, slots=True)
class Problem:
    """An error on its way to a client."""

    kind: Kind
    message: str
    path: str | None = None  # of the field that is wrong
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(error: BaseException) -> Problem:
    """What a client is told of an error. Of a bug it learns nothing but that there is one."""
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
    return Problem("internal", "The server failed.\nThe cause is in its log.", status=500)


def _problem(kind: Kind, error: LoqalError, headers: Mapping[str, str] | None = None) -> Problem:
    return Problem(kind, str(error), getattr(error, "path", None), STATUS[kind], headers or {})
