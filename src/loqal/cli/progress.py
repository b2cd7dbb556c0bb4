"""How far something is, for a person: one line that is rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_EVERY_S = 0.2  # on a terminal
_SHARE = 0.1  # elsewhere
_WINDOW_S = 10.0  # over which the speed is taken


class Progress:
    """The progress of one piece of work of ``total`` units on stderr; ``unit`` is "B" for bytes, else a plural noun."""

    def __init__(self, label: str, total: int, unit: str = "B") -> None:
        self._label, self._total, self._unit = label, max(1, total), unit
        self._is_terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._samples: list[tuple[float, int]] = []
        self._shown_at, self._shown_share, self._width = 0.0, -1.0, 0

    def update(self, done: int) -> None:
        """Tell how many units are done."""
        now = time.monotonic()
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[0][0] < now - _WINDOW_S:
            self._samples.pop(0)
        share = done / self._total
        if self._is_terminal and (now - self._shown_at >= _EVERY_S or share >= 1):
            self._shown_at = now
            text = self._text(done)
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)
        elif not self._is_terminal and share - self._shown_share >= _SHARE:
            self._shown_share = share
            print(self._text(done), file=sys.stderr, flush=True)

    def update_of(self, done: int, total: int) -> None:
        """Tell how many of how many units are done."""
        self._total = max(1, total)
        self.update(done)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal and self._width:
            sys.stderr.write("\n")
            sys.stderr.flush()

    def _text(self, done: int) -> str:
        (then, before), (now, _) = self._samples[0], self._samples[-1]
        rate = (done - before) / (now - then) if now > then else 0.0
        text = f"{self._label}  {done / self._total:4.0%}  {self._amount(done)} of {self._amount(self._total)}"
        if rate > 0:
            text += f"  {self._amount(rate)}/s  {clock((self._total - done) / rate)} left"
        return text

    def _amount(self, count: float) -> str:
        return amount(count) if self._unit == "B" else f"{count:,.0f} {self._unit}"


def amount(num_bytes: float) -> str:
    """Bytes as people read them, in decimal units."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.{2 if num_bytes < 10 * size else 1}f} {unit}"
    return f"{num_bytes:.0f} B"


def clock(seconds: float) -> str:
    """A time as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
