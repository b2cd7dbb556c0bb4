"""Downloads against a hub that fails in every way it can: they end in a verified file or in a state to resume from."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import hub_puller
from hub_emulator import COMMIT, TOKEN, Emulator, Faults, Repo, etag_of
from hub_puller import POLICY, file_bytes
from loqal.errors import CapacityError, CheckpointError, RequestError
from loqal.hub import cache, provenance
from loqal.hub.names import Wanted
from loqal.hub.pull import pull, select

RUNS = int(os.environ.get("LOQAL_FAULT_RUNS", "50"))
REPO = "maker/model-GGUF"
PART = POLICY.part_bytes


def content(seed: int, size: int = 300_001) -> bytes:
    return random.Random(seed).randbytes(size)


def hub_of(data: bytes, faults: Faults | None = None, *, repo: str = REPO, bytes_per_s: float = 0.0) -> Emulator:
    return Emulator({repo: Repo({"model-Q4_K_M.gguf": data})}, faults, bytes_per_s=bytes_per_s)


def fetch(monkeypatch: pytest.MonkeyPatch, hub: Emulator, repo: str = REPO) -> Path:
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    return pull(select(Wanted(repo, repo=repo), 1 << 40, lambda: 10.0, file_bytes), policy=POLICY)


def leftovers(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*.loqal-*")]


def test_a_pull_leaves_what_the_hubs_own_tools_expect(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(1)
    with hub_of(data) as hub:
        path = fetch(monkeypatch, hub)
        assert path == home / "hub/models--maker--model-GGUF/snapshots" / COMMIT / "model-Q4_K_M.gguf"
        assert path.read_bytes() == data
        assert path.is_symlink() and path.resolve().name == etag_of(data)
        assert (home / "hub/models--maker--model-GGUF/refs/main").read_text() == COMMIT
        assert hub.twice() == 0 and not leftovers(home)
        kept = provenance.find(etag_of(data))
        assert kept is not None and kept.licence == "apache-2.0" and COMMIT in kept.origin
        sent = len(hub.requests)
        fetch(monkeypatch, hub)
        assert [request[1].startswith("/api/") for request in hub.requests[sent:]] == [True]  # nothing is fetched twice
    huggingface_hub = pytest.importorskip("huggingface_hub")
    found = huggingface_hub.try_to_load_from_cache(REPO, "model-Q4_K_M.gguf", cache_dir=home / "hub")
    assert Path(found) == path


@pytest.mark.parametrize("block", range(10))
def test_faults_end_in_a_verified_file(home: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    for seed in range(block * RUNS // 10, (block + 1) * RUNS // 10):
        data = content(seed, 150_000 + seed)
        kinds = ("drop", "truncate", "shift", "whole", "429", "503")
        repo = f"maker/model-{seed}"
        with hub_of(data, Faults(seed, 0.5, kinds), repo=repo) as hub:
            assert fetch(monkeypatch, hub, repo).read_bytes() == data
            # A server that sends another range, or all, sends what nobody can use; all else arrives once and is kept.
            wrong, whole = hub.faults.drawn.count("shift"), hub.faults.drawn.count("whole")
            assert hub.twice() <= wrong * PART + whole * len(data), (seed, hub.faults.drawn)
        assert not leftovers(home)


@pytest.mark.parametrize("seed", range(10))
def test_flipped_bytes_are_found_and_only_parts_replaced(
    home: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    data = content(seed)
    with hub_of(data, Faults(seed, 0.3, ("flip",), budget=2)) as hub:
        assert fetch(monkeypatch, hub).read_bytes() == data
        # Nothing tells which part it was: at worst each is compared once, and those that differ once more.
        assert hub.twice() <= len(data) + 2 * PART


@pytest.mark.parametrize("damaged", [0, 5, 9])
def test_a_damaged_part_costs_itself_and_the_parts_before_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, damaged: int
) -> None:
    data = content(damaged)
    with hub_of(data) as hub:
        hub.flip_once(etag_of(data), damaged * PART + 5)
        assert fetch(monkeypatch, hub).read_bytes() == data
        assert hub.twice() == min((damaged + 1) * PART, len(data))


def test_a_server_whose_copy_is_damaged_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(3)
    with hub_of(data) as hub:
        hub.blobs[etag_of(data)] = data[:1000] + b"x" + data[1001:]
        with pytest.raises(CheckpointError, match="not what the hub declares"):
            fetch(monkeypatch, hub)
    assert not leftovers(home)


def test_a_server_that_stays_down_leaves_a_state_to_resume(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(4)
    with hub_of(data, Faults(4, 0.6, ("503", "drop"), budget=10_000)) as hub:
        hub.faults.share = 0.3
        done = 0
        while not done:
            try:
                done = len(fetch(monkeypatch, hub).read_bytes())
            except CheckpointError as error:
                assert "continues" in error.fix
        assert hub.twice() == 0
    assert done == len(data)


@pytest.mark.parametrize("block", range(5))
def test_killed_at_random_points(home: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rng = random.Random(block)
    environment = dict(os.environ)
    kills = 0
    while kills < RUNS // 5:
        data = content(rng.getrandbits(32), 400_000)
        repo = f"maker/model-{kills}"
        with hub_of(data, Faults(kills, 0.1, ("drop", "503")), repo=repo, bytes_per_s=6e6) as hub:
            environment["HF_ENDPOINT"] = hub.address
            command = [sys.executable, str(Path(hub_puller.__file__))]
            with subprocess.Popen(command, stdin=-1, stdout=-1, env=environment, text=True) as nursery:
                assert nursery.stdin and nursery.stdout
                killed_here = 0
                while True:
                    nursery.stdin.write(repo + "\n")
                    nursery.stdin.flush()
                    child = int(nursery.stdout.readline())
                    if killed_here < 12:
                        time.sleep(rng.uniform(0.0, 0.1))
                        os.kill(child, signal.SIGKILL)
                    code = int(nursery.stdout.readline())
                    if code == 0:
                        break
                    assert code == -signal.SIGKILL
                    killed_here += 1
                nursery.stdin.close()
            kills += max(1, killed_here)
            path = cache.snapshot_path(repo, COMMIT, "model-Q4_K_M.gguf")
            assert path.read_bytes() == data
            # A killed process loses at most what its connections were sending: the rest of one part each.
            assert hub.twice() <= killed_here * POLICY.connections * PART
        assert not leftovers(home)


def test_several_pulls_at_once_fetch_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(5)
    with hub_of(data, bytes_per_s=3e6) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        found: list[Path] = []
        pulls = [threading.Thread(target=lambda: found.append(fetch(monkeypatch, hub))) for _ in range(4)]
        for thread in pulls:
            thread.start()
        for thread in pulls:
            thread.join()
        assert len(found) == 4 and found[0].read_bytes() == data
        assert hub.twice() == 0


def test_a_gated_repository_needs_a_token_and_its_bytes_do_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(6)
    with Emulator({REPO: Repo({"model-Q4_K_M.gguf": data}, gated=True)}) as hub:
        with pytest.raises(CheckpointError, match="accepted its terms"):
            fetch(monkeypatch, hub)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert fetch(monkeypatch, hub).read_bytes() == data
        shown = [headers for _, path, headers in hub.requests if path.startswith("/cdn/")]
        assert shown and not any("Authorization" in headers for headers in shown)


def test_what_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_of(content(7)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        with pytest.raises(CheckpointError, match="does not have nobody/nothing"):
            select(Wanted("x", repo="nobody/nothing"), 1 << 40, lambda: 10.0, file_bytes)
        with pytest.raises(CheckpointError, match="no such revision"):
            select(Wanted("x", repo=REPO, revision="v2"), 1 << 40, lambda: 10.0, file_bytes)
        with pytest.raises(CheckpointError, match="has no Q8_0"):
            select(Wanted("x", repo=REPO, quant="Q8_0"), 1 << 40, lambda: 10.0, file_bytes)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="cannot be reached"):
        select(Wanted("x", repo=REPO), 1 << 40, lambda: 10.0, file_bytes)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RequestError, match="switched off"):
        select(Wanted("x", repo=REPO), 1 << 40, lambda: 10.0, file_bytes)


def test_a_disk_that_is_too_small_is_noticed_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_of(content(8)) as hub:
        monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((1, 1)) and _Usage(1 << 20))
        with pytest.raises(CapacityError, match="GB more"):
            fetch(monkeypatch, hub)
        assert hub.twice() == 0 and not any(path.startswith("/cdn/") for _, path, _ in hub.requests)


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_disk_that_fills_up_leaves_a_state_to_resume(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(9)
    room = [120_000]
    real = os.pwrite

    def pwrite(file: int, view: memoryview, at: int) -> int:
        room[0] -= len(view)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, view, at)

    with hub_of(data) as hub:
        monkeypatch.setattr("os.pwrite", pwrite)
        with pytest.raises(CapacityError, match="disk was full"):
            fetch(monkeypatch, hub)
        monkeypatch.setattr("os.pwrite", real)
        assert fetch(monkeypatch, hub).read_bytes() == data
        assert hub.twice() <= POLICY.connections * PART


def test_an_interrupt_keeps_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(10)
    with hub_of(data, bytes_per_s=2e6) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        selection = select(Wanted(REPO, repo=REPO), 1 << 40, lambda: 10.0, file_bytes)

        def interrupt(file: object, done: int) -> None:
            if done > 100_000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pull(selection, policy=POLICY, progress=interrupt)
        assert leftovers(home)
        assert pull(selection, policy=POLICY).read_bytes() == data
        assert hub.twice() <= POLICY.connections * PART


def test_names_that_lead_out_of_the_cache_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("../../evil.gguf", "/evil.gguf", "a/../../evil.gguf"):
        with (
            Emulator({REPO: Repo({name: content(11)})}) as hub,
            pytest.raises(CheckpointError, match="leads out"),
        ):
            fetch(monkeypatch, hub)
