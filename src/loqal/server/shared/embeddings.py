"""Embeddings of the texts of one request, for every dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from loqal.errors import ContextError
from loqal.runtime.runtime import Runtime
from loqal.server.shared.errors import FieldError
from loqal.server.shared.prompt_length import tokenize

_TEXTS_AT_ONCE = 16  # between two checks that the client is still connected

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts or token ids to embed.

    Attributes:
        field: the request field that holds the texts, for error messages.
        pooling: how the rows of a text become one vector.
        dimensions: how many values of each vector to keep, normalized to length 1 again; None for all.
        max_tokens: the maximum number of tokens of each text, where the caller sets one.
    """

    model: str
    texts: Sequence[str | Sequence[int]]
    field: str = "input"
    pooling: Literal["mean", "last"] = "mean"
    dimensions: int | None = None
    max_tokens: int | None = None


async def embed(
    runtime: Runtime, request: EmbeddingRequest, check_client: Callable[[], Awaitable[None]]
) -> tuple[Vectors, int]:
    """Vectors of length 1 [N D] in the order of the texts, and the number of prompt tokens.

    Args:
        check_client: called between batches; raises where the client has disconnected.

    Raises:
        FieldError: more dimensions are requested than the model has.
        ContextError: a text does not fit the context, or has more than ``max_tokens``.
    """
    if not request.texts:
        return np.empty((0, 0), np.float32), 0
    if request.dimensions is not None and request.dimensions > runtime.info.width:
        raise FieldError(
            "dimensions",
            f"It is {request.dimensions:,}; the model's vectors have {runtime.info.width:,} dimensions.",
            "Request at most that many dimensions.",
        )
    batches, num_tokens = [], 0
    for start in range(0, len(request.texts), _TEXTS_AT_ONCE):
        vectors, num_read = await asyncio.to_thread(_batch, runtime, request, start)
        batches.append(vectors)
        num_tokens += num_read
        await check_client()
    vectors = np.concatenate(batches)[:, : request.dimensions]
    if request.dimensions is not None:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return vectors, num_tokens


def _batch(runtime: Runtime, request: EmbeddingRequest, start: int) -> tuple[Vectors, int]:
    """Vectors of the texts from ``start`` on, and the number of their tokens."""
    batch = request.texts[start : start + _TEXTS_AT_ONCE]
    ids = [tokenize(runtime, text) if isinstance(text, str) else list(text) for text in batch]
    limit = request.max_tokens
    for one in ids:
        if limit is not None and len(one) > limit:
            raise ContextError(
                f"A text of the field {request.field!r} has {len(one):,} tokens.",
                f"The option num_ctx allows {limit:,}.",
                "Raise num_ctx or shorten the text.",
            )
    return runtime.embed(ids, pooling=request.pooling), sum(map(len, ids))
