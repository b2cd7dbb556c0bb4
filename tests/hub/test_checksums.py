"""Digests as the hub names files, against git and hashlib."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from loqal.hub import checksums

DATA = bytes(range(256)) * 5000  # more than is read at once


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def git_digest(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_a_file_and_its_digest(file: Path) -> None:
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert checksums.sha256(file) == checksums.of_bytes(DATA) == sha256
    for etag in (sha256, git_digest(DATA)):
        assert checksums.is_right(file, len(DATA), etag)
        assert not checksums.is_right(file, len(DATA) - 1, etag)
    file.write_bytes(DATA[:-1] + b"x")
    for etag in (sha256, git_digest(DATA)):
        assert not checksums.is_right(file, len(DATA), etag)


def test_small_files_are_named_as_git_names_them() -> None:
    """A known blob: `git hash-object` of "hello world" and a line end."""
    hasher = checksums.hasher("3" * 40, 12)
    assert hasher is not None
    hasher.update(b"hello world\n")
    assert hasher.hexdigest() == "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"


@pytest.mark.parametrize("etag", ["", "abc", "g" * 64, "A" * 64, "a" * 63, "a" * 41, 'W/"x"'])
def test_where_the_etag_is_no_digest_only_the_size_counts(file: Path, etag: str) -> None:
    assert checksums.hasher(etag, len(DATA)) is None
    assert checksums.is_right(file, len(DATA), etag)
    assert not checksums.is_right(file, len(DATA) + 1, etag)


def test_names_for_texts_are_short_distinct_and_plain() -> None:
    names = {checksums.text_key(text) for text in ("a", "b", "a/b", "ä", "")}
    assert len(names) == 5
    assert all(len(name) == 32 and name.isalnum() for name in names)
