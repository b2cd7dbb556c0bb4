"""Digests of whole files: any change of any of them, or of where one ends, is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from loqal.system.file_digest import files_digest


def digest(folder: Path, *contents: bytes) -> str:
    paths = [folder / str(index) for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return files_digest(paths)


def test_what_changes_a_digest(tmp_path: Path) -> None:
    plain = digest(tmp_path, b"abc", b"def")
    assert digest(tmp_path, b"abc", b"def") == plain
    for contents in (
        (b"abc", b"dex"),
        (b"def", b"abc"),
        (b"abcd", b"ef"),
        (b"abcdef",),
        (b"abc", b"def", b""),
        (b"abc",),
    ):
        assert digest(tmp_path, *contents) != plain
    large = bytes(range(256)) * (1 << 15)
    assert digest(tmp_path, large) != digest(tmp_path, large[:-1] + b"x")
    assert len(plain) == 64


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        files_digest([tmp_path / "missing"])
