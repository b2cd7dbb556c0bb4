"""JSON schemas of answers and arguments: which keywords can be held to, and where the one is that cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loqal.errors import RequestError

_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_TABLES = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE = ("additionalProperties", "additionalItems")
_FOLLOWED = frozenset(
    (
        *_LISTS,
        *_TABLES,
        *_SINGLE,
        *("$ref", "type", "enum", "const", "items", "required"),
        *("minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "minProperties", "maxProperties"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    )
)
NOTES = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "id", "$comment", "discriminator"),
    )
)
"""Keywords that say nothing about which values are valid."""

_SUSPECTS = ("pattern", "format", "$ref", "oneOf", "multipleOf", "minProperties", "maxProperties", "enum", "type")
MAX_BYTES = 1 << 18
_MOST_DEPTH = 64
_MOST_TRIED = 500  # parts that are compiled alone to find the one at fault


def check(schema: Any, where: str, compiles: Callable[[Any], str]) -> None:
    """Raise RequestError, naming the JSON pointer, when a schema cannot be followed in every respect.

    Args:
        where: how the caller knows the schema.
        compiles: what is wrong with a schema; an empty text when nothing is.
    """
    _check_size(schema, where)
    for pointer, part in _parts(schema):
        if isinstance(part, bool):
            continue
        if not isinstance(part, Mapping):
            raise _refusal(where, pointer, f"A schema is an object or a boolean, not {type(part).__name__}.")
        for key in part:
            if key not in _FOLLOWED and key not in NOTES:
                raise _refusal(where, f"{pointer}/{_escaped(key)}", f"The keyword {key!r} cannot be enforced.")
            if key in ("$id", "id") and pointer and isinstance(part[key], str):
                raise _refusal(where, f"{pointer}/{key}", "Only the whole schema can have an address.")
        reference = part.get("$ref")
        if reference is not None and not (isinstance(reference, str) and reference.startswith("#")):
            raise _refusal(where, f"{pointer}/$ref", "A reference must point into the schema itself.")
    fault = compiles(schema)
    if fault:
        raise _refusal(where, _culprit(schema, fault, compiles), fault)


def _check_size(schema: Any, where: str) -> None:
    try:
        size = len(json.dumps(schema))
    except (TypeError, ValueError, RecursionError):
        raise _refusal(where, "", "It is not JSON.") from None
    if size > MAX_BYTES:
        raise _refusal(where, "", f"It has {size:,} bytes; at most {MAX_BYTES:,} are read.")


def _parts(schema: Any, pointer: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The schema and all schemas in it by their pointers, outer ones first."""
    yield pointer, schema
    if not isinstance(schema, Mapping) or depth == _MOST_DEPTH:
        return
    for key, value in schema.items():
        inner: list[tuple[str, Any]] = []
        if key in _TABLES and isinstance(value, Mapping):
            inner = [(f"/{_escaped(name)}", part) for name, part in value.items()]
        elif (key in _LISTS or key == "items") and isinstance(value, list):
            inner = [(f"/{index}", part) for index, part in enumerate(value)]
        elif key in _SINGLE or key == "items":
            inner = [("", value)]
        for step, part in inner:
            yield from _parts(part, f"{pointer}/{key}{step}", depth + 1)


def _culprit(schema: Any, fault: str, compiles: Callable[[Any], str]) -> str:
    """Pointer of the innermost part that has the same fault by itself, and of the keyword in it if it is one."""
    whole: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    shared = {key: whole[key] for key in ("$defs", "definitions", "$schema") if key in whole}
    found, faulty = "", whole
    for pointer, part in reversed(list(_parts(schema))[:_MOST_TRIED]):
        if isinstance(part, Mapping) and compiles({**shared, **part}) == fault:
            found, faulty = pointer, part
            break
    for key in () if fault.startswith("Unsatisfiable") else _SUSPECTS:
        if key in faulty and compiles({**shared, **{name: faulty[name] for name in faulty if name != key}}) != fault:
            return f"{found}/{key}"
    return found


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _refusal(where: str, pointer: str, why: str) -> RequestError:
    return RequestError(
        f"{where} cannot be followed at #{pointer}.", why, "Change that part of the schema, or leave it out."
    )
