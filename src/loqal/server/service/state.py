"""Shared server state: models, keys, limits, metrics, stored responses and streams."""

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

_MEDIA_AT_ONCE = 2  # requests whose images and videos are decoded at the same time
_MIN_RETRY_S, _MAX_RETRY_S = 1.0, 60.0
_SMOOTHING = 0.1


class ConcurrencyLimit:
    """The limits on concurrent replies and request bytes. A request beyond them is refused, with a time to retry.

    Args:
        max_replies: the maximum number of replies in flight, waiting ones included.
        max_body_bytes: the maximum total size of the bodies in flight.
    """

    def __init__(self, max_replies: int, max_body_bytes: int, metrics: Metrics) -> None:
        self._max_replies, self._max_bytes, self._metrics = max_replies, max_body_bytes, metrics
        self._replies = self._bytes = 0
        self._mean_s = _MIN_RETRY_S

    def enter(self, replies: int) -> None:
        """Count replies that start. Raises RefusedError when there are too many."""
        if self._replies + replies > self._max_replies:
            retry_s = min(max(self._mean_s, _MIN_RETRY_S), _MAX_RETRY_S)
            raise RefusedError(
                "rate_limit",
                "The server is busy.",
                f"It has {self._replies} replies in flight; the maximum is {self._max_replies}.",
                "Send the request again later.",
                retry_s=retry_s,
            )
        self._replies += replies
        self._metrics.running(replies)

    def leave(self, replies: int, seconds: float) -> None:
        """Count replies that ended after ``seconds``."""
        self._replies -= replies
        self._metrics.running(-replies)
        self._mean_s += _SMOOTHING * (seconds - self._mean_s)

    def read(self, num_bytes: int) -> None:
        """Count bytes of a body that is read; negative when it is released. Raises RefusedError."""
        if num_bytes > 0 and self._bytes + num_bytes > self._max_bytes:
            raise RefusedError(
                "overloaded",
                "The server is busy.",
                f"The requests in flight have {self._bytes:,} bytes; the maximum is {self._max_bytes:,}.",
                "Send the request again later.",
                retry_s=_MIN_RETRY_S,
            )
        self._bytes += num_bytes


class ServerState:
    """The state of one server.

    Attributes:
        stored: responses and conversations that later requests refer to.
        replies: the exact tokens of generated replies.
        tasks: background tasks that outlive their requests.
        health_checks: the latest health check of each model.
        media: limits concurrent decoding of images and videos.
    """

    def __init__(self, pool: Pool, settings: ServerSettings, keys: Iterable[Key] = ()) -> None:
        self.pool, self.settings = pool, settings
        self.authenticator = Authenticator(keys)
        self.metrics = Metrics()
        self.concurrency = ConcurrencyLimit(settings.max_requests, 4 * settings.max_body_bytes, self.metrics)
        self.streams = ResumableStreams()
        self.stored: Store[Any] = Store()
        self.replies = ReplyMemory()
        self.tasks: set[asyncio.Task[None]] = set()
        self.health_checks: dict[str, asyncio.Future[float]] = {}
        self.media = asyncio.Semaphore(_MEDIA_AT_ONCE)
