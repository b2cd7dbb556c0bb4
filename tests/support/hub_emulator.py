"""A hub on this machine: real HTTP with the parts of the protocol that downloads use, and faults to order.

Repositories are dicts of bytes. A file's address answers with a redirect to another host name, as the real hub does,
and that serves ranges. ``Faults`` draws what goes wrong; ``served`` counts how often every byte went out.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

TOKEN = "hf_token_of_the_tests"
COMMIT = "a" * 40
KINDS = ("drop", "truncate", "shift", "whole", "flip", "429", "503")


@dataclass
class Faults:
    """Draws a fault for some of the requests. ``budget`` bounds how many there are, so that every run ends."""

    seed: int = 0
    share: float = 0.0
    kinds: tuple[str, ...] = KINDS
    budget: int = 12
    drawn: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._lock = threading.Lock()

    def draw(self) -> tuple[str | None, float]:
        """The fault of a request, and where in it, as a share."""
        with self._lock:
            if len(self.drawn) >= self.budget or self._rng.random() >= self.share:
                return None, 0.0
            kind = self._rng.choice(self.kinds)
            self.drawn.append(kind)
            return kind, self._rng.random()


@dataclass
class Repo:
    """A repository: path -> bytes."""

    files: dict[str, bytes]
    gated: bool = False
    licence: str = "apache-2.0"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what is tested."""


class Emulator:
    """The server. ``with Emulator({...}) as hub`` gives it an address."""

    def __init__(self, repos: dict[str, Repo], faults: Faults | None = None, *, bytes_per_s: float = 0.0) -> None:
        self.repos, self.faults, self.bytes_per_s = repos, faults or Faults(), bytes_per_s
        self.blobs = {etag_of(data): data for repo in repos.values() for data in repo.files.values()}
        self.served = {etag: np.zeros(len(data), np.int32) for etag, data in self.blobs.items()}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._flips: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = self._server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Emulator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, etag: str, start: int, end: int) -> None:
        """Note that bytes went out."""
        with self._lock:
            self.served[etag][start:end] += 1

    def flip_once(self, etag: str, at: int) -> None:
        """Damage one byte the next time it goes out."""
        self._flips[etag] = at

    def flipped(self, etag: str, start: int, piece: bytes) -> bytes:
        """A piece with the damage that was ordered for it."""
        with self._lock:
            at = self._flips.get(etag, -1) - start
            if not 0 <= at < len(piece):
                return piece
            del self._flips[etag]
        return piece[:at] + bytes([piece[at] ^ 0x10]) + piece[at + 1 :]

    def twice(self) -> int:
        """Bytes that went out again, over all files."""
        return int(sum(np.maximum(counts - 1, 0).sum() for counts in self.served.values()))


def etag_of(data: bytes) -> str:
    """As the hub names it: SHA-256 of what it keeps as large files, git's SHA-1 of the rest."""
    if len(data) > 1000:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def _handler(hub: Emulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            hub.requests.append((self.command, self.path, dict(self.headers)))
            path = self.path.partition("?")[0]
            if path.startswith("/cdn/"):
                return self._bytes(path.rpartition("/")[2])
            match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            if match:
                return self._info(match[1], match[2])
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            if match:
                return self._resolve(match[1], match[3])
            self._error(404, "EntryNotFound")
            return None

        def _repo(self, name: str) -> Repo | None:
            repo = hub.repos.get(name)
            if repo is None:
                self._error(401, "RepoNotFound")
            return repo

        def _info(self, name: str, revision: str | None) -> None:
            repo = self._repo(name)
            if repo is None:
                return None
            if revision not in (None, "main", COMMIT):
                return self._error(404, "RevisionNotFound")
            siblings = []
            for path, data in repo.files.items():
                entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": "f" * 40}
                if len(data) > 1000:
                    entry["lfs"] = {"size": len(data), "sha256": etag_of(data), "pointerSize": 130}
                else:
                    entry["blobId"] = etag_of(data)
                siblings.append(entry)
            card = {"license": repo.licence}
            info = {"id": name, "sha": COMMIT, "siblings": siblings, "cardData": card, "gated": repo.gated}
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
            return None

        def _resolve(self, name: str, path: str) -> None:
            repo = self._repo(name)
            if repo is None:
                return None
            if repo.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._error(403, "GatedRepo")
            if path not in repo.files:
                return self._error(404, "EntryNotFound")
            etag = etag_of(repo.files[path])
            headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag}"'}
            headers |= {"Location": f"http://localhost:{hub.port}/cdn/{etag}?signature=1"}
            self._send(302, b"", headers)
            return None

        def _error(self, status: int, code: str) -> None:
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _bytes(self, etag: str) -> None:
            data = hub.blobs[etag]
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = (int(match[1]), min(int(match[2]) + 1, len(data))) if match else (0, len(data))
            kind, where = hub.faults.draw()
            if kind in ("429", "503"):
                headers = {"Retry-After": "0.01"} if kind == "429" else {}
                return self._send(int(kind), b"", headers)
            if kind == "shift" and end - start > 2:  # another range than the one that was asked for
                start += 1
            if kind == "whole":  # a server, or a cache before it, that ignores ranges
                start, end, match = 0, len(data), None
            piece = hub.flipped(etag, start, data[start:end])
            if kind == "flip" and piece:
                at = int(where * len(piece))
                piece = piece[:at] + bytes([piece[at] ^ 0x10]) + piece[at + 1 :]
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            self.send_header("ETag", f'"{etag}"')
            declared = len(piece)
            if kind == "truncate":  # an honest end of a short answer
                piece = piece[: int(where * len(piece))]
                declared = len(piece)
            self.send_header("Content-Length", str(declared))
            self.end_headers()
            if kind == "drop":
                piece = piece[: int(where * len(piece))]
                self.close_connection = True
            try:
                self._pour(etag, start, piece)
            except OSError:  # the client went away
                self.close_connection = True

        def _pour(self, etag: str, start: int, piece: bytes) -> None:
            step = 1 << 13 if hub.bytes_per_s else 1 << 18
            for at in range(0, len(piece), step):
                chunk = piece[at : at + step]
                self.wfile.write(chunk)
                hub.count(etag, start + at, start + at + len(chunk))
                if hub.bytes_per_s:
                    time.sleep(len(chunk) / hub.bytes_per_s)

    return Handler
