"""What pydantic writes for the types of fields is held in every way of sending it, apart from a list with reasons."""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import pathlib
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
import pytest
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from chat_vocabulary import tokenizer
from loqal.chat.constraints.rules import ConstraintBuilder
from loqal.errors import RequestError
from loqal.types.reply_options import JsonSchema, ReplyOptions, Tool

RULES = ConstraintBuilder(tokenizer())


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Inner(pydantic.BaseModel):
    name: str
    size: int | None = None


class Tree(pydantic.BaseModel):
    value: int
    children: list[Tree] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Point(NamedTuple):
    x: float
    y: float


class Options(TypedDict, total=False):
    fast: bool
    name: str


TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "none": None,
    "bytes": bytes,
    "decimal": decimal.Decimal,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "uuid": uuid.UUID,
    "path": pathlib.Path,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "ip network": ipaddress.IPv4Network,
    "any": Any,
    "object": object,
    "enum": Color,
    "int enum": Level,
    "literal": Literal["a", "b"],
    "mixed literal": Literal["a", 1, True, None],
    "optional str": str | None,
    "optional int": int | None,
    "optional model": Inner | None,
    "union": int | str,
    "union of models": Inner | Tree,
    "list": list[str],
    "list of models": list[Inner],
    "bare list": list,
    "nested list": list[list[int]],
    "set": set[int],
    "frozenset": frozenset[str],
    "tuple": tuple[int, str],
    "long tuple": tuple[int, ...],
    "sequence": Sequence[int],
    "dict": dict[str, int],
    "bare dict": dict,
    "dict of models": dict[str, Inner],
    "dict with int keys": dict[int, str],
    "model": Inner,
    "recursive model": Tree,
    "discriminated union": Annotated[Cat | Dog, Field(discriminator="kind")],
    "named tuple": Point,
    "typed dict": Options,
    "bounded int": Annotated[int, Field(ge=0, le=100)],
    "positive int": pydantic.PositiveInt,
    "bounded float": Annotated[float, Field(gt=0, lt=1)],
    "multiple": Annotated[int, Field(multiple_of=5)],
    "bounded str": Annotated[str, Field(min_length=1, max_length=20)],
    "pattern": Annotated[str, Field(pattern="^[a-z]+$")],
    "bounded list": Annotated[list[int], Field(min_length=1, max_length=3)],
    "url": pydantic.AnyUrl,
    "http url": pydantic.HttpUrl,
    "secret": pydantic.SecretStr,
    "base64": pydantic.Base64Bytes,
    "json": pydantic.Json,
    "past date": pydantic.PastDate,
    "aware datetime": pydantic.AwareDatetime,
}
REASONS = {
    **dict.fromkeys(("set", "frozenset"), "that items differ cannot be held"),
    **dict.fromkeys(
        ("base64", "bytes", "ip network", "path", "secret"), "their formats say nothing that could be held"
    ),
}


def wrapped(kind: Any) -> dict[str, Any]:
    """An object with one field of a type."""
    model: Any = pydantic.create_model("Answer", value=(kind, ...))
    schema: dict[str, Any] = TypeAdapter(model).json_schema()
    return schema


def turn(way: str, schema: dict[str, Any]) -> ReplyOptions:
    strict = True if way.startswith("strict") else None
    if way.endswith("answer"):
        return ReplyOptions(answer=JsonSchema(schema, strict))
    return ReplyOptions(tools=(Tool("f", parameters=schema, strict=strict),), tool_choice="required")


def is_clean(way: str, schema: dict[str, Any]) -> bool:
    """Whether all of a schema is held."""
    try:
        return not RULES.guides(turn(way, schema), thinking=False, room=99).warnings
    except RequestError:
        return False


@pytest.mark.parametrize("way", ["answer", "strict answer", "tool", "strict tool"])
def test_types_are_held(way: str) -> None:
    assert len(TYPES) == 59
    unclean = {name for name, kind in TYPES.items() if not is_clean(way, wrapped(kind))}
    assert unclean == set(REASONS)
