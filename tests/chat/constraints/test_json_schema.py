"""Which schemas are held, what is left out of them, and the pointer to the part of one that cannot be followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from loqal.chat.constraints.json_schema import MAX_BYTES, HeldSchema, SchemaError, check_size, hold, is_unsatisfiable
from loqal.chat.constraints.schema_rewrite import ANNOTATIONS


def fine(schema: Any) -> str:
    return ""


def failing(keyword: str, value: Any, fault: str = "broken") -> Callable[[Any], str]:
    """A compiler that fails on schemas in which a keyword has a value, at any depth."""

    def holds(part: Any) -> bool:
        if isinstance(part, Mapping):
            return part.get(keyword, part) == value or any(map(holds, part.values()))
        return isinstance(part, list) and any(map(holds, part))

    return lambda schema: fault if holds(schema) else ""


def held(schema: Any, faults: Callable[[Any], str] = fine, *, strict: bool | None = True, **more: Any) -> HeldSchema:
    return hold(schema, "the schema", faults, strict=strict, **more)


def pointer_of(schema: Any, faults: Callable[[Any], str] = fine, *, strict: bool | None = True) -> str:
    with pytest.raises(SchemaError) as caught:
        held(schema, faults, strict=strict)
    what = str(caught.value).split("\n")[0]
    pointer = what.partition("#")[2].rstrip(".")
    assert caught.value.path == f"the schema#{pointer}" and "the schema" in what
    return pointer


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": False}, "required": ["a"]},
        {"$defs": {"x": {"const": 1}}, "$ref": "#/$defs/x"},
        {"$defs": {"x": {"$id": "y"}}, "items": {"$ref": "y"}},
        {"items": [{"minimum": 1}, True], "additionalItems": False},
        {"anyOf": [{"enum": [1]}, {"pattern": "a"}], "$schema": "x", "$id": "y"},
        {"properties": {"uniqueItems": {"type": "string"}}},  # a name, not a keyword
        {"enum": [{"uniqueItems": True}]},  # nor is a value a schema
        {"type": "string", "format": "date"},
        dict.fromkeys(ANNOTATIONS, "x"),
    ],
)
def test_what_can_be_followed(schema: Any) -> None:
    assert held(schema).warnings == ()
    assert held(schema) == held(schema, strict=None)


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ([], ""),
        ("x", ""),
        ({"properties": {"a": 5}}, "/properties/a"),
        ({"$ref": "http://other"}, "/$ref"),
        ({"$ref": "#/nothing"}, "/$ref"),
        ({"$ref": 5}, "/$ref"),
        ({"items": {"enum": []}}, "/items/enum"),
        ({"type": "text"}, "/type"),
        ({"default": float("nan"), "x": object()}, ""),
        ({"description": "x" * MAX_BYTES}, ""),
    ],
)
def test_what_has_no_meaning_is_refused(schema: Any, pointer: str) -> None:
    assert pointer_of(schema) == pointer_of(schema, strict=None) == pointer


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"uniqueItems": True}, "/uniqueItems"),
        ({"properties": {"a/b~c": {"not": {"minLength": 1}}}}, "/properties/a~1b~0c/not"),
        ({"anyOf": [{}, {"items": {"if": {"minLength": 1}, "then": False}}]}, "/anyOf/1/items/if"),
        ({"items": [{}, {"if": {"minLength": 1}, "else": False}]}, "/items/1/if"),
        ({"additionalProperties": {"contains": {"const": 1}}}, "/additionalProperties/contains"),
        ({"oneOf": [{"minLength": 1}, {"maxLength": 5}]}, "/oneOf"),
    ],
)
def test_what_cannot_be_held_is_refused_or_left_out_with_a_warning(schema: Any, pointer: str) -> None:
    assert pointer_of(schema) == pointer
    (warning,) = held(schema, strict=None).warnings
    assert warning.startswith(f"the schema#{pointer}: ")
    assert held(schema, strict=False) == held(schema, strict=None)


def test_what_says_nothing_of_values_is_warned_of_and_never_refused() -> None:
    for schema, pointer in (({"format": "no such"}, "/format"), ({"minLenght": 5}, "/minLenght")):
        assert held(schema).warnings[0].startswith(f"the schema#{pointer}: ")


def test_what_has_no_meaning_is_left_out_where_that_is_asked_for() -> None:
    schema = {"type": "array", "items": {"type": "text", "minLength": 2}}
    found = held(schema, strict=None, repair=True)
    assert found.schema == {"type": "array", "items": {"minLength": 2}} and "#/items/type: " in found.warnings[0]
    with pytest.raises(SchemaError):
        held(schema, repair=True)
    with pytest.raises(SchemaError) as caught:
        held({"items": {"enum": []}}, strict=None, repair=True)
    assert caught.value.accepts_nothing


def test_a_part_of_a_schema() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "null"}}}
    found = held(schema, at="/properties/a", prefix="p")
    assert found.schema == {"$ref": "#/$defs/p0", "$defs": {"p0": {"type": "null"}}}


def test_the_largest_size() -> None:
    largest = {"description": "x" * (MAX_BYTES - len('{"description": ""}'))}
    check_size(largest, "the schema")
    with pytest.raises(SchemaError):
        check_size({"description": largest["description"] + "x"}, "the schema")


def test_a_fault_of_the_compiler_is_traced_to_its_keyword() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {"items": {"pattern": "(", "type": "string"}}}}
    assert pointer_of(schema, failing("pattern", "(")) == "/properties/b/items/pattern"
    assert pointer_of({"type": "string", "format": "email"}, failing("format", "email")) == "/format"


def test_a_keyword_at_fault_is_left_out_and_the_rest_is_held() -> None:
    schema = {"properties": {"b": {"items": {"pattern": "(", "type": "string"}, "minItems": 1}}}
    found = held(schema, failing("pattern", "("), strict=None, close=False)
    assert found.schema == {"properties": {"b": {"items": {"type": "string"}, "minItems": 1}}}
    assert len(found.warnings) == 1 and found.warnings[0].startswith("the schema#/properties/b/items/pattern: ")


def test_the_innermost_part_is_named_and_definitions_go_along() -> None:
    schema = {"$defs": {"x": {"type": "string"}}, "properties": {"a": {"anyOf": [{"$ref": "#/$defs/x"}]}}}
    seen: list[Any] = []

    def faults(part: Any) -> str:
        seen.append(part)
        return "broken" if "anyOf" in str(part) else ""

    assert pointer_of(schema, faults) == "/properties/a/anyOf"
    assert all("$defs" in part for part in seen if "$ref" in str(part))


def test_what_no_value_satisfies_is_not_blamed_on_one_keyword() -> None:
    schema = {"properties": {"a": {"minimum": 5, "maximum": 4, "type": "integer"}}}
    fault = "Unsatisfiable schema"
    assert is_unsatisfiable(fault) and not is_unsatisfiable("broken")
    for strict in (True, None):
        assert pointer_of(schema, failing("maximum", 4, fault), strict=strict) == "/properties/a"


@pytest.mark.parametrize("strict", [True, None])
def test_the_search_for_the_fault_is_bounded(strict: bool | None) -> None:
    schema = {"anyOf": [{"const": number} for number in range(3000)]}
    calls = []

    def faults(part: Any) -> str:
        calls.append(1)
        return "broken"

    pointer_of(schema, faults, strict=strict)
    assert len(calls) < 600


def test_so_many_faults_are_left_out_at_most() -> None:
    schema = {"properties": {f"p{index}": {"pattern": "("} for index in range(40)}}
    assert pointer_of(schema, failing("pattern", "("), strict=None) == ""


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def test_deep_schemas_end() -> None:
    assert held(nested(63)).schema == nested(63)
    assert pointer_of(nested(200)) == pointer_of(nested(200), strict=None) == "/items" * 64
    assert pointer_of(nested(100_000)) == ""
