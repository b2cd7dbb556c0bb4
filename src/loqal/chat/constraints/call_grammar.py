"""The grammar of calls of tools in the family's written form, see ``tool_calls``.

Strings stand there as they are, up to the closing tag, so a schema of strings becomes a grammar of plain text; all
other values are JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loqal.chat.constraints.grammar import json_rule, literal, slashed
from loqal.chat.constraints.json_schema import NOTES
from loqal.chat.output.tool_calls import resolved, types_of
from loqal.chat.template.native import argument_text
from loqal.errors import RequestError
from loqal.types.reply_options import Tool

_END = '"\\n</parameter>\\n"'
_ANY_KEY = "/[^<>\\n]+/"
_OF_TOOLS = {"type", "properties", "required", "additionalProperties", "$defs", "definitions"}
_MOST_NESTED = 8  # choices within choices
_NAME = re.compile(r"[^<>\n]+")


def check_names(tools: Sequence[Tool]) -> None:
    """Raise RequestError when a tool cannot be called in the family's form, or two have one name."""
    names = [tool.name for tool in tools]
    for index, name in enumerate(names):
        if not _NAME.fullmatch(name) or name != name.strip() or name in names[:index]:
            raise RequestError(
                f"tools[{index}].name is {name!r}.",
                "Names must differ, and have no line end, angle bracket or white space around them.",
                "Rename the tool.",
            )


def calls_rule(parallel: bool) -> str:
    """One call, or one or more."""
    return 'call ("\\n" call)*' if parallel else "call"


