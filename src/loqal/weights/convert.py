"""The named conversions from what a file stores to what the model expects.

A conversion moves rows or columns without looking at the numbers where it can, so BF16 stays BF16 and quantized blocks
stay as they are; only tensors marked F32 in the table are computed with. ``plan`` decides and checks from the headers
alone, ``apply`` touches the data. ``export.py`` has the inverse directions, for writing checkpoints.

Grouped and tiled: with r value heads for each of k key heads, safetensors order them (key head, copy), GGUF (copy,
key head).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loqal.errors import UnsupportedError
from loqal.formats.table import FORMATS
from loqal.model.config import ModelConfig
from loqal.model.tensor_names import Conversion, Entry, Option
from loqal.weights.source import StoredTensor

Cells = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_FLOATS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}

# Conversions that compute with the values or take single columns out of a row.
_NEEDS_FLOATS: frozenset[Conversion] = frozenset({"plus_one", "decay", "tile_columns", "join_temporal"})


def choose_conversion(entry: Entry, option: Option, sources: Sequence[StoredTensor], origin: str) -> str:
    """Decide from the headers in which format the converted tensor will be.

    Raises:
        UnsupportedError: the conversion cannot be done on the format of the file.
    """
    formats = {source.format for source in sources}
    names = " and ".join(sorted(formats))
    if not formats <= FORMATS.keys():
        raise UnsupportedError(
            f"{origin}: {sources[0].name} is stored as {names}.",
            f"loqal reads {', '.join(FORMATS)}.",
            "Use a checkpoint stored in one of these formats.",
        )
    floats = formats <= _FLOATS.keys()
    if not floats and (entry.f32 or len(formats) > 1 or option.conversion in _NEEDS_FLOATS):
        raise UnsupportedError(
            f"{origin}: {sources[0].name} is stored as {names}.",
            "This tensor must be stored as F32, F16 or BF16.",
            "Convert the model again without quantizing this tensor.",
        )
    return "F32" if entry.f32 or len(formats) > 1 else formats.pop()


def apply(
    entry: Entry, option: Option, sources: Sequence[tuple[str, npt.NDArray[np.uint8]]], format: str, config: ModelConfig
) -> npt.NDArray[np.uint8]:
    """Convert the (format, bytes) of the sources, which ``choose_conversion`` accepted, to those of ``entry``.

    Returns a read-only array: a view where no byte had to move.
    """
    if option.conversion == "plain" and sources[0][0] == format:
        return sources[0][1]
    cells = [_cells(data, stored, option.shape, format) for stored, data in sources]
    converted = np.ascontiguousarray(CONVERSIONS[option.conversion](cells, config))
    data = converted.reshape(-1).view(np.uint8)
    data.flags.writeable = False
    return data


def _cells(data: npt.NDArray[np.uint8], stored: str, shape: tuple[int, ...], format: str) -> Cells:
    """The bytes as an array over ``shape``; quantized rows become rows of bytes."""
    if stored not in _FLOATS:
        layout = FORMATS[stored]
        return data.reshape(*shape[:-1], shape[-1] // layout.block_len * layout.block_bytes)
    values = data.view(_FLOATS[stored]).reshape(shape)
    return values if stored == format else to_float32(values)


def to_float32(values: Cells) -> Floats:
    """F32, F16, or BF16 (as ``uint16``) values as F32."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def tile_heads(values: Cells, axis: int, num_key_heads: int, num_value_heads: int) -> Cells:
    """Reorder the value heads along ``axis`` from grouped to tiled."""
    return _swap_heads(values, axis, num_key_heads, num_value_heads // num_key_heads)


def group_heads(values: Cells, axis: int, num_key_heads: int, num_value_heads: int) -> Cells:
    """Reorder the value heads along ``axis`` from tiled to grouped."""
    return _swap_heads(values, axis, num_value_heads // num_key_heads, num_key_heads)


def _swap_heads(values: Cells, axis: int, outer: int, inner: int) -> Cells:
    before, after = values.shape[:axis], values.shape[axis + 1 :]
    split = values.reshape(*before, outer, inner, -1, *after)
    return np.swapaxes(split, len(before), len(before) + 1).reshape(values.shape)


def behind_keys(values: Cells, config: ModelConfig, swap: Callable[..., Cells]) -> Cells:
    """Apply ``swap`` to the value rows, which follow the query and key rows."""
    start = 2 * config.num_key_heads * config.key_dim
    moved = swap(values[start:], 0, config.num_key_heads, config.num_value_heads)
    return np.concatenate([values[:start], moved])


def _tile(values: Cells, axis: int, config: ModelConfig) -> Cells:
    return tile_heads(values, axis, config.num_key_heads, config.num_value_heads)


def _decay(values: Cells, config: ModelConfig) -> Cells:
    with np.errstate(over="ignore"):  # a hostile file; an infinite decay forgets everything, which is what it asked for
        return _tile((-np.exp(values.astype(np.float64))).astype(np.float32), 0, config)


def _fused_rows(values: Cells, config: ModelConfig, part: int) -> Cells:
    bounds = np.cumsum([0, 2 * config.num_heads, config.num_kv_heads, config.num_kv_heads]) * config.head_dim
    return values[bounds[part] : bounds[part + 1]]


# Name -> function of the sources, as arrays over their shapes.
CONVERSIONS: dict[Conversion, Callable[[Sequence[Cells], ModelConfig], Cells]] = {
    "plain": lambda s, c: s[0],
    "plus_one": lambda s, c: s[0] + np.float32(1),
    "tile_qkv": lambda s, c: behind_keys(s[0], c, tile_heads),
    "tile_rows": lambda s, c: _tile(s[0], 0, c),
    "tile_columns": lambda s, c: _tile(s[0], 1, c),
    "decay": lambda s, c: _decay(s[0], c),
    "split_gate": lambda s, c: s[0][:, : s[0].shape[1] // 2],
    "split_up": lambda s, c: s[0][:, s[0].shape[1] // 2 :],
    "stack": lambda s, c: np.stack(s),
    "concat_rows": lambda s, c: np.concatenate(s),
    "fused_query": lambda s, c: _fused_rows(s[0], c, 0),
    "fused_key": lambda s, c: _fused_rows(s[0], c, 1),
    "fused_value": lambda s, c: _fused_rows(s[0], c, 2),
    "join_temporal": lambda s, c: np.stack(s, axis=2),
}
