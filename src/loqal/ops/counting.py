"""A backend that only counts: what would a model take, if it were loaded?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..quant.tensor import Tensor
from .interface import FloatArray, Ops


class CountingOps:
    """Takes weights as another backend would and keeps nothing but their bytes.

    Only the constructors of ``Ops`` that building a model calls are here; ``hollow`` tensors are enough for them.
    """

    def __init__(self, backend: Ops) -> None:
        self._backend = backend
        self.num_bytes = 0

    def put_weight(self, tensor: Tensor, *, float_inputs: bool = False) -> Any:
        """See Ops."""
        self.num_bytes += self._backend.weight_bytes(tensor.format, tensor.shape, float_inputs=float_inputs)

    def put_vector(self, tensor: Tensor) -> FloatArray:
        """See Ops."""
        self.num_bytes += 4 * int(np.prod(tensor.shape))
        return np.broadcast_to(np.float32(0), tensor.shape)


def hollow(name: str, format: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor without data."""
    return Tensor(name, format, shape, np.empty(0, np.uint8), "planned")
