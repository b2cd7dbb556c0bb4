"""What becomes of each field of a dialect: supported, rejected or ignored. There is no fourth outcome.

Each field states its support and the reason. The OpenAPI page shows it, ``review`` acts on it, and docs/fields.md is
written from it.

- supported: it does what the dialect documents; a value that cannot be obeyed is rejected.
- rejected: the caller would get something else than asked for. An error, or a warning where the caller is lenient.
- ignored: no answer depends on it here. It is accepted, and the reply's ``warnings`` say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loqal.server.shared.generation_request import Body, Warnings

Support = Literal["supported", "rejected", "ignored"]


class Unread(Body):
    """An object that is rejected or ignored as a whole, whatever else it holds."""

    model_config = ConfigDict(extra="allow")


def supported(why: str, default: Any = None, **more: Any) -> Any:
    """A field that does what it says. ``more`` are limits and examples, as for pydantic's ``Field``."""
    return _field("supported", why, default, (), more)


def ignored(why: str, default: Any = None, *, neutral: tuple[Any, ...] = (), **more: Any) -> Any:
    """A field on which no answer depends. The values in ``neutral`` ask for what happens anyway."""
    return _field("ignored", why, default, neutral, more)


def rejected(why: str, default: Any = None, *, neutral: tuple[Any, ...] = (), **more: Any) -> Any:
    """A field whose request cannot be met, except for the values in ``neutral``, which ask for what happens anyway."""
    return _field("rejected", why, default, neutral, more)


def _field(support: Support, why: str, default: Any, neutral: tuple[Any, ...], more: dict[str, Any]) -> Any:
    extra: dict[str, Any] = {"x-support": support, "x-neutral": list(neutral)}
    return Field(default, description=f"{support.capitalize()}: {why}.", json_schema_extra=extra, **more)


def _neutral(extra: Mapping[str, Any]) -> Sequence[Any]:
    return tuple(extra["x-neutral"])


def review(value: Any, warnings: Warnings, path: str = "") -> None:
    """Report the fields of a request that are rejected or ignored. Raises FieldError unless the caller is lenient."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            review(item, warnings, f"{path}[{index}]")
    if not isinstance(value, BaseModel):
        return
    for name in sorted(value.model_fields_set & type(value).model_fields.keys()):
        field = type(value).model_fields[name]
        extra = field.json_schema_extra
        given, where = getattr(value, name), f"{path}.{field.alias or name}".lstrip(".")
        if not isinstance(extra, dict) or extra["x-support"] == "supported":
            review(given, warnings, where)
        elif given not in (None, field.default, *_neutral(extra)):
            why = (field.description or "").partition(": ")[2]
            (warnings.reject if extra["x-support"] == "rejected" else warnings.warn)(where, why[:1].upper() + why[1:])
