"""A rewritten schema means what it meant before, as far as no fault is reported."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.chat.constraints.json_schema import hold
from loqal.chat.constraints.schema_rewrite import MOST_DEPTH, negated, rewritten
from loqal.errors import RequestError

SCALARS = [None, True, False, 0, 1, 2, 3, 0.5, -1, "", "a", "ab", "b"]
VALUES = [
    *SCALARS,
    *([], [1], ["a"], [1, "a"], [1, 2, 3], [[]], {}),
    *({"a": value} for value in SCALARS),
    *({"b": value} for value in (0, "a")),
    *({"a": value, "b": other} for value in (0, "a", None) for other in (1, "b")),
    {"a": {"a": 1, "c": 2}, "c": 3},
]
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
NAMES = st.sampled_from("abc")
values = st.sampled_from(VALUES)
small = st.integers(0, 2)


def keywords(inner: Any) -> dict[str, Any]:
    lists = st.lists(inner, min_size=1, max_size=2)
    tables = st.dictionaries(NAMES, inner, max_size=2)
    return {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
        "enum": st.lists(values, min_size=1, max_size=3, unique_by=json.dumps),
        "const": values,
        "minimum": small,
        "exclusiveMaximum": small | st.just(2.5),
        "minLength": small,
        "maxLength": small | st.just(1 << 30),
        "pattern": st.sampled_from(["a", "^a", "b$"]),
        "minItems": small,
        "maxProperties": small,
        "required": st.lists(NAMES, min_size=1, max_size=2, unique=True),
        "properties": tables,
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^b$"]), inner, max_size=1),
        "additionalProperties": inner,
        "items": inner,
        "prefixItems": lists,
        "anyOf": lists,
        "allOf": lists,
        "oneOf": lists,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=1), max_size=1),
        "dependentSchemas": st.dictionaries(NAMES, inner, max_size=1),
        "propertyNames": st.sampled_from([True, False, {"pattern": "a"}, {"enum": ["a", "b"]}, {"const": "a"}]),
        "contains": inner,
        "minContains": small,
        "unevaluatedProperties": inner,
        "unevaluatedItems": inner,
        "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]),
        "title": st.just("t"),
    }


def some_of(choices: dict[str, Any]) -> Any:
    names = st.lists(st.sampled_from(sorted(choices)), max_size=3, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: choices[name] for name in chosen}))


schemas = st.recursive(st.booleans() | st.just({}), lambda inner: some_of(keywords(inner)), max_leaves=5)
DEFINITIONS = {"x": {"type": "string"}, "y": {"properties": {"a": {"$ref": "#/$defs/y"}}, "title": "t"}}


def accepted(schema: Any, draft: Any = jsonschema.Draft202012Validator) -> list[bool]:
    validator = draft(schema)
    return [validator.is_valid(value) for value in VALUES]


@given(schemas)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_the_same_values_are_accepted(schema: Any) -> None:
    whole = {"$defs": DEFINITIONS, "allOf": [schema]}
    found = rewritten(whole, close=False)
    if not found.faults:
        assert accepted(found.schema) == accepted(whole)


@given(schemas)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_closed_objects_are_some_of_those_accepted(schema: Any) -> None:
    whole = {"$defs": DEFINITIONS, "properties": {"a": schema}, "required": ["a"]}
    found = rewritten(whole, close=True)
    if not found.faults:
        narrow, wide = accepted(found.schema), accepted(whole)
        assert all(right for taken, right in zip(narrow, wide, strict=True) if taken)


@given(schemas)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_is_rewritten_needs_no_more(schema: Any) -> None:
    found = rewritten({"$defs": DEFINITIONS, "allOf": [schema]}, close=False)
    again = rewritten(found.schema, close=False)
    assert accepted(again.schema) == accepted(found.schema) and not again.faults


@given(schemas)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_negated_schemas_accept_the_others(schema: Any) -> None:
    opposite = negated(schema)
    if opposite is not None:
        whole = {"$defs": DEFINITIONS, "allOf": [schema]}
        other = {"$defs": DEFINITIONS, "allOf": [opposite]}
        assert accepted(other) == [not is_valid for is_valid in accepted(whole)]


def test_older_drafts() -> None:
    four, seven = (f"http://json-schema.org/draft-0{number}/schema#" for number in (4, 7))
    for schema, draft in (
        ({"minimum": 1, "exclusiveMinimum": True, "$schema": four}, jsonschema.Draft4Validator),
        ({"exclusiveMaximum": True, "maximum": 2, "$schema": four}, jsonschema.Draft4Validator),
        ({"minimum": 1, "exclusiveMinimum": False, "$schema": four}, jsonschema.Draft4Validator),
        ({"items": [{"type": "integer"}], "additionalItems": False, "$schema": seven}, jsonschema.Draft7Validator),
        ({"dependencies": {"a": ["b"], "b": {"minProperties": 2}}, "$schema": seven}, jsonschema.Draft7Validator),
        (
            {
                "properties": {"a": {"$ref": "#/definitions/x", "enum": [1]}},
                "definitions": {"x": {"type": "string"}},
                "$schema": seven,
            },
            jsonschema.Draft7Validator,
        ),
    ):
        found = rewritten(schema, close=False)
        assert not found.faults and accepted(found.schema) == accepted(schema, draft), schema


def test_null_may_be_allowed_by_a_keyword_of_its_own() -> None:
    for schema in (
        {"type": "string"},
        {"enum": ["a"]},
        {"type": "string", "enum": ["a"]},
        {"const": 1},
        {"not": {"type": "null"}},
    ):
        found = accepted(rewritten({**schema, "nullable": True}, close=False).schema)
        assert found == [value is None or right for value, right in zip(VALUES, accepted(schema), strict=True)]


def test_objects_that_name_properties_are_closed() -> None:
    closed = {"properties": {"a": {}}, "additionalProperties": False}
    assert rewritten({"properties": {"a": {}}}, close=True).schema == closed
    assert rewritten({"items": {"properties": {"a": {}}}}, close=True).schema == {"items": closed}
    for schema in (
        {"type": "object"},
        {"properties": {"a": {}}, "required": ["b"]},
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "patternProperties": {"b": {}}},
        {"properties": {"a": {}}, "minProperties": 2},
    ):
        assert rewritten(schema, close=True).schema == schema


@pytest.mark.parametrize(
    ("schema", "pointer", "kind"),
    [
        ({"a": 1}, "/a", "is_harmless"),
        ({"format": "x"}, "/format", "is_harmless"),
        ({"type": "x"}, "/type", "is_wrong"),
        ({"items": 5}, "/items", "is_wrong"),
        ({"minLength": -1}, "/minLength", "is_wrong"),
        ({"multipleOf": 0}, "/multipleOf", "is_wrong"),
        ({"enum": []}, "/enum", "accepts_nothing"),
        ({"minimum": 1e30}, "/minimum", "accepts_nothing"),
        ({"properties": {"a/b": {"uniqueItems": True}}}, "/properties/a~1b/uniqueItems", ""),
        ({"oneOf": [{}, {}]}, "/oneOf", ""),
    ],
)
def test_faults(schema: Any, pointer: str, kind: str) -> None:
    (fault,) = rewritten(schema, close=True).faults
    kinds = {name for name in ("is_harmless", "is_wrong", "accepts_nothing") if getattr(fault, name)}
    assert fault.pointer == pointer and fault.why
    assert kinds == ({"is_wrong", kind} if kind == "accepts_nothing" else {kind} - {""})
    assert not rewritten(schema, close=True, skip=frozenset([pointer])).faults or pointer == "/items"


def test_parts_and_their_definitions() -> None:
    schema = {"properties": {"a": {"items": {"$ref": "#"}}}, "x-y": 1, "title": "t"}
    found = rewritten(schema, close=False, at="/properties/a", prefix="p").schema
    assert found == {
        "items": {"$ref": "#/$defs/p0"},
        "$defs": {"p0": {"properties": {"a": {"items": {"$ref": "#/$defs/p0"}}}}},
    }


def test_deep_schemas_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    (fault,) = rewritten(schema, close=True).faults
    assert fault.is_wrong and fault.pointer == "/items" * MOST_DEPTH


GARBAGE = st.sampled_from([None, True, 5, -1.5, "x", [], [5], {}, {"a": 5}, {"a": [5]}, [[]], {"": None}])
KEYWORDS = (
    *("type", "enum", "const", "required", "properties", "additionalProperties", "patternProperties", "items"),
    *("propertyNames", "minProperties", "maxItems", "minItems", "prefixItems", "uniqueItems", "contains", "format"),
    *("minContains", "dependentRequired", "dependentSchemas", "not", "if", "then", "anyOf", "oneOf", "allOf"),
    *("pattern", "minLength", "minimum", "multipleOf", "$ref", "$defs", "discriminator", "nullable"),
)


@given(
    st.recursive(
        st.dictionaries(st.sampled_from(KEYWORDS), GARBAGE, max_size=3),
        lambda inner: st.dictionaries(
            st.sampled_from(KEYWORDS), inner | GARBAGE | st.lists(inner, max_size=2), max_size=3
        ),
    )
)
@settings(max_examples=400, deadline=None)
def test_values_of_the_wrong_type_are_an_error_of_the_caller(schema: Any) -> None:
    for strict in (True, None):
        try:
            hold(schema, "schema", lambda rewritten: "", strict=strict)
        except RequestError as error:
            assert "schema" in str(error)


def test_negations_of_what_accepts_nothing_or_everything() -> None:
    assert negated({"enum": []}) is True
    assert negated({"required": []}) == {"anyOf": [False]}
    assert negated({"enum": 5}) is None and negated({"required": [5]}) is None and negated({"type": 5}) is None
