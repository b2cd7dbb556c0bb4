"""The OpenAPI document, generated from the route tables that the application serves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from loqal.server.service.auth import SCOPES
from loqal.server.service.dialect import Dialect, Route

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_ERROR = {"type": "object", "required": ["error"]}
_SCOPES = ", ".join(SCOPES)

Refs = Mapping[Any, dict[str, Any]]
"""References to schemas by model and mode (validation or serialization)."""


def openapi(dialects: Sequence[Dialect], version: str) -> dict[str, Any]:
    """The OpenAPI document of these dialects."""
    routes = [(dialect, route) for dialect in dialects for route in dialect.routes]
    refs, found = models_json_schema(list(_models(route for _, route in routes)), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for dialect, route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(dialect, route, refs)
    keys = {
        "bearer": {"type": "http", "scheme": "bearer", "description": f"An API key. Scopes: {_SCOPES}."},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same API key."},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "loqal", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": found.get("$defs", {}), "securitySchemes": keys},
    }


def _models(routes: Iterable[Route]) -> Iterable[tuple[type[BaseModel], Literal["validation", "serialization"]]]:
    for route in routes:
        if route.body is not None:
            yield route.body, "validation"
        for answer in (route.answer, route.event):
            if answer is not None:
                yield answer, "serialization"


def _operation(dialect: Dialect, route: Route, refs: Refs) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": f"{route.method} {route.path}",
        "summary": route.summary,
        "description": f"{route.handler.__doc__ or route.summary} Scope: {route.scope}.",
        "tags": [dialect.name],
        "security": [{}, {"bearer": [route.scope]}, {"header": [route.scope]}],
        "responses": {
            "200": {"description": route.summary, "content": _content(route, refs)},
            "default": {"description": "An error", "content": {"application/json": {"schema": _ERROR}}},
        },
    }
    names = _PARAMETER.findall(route.path)
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if route.body is not None:
        schema = refs[route.body, "validation"]
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return found


def _content(route: Route, refs: Refs) -> dict[str, Any]:
    schema = {"type": "object"} if route.answer is None else refs[route.answer, "serialization"]
    content: dict[str, Any] = {route.media_type: {"schema": schema if route.media_type.endswith("json") else {}}}
    if route.wire is not None:
        event = {} if route.event is None else refs[route.event, "serialization"]
        content[route.wire.media_type] = {"schema": {"description": "A sequence of these events.", **event}}
    return content
