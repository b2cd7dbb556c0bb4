"""Files of states: complete or absent, equal or refused, within their quota, whatever happens around them."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from loqal.state import disk_cache
from loqal.state.disk_cache import DamagedError, DiskCache, DiskState

IDENTITY = b"a model"
ROOMY = 1 << 30
Arrays = list[np.ndarray]


def keys_of(length: int, seed: int = 0) -> np.ndarray:
    """Runs with one seed begin alike."""
    return np.random.default_rng(seed).integers(0, 1000, 10_000)[:length].astype(np.int64)


def content(length: int, seed: int = 0) -> tuple[list[Arrays], Arrays]:
    """Pages and slot of a run: what a page holds depends on the tokens before it only."""
    pages = [
        [np.random.default_rng((seed, page, part)).integers(0, 255, 3000, dtype=np.uint8) for part in range(2)]
        for page in range(-(-length // 64))
    ]
    slot = [np.random.default_rng((seed, length, part)).normal(0, 1, (700, 300)).astype(np.float32) for part in (7, 8)]
    return pages, slot


def save(cache: DiskCache, length: int, seed: int = 0) -> DiskState | None:
    return cache.save(keys_of(length, seed), [], *content(length, seed))


def is_equal(cache: DiskCache, state: DiskState, seed: int = 0) -> bool:
    """Restore a state; whether it is what was saved. Raises DamagedError."""
    pages, slot = content(state.length, seed)
    found_pages = [[np.zeros_like(array) for array in arrays] for arrays in pages]
    found_slot = [np.zeros_like(array) for array in slot]
    for _ in cache.restore(state, lambda number: found_pages[number], found_slot):
        pass
    return all(map(np.array_equal, sum(found_pages, found_slot), sum(pages, slot)))


def files(folder: Path, kind: str = "") -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{kind}") if path.is_file())


@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 300])
def test_what_comes_back_is_what_was_written(tmp_path: Path, length: int) -> None:
    state = save(DiskCache(tmp_path, IDENTITY, ROOMY), length)
    assert state is not None
    reopened = DiskCache(tmp_path, IDENTITY, ROOMY)
    assert list(reopened.states) == [state.name]
    found = reopened.states[state.name]
    assert np.array_equal(found.keys, keys_of(length))
    assert is_equal(reopened, found)


def test_pages_are_shared(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, IDENTITY, ROOMY)
    for length in (130, 200, 260):
        save(cache, length)
    assert len(files(tmp_path, ".page")) == 4
    assert len(files(tmp_path, ".state")) == 3
    assert save(cache, 200) is None  # there already


def test_media_are_told_apart_by_their_digests(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, IDENTITY, ROOMY)
    keys = np.array([5, -1, -2, -3, 7], np.int64)
    first = cache.save(keys, [b"one"], *content(5))
    other = cache.save(keys, [b"two"], *content(5))
    assert first is not None
    assert other is not None
    assert first.name != other.name
    assert {state.media for state in DiskCache(tmp_path, IDENTITY, ROOMY).states.values()} == {(b"one",), (b"two",)}


def test_another_identity_sees_nothing(tmp_path: Path) -> None:
    save(DiskCache(tmp_path, IDENTITY, ROOMY), 100)
    assert not DiskCache(tmp_path, b"another model", ROOMY).states


def test_a_file_under_another_name_is_refused(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, IDENTITY, ROOMY)
    first, other = save(cache, 100), save(cache, 100, seed=1)
    assert first is not None
    assert other is not None
    path = files(tmp_path, f"{first.name}.state")[0]
    path.write_bytes(path.with_stem(other.name).read_bytes())
    with pytest.raises(DamagedError):
        is_equal(cache, first)
    assert is_equal(cache, other, seed=1)


@pytest.mark.parametrize("kind", [".state", ".page"])
def test_any_flipped_byte_is_noticed(tmp_path: Path, kind: str) -> None:
    dice = random.Random(kind)
    DiskCache(tmp_path, IDENTITY, ROOMY)
    for attempt in range(60):
        cache = DiskCache(tmp_path, IDENTITY, ROOMY)
        save(cache, 150)
        path = files(tmp_path, kind)[-1]
        data = bytearray(path.read_bytes())
        where = attempt if attempt < 24 else dice.randrange(len(data))
        data[where] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        cache = DiskCache(tmp_path, IDENTITY, ROOMY)
        for state in list(cache.states.values()):
            with pytest.raises(DamagedError):
                is_equal(cache, state)
        assert not cache.states
        assert not path.exists() or not files(tmp_path, ".state") or kind == ".state"
        for left in files(tmp_path, ".state"):
            left.unlink()


@pytest.mark.parametrize("kind", [".state", ".page"])
def test_cut_and_missing_files_are_noticed(tmp_path: Path, kind: str) -> None:
    for size in (0, 5, 15, 16, 30, 2000, -1):
        cache = DiskCache(tmp_path, IDENTITY, ROOMY)
        state = save(cache, 150)
        assert state is not None
        path = files(tmp_path, kind)[-1]
        if size < 0:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DamagedError):
            is_equal(cache, state)
        assert not cache.states
    path = files(tmp_path, ".page")[0]
    path.write_bytes(path.read_bytes() + b"x")
    cache = DiskCache(tmp_path, IDENTITY, ROOMY)
    state = save(cache, 150)
    assert state is not None
    with pytest.raises(DamagedError):
        is_equal(cache, state)


def test_a_full_disk_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, budget = os.write, 0

    def write(fd: int, data: bytes) -> int:
        nonlocal budget
        if budget <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(fd, data[:budget])
        budget -= count
        return count

    monkeypatch.setattr(disk_cache.os, "write", write)
    for room in (0, 10, 5000, 20_000, 1_000_000):
        budget = room
        cache = DiskCache(tmp_path, IDENTITY, ROOMY)
        assert save(cache, 150) is None
        assert not cache.states
        assert not files(tmp_path, ".partial")
        assert not files(tmp_path, ".state")
    budget = 1 << 30
    state = save(cache, 150)
    assert state is not None
    assert is_equal(cache, state)


def test_the_quota_holds_and_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, IDENTITY, 6_000_000)
    kept = save(cache, 70, seed=1)
    assert kept is not None
    for seed in range(2, 9):
        assert is_equal(cache, kept, seed=1)
        save(cache, 70, seed=seed)
        assert cache.num_bytes() <= 6_000_000
        past = time.time() - 100 + seed
        for path in files(tmp_path):
            if path.stem != kept.name:
                os.utime(path, (past, past))
    assert kept.name in cache.states
    assert is_equal(cache, kept, seed=1)
    assert 1 < len(cache.states) < 7
    pages = {name for state in cache.states.values() for name in state.page_names}
    assert {path.stem for path in files(tmp_path, ".page")} == pages
    assert DiskCache(tmp_path, IDENTITY, 1000).save(keys_of(70, 99), [], *content(70, 99)) is None


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from state.test_disk_cache import DiskCache, IDENTITY, save
cache = DiskCache(Path({folder!r}), IDENTITY, 40_000_000)
print("ready", flush=True)
for turn in range({first}, {first} + 1000):
    save(cache, 60 + turn % 7 * 50, seed=turn % 5)
    print("saved", flush=True)
    for state in list(cache.states.values())[:-3]:
        cache.forget(state)
"""


def test_a_killed_process_leaves_complete_states_or_none(tmp_path: Path) -> None:
    num_kills = int(os.environ.get("LOQAL_KILLS", "8"))  # a few here, hundreds by hand
    dice = random.Random(num_kills)
    num_found = 0
    for kill in range(num_kills):
        code = WRITER.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), first=kill * 3)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(1 + dice.randrange(1, 12)):  # it is ready, and has written so many
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)  # while it writes the next
        process.wait()
        process.stdout.close()
        cache = DiskCache(tmp_path, IDENTITY, ROOMY)
        assert not files(tmp_path, ".partial")
        for state in list(cache.states.values()):
            seed = next(seed for seed in range(5) if np.array_equal(state.keys, keys_of(state.length, seed)))
            try:
                assert is_equal(cache, state, seed)
                num_found += 1
            except DamagedError as error:  # its pages went before it did: a clean miss
                assert "No such file" in str(error)
    assert num_found > num_kills / 2
