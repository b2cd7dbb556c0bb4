"""Parts of schemas by their pointers, and where references lead."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.chat.constraints.schema_parts import MOST_DEPTH, Addresses, at_pointer, escaped, parts

NAMES = st.text("a/~0 %é", min_size=1, max_size=3)
SCHEMAS = st.recursive(
    st.booleans() | st.just({}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=2),
            "$defs": st.dictionaries(NAMES, inner, max_size=2),
            "items": inner | st.lists(inner, max_size=2),
            "anyOf": st.lists(inner, max_size=2),
            "not": inner,
            "enum": st.lists(inner, max_size=1),
        },
    ),
    max_leaves=6,
)


@given(SCHEMAS)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_part_stands_at_its_pointer_and_references_lead_there(schema: Any) -> None:
    found = list(parts(schema))
    pointers = [pointer for pointer, _ in found]
    assert found[0] == ("", schema) and len(set(pointers)) == len(pointers)
    addresses = Addresses(schema, is_old=False)
    for pointer, part in found:
        assert at_pointer(schema, pointer) is part
        assert addresses.target("#" + quote(pointer), "") == pointer
        assert not pointer or pointer.startswith(tuple(pointers[: pointers.index(pointer)]))  # outer ones first


def test_values_and_lists_of_names_are_no_schemas() -> None:
    schema = {"enum": [{"items": {}}], "const": {"not": {}}, "dependencies": {"a": ["b"], "c": {}}, "required": ["a"]}
    assert [pointer for pointer, _ in parts(schema)] == ["", "/dependencies/c"]


def test_deep_schemas_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}
    assert len(list(parts(schema))) == MOST_DEPTH + 1


@given(st.dictionaries(NAMES, st.integers(), min_size=1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_keys_are_escaped(values: dict[str, int]) -> None:
    assert all(at_pointer(values, "/" + escaped(key)) == value for key, value in values.items())


@pytest.mark.parametrize("pointer", ["/b", "/a/2", "/a/x", "/a/0/y", "/a/-1"])
def test_nothing_stands_there(pointer: str) -> None:
    with pytest.raises(LookupError):
        at_pointer({"a": [1, 2]}, pointer)


ROOT = {
    "$id": "http://x/root",
    "$defs": {
        "a": {"$anchor": "here"},
        "b": {"$id": "other", "$defs": {"c": {"$anchor": "here"}}},
        "d": {"$id": "#old"},
    },
}


@pytest.mark.parametrize(
    ("reference", "at", "target"),
    [
        ("#", "", ""),
        ("#here", "", "/$defs/a"),
        ("#old", "", "/$defs/d"),
        ("root", "/$defs/a", ""),
        ("http://x/root#/$defs/a", "", "/$defs/a"),
        ("other", "", "/$defs/b"),
        ("#", "/$defs/b/$defs/c/$ref", "/$defs/b"),
        ("#here", "/$defs/b/$defs/c", "/$defs/b/$defs/c"),
        ("other#/$defs/c", "", "/$defs/b/$defs/c"),
        ("root#here", "/$defs/b", "/$defs/a"),
        ("http://y/root", "", None),
        ("#nowhere", "", None),
        ("http://[", "", None),
    ],
)
def test_where_references_lead(reference: str, at: str, target: str | None) -> None:
    assert Addresses(ROOT, is_old=False).target(reference, at) == target


def test_beside_a_reference_old_schemas_have_no_name() -> None:
    schema = {"$defs": {"a": {"$id": "b", "$ref": "#"}}}
    assert Addresses(schema, is_old=False).target("b", "") == "/$defs/a"
    assert Addresses(schema, is_old=True).target("b", "") is None


def test_dynamic_references() -> None:
    once, twice = ({"$defs": {str(index): {"$dynamicAnchor": "t"} for index in range(count)}} for count in (1, 2))
    assert Addresses(once, is_old=False).is_fixed("#t") and not Addresses(twice, is_old=False).is_fixed("#t")
    assert Addresses(once, is_old=False).target("#t", "") == "/$defs/0"
