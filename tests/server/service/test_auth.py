"""API keys, quotas, host names and origins."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from loqal.errors import RequestError
from loqal.server.service.auth import Addresses, Authenticator, Client, Key, check_bind, is_loopback, keys_of, read_keys
from loqal.server.service.metrics import Metrics
from loqal.server.service.state import ConcurrencyLimit
from loqal.server.shared.errors import RefusedError
from loqal.settings import ServerSettings

READER = Client("reader", frozenset({"read"}))


def refused(guard: Authenticator, headers: dict[str, str], scope: str = "infer") -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        guard.admit(headers, scope)  # type: ignore[arg-type]
    return caught.value


def test_keys_open_their_scopes_only() -> None:
    guard = Authenticator([Key.of("a", READER), Key.of("b", Client("all"))])
    assert guard.admit({"authorization": "Bearer a"}, "read") == READER
    assert guard.admit({"authorization": "bearer  b "}, "manage").name == "all"
    assert guard.admit({"x-api-key": "b"}, "infer").name == "all"
    assert refused(guard, {"x-api-key": "a"}).kind == "permission"
    for headers in ({}, {"authorization": "Basic a"}, {"authorization": "Bearer c"}, {"x-api-key": "\udcff"}):
        assert refused(guard, headers, "read").kind == "authentication"


def test_without_keys_everybody_may_do_everything() -> None:
    assert Authenticator().admit({}, "manage") == Client()


def test_quotas_are_kept_and_renewed() -> None:
    now = 0.0
    guard = Authenticator([Key.of("a", Client("a", requests_per_minute=2, tokens_per_day=10))], clock=lambda: now)
    headers = {"x-api-key": "a"}
    client = guard.admit(headers, "infer")
    guard.admit(headers, "infer")
    over = refused(guard, headers)
    assert (over.kind, over.retry_s) == ("rate_limit", 60.0)
    now = 60.0
    guard.admit(headers, "infer")
    guard.spend(client, 10)
    assert refused(guard, headers).kind == "rate_limit"
    now = 86400.0
    guard.admit(headers, "infer")


def test_keys_files(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    digest = hashlib.sha256(b"secret").hexdigest()
    path.write_text(
        f'[[keys]]\nname = "one"\nsha256 = "{digest}"\nscopes = ["read"]\n'
        '[[keys]]\nname = "two"\nkey = "k"\ntokens_per_day = 5\n'
    )
    guard = Authenticator(keys_of(ServerSettings(api_key="third", keys_file=str(path))))
    assert guard.admit({"x-api-key": "secret"}, "read").name == "one"
    assert guard.admit({"x-api-key": "k"}, "infer").tokens_per_day == 5
    assert guard.admit({"x-api-key": "third"}, "manage").name == "default"
    for text in (
        "",
        "nonsense",
        "keys = 1",
        '[[keys]]\nname = "a"',
        '[[keys]]\nkey = "a"',
        '[[keys]]\nname = "a"\nkey = "a"\nscopes = ["all"]',
        '[[keys]]\nname = "a"\nkey = "a"\ntokens_per_day = 0',
        '[[keys]]\nname = "a"\nkey = "a"\ntypo = 1',
        '[[keys]]\nname = "a"\nsha256 = "xyz"',
    ):
        path.write_text(text)
        with pytest.raises(RequestError):
            read_keys(path)
    with pytest.raises(RequestError):
        read_keys(tmp_path / "absent")


def test_the_public_is_not_served_by_accident() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.5.5.5"):
        check_bind(ServerSettings(host=host), [])
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.com"):
        assert not is_loopback(host)
        with pytest.raises(RequestError, match=host):
            check_bind(ServerSettings(host=host), [])
        check_bind(ServerSettings(host=host, allow_public=True), [])
        check_bind(ServerSettings(host=host), [Key.of("a", Client())])


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:80", "a.localhost", "10.0.0.7:80"]
)
def test_hosts_that_may_be_named(host: str) -> None:
    assert Addresses(ServerSettings()).permits_host(host)


@pytest.mark.parametrize("host", ["", "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "[", "a@b", "x:y:z"])
def test_hosts_that_may_not(host: str) -> None:
    assert not Addresses(ServerSettings()).permits_host(host)


def test_listed_hosts_and_origins() -> None:
    addresses = Addresses(ServerSettings(allow_hosts=("Box.example",), allow_origins=("https://chat.example/",)))
    assert addresses.permits_host("box.example:8000")
    assert addresses.permits_origin("https://chat.example", "box.example")
    assert addresses.permits_origin("http://box.example:8000", "box.example:8000")
    assert addresses.permits_origin("http://localhost:3000", "127.0.0.1:8000")
    for origin in (
        "null",
        "http://chat.example",
        "https://chat.example.evil.com",
        "http://localhost.evil.com",
        "file://",
    ):
        assert not addresses.permits_origin(origin, "127.0.0.1:8000"), origin


def test_room_is_bounded_and_given_back() -> None:
    room = ConcurrencyLimit(4, 100, Metrics())
    room.enter(3)
    with pytest.raises(RefusedError) as caught:
        room.enter(2)
    assert caught.value.kind == "rate_limit" and caught.value.retry_s is not None
    room.leave(3, seconds=500.0)
    room.enter(4)
    with pytest.raises(RefusedError) as caught:
        room.enter(1)
    assert 1 < (caught.value.retry_s or 0) <= 60
    room.read(100)
    with pytest.raises(RefusedError):
        room.read(1)
    room.read(-100)
    room.read(1)
