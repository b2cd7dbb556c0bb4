"""The Python API beside chats: many at once, vectors, scores, asyncio, and readers that are slow or gone."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import loqal
from loqal import AsyncRuntime, Runtime, SamplingParams
from loqal.runtime import async_runtime, runtime
from waiting import wait_until_async

QUESTION = [{"role": "user", "content": "Receipt to JSON:\n2 Milk 1.20\n1 Bread 2.50\nTotal 4.90"}]
SHORT = SamplingParams(max_tokens=20, seed=3, ignore_eos=True)


@pytest.fixture(scope="module")
def model() -> Iterator[Runtime]:
    with loqal.load(context_len=1024, max_sequences=4) as model:
        yield model


@pytest.mark.parametrize("module", [runtime, async_runtime])
def test_the_examples_of_the_documentation(model: Runtime, module: object) -> None:
    results = doctest.testmod(module, extraglobs={"model": model, "loqal": loqal, "asyncio": asyncio})
    assert results.attempted
    assert results.failed == 0


def test_choices_read_the_prompt_once(model: Runtime) -> None:
    alone = [model.chat(QUESTION, SamplingParams(max_tokens=12, seed=seed, temperature=30.0)) for seed in range(4)]
    fresh = [{"role": "system", "content": "Another beginning."}, *QUESTION]
    replies = model.choices(fresh, SamplingParams(max_tokens=12, seed=0, temperature=30.0), n=4)
    prompt_len = replies[0].usage.prompt_tokens
    assert sum(prompt_len - reply.usage.cached_tokens for reply in replies) == prompt_len
    assert len({reply.token_ids for reply in replies}) > 1
    again = [
        model.chat(fresh, SamplingParams(max_tokens=12, seed=seed, temperature=30.0)).token_ids for seed in range(4)
    ]
    assert [reply.token_ids for reply in replies] == again
    assert [reply.seed for reply in replies] == [reply.seed for reply in alone]


def test_too_many_choices(model: Runtime) -> None:
    for n in (0, 65):
        with pytest.raises(loqal.RequestError, match=f"n is {n}"):
            model.choices(QUESTION, n=n)


def test_a_batch_is_each_of_its_parts(model: Runtime) -> None:
    prompts = ["one", [1, 2, 3], QUESTION, "another text"]
    replies = model.batch(prompts, SHORT)
    assert replies[0].token_ids == model.generate("one", SHORT).token_ids
    assert replies[1].token_ids == model.generate([1, 2, 3], SHORT).token_ids
    assert replies[2].token_ids == model.chat(QUESTION, SHORT).token_ids


def test_vectors(model: Runtime) -> None:
    vectors = model.embed(["some text", [1, 2, 3], "some text"])
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0].tobytes() == vectors[2].tobytes() == model.embed("some text").tobytes()
    last = model.embed("some text", pooling="last")
    assert last.tobytes() != vectors[0].tobytes()
    assert last.tobytes() == model.embed(model.tokenize("some text"), pooling="last").tobytes()
    with pytest.raises(loqal.RequestError, match="pooling"):
        model.embed("a", pooling="first")  # type: ignore[arg-type]


def test_scores_are_the_logprobs_of_the_logits(model: Runtime) -> None:
    before, after = model.tokenize("one two three"), model.tokenize(" four five")
    logits = model.logits(before + after).astype(np.float64)
    rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    scores = model.score(before, after)
    assert [score.token_id for score in scores] == after
    for place, score in enumerate(scores):
        assert score.logprob == pytest.approx(rows[len(before) - 1 + place, score.token_id], abs=1e-4)
    assert model.score("one two three", " four five") == scores  # this time from the cache
    for prompt, continuation in (("", "a"), ("a", "")):
        with pytest.raises(loqal.RequestError):
            model.score(prompt, continuation)


def test_asyncio(model: Runtime) -> None:
    expected = model.chat(QUESTION, SHORT)
    other = async_runtime.AsyncRuntime(model)

    async def ask() -> None:
        replies = await asyncio.gather(*(other.chat(QUESTION, SHORT) for _ in range(6)))
        assert [reply.token_ids for reply in replies] == [expected.token_ids] * 6
        ids: list[int] = []
        async with await other.stream_chat(QUESTION, SHORT) as stream:
            async for delta in stream:
                ids += delta.token_ids
        assert tuple(ids) == expected.token_ids
        assert (await other.embed("a")).shape == model.embed("a").shape
        assert await other.score("a", "b") == model.score("a", "b")
        assert other.detokenize(other.tokenize("abc")) == "abc"

    asyncio.run(ask())


def test_a_cancelled_task_cancels_its_request(model: Runtime) -> None:
    async def ask() -> None:
        other = async_runtime.AsyncRuntime(model)
        task = asyncio.create_task(other.generate("abc", SamplingParams(seed=1, ignore_eos=True)))
        await wait_until_async(lambda: written(model) > before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = written(model)
    asyncio.run(ask())
    model._open_engine().wait_idle()
    assert written(model) - before < 1000


def written(model: Runtime) -> int:
    return int(model._open_engine().call(lambda loop: loop.counts.written_tokens))


def test_a_slow_reader_holds_nobody_up(model: Runtime) -> None:
    slow = model.stream_generate("slow", SamplingParams(max_tokens=200, seed=1, ignore_eos=True))
    first = next(slow)  # a token without text comes along with the next
    quick = model.generate("quick", SHORT)
    assert len(quick.token_ids) == 20
    model._open_engine().wait_idle()  # the slow one is complete without having been read
    assert sum(len(delta.token_ids) for delta in (first, *slow)) == 200


def test_many_threads(model: Runtime) -> None:
    expected = {text: model.generate(text, SHORT).token_ids for text in ("a", "bb", "ccc")}
    found: list[bool] = []

    def work(text: str) -> None:
        found.append(model.generate(text, SHORT).token_ids == expected[text])

    threads = [threading.Thread(target=work, args=(text,)) for text in expected for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 15


def test_progress_can_be_watched(model: Runtime) -> None:
    stream = model.stream_generate([5, 6, 7] * 100, SHORT)
    assert stream.progress[1] == 300
    stream.finish()
    assert stream.progress == (300, 300)


def test_a_miss_is_explained() -> None:
    with loqal.load(context_len=2048) as model:
        params = SamplingParams(max_tokens=2, seed=1)
        text = "A long message about nothing in particular, so that it is worth remembering. " * 4
        talk = [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]
        first = model.chat([*talk, {"role": "user", "content": "Go on."}], params)
        assert first.usage.cached_tokens == 0
        assert "No cached request" in str(first.usage.cache_miss)
        again = model.chat([*talk, {"role": "user", "content": "Go on."}], params)
        assert again.usage.cached_tokens > 0.9 * again.usage.prompt_tokens
        assert again.usage.cache_miss is None
        edited = model.chat([*talk, {"role": "user", "content": "Go away."}], params)
        assert 0 < edited.usage.cached_tokens < edited.usage.prompt_tokens
        assert "message 3 (user), character 3" in str(edited.usage.cache_miss)
    with loqal.load(context_len=512, cache_bytes=0) as model:
        assert model.chat(QUESTION, params).usage.cache_miss == "The prefix cache is disabled."


def test_closing_lets_running_streams_end() -> None:
    model = loqal.load(context_len=512)
    stream = model.stream_generate("abc", SHORT)
    model.close()
    assert len(stream.finish().token_ids) == 20
    started = time.perf_counter()
    model.close()
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("name", [name for name in vars(AsyncRuntime) if not name.startswith("_")])
def test_the_verbs_of_asyncio_have_the_arguments_of_the_others(name: str) -> None:
    ours, theirs = getattr(AsyncRuntime, name), getattr(Runtime, name)
    streamed = {"chat": Runtime.stream_chat, "generate": Runtime.stream_generate}
    assert inspect.signature(ours).parameters == inspect.signature(streamed.get(name, theirs)).parameters
    assert inspect.iscoroutinefunction(ours) == (name not in ("tokenize", "detokenize"))
