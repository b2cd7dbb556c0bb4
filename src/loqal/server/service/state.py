"""What all requests to one server share: models, keys, room, counters, kept streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from loqal.server.service.auth import Authenticator, Key
from loqal.server.service.conversation_store import Store
from loqal.server.service.metrics import Metrics
from loqal.server.service.model_pool import Pool
from loqal.server.service.reply_memory import ReplyMemory
from loqal.server.shared.errors import RefusedError
from loqal.server.shared.resumable_streams import ResumableStreams
from loqal.settings import ServerSettings

_MEDIA_AT_ONCE = 2  # requests whose pictures are decoded at the same time
_LEAST_RETRY_S, _MOST_RETRY_S = 1.0, 60.0
_SMOOTHING = 0.1


class ConcurrencyLimit:
    """How much is being done at once. What does not fit is refused at once, with an estimate of when it will.

    Args:
        most_replies: written or waiting to be.
        most_body_bytes: of all bodies that are being read.
    """

    def __init__(self, most_replies: int, most_body_bytes: int, metrics: Metrics) -> None:
        self._most_replies, self._most_bytes, self._metrics = most_replies, most_body_bytes, metrics
        self._replies = self._bytes = 0
        self._mean_s = _LEAST_RETRY_S

    def enter(self, replies: int) -> None:
        """Make room for replies. Raises RefusedError."""
        if self._replies + replies > self._most_replies:
            retry_s = min(max(self._mean_s, _LEAST_RETRY_S), _MOST_RETRY_S)
            raise RefusedError(
                "rate_limit",
                "The server is busy.",
                f"{self._replies} replies are being written or wait, and {self._most_replies} are the most.",
                "Come again later.",
                retry_s=retry_s,
            )
        self._replies += replies
        self._metrics.running(replies)

    def leave(self, replies: int, seconds: float) -> None:
        """Replies that entered are over, after so long."""
        self._replies -= replies
        self._metrics.running(-replies)
        self._mean_s += _SMOOTHING * (seconds - self._mean_s)

    def read(self, num_bytes: int) -> None:
        """Make room for bytes of a body; negative gives back. Raises RefusedError."""
        if num_bytes > 0 and self._bytes + num_bytes > self._most_bytes:
            raise RefusedError(
                "overloaded", "The server is busy.", "Too many large requests arrive at once.", retry_s=_LEAST_RETRY_S
            )
        self._bytes += num_bytes


class ServerState:
    """Made once for each server."""

    def __init__(self, pool: Pool, settings: ServerSettings, keys: Iterable[Key] = ()) -> None:
        self.pool, self.settings = pool, settings
        self.guard = Authenticator(keys)
        self.metrics = Metrics()
        self.concurrency = ConcurrencyLimit(settings.max_requests, 4 * settings.max_body_bytes, self.metrics)
        self.streams = ResumableStreams()
        self.kept: Store[Any] = Store()
        self.replies = ReplyMemory()
        self.tasks: set[asyncio.Task[None]] = set()  # that outlive the requests that began them
        self.steps: dict[str, asyncio.Future[float]] = {}  # of the last look at each model's health
        self.media = asyncio.Semaphore(_MEDIA_AT_ONCE)
