"""JSON schemas rewritten into what the constraint library follows.

The drafts' spellings become one, references become entries of ``$defs``, annotations go, and keywords that the library
lacks are put into others that say the same where there are such. What is left over cannot be held: it is dropped and
reported, or refused where the schema must hold in every respect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loqal.chat.constraints.schema_disjoint import are_disjoint
from loqal.chat.constraints.schema_parts import MOST_DEPTH, Addresses, at_pointer, escaped
from loqal.chat.constraints.string_formats import FORMAT_PATTERNS, LIBRARY_FORMATS
from loqal.chat.output.tool_calls import canonical_type

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$schema"),
        *(
            "$id",
            "id",
            "$comment",
            "discriminator",
            "$vocabulary",
            "$anchor",
            "$recursiveAnchor",
            "$defs",
            "definitions",
        ),
        *("contentEncoding", "contentMediaType", "contentSchema", "xml", "externalDocs", "nullable", "strict"),
        *("$dynamicAnchor", "then", "else"),
    )
)
"""Keywords that by themselves say nothing about which values are valid."""

_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COMBINED = ("$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "dependencies", "not", "$dynamicRef")
_VAST = 1e18  # bounds of numbers beyond it are met by all numbers that are written
_MOST_LENGTH = 1 << 20  # a longer text or array is never written


@dataclass(frozen=True, slots=True)
class Fault:
    """What cannot be held, by its JSON pointer.

    Attributes:
        is_wrong: no reading of the schema can mean it.
        is_harmless: it says nothing about which values are valid.
        accepts_nothing: no value satisfies the part.
    """

    pointer: str
    why: str
    is_wrong: bool = False
    is_harmless: bool = False
    accepts_nothing: bool = False


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A schema for the constraint library, and what of the original it does not hold."""

    schema: Any
    faults: tuple[Fault, ...]


def rewritten(
    schema: Any, *, close: bool, skip: frozenset[str] = frozenset(), at: str = "", prefix: str = "d"
) -> Rewritten:
    """A whole schema, or the part of it at a JSON pointer, for the constraint library.

    Args:
        close: objects that do not say whether they have further properties have none.
        skip: pointers of keywords to leave out.
        prefix: what the names in its ``$defs`` begin with.
    """
    work = _Rewriter(schema, close, skip, prefix)
    found = work.part(at_pointer(schema, at), at, close=close)
    definitions = work.definitions()
    if definitions:
        found = {**(found if isinstance(found, dict) else {"allOf": [found]}), "$defs": definitions}
    return Rewritten(found, tuple(work.faults))


