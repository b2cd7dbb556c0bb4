"""Embeddings of requests: batches, dimensions and limits, on a model that only counts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loqal.errors import ContextError
from loqal.server.shared.embeddings import EmbeddingRequest, embed
from loqal.server.shared.errors import FieldError


class Runtime:
    """Vectors [N 4] whose first value is the number of tokens."""

    context_len = 100
    info = SimpleNamespace(width=4)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        return [ord(one) for one in text]

    def embed(self, texts: list[list[int]], *, pooling: str) -> Any:
        self.batches.append(len(texts))
        return np.array([[len(ids), 1, 1, 1] for ids in texts], np.float32)


def run(request: EmbeddingRequest) -> tuple[Any, int, list[int]]:
    runtime: Any = Runtime()
    checks: list[int] = []

    async def check_client() -> None:
        checks.append(len(runtime.batches))

    vectors, num_tokens = asyncio.run(embed(runtime, request, check_client))
    assert checks == list(range(1, len(runtime.batches) + 1))
    return vectors, num_tokens, runtime.batches


def test_texts_come_in_batches_in_their_order() -> None:
    vectors, num_tokens, batches = run(EmbeddingRequest("m", ["a" * n for n in range(1, 21)] + [(5, 6, 7)]))
    assert vectors[:, 0].tolist() == [*range(1, 21), 3]
    assert num_tokens == sum(range(1, 21)) + 3 and batches == [16, 5]


def test_fewer_dimensions_are_normalized() -> None:
    vectors, _, _ = run(EmbeddingRequest("m", ["aa"], dimensions=2))
    np.testing.assert_allclose(vectors, np.array([[2, 1]]) / np.sqrt(5), rtol=1e-6)


def test_no_texts_give_no_vectors() -> None:
    vectors, num_tokens, batches = run(EmbeddingRequest("m", [], dimensions=1000))
    assert vectors.tolist() == [] and num_tokens == 0 and batches == []


@pytest.mark.parametrize(
    ("more", "kind", "match"),
    [
        ({"dimensions": 5}, FieldError, "4 dimensions"),
        ({"max_tokens": 2}, ContextError, "'prompt' has 3 tokens"),
        ({"texts": ["a" * 13_000]}, ContextError, "more than"),
    ],
)
def test_limits(more: dict[str, Any], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        run(EmbeddingRequest(**{"model": "m", "texts": ["aaa"], "field": "prompt", **more}))
