"""How far something is, in figures."""

from __future__ import annotations

import io
import sys

import pytest

from loqal.cli import progress
from loqal.cli.progress import Progress, amount, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_amounts_and_times() -> None:
    assert [amount(size) for size in (0, 999, 1000, 9_990, 10_000, 12_345_678, 1.5e9, 2e12)] == [
        *("0 B", "999 B", "1.00 kB", "9.99 kB", "10.0 kB", "12.3 MB", "1.50 GB", "2.00 TB")
    ]
    assert [clock(seconds) for seconds in (0, 59.4, 60, 3599, 3600, 7261)] == [
        *("0:00", "0:59", "1:00", "59:59", "1:00:00", "2:01:01")
    ]


def test_elsewhere_a_line_now_and_then(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 1000, "rows") as shown:
        for done in range(0, 1001, 10):
            time.now += 1
            shown.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert 9 <= len(lines) <= 12
    assert all("work" in line and "1,000 rows" in line for line in lines)
    assert "9" in lines[-1].split()[1] and "0%" in lines[0]
    assert "10 rows/s" in lines[5] and " left" in lines[5]


def test_on_a_terminal_one_line_that_is_rewritten(time: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("work", 1000) as shown:
        for done in range(0, 1001, 10):
            time.now += 0.01
            shown.update(done)
    text = terminal.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n")
    assert 4 <= text.count("\r") <= 8  # not at every call
    assert "100%" in text


def test_the_speed_is_that_of_the_last_seconds(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("work", 10_000, "rows")
    for done in (0, 10, 20, 30):  # slow at first
        time.now += 5
        shown.update(done)
    for done in range(1000, 9001, 1000):
        time.now += 2
        shown.update(done)
    assert "500 rows/s" in capsys.readouterr().err.splitlines()[-1]


def test_a_total_that_becomes_known_later(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("work", 0, "rows")
    shown.update_of(5, 10)
    shown.update_of(5, 0)
    assert "50%" in capsys.readouterr().err
