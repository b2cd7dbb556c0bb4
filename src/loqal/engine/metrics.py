"""Counters of the engine and of speculative decoding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Since the engine began."""

    steps: int = 0
    read_tokens: int = 0  # of prompts, computed
    cached_tokens: int = 0  # of prompts, taken from the prefix cache or from a sequence beside
    written_tokens: int = 0
    drafted_tokens: int = 0  # draft tokens that were verified
    accepted_tokens: int = 0  # draft tokens that were accepted
    preemptions: int = 0
    longest_step_s: float = 0.0


@dataclass(slots=True)
class DraftCounts:
    """Speculative decoding of one sequence."""

    drafted: int = 0
    accepted: int = 0
    spent_s: float = 0.0  # in decode steps, drafting included
    plain_s: float = 0.0  # estimated for the same tokens without drafts

    @property
    def gain(self) -> float | None:
        """Decode speedup from speculative decoding; None when it was not measured."""
        return self.plain_s / self.spent_s if self.spent_s > 0 else None
