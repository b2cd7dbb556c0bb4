"""GGUF files as they are written: the official library reads them, and types survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.weights.gguf import read_header
from loqal.weights.gguf_writer import encode_value, header_bytes, write_file
from loqal.weights.source import OutTensor

VALUES = (
    st.text(max_size=9)
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(width=32, allow_nan=False)
    | st.lists(st.text(max_size=5), max_size=4)
)
TENSORS = [
    OutTensor("a", "F32", (2, 3), np.arange(6, dtype="<f4").tobytes()),
    OutTensor("ä", "Q8_0", (32,), bytes(range(34))),
    OutTensor("c", "F16", (1, 2, 3), lambda: np.arange(6, dtype="<f2").view(np.uint8)),
]


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=6), VALUES, max_size=5), st.sampled_from([32, 64, 8]))
def test_metadata_survive(metadata: dict[str, Any], alignment: int) -> None:
    metadata.pop("general.alignment", None)
    data = header_bytes(metadata, [], alignment)
    assert len(data) % alignment == 0
    found = dict(read_header(memoryview(data), "x").metadata)
    assert found.pop("general.alignment", 32) == alignment
    assert {key: list(value) if isinstance(metadata[key], list) else value for key, value in found.items()} == metadata


def test_numbers_take_the_first_type_that_holds_them() -> None:
    kinds = {0: 4, 2**32 - 1: 4, 2**32: 10, -1: 5, -(2**31): 5, -(2**31) - 1: 11, 2**64 - 1: 10}
    for value, kind in kinds.items():
        assert encode_value(value)[0] == kind, value
    assert encode_value(True) == b"\x07\0\0\0\x01"
    assert encode_value(1.5)[0] == 6
    assert encode_value(np.float64(1.5))[0] == 12 and encode_value(np.int8(1))[0] == 1
    assert encode_value(np.arange(3, dtype=">i4")) == encode_value(np.arange(3, dtype="<i4"))


@pytest.mark.parametrize("value", [None, object(), 2**64, -(2**63) - 1, np.zeros(2, np.complex64), {"a": 1}])
def test_values_without_a_type(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_value(value)


@pytest.mark.parametrize("alignment", [32, 64])
def test_the_official_library_reads_it(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "m.gguf"
    write_file(path, {"general.name": "n", "x": np.arange(3)}, TENSORS, alignment=alignment)
    reader = gguf.GGUFReader(path)
    assert [tensor.name for tensor in reader.tensors] == ["a", "ä", "c"]
    for tensor, ours in zip(reader.tensors, TENSORS, strict=True):
        assert tensor.data_offset % alignment == 0
        assert tuple(reversed(tensor.shape.tolist())) == ours.shape
        assert tensor.data.tobytes() == bytes(ours.bytes_of(tensor.n_bytes))
    assert {file.name for file in tmp_path.iterdir()} == {"m.gguf"}
    header = path.read_bytes()[: reader.tensors[0].data_offset]
    assert header == header_bytes({"general.name": "n", "x": np.arange(3)}, TENSORS, alignment)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"old")
    broken = [TENSORS[0], OutTensor("b", "F32", (2, 3), b"too short")]
    with pytest.raises(ValueError, match="b"):
        write_file(path, {}, broken)
    assert path.read_bytes() == b"old" and {file.name for file in tmp_path.iterdir()} == {"m.gguf"}


def test_a_tensor_is_made_when_its_turn_comes(tmp_path: Path) -> None:
    made: list[int] = []

    def data(index: int) -> bytes:
        assert made == list(range(index))
        made.append(index)
        return bytes(4)

    tensors = [OutTensor(str(i), "F32", (1,), lambda i=i: data(i)) for i in range(3)]  # type: ignore[misc]
    write_file(tmp_path / "m.gguf", {}, tensors)
    assert made == [0, 1, 2]
