"""Packed weights on disk: used when they fit their source, ignored otherwise, never half written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from loqal.formats import random_blocks
from loqal.formats.tensor import Tensor
from loqal.ops import packed_file
from loqal.ops.backends.cpu import CpuOps


def tensors(seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    wanted = [("a", "Q4_K", (40, 512)), ("b", "F32", (17, 64)), ("c", "IQ3_S", (16, 256)), ("d", "Q8_0", (2, 20, 64))]
    return [Tensor(name, kind, shape, random_blocks(kind, shape, rng).reshape(-1), "") for name, kind, shape in wanted]


def products(ops: CpuOps) -> list[np.ndarray]:
    found = []
    for tensor in tensors():
        x = np.linspace(-1, 1, 2 * tensor.shape[-1], dtype=np.float32).reshape(2, -1)
        found.append(ops.linear(x, (ops.pack_weight(tensor, float_inputs=tensor.name == "d"),))[0])
    ops.finish_loading()
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"the source" * 1000)
    return path


def test_second_start_maps_the_same_bits(source: Path) -> None:
    keep = (source.with_name("model.gguf.packed"), [source])
    first = products(CpuOps(threads=1, keep_packed=keep))
    assert packed_file.open_packed(*keep) is not None
    assert [p.name for p in source.parent.iterdir() if "partial" in p.name] == []
    written = keep[0].stat().st_mtime_ns
    second = products(CpuOps(threads=1, keep_packed=keep))
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left, right)
    assert keep[0].stat().st_mtime_ns == written, "a file that fits is not written again"


def test_a_touched_source_is_compared_by_its_bytes(source: Path) -> None:
    keep = (source.with_name("p"), [source])
    products(CpuOps(threads=1, keep_packed=keep))
    os.utime(source, ns=(1, 1))
    assert packed_file.open_packed(*keep) is not None
    source.write_bytes(b"the Source" * 1000)
    os.utime(source, ns=(2, 2))
    assert packed_file.open_packed(*keep) is None


def test_damaged_files_are_ignored_and_replaced(source: Path) -> None:
    keep = (source.with_name("p"), [source])
    expected = products(CpuOps(threads=1, keep_packed=keep))
    whole = keep[0].read_bytes()
    rng = np.random.default_rng(1)
    header = len(whole[:4096].rstrip(b"\0"))
    damaged = [b"", whole[:10], whole[:-1], whole + b"x", whole[4096:]]
    for position in rng.integers(0, header, 100):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    for data in damaged:
        keep[0].write_bytes(data)
        found = packed_file.open_packed(*keep)
        assert found is None or data[:header] == whole[:header], "only the padding may differ unseen"
    keep[0].write_bytes(whole[:-1])
    for left, right in zip(expected, products(CpuOps(threads=1, keep_packed=keep)), strict=True):
        assert np.array_equal(left, right)
    assert keep[0].read_bytes() == whole
