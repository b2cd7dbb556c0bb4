"""Definitions of tools: from what a caller wrote to the record, and from the record to what the template shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loqal.errors import RequestError
from loqal.types.reply_options import Tool

_SCHEMA_KEYS = ("parameters", "input_schema")


def definition(tool: Tool) -> Mapping[str, Any]:
    """What the template shows to the model."""
    if tool.definition is not None:
        return tool.definition
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    function |= tool.extra
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def read(definitions: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Tools from definitions that are shown as they are. Raises RequestError."""
    return tuple(_read(one, f"tools[{index}]") for index, one in enumerate(definitions))


def _read(given: Mapping[str, Any], path: str) -> Tool:
    function = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RequestError(f"{path} has no name.", "A tool is called by its name.", 'Give it a "name".')
    schema = next((function[key] for key in _SCHEMA_KEYS if isinstance(function.get(key), Mapping)), None)
    strict = function.get("strict", given.get("strict"))
    inner = path if function is given else f"{path}.function"
    key = next((key for key in _SCHEMA_KEYS if isinstance(function.get(key), Mapping)), _SCHEMA_KEYS[0])
    return Tool(
        function["name"],
        function.get("description"),
        schema,
        strict if isinstance(strict, bool) else None,
        definition=given,
        path=f"{inner}.{key}",
    )
