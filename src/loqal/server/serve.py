"""The server process: sockets, signals, timeouts, and a graceful shutdown that waits for running replies."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from loqal.errors import RequestError
from loqal.server.app import create_app
from loqal.server.service.auth import Key, check_bind, keys_of
from loqal.server.service.model_pool import Pool
from loqal.settings import ServerSettings

_HEAD_S = 10.0  # to receive the headers of a request
_KEEP_ALIVE_S = 60
_BACKLOG = 256
_MAX_HEAD_BYTES = 1 << 15
_SPARE_CONNECTIONS = 1024  # beyond one per reply, so that clients over the limit get a 429 instead of no answer
_MAX_FILES = 1 << 16
_MAX_THREADS = 32  # they encode prompts and wait for the engine, which has its own thread


def run(pool: Pool, settings: ServerSettings, ready: Callable[[Sequence[str]], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``ready`` is called with the addresses once requests are accepted.

    The first signal starts a graceful shutdown: running replies may finish, for at most ``drain_s`` seconds. A second
    signal ends the process immediately. Raises RequestError if it cannot listen, and what loading the first model
    raises.
    """
    keys = keys_of(settings)
    check_bind(settings, keys)
    _allow_connections()
    sockets = listen(settings.host, settings.port)
    try:
        asyncio.run(_serve(pool, settings, keys, sockets, ready))
    finally:
        for one in sockets:
            one.close()


async def _serve(
    pool: Pool,
    settings: ServerSettings,
    keys: Iterable[Key],
    sockets: list[socket.socket],
    ready: Callable[[Sequence[str]], None],
) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_MAX_THREADS, "loqal-worker"))
    await pool.preload()
    config = uvicorn.Config(
        create_app(pool, settings, keys),
        http=_Protocol,
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
        limit_concurrency=settings.max_requests + _SPARE_CONNECTIONS,
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
    )
    await _Server(config, lambda: ready(list(map(_address, sockets)))).serve(sockets)


def _allow_connections() -> None:
    """Let the process have as many sockets open as the system permits, up to a bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of a host, all on one port. Raises RequestError."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port, *address[2:]))
            one.listen(_BACKLOG)
            port = one.getsockname()[1]
    except OSError as error:
        for one in sockets:
            one.close()
        reason = error.strerror or str(error)
        raise RequestError(
            f"The server cannot listen on {host}, port {port}.", f"{reason}.", "Pass another --port or --host."
        ) from error
    return sockets


def _address(one: socket.socket) -> str:
    host, port = one.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Calls ``ready`` after startup, and ends the process on the second signal."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            sys.stderr.flush()
            os._exit(128 + sig)
        self.should_exit = True


class _Protocol(H11Protocol):
    """Closes connections whose request headers do not arrive in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(_HEAD_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def log_to_stderr() -> None:
    """Log one JSON line per request, and tracebacks of unexpected errors, to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