@dataclass
class _Rewriter:
    root: Any
    close: bool
    skip: frozenset[str]
    prefix: str = ""
    faults: list[Fault] = field(default_factory=list)
    _names: dict[tuple[str, bool], str] = field(default_factory=dict)
    _one_ofs: list[tuple[list[Any], str]] = field(default_factory=list)
    _depth: int = 0

    def __post_init__(self) -> None:
        address = self.root.get("$schema") if isinstance(self.root, Mapping) else None
        self._is_old = isinstance(address, str) and re.search(r"draft-0?[3467]", address) is not None
        self._addresses = Addresses(self.root, is_old=self._is_old)

    def definitions(self) -> dict[str, Any]:
        """The parts that are referred to, each rewritten once."""
        found: dict[str, Any] = {}
        while len(found) < len(self._names):
            (pointer, close), name = list(self._names.items())[len(found)]
            found[name] = self.part(at_pointer(self.root, pointer), pointer, close=close)
        for members, where in self._one_ofs:
            if len(members) > 1 and not are_disjoint(members, found):
                self._fault(where, "It cannot be shown that no value satisfies two of the alternatives.")
        return found

    def part(self, part: Any, pointer: str, *, close: bool) -> Any:
        """One schema, rewritten."""
        if isinstance(part, bool):
            return part
        if not isinstance(part, Mapping):
            self._fault(pointer, f"A schema is an object or a boolean, not {type(part).__name__}.", is_wrong=True)
            return True
        if self._depth >= MOST_DEPTH:
            self._fault(pointer, f"It is nested more than {MOST_DEPTH} deep.", is_wrong=True)
            return True
        given = {key: value for key, value in part.items() if f"{pointer}/{escaped(key)}" not in self.skip}
        if self._is_old and "$ref" in given:
            given = {"$ref": given["$ref"]}
        self._depth += 1
        found = self._keywords(given, pointer, close=close)
        self._depth -= 1
        return found

    def _keywords(self, given: Mapping[str, Any], pointer: str, *, close: bool) -> Any:
        alone = close and not any(key in given for key in _COMBINED)
        close_members = close and not any(key in given for key in ("properties", "patternProperties", "required"))
        close_members = close_members and sum(key in given for key in _COMBINED) == 1 and "allOf" not in given
        found: dict[str, Any] = {}
        more: list[Any] = []  # schemas that must hold as well
        for key in given:
            where = f"{pointer}/{escaped(key)}"
            if key in ANNOTATIONS or key.startswith("x-"):
                continue
            method = _METHODS.get(key)
            if method is None:
                self._fault(where, f"The keyword {key!r} is not known.", is_harmless=True)
            else:
                method(self, found, more, given, key, where, close_members)
        if given.get("nullable") is True:
            found, more = _with_null(found, more)
        if alone and _is_open(found):
            found["additionalProperties"] = False
        if more:
            found = {**found, "allOf": [*found.get("allOf", ()), *more]}
        return found

    def _fault(
        self,
        pointer: str,
        why: str,
        *,
        is_wrong: bool = False,
        is_harmless: bool = False,
        accepts_nothing: bool = False,
    ) -> None:
        self.faults.append(Fault(pointer, why, is_wrong, is_harmless, accepts_nothing))

    # One method for every keyword: what is found so far, what must hold as well, the schema, the keyword, its pointer.

    def _reference(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        value = given[key]
        if key == "$dynamicRef" and isinstance(value, str) and not self._addresses.is_fixed(value):
            self._fault(where, "What it refers to depends on where the schema is used.")
            return
        target = self._addresses.target(value, where) if isinstance(value, str) else None
        if target is None:
            self._fault(where, "A reference must point into the schema itself.", is_wrong=True)
            return
        try:
            at_pointer(self.root, target)
        except (LookupError, ValueError):
            self._fault(where, "It points to nothing in the schema.", is_wrong=True)
            return
        name = self._names.setdefault((target, close), f"{self.prefix}{len(self._names)}")
        found["$ref"] = f"#/$defs/{name}"

    def _type(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        names = given[key] if isinstance(given[key], list) else [given[key]]
        kinds = [canonical_type(name) if isinstance(name, str) else name for name in names]
        for name in kinds:
            if name not in TYPES:
                self._fault(where, f"JSON has no type {name!r}.", is_wrong=True)
                return
        found[key] = kinds[0] if len(kinds) == 1 else list(dict.fromkeys(kinds))

    def _fixed(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if key == "enum" and not (isinstance(given[key], list) and given[key]):
            empty = given[key] == []
            self._fault(where, "It lists no value.", is_wrong=True, accepts_nothing=empty)
            return
        found[key] = given[key]

    def _members(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if not isinstance(given[key], list) or (not given[key] and key != "prefixItems"):
            self._fault(where, "It must be a list of schemas.", is_wrong=True)
            return
        close = close if key != "prefixItems" else self.close
        members = [self.part(part, f"{where}/{index}", close=close) for index, part in enumerate(given[key])]
        if key == "oneOf":
            key = "anyOf"
            self._one_ofs.append((members, where))
        if key in found:
            more.append({key: members})
        else:
            found[key] = members

    def _table(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if not isinstance(given[key], Mapping):
            self._fault(where, "It must be an object of schemas.", is_wrong=True)
            return
        inner = {
            name: self.part(part, f"{where}/{escaped(name)}", close=self.close) for name, part in given[key].items()
        }
        found[key] = inner

    def _inner(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        found[key] = self.part(given[key], where, close=self.close)

    def _items(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if isinstance(given[key], list):  # of older drafts
            found["prefixItems"] = [
                self.part(part, f"{where}/{index}", close=self.close) for index, part in enumerate(given[key])
            ]
            if "additionalItems" in given:
                rest = self.part(
                    given["additionalItems"], where.removesuffix("items") + "additionalItems", close=self.close
                )
                found["items"] = rest
        else:
            found["items"] = self.part(given[key], where, close=self.close)

    def _count(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        value = given[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value != value // 1:
            self._fault(where, "It must be a whole number from 0.", is_wrong=True)
            return
        if key.startswith("min") or value <= _MOST_LENGTH:
            found[key] = int(value)

    def _bound(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        value = given[key]
        if isinstance(value, bool) and key.startswith("exclusive"):  # of draft 4
            inclusive = "minimum" if key == "exclusiveMinimum" else "maximum"
            if value and inclusive in given:
                found.pop(inclusive, None)
                found[key] = given[inclusive]
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (key == "multipleOf" and value <= 0):
            self._fault(
                where, "It must be a number." if key != "multipleOf" else "It must be a number above 0.", is_wrong=True
            )
            return
        if given.get("exclusiveMinimum" if key == "minimum" else "exclusiveMaximum") is True and key in (
            "minimum",
            "maximum",
        ):
            key = "exclusiveMinimum" if key == "minimum" else "exclusiveMaximum"
        if key != "multipleOf" and abs(value) > _VAST:
            if (value > 0) == (key in ("minimum", "exclusiveMinimum")):
                why = f"Numbers beyond {_VAST:.0e} are not written."
                self._fault(where, why, is_wrong=True, accepts_nothing=True)
                return
            value = int(_VAST) if value > 0 else -int(_VAST)
        found[key] = int(value) if isinstance(value, float) and value.is_integer() else value

    def _pattern(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if not isinstance(given[key], str):
            self._fault(where, "It must be a string.", is_wrong=True)
        elif "pattern" in found:
            more.append({"pattern": given[key]})
        else:
            found[key] = given[key]

    def _format(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        name = given[key]
        if isinstance(name, str) and name in FORMAT_PATTERNS:
            if "pattern" in found:
                more.append({"pattern": FORMAT_PATTERNS[name]})
            else:
                found["pattern"] = FORMAT_PATTERNS[name]
        elif isinstance(name, str) and name in LIBRARY_FORMATS:
            found[key] = name
        else:
            self._fault(where, f"The format {name!r} says nothing that could be held.", is_harmless=True)

    def _required(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if isinstance(given[key], bool):  # of draft 3
            return
        if not isinstance(given[key], list) or not all(isinstance(name, str) for name in given[key]):
            self._fault(where, "It must be a list of names.", is_wrong=True)
            return
        found[key] = list(dict.fromkeys(given[key]))

    def _not(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        opposite = negated(given[key])
        if opposite is None:
            self._fault(where, "The keyword 'not' cannot be enforced here.")
        else:
            more.append(self.part(opposite, where, close=False))

    def _if(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        base = where.removesuffix("if")
        then, other = (
            self.part(given[name], base + name, close=False) if name in given else True for name in ("then", "else")
        )
        if then is True and other is True:
            return
        condition, opposite = self.part(given[key], where, close=False), negated(given[key])
        if condition is True or (isinstance(given[key], Mapping) and not given[key]):
            more.append(then)
        elif condition is False:
            more.append(other)
        elif opposite is None:
            self._fault(where, "The keyword 'if' cannot be enforced here.")
        else:
            more.append(
                {"anyOf": [{"allOf": [condition, then]}, {"allOf": [self.part(opposite, where, close=False), other]}]}
            )

    def _dependent(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if not isinstance(given[key], Mapping):
            self._fault(where, "It must be an object.", is_wrong=True)
            return
        for name, needed in given[key].items():
            if isinstance(needed, list):
                if not _are_names(needed):
                    self._fault(f"{where}/{escaped(name)}", "It must be a list of names.", is_wrong=True)
                    continue
                then: Any = {"required": needed} if needed else True
            else:
                then = self.part(needed, f"{where}/{escaped(name)}", close=False)
            if then is not True:
                more.append({"anyOf": [{"properties": {name: False}}, then]})

    def _names_of(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        rule = given[key]
        if rule is True or rule == {}:
            return
        if rule is False:
            more.append({"maxProperties": 0})
        elif isinstance(rule, Mapping) and isinstance(rule.get("pattern"), str) and "patternProperties" not in given:
            more.append({"patternProperties": {rule["pattern"]: True}, "additionalProperties": False})
            if set(rule) - {"pattern", "type"} - ANNOTATIONS:
                self._fault(where, "Only an expression for the names can be enforced.")
        elif isinstance(rule, Mapping) and isinstance(rule.get("enum", [rule.get("const")]), list):
            names = rule.get("enum", [rule.get("const")])
            if not all(isinstance(name, str) for name in names):
                self._fault(where, "The keyword 'propertyNames' cannot be enforced here.")
                return
            more.append({"properties": dict.fromkeys(names, True), "additionalProperties": False})
        else:
            self._fault(where, "The keyword 'propertyNames' cannot be enforced here.")

    def _unevaluated(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if given[key] is True or given[key] == {}:
            return
        of_items = key == "unevaluatedItems"
        plain = "items" if of_items else "additionalProperties"
        if any(name in given for name in (*_COMBINED, "contains")):
            self._fault(where, f"The keyword {key!r} cannot be enforced beside others that combine schemas.")
        elif plain not in given:
            found[plain] = self.part(given[key], where, close=self.close)

    def _unique(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        if given[key] is True and given.get("maxItems") not in (0, 1):
            self._fault(where, "The keyword 'uniqueItems' cannot be enforced.")

    def _contains(self, found: Any, more: Any, given: Any, key: str, where: str, close: bool) -> None:
        fewest = given.get("minContains", 1)
        if not isinstance(fewest, int | float):
            self._fault(where, "minContains must be a number.", is_wrong=True)
            return
        if key != "contains":
            if "contains" in given and (key == "maxContains" or given[key] != 0):
                self._fault(where, f"The keyword {key!r} cannot be enforced.")
            return
        if fewest == 0:
            return
        if given[key] is True or given[key] == {}:
            more.append({"minItems": fewest})
        elif given[key] is False:
            more.append({"type": [name for name in TYPES if name not in ("array", "integer")]})
        else:
            self._fault(where, "The keyword 'contains' cannot be enforced.")


def negated(schema: Any) -> Any:
    """A schema for all values that another one does not accept; None where there is no simple one."""
    if isinstance(schema, bool):
        return not schema
    if not isinstance(schema, Mapping):
        return None
    plain = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
    if not plain:
        return False
    if set(plain) == {"not"}:
        return plain["not"]
    if set(plain) == {"type"}:
        names = plain["type"] if isinstance(plain["type"], list) else [plain["type"]]
        if not all(isinstance(name, str) for name in names):
            return None
        kinds = {canonical_type(name) for name in names}
        if "integer" in kinds and "number" not in kinds:
            return None
        left = [name for name in TYPES if name not in kinds and not (name == "integer" and "number" in kinds)]
        return {"type": [name for name in left if name != "integer"]} if left else False
    if set(plain) == {"required"} and _are_names(plain["required"]):
        return {"anyOf": [{"type": "object", "properties": {name: False}} for name in plain["required"]] or [False]}
    if set(plain) == {"enum"} or set(plain) == {"const"}:
        values = plain.get("enum", [plain.get("const")])
        if values == []:
            return True
        if isinstance(values, list) and all(isinstance(value, bool) for value in values) and len({*values}) < 2:
            return {
                "anyOf": [{"const": not values[0]}, {"type": [n for n in TYPES if n not in ("boolean", "integer")]}]
            }
    return None


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _with_null(found: dict[str, Any], more: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """A schema that accepts null as well."""
    if "enum" in found and None not in found["enum"]:
        found["enum"] = [*found["enum"], None]
    kinds = found.get("type")
    if kinds is not None and not more and not any(key in found for key in (*_COMBINED, "const")):
        names = kinds if isinstance(kinds, list) else [kinds]
        return {**found, "type": list(dict.fromkeys([*names, "null"]))}, more
    if not found and not more:
        return found, more
    return {"anyOf": [{**found, **({"allOf": more} if more else {})}, {"type": "null"}]}, []


def _is_open(found: Mapping[str, Any]) -> bool:
    """Whether an object is described that says nothing of further properties, though it names some."""
    known = found.get("properties")
    if not known or any(key in found for key in ("additionalProperties", "patternProperties")):
        return False
    return set(found.get("required", ())) <= set(known) and found.get("minProperties", 0) <= len(known)


_METHODS = {
    "$ref": _Rewriter._reference,
    "$dynamicRef": _Rewriter._reference,
    "type": _Rewriter._type,
    "enum": _Rewriter._fixed,
    "const": _Rewriter._fixed,
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _Rewriter._members),
    **dict.fromkeys(("properties", "patternProperties"), _Rewriter._table),
    "additionalProperties": _Rewriter._inner,
    "items": _Rewriter._items,
    "additionalItems": lambda *ignored: None,
    **dict.fromkeys(_COUNTS, _Rewriter._count),
    **dict.fromkeys(_BOUNDS, _Rewriter._bound),
    "pattern": _Rewriter._pattern,
    "format": _Rewriter._format,
    "required": _Rewriter._required,
    "not": _Rewriter._not,
    "if": _Rewriter._if,
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "dependencies"), _Rewriter._dependent),
    "propertyNames": _Rewriter._names_of,
    **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), _Rewriter._unevaluated),
    "uniqueItems": _Rewriter._unique,
    **dict.fromkeys(("contains", "minContains", "maxContains"), _Rewriter._contains),
}
