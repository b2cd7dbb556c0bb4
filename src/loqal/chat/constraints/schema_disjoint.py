"""Whether schemas exclude each other, so that a value satisfies at most one of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_STEPS = 8  # from one reference to the next


def are_disjoint(members: Sequence[Any], definitions: Mapping[str, Any]) -> bool:
    """Whether no value satisfies two of some rewritten schemas; False where that cannot be told."""
    found = [_resolved(member, definitions) for member in members]
    return all(_exclude(first, second, definitions) for first, second in itertools.combinations(found, 2))


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, Mapping) or set(schema) != {"$ref"}:
            return schema
        schema = definitions.get(schema["$ref"].removeprefix("#/$defs/"), True)
    return True


def _exclude(first: Any, second: Any, definitions: Mapping[str, Any], depth: int = 0) -> bool:
    first, second = _resolved(first, definitions), _resolved(second, definitions)
    if first is False or second is False:
        return True
    if depth > _MOST_STEPS or not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return False
    for one, other in ((first, second), (second, first)):
        for key in ("anyOf", "allOf"):
            members = one.get(key)
            if members and (all if key == "anyOf" else any)(
                _exclude(member, other, definitions, depth + 1) for member in members
            ):
                return True
    kinds = [_types(schema) for schema in (first, second)]
    if not kinds[0] & kinds[1]:
        return True
    values = [_values(schema) for schema in (first, second)]
    if values[0] is not None and values[1] is not None:
        return not values[0] & values[1]
    if kinds[0] & kinds[1] == {"object"}:
        return _objects_exclude(first, second, definitions, depth)
    return bool(kinds[0] & kinds[1] <= {"integer", "number"}) and _ranges_exclude(first, second)


def _objects_exclude(
    first: Mapping[str, Any], second: Mapping[str, Any], definitions: Mapping[str, Any], depth: int
) -> bool:
    """Whether a property that one object must have is one that the other cannot have, or not with such a value."""
    for one, other in ((first, second), (second, first)):
        for name in one.get("required", ()):
            theirs = other.get("properties", {}).get(name, None if _may_have_more(other) else False)
            if theirs is False or (
                theirs is not None
                and _exclude(one.get("properties", {}).get(name, True), theirs, definitions, depth + 1)
            ):
                return True
    return False


def _may_have_more(schema: Mapping[str, Any]) -> bool:
    return schema.get("additionalProperties", True) is not False or bool(schema.get("patternProperties"))


def _types(schema: Mapping[str, Any]) -> set[str]:
    values = _values(schema)
    if values is not None:
        return {_type_of(json.loads(value)) for value in values} | (
            {"number"} if any(_type_of(json.loads(value)) == "integer" for value in values) else set()
        )
    kinds = schema.get("type", ["null", "boolean", "number", "string", "array", "object"])
    found = set(kinds if isinstance(kinds, list) else [kinds])
    return found | ({"integer"} if "number" in found else set())


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if value == value // 1 else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _values(schema: Mapping[str, Any]) -> set[str] | None:
    """The values that a schema lists, as JSON texts."""
    if "const" in schema:
        return {json.dumps(schema["const"], sort_keys=True)}
    return {json.dumps(value, sort_keys=True) for value in schema["enum"]} if "enum" in schema else None


def _ranges_exclude(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    for low, high in ((first, second), (second, first)):
        top = min((high[key] for key in ("maximum", "exclusiveMaximum") if key in high), default=None)
        bottom = max((low[key] for key in ("minimum", "exclusiveMinimum") if key in low), default=None)
        if top is None or bottom is None:
            continue
        touches = high.get("maximum") == top and low.get("minimum") == bottom
        if top < bottom or (top == bottom and not touches):
            return True
    return False
