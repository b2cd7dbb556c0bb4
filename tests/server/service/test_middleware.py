"""What stands before every route: hosts, origins, headers, and one line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from loqal.server.service.auth import Addresses
from loqal.server.service.metrics import Metrics
from loqal.server.service.middleware import RequestMiddleware
from loqal.settings import ServerSettings

HOST = "localhost:8080"


class Inner:
    """An application that answers, fails or is cancelled."""

    def __init__(self, status: int = 200, error: BaseException | None = None) -> None:
        self.status, self.error, self.scopes = status, error, list[Any]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if self.error is not None:
            raise self.error
        scope["state"]["facts"]["model"] = "tiny"
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"vary", b"Accept")]})
        await send({"type": "http.response.body", "body": b"secret words"})


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        self.status = messages[0]["status"] if messages else 0
        self.headers: dict[str, str] = {}
        for name, value in messages[0]["headers"] if messages else ():
            key = name.decode().lower()
            self.headers[key] = ", ".join(filter(None, [self.headers.get(key), value.decode()]))
        self.body = b"".join(message.get("body", b"") for message in messages[1:])


def ask(app: Any, method: str = "GET", path: str = "/x", metrics: Metrics | None = None, **headers: str) -> Answer:
    times = iter([10.0, 10.25])
    addresses = Addresses(ServerSettings(allow_origins=("https://app.example/",), allow_hosts=("Box.lan",)))
    wrapped = RequestMiddleware(
        app,
        addresses,
        metrics or Metrics(),
        lambda problem, request_id: {"error": problem.kind},
        clock=lambda: next(times),
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads the body here")

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in {"host": HOST, **headers}.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}
    asyncio.run(wrapped(scope, receive, send))
    return Answer(sent)


def test_an_answer_gets_its_headers() -> None:
    answer = ask(Inner())
    assert answer.status == 200 and answer.body == b"secret words"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert "access-control-allow-origin" not in answer.headers and answer.headers["vary"] == "Accept"
    assert ask(Inner()).headers["x-request-id"] != answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", ["https://app.example", "http://localhost:3000", f"http://{HOST}", "http://127.0.0.1"]
)
def test_pages_that_may_call(origin: str) -> None:
    answer = ask(Inner(), origin=origin)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["vary"] == "Accept, Origin"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://app.example.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"host": "evil.example"},
        {"host": ""},
        {"host": "box.lan.evil.example"},
    ],
)
def test_callers_that_are_refused(headers: dict[str, str]) -> None:
    inner = Inner()
    answer = ask(inner, **headers)
    assert answer.status == 403 and json.loads(answer.body) == {"error": "permission"}
    assert not inner.scopes
    assert "access-control-allow-origin" not in answer.headers
    assert ask(inner, "OPTIONS", access_control_request_method="POST", **headers).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:80", "10.0.0.5", "box.LAN:80", "a.localhost", "localhost"])
def test_names_of_this_server(host: str) -> None:
    assert ask(Inner(), host=host).status == 200
    assert ask(Inner(), host=host, sec_fetch_site="same-origin").status == 200


def test_a_browser_asks_before_it_calls() -> None:
    inner = Inner()
    answer = ask(inner, "OPTIONS", origin="https://app.example", access_control_request_method="POST")
    assert answer.status == 204 and not inner.scopes
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    ask(inner, "OPTIONS")  # not of a browser: the application's
    assert len(inner.scopes) == 1


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "loqal.server"]


def test_one_line_a_request_that_says_nothing_of_what_was_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "loqal.server")
    answer = ask(Inner(), "POST", "/" + "p" * 500, authorization="Bearer key")
    (line,) = lines(caplog)
    assert line["id"] == answer.headers["x-request-id"]
    assert (line["method"], line["status"], line["seconds"], line["model"]) == ("POST", 200, 0.25, "tiny")
    assert len(line["path"]) == 200
    assert "secret" not in caplog.text and "key" not in str(line)


def test_failures_are_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "loqal.server")
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError):
        ask(Inner(error=ZeroDivisionError()), metrics=metrics)
    ask(Inner(error=asyncio.CancelledError()), metrics=metrics)  # the server ends: nothing to raise any more
    ask(Inner(status=404), metrics=metrics)
    found = lines(caplog)
    assert [line["status"] for line in found] == [0, 0, 404]
    assert "error" in found[1] and "error" not in found[0]
    page = metrics.page({}, {}).decode()
    assert 'loqal_requests_total{method="GET",route="none",status="404"} 1.0' in page
    assert 'loqal_requests_total{method="GET",route="none",status="0"} 2.0' in page


def test_what_is_no_http_passes_through() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    wrapped = RequestMiddleware(app, Addresses(ServerSettings()), Metrics(), lambda problem, request_id: {})
    asyncio.run(wrapped({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == [{"type": "lifespan"}]
