"""What the value of one argument of a call may be: plain text, a bounded string, or JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loqal.chat.constraints.grammar import has_choice, json_rule, literal, slashed, without
from loqal.chat.constraints.json_schema import HeldSchema, SchemaError
from loqal.chat.constraints.string_formats import TEXT_PATTERNS
from loqal.chat.template.native import argument_text

_MOST_NESTED = 8  # choices within choices
_MOST_CHOICES = 2_000
_PLAIN = {
    "boolean": '"true" | "false" | "True" | "False"',
    "null": '"null" | "None"',
    "integer": "INTEGER",
    "number": "NUMBER",
}
_ENDS = {"_closed": r"<\/parameter>", "_open": "<parameter=", "_final": r"(<\/function>[ \t\r\n]*)?"}
_STRING_KEYWORDS = {"type", "minLength", "maxLength", "pattern", "format", "allOf"}


@dataclass
class Value:
    """What a value may be.

    Attributes:
        text: any string, whatever else is allowed.
        rules: JSON and literals, white space around them left out.
        spaced: literals with white space of their own at their ends.
        strings: names of bounded strings, each with the rules ``_closed``, ``_open`` and ``_final``.
        schema, definitions: the same in JSON.
    """

    text: bool = False
    rules: list[str] = field(default_factory=list)
    spaced: list[str] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)
    schema: Any = True
    definitions: Mapping[str, Any] = field(default_factory=dict)


class ValueRules:
    """Makes the rules of values.

    Args:
        is_valid: whether a grammar can be compiled.

    Attributes:
        rules: the rules that values refer to.
    """

    def __init__(self, is_valid: Callable[[str], bool]) -> None:
        self._is_valid = is_valid
        self._terms: dict[str, str] = {}
        self.rules = [
            r"INTEGER: /-?(0|[1-9][0-9]{0,18})/",
            r"NUMBER: /-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,3})?/",
        ]

    def value(self, held: HeldSchema, *, strict: bool, path: str, warnings: list[str]) -> Value:
        """What a schema says of a value.

        Args:
            strict: refuse what cannot be held where a value is written without quotes.
            path: how the caller knows the schema.
            warnings: takes what is not held.

        Raises:
            SchemaError: of a strict schema.
        """
        schema = held.schema
        definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        plain = {key: part for key, part in schema.items() if key != "$defs"} if isinstance(schema, Mapping) else schema
        found = Value(schema=plain, definitions=definitions)
        why = self._collect(found, plain, definitions, 0)
        if why:
            key, _, reason = why.partition(":")
            path += f"/{key}" if key else ""
            if strict:
                where, _, pointer = path.partition("#")
                raise SchemaError(where, pointer, reason)
            warnings.append(f"{path}: {reason}")
            found.text = True
        if not (found.text or found.rules or found.spaced or found.strings):
            found.text = True
        return found

    def _collect(self, found: Value, schema: Any, definitions: Mapping[str, Any], depth: int) -> str:
        """Add what a schema allows; why it cannot be held, an empty text where it can.

        The reason begins with the keyword at fault and a colon, where it is one.
        """
        if depth > _MOST_NESTED:
            return ":It offers itself as a choice."
        if not isinstance(schema, Mapping) or not schema:
            found.text = found.text or schema is not False
            return ""
        if set(schema) == {"$ref"}:
            target = definitions.get(schema["$ref"].removeprefix("#/$defs/"), True)
            return self._collect(found, target, definitions, depth + 1)
        fixed = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if fixed is not None:
            return self._literals(found, fixed)
        if set(schema) == {"anyOf"}:
            whys = [self._collect(found, choice, definitions, depth + 1) for choice in schema["anyOf"]]
            return next(filter(None, whys), "")
        kinds = schema.get("type")
        if isinstance(kinds, list):
            whys = [self._collect(found, {**schema, "type": kind}, definitions, depth + 1) for kind in kinds]
            return next(filter(None, whys), "")
        if kinds == "string":
            return self._string(found, schema)
        if kinds is None:
            return self._untyped(found, schema, definitions)
        if set(schema) == {"type"} and kinds in _PLAIN:
            found.rules.append(_PLAIN[kinds])
        else:
            found.rules.append(json_rule({**schema, "$defs": definitions} if definitions else schema))
        return ""

    def _untyped(self, found: Value, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
        """A schema that does not say by ``type`` whether it accepts strings."""
        members = schema.get("allOf", ()) if set(schema) <= {"allOf", "$ref"} else ()
        if members and any(_names_no_string(part, definitions) for part in [*members, schema]):
            found.rules.append(json_rule({**schema, "$defs": definitions} if definitions else schema))
            return ""
        found.text = True
        key = next((name for name in schema if name not in ("allOf", "anyOf", "$ref")), next(iter(schema)))
        return f"{key}:Without a type it is not known whether the value is a string, which is written without quotes."

    def _literals(self, found: Value, values: Any) -> str:
        if len(values) > _MOST_CHOICES:
            return f"enum:It lists more than {_MOST_CHOICES:,} values."
        for value in values:
            text = argument_text(value)
            if not text:
                found.strings.append(self._term('""'))
            elif text != text.strip():
                found.spaced.append(literal(text))
            else:
                found.rules.append(literal(text))
        return ""

    def _string(self, found: Value, schema: Mapping[str, Any]) -> str:
        terms: list[str] = []
        whys = [_terms(part, terms) for part in (schema, *schema.get("allOf", ()))]
        why = next(filter(None, whys), "")
        if why or not terms:
            found.text = True
            return why
        body = " & ".join(terms)
        if not self._is_valid(f"start: T\nT: {body}"):
            found.text = True
            return "pattern:The expression cannot be followed."
        found.strings.append(self._term(body))
        return ""

    def _term(self, body: str) -> str:
        """The rules of a bounded string. None of the call's own tags stands in it."""
        if body not in self._terms:
            name = self._terms[body] = f"s{len(self._terms)}"
            term = f"S{len(self._terms)}"
            if _is_tidy(body):
                self.rules.append(rf"{term}: /\n?/ ({body}) /\n?/")
            else:
                untagged = without("</parameter>", "<parameter=")
                self.rules += [f"{term}_PLAIN: /{untagged}/"]
            for kind, end in _ENDS.items():
                rule = rf"{term} /{end}/"
                if not _is_tidy(body):
                    # One line end belongs to the form, so a text that ends with one is not the string itself.
                    whole = rf'"\n" ({body}) /\n{end}/ | ("\n" ({body}) /{end}/ & /(?s:.*)[^\n]{end}/)'
                    rule = rf"({whole}) & {term}_PLAIN /{end}/"
                self.rules.append(f"{term}{kind.upper()}: {rule}")
                self.rules.append(f"{name}{kind}{'[lazy]' if kind != '_final' else ''}: {term}{kind.upper()}")
        return self._terms[body]


