"""A real ``loqal serve`` for tests: a process on a free port, ended when the test is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import loqal

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("LOQAL_")},
    "PYTHONPATH": str(Path(loqal.__file__).parents[1]),
}


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server. ``log`` is where its stderr goes."""

    url: str
    process: subprocess.Popen[str]
    log: Path


@contextlib.contextmanager
def serving(log: Path, *words: str, env: dict[str, str] | None = None) -> Iterator[ServerProcess]:
    """Serve, by default the embedded model, until the block ends. The log must not hold a traceback then."""
    command = [sys.executable, "-m", "loqal", "serve", "--port", "0", *words]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**ENVIRONMENT, **(env or {})}
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield ServerProcess(line.split()[0], process, log)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
