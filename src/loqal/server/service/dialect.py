"""The interface of a dialect: a table of routes and the JSON of its errors.

A handler parses its body into a ``GenerationRequest`` and formats the reply or its deltas, both without side effects.
``RequestContext`` does everything in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from loqal.server.service.auth import Scope
from loqal.server.shared.body import Body
from loqal.server.shared.errors import Problem
from loqal.server.shared.streaming import Wire


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path. ``handler`` takes a RequestContext, and the body if there is one.

    ``answer`` and ``event`` describe the JSON of the response and of each event on the ``wire``, for the OpenAPI
    document.
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
    """The routes of one API.

    Attributes:
        name: the tag in the OpenAPI document.
        title: the name for readers.
        error: makes the JSON of an error, from the error and the id of the request.
    """

    name: str
    title: str
    routes: tuple[Route, ...]
    error: Callable[[Problem, str], Any]
