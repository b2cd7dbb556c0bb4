"""What later requests may follow: responses and conversations, in memory, bounded in number and bytes."""

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
    """Values by the client who made them and a key. When there is no more room, what was used longest ago goes."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._entries: OrderedDict[tuple[str, str], _Entry[Value]] = OrderedDict()
        self.size_bytes = 0

    def put(self, owner: str, key: str, value: Value, size_bytes: int) -> None:
        """Keep a value in place of an earlier one. One that is larger than all the room is not kept."""
        self.drop(owner, key)
        if size_bytes > self._max_bytes:
            return
        self._entries[owner, key] = _Entry(value, size_bytes)
        self.size_bytes += size_bytes
        while len(self._entries) > self._max_entries or self.size_bytes > self._max_bytes:
            self.drop(*next(iter(self._entries)))

    def get(self, owner: str, key: str) -> Value | None:
        """A client's own value."""
        entry = self._entries.get((owner, key))
        if entry is None:
            return None
        self._entries.move_to_end((owner, key))
        return entry.value

    def drop(self, owner: str, key: str) -> bool:
        """Forget a value; whether it was there."""
        entry = self._entries.pop((owner, key), None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
        return entry is not None

    def __len__(self) -> int:
        return len(self._entries)
