"""The table of weight formats: names, ggml type ids, and how many bytes a block takes.

Ids and sizes are those of the GGUF specification; the tests compare them with the ``gguf`` package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from loqal.errors import FormatError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Format:
    """One way to store weights: every ``block_len`` consecutive values take ``block_bytes`` bytes."""

    name: str
    ggml_type: int
    block_len: int
    block_bytes: int

    @property
    def is_float(self) -> bool:
        """True for the plain float formats, whose block is a single value."""
        return self.block_len == 1


_ALL = (
    Format("F32", 0, 1, 4),
    Format("F16", 1, 1, 2),
    Format("BF16", 30, 1, 2),
    Format("Q4_0", 2, 32, 18),
    Format("Q4_1", 3, 32, 20),
    Format("Q5_0", 6, 32, 22),
    Format("Q5_1", 7, 32, 24),
    Format("Q8_0", 8, 32, 34),
    Format("Q2_K", 10, 256, 84),
    Format("Q3_K", 11, 256, 110),
    Format("Q4_K", 12, 256, 144),
    Format("Q5_K", 13, 256, 176),
    Format("Q6_K", 14, 256, 210),
    Format("IQ1_S", 19, 256, 50),
    Format("IQ1_M", 29, 256, 56),
    Format("IQ2_XXS", 16, 256, 66),
    Format("IQ2_XS", 17, 256, 74),
    Format("IQ2_S", 22, 256, 82),
    Format("IQ3_XXS", 18, 256, 98),
    Format("IQ3_S", 21, 256, 110),
    Format("IQ4_NL", 20, 32, 18),
    Format("IQ4_XS", 23, 256, 136),
    Format("MXFP4", 39, 32, 17),
)

FORMATS: dict[str, Format] = {entry.name: entry for entry in _ALL}
"""Every format loqal reads, by name."""

GGML_TYPES: dict[int, str] = {entry.ggml_type: entry.name for entry in _ALL}
"""Names of the readable formats by the type id a GGUF file stores."""

REFUSED_GGML_TYPES: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    9: "Q8_1",
    15: "Q8_K",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    34: "TQ1_0",
    35: "TQ2_0",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
    40: "NVFP4",
    41: "Q1_0",
    42: "Q2_0",
}
"""Type ids that exist, or once existed, but that loqal does not read. Only for naming them in error messages."""


def find_format(name: str) -> Format:
    """Return the format called ``name``.

    Raises:
        UnsupportedError: there is no such format, or loqal does not read it.
    """
    if name not in FORMATS:
        raise UnsupportedError(
            f"Weights are stored as {name}.",
            f"loqal reads {', '.join(FORMATS)}.",
            "Use a checkpoint stored in one of these formats.",
        )
    return FORMATS[name]


def num_bytes(format: str, shape: tuple[int, ...]) -> int:
    """Return the size in bytes of a tensor of ``shape`` (rows first; the last axis is cut into blocks).

    Raises:
        UnsupportedError: ``format`` is not a key of ``FORMATS``.
        FormatError: the last axis is not a whole number of blocks.
    """
    entry = find_format(format)
    row_len = shape[-1] if shape else 1
    if row_len % entry.block_len:
        raise FormatError(
            f"A tensor of shape {shape} cannot be stored as {entry.name}.",
            f"Rows must be a multiple of {entry.block_len} values, these have {row_len}.",
            "Store it in a format with shorter blocks; if it came in a file, download or convert that again.",
        )
    return math.prod(shape) // entry.block_len * entry.block_bytes
