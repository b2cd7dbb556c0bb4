"""Encoding: equal to the ``gguf`` package where that can encode, and within error bounds everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from loqal import formats
from loqal.errors import FormatError, TensorError, UnsupportedError

Floats = npt.NDArray[np.float32]

ENCODED_BY_GGUF = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"]

# How far decoded values may be from the encoded ones. First the root mean square error relative to that of normal
# values; ggml's own encoders reach Q2_K 0.297, Q3_K 0.151, Q4_K 0.0714, Q5_K 0.0361, Q6_K 0.0177 and IQ4_NL 0.0761.
# Second the largest error of any value, relative to the largest value of its block.
ERROR_BOUNDS = {
    "F32": (0.0, 0.0),
    "F16": (2**-12, 2**-11),
    "BF16": (2**-9, 2**-8),
    "Q8_0": (0.006, 0.0043),
    "Q4_0": (0.09, 0.126),
    "Q4_1": (0.08, 0.068),
    "Q5_0": (0.045, 0.063),
    "Q5_1": (0.04, 0.034),
    "Q2_K": (0.285, 0.4),
    "Q3_K": (0.148, 0.25),
    "Q4_K": (0.0725, 0.12),
    "Q5_K": (0.0363, 0.07),
    "Q6_K": (0.0177, 0.03),
    "IQ4_NL": (0.077, 0.15),
    "MXFP4": (0.12, 0.25),
}


def values_of(kind: str) -> Floats:
    rng = np.random.default_rng(11)
    shape = (16, 1024)
    makers: dict[str, Callable[[], npt.NDArray[Any]]] = {
        "normal": lambda: rng.standard_normal(shape) * 0.02,
        "ties": lambda: rng.integers(-255, 256, shape) / 2,
        "heavy": lambda: rng.standard_t(3, shape),
        "positive": lambda: rng.random(shape) + 0.5,
        "tiny": lambda: rng.standard_normal(shape) * 1e-30,
        "subnormal": lambda: rng.standard_normal(shape) * 1e-39,
        "constant": lambda: np.full(shape, -0.7),
        "zero": lambda: np.zeros(shape),
        "one": lambda: np.eye(*shape) * 3,
        "large": lambda: rng.choice([-65504.0, 65504.0, 1.0], shape),
    }
    return makers[kind]().astype(np.float32)


KINDS = ["normal", "ties", "heavy", "positive", "tiny", "subnormal", "constant", "zero", "one", "large"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "subnormal"])
@pytest.mark.parametrize("name", ENCODED_BY_GGUF)
def test_encodes_like_gguf(name: str, kind: str) -> None:
    values = values_of(kind)
    with np.errstate(all="ignore"):
        expected = gguf.quantize(values, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(-1)
    np.testing.assert_array_equal(formats.encode(name, values), expected)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_floats_encode_every_value_like_gguf(name: str) -> None:
    bits = np.random.default_rng(12).integers(0, 2**32, (64, 1024), np.uint32)
    bits[0, :8] = [0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x7F808000, 0x3F808000, 0x3F818000, 0x00000001, 0x80000000]
    values = bits.view(np.float32)
    if name != "BF16":
        values = np.where(np.isnan(values), np.float32(np.nan), values)
    with np.errstate(all="ignore"):
        expected = gguf.quantize(values, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(-1)
    np.testing.assert_array_equal(formats.encode(name, values), expected)


@pytest.mark.parametrize("name", formats.ENCODABLE)
def test_error_on_normal_values(name: str) -> None:
    values = np.random.default_rng(13).standard_normal((64, 1024)).astype(np.float32)
    error = formats.decode(name, formats.encode(name, values), values.shape) - values
    assert np.sqrt(np.mean(error**2)) <= ERROR_BOUNDS[name][0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", formats.ENCODABLE)
def test_largest_error_on_awkward_values(name: str, kind: str) -> None:
    values = values_of(kind)
    decoded = formats.decode(name, formats.encode(name, values), values.shape)
    assert np.isfinite(decoded).all()
    block_len = formats.FORMATS[name].block_len
    largest = np.abs(values).reshape(-1, block_len).max(axis=1, keepdims=True)
    error = np.abs(decoded - values).reshape(-1, block_len)
    # Near zero the finest number is the limit: for all but F32 and BF16 a scale as small as a float16 can be.
    finest = {"F32": 0.0, "BF16": 2.0**-133}.get(name, 128 * 2.0**-24)
    assert (error <= ERROR_BOUNDS[name][1] * largest + finest).all()


@pytest.mark.parametrize("name", formats.ENCODABLE)
def test_zeros_stay_zeros(name: str) -> None:
    values = np.zeros((2, 256), np.float32)
    np.testing.assert_array_equal(formats.decode(name, formats.encode(name, values), values.shape), values)


@pytest.mark.parametrize(("name", "codes"), [("Q2_K", 4), ("Q3_K", 8), ("Q4_K", 16), ("Q5_K", 32), ("Q6_K", 64)])
def test_values_on_the_grid_are_nearly_kept(name: str, codes: int) -> None:
    """Values that are exactly scale times code, with one scale for all, need no search to be found."""
    whole = np.random.default_rng(14).integers(-codes // 2, codes // 2, (4, 256))
    whole[:, ::16] = -codes // 2
    whole[:, 1::16] = codes // 2 - 1
    values = whole.astype(np.float32)
    decoded = formats.decode(name, formats.encode(name, values), values.shape)
    np.testing.assert_allclose(decoded, values, atol=0.02 * codes)


@pytest.mark.parametrize("name", formats.ENCODABLE)
def test_rows_are_encoded_independently(name: str) -> None:
    values = values_of("heavy")
    whole = formats.encode(name, values).reshape(len(values), -1)
    np.testing.assert_array_equal(formats.encode(name, values[3:5]).reshape(2, -1), whole[3:5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e6])
def test_quantized_formats_refuse_what_they_cannot_hold(bad: float) -> None:
    values = np.zeros((1, 256), np.float32)
    values[0, 5] = bad
    with pytest.raises(TensorError, match="cannot be stored as Q4_K"):
        formats.encode("Q4_K", values)
    assert formats.encode("BF16", values).size == 512


def test_refuses_formats_it_cannot_write_and_partial_blocks() -> None:
    with pytest.raises(UnsupportedError, match="loqal cannot write IQ2_S"):
        formats.encode("IQ2_S", np.zeros((1, 256), np.float32))
    with pytest.raises(FormatError, match="multiple of 256 values, these have 128"):
        formats.encode("Q4_K", np.zeros((1, 128), np.float32))


@pytest.mark.parametrize("name", formats.FORMATS)
def test_random_blocks_are_finite_centred_and_of_the_wanted_size(name: str) -> None:
    shape = (256, 2048)
    data = formats.random_blocks(name, shape, np.random.default_rng(15), std=0.02)
    values = formats.decode(name, data, shape)
    assert np.isfinite(values).all()
    assert abs(values.mean()) < 0.001
    factor = 1.5 if name == "MXFP4" else 1.06
    assert 0.02 / factor < values.std() < 0.02 * factor
    again = formats.random_blocks(name, shape, np.random.default_rng(15), std=0.02)
    np.testing.assert_array_equal(data, again)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_random_blocks_differ_along_the_tensor(name: str) -> None:
    shape = (4096, 1024)
    rows = formats.random_blocks(name, shape, np.random.default_rng(16)).reshape(shape[0], -1)
    assert len({row.tobytes() for row in rows[::64]}) == 64
