"""Numbers that Python and the kernels must agree on, each written down on either side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loqal import formats
from loqal.model.sizes import SIZES
from loqal.ops import _kernels, interface
from loqal.ops.backends import counting
from loqal.state import state_sizes


@pytest.mark.parametrize("name", ["PAGE_TOKENS", "KV_BLOCK", "JOURNAL_ROWS", "VISION_SPAN", "RUN_INPUTS"])
def test_the_kernels_cut_as_the_interface_says(name: str) -> None:
    assert getattr(interface, name) == getattr(_kernels, name)


def test_the_count_of_memory_rounds_as_the_allocators_do() -> None:
    ours = counting._LINE, counting._SMALL_PAGE, counting._HUGE_PAGE, counting._CHUNK
    theirs = (
        _kernels.ALIGNMENT_BYTES,
        _kernels.BLOCK_UNIT_BYTES,
        _kernels.HUGE_PAGE_BYTES,
        _kernels.ARENA_CHUNK_BYTES,
    )
    assert ours == theirs
    assert state_sizes._HUGE_PAGE_BYTES == _kernels.HUGE_PAGE_BYTES


@pytest.mark.parametrize("size", SIZES)
def test_a_journal_row_is_as_long_as_planned(size: str) -> None:
    one_layer = replace(SIZES[size], layers=("delta",))
    floats = _kernels.journal_row_floats(one_layer.num_key_heads, one_layer.num_value_heads)
    assert state_sizes.journal_bytes(one_layer) == 4 * floats


@pytest.mark.parametrize("size", SIZES)
def test_the_kernels_are_written_for_the_heads_of_the_family(size: str) -> None:
    config = SIZES[size]
    assert config.key_dim == config.value_dim == _kernels.DELTA_HEAD_DIM
    assert config.conv_width == _kernels.CONV_WIDTH


def test_every_packed_format_is_one_that_files_have() -> None:
    packed = _kernels.packed_formats()
    assert len(set(packed)) == len(packed) > 0
    assert set(packed) <= set(formats.FORMATS)
    others = set(formats.FORMATS) - set(packed)
    assert all(formats.codebook(name) is not None for name in others)  # those are decoded to int8 panels
