"""Definitions of tools: read as they were written, shown as they were written."""

from __future__ import annotations

from typing import Any

import pytest

from loqal.chat.template.tools import definition, read
from loqal.errors import RequestError
from loqal.types.reply_options import Tool

SCHEMA = {"type": "object", "properties": {"a": {}}}
OPENAI = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "x": 1}}
ANTHROPIC = {"name": "f", "description": "d", "input_schema": SCHEMA, "cache_control": {}}


@pytest.mark.parametrize("given", [OPENAI, ANTHROPIC])
def test_a_definition_is_shown_as_it_was_written(given: dict[str, Any]) -> None:
    (tool,) = read([given])
    assert (tool.name, tool.description, tool.parameters, tool.strict) == ("f", "d", SCHEMA, None)
    assert definition(tool) is given


def test_strictness_is_read_at_either_place_and_only_when_it_is_a_boolean() -> None:
    def strict(**more: Any) -> bool | None:
        return read([{"name": "f", **more}])[0].strict

    assert strict(strict=True) and strict(function={"name": "f", "strict": True})
    assert read([{"function": {"name": "f"}, "strict": True}])[0].strict
    assert strict(strict=False) is False and strict(function={"name": "f", "strict": False}) is False
    assert strict(strict=1) is None and strict(strict="true") is None and strict() is None


@pytest.mark.parametrize(
    "given", [{}, {"name": 5}, {"function": {}}, {"function": "f"}, {"function": None, "name": "f"}, 5]
)
def test_a_tool_without_a_name(given: Any) -> None:
    with pytest.raises(RequestError, match=r"tools\[1\]"):
        read([{"name": "f"}, given])


def test_a_schema_that_is_none_counts_as_missing() -> None:
    assert read([{"name": "f", "parameters": "x"}])[0].parameters is None
    assert read([{"name": "f", "parameters": None, "input_schema": SCHEMA}])[0].parameters == SCHEMA


def test_a_tool_from_fields() -> None:
    """The order of the keys is part of the prompt."""
    assert definition(Tool("f")) == {"type": "function", "function": {"name": "f"}}
    full = definition(Tool("f", "d", SCHEMA, True, {"x": 1}))
    assert full["function"] == {"name": "f", "description": "d", "parameters": SCHEMA, "x": 1, "strict": True}
    assert list(full["function"]) == [
        "name",
        "description",
        "parameters",
        "x",
        "strict",
    ]
