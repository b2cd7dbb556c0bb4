"""Response models that several dialects share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """The base of every response model."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class TopLogprob(Answer):
    """A token among the most likely ones at its position, and its log probability."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A generated token, its log probability, and the most likely tokens at its position."""

    top_logprobs: list[TopLogprob]
