"""A file that is continued where it stopped, however it stopped, and comes out the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loqal.quantize.resumable import write_resumable
from loqal.weights.gguf_writer import write_file
from loqal.weights.source import OutTensor

METADATA = {"general.name": "x", "a.number": 5}
SHAPES = [(3, 7), (32,), (5,), (4, 4)]


class StoppedError(Exception):
    """Stands for whatever ends a process."""


class Job:
    """Writes a file and notes what was made and reported."""

    def __init__(self, folder: Path, *, stops_at: int | None = None, order: str = "o", shapes: Any = SHAPES) -> None:
        self.path, self.order, self.stops_at = folder / "m.gguf", order, stops_at
        self.made: list[int] = []
        self.progress: list[tuple[int, int]] = []
        self.tensors = [OutTensor(f"t{i}", "F32", shape, self._data(i, shape)) for i, shape in enumerate(shapes)]

    def _data(self, index: int, shape: tuple[int, ...]) -> Callable[[], bytes]:
        def make() -> bytes:
            if index == self.stops_at:
                raise StoppedError
            self.made.append(index)
            return np.full(shape, index + 1, "<f4").tobytes()

        return make

    def write(self) -> list[tuple[str, dict[str, Any]]]:
        done = write_resumable(
            self.path,
            METADATA,
            self.tensors,
            lambda name: {"note": name * 2},
            lambda count, size: self.progress.append((count, size)),
            self.order,
        )
        return [(entry.name, entry.notes) for entry in done]


NOTES = [(f"t{i}", {"note": f"t{i}t{i}"}) for i in range(4)]


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The file as the plain writer makes it."""
    path = tmp_path / "whole.gguf"
    write_file(path, METADATA, Job(tmp_path).tensors)
    return path.read_bytes() + bytes(-path.stat().st_size % 32)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_without_a_break(tmp_path: Path, whole: bytes) -> None:
    job = Job(tmp_path)
    assert job.write() == NOTES
    assert job.path.read_bytes() == whole
    assert [count for count, _ in job.progress] == [0, 1, 2, 3, 4]
    assert job.progress[-1][1] == len(whole)
    assert files(tmp_path) == {"m.gguf", "whole.gguf"}


@pytest.mark.parametrize("stops_at", range(4))
def test_after_a_break(tmp_path: Path, whole: bytes, stops_at: int) -> None:
    with pytest.raises(StoppedError):
        Job(tmp_path, stops_at=stops_at).write()
    assert not (tmp_path / "m.gguf").exists()
    job = Job(tmp_path)
    assert job.write() == NOTES
    assert job.path.read_bytes() == whole
    assert job.made == list(range(stops_at, 4)) and job.progress[0][0] == stops_at


def half_written(folder: Path) -> None:
    with (folder / "m.gguf.partial").open("ab") as file:
        file.write(b"half of a tensor")


def old_journal(folder: Path) -> None:
    (folder / "m.gguf.journal.new").write_text("{")


@pytest.mark.parametrize("accident", [half_written, old_journal])
def test_bytes_beyond_the_journal_are_written_again(
    tmp_path: Path, whole: bytes, accident: Callable[[Path], None]
) -> None:
    with pytest.raises(StoppedError):
        Job(tmp_path, stops_at=2).write()
    accident(tmp_path)
    job = Job(tmp_path)
    assert job.write() == NOTES and job.made == [2, 3]
    assert job.path.read_bytes() == whole


def broken_journal(folder: Path) -> None:
    (folder / "m.gguf.journal").write_text('{"order": "o", "done": 5}')


def no_journal(folder: Path) -> None:
    (folder / "m.gguf.journal").unlink()


def broken_header(folder: Path) -> None:
    path = folder / "m.gguf.partial"
    path.write_bytes(b"x" + path.read_bytes()[1:])


def no_file(folder: Path) -> None:
    (folder / "m.gguf.partial").unlink()


@pytest.mark.parametrize("accident", [broken_journal, no_journal, broken_header, no_file])
def test_what_cannot_be_trusted_is_begun_again(tmp_path: Path, whole: bytes, accident: Callable[[Path], None]) -> None:
    with pytest.raises(StoppedError):
        Job(tmp_path, stops_at=2).write()
    accident(tmp_path)
    job = Job(tmp_path)
    assert job.write() == NOTES and job.made == [0, 1, 2, 3]
    assert job.path.read_bytes() == whole
    assert files(tmp_path) == {"m.gguf", "whole.gguf"}


@pytest.mark.parametrize("other", [{"order": "another"}, {"shapes": [(3, 8), *SHAPES[1:]]}])
def test_another_order_begins_again(tmp_path: Path, other: dict[str, Any]) -> None:
    with pytest.raises(StoppedError):
        Job(tmp_path, stops_at=2).write()
    job = Job(tmp_path, **other)
    job.write()
    assert job.made == [0, 1, 2, 3]
