"""Engine options: one record from the assembly to the loop, its request queue and its drafter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CHUNK_TOKENS = 512
"""Maximum prompt tokens in one step. Results do not depend on it."""

LATENCY_S = 0.12
"""Target duration of a step while a running reply waits for its next token."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs. No field changes a bit of a result, apart from ``context_len``, where a reply must end.

    Attributes:
        context_len: maximum number of tokens of prompt and reply together.
        padding_ids: rows of the vocabulary without a token, ascending; they are never chosen.
        chunk_tokens: maximum prompt tokens in one step.
        max_sequences: sequences that compute concurrently; None for as many as the store has slots.
        caches: keep states of finished requests in the prefix cache.
        drafts: speculative decoding. Needs journals in the store.
        latency_s: target duration of a step while replies are running.
        checks: assert whenever the engine becomes idle that no slot or page leaked. For tests.
        clock: seconds.
    """

    context_len: int
    padding_ids: Sequence[int] = ()
    chunk_tokens: int = CHUNK_TOKENS
    max_sequences: int | None = None
    caches: bool = True
    drafts: bool = True
    latency_s: float = LATENCY_S
    checks: bool = False
    clock: Callable[[], float] = time.perf_counter
