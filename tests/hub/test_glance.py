"""What the first metadata of a file say, whatever the file is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loqal.hub.glance import HeaderSummary, projector_order, read_summary
from loqal.model.sizes import SIZES
from loqal.weights import gguf_writer

SHAPE = {"qwen35.embedding_length": SIZES["2B"].width, "qwen35.block_count": len(SIZES["2B"].layers)}


def summary(folder: Path, metadata: dict[str, Any]) -> HeaderSummary | None:
    gguf_writer.write_file(folder / "file.gguf", metadata, [])
    return read_summary(folder / "file.gguf")


def test_the_header_says_what_a_file_is(tmp_path: Path) -> None:
    tower = summary(tmp_path, {"general.architecture": "clip"})
    assert tower is not None and tower.is_projector and not tower.is_model
    model = summary(tmp_path, {"general.architecture": "qwen35", **SHAPE, "tokenizer.ggml.tokens": ["a", "b"]})
    assert model == HeaderSummary("qwen35", "2B", "model", is_projector=False)
    odd = summary(tmp_path, {"general.architecture": "qwen35", **SHAPE, "qwen35.nextn_predict_layers": 1})
    assert odd is not None and odd.size is None


@pytest.mark.parametrize(("label", "size"), [("4B", "4B"), ("1.9B", "2B")])
def test_the_size_is_the_stated_one_or_that_of_the_shape(tmp_path: Path, label: str, size: str) -> None:
    found = summary(tmp_path, {"general.architecture": "qwen35", "general.size_label": label, **SHAPE})
    assert found is not None and found.size == size


def test_what_is_not_a_readable_header_is_nothing(tmp_path: Path) -> None:
    for data in (b"", b"GGUF", b"text", gguf_writer.header_bytes({"a": 1}, [])[:30]):
        (tmp_path / "file.gguf").write_bytes(data)
        assert read_summary(tmp_path / "file.gguf") is None
    assert read_summary(tmp_path / "absent.gguf") is None and read_summary(tmp_path) is None


def test_of_several_towers_the_most_exact_small_one_comes_first() -> None:
    names = ["mmproj-F32.gguf", "mmproj.gguf", "mmproj-BF16.gguf", "mmproj-f16.gguf"]
    assert sorted(names, key=projector_order)[:3] == ["mmproj-f16.gguf", "mmproj-BF16.gguf", "mmproj-F32.gguf"]
