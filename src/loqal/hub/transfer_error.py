"""The failure of a transfer, known to those who cause it and to those who try again."""

from __future__ import annotations


class TransferError(Exception):
    """A transfer failed in a way that another try may mend. ``wait_s`` is what the server asked for."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        self.wait_s = wait_s
        super().__init__(why)
