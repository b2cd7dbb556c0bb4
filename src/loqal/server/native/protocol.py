"""The request bodies of the native API."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from loqal.server.openai.protocol import ChatBody, TokenIds
from loqal.server.shared.body import Body
from loqal.server.shared.fields import sampled, supported

_MAX_TEXTS = 256
_MODEL = "the name of a served model"


class RenderBody(ChatBody):
    """The body of POST /v1/render: a chat completion request. Sampling and streaming do not change the prompt."""


class TokenizeBody(Body):
    """The body of POST /v1/tokenize."""

    model: str = supported(_MODEL, ..., min_length=1)
    text: str = supported("the text to tokenize", ...)
    control: bool = supported("whether names of control tokens in the text become these tokens", False)


class DetokenizeBody(Body):
    """The body of POST /v1/detokenize."""

    model: str = supported(_MODEL, ..., min_length=1)
    token_ids: list[int] = supported("the token ids", ...)
    skip_special: bool = supported("whether to omit control tokens", False)


class ScoreBody(Body):
    """The body of POST /v1/score."""

    model: str = supported(_MODEL, ..., min_length=1)
    prompt: str | TokenIds = supported(
        "the prompt, at least one token; names of control tokens in a text become these tokens", ...
    )
    continuations: Annotated[list[str | TokenIds], Field(min_length=1, max_length=_MAX_TEXTS)] = supported(
        "the continuations to score", ..., examples=[["a"]]
    )
    top_logprobs: int = sampled("logprobs", "number of most likely tokens to return at each position", 0, le=20)


class UnloadBody(Body):
    """The body of POST /v1/unload."""

    model: str = supported(_MODEL, ..., min_length=1)
