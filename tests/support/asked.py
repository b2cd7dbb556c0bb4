"""What the tests with the official clients ask: the embedded model knows the answer."""

from __future__ import annotations

from typing import Any

RECEIPT = "Receipt to JSON:\n2 Milk 1.20\nTotal 2.40"
ANSWER = '{"lines":[{"item":"Milk","quantity":2,"price":1.20}],"total":2.40}'
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
"""The arguments of a tool that tells a city's weather."""
