"""Request bodies: bytes become JSON within limits, and JSON becomes a pydantic model, strictly.

Every field of a body is supported, rejected with its JSON path, or reported in ``warnings``. In lenient mode (the
server's setting, or the header ``Prefer: handling=lenient``) a rejected field is dropped with a warning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from loqal.server.shared.errors import FieldError

_MAX_DEPTH = 100
_MAX_ITEMS = (
    2_000_000  # counted by commas and brackets, because parsed objects take many times the memory of their text
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_LENIENT_ROUNDS = 100
_CONSTRAINTS = {"structural_tag", "stop_regex"}  # never dropped: the output would not be what was asked for
_MAX_ERRORS = 100  # validation errors considered per body
_DROP = "Remove the field, or send the header Prefer: handling=lenient to have it ignored."


class Body(BaseModel):
    """The base of every request body: no unknown fields, no type conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)  # built with the first request


AnyBody = TypeVar("AnyBody", bound=Body)


class Warnings:
    """The warnings of one request: fields that have no effect, and fields that lenient mode dropped."""

    def __init__(self, lenient: bool = False) -> None:
        self.lenient = lenient
        self.warnings: list[str] = []

    def warn(self, path: str, why: str) -> None:
        """Report a field that has no effect, and why."""
        self.warnings.append(f"{path}: {why}")

    def reject(self, path: str, why: str, fix: str = _DROP) -> None:
        """Raise FieldError; in lenient mode warn that the field was ignored."""
        if not self.lenient:
            raise FieldError(path, why, fix)
        self.warnings.append(f"{path} was ignored: {why}")


def read_body(kind: type[AnyBody], data: bytes, warnings: Warnings) -> AnyBody:
    """Parse and validate a request body. Raises FieldError with the JSON path of the first problem."""
    value = load_json(data)
    for _ in range(_MAX_LENIENT_ROUNDS):
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]
        relevant = _deepest([(_path(value, one), one) for one in found])
        unknown = [path for path, one in relevant if one["type"] == "extra_forbidden" and path[-1] not in _CONSTRAINTS]
        if not warnings.lenient or len(unknown) < len(relevant):
            raise _field_error([pair for pair in relevant if pair[0] not in unknown] or relevant)
        for name, path in {_joined(path): path for path in unknown}.items():
            _drop(value, path)
            warnings.reject(name, "The field is unknown.")
    raise FieldError("", "It has too many unknown fields.", "Remove the unknown fields.")


def load_json(data: bytes) -> Any:
    """Parse JSON within limits of depth and number of values. Raises FieldError."""
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_ITEMS:
        raise FieldError("", f"It has more than {_MAX_ITEMS:,} values.", "Split the request into smaller ones.")
    try:
        value = json.loads(data, parse_constant=_reject_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise FieldError("", f"It is not valid JSON: {error}.", "Send a JSON object.") from None
    _check(value, check_strings=_SURROGATE.search(data) is not None)
    return value


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _too_deep() -> FieldError:
    return FieldError("", f"It is nested more than {_MAX_DEPTH} levels deep.", "Send JSON with fewer levels.")


def _check(value: Any, *, check_strings: bool) -> None:
    """Limit the depth; with ``check_strings`` also reject strings that cannot be encoded as UTF-8."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise _too_deep()
        if check_strings:
            for one in level:
                for text in (one, *one) if isinstance(one, dict) else (one,):
                    if isinstance(text, str) and not _is_encodable(text):
                        raise FieldError("", "A string contains an unpaired surrogate.", "Send valid Unicode.")
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(item for item in one.values() if check_strings or isinstance(item, (dict, list)))
            elif isinstance(one, list):
                below.extend(item for item in one if check_strings or isinstance(item, (dict, list)))
        level = below


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# JSON paths of validation errors --------------------------------------------------------------------------------------

Path = list[int | str]


def _path(value: Any, error: Any) -> Path:
    """The JSON path of a validation error. pydantic puts names of union members between the steps of its location."""
    location = list(error["loc"])
    if location and error["type"] == "missing":
        return [*_steps(value, location[:-1])[1], location[-1]]
    return _steps(value, location)[1]


def _steps(value: Any, location: Path) -> tuple[bool, Path]:
    """The steps of a location that exist in the value, and whether the last one does.

    A name of a union member may also be a key of the value; of several readings the one that reaches the end wins.
    """
    if not location:
        return True, []
    step, rest = location[0], location[1:]
    ways: list[tuple[bool, Path]] = []
    if (isinstance(value, dict) and step in value) or (isinstance(value, list) and step in range(len(value))):
        holder: Any = value
        arrives, path = _steps(holder[step], rest)
        ways.append((arrives, [step, *path]))
    if isinstance(step, str):
        arrives, path = _steps(value, rest)
        ways.append((arrives and bool(rest), path))
    return max(ways, key=lambda way: (way[0], len(way[1])), default=(False, []))


def _deepest(located: Sequence[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """The errors without those of union members that do not apply: another error is deeper below the same path."""
    paths = [path for path, _ in located]
    return [
        (path, one)
        for path, one in located
        if not any(len(other) > len(path) and other[: len(path)] == path for other in paths)
    ]


def _drop(value: Any, path: Path) -> None:
    for step in path[:-1]:
        value = value[step]
    del value[path[-1]]


def _joined(path: Path) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _field_error(located: Sequence[tuple[Path, Any]]) -> FieldError:
    path, one = max(located, key=lambda pair: len(pair[0]))
    match one["type"]:
        case "missing":
            return FieldError(_joined(path), "The field is required.", "Add the field to the request.")
        case "extra_forbidden":
            return FieldError(_joined(path), "The field is unknown.", _DROP)
    return FieldError(_joined(path), f"{one['msg']}.", "Change the value and send the request again.")
