"""The grammar of calls of tools: its rules, and which schemas of strict tools are refused. Without compiling it."""

from __future__ import annotations

from typing import Any

import pytest

from loqal.chat.constraints.call_grammar import CallGrammar, calls_rule, check_names
from loqal.errors import RequestError
from loqal.types.reply_options import Tool


def rules(parameters: Any, *, strict: bool = False, enforce: bool = True, compiles: bool = True) -> str:
    tool = Tool("f", parameters=parameters, strict=strict)
    return "\n".join(CallGrammar([tool], enforce=enforce, compiles=lambda rule: compiles).rules)


def of_argument(schema: Any, **options: Any) -> str:
    return rules({"type": "object", "properties": {"a": schema}, "required": ["a"]}, **options)


def pointer_of(parameters: Any) -> str:
    with pytest.raises(RequestError) as caught:
        rules(parameters, strict=True)
    what = str(caught.value).split("\n")[0]
    assert "'f'" in what
    return what.partition("#")[2].rstrip(".")


@pytest.mark.parametrize("name", ["a", "a b", "get.weather", "ä"])
def test_names(name: str) -> None:
    check_names([Tool(name), Tool(name + "x")])


@pytest.mark.parametrize("names", [("",), ("a", "a"), ("a<b",), ("a>",), ("a\nb",), (" a",), ("a ",)])
def test_names_that_cannot_be_called(names: tuple[str, ...]) -> None:
    with pytest.raises(RequestError):
        check_names(list(map(Tool, names)))


def test_one_call_or_several() -> None:
    assert calls_rule(False) == "call"
    assert calls_rule(True).startswith("call (") and calls_rule(True).endswith("*")


def test_every_tool_is_one_choice_of_the_call() -> None:
    grammar = CallGrammar([Tool("f"), Tool("g")], enforce=True, compiles=lambda rule: True).rules
    assert '"f>\\n"' in "".join(grammar) and '"g>\\n"' in "".join(grammar)
    call = next(rule for rule in grammar if rule.startswith("call:"))
    names = [rule.partition(":")[0] for rule in grammar if '"</function>' in rule]
    assert len(names) == 2 and all(name in call for name in names)
    assert len(names) == len(set(names))


def test_required_arguments_must_come_and_others_may() -> None:
    text = rules({"properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["b"]})
    function = next(line for line in text.split("\n") if '"f>' in line)
    assert function.count("?") == 1 and function.index("?") < function.index('"</function>')
    loose = rules({"properties": {"a": {"type": "string"}}}, enforce=False)
    assert "*" in next(line for line in loose.split("\n") if '"f>' in line)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "additionalProperties": False}])
def test_a_tool_without_arguments(parameters: Any) -> None:
    function = next(line for line in rules(parameters).split("\n") if '"f>' in line)
    assert "parameter" not in function


def test_values_by_their_types() -> None:
    assert '"true" | "false"' in of_argument({"type": "boolean"})
    assert '"null" | "None"' in of_argument({"type": "null"})
    assert "%json" in of_argument({"type": "integer"})
    assert "%json" not in of_argument({"type": "string"})
    assert "%json" not in of_argument({})  # it does not say whether it is a string
    fixed = of_argument({"enum": ["x", 5, True]})
    assert '"x"' in fixed and '"5"' in fixed and '"true"' in fixed.lower()
    assert '"y"' in of_argument({"const": "y"})
    either = of_argument({"type": ["integer", "null"]})
    assert "%json" in either and '"null"' in either
    chosen = of_argument({"anyOf": [{"const": "u"}, {"oneOf": [{"const": "v"}]}]})
    assert '"u"' in chosen and '"v"' in chosen


def test_bounds_of_strings() -> None:
    assert "{2,5}" in of_argument({"type": "string", "minLength": 2, "maxLength": 5})
    assert "{0,5}" in of_argument({"type": "string", "maxLength": 5})
    assert "{2,}" in of_argument({"type": "string", "minLength": 2})
    both = of_argument({"type": "string", "pattern": "^a+$", "maxLength": 5})
    assert "(?:a+)" in both and "&" in both


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
    assert inner in of_argument({"type": "string", "pattern": pattern}, strict=True)


@pytest.mark.parametrize("pattern", ["a^b", "a$b", "^a|b", "a|b$", "^a|b$", "(^a)", 5])
def test_patterns_whose_anchors_cannot_be_followed(pattern: Any) -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": pattern}}}
    assert pointer_of(schema) == "/properties/a/pattern"
    assert "T" not in rules(schema).replace("True", "")  # of a tool that is not strict it is left out


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"properties": {"a": {}}, "minProperties": 1}, "/minProperties"),
        ({"properties": {"a>": {}}}, "/properties"),
        ({"properties": {"a": {}}, "required": ["b"]}, "/required"),
        ({"properties": {"a": {"type": "string", "format": "date"}}}, "/properties/a/format"),
        ({"properties": {"a": {"minLength": 2}}}, "/properties/a/minLength"),
        ({"properties": {"a": {"$ref": "#/$defs/x", "minLength": 1}}, "$defs": {"x": {}}}, "/properties/a/minLength"),
        ({"properties": {"a": {"anyOf": [{}], "minLength": 1}}}, "/properties/a/minLength"),
        (
            {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}]}}},
            "/properties/a",
        ),
    ],
)
def test_what_strict_tools_cannot_ask_for(parameters: Any, pointer: str) -> None:
    assert pointer_of(parameters) == pointer
    rules(parameters)  # of a tool that is not strict, as far as it goes


def test_what_does_not_compile_is_left_free_unless_it_is_strict() -> None:
    assert "%json" not in of_argument({"type": "integer"}, compiles=False)
    assert "%json" in of_argument({"type": "integer"}, compiles=False, strict=True)
    bounded = {"type": "string", "maxLength": 5}
    assert "{0,5}" not in of_argument(bounded, compiles=False)
    assert "{0,5}" in of_argument(bounded, compiles=False, strict=True)


def test_unknown_arguments_of_open_tools() -> None:
    assert "/[^<>\\n]+/" in rules({"type": "object"})
    assert "/[^<>\\n]+/" not in rules({"properties": {"a": {}}, "additionalProperties": False}, enforce=False)
    assert "/[^<>\\n]+/" in rules({"properties": {"a": {}}}, enforce=False)
