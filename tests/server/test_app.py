"""The application without a model: every route requires a key, and the OpenAPI document matches the routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest

from loqal.runtime.runtime import Runtime
from loqal.server.app import DIALECTS, create_app
from loqal.server.service.auth import SCOPES, Client, Key
from loqal.server.service.model_pool import unknown_model
from loqal.settings import ServerSettings

ROUTES = [(dialect, route) for dialect in DIALECTS for route in dialect.routes]
KEYS = [Key.of(scope, Client(scope, frozenset({scope}))) for scope in SCOPES]


class EmptyPool:
    """No models at all."""

    created = 5

    def names(self) -> Sequence[str]:
        return []

    def loaded(self) -> Mapping[str, Runtime]:
        return {}

    async def acquire(self, name: str) -> Runtime:
        raise unknown_model(name, ())

    def release(self, name: str) -> None:
        raise AssertionError

    async def unload(self, name: str) -> bool:
        return False

    async def preload(self) -> None:
        pass

    async def unload_idle(self) -> None:
        pass

    async def close(self) -> None:
        pass


def ask(method: str, path: str, app: Any = None, **more: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app or create_app(EmptyPool()), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.request(method, path, **more)

    return asyncio.run(send())


def path_of(route: Any) -> str:
    return str(route.path).replace("{", "").replace("}", "").replace(":path", "")


def test_every_route_of_the_application_is_in_the_table() -> None:
    app = create_app(EmptyPool())
    known = {(route.method, route.path) for _, route in ROUTES}
    found = {(method, route.path) for route in app.routes for method in route.methods}  # type: ignore[attr-defined]
    assert found - {("HEAD", path) for _, path in found} == known and len(known) == len(ROUTES)
    assert all(route.scope in SCOPES for _, route in ROUTES)


@pytest.mark.parametrize(("dialect", "route"), ROUTES, ids=lambda one: getattr(one, "path", ""))
def test_every_route_asks_for_a_key_of_its_scope(dialect: Any, route: Any) -> None:
    app = create_app(EmptyPool(), keys=KEYS)
    assert ask(route.method, path_of(route), app).status_code == 401
    wrong = ask(route.method, path_of(route), app, headers={"authorization": "Bearer nonsense"})
    assert wrong.status_code == 401 and wrong.headers["www-authenticate"] == "Bearer"
    for scope in SCOPES:
        answer = ask(route.method, path_of(route), app, headers={"x-api-key": scope})
        assert ("The API key does not permit" in answer.text) == (scope != route.scope)
        assert answer.status_code == 403 or (scope == route.scope and answer.status_code != 401)


@pytest.mark.parametrize(("dialect", "route"), ROUTES, ids=lambda one: getattr(one, "path", ""))
def test_every_route_refuses_foreign_pages_and_names(dialect: Any, route: Any) -> None:
    for headers in (
        {"host": "evil.com"},
        {"origin": "http://evil.com"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.com:8000", "origin": "http://evil.com:8000"},
    ):
        answer = ask(route.method, path_of(route), headers=headers)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


def test_pages_that_may_call_are_told_so() -> None:
    headers = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    preflight = ask("OPTIONS", "/v1/chat/completions", headers=headers)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "http://localhost:3000"
    plain = ask("GET", "/v1/models", headers={"origin": "http://localhost:3000"})
    assert plain.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "access-control-allow-credentials" not in plain.headers
    assert "access-control-allow-origin" not in ask("GET", "/v1/models").headers


@pytest.mark.parametrize(("dialect", "route"), ROUTES, ids=lambda one: getattr(one, "path", ""))
def test_bodies_that_are_none_get_the_dialects_error(dialect: Any, route: Any) -> None:
    if route.body is None:
        return
    for content in (b"", b"[]", b"null", b'"a"', b"{", b"[" * 100_000):
        answer = ask(route.method, path_of(route), content=content)
        assert answer.status_code == 400, answer.text
        assert "error" in answer.json()


def test_large_bodies_are_not_read() -> None:
    app = create_app(EmptyPool(), ServerSettings(max_body_bytes=1000))
    assert ask("POST", "/v1/completions", app, content=b" " * 1001).status_code == 413

    async def endless() -> Any:
        while True:
            yield b" " * 100

    assert ask("POST", "/v1/completions", app, content=endless()).status_code == 413


def test_what_is_not_there() -> None:
    assert ask("GET", "/nowhere").json()["error"]["type"] == "not_found_error"
    assert ask("DELETE", "/v1/models").status_code == 405
    answer = ask("POST", "/v1/completions", json={"model": "absent", "prompt": "a"})
    assert answer.status_code == 404 and "absent" in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"].startswith("req_")


def test_the_page_names_every_route_and_all_that_it_refers_to() -> None:
    page = ask("GET", "/openapi.json").json()
    found = {(method.upper(), path) for path, verbs in page["paths"].items() for method in verbs}
    assert found == {(route.method, route.path.replace(":path", "")) for _, route in ROUTES}
    text = json.dumps(page)
    schemas = page["components"]["schemas"]
    for part in text.split('"$ref": "')[1:]:
        reference = part.partition('"')[0]
        assert reference.startswith("#/components/schemas/")
        assert reference.removeprefix("#/components/schemas/") in schemas
    ids = [verb["operationId"] for verbs in page["paths"].values() for verb in verbs.values()]
    assert len(set(ids)) == len(ids)


def test_logs_and_metrics_tell_nothing_of_what_was_said(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(EmptyPool())
    with caplog.at_level("INFO", logger="loqal.server"):
        ask("POST", "/v1/completions", app, json={"model": "m", "prompt": "a secret"})
    record = json.loads(caplog.messages[-1])
    assert record["status"] == 404 and record["path"] == "/v1/completions"
    assert "secret" not in caplog.text
    page = ask("GET", "/metrics", app).text
    assert 'loqal_requests_total{method="POST",route="/v1/completions",status="404"} 1.0' in page
    assert "secret" not in page
