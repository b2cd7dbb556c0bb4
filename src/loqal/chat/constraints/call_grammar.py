"""The grammar of tool calls in the written forms of the family, see ``output.call_text`` and ``output.tool_calls``.

Whatever the reader reads as a complete call of an offered tool with valid arguments can be written: closing tags and
line ends may be missing, and parameters come in any order, each once. A string stands there as it is, and ends where
the reader ends it; all other values are JSON. So no value can take up a tag of the call itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loqal.chat.constraints.argument_grammar import Value, ValueRules
from loqal.chat.constraints.grammar import json_rule, literal, without
from loqal.chat.constraints.json_schema import SchemaError, hold
from loqal.chat.constraints.schema_rewrite import ANNOTATIONS
from loqal.types.reply_options import Tool

_OF_TOOLS = {"type", "properties", "required", "additionalProperties", "$defs", "definitions"}
_NAME = re.compile(r"[^<>\n]+")
_ALWAYS = "le([0:1], 1)"  # a rule with a parameter has to look at it
_MOST_TRACKED = 60  # parameters that can be told apart in the 64 bits of a rule

_SPACE = r"[ \t\r\n]*"
_TEXT, _TEXT_OPEN = (
    f"{without(*tags)}(<function={without('</function>')}<\\/function>{without(*tags)})*"
    for tags in (("<function=",), ("<function=", "</function>"))
)
# Text of a value up to what ends it: a closing tag with a line end or another tag behind it, so that nothing but the
# call can follow, or the opening tag of a parameter while some are left. A quoted function may hold tags of calls.
# While a required parameter is missing, the function cannot end (_TEXT_OPEN).
# Without forcing, text that must come may be written in any tokens, as it may be read.
_SHARED = rf"""
%llguidance {{"no_forcing": true}}
ws: /[ \t\r\n]{{1,20}}/
done: </tool_call> | ""
closed_open[lazy]: /{_TEXT_OPEN}<\/parameter>[ \t\r]*\n/
closed[lazy]: /{_TEXT}<\/parameter>[ \t\r]*\n/
tag_open[lazy]: /{_TEXT_OPEN}<\/parameter>[ \t\r]*</
tag[lazy]: /{_TEXT}<\/parameter>[ \t\r]*</
opened_open[lazy]: /{_TEXT_OPEN}<parameter=/
opened[lazy]: /{_TEXT}<parameter=/
FINAL: /({without("</parameter>")}|(?s:.*)<\/parameter>[ \t\r]*)(<\/function>{_SPACE})?/
hermes_name: /\{{{_SPACE}"name"{_SPACE}:{_SPACE}/
hermes_arguments: /{_SPACE},{_SPACE}"arguments"{_SPACE}:{_SPACE}/
""".strip()


@dataclass
class _Parameters:
    """What is known of the parameters of one tool."""

    values: dict[str, Value] = field(default_factory=dict)  # required ones first
    num_required: int = 0
    others: Value | None = None  # of parameters that are not declared, where there may be such


class CallGrammar:
    """The rule ``call``, one complete call of one of some tools, and those it needs.

    Args:
        tools: what is offered.
        paths: how the caller knows the schema of each tool.
        faults: what is wrong with a rewritten JSON schema; an empty text when nothing is.
        is_valid: whether a grammar can be compiled.
        with_json: calls may also be written as JSON with ``name`` and ``arguments``.

    Attributes:
        rules: the rules.
        warnings: what of the schemas is not held.
        json_arguments: of every tool, the parameters whose values are JSON.

    Raises:
        RequestError: the arguments of a strict tool cannot be held to its schema, or nothing can satisfy it.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        paths: Sequence[str],
        *,
        faults: Callable[[Any], str],
        is_valid: Callable[[str], bool],
        with_json: bool = True,
    ) -> None:
        self._faults = faults
        self._values = ValueRules(is_valid)
        self.rules = [_SHARED]
        self.warnings: list[str] = []
        self.json_arguments: dict[str, frozenset[str]] = {}
        bodies: list[str] = []
        for index, (tool, path) in enumerate(zip(tools, paths, strict=True)):
            parameters = self._parameters(tool, path, f"t{index}_")
            self._add_tool(f"t{index}", parameters)
            in_json = (key for key, value in parameters.values.items() if not (value.text or value.strings))
            self.json_arguments[tool.name] = frozenset(in_json)
            bodies.append(f'"<function=" {literal(tool.name + ">")} t{index}_next::0x0')
            if with_json:
                json_arguments = json_rule(_as_object(parameters))
                self.rules.append(f"t{index}_json: {json_arguments}")
                name = literal(literal(tool.name))
                bodies.append(f'hermes_name {name} hermes_arguments t{index}_json ws? "}}" ws? done')
        self.rules += self._values.rules
        self.rules.append("call: <tool_call> ws? (" + " | ".join(bodies) + ")")

    def _parameters(self, tool: Tool, path: str, prefix: str) -> _Parameters:
        schema: Mapping[str, Any] = tool.parameters or {}
        declared = schema.get("properties")
        known: Mapping[str, Any] = declared if isinstance(declared, Mapping) else {}
        names = [name for name in known if _NAME.fullmatch(name) and name == name.strip()]
        required = schema.get("required")
        needed = [name for name in required if name in known] if isinstance(required, list) else []
        self._check_object(tool, schema, path, names, required)
        found = _Parameters()
        is_open = bool(schema) and schema.get("additionalProperties", not known) is not False and not tool.strict
        if is_open or tool.strict is False:
            found.others = Value(text=True)
        order = [name for name in names if name in needed] + [name for name in names if name not in needed]
        for index, name in enumerate(order):
            value = (
                Value(text=True) if tool.strict is False else self._value(tool, path, name, f"{prefix}{index}_", needed)
            )
            if value is not None:
                found.values[name] = value
                found.num_required += name in needed and tool.strict is not False
        return found

    def _value(self, tool: Tool, path: str, name: str, prefix: str, needed: Sequence[str]) -> Value | None:
        """What the value of a parameter may be; None where nothing can be."""
        pointer = "/properties/" + name.replace("~", "~0").replace("/", "~1")
        root = tool.parameters or {}
        try:
            held = hold(root, path, self._faults, strict=tool.strict, at=pointer, repair=True, prefix=prefix)
        except SchemaError as error:
            if tool.strict or (error.accepts_nothing and name in needed):
                raise
            self.warnings.append(f"{error.path}: {error.why}")
            return None if error.accepts_nothing else Value(text=True)
        self.warnings += held.warnings
        return self._values.value(held, strict=tool.strict is True, path=f"{path}#{pointer}", warnings=self.warnings)

    def _check_object(
        self, tool: Tool, schema: Mapping[str, Any], path: str, names: Sequence[str], required: Any
    ) -> None:
        """Warn of what is said about all arguments together and not held, or refuse it for a strict tool."""
        known = schema.get("properties", {})
        faults = [
            (f"/{key}", f"The keyword {key!r} is not held for the arguments of a call.")
            for key in schema
            if key not in _OF_TOOLS and key not in ANNOTATIONS and not key.startswith("x-")
        ]
        if not isinstance(known, Mapping):
            faults.append(("/properties", "It must be an object of schemas."))
        elif len(names) < len(known):
            faults.append(("/properties", "Names of arguments have no line end, angle bracket or space at their ends."))
        if required is not None and not isinstance(required, list):
            faults.append(("/required", "It must be a list of names."))
        elif isinstance(known, Mapping) and not all(name in known for name in required or ()):
            faults.append(("/required", "It names an argument that is not among the properties."))
        if tool.strict is False:
            return
        for pointer, why in faults:
            if tool.strict:
                raise SchemaError(path, pointer, why)
            self.warnings.append(f"{path}#{pointer}: {why}")

    def _add_tool(self, tool: str, found: _Parameters) -> None:
        """The rules of one tool: what follows a parameter, names, and values, by the parameters given so far."""
        names = list(found.values)
        tracked = names[:_MOST_TRACKED]
        needs = f"is_ones([0:{min(found.num_required, _MOST_TRACKED)}])" if found.num_required else ""
        has_more = len(names) > len(tracked) or found.others is not None
        full = "" if has_more else f"is_ones([0:{len(tracked)}])" if tracked else "true"
        more = [] if full == "true" else [f"not({full})"] if full else [""]
        self.rules.append(
            _choices(
                f"{tool}_next::_",
                *((f'ws? "<parameter=" {tool}_key::_', condition) for condition in more),
                ('ws? "</function>" ws? done', needs),
                ("ws? </tool_call>", needs),
            )
        )
        if not names and found.others is None:
            return
        self.rules.append(
            _choices(
                f"{tool}_tag::_",
                *((f'"parameter=" {tool}_key::_', condition) for condition in more),
                ('"/function>" ws? done', needs),
            )
        )
        known = [
            (
                f"{literal(name + '>')} {tool}_v{index}::{_with_bit(index)}",
                f"bit_clear({index})" if index < len(tracked) else "",
            )
            for index, name in enumerate(names)
        ]
        others: list[tuple[str, str]] = []
        if found.others is not None:
            listed = " | ".join(map(literal, names))
            self.rules.append(
                f"{tool.upper()}_OTHER: /[^<>\\s]([^<>\\n]{{0,98}}[^<>\\s])?/" + (f" & ~({listed})" if names else "")
            )
            others.append((f'{tool.upper()}_OTHER ">" {tool}_text::_', ""))
        self.rules.append(_choices(f"{tool}_key::_", *known, *others))
        known_left = [""] if len(names) > len(tracked) else [f"not(is_ones([0:{len(tracked)}]))"] if tracked else []
        if known:
            self.rules.append(_choices(f"{tool}_known::_", *known))
        for index, value in enumerate(found.values.values()):
            self.rules.append(_choices(f"{tool}_v{index}::_", *self._value_choices(tool, value, needs, full)))
        self.rules.append(f'{tool}_close::_: ws? "</parameter>" {tool}_next::_ | {tool}_next::_')
        self.rules.append(_choices(f"{tool}_text::_", *_text_choices(tool, needs, known_left)))

    def _value_choices(self, tool: str, value: Value, needs: str, full: str) -> list[tuple[str, str]]:
        if value.text:
            return [(f"{tool}_text::_", "")]
        found = [(f"ws? ({' | '.join(value.rules)}) {tool}_close::_", "")] if value.rules else []
        found += [(f'"\\n" {text} "\\n</parameter>" {tool}_next::_', "") for text in value.spaced]
        for name in value.strings:
            found.append((f"{name}_closed {tool}_next::_", ""))
            found.append((f"{name}_open {tool}_key::_", f"not({full})" if full else ""))
            found.append((f"{name}_final </tool_call>", needs))
        return found


def _text_choices(tool: str, needs: str, more: Sequence[str]) -> list[tuple[str, str]]:
    """A string that is not bounded, with what ends it."""
    found: list[tuple[str, str]] = []
    for suffix, condition in (("_open", f"not({needs})"), ("", needs)) if needs else (("", ""),):
        found.append((f"closed{suffix} {tool}_next::_", condition))
        found.append((f"tag{suffix} {tool}_tag::_", condition))
        found += [(f"opened{suffix} {tool}_known::_", _both(condition, left)) for left in more]
    found.append(("FINAL </tool_call>", needs))
    return found


def _choices(head: str, *choices: tuple[str, str]) -> str:
    """A rule of alternatives, each with its condition."""
    if not any(condition or "::" in body for body, condition in choices):
        choices = ((choices[0][0], _ALWAYS), *choices[1:])
    return f"{head}: " + "\n  | ".join(body + (f" %if {condition}" if condition else "") for body, condition in choices)


def _both(first: str, second: str) -> str:
    return f"and({first}, {second})" if first and second else first or second


def _with_bit(index: int) -> str:
    return f"set_bit({index})" if index < _MOST_TRACKED else "_"


def _as_object(found: _Parameters) -> dict[str, Any]:
    """All arguments as one JSON object."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: value.schema for name, value in found.values.items()},
        "required": list(found.values)[: found.num_required],
        "additionalProperties": found.others is not None,
    }
    definitions = {key: part for value in found.values.values() for key, part in value.definitions.items()}
    return {**schema, "$defs": definitions} if definitions else schema
