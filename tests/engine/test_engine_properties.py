"""Whatever happens around a request, it gets the answer that it gets alone and cold."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine_rig import PARAMS, Alone, Ask, Rig, Running, budget_for
from loqal.model.decoder import Decoder
from loqal.ops.backends.cpu import CpuOps
from loqal.state.disk_cache import DiskCache
from loqal.testing.checkpoints import random_tensors, tiny_config
from machine import stored

CONFIG = tiny_config(tied_head=False, num_draft_layers=1)
OPS = CpuOps(threads=1)
TEXT = [int(i) for i in np.random.default_rng(3).integers(0, 300, 700)]
# Prompts are put together from these pieces, so that many begin alike and part somewhere.
PIECES = [
    tuple(TEXT[start : start + length]) for start, length in ((0, 90), (100, 64), (200, 40), (300, 3), (400, 130))
]

asks = st.builds(
    lambda pieces, seed, greedy, cut, picture, marks: make_ask(pieces, seed, greedy, cut, picture, marks),
    st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=4),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 30),
    st.none() | st.integers(0, 1),
    st.booleans(),
)


def make_ask(pieces: list[int], seed: int, greedy: bool, cut: int, picture: int | None, marks: bool) -> Ask:
    prompt = tuple(token for piece in pieces for token in PIECES[piece])
    ends = np.cumsum([len(PIECES[piece]) for piece in pieces]).tolist()
    prompt = prompt[: max(1, len(prompt) - cut)]
    images = ((5, 30, picture),) if picture is not None and len(prompt) > 40 else ()
    params = replace(PARAMS, seed=seed, temperature=0.0 if greedy else 1.0)
    return Ask(prompt, params, images, tuple(end for end in ends if end < len(prompt)) if marks else ())


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(CONFIG, OPS, stored(random_tensors(CONFIG)))


@pytest.fixture(scope="module")
def alone(decoder: Decoder) -> Alone:
    return Alone(CONFIG, OPS, decoder)


pieces = st.sampled_from([(), (), PIECES[0], PIECES[1], PIECES[3]])
events = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), asks, st.integers(0, 2), st.sampled_from("ab")),
        # The same prompt again, with another seed, cut, or going on: what a conversation and its forks do.
        st.tuples(st.just("again"), st.integers(0, 20), st.integers(0, 2), st.sampled_from([0, 0, 1, 70]), pieces),
        st.tuples(st.just("again"), st.integers(0, 20), st.integers(0, 2), st.sampled_from([0, 0, 1, 70]), pieces),
        st.tuples(st.just("step"), st.integers(1, 6)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.just(("restart",)),
    ),
    min_size=6,
    max_size=16,
)


@given(
    events,
    st.sampled_from([1, 17, 64, 300]),
    st.integers(1, 5),
    st.sampled_from(["roomy", "tight", "off"]),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_one_answer(
    decoder: Decoder,
    alone: Alone,
    happens: list[tuple],
    chunk_tokens: int,
    max_sequences: int,
    room: str,
    journals: int,
    on_disk: bool,
) -> None:
    slot_group = 1 + max_sequences % 2
    budget = budget_for(CONFIG, 4, 12) if room == "tight" else None
    folder = tempfile.TemporaryDirectory()

    def fresh() -> Rig:
        return Rig(
            CONFIG,
            OPS,
            decoder=decoder,
            budget_bytes=budget,
            slot_group=slot_group,
            num_journals=journals,
            chunk_tokens=chunk_tokens,
            max_sequences=max_sequences,
            caches=room != "off",
            disk=DiskCache(Path(folder.name), b"tiny", 1 << 30) if on_disk else None,
        )

    rig = fresh()
    running: list[Running] = []
    cancelled: set[int] = set()
    for event in happens:
        match event:
            case ("ask", ask, priority, client):
                running.append(rig.start(replace(ask, priority=priority, client=client)))
            case ("again", which, seed, cut, piece) if running:
                ask = running[which % len(running)].ask
                prompt = (*ask.prompt[: max(1, len(ask.prompt) - cut)], *piece)[:450]
                images = ask.images if len(prompt) > 40 else ()
                params = replace(ask.params, seed=seed)
                running.append(rig.start(replace(ask, prompt=prompt, params=params, images=images)))
            case ("step", count):
                for _ in range(count):
                    rig.step(running)
            case ("cancel", which) if running:
                which %= len(running)
                cancelled.add(which)
                rig.loop.cancel(running[which].mailbox)
            case ("restart",):
                rig.finish(*running)
                rig.loop.close()
                rig = fresh()
    rig.finish(*running)
    for index, one in enumerate(running):
        expected = alone(one.ask)
        if index in cancelled:
            assert one.answer == expected[: len(one.answer)]
        else:
            assert one.answer == expected
    rig.loop.close()
    folder.cleanup()
    rig.loop.cache.clear()
    assert rig.store.slots.num_free == rig.store.slots.size
    assert rig.store.pages.num_free == rig.store.pages.size


@given(st.lists(asks, min_size=2, max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_read_is_not_read_again(decoder: Decoder, conversations: list[Ask]) -> None:
    """At most what follows the deepest common boundary is read, and one page."""
    rig = Rig(CONFIG, OPS, decoder=decoder, num_slots=100, num_pages=200)
    seen: list[Ask] = []
    for ask in conversations:
        one = rig.start(ask)
        before = rig.loop.counts.read_tokens
        rig.finish(one)
        read = rig.loop.counts.read_tokens - before
        common = max((deepest_boundary(ask, other) for other in seen), default=0)
        assert read <= len(ask.prompt) - common + 64
        assert one.active.sequence.cache.cached + read == len(ask.prompt)
        seen.append(ask)


def deepest_boundary(ask: Ask, other: Ask) -> int:
    """The deepest boundary that both prompts have, with the same tokens and pictures before it."""
    if ask.images != other.images:
        return 0
    common = next(
        (i for i, (a, b) in enumerate(zip(ask.prompt, other.prompt, strict=False)) if a != b),
        min(len(ask.prompt), len(other.prompt)),
    )
    return max((mark for mark in set(ask.boundaries) & set(other.boundaries) if mark <= common), default=0)
