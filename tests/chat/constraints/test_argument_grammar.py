"""The rules of the value of one argument. Without compiling them."""

from __future__ import annotations

from typing import Any

import pytest

from loqal.chat.constraints.argument_grammar import Value, ValueRules
from loqal.chat.constraints.json_schema import HeldSchema
from loqal.errors import RequestError


def value(schema: Any, *, strict: bool = False, is_valid: bool = True) -> tuple[Value, str, list[str]]:
    """What a value may be, the rules it refers to, and the warnings."""
    rules = ValueRules(lambda grammar: is_valid)
    warnings: list[str] = []
    found = rules.value(HeldSchema(schema), strict=strict, path="p#/a", warnings=warnings)
    return found, "\n".join(rules.rules[2:]), warnings


def test_plain_values_are_written_as_models_write_them() -> None:
    assert value({"type": "boolean"})[0].rules == ['"true" | "false" | "True" | "False"']
    assert value({"type": "null"})[0].rules == ['"null" | "None"']
    assert value({"type": "integer"})[0].rules == ["INTEGER"] and value({"type": "number"})[0].rules == ["NUMBER"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object"},
        {"allOf": [{"type": "object"}, {"required": ["a"]}]},
    ],
)
def test_other_values_are_json(schema: Any) -> None:
    found, _, warnings = value({**schema, "$defs": {"d": {"type": "null"}}}, strict=True)
    (rule,) = found.rules
    assert rule.startswith("%json ") and '"$defs"' in rule and not found.text and not warnings
    assert found.schema == schema and found.definitions == {"d": {"type": "null"}}


def test_types_and_alternatives_add_up() -> None:
    either, _, _ = value({"type": ["integer", "null"]})
    assert either.rules == ["INTEGER", '"null" | "None"'] and not either.text
    chosen, _, _ = value(
        {"anyOf": [{"const": "u"}, {"$ref": "#/$defs/d"}], "$defs": {"d": {"anyOf": [{"const": "v"}]}}}
    )
    assert chosen.rules == ['"u"', '"v"'] and not chosen.text
    assert value({"anyOf": [{"type": "integer"}, {"type": "string"}]})[0].text


def test_literals_are_written_as_arguments_are() -> None:
    found, rules, _ = value({"enum": ["x", 5, True, None, [1, "a"], " y", ""]})
    assert found.rules[:2] == ['"x"', '"5"'] and len(found.rules) == 5 and '"true"' in found.rules[2].lower()
    assert found.spaced == ['" y"'] and len(found.strings) == 1 and '""' in rules
    long, _, warnings = value({"enum": list(range(3000))})
    assert long.text and "enum" in warnings[0]


@pytest.mark.parametrize("schema", [True, {}, {"type": "string"}])
def test_any_text(schema: Any) -> None:
    found, rules, warnings = value(schema, strict=True)
    assert found.text and not (found.rules or found.spaced or found.strings or rules or warnings)


def test_bounds_of_strings() -> None:
    assert "{2,5}" in value({"type": "string", "minLength": 2, "maxLength": 5})[1]
    assert "{0,5}" in value({"type": "string", "maxLength": 5})[1]
    assert "{2,}" in value({"type": "string", "minLength": 2})[1]
    found, both, _ = value({"type": "string", "pattern": "^a+$", "maxLength": 5})
    assert "/(?:a+)/" in both and "{0,5}" in both and "&" in both and not found.text
    assert "/(?:b)/" in value({"type": "string", "allOf": [{"pattern": "^b$"}]})[1]


def test_a_bounded_string_has_a_rule_for_each_of_its_ends_once() -> None:
    rules = ValueRules(lambda grammar: True)
    schema = HeldSchema({"type": "string", "maxLength": 5})
    first, second = (rules.value(schema, strict=True, path="p#", warnings=[]) for _ in range(2))
    assert first.strings == second.strings and len(first.strings) == 1
    heads = [rule.partition(":")[0] for rule in rules.rules]
    assert len(heads) == len(set(heads))
    assert {f"{first.strings[0]}{end}" for end in ("_closed[lazy]", "_open[lazy]", "_final")} <= set(heads)


@pytest.mark.parametrize(
    ("pattern", "inner"),
    [
        ("a", "/(?s:.*)(?:a)(?s:.*)/"),
        ("^a", "/(?:a)(?s:.*)/"),
        ("a$", "/(?s:.*)(?:a)/"),
        ("^a$", "/(?:a)/"),
        ("a|b", "/(?s:.*)(?:a|b)(?s:.*)/"),
        ("^(a|b)$", "/(?:(a|b))/"),
        ("[$^]", "/(?s:.*)(?:[$^])(?s:.*)/"),
        (r"\$", r"/(?s:.*)(?:\$)(?s:.*)/"),
        (r"^[\]^]$", r"/(?:[\]^])/"),
    ],
)
def test_patterns_are_searched_in_schemas_and_match_whole_texts_in_grammars(pattern: str, inner: str) -> None:
    assert inner in value({"type": "string", "pattern": pattern}, strict=True)[1]


def refused(schema: Any, **more: Any) -> str:
    """The pointer at which a strict schema is refused; others are warned of there, and any text is allowed."""
    found, rules, warnings = value(schema, **more)
    assert found.text and not rules and len(warnings) == 1
    with pytest.raises(RequestError) as caught:
        value(schema, strict=True, **more)
    pointer = str(caught.value).split("\n")[0].partition("#")[2].rstrip(".")
    assert warnings[0].startswith(f"p#{pointer}: ")
    return pointer


@pytest.mark.parametrize("pattern", ["a^b", "a$b", "^a|b", "a|b$", "^a|b$", "(^a)", 5])
def test_patterns_whose_anchors_cannot_be_followed(pattern: Any) -> None:
    assert refused({"type": "string", "pattern": pattern}) == "/a/pattern"


def test_patterns_that_do_not_compile() -> None:
    assert refused({"type": "string", "pattern": "(?=a)"}, is_valid=False) == "/a/pattern"


def test_what_may_be_a_string_or_not() -> None:
    assert refused({"minLength": 2}) == "/a/minLength"
    assert refused({"$ref": "#/$defs/d", "minLength": 1, "$defs": {"d": {}}}) == "/a/minLength"
    assert refused({"anyOf": [{"$ref": "#/$defs/d"}], "$defs": {"d": {"anyOf": [{"$ref": "#/$defs/d"}]}}}) == "/a"
