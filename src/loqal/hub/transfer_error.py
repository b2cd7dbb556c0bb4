"""The retryable failure of a transfer."""

from __future__ import annotations


class TransferError(Exception):
    """A transfer failed, and a retry may succeed. ``wait_s`` is the wait that the server asked for."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        self.wait_s = wait_s
        super().__init__(why)
