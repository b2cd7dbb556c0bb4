"""Sampling: from the logits of a row to a token and its log probabilities."""

from loqal.engine.sampling.choose import (
    Logits,
    TokenCounts,
    choose,
    gumbel_noise,
    logprobs,
    num_enough,
)

__all__ = ["Logits", "TokenCounts", "choose", "gumbel_noise", "logprobs", "num_enough"]