def _is_tidy(body: str) -> bool:
    """Whether an expression plainly matches no line end and no angle bracket."""
    plain = re.sub(r"\\[.*+?()\[\]{}|/^$-]", "", body)
    classes = re.findall(r"\[[^\]]*\]", plain)
    ranges = [pair for one in classes for pair in re.findall(r"(.)-(.)", one[1:-1])]
    is_narrow = all(first.isalnum() and last.isalnum() for first, last in ranges)
    return not re.search(r"[<.\n\\]|\[\^|\(\?s", plain) and is_narrow


def _names_no_string(schema: Any, definitions: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether a schema accepts no string, as its types say."""
    if not isinstance(schema, Mapping) or depth > _MOST_NESTED:
        return False
    kinds = schema.get("type")
    if kinds is not None:
        return "string" not in (kinds if isinstance(kinds, list) else [kinds])
    if "$ref" in schema:
        return _names_no_string(definitions.get(schema["$ref"].removeprefix("#/$defs/")), definitions, depth + 1)
    return False


def _terms(schema: Any, terms: list[str]) -> str:
    """Add the conditions on a string; why they cannot be held, an empty text where they can."""
    if schema is True:
        return ""
    if not isinstance(schema, Mapping) or set(schema) - _STRING_KEYWORDS or schema.get("type", "string") != "string":
        return "allOf:Conditions of other types beside those of a string cannot be held."
    if "minLength" in schema or "maxLength" in schema:
        terms.append(f"/(?s:.{{{schema.get('minLength', 0)},{schema.get('maxLength', '')}}})/")
    patterns = [schema["pattern"]] if "pattern" in schema else []
    patterns += [TEXT_PATTERNS[schema["format"]]] if "format" in schema else []
    for pattern in patterns:
        whole = _unanchored(pattern)
        if whole is None:
            return "pattern:Of the two anchors of an expression, each may stand at its end only."
        terms.append(f"/{slashed(whole)}/")
    return ""


def _unanchored(pattern: Any) -> str | None:
    """An expression for the whole text that means what ``pattern`` means for a part of it; None if we cannot tell."""
    if not isinstance(pattern, str):
        return None
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", pattern, flags=re.DOTALL)
    starts, ends = plain.startswith("^") and pattern.startswith("^"), plain.endswith("$") and pattern.endswith("$")
    if ("^" in plain[starts:]) or ("$" in plain[: len(plain) - ends]) or ((starts or ends) and has_choice(plain)):
        return None
    inner = pattern[starts : len(pattern) - ends]
    return f"{'' if starts else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}"
