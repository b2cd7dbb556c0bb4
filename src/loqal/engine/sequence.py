"""One sequence inside the engine: its tokens, how the next one is chosen, and when it ends."""

from __future__ import annotations

from collections.abc import Iterable

from ..types import FinishReason, SamplingParams
from . import sampling


class Sequence:
    """The tokens of one request, prompt first.

    Args:
        prompt_ids: at least one token.
        params: every default filled in, the seed included; ``max_tokens`` None means as the context allows.
        end_ids: tokens that end the reply. They are emitted, then nothing follows.
    """

    def __init__(self, prompt_ids: Iterable[int], params: SamplingParams, end_ids: Iterable[int] = ()) -> None:
        if params.seed is None:
            raise ValueError("a sequence needs its seed")
        self.token_ids = list(prompt_ids)
        self.prompt_len = len(self.token_ids)
        self.params = params
        self.seed = params.seed
        self.end_ids = frozenset(end_ids)
        self.counted = sampling.TokenCounts(self.token_ids if params.penalize_prompt else ())

    @property
    def num_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.prompt_len

    def append(self, token_id: int, context_len: int) -> FinishReason | None:
        """Add a generated token; the reason when it is the last one."""
        self.token_ids.append(token_id)
        self.counted.add(token_id)
        if token_id in self.end_ids:
            return FinishReason.STOP
        if len(self.token_ids) >= context_len or self.num_generated == self.params.max_tokens:
            return FinishReason.LENGTH
        return None
