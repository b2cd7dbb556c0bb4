"""Block formats: what the bytes of a stored weight mean."""

from __future__ import annotations

from loqal.formats.codec import RUN_LEN, decode, encode, to_int8
from loqal.formats.format import Format
from loqal.formats.i_quants import codebook
from loqal.formats.synthetic import random_blocks
from loqal.formats.table import ENCODABLE, FORMATS, GGML_TYPES, REFUSED_GGML_TYPES, find_format, num_bytes

__all__ = [
    "ENCODABLE",
    "FORMATS",
    "GGML_TYPES",
    "REFUSED_GGML_TYPES",
    "RUN_LEN",
    "Format",
    "codebook",
    "decode",
    "encode",
    "find_format",
    "num_bytes",
    "random_blocks",
    "to_int8",
]
