"""The server as an operator meets it: how it starts, what it prints, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from server_process import ENVIRONMENT, serving
from waiting import wait_until

LONG = {"model": "demo", "prompt": "a", "max_tokens": 1500, "ignore_eos": True, "temperature": 0}


def refused(*words: str, env: dict[str, str] | None = None) -> str:
    """What the command says when it does not start."""
    command = [sys.executable, "-m", "loqal", "serve", *words]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT | (env or {}), timeout=60)
    assert result.returncode in (2, 3), result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.slow
def test_what_does_not_start(tmp_path: Path) -> None:
    assert "--allow-public" in refused("--host", "0.0.0.0", "--port", "0")
    assert "absent.gguf" in refused("absent.gguf")
    assert "called 'demo'" in refused("demo", "demo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "in use" in refused("--port", str(taken.getsockname()[1]))
    config = tmp_path / "server.toml"
    config.write_text("prot = 8000\n")
    assert "'prot'" in refused("--config", str(config))
    config.write_text('port = "many"\n')
    assert "port in the file" in refused(env={"LOQAL_CONFIG": str(config)})


def test_settings_from_flags_the_environment_and_a_file(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(
        'models = ["mine=demo"]\ncontext_len = 512\nmax_body_bytes = 2000\nmax_requests = 7\napi_key = "k"\n'
    )
    env = {"LOQAL_CONTEXT_LEN": "256", "LOQAL_CONFIG": str(config)}
    with (
        serving(tmp_path / "log", "--max-body-bytes", "3000", "--host", "localhost", env=env) as server,
        httpx.Client(base_url=server.url, headers={"Authorization": "Bearer k"}) as client,
    ):
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["mine"]
        long = {"model": "mine", "prompt": "word " * 400}
        assert "256" in client.post("/v1/completions", json=long).json()["error"]["message"]
        assert client.post("/v1/completions", content=b" " * 3001).status_code == 413
        assert client.post("/v1/completions", content=b" " * 3000).status_code == 400
        assert client.post("/v1/completions", json={"model": "mine", "prompt": "a", "n": 8}).status_code == 429
        assert client.get("/health").json()["models"]["mine"]["loaded"]


def accepts(url: str) -> bool:
    """Whether a server still takes connections."""
    try:
        httpx.get(f"{url}/v1/models")
    except httpx.TransportError:
        return False
    return True


def test_running_replies_come_to_their_end(tmp_path: Path) -> None:
    answers: list[Any] = []
    with serving(tmp_path / "log") as server:
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=60))
        )
        asking.start()
        wait_until(lambda: "loqal_running_replies 1.0" in httpx.get(f"{server.url}/metrics").text)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(server.url))
        assert not answers
        assert server.process.wait(timeout=60) == 0
        asking.join()
    assert answers[0].json()["usage"]["completion_tokens"] == 1500


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "log") as server,
        httpx.stream(
            "POST", f"{server.url}/v1/completions", json=LONG | {"stream": True, "max_tokens": 4000, "n": 8}
        ) as answer,
    ):
        chunks = answer.iter_bytes()  # kept: without it the client leaves
        next(chunks)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: not accepts(server.url))
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=5) == 128 + signal.SIGINT


def test_draining_has_an_end(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "log", "--drain-s", "1") as server,
        httpx.stream(
            "POST", f"{server.url}/v1/completions", json=LONG | {"stream": True, "max_tokens": 4000, "n": 8}
        ) as answer,
    ):
        chunks = answer.iter_bytes()  # kept: without it the client leaves
        next(chunks)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0
        assert time.monotonic() - started < 10


def test_logs_are_lines_of_json_without_what_was_said(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as server:
        httpx.post(f"{server.url}/v1/completions", json={"model": "demo", "prompt": "a secret", "max_tokens": 2})
        httpx.post(f"{server.url}/v1/completions", json={"model": "a secret"})
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [(line["path"], line["status"]) for line in lines] == [("/v1/completions", 200), ("/v1/completions", 400)]
    assert lines[0]["completion_tokens"] == 2 and lines[0]["model"] == "demo"
    assert "secret" not in server.log.read_text()


def test_two_models_where_one_fits(tmp_path: Path) -> None:
    """The limit holds one of them, so asking for one unloads the other."""
    with serving(
        tmp_path / "log", "one=demo", "two=demo", "--memory-bytes", "500000000", "--cache-bytes", "60000000"
    ) as server:

        def text_of(name: str) -> str:
            body = {"model": name, "prompt": "one two", "temperature": 0, "max_tokens": 4}
            return str(httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).json()["choices"][0]["text"])

        assert text_of("one") == text_of("two") == text_of("one")
        health = httpx.get(f"{server.url}/health").json()["models"]
        assert health["one"]["loaded"]
