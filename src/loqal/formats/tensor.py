"""One weight as the file stores it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight, still in the form the file stores it in.

    ``data`` is the tensor's bytes in order, usually a read-only view of the mapped file. ``shape`` is rows first, so a
    linear weight is ``(out, in)`` and stacked experts are ``(experts, out, in)``; the last axis is the one that is cut
    into quantization blocks.
    """

    name: str  # the model's name for it, see model/tensor_names.py
    format: str  # a key of formats.FORMATS, for example "BF16" or "Q4_K"
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]
    origin: str  # file and the name there, for messages
