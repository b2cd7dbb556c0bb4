"""Stored responses and conversations that later requests refer to, in memory, limited in number and bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")

MAX_ENTRIES = 1 << 14
MAX_BYTES = 128 << 20


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    size_bytes: int


class Store(Generic[Value]):
    """An LRU store of values by client and key."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._entries: OrderedDict[tuple[str, str], _Entry[Value]] = OrderedDict()
        self.size_bytes = 0

    def put(self, owner: str, key: str, value: Value, size_bytes: int) -> None:
        """Store a value, replacing an earlier one. A value larger than the whole store is not stored."""
        self.drop(owner, key)
        if size_bytes > self._max_bytes:
            return
        self._entries[owner, key] = _Entry(value, size_bytes)
        self.size_bytes += size_bytes
        while len(self._entries) > self._max_entries or self.size_bytes > self._max_bytes:
            self.drop(*next(iter(self._entries)))

    def get(self, owner: str, key: str) -> Value | None:
        """The value of a client's key; None if there is none."""
        entry = self._entries.get((owner, key))
        if entry is None:
            return None
        self._entries.move_to_end((owner, key))
        return entry.value

    def drop(self, owner: str, key: str) -> bool:
        """Delete a value; whether it existed."""
        entry = self._entries.pop((owner, key), None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
        return entry is not None

    def __len__(self) -> int:
        return len(self._entries)
