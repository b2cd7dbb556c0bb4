"""What a checkpoint hands to the model: named tensors over mapped bytes."""

from __future__ import annotations

from ..quant.tensor import Tensor

__all__ = ["Tensor"]
