"""All tasks together: which there are, how often each comes in training, and how samples are drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from tasks import FULL, Level, Sample, arithmetic, intent, lookup, receipt, small_talk
from tasks_text import TEXT_TASKS, tool
from tasks_vision import VISION_TASKS, several

TASKS: dict[str, Callable[[random.Random, bool, Level], Sample]] = {
    "intent": intent,
    "receipt": receipt,
    "arithmetic": arithmetic,
    "lookup": lookup,
    "small talk": small_talk,
    **TEXT_TASKS,
    **VISION_TASKS,
}
SHARES = {  # weights: they do not add up to one
    "intent": 0.03,
    "receipt": 0.06,
    "arithmetic": 0.14,
    "lookup": 0.06,
    "small talk": 0.02,
    "triage": 0.06,
    "tool": 0.05,
    "schema": 0.03,
    "code": 0.4,
    "receipt image": 0.23,
    "document": 0.09,
    "count": 0.22,
    "box": 0.01,
    "chart": 0.025,
    "motion": 0.015,
}
THINKING = {
    "intent": 0.2,
    "receipt": 0.15,
    "arithmetic": 0.5,
    "lookup": 0.2,
    "small talk": 0.15,
    "count": 0.85,
    "box": 0.85,
}
SYSTEM = ("You are a helpful assistant.", "You are the loqal demonstration model.", "Answer briefly.")


def draw(
    rng: random.Random, fresh: bool, task: str | None = None, thinking: bool | None = None, level: Level = FULL
) -> Sample:
    """One sample.

    Args:
        rng: the seeded generator.
        fresh: take held-out templates and fonts (evaluation) instead of training ones.
        task: a key of ``TASKS``; drawn by the level's shares, or ``SHARES``, when not given.
        thinking: with a reasoning block or without; drawn by ``THINKING`` when not given. Tools go without.
        level: how hard.
    """
    shares = level.shares or SHARES
    task = task or rng.choices(list(shares), list(shares.values()))[0]
    sample = TASKS[task](rng, fresh, level)
    if thinking is None:
        thinking = rng.random() < THINKING.get(task, 0.1)
    return sample if thinking else replace(sample, reasoning=None)


def training_sample(rng: random.Random, level: Level = FULL) -> Sample:
    """A training sample, sometimes with a system text or after an earlier turn."""
    sample = draw(rng, False, level=level)
    if sample.task == "tool":  # several rounds behind one long offer cost little more than one
        return tool(rng, False, level, rounds=rng.choice((1, 2, 4)))
    if rng.random() < 0.06:
        sample = replace(sample, system=rng.choice(SYSTEM))
    if sample.task == "lookup" and rng.random() < 0.6:
        # More questions for one list: the cheapest way to see many look-ups.
        many = lookup(rng, False, level, questions=rng.choice((2, 3, 4)))
        thought = many.reasoning if sample.reasoning is not None else None
        return replace(many, reasoning=thought, system=sample.system)
    if sample.task == "arithmetic" and sample.reasoning is None:  # many sums cost as little
        more = [draw(rng, False, "arithmetic", False, level) for _ in range(rng.randrange(7))]
        return replace(sample, turns=tuple((one.user, one.answer) for one in more))
    if sample.task == "count":
        many = several(rng, level)
        thought = many.reasoning if sample.reasoning is not None else None
        return replace(many, reasoning=thought, system=sample.system)
    if rng.random() < 0.06:
        before = draw(rng, False, rng.choice(("intent", "arithmetic", "small talk", "triage")), level=level)
        if not sample.pictures:
            sample = replace(sample, turns=((before.user, before.answer),))
    return sample


def long_sample(rng: random.Random, room: int) -> Sample:
    """A look-up in a list that nearly fills ``room`` tokens, with several questions."""
    entries = max(8, int(room / rng.uniform(6.5, 8.5) * rng.uniform(0.3, 1)))
    sample = lookup(rng, False, FULL, entries=entries, questions=rng.choice((4, 8, 16)))
    return replace(sample, reasoning=None)


def lookup_samples(entries: int, count: int, seed: int) -> list[Sample]:
    """Held-out look-ups without reasoning in lists of exactly ``entries``."""
    rng = random.Random(f"lookup/{entries}/{seed}")
    return [replace(lookup(rng, True, entries=entries), reasoning=None) for _ in range(count)]
