"""The record of a weight format: everything loqal knows about it outside the kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from loqal.formats.blocks import Bytes, Floats, Unpacked, as_half


@dataclass(frozen=True, slots=True)
class HalfScales:
    """Where a block keeps its float16 scale and minimum; called, it fills both at random for synthetic weights.

    ``minimum_ratio`` times the scale is the minimum that centres random codes on zero.
    """

    scale_at: int
    minimum_at: int | None = None
    minimum_ratio: float = 0.0

    def __call__(self, blocks: Bytes, scale: float, rng: np.random.Generator) -> None:
        """Write scales of about ``scale`` into random blocks [N, block_bytes], of either sign without a minimum."""
        spread = random_scales(len(blocks), scale, rng)
        if self.minimum_at is None:
            spread *= np.where(blocks[:, -1:] & 1, np.float32(1), np.float32(-1))
        else:
            blocks[:, self.minimum_at : self.minimum_at + 2] = as_half(spread * np.float32(self.minimum_ratio))
        blocks[:, self.scale_at : self.scale_at + 2] = as_half(spread)


def random_scales(count: int, scale: float, rng: np.random.Generator) -> Floats:
    """Scales within a quarter of ``scale``, float32 [count, 1]."""
    return rng.uniform(0.75, 1.25, (count, 1)).astype(np.float32) * np.float32(scale)


@dataclass(frozen=True, slots=True)
class Format:
    """One way to store weights: every ``block_len`` consecutive values take ``block_bytes`` bytes.

    Ids and sizes are those of the GGUF specification; the tests compare them with the ``gguf`` package.
    """

    name: str
    ggml_type: int
    block_len: int
    block_bytes: int
    typical_loss: float
    """Upper bound of the relative root mean square error of storing normally distributed values.

    An error of more than twice this bound means damage or another model, not rounding.
    """
    unpack: Callable[[Bytes], Unpacked] | None = None
    """Blocks to codes, scales and offsets; None for the plain float formats."""
    read_floats: Callable[[Bytes], Floats] | None = None
    """Bytes to values; None for the quantized formats."""
    encode: Callable[[Floats], Bytes] | None = None
    """Values [N, block_len] to blocks; None for formats that loqal only reads."""
    write_scales: Callable[[Bytes, float, np.random.Generator], None] | None = None
    """Writes scales of about a number into random blocks, for synthetic weights; None for the plain float formats."""

    @property
    def is_float(self) -> bool:
        """True for the plain float formats, whose block is a single value."""
        return self.block_len == 1
