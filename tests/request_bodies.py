"""Bodies of requests made from the models that read them: for each field, a body in which it is set."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_VALUES: dict[Any, tuple[Any, Any]] = {
    str: ("a", "b"),
    int: (1, 2),
    float: (0.25, 0.5),
    bool: (False, True),
    Any: ("a", "b"),
}


@dataclass(frozen=True)
class Case:
    """A field set in a body, and the same body with another value of it, or without it."""

    path: str
    fate: str
    body: dict[str, Any]
    other: dict[str, Any]

    def __str__(self) -> str:
        return self.path


def cases(model: type[BaseModel], around: dict[type[BaseModel], list[Any]] | None = None) -> Iterator[Case]:
    """A case for every field of a request and of the objects in it.

    ``around`` gives objects that must stand before an object of some kind in its list to make sense of it.
    """
    yield from _cases(model, around or {}, ())


def _cases(model: type[BaseModel], around: dict[type[BaseModel], list[Any]], above: tuple[Any, ...]) -> Iterator[Case]:
    least = minimal(model)
    for name, field in model.model_fields.items():
        key, fate = field.alias or name, (field.json_schema_extra or {"x-fate": "honoured"})["x-fate"]
        first, second = values(field)
        if not _is_tag(field) or fate != "honoured":
            other = {**least, key: first} if field.is_required() else least
            yield Case(key, fate, {**least, key: second}, other)
        if fate != "honoured":
            continue
        for inner, in_list in _objects(field.annotation):
            if inner in above:
                continue
            for case in _cases(inner, around, (*above, inner)):
                before = around.get(inner, [])
                wrap = (lambda body, before=before: [*before, body]) if in_list else (lambda body: body)
                path = f"{key}[{len(before)}].{case.path}" if in_list else f"{key}.{case.path}"
                bodies = ({**least, key: wrap(case.body)}, {**least, key: wrap(case.other)})
                yield Case(path, case.fate, *bodies)


def minimal(model: type[BaseModel]) -> dict[str, Any]:
    """The smallest body the model takes."""
    return {field.alias or name: values(field)[0] for name, field in model.model_fields.items() if field.is_required()}


def values(field: FieldInfo) -> tuple[Any, Any]:
    """Two values of a field; the second is the one its documentation gives, if it does."""
    first, second = _values(field.annotation)
    return first, field.examples[0] if field.examples else second


def _values(annotation: Any) -> tuple[Any, Any]:
    if annotation in _VALUES:
        return _VALUES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return arguments[0], arguments[-1]
    if origin is list:
        first, second = _values(arguments[0])
        return [first], [second]
    if origin is dict:
        return {"a": "b"}, {"a": "c"}
    if origin in (typing.Union, types.UnionType):
        kept = [argument for argument in arguments if argument is not type(None)]
        return _values(kept[0])
    if origin is typing.Annotated:
        return _values(arguments[0])
    return minimal(annotation), fullest(annotation)


def fullest(model: type[BaseModel]) -> dict[str, Any]:
    """The smallest body with the first of its optional fields that is honoured."""
    body = minimal(model)
    for name, field in model.model_fields.items():
        fate = (field.json_schema_extra or {"x-fate": "honoured"})["x-fate"]
        if not field.is_required() and fate == "honoured":
            return {**body, field.alias or name: values(field)[1]}
    return {**body, **{f.alias or n: values(f)[1] for n, f in model.model_fields.items() if not _is_tag(f)}}


def _is_tag(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is Literal and len(typing.get_args(field.annotation)) == 1


def _objects(annotation: Any, in_list: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """The objects a field may hold, and whether it holds them in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, in_list
    for argument in typing.get_args(annotation):
        yield from _objects(argument, in_list or typing.get_origin(annotation) is list)
