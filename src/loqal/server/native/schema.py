"""The responses of the native API, for the OpenAPI document and for tests."""

from __future__ import annotations

from typing import Literal

from loqal.server.shared.schema import Answer, TokenLogprob


class ModelHealth(Answer):
    """The health of one model; ``step_ms`` is the duration of one token, None if the model is not loaded."""

    loaded: bool
    step_ms: float | None


class Health(Answer):
    """The health of the server: ok when every loaded model has just generated a token."""

    status: Literal["ok", "failing"]
    version: str
    models: dict[str, ModelHealth]
    message: str | None = None


class Segment(Answer):
    """A segment of the prompt, by its origin."""

    kind: Literal["template", "content", "media"]
    text: str


class Media(Answer):
    """An image or a video of the prompt, and its tokens."""

    kind: Literal["image", "video"]
    name: str
    source_size: list[int]
    size: list[int]
    grid: list[int]
    num_tokens: int
    frame_indices: list[int]
    seconds: list[float]


class RenderAnswer(Answer):
    """The prompt of a conversation, and how much of it is cached."""

    model: str
    token_ids: list[int]
    num_tokens: int
    context_len: int
    thinks: bool
    segments: list[Segment]
    media: list[Media]
    cached_tokens: int
    cache_miss: str | None
    replays: list[Literal["exact", "template"]]
    warnings: list[str] | None = None


class TokenizeAnswer(Answer):
    """Token ids and the text of each token; incomplete characters are U+FFFD."""

    model: str
    token_ids: list[int]
    texts: list[str]


class DetokenizeAnswer(Answer):
    """The text of token ids."""

    model: str
    text: str


class Score(Answer):
    """The score of one continuation; ``logprob`` is the sum over its tokens."""

    logprob: float
    token_ids: list[int]
    tokens: list[TokenLogprob]


class ScoreAnswer(Answer):
    """Scores in the order of the continuations."""

    model: str
    scores: list[Score]


class UnloadAnswer(Answer):
    """Whether the model was loaded."""

    model: str
    unloaded: bool
