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

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from loqal.chat.template.native import argument_text
from loqal.types.messages import ToolCall

Schema = Mapping[str, Any]

_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"
_MOST_STEPS = 16  # from one reference to the next
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
    return body.startswith(_FUNCTION) or _FUNCTION.startswith(body)


def in_open_value(body: str) -> bool:
    """Whether the text ends inside the value of a parameter."""
    return body.rfind(_PARAMETER) > body.rfind(_PARAMETER_END)


def parse_call(body: str, schemas: Mapping[str, Schema]) -> ToolCall | None:
    """The call written between the tags, ``None`` unless it is complete. Takes time linear in the text.

    A value ends at the first closing tag that is followed by another parameter or by the end of the function; so a
    value may hold such tags itself. A parameter given twice makes the text no call.
    """
    body = body.strip()
    if not (body.startswith(_FUNCTION) and body.endswith(_FUNCTION_END)):
        return None
    name_end = body.find(">")
    name = body[len(_FUNCTION) : name_end].strip()
    if not name or "\n" in name or "<" in name:
        return None
    texts: dict[str, str] = {}
    position, end = name_end + 1, len(body) - len(_FUNCTION_END)
    while position < end:
        parameter = _parameter(body, position, end)
        if parameter is None:
            return None if body[position:end].strip() else _call(name, texts, schemas)
        key, value, position = parameter
        if key in texts:
            return None
        texts[key] = value
    return _call(name, texts, schemas)


def _parameter(body: str, position: int, end: int) -> tuple[str, str, int] | None:
    """Key, text of the value, and the position behind the parameter that begins at ``position``."""
    position = _skip_space(body, position)
    if not body.startswith(_PARAMETER, position):
        return None
    key_end = body.find(">", position, end)
    key = body[position + len(_PARAMETER) : key_end].strip()
    if key_end < 0 or not key or "\n" in key:
        return None
    begin = key_end + 1
    for close in _finds(body, _PARAMETER_END, begin, end):
        behind = close + len(_PARAMETER_END)
        follows = _skip_space(body, behind)
        if follows >= end or body.startswith(_PARAMETER, follows):
            return key, _without_line_ends(body[begin:close]), behind
    return None


def _finds(text: str, what: str, begin: int, end: int) -> Iterator[int]:
    while (begin := text.find(what, begin, end)) >= 0:
        yield begin
        begin += len(what)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _without_line_ends(text: str) -> str:
    """The value without the line end the form puts on either side of it."""
    return text.removeprefix("\n").removesuffix("\n")


def _call(name: str, texts: Mapping[str, str], schemas: Mapping[str, Schema]) -> ToolCall:
    schema = schemas.get(name, {})
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    return ToolCall(name, {key: typed(text, known.get(key), root=schema) for key, text in texts.items()})


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
    for choice in choices:
        fixed = choice.get("enum", [choice["const"]] if "const" in choice else [])
        for allowed in fixed if isinstance(fixed, list) else ():
            if argument_text(allowed) == text or _json_text(allowed) == text:
                return allowed
    names = _names(choices)
    if not names:
        names = {"object", "array"}
    for name, read in _READERS.items():
        if name in names:
            value = read(text)
            if value is not _UNFIT:
                return value
    return text


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


def _type_names(schema: Schema) -> list[str]:
    names = schema.get("type")
    if isinstance(names, list):
        return [name for name in names if isinstance(name, str)]
    return [names] if isinstance(names, str) else []


_UNFIT = object()


def _read_null(text: str) -> Any:
    return None if text in ("null", "None") else _UNFIT


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
    value = _read_json(text)
    return value if isinstance(value, dict) else _UNFIT


def _read_array(text: str) -> Any:
    value = _read_json(text)
    return value if isinstance(value, list) else _UNFIT


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
