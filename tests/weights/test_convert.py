"""From what a file stores to what the model expects: what moves, what is computed, and what cannot be done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.errors import UnsupportedError
from loqal.formats import decode, encode
from loqal.model.tensor_names import Conversion, Entry, Option
from loqal.testing.checkpoints import tiny_config
from loqal.weights import convert
from loqal.weights.source import StoredTensor

CONFIG = tiny_config(num_key_heads=2, num_value_heads=6)
KEYS, VALUES = CONFIG.num_key_heads, CONFIG.num_value_heads


def entry(shape: tuple[int, ...], *, f32: bool = False) -> Entry:
    return Entry("x", "x", "x", "x", shape, "plain", "trunk", f32, shape)  # type: ignore[arg-type]


def option(conversion: Conversion, shape: tuple[int, ...]) -> Option:
    return Option(conversion, ("there",), shape)


def planned(*formats: str, conversion: Conversion = "plain", f32: bool = False) -> str:
    sources = [StoredTensor("there", one, (4, 32), 0, 0) for one in formats]
    return convert.choose_conversion(entry((4, 32), f32=f32), option(conversion, (4, 32)), sources, "file")


def converted(conversion: Conversion, *arrays: np.ndarray, format: str = "F32", f32: bool = False) -> np.ndarray:
    """The values that come out, of arrays stored in a format."""
    sources = [(format, encode(format, array.astype(np.float32))) for array in arrays]
    out = "F32" if f32 else format
    data = convert.apply(entry((), f32=f32), option(conversion, arrays[0].shape), sources, out, CONFIG)
    assert data.dtype == np.uint8 and not data.flags.writeable
    return data.view("<f4") if out == "F32" else decode(out, data, (data.size // 2,))


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_what_it_will_be_stored_in() -> None:
    for format in ("F32", "F16", "BF16", "Q4_K"):
        assert planned(format) == planned(format, format) == format
    for format in ("F32", "F16", "BF16"):
        assert planned(format, f32=True) == "F32"
        assert planned(format, conversion="tile_columns") == format
    assert planned("F16", "BF16") == "F32"
    assert planned("Q4_K", conversion="tile_rows") == "Q4_K"


@pytest.mark.parametrize(
    ("formats", "conversion", "f32"),
    [
        (("I8",), "plain", False),
        (("F32", "NVFP4"), "plain", False),
        (("Q4_K",), "plain", True),
        (("Q4_K", "Q5_K"), "stack", False),
        (("F16", "Q4_K"), "stack", False),
        (("Q4_K",), "plus_one", False),
        (("Q4_K",), "decay", False),
        (("Q4_K",), "tile_columns", False),
        (("Q4_K",), "join_temporal", False),
    ],
)
def test_what_cannot_be_done(formats: tuple[str, ...], conversion: Conversion, f32: bool) -> None:
    with pytest.raises(UnsupportedError):
        planned(*formats, conversion=conversion, f32=f32)


def test_bytes_that_need_not_move_are_not_copied() -> None:
    data = encode("Q8_0", numbers(4, 32))
    found = convert.apply(entry((4, 32)), option("plain", (4, 32)), [("Q8_0", data)], "Q8_0", CONFIG)
    assert found is data


@pytest.mark.parametrize("format", ["F16", "BF16"])
def test_short_floats_become_float32_exactly(format: str) -> None:
    values = decode(format, encode(format, np.linspace(-5, 5, 64, dtype=np.float32)), (64,))
    assert np.array_equal(converted("plain", values, format=format, f32=True), values)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1))
def test_grouping_undoes_tiling(key_heads: int, copies: int, width: int, axis: int) -> None:
    heads = key_heads * copies
    shape = (heads * width, 3) if axis == 0 else (3, heads * width)
    values = numbers(*shape)
    tiled = convert.tile_heads(values, axis, key_heads, heads)
    assert np.array_equal(convert.group_heads(tiled, axis, key_heads, heads), values)
    # Head (key, copy) of the grouped order is head (copy, key) of the tiled one.
    by_head = np.moveaxis(values, axis, 0).reshape(key_heads, copies, width, 3)
    expected = by_head.transpose(1, 0, 2, 3).reshape(heads * width, 3)
    assert np.array_equal(np.moveaxis(tiled, axis, 0), expected)


ORDER = [0, 3, 1, 4, 2, 5]  # six value heads for two key heads


def test_conversions_of_value_heads() -> None:
    rows = numbers(VALUES, 2)
    assert np.array_equal(converted("tile_rows", rows).reshape(VALUES, 2), rows[ORDER])
    assert np.array_equal(converted("tile_columns", rows.T.copy()).reshape(2, VALUES), rows.T[:, ORDER])
    assert converted("decay", numbers(VALUES)) == pytest.approx(-np.exp(numbers(VALUES)[ORDER]), rel=1e-6)
    start = 2 * KEYS * CONFIG.key_dim
    qkv = numbers(start + VALUES * CONFIG.value_dim, 1)
    found = converted("tile_qkv", qkv).reshape(qkv.shape)
    assert np.array_equal(found[:start], qkv[:start])
    heads = qkv[start:].reshape(VALUES, CONFIG.value_dim)
    assert np.array_equal(found[start:].reshape(heads.shape), heads[ORDER])


def test_the_other_conversions() -> None:
    assert np.array_equal(converted("plus_one", numbers(5)), numbers(5) + 1)
    experts = numbers(2, 6, 3)
    assert np.array_equal(converted("split_gate", experts), experts[:, :3].reshape(-1))
    assert np.array_equal(converted("split_up", experts), experts[:, 3:].reshape(-1))
    a, b = numbers(2, 3), numbers(2, 3) + 100
    assert np.array_equal(converted("stack", a, b).reshape(2, 2, 3), np.stack([a, b]))
    assert np.array_equal(converted("concat_rows", a, b).reshape(4, 3), np.concatenate([a, b]))
    first, second = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5) + 1000
    joined = converted("join_temporal", first, second).reshape(2, 3, 2, 4, 5)
    assert np.array_equal(joined[:, :, 0], first) and np.array_equal(joined[:, :, 1], second)


def test_a_fused_weight_is_taken_apart_without_rest() -> None:
    heads = np.array([2 * CONFIG.num_heads, CONFIG.num_kv_heads, CONFIG.num_kv_heads])
    fused = numbers(int(heads.sum()) * CONFIG.head_dim, 2)
    parts = [converted(name, fused).reshape(-1, 2) for name in ("fused_query", "fused_key", "fused_value")]
    assert [len(part) for part in parts] == (heads * CONFIG.head_dim).tolist()
    assert np.array_equal(np.concatenate(parts), fused)


def test_quantized_rows_move_as_blocks() -> None:
    values = np.random.default_rng(0).normal(0, 1, (VALUES, 32)).astype(np.float32)
    data = encode("Q8_0", values)
    found = convert.apply(entry(()), option("tile_rows", (VALUES, 32)), [("Q8_0", data)], "Q8_0", CONFIG)
    assert np.array_equal(found.reshape(VALUES, -1), data.reshape(VALUES, -1)[ORDER])


def test_a_hostile_decay_is_infinite() -> None:
    assert np.isneginf(converted("decay", np.full(VALUES, 1e4))).all()
