"""The support of each request field: supported, rejected or ignored.

Each field states its support and a description. The OpenAPI document shows it, ``review`` acts on it, and
docs/fields.md is generated from it.

- supported: it has the effect the API documents. A value that cannot be honored is rejected.
- rejected: the request would get something other than it asks for. An error, or a warning in lenient mode.
- ignored: it does not change the reply here. It is accepted, and the reply's ``warnings`` list it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loqal.server.shared.body import Body, Warnings
from loqal.types.sampling import SamplingParams, bounds

Support = Literal["supported", "rejected", "ignored"]


class Unread(Body):
    """An object that is rejected or ignored as a whole, with any content."""

    model_config = ConfigDict(extra="allow")


def supported(why: str, default: Any = None, **more: Any) -> Any:
    """A field with its documented effect. ``more`` are limits and examples, as for pydantic's ``Field``."""
    return _field("supported", why, default, (), more)


def sampled(name: str, why: str, default: Any = None, **narrower: Any) -> Any:
    """A supported field for the sampling parameter ``name``, with that parameter's range.

    ``narrower`` are bounds that the API documents and that exclude more, such as ``le=2`` for OpenAI's temperature.
    """
    return supported(why, default, **{**bounds(name), **narrower})


def ignored(why: str, default: Any = None, *, neutral: tuple[Any, ...] = (), **more: Any) -> Any:
    """A field without effect on the reply. Values in ``neutral`` request the behavior of this server: no warning."""
    return _field("ignored", why, default, neutral, more)


def rejected(why: str, default: Any = None, *, neutral: tuple[Any, ...] = (), **more: Any) -> Any:
    """A field that cannot be honored, except for values in ``neutral``, which request the behavior of this server."""
    return _field("rejected", why, default, neutral, more)


def _field(support: Support, why: str, default: Any, neutral: tuple[Any, ...], more: dict[str, Any]) -> Any:
    extra: dict[str, Any] = {"x-support": support, "x-neutral": list(neutral)}
    return Field(default, description=f"{support.capitalize()}: {why}.", json_schema_extra=extra, **more)


def _neutral(extra: Mapping[str, Any]) -> Sequence[Any]:
    return tuple(extra["x-neutral"])


def review(value: Any, warnings: Warnings, path: str = "") -> None:
    """Report the rejected and ignored fields of a request. Raises FieldError except in lenient mode."""
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


def sampling_params(body: Body | None, **converted: Any) -> SamplingParams:
    """Sampling parameters from the supported fields of the same names; lists become tuples.

    Args:
        body: the object with the fields; None for all defaults.
        converted: parameters whose field has another name or type in this API.
    """
    found: dict[str, Any] = {}
    for name, field in type(body).model_fields.items() if body is not None else ():
        value, extra = getattr(body, name), field.json_schema_extra
        if name in _PARAMETERS and value is not None and isinstance(extra, dict) and extra["x-support"] == "supported":
            found[name] = tuple(value) if isinstance(value, list) else value
    return SamplingParams(**{**found, **converted})


_PARAMETERS = frozenset(SamplingParams.__dataclass_fields__)
