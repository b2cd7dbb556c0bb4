"""What the readers of both file formats hand to the loader, and the loader to the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loqal.formats.tensor import Tensor

__all__ = ["OutTensor", "StoredTensor", "Tensor"]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header of a file describes it: nothing but numbers that were checked against the file's size."""

    name: str  # the file's own name for it
    format: str  # the file's own name for its type
    shape: tuple[int, ...]  # rows first
    offset: int  # of its first byte in the file
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OutTensor:
    """A tensor to write. ``data`` is its bytes, or makes them when their turn comes, so that a large model streams."""

    name: str
    format: str  # a key of formats.FORMATS
    shape: tuple[int, ...]  # rows first
    data: npt.NDArray[np.uint8] | bytes | Callable[[], npt.NDArray[np.uint8] | bytes]

    def bytes_of(self, size_bytes: int) -> memoryview:
        """The bytes, which must be ``size_bytes`` many."""
        made = self.data() if callable(self.data) else self.data
        data = memoryview(made) if isinstance(made, bytes) else made.reshape(-1).data
        if len(data) != size_bytes:
            raise ValueError(f"{self.name}: {len(data)} bytes, {self.format} {self.shape} takes {size_bytes}")
        return data
