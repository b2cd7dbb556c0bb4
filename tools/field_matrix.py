"""Writes docs/fields.md: the support of every request field. A test compares the file with this."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from loqal.server.app import DIALECTS as SERVED

DIALECTS: dict[str, dict[str, type[BaseModel]]] = {
    dialect.title: {f"{route.method} {route.path}": route.body for route in dialect.routes if route.body is not None}
    for dialect in SERVED
}
"""The request bodies of each dialect by route."""

_PREFACE = """# Request fields

The support of every request field. `tools/field_matrix.py` generates this page from the models that validate the
requests.

- **supported**: it has the effect the API documents. A value that cannot be honored is an error with its JSON path.
- **rejected**: the reply would differ from what the request asks for. It is an error with the JSON path; in lenient
  mode the field is ignored instead, with a line in `warnings`.
- **ignored**: it does not change the reply here. The response has a line in `warnings`.

Fields that are not listed are unknown and treated as rejected. Fields marked (extension) are additions to the API.
"""


def objects_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The objects that a field may contain."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from objects_in(argument)


def support_of(model: type[BaseModel], name: str) -> tuple[str, str]:
    """The support of a field, and its description."""
    support, _, why = (model.model_fields[name].description or "").partition(": ")
    return support.lower(), why.removesuffix(".")


def render() -> str:
    """The whole page."""
    lines = [_PREFACE]
    for dialect, routes in DIALECTS.items():
        lines += [f"## {dialect}", ""]
        seen: set[type[BaseModel]] = set()
        for route, model in routes.items():
            lines += [f"### {route}", "", *_table(model)]
            seen.add(model)
        for model in list(routes.values()):
            for inner in _below(model, seen):
                lines += [f"### {inner.__name__}", "", inner.__doc__ or "", "", *_table(inner)]
    return "\n".join(lines)


def _below(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """The supported objects within a body, each once, in the order of the fields."""
    for name, field in model.model_fields.items():
        if support_of(model, name)[0] != "supported":
            continue
        for inner in objects_in(field.annotation):
            if inner not in seen:
                seen.add(inner)
                yield inner
                yield from _below(inner, seen)


def _table(model: type[BaseModel]) -> list[str]:
    rows = ["| field | support | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        support, why = support_of(model, name)
        rows.append(f"| `{field.alias or name}` | {support} | {why.replace('|', chr(92) + '|')} |")
    return [*rows, ""]


if __name__ == "__main__":
    Path("docs/fields.md").write_text(render())
