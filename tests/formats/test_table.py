"""The format table, compared with the ``gguf`` package."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from loqal import formats
from loqal.errors import FormatError, UnsupportedError
from loqal.formats.loss import loss


def test_ids_and_sizes_equal_ggufs() -> None:
    for name, entry in formats.FORMATS.items():
        kind = gguf.GGMLQuantizationType[name]
        assert entry.ggml_type == int(kind)
        assert (entry.block_len, entry.block_bytes) == gguf.GGML_QUANT_SIZES[kind]
        assert formats.GGML_TYPES[entry.ggml_type] == name == entry.name


def test_every_type_of_gguf_is_read_or_named_as_refused() -> None:
    for kind in gguf.GGMLQuantizationType:
        names = [table[int(kind)] for table in (formats.GGML_TYPES, formats.REFUSED_GGML_TYPES) if int(kind) in table]
        assert names == [kind.name]


def test_num_bytes_counts_whole_blocks() -> None:
    assert formats.num_bytes("Q4_K", (3, 512)) == 3 * 2 * 144
    assert formats.num_bytes("Q8_0", (2, 3, 64)) == 2 * 3 * 2 * 34
    assert formats.num_bytes("BF16", (5,)) == 10
    assert formats.num_bytes("F32", ()) == 4
    assert formats.num_bytes("Q6_K", (0, 256)) == 0


def test_num_bytes_refuses_partial_blocks_and_unknown_formats() -> None:
    with pytest.raises(FormatError, match="Rows must be a multiple of 32 values, these have 48"):
        formats.num_bytes("Q8_0", (2, 48))
    with pytest.raises(UnsupportedError, match="stored as TQ1_0"):
        formats.num_bytes("TQ1_0", (1, 256))


def test_records_are_complete() -> None:
    for entry in formats.FORMATS.values():
        assert (entry.read_floats is None, entry.unpack is None) == (not entry.is_float, entry.is_float)
        assert (entry.write_scales is None) == entry.is_float
        assert entry.name in formats.ENCODABLE or entry.encode is None


@pytest.mark.parametrize("name", formats.ENCODABLE)
def test_typical_losses_are_those_of_normal_values(name: str) -> None:
    values = np.random.default_rng(0).standard_normal((64, 1024)).astype(np.float32)
    lost = loss(values, formats.decode(name, formats.encode(name, values), values.shape)).plain
    typical = formats.FORMATS[name].typical_loss
    assert lost <= typical and (lost >= typical / 3 or name == "F32")
