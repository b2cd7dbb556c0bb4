"""Captures on disk: written beside the engine, read back between steps, and never more than what is good."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from loqal.engine.cache.disk_captures import LEAST_TOKENS, DiskCaptures
from loqal.engine.cache.media_keys import MediaKeys
from loqal.engine.cache.prefix_cache import PrefixCache
from loqal.ops.interface import PAGE_TOKENS
from loqal.state.disk_cache import DiskCache
from loqal.state.store import Capture, StateStore
from state_rig import capture_of, contents, fill, state_of, state_store

LENGTH = 3 * PAGE_TOKENS + 5


def keys_of(length: int) -> np.ndarray:
    return np.arange(1, length + 1, dtype=np.int64)


def disk(folder: Path) -> DiskCache:
    return DiskCache(folder, b"a model", 1 << 30)


def finished(reading: Generator[None, None, Capture | None]) -> Capture | None:
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


@pytest.fixture
def written(tmp_path: Path) -> list[np.ndarray]:
    """What the disk holds of LENGTH tokens, written by a cache that is gone."""
    store = state_store()
    cache = PrefixCache(store, disk=disk(tmp_path))
    capture = capture_of(store, LENGTH)
    fill(store, capture, 1)
    kept = [array.copy() for array in contents(store, capture)]
    cache.put(keys_of(LENGTH), capture, save=True)
    assert cache.saved is not None
    cache.saved.collect()
    assert len(cache.saved.holders) == 1  # the writer's
    cache.saved.flush()
    assert not cache.saved.holders
    store.check(cache.holders)
    return kept


def test_a_state_outlives_its_process(tmp_path: Path, written: list[np.ndarray]) -> None:
    store = state_store()
    cache = PrefixCache(store, disk=disk(tmp_path))
    steps = sum(1 for _ in cache.restore(keys_of(LENGTH + 9), LENGTH + 8))
    assert steps > 0  # running replies go on in between
    capture, report = cache.take(keys_of(LENGTH + 9), LENGTH + 8)
    assert capture is not None and report.cached == LENGTH
    assert all(map(np.array_equal, contents(store, capture), written))
    cache.unpin(capture)
    store.check(cache.holders)


def test_full_pages_of_a_shorter_capture_are_shared(tmp_path: Path, written: list[np.ndarray]) -> None:
    store = state_store()
    captures = DiskCaptures(store, disk(tmp_path), MediaKeys())
    base = capture_of(store, PAGE_TOKENS + 3)
    fill(store, base, 2)  # is not read again
    reading = captures.restore(keys_of(LENGTH), LENGTH, base)
    next(reading)
    store.check([base, *captures.holders])
    capture = finished(reading)
    assert capture is not None and capture.pages[0] == base.pages[0] and capture.pages[1] != base.pages[1]
    per_page = len(store.page_memory(0))
    assert all(map(np.array_equal, contents(store, capture)[per_page:], written[per_page:]))
    store.check([base, capture])


@pytest.mark.parametrize("base", [LENGTH - LEAST_TOKENS, LENGTH - LEAST_TOKENS + 1])
def test_little_more_than_what_is_there_is_not_read(tmp_path: Path, written: list[np.ndarray], base: int) -> None:
    store = state_store()
    captures = DiskCaptures(store, disk(tmp_path), MediaKeys())
    found = finished(captures.restore(keys_of(LENGTH), LENGTH, capture_of(store, base)))
    assert (found is None) == (LENGTH - base < LEAST_TOKENS)


def test_nothing_deeper_than_the_limit_or_of_other_tokens(tmp_path: Path, written: list[np.ndarray]) -> None:
    store = state_store()
    captures = DiskCaptures(store, disk(tmp_path), MediaKeys())
    assert finished(captures.restore(keys_of(LENGTH), LENGTH - 1, None)) is None
    assert finished(captures.restore(keys_of(LENGTH)[::-1], LENGTH, None)) is None
    store.check([])


def test_a_damaged_file_counts_as_never_written(tmp_path: Path, written: list[np.ndarray]) -> None:
    store = state_store()
    captures = DiskCaptures(store, disk(tmp_path), MediaKeys())
    for path in tmp_path.rglob("*.page"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert finished(captures.restore(keys_of(LENGTH), LENGTH, None)) is None
    store.check([])
    assert finished(captures.restore(keys_of(LENGTH), LENGTH, None)) is None
    assert not captures.holders


def test_no_room_means_no_state(tmp_path: Path, written: list[np.ndarray]) -> None:
    for room in ({"num_slots": 1}, {"num_pages": 4}):
        store = state_store(**room)
        captures = DiskCaptures(store, disk(tmp_path), MediaKeys())
        taken = state_of(store, 1)
        assert finished(captures.restore(keys_of(LENGTH), LENGTH, None)) is None
        store.check([taken])


def test_giving_up_half_way_gives_everything_back(tmp_path: Path, written: list[np.ndarray]) -> None:
    store = state_store()
    captures = DiskCaptures(store, disk(tmp_path), MediaKeys())
    reading = captures.restore(keys_of(LENGTH), LENGTH, None)
    next(reading)
    assert len(captures.holders) == 1
    reading.close()
    assert not captures.holders
    store.check([])


def offered(store: StateStore, captures: DiskCaptures, length: int) -> Capture:
    capture = capture_of(store, length)
    captures.offer(keys_of(length), capture)
    return capture


def test_short_states_and_withdrawn_ones_are_not_written(tmp_path: Path) -> None:
    store = state_store()
    saved = disk(tmp_path)
    captures = DiskCaptures(store, saved, MediaKeys())
    offered(store, captures, LEAST_TOKENS - 1)
    captures.withdraw(offered(store, captures, LEAST_TOKENS + 1))
    captures.collect()
    assert not captures.holders
    kept = offered(store, captures, LEAST_TOKENS)
    captures.flush()
    assert [state.length for state in saved.states.values()] == [LEAST_TOKENS]
    found = finished(captures.restore(keys_of(LEAST_TOKENS), LEAST_TOKENS, None))  # also by the one who wrote it
    assert found is not None and found.length == kept.length
