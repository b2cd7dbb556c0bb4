"""Prometheus metrics. Every server has its own registry."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loqal.types.reply import Reply

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("loqal_requests", "HTTP requests", ["method", "route", "status"], registry=registry)
        self._seconds = Histogram(
            "loqal_request_seconds",
            "Request duration in seconds, to the end of the response",
            ["route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._first = Histogram(
            "loqal_first_token_seconds",
            "Time to first token in seconds",
            ["model"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._tokens = Counter(
            "loqal_tokens",
            "Tokens by kind (prompt, cached, completion, reasoning, drafted, accepted)",
            ["model", "kind"],
            registry=registry,
        )
        self._ends = Counter(
            "loqal_replies", "Finished replies by finish reason", ["model", "reason"], registry=registry
        )
        self._running = Gauge("loqal_running_replies", "Replies in flight, running or waiting", registry=registry)
        self._loaded = Gauge(
            "loqal_model_bytes", "Planned memory of a loaded model in bytes", ["model"], registry=registry
        )
        self._engine = Gauge("loqal_engine", "Engine statistics by name", ["model", "name"], registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a finished request."""
        self._requests.labels(
            method if method in ("GET", "POST", "DELETE", "OPTIONS") else "other", route, status
        ).inc()
        self._seconds.labels(route).observe(seconds)

    def running(self, change: int) -> None:
        """Add to the number of replies in flight."""
        self._running.inc(change)

    def replied(self, model: str, reply: Reply) -> None:
        """Count a complete or cancelled reply."""
        usage = reply.usage
        self._ends.labels(model, reply.finish_reason.value).inc()
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
            ("reasoning", usage.reasoning_tokens),
            ("drafted", usage.drafted_tokens),
            ("accepted", usage.accepted_tokens),
        ):
            self._tokens.labels(model, kind).inc(count)
        if usage.completion_tokens:
            self._first.labels(model).observe(reply.timings.first_token_ms / 1e3)

    def page(self, loaded: Mapping[str, int], statistics: Mapping[str, Mapping[str, float]]) -> bytes:
        """The metrics in Prometheus' text format.

        Args:
            loaded: planned memory in bytes by model.
            statistics: engine statistics by model.
        """
        self._loaded.clear()
        self._engine.clear()
        for model, size in loaded.items():
            self._loaded.labels(model).set(size)
        for model, values in statistics.items():
            for name, value in values.items():
                self._engine.labels(model, name).set(value)
        return generate_latest(self._registry)
