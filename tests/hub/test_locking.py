"""One process at a time writes a blob, the hub's own tools included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from loqal.errors import CheckpointError
from loqal.hub import locking
from loqal.hub.locking import lock

REPO, ETAG = "owner/name", "e" * 64


def lock_path(home: Path) -> Path:
    return home / "hub" / ".locks" / "models--owner--name" / f"{ETAG}.lock"


def test_it_is_the_lock_that_the_hubs_tools_take(home: Path) -> None:
    script = "import sys; from filelock import FileLock; FileLock(sys.argv[1]).acquire(timeout=0)"
    command = [sys.executable, "-c", script, str(lock_path(home))]
    with lock(REPO, ETAG, "file"):
        assert subprocess.run(command, capture_output=True).returncode != 0
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_it_is_let_go_after_an_error(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock(REPO, ETAG, "file"):
        raise ZeroDivisionError
    FileLock(lock_path(home)).acquire(timeout=0)


def test_other_files_are_not_waited_for(home: Path) -> None:
    with lock(REPO, ETAG, "file"), lock(REPO, "f" * 64, "other"), lock("other/name", ETAG, "file"):
        pass


def test_who_waits_too_long_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def never(self: FileLock, timeout: float) -> None:
        waited.append(timeout)
        raise Timeout(str(lock_path(home)))

    monkeypatch.setattr(locking.FileLock, "acquire", never)
    with pytest.raises(CheckpointError), lock(REPO, ETAG, "file"):
        pytest.fail("nobody holds it")
    assert waited == [3600]
