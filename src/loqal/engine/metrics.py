"""What the engine counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Since the engine began."""

    steps: int = 0
    read_tokens: int = 0  # of prompts, computed
    cached_tokens: int = 0  # of prompts, taken from the prefix cache or from a sequence beside
    written_tokens: int = 0
    drafted_tokens: int = 0  # guesses that were verified
    accepted_tokens: int = 0  # guesses that were right
    preemptions: int = 0
    longest_step_s: float = 0.0


@dataclass(slots=True)
class DraftCounts:
    """What guessing did for one sequence."""

    drafted: int = 0
    accepted: int = 0
    spent_s: float = 0.0  # in steps that wrote, guessing included
    plain_s: float = 0.0  # that the same tokens would have taken without guesses

    @property
    def gain(self) -> float | None:
        """How many times as fast writing was as without guesses; None when nothing was measured."""
        return self.plain_s / self.spent_s if self.spent_s > 0 else None
