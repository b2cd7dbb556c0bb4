"""The interactive chat in a real terminal."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import loqal
import tiny_checkpoint

pty = pytest.importorskip("pty")

PROMPT = "<prompt>"
_PASTE_ON = "\x1b[?2004h"  # what the line editor sends when it is ready for a message


class Session:
    """A chat whose keyboard and screen are ours."""

    def __init__(self, command: list[str], state_folder: Path) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LOQAL_")},
            "LOQAL_BACKEND": "reference",
            "PYTHONPATH": str(Path(loqal.__file__).parents[1]),
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "TERM": "xterm",
            "XDG_STATE_HOME": str(state_folder),
        }
        self._keyboard, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (50, 200))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment,
            start_new_session=True,
        )
        os.close(terminal)
        self._screen = ""

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def wait_for(self, pattern: str, timeout: float = 30) -> str:
        """The text up to the end of a match, without colours. What was shown is read once."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self._screen)):
            ready, _, _ = select.select([self._keyboard], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} did not come, the screen shows {self._screen!r}"
            try:
                data = os.read(self._keyboard, 65536)
            except OSError:  # the other end was closed
                data = b""
            assert data, f"the chat ended, the screen shows {self._screen!r}"
            text = data.decode("utf-8", "replace").replace(_PASTE_ON, PROMPT)
            self._screen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        text, self._screen = self._screen[: match.end()], self._screen[match.end() :]
        return text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)


# Take the terminal as the controlling one, so that its Ctrl-C becomes a signal, then become the command.
_IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "loqal", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint.gguf(tmp_path_factory.mktemp("chat") / "tiny.gguf", tied_head=False))


@pytest.fixture
def session(model: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Session]:
    words = ["run", model, "--no-think", "--ignore-eos", "--seed", "1", "--temperature", "0"]
    session = Session([*words, *getattr(request, "param", [])], tmp_path)
    try:
        session.wait_for(PROMPT)
        yield session
    finally:
        session.close()


def stats(session: Session) -> str:
    return session.wait_for(r"\d+ prompt tokens, \d+ reply tokens \(\w+\)")


@pytest.mark.parametrize("session", [["--max-tokens", "30"]], indirect=True)
def test_a_chat(session: Session, tmp_path: Path) -> None:
    session.type("/stats\r")
    session.wait_for(PROMPT)
    session.type("Hello!\r")
    first = stats(session)
    session.wait_for(PROMPT)
    session.type("two\x1b\rlines\\\rmore\r")
    second = stats(session)
    session.wait_for(PROMPT)
    assert "30 reply tokens (length)" in first
    assert "30 reply tokens (length)" in second
    session.type("\x04")
    assert session.process.wait(timeout=30) == 0
    history = tmp_path / "loqal" / "history"
    assert "+two\n+lines\n+more\n" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_an_interrupt_stops_the_reply_and_keeps_the_chat(session: Session) -> None:
    session.type("/stats\r")
    session.wait_for(PROMPT)
    session.type("Hello!\r")
    session.wait_for(r"Hello!\s+\S\S")
    session.type("\x03")
    session.wait_for(r"\(stopped\)")
    assert "(cancelled)" in stats(session)
    session.wait_for(PROMPT)
    session.type("not this\x03")
    session.wait_for(PROMPT)
    session.type("/help\r")
    session.wait_for("Ctrl-C stops a reply")
    session.wait_for(PROMPT)
    session.type("/exit\r")
    assert session.process.wait(timeout=30) == 0
