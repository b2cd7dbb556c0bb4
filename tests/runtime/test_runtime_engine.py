"""The engine on a tiny model: one answer, however it is computed, and nothing left behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from loqal.engine import engine as engine_module
from loqal.engine.engine import Engine
from loqal.engine.options import EngineOptions
from loqal.engine.sequence import Sequence
from loqal.errors import ContextError, RequestError
from loqal.formats.tensor import Tensor
from loqal.model.decoder import Decoder
from loqal.ops.backends.reference import ReferenceOps
from loqal.state.store import StateStore
from loqal.testing.checkpoints import random_tensors, tiny_config
from loqal.types.reply import FinishReason
from loqal.types.sampling import SamplingParams

PARAMS = SamplingParams(
    max_tokens=12,
    temperature=1.0,
    top_k=20,
    top_p=1.0,
    min_p=0.0,
    presence_penalty=0.5,
    frequency_penalty=0.0,
    repetition_penalty=1.0,
    seed=7,
)
PROMPT = [int(i) for i in np.random.default_rng(0).integers(0, 300, 150)]
NUM_SLOTS, NUM_PAGES = 3, 12


@dataclass
class Machine:
    """One model and its state; engines come and go on top."""

    decoder: Decoder
    store: StateStore
    ops: ReferenceOps
    engines: list[Engine] = field(default_factory=list)

    def engine(self, chunk_tokens: int = 512, context_len: int = 512, padding_ids: tuple[int, ...] = ()) -> Engine:
        options = EngineOptions(context_len, padding_ids, chunk_tokens, caches=False, checks=True)
        engine = Engine(self.decoder, self.store, options)
        self.engines.append(engine)
        return engine

    def wait(self) -> None:
        for engine in self.engines:
            engine.wait_idle()

    def is_clean(self) -> bool:
        return (self.store.slots.num_free, self.store.pages.num_free) == (NUM_SLOTS, NUM_PAGES)


@pytest.fixture(scope="module")
def machine() -> Machine:
    config = tiny_config(tied_head=False)
    ops = ReferenceOps()
    tensors = {
        name: Tensor(name, "F32", values.shape, values.reshape(-1).view(np.uint8), "test")
        for name, values in random_tensors(config).items()
    }
    store = StateStore(ops, config, num_slots=NUM_SLOTS, num_pages=NUM_PAGES)
    store.poison_freed = True
    return Machine(Decoder(config, ops, tensors), store, ops)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(machine: Machine) -> Iterator[None]:
    yield
    for engine in machine.engines:
        engine.stop()
    machine.engines.clear()
    assert machine.is_clean()


def tokens(engine: Engine, prompt: list[int] = PROMPT, params: SamplingParams = PARAMS) -> list[int]:
    return [event.token_id for event in engine.submit(Sequence(prompt, params))]


def test_chunks_change_nothing(machine: Machine) -> None:
    whole = tokens(machine.engine())
    logits = machine.engine().logits(PROMPT)
    for chunk_tokens in (1, 63, 64, 65):
        assert tokens(machine.engine(chunk_tokens)) == whole
        assert machine.engine(chunk_tokens).logits(PROMPT).tobytes() == logits.tobytes()


def test_logits_have_the_shape_of_the_vocabulary(machine: Machine) -> None:
    logits = machine.engine().logits([1, 2, 3])
    assert logits.shape == (3, 320)
    assert logits.dtype == np.float32


def test_greedy_tokens_are_the_largest_logits(machine: Machine) -> None:
    greedy = replace(PARAMS, temperature=0.0, presence_penalty=0.0)
    generated = tokens(machine.engine(), PROMPT[:20], greedy)
    logits = machine.engine().logits(PROMPT[:20] + generated)
    assert generated == logits.argmax(axis=1)[19:-1].tolist()


def test_logprobs_equal_scoring(machine: Machine) -> None:
    params = replace(PARAMS, logprobs=3)
    events = list(machine.engine().submit(Sequence(PROMPT[:20], params)))
    logits = machine.engine().logits(PROMPT[:20] + [event.token_id for event in events]).astype(np.float64)
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for row, event in zip(scores[19:], events, strict=False):
        assert event.logprobs is not None
        assert event.logprobs.logprob == pytest.approx(row[event.token_id], abs=1e-5)
        assert [token_id for token_id, _ in event.logprobs.top] == np.argsort(-row)[:3].tolist()


def test_companions_change_nothing(machine: Machine) -> None:
    engine = machine.engine(chunk_tokens=16)
    alone = tokens(engine, PROMPT[:40])
    first, other = (engine.submit(Sequence(prompt, PARAMS)) for prompt in (PROMPT[:40], PROMPT[40:90]))
    together = []
    for event, _ in zip(first, other, strict=True):
        together.append(event.token_id)
    assert together == alone


def test_threads_change_nothing(machine: Machine) -> None:
    engine = machine.engine(chunk_tokens=16)
    alone = tokens(engine, PROMPT[:40])
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(tokens(engine, PROMPT[:40]))) for _ in range(NUM_SLOTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * NUM_SLOTS


def test_closing_a_stream_frees_its_state(machine: Machine) -> None:
    engine = machine.engine()
    stream = engine.submit(Sequence(PROMPT, replace(PARAMS, max_tokens=300)))
    next(stream)
    assert not machine.is_clean()
    stream.close()
    machine.wait()
    assert machine.is_clean()
    assert list(stream) == []


def test_letting_go_of_a_stream_frees_its_state(machine: Machine) -> None:
    engine = machine.engine()
    next(engine.submit(Sequence(PROMPT, replace(PARAMS, max_tokens=300))))
    gc.collect()
    machine.wait()
    assert machine.is_clean()
    assert engine.call(lambda loop: loop.counts.written_tokens) < 300


def test_the_end_of_the_process_waits_for_a_thread_that_frees_its_states(machine: Machine) -> None:
    # Freeing a mapping lets go of the interpreter: one that had ended meanwhile would abort the process.
    engine = machine.engine()
    go_on, was_known = threading.Event(), []

    class Held:
        def __del__(self) -> None:
            was_known.append(threading.current_thread() in engine_module._RUNNING)

    engine.call(lambda loop: setattr(loop, "held", Held()))
    engine._inbox.put(lambda loop: go_on.wait())
    thread = engine._thread
    assert thread is not None
    machine.engines.clear()
    del engine
    gc.collect()
    go_on.set()
    thread.join()
    assert was_known == [True]


def test_more_streams_than_states_take_turns(machine: Machine) -> None:
    engine = machine.engine()
    alone = tokens(engine, [1, 2])
    streams = [engine.submit(Sequence([1, 2], PARAMS)) for _ in range(NUM_SLOTS + 3)]
    assert [[event.token_id for event in stream] for stream in streams] == [alone] * len(streams)


def test_end_tokens(machine: Machine) -> None:
    plain = tokens(machine.engine())
    events = list(machine.engine().submit(Sequence(PROMPT, PARAMS, end_ids=[plain[4]])))
    assert [event.token_id for event in events] == plain[: plain.index(plain[4]) + 1]
    assert [event.finish_reason for event in events] == [None] * (len(events) - 1) + [FinishReason.STOP]


def test_max_tokens_and_a_full_context(machine: Machine) -> None:
    events = list(machine.engine().submit(Sequence(PROMPT, replace(PARAMS, max_tokens=3))))
    assert len(events) == 3
    assert events[-1].finish_reason is FinishReason.LENGTH
    events = list(machine.engine(context_len=155).submit(Sequence(PROMPT, replace(PARAMS, max_tokens=None))))
    assert len(events) == 5
    assert events[-1].finish_reason is FinishReason.LENGTH


def test_a_prompt_that_does_not_fit_names_both_counts(machine: Machine) -> None:
    assert len(tokens(machine.engine(context_len=151))) == 1
    with pytest.raises(ContextError, match=r"150 tokens[\s\S]*holds 150"):
        machine.engine(context_len=150).submit(Sequence(PROMPT, PARAMS))
    with pytest.raises(ContextError):
        machine.engine(context_len=149).logits(PROMPT)
    assert len(machine.engine(context_len=150).logits(PROMPT)) == 150


@pytest.mark.parametrize("prompt", [[], [320], [-1], [1, 2, 10**9]])
def test_unusable_prompts(machine: Machine, prompt: list[int]) -> None:
    with pytest.raises(RequestError):
        machine.engine().submit(Sequence(prompt, PARAMS))
    with pytest.raises(RequestError):
        machine.engine().logits(prompt)


def test_padding_is_never_chosen(machine: Machine) -> None:
    padding = tuple(range(3, 320))
    hot = replace(PARAMS, temperature=50.0, top_k=0, max_tokens=40)
    assert set(tokens(machine.engine(padding_ids=padding), params=hot)) <= {0, 1, 2}


def test_penalties_count_the_prompt_only_when_asked(machine: Machine) -> None:
    greedy = replace(PARAMS, temperature=0.0, presence_penalty=0.0, max_tokens=1)
    first = tokens(machine.engine(), PROMPT, greedy)
    strong = replace(greedy, presence_penalty=10.0)
    prompt = [*first, *PROMPT[1:]]
    favourite = tokens(machine.engine(), prompt, greedy)
    assert tokens(machine.engine(), prompt, strong) == favourite
    chosen = tokens(machine.engine(), prompt, replace(strong, penalize_prompt=True))
    assert not set(chosen) & set(prompt)


def test_an_error_reaches_those_who_wait_and_the_engine_goes_on(machine: Machine) -> None:
    engine = machine.engine()

    def fail() -> None:
        raise RuntimeError("a bug")

    engine.call(lambda loop: setattr(loop, "tidy", fail))
    with pytest.raises(RuntimeError, match="a bug"):
        tokens(engine)
    engine.call(lambda loop: delattr(loop, "tidy"))
    assert len(tokens(engine)) == 12