class CallGrammar:
    """The rule ``call``, one complete call of one of some tools, and those it needs.

    Args:
        enforce: hold the arguments of every tool to its schema where that can be done, not only those of strict ones.
        compiles: whether a rule can be compiled.

    Raises:
        RequestError: the arguments of a strict tool cannot be held to its schema.
    """

    def __init__(self, tools: Sequence[Tool], *, enforce: bool, compiles: Callable[[str], bool]) -> None:
        self._compiles = compiles
        self.rules = [f"text[suffix={_END}]: /(?s:.*)/"]
        functions = [self._function(tool, enforce or tool.strict) for tool in tools]
        self.rules.append('call: <tool_call> "\\n<function=" (' + " | ".join(functions) + ") </tool_call>")

    def _add(self, body: str, attributes: str = "") -> str:
        name = f"r{len(self.rules)}"
        self.rules.append(f"{name}{attributes}: {body}")
        return name

    def _function(self, tool: Tool, enforce: bool) -> str:
        schema: Mapping[str, Any] = tool.parameters or {}
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        usable = all(_NAME.fullmatch(name) for name in known)
        required = schema.get("required")
        needed = required if isinstance(required, list) else []
        self._allow(tool, schema, _OF_TOOLS, "")
        if tool.strict and not usable:
            raise self._refusal(tool, "/properties", "Names of arguments have no line end or angle bracket.")
        if tool.strict and not all(name in known for name in needed):
            raise self._refusal(tool, "/required", "It names an argument that is not among the properties.")
        is_open = bool(schema) and schema.get("additionalProperties", True) is not False and not tool.strict
        if enforce and known and usable:
            body = " ".join(
                self._argument(tool, name, part) + ("" if name in needed else "?") for name, part in known.items()
            )
        elif not known and not is_open:
            body = ""
        else:
            key = _ANY_KEY if is_open or not usable else " | ".join(map(literal, known))
            body = f'("<parameter=" ({key}) ">\\n" text)' + ("?" if enforce else "*")  # a name must not come twice
        return self._add(f'{literal(tool.name + ">" + chr(10))} {body} "</function>\\n"')

    def _argument(self, tool: Tool, name: str, schema: Any) -> str:
        values = self._values(tool, schema, f"/properties/{name}")
        return self._add(f"{literal(f'<parameter={name}>' + chr(10))} ({' | '.join(values)})")

    def _values(self, tool: Tool, schema: Any, pointer: str, depth: int = 0) -> list[str]:
        """What a value may be, each with its end."""
        root = tool.parameters or {}
        if isinstance(schema, Mapping) and "$ref" in schema:
            self._allow(tool, schema, {"$ref"}, pointer)
        schema = resolved(schema, root)
        if tool.strict and depth > _MOST_NESTED:
            raise self._refusal(tool, pointer, "It offers itself as a choice.")
        if not isinstance(schema, Mapping) or depth > _MOST_NESTED:
            return ["text"]
        kinds, fixed = schema.get("type"), schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(fixed, list):
            return [f"{literal(argument_text(value))} {_END}" for value in fixed]
        if isinstance(kinds, list) and kinds:
            choices: list[Any] = [{**schema, "type": kind} for kind in kinds]
        elif kinds is None and isinstance(schema.get("anyOf", schema.get("oneOf")), list):
            self._allow(tool, schema, {"anyOf" if "anyOf" in schema else "oneOf"}, pointer)
            choices = schema.get("anyOf", schema.get("oneOf"))
        else:
            return [self._value(tool, schema, root, kinds, pointer)]
        return [value for choice in choices for value in self._values(tool, choice, pointer, depth + 1)]

    def _value(self, tool: Tool, schema: Mapping[str, Any], root: Mapping[str, Any], kind: Any, pointer: str) -> str:
        kinds = types_of(schema, root)
        if kind == "string":
            return self._text(tool, schema, pointer)
        if kind == "boolean":
            return f'("true" | "false" | "True" | "False") {_END}'
        if kind == "null":
            return f'("null" | "None") {_END}'
        if not kinds or "string" in kinds:
            self._allow(tool, schema, set(), pointer)  # it does not say whether it is a string
            return "text"
        shared = {key: root[key] for key in ("$defs", "definitions") if key in root}
        rule = json_rule({**shared, **schema})
        return f"{rule} {_END}" if tool.strict or self._compiles(rule) else "text"

    def _text(self, tool: Tool, schema: Mapping[str, Any], pointer: str) -> str:
        """A string, written as it is."""
        terms = []
        if "minLength" in schema or "maxLength" in schema:
            terms.append(f"/(?s:.{{{schema.get('minLength', 0)},{schema.get('maxLength', '')}}})/")
        if "pattern" in schema:
            pattern = _unanchored(schema["pattern"])
            if pattern is None and tool.strict:
                raise self._refusal(tool, f"{pointer}/pattern", "Of the two anchors, each may stand at its end only.")
            terms += [f"/{slashed(pattern)}/"] if pattern is not None else []
        if "format" in schema and tool.strict:
            raise self._refusal(tool, f"{pointer}/format", "Formats of strings in calls of tools are not known.")
        if not terms:
            return "text"
        name = f"T{len(self.rules)}"
        self.rules.append(f"{name}: {' & '.join(terms)}")
        if not tool.strict and not self._compiles(f"{name}\n{self.rules[-1]}"):
            self.rules.pop()
            return "text"
        return self._add(name, f"[suffix={_END}]")

    def _allow(self, tool: Tool, schema: Mapping[str, Any], keywords: set[str], pointer: str) -> None:
        """Raise RequestError when the schema of a strict tool says something that is not followed here."""
        beyond = [key for key in schema if key not in keywords and key not in NOTES]
        if tool.strict and beyond:
            raise self._refusal(tool, f"{pointer}/{beyond[0]}", f"The keyword {beyond[0]!r} cannot be enforced there.")

    def _refusal(self, tool: Tool, pointer: str, why: str) -> RequestError:
        return RequestError(
            f"The parameters of the tool {tool.name!r} cannot be followed at #{pointer}.",
            why,
            "Change that part of the schema, or do not ask for strict arguments.",
        )


def _unanchored(pattern: Any) -> str | None:
    """An expression for the whole text that means what ``pattern`` means for a part of it; None if we cannot tell."""
    if not isinstance(pattern, str):
        return None
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", pattern, flags=re.DOTALL)
    starts, ends = plain.startswith("^") and pattern.startswith("^"), plain.endswith("$") and pattern.endswith("$")
    if ("^" in plain[starts:]) or ("$" in plain[: len(plain) - ends]) or ((starts or ends) and _has_choice(plain)):
        return None
    inner = pattern[starts : len(pattern) - ends]
    return f"{'' if starts else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}"


def _has_choice(plain: str) -> bool:
    """Whether an expression offers a choice outside of all groups."""
    depth = 0
    for char in plain:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            return True
    return False
