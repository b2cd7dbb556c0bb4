"""The parts of a JSON schema, by their JSON pointers, and where its references lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

MOST_DEPTH = 64
"""Schemas within schemas that are read."""

_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_TABLES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_SINGLE = (
    *("additionalProperties", "additionalItems", "items", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedProperties", "unevaluatedItems"),
)


def parts(schema: Any, pointer: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The schema and all schemas in it by their pointers, outer ones first."""
    yield pointer, schema
    if not isinstance(schema, Mapping) or depth == MOST_DEPTH:
        return
    for key, value in schema.items():
        inner: list[tuple[str, Any]] = []
        if key in _TABLES and isinstance(value, Mapping):
            inner = [(f"/{escaped(name)}", part) for name, part in value.items() if not isinstance(part, list)]
        elif (key in _LISTS or key == "items") and isinstance(value, list):
            inner = [(f"/{index}", part) for index, part in enumerate(value)]
        elif key in _SINGLE:
            inner = [("", value)]
        for step, part in inner:
            yield from parts(part, f"{pointer}/{key}{step}", depth + 1)


def at_pointer(schema: Any, pointer: str) -> Any:
    """What stands at a JSON pointer. Raises LookupError where there is nothing."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, Sequence) and not isinstance(schema, str) and name.isdigit():
            schema = schema[int(name)]
        elif isinstance(schema, Mapping):
            schema = schema[name]
        else:
            raise LookupError(pointer)
    return schema


def escaped(key: str) -> str:
    """A key as a step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


class Addresses:
    """Where the references of a schema lead: pointers, anchors and identifiers."""

    def __init__(self, root: Any, *, is_old: bool) -> None:
        self._bases: dict[str, str] = {"": ""}
        self._pointers: dict[str, str] = {"": ""}
        self._dynamic: list[Any] = []  # names of dynamic anchors
        for pointer, part in parts(root):
            base = self._base(pointer)
            own = part.get("$id", part.get("id")) if isinstance(part, Mapping) else None
            if is_old and isinstance(part, Mapping) and "$ref" in part:
                own = None  # of such a schema only the reference counts
            if isinstance(own, str):
                uri, fragment = urldefrag(urljoin(base, own))
                if fragment:
                    self._pointers.setdefault(f"{uri}#{fragment}", pointer)
                else:
                    base = uri
                    self._pointers.setdefault(uri, pointer)
            self._bases[pointer] = base
            self._dynamic += [part["$dynamicAnchor"]] if isinstance(part, Mapping) and "$dynamicAnchor" in part else []
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(part, Mapping) and isinstance(part.get(key), str):
                    self._pointers.setdefault(f"{base}#{part[key]}", pointer)

    def _base(self, pointer: str) -> str:
        """The address that references are relative to which stand at a pointer."""
        while pointer not in self._bases:
            pointer = pointer.rpartition("/")[0]
        return self._bases[pointer]

    def is_fixed(self, reference: str) -> bool:
        """Whether a dynamic reference leads to the same place wherever it is met."""
        return self._dynamic.count(reference.rpartition("#")[2]) < 2

    def target(self, reference: str, pointer: str) -> str | None:
        """The pointer that a reference means which stands at ``pointer``; None where it leads out of the schema."""
        base = self._base(pointer)
        try:
            uri, fragment = urldefrag(base + reference if reference.startswith("#") else urljoin(base, reference))
        except ValueError:
            return None
        if uri not in self._pointers:
            return None
        if fragment.startswith("/") or not fragment:
            return self._pointers[uri] + unquote(fragment)
        return self._pointers.get(f"{uri}#{fragment}")
