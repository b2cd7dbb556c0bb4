"""Memory for pictures while they are read, so that many requests together take no more than one is allowed to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class DecodeBudget:
    """Some bytes, handed out to whoever comes first and taken back. For several threads."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._free = size_bytes
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, num_bytes: int) -> Iterator[None]:
        """Have ``num_bytes``, at most all there are, for a while. Waits for those who came before."""
        ticket, num_bytes = object(), min(num_bytes, self.size_bytes)
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and num_bytes <= self._free)
            self._waiting.popleft()
            self._free -= num_bytes
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += num_bytes
                self._changed.notify_all()
