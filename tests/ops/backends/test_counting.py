"""A backend that only counts, and blocks that are used again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loqal.ops.backends.counting import BlockCount, CountingOps, hollow
from loqal.ops.backends.reference import ReferenceOps

MIB = 1 << 20


class Sizes(ReferenceOps):
    """Weights take as many bytes as their first axis says."""

    def weight_bytes(self, format: str, shape: tuple[int, ...], *, float_inputs: bool = False) -> int:
        return shape[0] * (2 if float_inputs else 1)


def counted(*sizes: int) -> int:
    ops = CountingOps(Sizes())
    for size in sizes:
        ops.pack_weight(hollow("x", "F32", (size, 1)))
    return ops.num_bytes


def test_weights_lie_in_huge_pages() -> None:
    assert counted() == 0
    assert counted(1) == 2 * MIB
    assert counted(1, 1, MIB) == 2 * MIB
    assert counted(2 * MIB) == 2 * MIB and counted(2 * MIB, 1) == 4 * MIB
    assert counted(2 * MIB - 63, 1) == 4 * MIB  # a weight begins at a multiple of 64
    assert counted(63 * MIB, 2 * MIB) == 66 * MIB  # the second no longer fits the chunk
    assert counted(100 * MIB, 1) == 102 * MIB


@given(st.lists(st.integers(1, 80 * MIB), max_size=6))
def test_never_less_than_the_weights(sizes: list[int]) -> None:
    assert sum(sizes) <= counted(*sizes) <= sum(sizes) + len(sizes) * (2 * MIB + 64)


def test_float_inputs_and_vectors_count_too() -> None:
    ops = CountingOps(Sizes())
    ops.pack_weight(hollow("x", "F32", (2 * MIB, 1)), float_inputs=True)
    ops.put_layers([])
    assert ops.num_bytes == 4 * MIB
    vector = ops.put_vector(hollow("y", "BF16", (3, 5)))
    assert ops.num_bytes == 4 * MIB + 60 and vector.shape == (3, 5) and vector.dtype == np.float32


def test_blocks_are_used_again() -> None:
    blocks = BlockCount()
    blocks.use([10_000, 10_000])
    assert blocks.num_bytes == 2 * 12_288
    blocks.use([10_000, 9_000, 7_000])
    assert blocks.num_bytes == 2 * 12_288 + 8_192
    blocks.use([100_000])
    before = blocks.num_bytes
    blocks.use([60_000])  # fits one that is at most twice as large
    assert blocks.num_bytes == before
    blocks.use([20_000])
    assert blocks.num_bytes > before


def test_a_smaller_block_is_replaced() -> None:
    blocks = BlockCount()
    blocks.use([10_000])
    blocks.use([20_000])
    assert blocks.num_bytes == 20_480
    blocks.use([100_000])
    assert blocks.num_bytes == 20_480 + 102_400
