"""What the server counts, as a scraper reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from loqal.server.service.metrics import Metrics
from loqal.types.reply import FinishReason, Reply, Timings, Usage

Labels = tuple[tuple[str, str], ...]


def samples(metrics: Metrics, **page: dict[str, object]) -> dict[tuple[str, Labels], float]:
    text = metrics.page(page.get("loaded", {}), page.get("statistics", {})).decode()  # type: ignore[arg-type]
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def reply(completion: int = 5, reason: FinishReason = FinishReason.STOP) -> Reply:
    usage = Usage(10, completion, 2, 3, None, 4, 1)
    return Reply("", "", (), reason, usage, Timings(0, 250, 0, 0), 0)


def test_requests_and_their_times() -> None:
    metrics = Metrics()
    metrics.answered("GET", "/a", 200, 0.2)
    metrics.answered("BREW", "/a", 405, 20.0)
    metrics.answered("TEA", "/a", 405, 20.0)
    found = samples(metrics)
    get = (("method", "GET"), ("route", "/a"), ("status", "200"))
    assert found["loqal_requests_total", get] == 1
    other = (("method", "other"), ("route", "/a"), ("status", "405"))  # callers cannot make up labels
    assert found["loqal_requests_total", other] == 2
    assert found["loqal_request_seconds_bucket", (("le", "0.25"), ("route", "/a"))] == 1
    assert found["loqal_request_seconds_sum", (("route", "/a"),)] == 40.2


def test_replies_and_their_tokens() -> None:
    metrics = Metrics()
    metrics.replied("m", reply())
    metrics.replied("m", reply(0, FinishReason.CANCELLED))
    found = samples(metrics)
    tokens = {
        kind: found["loqal_tokens_total", (("kind", kind), ("model", "m"))]
        for kind in ("prompt", "cached", "completion", "reasoning", "drafted", "accepted")
    }
    assert tokens == {"prompt": 20, "cached": 6, "completion": 5, "reasoning": 4, "drafted": 8, "accepted": 2}
    assert found["loqal_replies_total", (("model", "m"), ("reason", "cancelled"))] == 1
    assert found["loqal_first_token_seconds_count", (("model", "m"),)] == 1  # a reply without tokens has no first one
    assert found["loqal_first_token_seconds_sum", (("model", "m"),)] == 0.25


def test_gauges_say_how_it_is_now() -> None:
    metrics = Metrics()
    metrics.running(3)
    metrics.running(-1)
    first = samples(metrics, loaded={"a": 5, "b": 6}, statistics={"a": {"steps": 7.0}})
    assert first["loqal_running_replies", ()] == 2
    assert first["loqal_model_bytes", (("model", "b"),)] == 6
    assert first["loqal_engine", (("model", "a"), ("name", "steps"))] == 7
    second = samples(metrics, loaded={"a": 8})
    assert second["loqal_model_bytes", (("model", "a"),)] == 8
    assert not [name for name, labels in second if name == "loqal_engine" or ("model", "b") in labels]


def test_servers_of_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.running(1)
    assert samples(two)["loqal_running_replies", ()] == 0
