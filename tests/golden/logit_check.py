"""Holds a loaded model against a recording of the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from golden.logit_cases import GREEDY_TOKENS, Case, Recording

from loqal.ops.interface import FloatArray
from machine import Machine


@dataclass(frozen=True)
class Comparison:
    """Largest errors in standard deviations of the reference's logits, and how the greedy choices compare.

    ``margins`` are by how much the reference preferred the generated tokens, ``differ`` says where the model prefers
    another.
    """

    trunk: float
    draft: float
    margins: FloatArray  # [GREEDY_TOKENS]
    differ: npt.NDArray[np.bool_]  # [GREEDY_TOKENS]

    def check(self, bound: float) -> None:
        """Fail when the model is not the reference's: two logits that are off by the bound may change places."""
        assert self.trunk <= bound, f"logits are off by {self.trunk:.2e} standard deviations"
        assert self.draft <= bound, f"the draft head's logits are off by {self.draft:.2e} standard deviations"
        clear = self.margins > 2 * bound
        assert not (clear & self.differ).any(), f"{(clear & self.differ).sum()} clear choices differ"
        assert clear.sum() >= 0.9 * GREEDY_TOKENS, "too few clear choices to prove anything, use another seed"

    def __str__(self) -> str:
        return f"trunk {self.trunk:.2e}, draft {self.draft:.2e}, {self.differ.sum()} of {GREEDY_TOKENS} choices differ"


def compare(machine: Machine, case: Case, recording: Recording) -> Comparison:
    """Run the prompt in one step and the reference's continuation token by token."""
    state = machine.store.open()
    positions, prompt_len = case.positions(), case.prompt_len
    hidden = np.concatenate(
        [machine.hidden(state, recording.ids[:prompt_len], positions[:prompt_len])]
        + [
            machine.hidden(state, recording.ids[at : at + 1], positions[at : at + 1])
            for at in range(prompt_len, case.num_tokens)
        ]
    )
    machine.store.release(state)
    logits = machine.decoder.unembed(hidden)
    chosen = logits[prompt_len - 1 : -1].argmax(axis=1)
    return Comparison(
        trunk=_error(logits[recording.rows], recording.logits, recording),
        draft=_draft_error(machine, case, recording, hidden) if machine.config.num_draft_layers else 0.0,
        margins=recording.margins / recording.std,
        differ=chosen != recording.ids[prompt_len:],
    )


def _draft_error(machine: Machine, case: Case, recording: Recording, hidden: FloatArray) -> float:
    state, positions = machine.store.open(), case.positions()
    rows = machine.draft(state, recording.ids[1:], hidden[:-1], positions[:-1])
    logits = machine.decoder.unembed(rows)
    guess = logits[-1:].argmax(axis=1).astype(np.int32)
    further = machine.decoder.unembed(machine.draft(state, guess, rows[-1:], positions[-1:]))
    machine.store.release(state)
    return max(
        _error(logits[recording.draft_rows], recording.draft_logits, recording),
        _error(further[0], recording.chained, recording),
    )


def _error(actual: FloatArray, expected: FloatArray, recording: Recording) -> float:
    return float(np.abs(actual - expected).max() / recording.std)
