"""A file mapped into memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from loqal.errors import CheckpointError, FormatError
from loqal.weights.mapped import MappedFile, unreadable

DATA = np.random.default_rng(0).integers(0, 256, 3 * mmap.PAGESIZE + 7, np.uint8).tobytes()


@pytest.fixture
def file(tmp_path: Path) -> MappedFile:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return MappedFile(path)


def test_bytes_of_a_range(file: MappedFile) -> None:
    assert file.size_bytes == len(DATA) and bytes(file.view) == DATA
    found = file.array(5, 10)
    assert found.tobytes() == DATA[5:15]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


@pytest.mark.parametrize(
    ("offset", "size"), [(0, len(DATA)), (1, mmap.PAGESIZE), (mmap.PAGESIZE, mmap.PAGESIZE), (0, 0), (7, 3)]
)
def test_what_was_released_comes_back(file: MappedFile, offset: int, size: int) -> None:
    view = file.array(0, len(DATA))
    file.release(offset, size)
    assert view.tobytes() == DATA


def test_views_outlive_the_mapping(file: MappedFile) -> None:
    view = file.array(100, 50)
    file.close()
    file.close()
    assert view.tobytes() == DATA[100:150]


def test_files_that_cannot_be_mapped(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with pytest.raises(FormatError, match="empty"):
        MappedFile(empty)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CheckpointError, match=str(path)):
            MappedFile(path)
    assert isinstance(unreadable(empty, OSError("words of the system")), CheckpointError)
    assert "words of the system" in str(unreadable(empty, OSError("words of the system")))
