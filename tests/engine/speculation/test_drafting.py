"""Guessing ahead changes how long an answer takes and nothing else, and never makes it take longer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from engine_rig import PARAMS, Ask, Rig
from loqal.engine.event_stream import Mailbox
from loqal.engine.sampling.constraint import Mask
from loqal.engine.sequence import Sequence
from loqal.engine.speculation.ngram import NgramIndex
from loqal.ops.backends.cpu import CpuOps
from loqal.testing.checkpoints import tiny_config
from loqal.types.reply import TokenEvent
from loqal.types.sampling import SamplingParams
from scripted import ScriptedOps, scripted_loop

LONG = replace(PARAMS, max_tokens=300, logprobs=None, top_k=8)
DIALS = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def steep(rows: int) -> float:
    """A machine where every further row costs a lot."""
    return 0.025 * (1 + 0.3 * (rows - 1))


def flat(rows: int) -> float:
    """A machine bound by reading weights."""
    return 0.025 * (1 + 0.05 * (rows - 1))


def run(
    step_s: Callable[[int], float],
    pass_s: float,
    chance: Callable[[int], float] | None,
    params: SamplingParams = LONG,
    num_sequences: int = 1,
) -> tuple[list[list[int]], float, Sequence]:
    """Tokens of each sequence, seconds of it all, and the first sequence."""
    ops = ScriptedOps(step_s, pass_s)
    loop = scripted_loop(ops, chance)
    mailboxes: list[Mailbox[TokenEvent]] = [Mailbox() for _ in range(num_sequences)]
    sequences = [Sequence([5 + index, 9, 3], replace(params, seed=index)) for index in range(num_sequences)]
    for sequence, mailbox in zip(sequences, mailboxes, strict=True):
        loop.add(sequence, mailbox)
    while not loop.is_idle:
        loop.step()
        loop.check()
    return [sequence.token_ids for sequence in sequences], ops.now, sequences[0]


@pytest.mark.parametrize("step_s", [flat, steep])
@pytest.mark.parametrize("pass_s", [0.001, 0.010])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_never_slower_whatever_the_head_is_worth(
    step_s: Callable[[int], float], pass_s: float, temperature: float
) -> None:
    params = replace(LONG, temperature=temperature)
    plain, plain_s, _ = run(step_s, pass_s, None, params)
    for dial in DIALS:
        tokens, seconds, sequence = run(step_s, pass_s, lambda place, dial=dial: dial, params)
        assert tokens == plain
        assert plain_s / seconds >= 0.97, f"{plain_s / seconds:.3f} of plain at acceptance {dial}"
        assert sequence.drafts.gain == pytest.approx(plain_s / seconds, rel=0.05)


def test_a_good_head_is_worth_its_price() -> None:
    _, plain_s, _ = run(flat, 0.002, None)
    _, seconds, sequence = run(flat, 0.002, lambda place: 0.8)
    assert plain_s / seconds > 1.8
    assert sequence.drafts.accepted / sequence.drafts.drafted > 0.5


def test_a_head_that_becomes_good_is_found_out() -> None:
    params = replace(LONG, max_tokens=1200)
    _, plain_s, _ = run(flat, 0.002, None, params)
    _, seconds, _ = run(flat, 0.002, lambda place: 0.0 if place < 300 else 1.0, params)
    assert plain_s / seconds > 1.6


@pytest.mark.parametrize("num_sequences", [2, 5, 8])
def test_with_companions(num_sequences: int) -> None:
    plain, plain_s, _ = run(flat, 0.002, None, num_sequences=num_sequences)
    for dial in DIALS[::2]:
        tokens, seconds, _ = run(flat, 0.002, lambda place, dial=dial: dial, num_sequences=num_sequences)
        assert tokens == plain
        assert plain_s / seconds >= 0.97


def test_ngrams_find_what_stood_there_before() -> None:
    index = NgramIndex()
    text = [1, 2, 3, 4, 5, 6, 7, 2, 3]
    assert index.propose(text, 4) == [4, 5, 6, 7]
    assert index.propose([*text, 9], 4) == []
    assert NgramIndex().propose([1, 2, 3, 1, 2, 3, 1, 2, 3], 5) == [1, 2, 3, 1, 2]
    assert NgramIndex().propose([4], 3) == []


@pytest.mark.parametrize("num_draft_layers", [0, 1])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_real_network_with_and_without(num_draft_layers: int, temperature: float) -> None:
    config = tiny_config(tied_head=False, num_draft_layers=num_draft_layers)
    params = replace(PARAMS, temperature=temperature, top_k=3, presence_penalty=0.0, max_tokens=120)
    answers = []
    for num_journals in (0, 1):
        rig = Rig(config, CpuOps(threads=1), num_journals=num_journals)
        # A prompt that repeats itself gives the sequence something to guess from.
        one = rig.start(Ask(tuple(range(20)) * 4, params))
        rig.finish(one)
        answers.append(one.answer)
    assert answers[0] == answers[1]
    assert one.active.sequence.drafts.drafted > 0


class Rail:
    """A guide that leaves no choice in every other stretch of ten tokens."""

    def __init__(self) -> None:
        self.at = 0

    def mask(self) -> Mask | None:
        if self.at // 10 % 2:
            return None
        mask: Mask = np.zeros(2, np.uint32)
        mask[self._next(self.at) // 32] = 1 << (self._next(self.at) % 32)
        return mask

    def banned(self) -> tuple[int, ...]:
        return ()

    def push(self, token_id: int) -> None:
        self.at += 1

    def prepare(self) -> None:
        pass

    def draft_hint(self, most: int) -> list[int]:
        left = 0 if self.at // 10 % 2 else 10 - self.at % 10
        return [self._next(self.at + index) for index in range(min(most, left))]

    def _next(self, at: int) -> int:
        return 5 + at * 37 % 55


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_a_guide_leaves_no_choice_about_is_guessed(temperature: float) -> None:
    answers, seconds = [], []
    for guesses in (True, False):
        ops = ScriptedOps(flat, 0.002)
        loop, rail = scripted_loop(ops, lambda place: 0.0), Rail()
        if not guesses:
            rail.draft_hint = lambda most: []  # type: ignore[method-assign]
        sequence = Sequence([5, 9, 3], replace(LONG, temperature=temperature, seed=3), guide=rail)
        loop.add(sequence, Mailbox())
        while not loop.is_idle:
            loop.step()
            loop.check()
        answers.append(sequence.token_ids)
        seconds.append(ops.now)
    assert answers[0] == answers[1]
    assert seconds[0] < 0.75 * seconds[1]
