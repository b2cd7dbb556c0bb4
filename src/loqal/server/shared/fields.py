"""What becomes of each field of a dialect: honoured, refused or noted. There is no fourth outcome.

The fate of a field stands on the field itself, with a line that says why. The OpenAPI page shows it, ``review`` acts on
it, and docs/fields.md is written from it.

- honoured: it does what the dialect documents; a value that cannot be obeyed is refused.
- refused: the caller would get something else than asked for. An error, or a warning where the caller is lenient.
- noted: no answer depends on it here. It is accepted, and the reply's ``warnings`` say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loqal.server.shared.generation_request import Body, Warnings

Fate = Literal["honoured", "refused", "noted"]


class Unread(Body):
    """An object that is refused or noted as a whole, whatever else it holds."""

    model_config = ConfigDict(extra="allow")


def honoured(why: str, default: Any = None, **more: Any) -> Any:
    """A field that does what it says. ``more`` are limits and examples, as for pydantic's ``Field``."""
    return _field("honoured", why, default, (), more)


def noted(why: str, default: Any = None, *, neutral: tuple[Any, ...] = (), **more: Any) -> Any:
    """A field on which no answer depends. The values in ``neutral`` ask for what happens anyway."""
    return _field("noted", why, default, neutral, more)


def refused(why: str, default: Any = None, *, neutral: tuple[Any, ...] = (), **more: Any) -> Any:
    """A field whose request cannot be met, except for the values in ``neutral``, which ask for what happens anyway."""
    return _field("refused", why, default, neutral, more)


def _field(fate: Fate, why: str, default: Any, neutral: tuple[Any, ...], more: dict[str, Any]) -> Any:
    extra: dict[str, Any] = {"x-fate": fate, "x-neutral": list(neutral)}
    return Field(default, description=f"{fate.capitalize()}: {why}.", json_schema_extra=extra, **more)


def _neutral(extra: Mapping[str, Any]) -> Sequence[Any]:
    return tuple(extra["x-neutral"])


def review(value: Any, warnings: Warnings, path: str = "") -> None:
    """Report the fields of a request that are refused or noted. Raises FieldError unless the caller is lenient."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            review(item, warnings, f"{path}[{index}]")
    if not isinstance(value, BaseModel):
        return
    for name in sorted(value.model_fields_set & type(value).model_fields.keys()):
        field = type(value).model_fields[name]
        extra = field.json_schema_extra
        given, where = getattr(value, name), f"{path}.{field.alias or name}".lstrip(".")
        if not isinstance(extra, dict) or extra["x-fate"] == "honoured":
            review(given, warnings, where)
        elif given not in (None, field.default, *_neutral(extra)):
            why = (field.description or "").partition(": ")[2]
            (warnings.reject if extra["x-fate"] == "refused" else warnings.warn)(where, why[:1].upper() + why[1:])
