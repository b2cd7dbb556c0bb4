"""Many users for a long time within a memory limit: resident bytes stay flat and within the plan.

    python benchmarks/soak.py MODEL.gguf --seconds 3600 [--memory-bytes 1400000000] [--users 6]

Conversations grow, are edited, forked and cancelled at random; the prefix cache is full soon and gives way all the
time. Every few answers one is asked for again and has to be the same. Exits with 1 when a limit is passed, bytes are
not flat, or an answer changes.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from pathlib import Path

import loqal
from loqal.system.memory import resident_bytes
from loqal.types.sampling import SamplingParams

_FLAT = 0.02  # of the bytes after the first quarter of the time
_SAMPLE_S = 0.5


class User(threading.Thread):
    """Someone who talks, edits, forks and leaves."""

    def __init__(self, model: loqal.Runtime, seed: int, until: float, vocab: int) -> None:
        super().__init__()
        self._model, self._dice, self._until, self._vocab = model, random.Random(seed), until, vocab
        self.num_answers = self.num_cancelled = 0
        self.changed: list[tuple[int, ...]] = []
        self.errors: list[BaseException] = []

    def run(self) -> None:
        """Until the time is up."""
        try:
            prompt: list[int] = []
            while time.monotonic() < self._until:
                prompt = self._next_prompt(prompt)
                self._ask(prompt)
        except BaseException as error:
            self.errors.append(error)

    def _next_prompt(self, prompt: list[int]) -> list[int]:
        dice = self._dice
        if not prompt or len(prompt) > self._model.context_len - 200 or dice.random() < 0.1:
            prompt = [dice.randrange(self._vocab) for _ in range(dice.randrange(20, 300))]
        elif dice.random() < 0.2:
            prompt = prompt[: dice.randrange(1, len(prompt))]
        return prompt + [dice.randrange(self._vocab) for _ in range(dice.randrange(1, 120))]

    def _ask(self, prompt: list[int]) -> None:
        params = SamplingParams(max_tokens=self._dice.randrange(1, 40), seed=self._dice.randrange(100), ignore_eos=True)
        if self._dice.random() < 0.2:
            with self._model.stream_generate(prompt, params) as stream:
                if self._dice.random() < 0.5:
                    next(stream, None)
            self.num_cancelled += 1
            return
        reply = self._model.generate(prompt, params)
        self.num_answers += 1
        if self.num_answers % 10 == 0 and self._model.generate(prompt, params).token_ids != reply.token_ids:
            self.changed.append(reply.token_ids)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--memory-bytes", type=int)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--context", type=int, default=4096)
    parsed = parser.parse_args()
    model = loqal.load(
        parsed.model, context_len=parsed.context, max_sequences=4, memory_bytes=parsed.memory_bytes, kv_bits=16
    )
    print("\n".join(model.plan.lines()), flush=True)
    started = time.monotonic()
    users = [User(model, seed, started + parsed.seconds, 256) for seed in range(parsed.users)]
    for user in users:
        user.start()
    samples: list[tuple[float, int]] = []
    while any(user.is_alive() for user in users):
        time.sleep(_SAMPLE_S)
        samples.append((time.monotonic() - started, resident_bytes()))
    model._open_engine().call(lambda loop: loop.check())
    counts = model._open_engine().call(lambda loop: (loop.counts, loop.cache.num_evicted))
    settled = [size for at, size in samples if at > parsed.seconds / 4]
    low, high, last = min(settled), max(settled), settled[-1]
    print(counts)
    print(
        f"{sum(user.num_answers for user in users)} answers, {sum(user.num_cancelled for user in users)} cancelled in "
        f"{parsed.seconds:.0f} s; resident {low:,} to {high:,} bytes ({high / low - 1:.2%}), "
        f"planned {model.plan.total_bytes:,}"
    )
    errors = [error for user in users for error in user.errors]
    failures = []
    if errors:
        failures.append(f"errors: {errors[:3]}")
    if any(user.changed for user in users):
        failures.append("an answer changed")
    if max(size for _, size in samples) > model.plan.total_bytes:
        failures.append("more bytes than planned")
    if high / low - 1 > _FLAT:
        failures.append(f"bytes are not flat: the last are {last:,}")
    print("; ".join(failures) or "all held")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
