"""The family's written form of a tool call, read back.

    <tool_call>
    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>
    </tool_call>

Values are written without quotes, so their types come from the tool's JSON schema.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from loqal.chat.output.call_text import (
    FUNCTION,
    PARAMETER,
    PARAMETER_END,
    ParameterNames,
    argument_texts,
    function_name,
)
from loqal.chat.template.native import argument_text
from loqal.types.messages import ToolCall

Schema = Mapping[str, Any]

_MOST_STEPS = 16  # from one reference to the next
_LONGEST_LITERAL = 1 << 18  # characters of a value written as Python writes it
_BAD_ESCAPE = re.compile(r"(?<!\\)\\(?![\\'\"abfnrtvxuUN0-7\n])")
_TYPE_ALIASES = {
    **dict.fromkeys(("string", "str"), "string"),
    **dict.fromkeys(("integer", "int", "int32", "int64", "long"), "integer"),
    **dict.fromkeys(("number", "float", "double"), "number"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("object", "dict"), "object"),
    **dict.fromkeys(("array", "list"), "array"),
    **dict.fromkeys(("null", "none"), "null"),
}
_INTEGER = re.compile(r"-?[0-9]{1,4000}")


def parameter_schemas(tools: Sequence[Mapping[str, Any]]) -> dict[str, Schema]:
    """The schema of each tool's arguments by the tool's name, whether or not it is wrapped in ``function``."""
    schemas: dict[str, Schema] = {}
    for tool in tools:
        definition = tool.get("function", tool)
        schema = definition.get("parameters", definition.get("input_schema"))
        schemas[definition.get("name", "")] = schema if isinstance(schema, Mapping) else {}
    return schemas


def could_become_call(body: str) -> bool:
    """Whether text after the opening tag can still turn into a call."""
    body = body.lstrip()
    return body.startswith((FUNCTION, "{")) or FUNCTION.startswith(body)


def in_open_value(body: str) -> bool:
    """Whether the text ends inside the value of a parameter."""
    return body.rfind(PARAMETER) > body.rfind(PARAMETER_END)


def parse_call(body: str, schemas: Mapping[str, Schema], *, closed: bool = False) -> ToolCall | None:
    """The call written between the tags, ``None`` unless it is complete. Takes time linear in the text.

    A parameter given twice makes the text no call.

    Args:
        closed: the closing tag of the call follows, so that closing tags inside it may have been dropped.
    """
    body = body.lstrip()
    if body.startswith("{"):
        return _hermes_call(body)
    name = function_name(body)
    if name is None:
        return None
    schema = schemas.get(name, {})
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    of_json = {key for key, part in known.items() if _is_json_only(part, schema)}
    texts = argument_texts(body, ParameterNames(known.keys(), of_json), closed=closed)
    if texts is None:
        return None
    others = schema.get("additionalProperties")
    return ToolCall(name, {key: typed(text, known.get(key, others), root=schema) for key, text in texts.items()})


def _hermes_call(body: str) -> ToolCall | None:
    """A call written as ``{"name": ..., "arguments": {...}}``."""
    value = _read_json(body)
    if not isinstance(value, dict) or set(value) - {"id"} != {"name", "arguments"}:
        return None
    name, arguments = value["name"], value["arguments"]
    if isinstance(arguments, str):
        arguments = _read_json(arguments)
    return ToolCall(name, arguments) if isinstance(name, str) and name and isinstance(arguments, dict) else None


def _is_json_only(schema: Any, root: Schema) -> bool:
    names = types_of(schema, root)
    return bool(names) and "string" not in names


def typed(text: str, schema: Any, *, root: Schema | None = None) -> Any:
    """The value a text stands for.

    The schema decides: among several allowed types the most specific that fits, strings last. Without a type, objects
    and arrays are read as JSON and all else is a string. A text that fits no allowed type stays a string.

    Args:
        text: as written in the call.
        schema: JSON schema of the argument, or ``None``.
        root: the schema whose ``$defs`` references point into.
    """
    choices = list(_alternatives(schema, root or {}))
    allowed = [value for choice in choices for value in _fixed(choice)]
    for written in (text, text.strip()):
        for value in allowed:
            if written in (argument_text(value), _json_text(value)):
                return value
    names = _names(choices)
    if not names:
        names = {"object", "array"}
    for name, read in _READERS.items():
        if name in names:
            value = read(text)
            if value is not _UNFIT:
                return value
    return text


def _fixed(schema: Schema) -> Sequence[Any]:
    """The values a schema lists."""
    fixed = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return fixed if isinstance(fixed, list) else []


def _alternatives(schema: Any, root: Schema) -> Iterator[Schema]:
    """The schema and those it offers as alternatives, references followed, each once."""
    waiting, seen = [schema], set[int]()
    while waiting:
        schema = waiting.pop(0)
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        waiting.append(_referred(schema, root))
        for key in ("anyOf", "oneOf", "allOf"):
            members = schema.get(key)
            waiting += members if isinstance(members, list) else ()


def types_of(schema: Any, root: Schema) -> set[str]:
    """The types a schema names anywhere among what it offers."""
    return _names(_alternatives(schema, root))


def _names(choices: Iterable[Schema]) -> set[str]:
    return {name for choice in choices for name in _type_names(choice)}


def resolved(schema: Any, root: Schema) -> Any:
    """The schema itself, or what it refers to when it does nothing else."""
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            return schema
        schema = _referred(schema, root)
    return None


def _referred(schema: Schema, root: Schema) -> Any:
    """What a schema refers to, if anything."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: Any = root
    for step in reference[2:].split("/"):
        target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
    return target


def canonical_type(name: str) -> str:
    """The name of a type as JSON Schema spells it, from the spellings of other languages; any other stays."""
    return _TYPE_ALIASES.get(name.lower(), name)


def _type_names(schema: Schema) -> list[str]:
    given = schema.get("type")
    names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else [given]
    nullable = ["null"] if schema.get("nullable") is True else []
    return [canonical_type(name) for name in names if isinstance(name, str)] + nullable


_UNFIT = object()


def _read_null(text: str) -> Any:
    return None if text.strip() in ("null", "None") else _UNFIT


def _read_boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text.strip().lower(), _UNFIT)


def _read_integer(text: str) -> Any:
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    number = _read_number(text)
    return int(number) if isinstance(number, float) and number.is_integer() else _UNFIT


def _read_number(text: str) -> Any:
    number = _read_json(text)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return _UNFIT
    return number


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return _UNFIT


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond the range of numbers")
    return number


def _read_object(text: str) -> Any:
    value = _read_container(text)
    return value if isinstance(value, dict) else _UNFIT


def _read_array(text: str) -> Any:
    value = _read_container(text)
    return value if isinstance(value, list) else _UNFIT


def _read_container(text: str) -> Any:
    """JSON, or what Python writes for the same value: ``{'a': None, 'b': True}``."""
    value = _read_json(text)
    if value is not _UNFIT or len(text) > _LONGEST_LITERAL or not text.lstrip().startswith(("{", "[")):
        return value
    try:
        value = ast.literal_eval(_BAD_ESCAPE.sub(r"\\\\", text.strip()))
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _UNFIT
    return value if _is_json(value) else _UNFIT


def _is_json(value: Any) -> bool:
    """Whether a literal has only keys and values that JSON has."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, int, float))


# In the order they are tried.
_READERS = {
    "null": _read_null,
    "boolean": _read_boolean,
    "integer": _read_integer,
    "number": _read_number,
    "object": _read_object,
    "array": _read_array,
}


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
