"""Dry-run backend for memory accounting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loqal.formats.tensor import Tensor
from loqal.ops.interface import FloatArray, Ops
from loqal.ops.records import Layer

_LINE, _SMALL_PAGE, _HUGE_PAGE, _CHUNK = 64, 4 << 10, 2 << 20, 64 << 20


class CountingOps:
    """Counts the bytes of weights as another backend would store them, without storing any.

    Only the constructors of ``Ops`` that building a model calls are here; ``hollow`` tensors are enough for them.
    """

    def __init__(self, backend: Ops) -> None:
        self._backend = backend
        self._room = self._used = 0  # of the newest chunk
        self.num_bytes = 0

    def pack_weight(self, tensor: Tensor, *, float_inputs: bool = False) -> Any:
        """See Ops. Weights lie in chunks (Arena in cpp/base/memory.cpp) whose last huge page is taken whole."""
        size = _rounded(self._backend.weight_bytes(tensor.format, tensor.shape, float_inputs=float_inputs), _LINE)
        if self._used + size > self._room:
            self._room, self._used = max(_CHUNK, _rounded(size, _HUGE_PAGE)), 0
        before = _rounded(self._used, _HUGE_PAGE)
        self._used += size
        self.num_bytes += _rounded(self._used, _HUGE_PAGE) - before

    def put_layers(self, layers: Sequence[Layer]) -> Any:
        """See Ops. Their weights are counted already."""

    def put_vector(self, tensor: Tensor) -> FloatArray:
        """See Ops."""
        self.num_bytes += 4 * int(np.prod(tensor.shape))
        return np.broadcast_to(np.float32(0), tensor.shape)


class BlockCount:
    """Predicts the size of the block pool for results (BlockPool in cpp/base/memory.cpp)."""

    def __init__(self) -> None:
        self._kept: list[int] = []

    @property
    def num_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(self._kept)

    def use(self, sizes: Sequence[int]) -> None:
        """Allocate blocks of these sizes at the same time, and free them."""
        taken = []
        for wanted in sizes:
            size = _rounded(wanted + _LINE, _SMALL_PAGE)
            fits = [kept for kept in self._kept if size <= kept <= 2 * size]
            smaller = [kept for kept in self._kept if size // 2 <= kept < size]
            if fits or smaller:
                self._kept.remove(min(fits) if fits else max(smaller))
            taken.append(min(fits) if fits else size)
        self._kept += taken


def _rounded(num_bytes: int, unit: int) -> int:
    return -(-num_bytes // unit) * unit


def hollow(name: str, format: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor without data."""
    return Tensor(name, format, shape, np.empty(0, np.uint8), "planned")
