"""The table of weight formats: one row each. The records stand in the files of their families."""

from __future__ import annotations

import math

from loqal.errors import FormatError, UnsupportedError
from loqal.formats import floats, i_quants, k_quants, legacy, tables
from loqal.formats.format import Format

_ALL = (
    floats.F32,
    floats.F16,
    floats.BF16,
    legacy.Q4_0,
    legacy.Q4_1,
    legacy.Q5_0,
    legacy.Q5_1,
    legacy.Q8_0,
    k_quants.Q2_K,
    k_quants.Q3_K,
    k_quants.Q4_K,
    k_quants.Q5_K,
    k_quants.Q6_K,
    i_quants.IQ1_S,
    i_quants.IQ1_M,
    i_quants.IQ2_XXS,
    i_quants.IQ2_XS,
    i_quants.IQ2_S,
    i_quants.IQ3_XXS,
    i_quants.IQ3_S,
    tables.IQ4_NL,
    tables.IQ4_XS,
    tables.MXFP4,
)

FORMATS: dict[str, Format] = {entry.name: entry for entry in _ALL}
"""Every format loqal reads, by name."""

GGML_TYPES: dict[int, str] = {entry.ggml_type: entry.name for entry in _ALL}
"""Names of the readable formats by the type id a GGUF file stores."""

ENCODABLE: tuple[str, ...] = tuple(entry.name for entry in _ALL if entry.encode)
"""The formats that ``codec.encode`` can write."""

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
