"""The written form of tool calls, read back with the types of a schema."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.chat.output.tool_calls import parameter_schemas, parse_call, typed
from loqal.chat.template.native import argument_text
from loqal.types.messages import ToolCall


def written(name: str, arguments: dict[str, Any]) -> str:
    """The body of a call as the template writes it."""
    parameters = (f"<parameter={key}>\n{argument_text(value)}\n</parameter>\n" for key, value in arguments.items())
    return f"\n<function={name}>\n{''.join(parameters)}</function>\n"


names = st.text("abcXYZ019_-.:", min_size=1, max_size=8)
# The form cannot hold a value that contains an end of a parameter followed by what may follow one.
text_values = st.text("ab<>/=\n \"'{}[]1é|", max_size=12) | st.sampled_from(
    ["</parameter>", "<parameter=x>", "</function>", "a</parameter> b", "</tool_call>", "true", "12", "\n\n", " x "]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def schema_of(value: Any) -> dict[str, Any]:
    return {"type": "null" if value is None else KINDS[type(value)]}


@given(names, st.dictionaries(names, json_values, max_size=4))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_a_written_call_reads_back(name: str, arguments: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {key: schema_of(value) for key, value in arguments.items()}}
    schemas = parameter_schemas([{"type": "function", "function": {"name": name, "parameters": schema}}])
    call = parse_call(written(name, arguments), schemas)
    assert call == ToolCall(name, arguments)
    assert call is not None and list(call.arguments) == list(arguments)
    assert [type(value) for value in call.arguments.values()] == [type(value) for value in arguments.values()]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "words",
        "<function=f>",
        "<function=f>\n<parameter=a>\n1\n</parameter>\n",
        "<function=f>\n<parameter=a>\n1\n</function>",
        "<function=f>\n<parameter=a>\n1\n</parameter>\nwords\n</function>",
        "<function=f>\nwords\n</function>",
        "<function=f></function> words",
        "<function=></function>",
        "<function=f\ng></function>",
        "<function=f</function>",
        "<function=f>\n<parameter=>\n1\n</parameter>\n</function>",
        "<function=f>\n<parameter=a\n1\n</parameter>\n</function>",
        "<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=a>\n2\n</parameter>\n</function>",
        '{"name": "f"}',
        '{"name": "f", "arguments": 3}',
        '{"name": "f", "arguments": {}',
    ],
)
def test_what_is_not_complete_is_no_call(body: str) -> None:
    assert parse_call(body, {}) is None


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("<function=f></function>", {}),
        ("<function=f><parameter=a>1</parameter></function>", {"a": "1"}),
        ("<function=f><parameter=a> 1</parameter></function>", {"a": "1"}),
        ("  <function= f >\n\n<parameter= a >\n x \n</parameter>\n\n</function>  ", {"a": " x "}),
        ("<function=f>\n<parameter=a>\n</parameter>\n</function>", {"a": ""}),
        ("<function=f>\n<parameter=a>\n\n</parameter>\n</function>", {"a": ""}),
        ("<function=f>\n<parameter=a>\n\n\n</parameter>\n</function>", {"a": "\n"}),
        ("<function=f>\n<parameter=a>\n</parameter>x\n</parameter>\n</function>", {"a": "</parameter>x"}),
        (
            "<function=f>\n<parameter=a>\n<function=g>\n<parameter=b>\n</function> 1\n</parameter>\n</function>",
            {"a": "<function=g>\n<parameter=b>\n</function> 1"},
        ),
    ],
)
def test_loose_forms(body: str, arguments: dict[str, str]) -> None:
    assert parse_call(body, {}) == ToolCall("f", arguments)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("12", {"type": "string"}, "12"),
        ("12", {"type": "integer"}, 12),
        (" 12\n", {"type": "integer"}, 12),
        ("12.0", {"type": "integer"}, 12),
        ("1e2", {"type": "integer"}, 100),
        ("1.5", {"type": "integer"}, "1.5"),
        ("007", {"type": "number"}, "007"),
        ("-1.5e3", {"type": "number"}, -1500.0),
        ("1e999", {"type": "number"}, "1e999"),
        ("[1e999]", {"type": "array"}, "[1e999]"),
        ("NaN", {"type": "number"}, "NaN"),
        ("9" * 5000, {"type": "integer"}, "9" * 5000),
        ("true", {"type": "boolean"}, True),
        ("False", {"type": "boolean"}, False),
        ("yes", {"type": "boolean"}, "yes"),
        ("1", {"type": "boolean"}, "1"),
        ("None", {"type": "null"}, None),
        ("null", {"type": ["string", "null"]}, None),
        ("nullable", {"type": ["string", "null"]}, "nullable"),
        ("5", {"type": ["string", "integer"]}, 5),
        ("5", {"anyOf": [{"type": "string"}, {"type": "null"}]}, "5"),
        ("5", {"oneOf": [{"type": "boolean"}, {"type": "number"}]}, 5),
        ("5", {"$ref": "#/$defs/n"}, 5),
        ("5", {"$ref": "#/$defs/loop"}, "5"),
        ("5", {"$ref": "#/nowhere"}, "5"),
        ("5", {"$ref": "https://example.com"}, "5"),
        ("2", {"enum": [1, 2]}, 2),
        ("True", {"enum": ["a", True]}, True),
        ("2", {"enum": ["1", "2"]}, "2"),
        ("3", {"type": "string", "enum": ["1", "2"]}, "3"),
        ("x", {"const": "x"}, "x"),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        ("[1, 2]", {"type": "object"}, "[1, 2]"),
        ("{'a': 1, 'b': True, 'c': [None]}", {"type": "object"}, {"a": 1, "b": True, "c": [None]}),
        ("['x', 'it\\'s', '\\d']", {"type": "array"}, ["x", "it's", "\\d"]),
        ("{1: 2}", {"type": "object"}, "{1: 2}"),
        ("{'a'}", {"type": "object"}, "{'a'}"),
        ("[1e999]", {"type": "array"}, "[1e999]"),
        ("['x']", {"type": "string"}, "['x']"),
        ("null", {"type": "integer", "nullable": True}, None),
        ("null", {"type": "string", "nullable": True}, None),
        ("null", {"type": "string"}, "null"),
        ("None", {"type": "string"}, "None"),
        ("true", {"type": "string"}, "true"),
        ("5", {"type": "int"}, 5),
        ("true", {"type": "BOOLEAN"}, True),
        ("x", {"type": "STRING"}, "x"),
        ("\n b \n", {"enum": ["a", "b"]}, "b"),
        ("[" * 100_000, {"type": "array"}, "[" * 100_000),
        ('{"a": 1}', None, {"a": 1}),
        ("[1]", {}, [1]),
        ("true", {}, "true"),
        ("12", None, "12"),
        ('"x"', None, '"x"'),
        ("x", {"type": 7, "enum": 3, "anyOf": "no"}, "x"),
        ("x", True, "x"),
    ],
)
def test_types(text: str, schema: Any, value: Any) -> None:
    root = {"$defs": {"n": {"type": "number"}, "loop": {"anyOf": [{"$ref": "#/$defs/loop"}, {"type": "string"}]}}}
    found = typed(text, schema, root=root)
    assert found == value
    assert type(found) is type(value)


@given(st.text("<function=parameter/>\nab ", max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_text_is_a_call_or_none(text: str) -> None:
    call = parse_call("<function=f>" + text + "</function>", {})
    assert call is None or call.name == "f"


@pytest.mark.parametrize("piece", ["</parameter>", "<parameter=a>\n", "</parameter>\n<parameter=", " ", "</function>"])
def test_time_is_linear(piece: str) -> None:
    body = "<function=f>\n<parameter=x>\n" + piece * (400_000 // len(piece)) + "</parameter>"
    started = time.process_time()
    parse_call(body + "</function>", {})
    parse_call(body, {})
    assert time.process_time() - started < 2


def test_many_references_end() -> None:
    members: list[Any] = [{"$ref": "#/$defs/a"}] * 50
    root = {"$defs": {"a": {"anyOf": members, "allOf": members}}}
    assert typed("5", {"$ref": "#/$defs/a"}, root=root) == "5"


def test_definitions_of_several_dialects() -> None:
    schema = {"properties": {}}
    tools = [
        {"type": "function", "function": {"name": "a", "parameters": schema}},
        {"name": "b", "input_schema": schema},
        {"name": "c", "parameters": None},
        {"name": "d"},
    ]
    assert parameter_schemas(tools) == {"a": schema, "b": schema, "c": {}, "d": {}}


SCHEMAS = parameter_schemas(
    [{"name": "f", "parameters": {"properties": {"a": {"type": "string"}, "b": {}, "o": {"type": "object"}}}}]
)


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("<function=f>\n<parameter=a>\n1", {"a": "1"}),
        ("<function=f>\n<parameter=a>\n1\n</function>", {"a": "1"}),
        ("<function=f>\n<parameter=a>\n1\n</parameter>", {"a": "1"}),
        ("<function=f>\n<parameter=a>\n1\n<parameter=b>\n2\n</parameter>\n</function>", {"a": "1", "b": "2"}),
        ("<function=f>\n<parameter=a>\n1<parameter=b>2</function>", {"a": "1", "b": "2"}),
        ("<function=f>\n<parameter=a>\n<parameter=c>\n</parameter>\n</function>", {"a": "<parameter=c>"}),
        ("<function=f>\n<parameter=a>\n \n", {"a": " "}),
        (
            '<function=f>\n<parameter=o>\n{"x": "</parameter>\\n<parameter=b>"}',
            {"o": {"x": "</parameter>\n<parameter=b>"}},
        ),
        ("<function=f>\n<parameter=a>\nsee <function=g> \n</parameter>\n</function>", {"a": "see <function=g> "}),
        ("<function=f>\n<parameter=a>\n1\n</parameter>\nwords", None),
        ("<function=f>\nwords", None),
    ],
)
def test_a_closed_call_may_lack_closing_tags(body: str, arguments: dict[str, Any] | None) -> None:
    call = parse_call(body, SCHEMAS, closed=True)
    assert (None if call is None else call.arguments) == arguments


def test_calls_in_json() -> None:
    for arguments in ('{"a": "1"}', '"{\\"a\\": \\"1\\"}"'):
        text = f'\n{{"name": "f", "arguments": {arguments}}}\n'
        assert parse_call(text, SCHEMAS) == ToolCall("f", {"a": "1"})
