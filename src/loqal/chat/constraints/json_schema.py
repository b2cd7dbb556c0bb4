"""JSON schemas of answers and arguments: what of them is held, and where the keyword is that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loqal.chat.constraints.schema_parts import at_pointer, escaped, parts
from loqal.chat.constraints.schema_rewrite import ANNOTATIONS, Fault, rewritten
from loqal.errors import RequestError

_SUSPECTS = ("pattern", "format", "$ref", "oneOf", "multipleOf", "minProperties", "maxProperties", "enum", "type")
_REASONS = {
    "pattern": "The expression cannot be followed: it is not valid, or it has look-around or back references.",
    "multipleOf": "Multiples of this number cannot be followed.",
    "minProperties": "The number of properties cannot be bounded beside properties that may be left out.",
    "maxProperties": "The number of properties cannot be bounded beside properties that may be left out.",
    "patternProperties": "The expressions of names overlap, or are not valid.",
}
_UNSATISFIABLE = "Unsatisfiable schema: no value satisfies this part of it."
_TOO_COMPLEX = "Together with the rest it cannot be followed."


class SchemaError(RequestError):
    """A schema cannot be followed.

    Attributes:
        path: where the keyword at fault stands in the request, as in ``tools[0].parameters#/properties/a``.
        accepts_nothing: the reason is that no value satisfies it.
    """

    def __init__(self, where: str, pointer: str, why: str, *, accepts_nothing: bool = False) -> None:
        fix = "Change that part of the schema, or leave it out."
        super().__init__(f"{where} cannot be followed at #{pointer}.", why, fix)
        self.path, self.accepts_nothing = f"{where}#{pointer}", accepts_nothing


MAX_BYTES = 1 << 18
_MOST_TRIED = 500  # parts that are compiled alone to find the one at fault
_MOST_DROPPED = 32


@dataclass(frozen=True, slots=True)
class HeldSchema:
    """A schema as the constraint library follows it, and what of the original is not held, a text for each keyword."""

    schema: Any
    warnings: tuple[str, ...] = ()


def hold(
    schema: Any,
    where: str,
    faults: Callable[[Any], str],
    *,
    strict: bool | None,
    close: bool = True,
    at: str = "",
    repair: bool = False,
    prefix: str = "d",
) -> HeldSchema:
    """The schema in the form that is followed.

    Args:
        where: how the caller knows the schema.
        faults: what is wrong with a rewritten schema; an empty text when nothing is.
        strict: refuse what cannot be held; otherwise it is left out with a warning.
        close: objects that do not say whether they have further properties have none.
        at: pointer of the part that is meant; its references point into the whole.
        repair: leave out what has no meaning as well.
        prefix: what the names in its ``$defs`` begin with.

    Raises:
        RequestError: the schema cannot be followed, or accepts nothing; the JSON pointer is named.
    """
    check_size(schema, where)
    skip: set[str] = set()
    notes: dict[str, str] = {}
    for _ in range(_MOST_DROPPED):
        try:
            found = rewritten(schema, close=close, skip=frozenset(skip), at=at, prefix=prefix)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Not every keyword is checked for the type of its value before it is read.
            raise SchemaError(where, at, "A keyword in it has a value of the wrong type.") from error
        for fault in found.faults:
            refuses = strict or (fault.is_wrong and not repair) or fault.accepts_nothing
            if refuses and not fault.is_harmless:
                raise SchemaError(where, fault.pointer, fault.why, accepts_nothing=fault.accepts_nothing)
            notes.setdefault(fault.pointer, fault.why)
        why = faults(found.schema)
        if not why:
            return HeldSchema(found.schema, tuple(f"{where}#{pointer}: {text}" for pointer, text in notes.items()))
        culprit = _culprit(schema, why, faults, frozenset(skip), at, close)
        if strict or culprit.is_wrong:
            raise SchemaError(where, culprit.pointer, culprit.why, accepts_nothing=culprit.accepts_nothing)
        skip.add(culprit.pointer)
        notes[culprit.pointer] = culprit.why
    raise SchemaError(where, at, "Too much of it cannot be followed.")


def check_size(schema: Any, where: str) -> None:
    """Raise RequestError for what is not JSON, or too large."""
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise SchemaError(where, "", "It is not JSON.") from None
    if size > MAX_BYTES:
        raise SchemaError(where, "", f"It has {size:,} bytes; at most {MAX_BYTES:,} are read.")


def is_unsatisfiable(fault: str) -> bool:
    """Whether the library says that nothing satisfies a schema."""
    return fault.startswith("Unsatisfiable")


def _culprit(schema: Any, why: str, faults: Callable[[Any], str], skip: frozenset[str], at: str, close: bool) -> Fault:
    """The innermost part that has the same fault by itself, and the keyword in it if it is one."""

    def fault_of(pointer: str, *more: str) -> str:
        return faults(rewritten(schema, close=close, skip=skip.union(more), at=pointer).schema)

    unsatisfiable = is_unsatisfiable(why)
    pointers = [pointer for pointer, part in parts(at_pointer(schema, at), at) if isinstance(part, Mapping)]
    innermost = at
    for pointer in reversed(pointers[:_MOST_TRIED]):
        alone = fault_of(pointer)
        if alone == why or (unsatisfiable and is_unsatisfiable(alone)):
            innermost = pointer
            break
    part = at_pointer(schema, innermost)
    keys = [key for key in part if key not in ANNOTATIONS] if isinstance(part, Mapping) else []
    if unsatisfiable:
        for key in ("enum",):
            if key in keys and len(keys) == 1:
                innermost = f"{innermost}/{key}"
        return Fault(innermost, _UNSATISFIABLE, is_wrong=True, accepts_nothing=True)
    for key in sorted(keys, key=lambda name: _SUSPECTS.index(name) if name in _SUSPECTS else len(_SUSPECTS)):
        pointer = f"{innermost}/{escaped(key)}"
        if fault_of(innermost, pointer) != why:
            return Fault(pointer, _REASONS.get(key, _TOO_COMPLEX))
    return Fault(innermost, _TOO_COMPLEX, is_wrong=True)
