"""The synthetic checkpoints of published sizes, on a tiny size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.errors import UnsupportedError
from loqal.formats import decode
from loqal.system import hardware
from loqal.testing import checkpoints
from loqal.weights.load import open_checkpoint


@pytest.fixture
def tiny_size(monkeypatch: pytest.MonkeyPatch) -> str:
    config = checkpoints.tiny_config(width=256, ffn_width=512, vocab_size=512, num_draft_layers=1)
    monkeypatch.setitem(checkpoints.SIZES, "tiny", config)
    return "tiny"


def test_a_recipe_mixes_formats(tiny_size: str, tmp_path: Path) -> None:
    path = checkpoints.write_synthetic(tmp_path / "tiny.gguf", tiny_size, "Q4_K_M")
    checkpoint = open_checkpoint(path)
    formats = {name: checkpoint.tensors.format(name) for name in checkpoint.tensors}
    assert formats["embed"] == "Q6_K"
    assert formats["layers.0.mlp.gate"] == "Q4_K"
    assert {formats[f"layers.{layer}.mlp.down"] for layer in range(4)} == {"Q4_K", "Q6_K"}
    assert formats["layers.0.input_norm"] == "F32"
    assert checkpoint.config.num_draft_layers == 0
    checkpoint.close()


def test_the_placeholder_vocabulary_can_be_read(tiny_size: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_gguf(
        open_checkpoint(checkpoints.write_synthetic(tmp_path / "tiny.gguf", tiny_size, "Q8_0")).metadata
    )
    assert tokenizer.decode(tokenizer.encode_text("abcd Hello!")) == "abcd Hello!"
    assert tokenizer.encode_text("ab") == [262]


@pytest.mark.parametrize("format", ["Q8_0", "BF16", "F32"])
def test_a_format_for_all_matrices(tiny_size: str, tmp_path: Path, format: str) -> None:
    checkpoint = open_checkpoint(checkpoints.write_synthetic(tmp_path / "tiny.gguf", tiny_size, format, draft=True))
    assert checkpoint.config.num_draft_layers == 1
    tensor = checkpoint.tensors["layers.1.mlp.up"]
    assert tensor.format == format
    values = decode(tensor.format, tensor.data, tensor.shape)
    assert np.std(values) == pytest.approx(256**-0.5, rel=0.1)
    del tensor
    checkpoint.close()


def test_the_same_seed_makes_the_same_file(tiny_size: str, tmp_path: Path) -> None:
    one, two, other = (
        checkpoints.write_synthetic(tmp_path / folder / "tiny.gguf", tiny_size, "Q4_K_M", seed=seed)
        for folder, seed in (("1", 0), ("2", 0), ("3", 1))
    )
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_an_unknown_format_is_refused_before_anything_is_written(tiny_size: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError):
        checkpoints.write_synthetic(tmp_path / "tiny.gguf", tiny_size, "Q4_K_X")
    assert not list(tmp_path.iterdir())


def test_the_machine_has_a_name_and_memory() -> None:
    assert hardware.cpu_model()
    assert hardware.largest_cache_bytes() >= 0
    assert hardware.available_memory_bytes() is None or hardware.available_memory_bytes() > 0  # type: ignore[operator]


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_CPU_INFO", "_MEMORY_INFO", "_CACHES"):
        monkeypatch.setattr(hardware, name, tmp_path / "absent")
    assert hardware.cpu_model()
    assert hardware.largest_cache_bytes() == 0
    assert hardware.available_memory_bytes() is None
