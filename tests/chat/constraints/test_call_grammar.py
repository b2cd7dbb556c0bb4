"""The grammar of calls of tools: what can be written, what is warned of, and which strict schemas are refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from chat_vocabulary import tokenizer
from loqal.chat.constraints.call_grammar import CallGrammar
from loqal.chat.constraints.compiler import Constraints
from loqal.chat.constraints.grammar import whole
from loqal.errors import RequestError
from loqal.types.reply_options import Tool

CONSTRAINTS = Constraints(tokenizer(), tokenizer().eos_ids)
TEXT = {"type": "string"}


def of_tools(*tools: Tool, with_json: bool = True) -> CallGrammar:
    paths = [f"tools[{index}].parameters" for index in range(len(tools))]
    faults, is_valid = CONSTRAINTS.schema_fault, CONSTRAINTS.is_valid
    return CallGrammar(tools, paths, faults=faults, is_valid=is_valid, with_json=with_json)


def of_schema(parameters: Any, *, strict: bool | None = None) -> CallGrammar:
    return of_tools(Tool("f", parameters=parameters, strict=strict))


def can_write(grammar: CallGrammar, body: str) -> bool:
    """Whether a call of this text, between the tags of a call, is one of the grammar and may end there."""
    ids, end = tokenizer().special_ids, min(tokenizer().eos_ids)
    matcher = CONSTRAINTS.compile(whole("call", grammar.rules, None), "The tools")
    if not matcher.accepts([ids["<tool_call>"], *tokenizer().encode_text(body), ids["</tool_call>"]]):
        return False
    return bool(matcher.mask()[end >> 5] >> (end & 31) & 1)


def body(*arguments: tuple[str, str], name: str = "f") -> str:
    parameters = "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in arguments)
    return f"\n<function={name}>\n{parameters}</function>\n"


def pointer_of(parameters: Any) -> str:
    with pytest.raises(RequestError) as caught:
        of_schema(parameters, strict=True)
    what = str(caught.value).split("\n")[0]
    assert "tools[0].parameters" in what
    return what.partition("#")[2].rstrip(".")


def test_every_tool_can_be_called_and_no_other() -> None:
    grammar = of_tools(Tool("f"), Tool("g h"), Tool("ä.b"))
    assert all(can_write(grammar, body(name=name)) for name in ("f", "g h", "ä.b"))
    assert not any(can_write(grammar, body(name=name)) for name in ("h", "ff", "g", "", "f>"))
    heads = [rule.partition(":")[0] for rule in "\n".join(grammar.rules).split("\n") if ":" in rule]
    assert len(heads) == len(set(heads))


def test_required_arguments_must_come_in_any_order_and_each_once() -> None:
    properties = dict.fromkeys("abc", TEXT)
    grammar = of_schema({"type": "object", "properties": properties, "required": ["b", "c"]})
    for count in range(5):
        for names in itertools.product("abc", repeat=count):
            is_right = {"b", "c"} <= set(names) and len(set(names)) == len(names)
            assert can_write(grammar, body(*((name, "x") for name in names))) == is_right, names


def test_line_ends_and_closing_tags_may_be_missing() -> None:
    grammar = of_schema({"type": "object", "properties": dict.fromkeys("ab", TEXT), "required": ["a"]})
    for end in ("</parameter>", "\n</parameter>\n", "\n", ""):
        for tail in ("</function>", "\n</function>\n", ""):
            assert can_write(grammar, f"<function=f><parameter=a>x{end}{tail}"), (end, tail)
            assert can_write(grammar, f"<function=f><parameter=b>x{end}<parameter=a>y{end}{tail}"), (end, tail)
            if end:
                assert not can_write(grammar, f"<function=f><parameter=b>x\n</parameter>\n{tail}"), (end, tail)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "additionalProperties": False}])
def test_a_tool_without_arguments(parameters: Any) -> None:
    grammar = of_schema(parameters)
    assert can_write(grammar, body()) and not can_write(grammar, body(("a", "1")))


@pytest.mark.parametrize(
    ("parameters", "strict", "is_open"),
    [
        ({"type": "object"}, None, True),
        ({"type": "object"}, True, False),
        ({"properties": {"a": TEXT}}, None, False),
        ({"properties": {"a": TEXT}, "additionalProperties": True}, None, True),
        ({"properties": {"a": TEXT}, "additionalProperties": False}, None, False),
        ({"properties": {"a": TEXT}, "additionalProperties": False}, False, True),
        (None, False, True),
    ],
)
def test_arguments_that_are_not_declared(parameters: Any, strict: bool | None, is_open: bool) -> None:
    assert can_write(of_schema(parameters, strict=strict), body(("other", "1"))) == is_open


def test_a_tool_that_is_expressly_not_strict_is_free() -> None:
    parameters = {"properties": {"a": {"type": "integer"}, "b": {"no": 5}}, "required": ["a"], "minProperties": 1}
    grammar = of_schema(parameters, strict=False)
    assert can_write(grammar, body(("a", "many"))) and can_write(grammar, body()) and not grammar.warnings
    held = of_schema({"properties": {"a": {"type": "integer"}}, "required": ["a"]})
    assert (
        not can_write(held, body(("a", "many"))) and not can_write(held, body()) and can_write(held, body(("a", "1")))
    )


def test_a_call_may_be_written_as_json() -> None:
    tool = Tool("f", parameters={"properties": {"a": {"type": "integer"}}, "required": ["a"]})
    for arguments, is_right in (('{"a": 1}', True), ('{"a": "x"}', False), ("{}", False), ('{"a": 1, "b": 2}', False)):
        written = f'\n{{"name": "f", "arguments": {arguments}}}\n'
        assert can_write(of_tools(tool), written) == is_right, arguments
        assert not can_write(of_tools(tool, with_json=False), written)
    assert not can_write(of_tools(tool), '{"name": "g", "arguments": {"a": 1}}')


def test_which_values_are_json() -> None:
    properties = {"a": {"type": "integer"}, "b": TEXT, "c": {"type": ["string", "null"]}, "d": {"type": "object"}}
    grammar = of_tools(Tool("f", parameters={"properties": properties}), Tool("g"))
    assert grammar.json_arguments == {"f": frozenset("ad"), "g": frozenset()}


def test_more_parameters_than_a_rule_can_tell_apart() -> None:
    names = [f"p{index}" for index in range(70)]
    grammar = of_schema({"properties": dict.fromkeys(names, TEXT), "required": names[:2]})
    assert can_write(grammar, body(*((name, "x") for name in reversed(names))))
    assert not can_write(grammar, body(*((name, "x") for name in names[1:])))


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"properties": {"a": {}}, "minProperties": 1}, "/minProperties"),
        ({"properties": {"a>": {}}}, "/properties"),
        ({"properties": []}, "/properties"),
        ({"properties": {"a": {}}, "required": ["b"]}, "/required"),
        ({"properties": {"a": {}}, "required": "a"}, "/required"),
        ({"properties": {"a": {"minLength": 2}}}, "/properties/a/minLength"),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "/properties/a/uniqueItems"),
        ({"properties": {"a": {"$ref": "#/$defs/x", "minLength": 1}}, "$defs": {"x": {}}}, "/properties/a/minLength"),
        ({"properties": {"a": {"anyOf": [{}], "minLength": 1}}}, "/properties/a/minLength"),
        ({"properties": {"a/b": {"type": "string", "pattern": "(?=a)"}}}, "/properties/a~1b/pattern"),
        (
            {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}]}}},
            "/properties/a",
        ),
    ],
)
def test_what_strict_tools_cannot_ask_for(parameters: Any, pointer: str) -> None:
    assert pointer_of(parameters) == pointer
    assert any(text.startswith(f"tools[0].parameters#{pointer}") for text in of_schema(parameters).warnings)


def test_what_nothing_satisfies() -> None:
    """A call without the argument is still right; where the argument is required, no call is."""
    parameters = {"properties": {"a": {"enum": []}, "b": TEXT}}
    grammar = of_schema(parameters)
    assert grammar.warnings and can_write(grammar, body(("b", "x"))) and not can_write(grammar, body(("a", "x")))
    for strict, required in ((True, []), (True, ["a"]), (None, ["a"])):
        with pytest.raises(RequestError, match="#/properties/a"):
            of_schema({**parameters, "required": required}, strict=strict)


def test_what_does_not_compile_is_left_free_unless_it_is_strict() -> None:
    def fails_on_minimum(schema: Any) -> str:
        return "broken" if "minimum" in str(schema) else ""

    def of_fault(strict: bool | None) -> CallGrammar:
        tool = Tool("f", parameters={"properties": {"a": {"type": "integer", "minimum": 5}}}, strict=strict)
        is_valid = CONSTRAINTS.is_valid
        return CallGrammar([tool], ["t"], faults=fails_on_minimum, is_valid=is_valid)

    grammar = of_fault(None)
    assert can_write(grammar, body(("a", "1"))) and not can_write(grammar, body(("a", "x")))  # the type is held
    assert len(grammar.warnings) == 1 and grammar.warnings[0].startswith("t#/properties/a/minimum: ")
    with pytest.raises(RequestError, match="#/properties/a/minimum"):
        of_fault(True)
