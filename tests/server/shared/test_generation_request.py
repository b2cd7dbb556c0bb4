"""Generation requests on a real model: seeds of several replies, and the limit on their number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import loqal
from loqal.errors import RequestError
from loqal.runtime.runtime import MAX_CHOICES, Runtime
from loqal.server.shared.errors import FieldError
from loqal.server.shared.generation_request import ChatRequest, GenerationRequest, RawRequest
from loqal.types.messages import MediaPart, Message
from loqal.types.sampling import SamplingParams

PARAMS = SamplingParams(max_tokens=3, seed=7)
CHAT = ChatRequest("demo", (Message("user", "Hi"),), PARAMS, n=3)
RAW = RawRequest("demo", ("a", (1, 2)), PARAMS, n=3)


@pytest.fixture(scope="module")
def model() -> Iterator[Runtime]:
    with loqal.load("demo", threads=1) as model:
        yield model


@pytest.mark.parametrize(("request_", "seeds"), [(CHAT, [7, 8, 9]), (RAW, [7, 8, 9, 7, 8, 9])])
def test_the_seed_of_each_reply_is_one_more(model: Runtime, request_: GenerationRequest, seeds: list[int]) -> None:
    replies = [stream.finish() for stream in request_.starter(model, "me")()]
    assert [reply.seed for reply in replies] == seeds and request_.num_replies == len(seeds)


def test_a_reply_of_several_is_the_reply_to_its_seed_alone(model: Runtime) -> None:
    first = [stream.finish() for stream in RAW.starter(model, "me")()][1]
    assert first.token_ids == model.generate("a", SamplingParams(max_tokens=3, seed=8)).token_ids


@pytest.mark.parametrize("n", [0, MAX_CHOICES + 1])
def test_the_number_of_replies_is_limited_once(model: Runtime, n: int) -> None:
    with pytest.raises(RequestError, match=f"n is {n}"):
        model.stream_completions("a", PARAMS, n=n)
    with pytest.raises(RequestError, match=f"n is {n}"):
        model.stream_choices([Message("user", "a")], PARAMS, n=n)


def test_the_number_of_media_is_limited() -> None:
    with pytest.raises(FieldError, match="65 images and videos"):
        ChatRequest("demo", (Message("user", [MediaPart("image", b"")] * 65),))
