"""Schemas that are said to exclude each other have no value in common."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.chat.constraints.schema_disjoint import are_disjoint

SCALARS = [None, True, False, 0, 1, 2, 3, 0.5, 2.5, "", "a", "b"]
VALUES = [
    *SCALARS,
    *([], [1], {}),
    *({"a": value} for value in SCALARS),
    *({"a": value, "b": other} for value in (0, "a", None) for other in (1, "b")),
    *({"b": value} for value in (0, "a")),
]
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
DEFINITIONS = {"d0": {"type": "string"}, "d1": {"const": 1}, "d2": {"$ref": "#/$defs/d0"}, "d3": {"$ref": "#/$defs/d3"}}
plain = (
    st.booleans()
    | st.builds(lambda kinds: {"type": kinds}, st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1))
    | st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(VALUES), min_size=1, max_size=3))
    | st.builds(lambda value: {"const": value}, st.sampled_from(VALUES))
    | st.builds(
        lambda bounds, more: {**bounds, **more},
        st.dictionaries(
            st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
            st.sampled_from([0, 1, 2, 2.5]),
            max_size=2,
        ),
        st.sampled_from([{}, {"type": "number"}, {"type": "integer"}]),
    )
    | st.builds(lambda index: {"$ref": f"#/$defs/d{index}"}, st.integers(0, 3))
)
schemas = st.recursive(
    plain,
    lambda inner: (
        st.builds(
            lambda key, members, more: {key: members, **more},
            st.sampled_from(["anyOf", "allOf"]),
            st.lists(inner, min_size=1, max_size=2),
            st.sampled_from([{}, {"type": "object"}, {"type": "integer"}]),
        )
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2)},
            optional={
                "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
                "additionalProperties": st.booleans(),
                "patternProperties": st.just({"b": True}),
            },
        )
    ),
    max_leaves=4,
)


def accepts(schema: Any, value: Any) -> bool:
    whole = {"allOf": [schema], "$defs": {**DEFINITIONS, "d3": True}}  # what leads to itself accepts anything here
    return bool(jsonschema.Draft202012Validator(whole).is_valid(value))


@given(st.lists(schemas, min_size=2, max_size=3))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_value_satisfies_two(members: list[Any]) -> None:
    found = are_disjoint(members, DEFINITIONS)
    assert are_disjoint(members[::-1], DEFINITIONS) == found
    if found:
        for value in VALUES:
            assert sum(accepts(member, value) for member in members) <= 1, value


def an_object(kind: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": kind}, "required": ["kind"], **more}


@pytest.mark.parametrize(
    "members",
    [
        [{"type": name} for name in TYPES if name != "integer"],
        [{"const": 1}, {"enum": [2, 3]}, {"type": "string"}],
        [an_object({"const": "a"}), an_object({"const": "b"}), an_object({"enum": ["c", "d"]})],
        [an_object({"$ref": "#/$defs/d2"}), an_object({"$ref": "#/$defs/d1"})],
        [an_object({}), {"type": "object", "properties": {"b": {}}, "additionalProperties": False}],
        [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 4}],
        [{"type": "number", "exclusiveMaximum": 3}, {"type": "number", "minimum": 3}],
        [{"anyOf": [{"const": 1}, {"type": "null"}]}, {"allOf": [{"type": "string"}, {"minLength": 1}]}],
        [False, {}],
        [{}],
    ],
)
def test_what_is_seen(members: list[Any]) -> None:
    assert are_disjoint(members, DEFINITIONS)


@pytest.mark.parametrize(
    "members",
    [
        [{"type": "integer"}, {"type": "number"}],
        [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 3}],
        [{"maximum": 3}, {"minimum": 4}],  # a text satisfies both
        [an_object({"const": "a"}, required=[]), an_object({"const": "b"}, required=[])],
        [{}, {"type": "string"}],
        [{"$ref": "#/$defs/d3"}, {"$ref": "#/$defs/d3"}],
    ],
)
def test_what_may_overlap(members: list[Any]) -> None:
    assert not are_disjoint(members, DEFINITIONS)
