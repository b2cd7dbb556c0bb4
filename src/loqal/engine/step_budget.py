"""Step budget: cost model and fair sharing of rows. Pure: no arrays, no clock, no state of a model.

Every running reply gets its row in every step, so that none waits for another. The rest of a step's time goes to
prompts, the most urgent first; among equals to the client that was served least, then in order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_FIRST_GUESS_ROWS = 16  # of a prompt beside running replies, before anything was measured
_GROWTH = 2  # rows may grow by this factor from one step to the next, since costs are only known where they were seen
_SMOOTHING = 0.3
_ROW_SHARE = 0.06  # of the time of a step that one more row takes, before it was measured


@dataclass(slots=True)
class StepCosts:
    """Durations of steps in seconds, learned from measured ones.

    Small steps are bound by reading weights and long ones by arithmetic, so the cost of few rows is kept by their
    number and that of many per row.
    """

    by_rows: dict[int, float] = field(default_factory=dict)  # steps without prompts
    per_row: float | None = None  # of a prompt, beside what the writing rows cost alone
    most_seen: int = 0  # rows of prompts in one step

    def observe(self, writing_rows: int, reading_rows: int, seconds: float) -> None:
        """Learn from one step."""
        if reading_rows == 0:
            known = self.by_rows.get(writing_rows, seconds)
            self.by_rows[writing_rows] = known + _SMOOTHING * (seconds - known)
            return
        self.most_seen = max(self.most_seen, reading_rows)
        each = max(seconds - self.of_writing(writing_rows), 0.1 * seconds) / reading_rows
        # A rise counts at once: being too slow is noticed, being too careful is not.
        if self.per_row is None or each > self.per_row:
            self.per_row = each
        else:
            self.per_row += _SMOOTHING * (each - self.per_row)

    def of_writing(self, rows: int) -> float:
        """Seconds of a step without prompts; the nearest number of rows that was seen, 0 before any was."""
        if rows == 0 or not self.by_rows:
            return 0.0
        nearest = min(self.by_rows, key=lambda seen: (abs(seen - rows), seen))
        return self.by_rows[nearest]

    def of_rows(self, rows: int) -> float:
        """Seconds of a step without prompts, estimated where not measured: each further row costs a little more."""
        if not self.by_rows:
            return 1.0 + _ROW_SHARE * rows
        below = max((seen for seen in self.by_rows if seen <= rows), default=None)
        above = min((seen for seen in self.by_rows if seen >= rows), default=None)
        if below is None or above is None:
            nearest = below if above is None else above
            assert nearest is not None
            return self.by_rows[nearest] * (1.0 + _ROW_SHARE * (rows - 1)) / (1.0 + _ROW_SHARE * (nearest - 1))
        if above == below:
            return self.by_rows[below]
        share = (rows - below) / (above - below)
        return self.by_rows[below] + share * (self.by_rows[above] - self.by_rows[below])

    def affordable_rows(self, writing_rows: int, target_s: float, most: int) -> int:
        """Rows of prompts that fit a step beside the decoding ones; at least one, so that every prompt advances."""
        if self.per_row is None:
            return min(_FIRST_GUESS_ROWS, most)
        fitting = int((target_s - self.of_writing(writing_rows)) / self.per_row)
        return max(1, min(fitting, most, max(_GROWTH * self.most_seen, _FIRST_GUESS_ROWS)))


class Fairness:
    """Rows computed by client. A client that returns after a pause has no credit for it."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}

    def arrive(self, client: str, present: Iterable[str]) -> None:
        """Register a client with new work; ``present`` are the clients that have some already."""
        least = min((self._served[other] for other in present if other in self._served), default=0.0)
        self._served[client] = max(self._served.get(client, 0.0), least)

    def charge(self, client: str, rows: int) -> None:
        """Count computed rows."""
        self._served[client] = self._served.get(client, 0.0) + rows

    def served(self, client: str) -> float:
        """Rows computed so far."""
        return self._served.get(client, 0.0)

    def forget(self, present: Iterable[str]) -> None:
        """Drop clients without work."""
        kept = set(present)
        self._served = {client: rows for client, rows in self._served.items() if client in kept}


def deal(wanted: Sequence[int], rows: int) -> list[int]:
    """Split rows among prompts in order of urgency: all of what the first wants, then the next."""
    shares = []
    for want in wanted:
        share = min(want, rows)
        shares.append(share)
        rows -= share
    return shares
