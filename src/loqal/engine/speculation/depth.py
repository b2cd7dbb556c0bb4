"""Draft depth: how many draft tokens pay off, from step costs and acceptance rates. Pure arithmetic.

A step that verifies k draft tokens yields 1 + p + ... + p^k tokens on average. It pays when that grows by more
than the step's time does. All of it is measured, so drafting stops where it never pays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PRIOR = 0.5  # acceptance rate before any draft was verified
_SMOOTHING = 0.1
_MARGIN = 1.02  # the expected gain must exceed the cost by this factor
_FIRST_PAUSE, _LONGEST_PAUSE = 16, 512  # steps before drafting is tried again
_PLAIN_EVERY = 64  # a step without drafts this often keeps its cost known


@dataclass(slots=True)
class AcceptanceRate:
    """The acceptance rate of one source of draft tokens for one sequence."""

    chance: float = _PRIOR
    _seen: int = 0
    _pause: int = _FIRST_PAUSE
    _waited: int = 0
    _guessed: int = 0
    _is_probing: bool = False

    def limit(self, most: int) -> int:
        """Maximum draft tokens now: none in a pause, one in a probe."""
        self._is_probing = self._waited >= self._pause
        if self._guessed >= _PLAIN_EVERY:
            self._guessed = 0
            return 0
        return min(1, most) if self._is_probing else most

    @property
    def expected(self) -> float:
        """The expected acceptance rate; a probe expects success."""
        return 1.0 if self._is_probing else self.chance

    def observe(self, tried: int, accepted: int) -> None:
        """Learn from one step."""
        if tried == 0:
            self._waited += 1
            return
        self._guessed += 1
        for index in range(min(tried, accepted + 1)):
            self._seen += 1
            right = 1.0 if index < accepted else 0.0
            self.chance += max(_SMOOTHING, 1 / (self._seen + 1)) * (right - self.chance)
        if not self._is_probing:
            self._waited = 0
        elif accepted:
            self._pause = _FIRST_PAUSE
            self._waited = self._pause  # right at once: try again at once, until the chance has risen
            if self.chance > _PRIOR:
                self._waited = 0
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._waited = 0


def allocate(
    chances: Sequence[float],
    limits: Sequence[int],
    step_s: Callable[[int], float],
    pass_s: float,
) -> list[int]:
    """Draft tokens for each sequence, chosen to maximize the tokens per second of all together.

    Args:
        chances: acceptance rates, by sequence.
        limits: maximum draft tokens, by sequence.
        step_s: seconds of the step with so many rows in all.
        pass_s: seconds of one pass of the draft source, for all sequences at once.
    """
    depths = [0] * len(chances)
    rows = len(chances)
    tokens, seconds = float(rows), step_s(rows)
    while True:
        open_ones = [i for i, depth in enumerate(depths) if depth < limits[i]]
        if not open_ones:
            return depths
        best = max(open_ones, key=lambda i: chances[i] ** (depths[i] + 1))
        more = chances[best] ** (depths[best] + 1)
        passes = max(0, depths[best] + 1 - max(depths)) * pass_s
        longer = seconds + step_s(rows + 1) - step_s(rows) + passes
        if (tokens + more) / longer <= _MARGIN * tokens / seconds:
            return depths
        depths[best] += 1
        rows, tokens, seconds = rows + 1, tokens + more, longer
