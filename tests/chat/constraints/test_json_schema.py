"""Which schemas can be followed, and the pointer to the part of one that cannot. Without the grammar library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from loqal.chat.constraints.json_schema import MAX_BYTES, NOTES, check
from loqal.errors import RequestError


def fine(schema: Any) -> str:
    return ""


def without(keyword: str, value: Any, fault: str = "broken") -> Callable[[Any], str]:
    """A compiler that fails on schemas in which a keyword has a value, at any depth."""

    def holds(part: Any) -> bool:
        if isinstance(part, Mapping):
            return part.get(keyword, part) == value or any(map(holds, part.values()))
        return isinstance(part, list) and any(map(holds, part))

    return lambda schema: fault if holds(schema) else ""


def pointer_of(schema: Any, compiles: Callable[[Any], str] = fine) -> str:
    with pytest.raises(RequestError) as caught:
        check(schema, "the schema", compiles)
    what = str(caught.value).split("\n")[0]
    assert "the schema" in what
    return what.partition("#")[2].rstrip(".")


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": False}, "required": ["a"]},
        {"$defs": {"x": {"const": 1}}, "$ref": "#/$defs/x"},
        {"items": [{"minimum": 1}, True], "additionalItems": False},
        {"anyOf": [{"enum": [1]}, {"pattern": "a"}], "$schema": "x", "$id": "y"},
        {"properties": {"uniqueItems": {"type": "string"}}},  # a name, not a keyword
        {"enum": [{"uniqueItems": True}]},  # nor is a value a schema
        dict.fromkeys(NOTES, "x"),
    ],
)
def test_what_can_be_followed(schema: Any) -> None:
    check(schema, "the schema", fine)


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ([], ""),
        ("x", ""),
        ({"properties": {"a": 5}}, "/properties/a"),
        ({"uniqueItems": True}, "/uniqueItems"),
        ({"properties": {"a/b~c": {"not": {}}}}, "/properties/a~1b~0c/not"),
        ({"anyOf": [{}, {"items": {"if": {}}}]}, "/anyOf/1/items/if"),
        ({"items": [{}, {"if": {}}]}, "/items/1/if"),
        ({"additionalProperties": {"contains": 1}}, "/additionalProperties/contains"),
        ({"$defs": {"x": {"$id": "y"}}}, "/$defs/x/$id"),
        ({"$ref": "http://other"}, "/$ref"),
        ({"$ref": 5}, "/$ref"),
        ({"default": float("nan"), "x": object()}, ""),
        ({"description": "x" * MAX_BYTES}, ""),
    ],
)
def test_the_part_that_cannot(schema: Any, pointer: str) -> None:
    assert pointer_of(schema) == pointer


def test_the_largest_size() -> None:
    check({"description": "x" * (MAX_BYTES - len('{"description": ""}'))}, "the schema", fine)


def test_a_fault_of_the_compiler_is_traced_to_its_keyword() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {"items": {"pattern": "(", "type": "string"}}}}
    assert pointer_of(schema, without("pattern", "(")) == "/properties/b/items/pattern"
    assert pointer_of({"type": "string", "format": "no such"}, without("format", "no such")) == "/format"


def test_the_innermost_part_is_named_and_definitions_go_along() -> None:
    schema = {"$defs": {"x": {"type": "string"}}, "properties": {"a": {"anyOf": [{"$ref": "#/$defs/x"}]}}}
    seen: list[Any] = []

    def compiles(part: Any) -> str:
        seen.append(part)
        return "broken" if "anyOf" in str(part) else ""

    assert pointer_of(schema, compiles) == "/properties/a"
    assert all("$defs" in part for part in seen)


def test_what_no_value_satisfies_is_not_blamed_on_one_keyword() -> None:
    schema = {"properties": {"a": {"minimum": 5, "maximum": 4, "type": "integer"}}}
    assert pointer_of(schema, without("maximum", 4, "Unsatisfiable schema")) == "/properties/a"


def test_the_search_for_the_fault_is_bounded() -> None:
    schema = {"anyOf": [{"const": number} for number in range(3000)]}
    calls = []

    def compiles(part: Any) -> str:
        calls.append(1)
        return "broken"

    pointer_of(schema, compiles)
    assert len(calls) < 600


def test_deep_schemas_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"items": schema}
    check(schema, "the schema", fine)
