"""The cache that the hub's tools share: where files lie, and names that must not lead elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, try_to_load_from_cache

from loqal.errors import CheckpointError
from loqal.hub import cache

REPO, COMMIT, ETAG = "owner/name-with-dashes", "c" * 40, "e" * 64


def stored(home: Path, etag: str = ETAG, content: bytes = b"data") -> Path:
    blob = cache.blob_path(REPO, etag)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    return blob


def test_the_hubs_own_tools_find_what_was_published(home: Path) -> None:
    stored(home)
    shown = cache.publish(REPO, COMMIT, "folder/file.gguf", ETAG, "main")
    assert shown.read_bytes() == b"data" and shown.is_symlink() and not os.path.isabs(shown.readlink())
    assert try_to_load_from_cache(REPO, "folder/file.gguf", cache_dir=home / "hub") == str(shown)
    info = scan_cache_dir(home / "hub")
    assert [repo.repo_id for repo in info.repos] == [REPO] and not info.warnings
    assert cache.etag_of(shown) == ETAG
    assert cache.repo_of(cache.repo_folder(REPO)) == REPO


def test_publishing_again_follows_the_branch(home: Path) -> None:
    stored(home)
    cache.publish(REPO, COMMIT, "file", ETAG, "main")
    second = "d" * 40
    newer = cache.publish(REPO, second, "file", ETAG, "main")
    assert cache.publish(REPO, second, "file", ETAG, "main") == newer
    folder = cache.repo_folder(REPO)
    assert (folder / "refs/main").read_text() == second
    assert [path.name for path in cache.snapshots(folder)] == [second, COMMIT]
    cache.publish(REPO, COMMIT, "other", ETAG, COMMIT)  # a commit is no branch
    assert [path.name for path in (folder / "refs").iterdir()] == ["main"]


def test_a_link_to_a_blob_that_is_gone_is_renewed(home: Path) -> None:
    stored(home).unlink()
    shown = cache.snapshot_path(REPO, COMMIT, "file")
    shown.parent.mkdir(parents=True)
    shown.symlink_to("../../blobs/gone")
    stored(home)
    assert cache.publish(REPO, COMMIT, "file", ETAG, "main").read_bytes() == b"data"


def test_where_there_are_no_links_the_name_gets_the_bytes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    blob = stored(home)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    shown = cache.publish(REPO, COMMIT, "file", ETAG, "main")
    assert shown.read_bytes() == b"data" and not shown.is_symlink() and not blob.exists()
    assert cache.etag_of(shown) is None


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x", "a/.."])
def test_names_that_lead_out_of_the_folder(home: Path, path: str) -> None:
    with pytest.raises(CheckpointError):
        cache.snapshot_path(REPO, COMMIT, path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a b", "ä", "a\0"])
def test_names_that_are_none(home: Path, name: str) -> None:
    with pytest.raises(CheckpointError):
        cache.blob_path(REPO, name)
    if name not in (".", ".."):
        with pytest.raises(CheckpointError):
            cache.snapshot_path(REPO, name, "file")


@pytest.mark.parametrize("revision", ["a/b", "../../x", ""])
def test_odd_revisions_are_not_noted(home: Path, revision: str) -> None:
    stored(home)
    cache.publish(REPO, COMMIT, "file", ETAG, revision)
    assert not (cache.repo_folder(REPO) / "refs").exists()


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    for name in ("datasets--a--b", "models--", "models", "x"):
        assert cache.repo_of(tmp_path / name) is None
    assert cache.repo_of(tmp_path / "models--gpt2") == "gpt2"
