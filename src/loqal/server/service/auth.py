"""Authentication and authorization, checked before a body is read.

- A browser may only send requests from an allowed origin and to an allowed host name. Otherwise any web site could use
  the server through its visitors, by CSRF or by DNS rebinding.
- A client is identified by an API key. Keys have scopes and quotas, and are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import time
import tomllib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from loqal.errors import RequestError
from loqal.server.shared.errors import RefusedError
from loqal.settings import ServerSettings

Scope = Literal["infer", "read", "manage"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_MINUTE_S, _DAY_S = 60.0, 86400.0


@dataclass(frozen=True, slots=True)
class Client:
    """A client: the name of its key, its scopes and quotas."""

    name: str = ""
    scopes: frozenset[Scope] = frozenset(SCOPES)
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, stored as its SHA-256 digest."""

    digest: bytes
    client: Client

    @staticmethod
    def of(secret: str, client: Client) -> Key:
        """The key with this secret."""
        return Key(hashlib.sha256(secret.encode()).digest(), client)


@dataclass(slots=True)
class _Usage:
    """The recent usage of one client."""

    requests: deque[float] = field(default_factory=deque)
    tokens: int = 0
    day_ends: float = 0.0


class Authenticator:
    """Checks API keys, scopes and quotas."""

    def __init__(self, keys: Iterable[Key] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = tuple(keys), clock
        self._usage: dict[str, _Usage] = {}

    def admit(self, headers: Mapping[str, str], scope: Scope) -> Client:
        """The client of a request, if it may use a route of this scope now. Raises RefusedError."""
        if not self._keys:
            return Client()
        client = self._known(_secret(headers))
        if scope not in client.scopes:
            raise RefusedError(
                "permission",
                "The API key does not permit this request.",
                f"The route requires the scope {scope}.",
                "Send a key with this scope.",
            )
        self._count(client)
        return client

    def spend(self, client: Client, tokens: int) -> None:
        """Count tokens that a client used."""
        if client.tokens_per_day is not None:
            self._today(client).tokens += tokens

    def _known(self, secret: str | None) -> Client:
        digest = hashlib.sha256((secret or "").encode(errors="surrogateescape")).digest()
        found = [key.client for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if secret is None or not found:
            raise RefusedError(
                "authentication",
                "The request has no API key." if secret is None else "The API key is invalid.",
                "This server requires an API key.",
                "Send a valid key as Authorization: Bearer KEY or x-api-key: KEY.",
            )
        return found[0]

    def _count(self, client: Client) -> None:
        now = self._clock()
        if client.requests_per_minute is not None:
            requests = self._today(client).requests
            while requests and requests[0] <= now - _MINUTE_S:
                requests.popleft()
            if len(requests) >= client.requests_per_minute:
                raise _quota_error(f"{client.requests_per_minute} requests per minute", requests[0] + _MINUTE_S - now)
            requests.append(now)
        if client.tokens_per_day is not None and self._today(client).tokens >= client.tokens_per_day:
            raise _quota_error(f"{client.tokens_per_day} tokens per day", self._today(client).day_ends - now)

    def _today(self, client: Client) -> _Usage:
        spent, now = self._usage.setdefault(client.name, _Usage()), self._clock()
        if now >= spent.day_ends:
            spent.tokens, spent.day_ends = 0, now + _DAY_S
        return spent


def _quota_error(quota: str, retry_s: float) -> RefusedError:
    return RefusedError(
        "rate_limit",
        "The quota of the API key is exceeded.",
        f"The quota is {quota}.",
        "Send the request again after the time in the Retry-After header.",
        retry_s=retry_s,
    )


def _secret(headers: Mapping[str, str]) -> str | None:
    kind, _, secret = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        return secret.strip()
    return headers.get("x-api-key")


# Keys -----------------------------------------------------------------------------------------------------------------


def keys_of(settings: ServerSettings) -> list[Key]:
    """The API keys of the settings. Raises RequestError."""
    keys = [] if settings.api_key is None else [Key.of(settings.api_key, Client("default"))]
    if settings.keys_file is not None:
        keys += read_keys(Path(settings.keys_file))
    return keys


def read_keys(path: Path) -> list[Key]:
    """The API keys of a TOML file. Raises RequestError.

    Each ``[[keys]]`` table has ``name``, ``key`` or ``sha256``, and optionally ``scopes`` and quotas.
    """
    try:
        tables = tomllib.loads(path.read_text())["keys"]
        return [_key(table) for table in tables]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"The keys file {str(path)!r} is invalid.",
            f"{error}."
            if isinstance(error, (OSError, ValueError))
            else "A [[keys]] table, its name or its key is missing.",
            'Write [[keys]] with name = "...", key = "..." (or sha256 = "...") and scopes = ["infer", "read"].',
        ) from error


def _key(table: Mapping[str, Any]) -> Key:
    known = {"name", "key", "sha256", "scopes", "requests_per_minute", "tokens_per_day"}
    if unknown := set(table) - known:
        raise ValueError(f"A key has the unknown field {sorted(unknown)[0]!r}")
    scopes = frozenset(table.get("scopes", ("infer", "read")))
    if not scopes <= set(SCOPES):
        raise ValueError(f"The scopes of a key must be among {', '.join(SCOPES)}")
    quotas = {name: table.get(name) for name in ("requests_per_minute", "tokens_per_day")}
    if not all(quota is None or (isinstance(quota, int) and quota > 0) for quota in quotas.values()):
        raise ValueError("The quotas of a key must be integers above 0")
    client = Client(str(table["name"]), scopes, **quotas)
    if "sha256" in table:
        return Key(bytes.fromhex(table["sha256"]), client)
    return Key.of(str(table["key"]), client)


# Addresses ------------------------------------------------------------------------------------------------------------


def check_bind(settings: ServerSettings, keys: Sequence[Key]) -> None:
    """Raise RequestError when other machines could use the server without an API key."""
    if keys or settings.allow_public or is_loopback(settings.host):
        return
    raise RequestError(
        f"The server would accept requests from other machines on {settings.host} without an API key.",
        "No API key is set, and --allow-public is not given.",
        "Set LOQAL_API_KEY or --keys-file, or pass --allow-public.",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Addresses:
    """The allowed host names of the server, and the allowed origins of web pages."""

    def __init__(self, settings: ServerSettings) -> None:
        names = {*_LOOPBACK_NAMES, settings.host, *settings.allow_hosts}
        if not is_loopback(settings.host):
            names |= {socket.gethostname()}
        self._names = {name.lower() for name in names}
        self._origins = {origin.rstrip("/").lower() for origin in settings.allow_origins}

    def permits_host(self, host: str) -> bool:
        """Whether a Host header is allowed. IP addresses are, because DNS rebinding needs a name."""
        name = _name(f"//{host}")
        return name is not None and (name in self._names or name.endswith(".localhost") or _is_numeric(name))

    def permits_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin header is allowed: the server's own, one of this machine, or one in the settings."""
        origin = origin.lower()
        if origin in self._origins or urlsplit(origin).netloc == host.lower():
            return True
        name = _name(origin)
        return origin.startswith(("http://", "https://")) and name is not None and is_loopback(name)


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
