"""Requests that mean harm, against a real process: a right status each, and memory that stays bounded."""

from __future__ import annotations

import base64
import io
import json
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

import tiny_checkpoint
from server_process import ServerProcess, serving

_MOST_GROWTH_BYTES = 400 << 20
MESSAGE = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "demo", "messages": MESSAGE, "max_tokens": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "eyes").mkdir()
    eyes = tiny_checkpoint.safetensors(folder / "eyes", vision=True, tied_head=False)
    with serving(folder / "log", "demo", f"eyes={eyes}", "--max-requests", "64") as made:
        before = resident_bytes(made)
        yield made
        assert resident_bytes(made) - before < _MOST_GROWTH_BYTES
        assert httpx.get(f"{made.url}/health", timeout=60).json()["status"] == "ok"


@pytest.fixture(scope="module", autouse=True)
def held(server: ServerProcess) -> list[socket.socket]:
    """Connections on which the head of a request never ends, there while all other tests run."""
    found = [connect(server) for _ in range(50)]
    for one in found:
        one.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n")
    return found


def resident_bytes(server: ServerProcess) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def status(server: ServerProcess, body: Any, path: str = "/v1/chat/completions", **more: Any) -> int:
    content = body if isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body).encode()
    try:
        answer = httpx.post(server.url + path, content=content, timeout=60, **more)
    except (httpx.WriteError, httpx.ReadError):
        return 413  # the server answered and closed before all was sent
    if answer.status_code >= 400:
        assert answer.json()["error"]
    return answer.status_code


@pytest.mark.parametrize(
    "change",
    [
        {"n": 10**9},
        {"n": -1},
        {"max_tokens": -1},
        {"max_tokens": 10**30},
        {"top_logprobs": -5, "logprobs": True},
        {"seed": 10**100},
        {"temperature": 1e308},
        {"logit_bias": {str(index): 1.0 for index in range(5000)}},
        {"logit_bias": {"99999999": 1.0}},
        {"stop": ["x"] * 10_000},
        {"stop_token_ids": [-1] * 1000},
        {"tools": [{"type": "function", "function": {"name": f"f{index}"}} for index in range(5000)]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "user", "content": "word " * 500_000}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 100_000}]},
    ],
)
def test_numbers_and_lengths_out_of_bounds(server: ServerProcess, change: dict[str, Any]) -> None:
    assert status(server, CHAT | change) == 400


def test_deep_and_wide_json(server: ServerProcess) -> None:
    assert status(server, b'{"a":' * 1_000_000) == 400
    assert status(server, b"[" * 10_000_000) == 400
    assert status(server, b'{"messages":[' + b"[]," * 10_000_000 + b"[]]}") == 400
    assert status(server, b'{"model":' + b"9" * 1_000_000 + b"}") == 400
    deep: Any = {}
    for _ in range(90):
        deep = {"properties": {"a": deep}} if len(json.dumps(deep)) < 400 else deep
    assert (
        status(server, CHAT | {"tools": [{"type": "function", "function": {"name": "f", "parameters": deep}}]}) == 200
    )


def test_bodies_of_100_megabytes(server: ServerProcess) -> None:
    assert status(server, b" " * 100_000_000) == 413
    assert status(server, iter([b" " * 1_000_000] * 100)) == 413
    assert status(server, b'{"prompt": "' + b"a" * 60_000_000 + b'", "model": "demo"}', "/v1/completions") == 400


def url_of(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims to be large, and is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_pictures_that_are_bombs(server: ServerProcess) -> None:
    good = io.BytesIO()
    Image.new("RGB", (64, 64)).save(good, "PNG")
    for urls in (
        [url_of(bomb(20_000, 20_000))],
        [url_of(bomb(60_000, 40))],
        [url_of(good.getvalue())] * 65,
        [url_of(good.getvalue()[:50])],
        ["file:///etc/passwd"],
        ["/etc/passwd"],
        ["https://169.254.169.254/latest/meta-data"],
        [f"{server.url}/health"],
    ):
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        body = {"model": "eyes", "messages": [{"role": "user", "content": parts}], "max_tokens": 1}
        assert status(server, body) == 400


@pytest.mark.parametrize(
    "answer",
    [
        {"regex": "(a*)*(b*)*(a|aa)+$" * 50},
        {"regex": "(" * 5000},
        {"regex": "((((a{1,1000}){1,1000}){1,1000}){1,1000})"},
        {"regex": "(?=a)b"},
        {"grammar": "start: start start | start"},
        {"grammar": "nonsense {"},
        {"json": {"$ref": "#"}},
        {"json": {"type": "string", "pattern": "(a+)+$" * 1000}},
        {"json": {"enum": [str(index) for index in range(200_000)]}},
        {"json": {"type": "array", "minItems": 10**9}},
        {"json": {"$ref": "https://example.com/schema.json"}},
        {"choice": ["x" * 1000] * 1000},
    ],
)
def test_constraints_that_are_bombs(server: ServerProcess, answer: dict[str, Any]) -> None:
    started = time.monotonic()
    assert status(server, CHAT | {"structured_outputs": answer, "enable_thinking": False}) in (200, 400)
    assert time.monotonic() - started < 20


def test_names_and_origins_of_others(server: ServerProcess) -> None:
    for headers in ({"Host": "evil.com"}, {"Origin": "http://evil.com"}, {"Origin": "null"}, {"Host": ""}):
        assert status(server, CHAT, headers=headers) in (400, 403)


def connect(server: ServerProcess) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)


def test_nonsense_on_the_wire(server: ServerProcess) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
    ):
        with connect(server) as one:
            one.sendall(data)
            answer = one.recv(1000)
            assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 404"), answer


def test_slow_loris(server: ServerProcess, held: list[socket.socket]) -> None:
    """Heads that never end were dropped, or will be within ten seconds; meanwhile others were served."""
    assert status(server, CHAT) == 200
    for one in held:
        assert one.recv(100) == b""
        one.close()


def test_more_than_there_is_room_for(server: ServerProcess) -> None:
    body = {"model": "demo", "prompt": ["a"] * 60, "max_tokens": 200, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as answer:
        chunks = answer.iter_bytes()  # kept: without it the client leaves
        next(chunks)
        busy = httpx.post(f"{server.url}/v1/completions", json=body | {"prompt": ["a"] * 5, "stream": False})
        assert busy.status_code == 429 and int(busy.headers["retry-after"]) >= 1
        assert busy.json()["error"]["type"] == "rate_limit_error"
        assert status(server, CHAT | {"user": "another"}) == 200  # users share the machine evenly
