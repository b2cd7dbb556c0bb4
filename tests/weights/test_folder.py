"""Which files make up a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loqal.errors import CheckpointError, FormatError
from loqal.weights import folder


def touch(where: Path, *names: str) -> list[Path]:
    for name in names:
        (where / name).write_bytes(b"x")
    return [where / name for name in names]


def index(where: Path, weight_map: Any, name: str = "model.safetensors.index.json") -> Path:
    (where / name).write_text(json.dumps({"weight_map": weight_map}))
    return where / name


PARTS = [f"m-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def test_all_parts_from_any(tmp_path: Path) -> None:
    paths = touch(tmp_path, *PARTS)
    touch(tmp_path, "m-00001-of-00002.safetensors")
    for path in paths:
        assert folder.parts(path, 3) == paths
    for path, count in ((paths[0], 2), (tmp_path / "m.safetensors", 3)):
        with pytest.raises(FormatError):
            folder.parts(path, count)
    paths[1].unlink()
    with pytest.raises(FormatError, match=PARTS[1]):
        folder.parts(paths[0], 3)


def test_one_file_and_parts_without_an_index(tmp_path: Path) -> None:
    (path,) = touch(tmp_path, "a.safetensors")
    assert folder.safetensors_files(path) == folder.safetensors_files(tmp_path) == ([path], {})
    path.unlink()
    paths = touch(tmp_path, *PARTS)
    assert folder.safetensors_files(tmp_path) == folder.safetensors_files(paths[2]) == (paths, {})


def test_an_index_says_which_files_belong_together(tmp_path: Path) -> None:
    paths = touch(tmp_path, "a.safetensors", "b.safetensors")
    touch(tmp_path, "other.safetensors")
    weight_map = {"x": "b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}
    index(tmp_path, weight_map)
    assert folder.safetensors_files(tmp_path) == folder.safetensors_files(paths[1]) == (paths, weight_map)
    other = tmp_path / "other.safetensors"
    assert folder.safetensors_files(other) == ([other], {})  # it was named, and is in no index
    paths[1].unlink()
    with pytest.raises(FormatError, match=r"b\.safetensors"):
        folder.safetensors_files(tmp_path)


def test_two_models_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.safetensors", "b.safetensors")
    with pytest.raises(CheckpointError, match=r"a\.safetensors[\s\S]*b\.safetensors"):
        folder.safetensors_files(tmp_path)
    for name in ("a", "b"):
        index(tmp_path, {"x": f"{name}.safetensors"}, f"{name}.safetensors.index.json")
    with pytest.raises(CheckpointError):
        folder.safetensors_files(tmp_path)
    assert folder.safetensors_files(tmp_path / "b.safetensors")[0] == [tmp_path / "b.safetensors"]


@pytest.mark.parametrize(
    "weight_map", [None, {}, [], {"x": 5}, {"x": "a.bin"}, {"x": "../a.safetensors"}, {"x": "/a.safetensors"}]
)
def test_an_index_that_is_none(tmp_path: Path, weight_map: Any) -> None:
    touch(tmp_path, "a.safetensors")
    index(tmp_path, weight_map)
    with pytest.raises(FormatError):
        folder.safetensors_files(tmp_path)


def test_small_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": "ä"}', encoding="utf-8")
    assert folder.read_json(path) == {"a": "ä"}
    size = path.stat().st_size
    assert len(folder.read_bytes(path, size)) == size
    with pytest.raises(FormatError, match=str(size)):
        folder.read_bytes(path, size - 1)
    for data in (b"[]", b"{", b"\xff", b'"x"', b"[" * 100_000):
        path.write_bytes(data)
        with pytest.raises(FormatError):
            folder.read_json(path)
    for missing in (tmp_path / "none.json", tmp_path / "none" / "x"):
        with pytest.raises(CheckpointError):
            folder.read_json(missing)
    with pytest.raises(CheckpointError):
        folder.list_files(tmp_path / "none", ".json")
