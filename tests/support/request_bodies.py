"""Bodies of requests made from the models that read them: for each field, a body in which it is set."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
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
    support: str
    body: dict[str, Any]
    other: dict[str, Any]

    def __str__(self) -> str:
        return self.path


class Bodies:
    """Makes bodies.

    Args:
        around: objects that must stand before an object of some kind in its list to make sense of it.
        chosen: two values of a field, where those that are made up would not do. The first is the usual one.
        beside: what else a body must have where a field stands in it.
    """

    def __init__(
        self,
        around: Mapping[type[BaseModel], list[Any]] | None = None,
        chosen: Mapping[tuple[type[BaseModel], str], tuple[Any, Any]] | None = None,
        beside: Mapping[tuple[type[BaseModel], str], dict[str, Any]] | None = None,
    ) -> None:
        self._around, self._chosen, self._beside = around or {}, chosen or {}, beside or {}

    def cases(self, model: type[BaseModel], above: tuple[type[BaseModel], ...] = ()) -> Iterator[Case]:
        """A case for every field of a request and of the objects in it."""
        for name, field in model.model_fields.items():
            key, support = field.alias or name, _support(field)
            least = {**self.minimal(model), **self._found(self._beside, model, name, {})}
            first, second = self.values(model, name)
            if not _is_tag(field) or support != "supported":
                other = {**least, key: first} if field.is_required() else least
                yield Case(key, support, {**least, key: second}, other)
            for inner, in_list in _objects(field.annotation) if support == "supported" else ():
                if inner not in above:
                    for case in self.cases(inner, (*above, inner)):
                        yield self._within(least, key, inner if in_list else None, case)

    def _within(self, least: dict[str, Any], key: str, listed: type[BaseModel] | None, case: Case) -> Case:
        """The same case inside an object, or, when ``listed``, inside a list of an object."""
        if listed is None:
            return Case(f"{key}.{case.path}", case.support, {**least, key: case.body}, {**least, key: case.other})
        before = self._around.get(listed, [])
        bodies = [{**least, key: [*before, body]} for body in (case.body, case.other)]
        return Case(f"{key}[{len(before)}].{case.path}", case.support, *bodies)

    def minimal(self, model: type[BaseModel]) -> dict[str, Any]:
        """The smallest body the model takes."""
        fields = model.model_fields.items()
        return {field.alias or name: self.values(model, name)[0] for name, field in fields if field.is_required()}

    def values(self, model: type[BaseModel], name: str) -> tuple[Any, Any]:
        """Two values of a field; the second is the one its documentation gives, if it does."""
        found = self._found(self._chosen, model, name, None)
        if found is not None:
            return found
        field = model.model_fields[name]
        first, second = self._values(field.annotation)
        given = [example for example in field.examples or () if example != first or not field.is_required()]
        return first, given[0] if given else second

    @staticmethod
    def _found(
        table: Mapping[tuple[type[BaseModel], str], Any], model: type[BaseModel], name: str, default: Any
    ) -> Any:
        return next((table[base, name] for base in model.__mro__ if (base, name) in table), default)

    def _values(self, annotation: Any) -> tuple[Any, Any]:
        if annotation in _VALUES:
            return _VALUES[annotation]
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Literal:
            return arguments[0], arguments[-1]
        if origin is list:
            first, second = self._values(arguments[0])
            return [first], [second]
        if origin is dict:
            return {"a": "b"}, {"a": "c"}
        if origin in (typing.Union, types.UnionType, typing.Annotated):
            return self._values(next(argument for argument in arguments if argument is not type(None)))
        return self.minimal(annotation), self._fuller(annotation)

    def _fuller(self, model: type[BaseModel]) -> dict[str, Any]:
        """A body with a field more than the smallest, or with other values if there is none."""
        body = self.minimal(model)
        for name, field in model.model_fields.items():
            if not field.is_required() and not _is_tag(field) and _support(field) == "supported":
                return {**body, field.alias or name: self.values(model, name)[1]}
        fields = [(name, field) for name, field in model.model_fields.items() if not _is_tag(field)]
        return {**body, **{field.alias or name: self.values(model, name)[1] for name, field in fields}}


def _support(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["x-support"]) if isinstance(extra, dict) else "supported"


def _is_tag(field: FieldInfo) -> bool:
    """Whether a field can have one value only."""
    arguments = [one for one in typing.get_args(field.annotation) if one is not type(None)]
    if typing.get_origin(field.annotation) is Literal:
        return len(arguments) == 1
    return (
        len(arguments) == 1 and typing.get_origin(arguments[0]) is Literal and len(typing.get_args(arguments[0])) == 1
    )


def _objects(annotation: Any, in_list: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """The objects a field may hold, and whether it holds them in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, in_list
    for argument in typing.get_args(annotation):
        yield from _objects(argument, in_list or typing.get_origin(annotation) is list)
