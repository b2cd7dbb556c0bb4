"""Decoding: against the ``gguf`` package bit for bit, and against blocks worked out by hand."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from loqal import formats
from loqal.errors import FormatError, UnsupportedError
from loqal.formats.i_grids import grid, signs

QUANTISED = [name for name, entry in formats.FORMATS.items() if not entry.is_float]
WITH_MINIMUM = {"Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"}

# Where a block keeps its float16 fields. IQ1_M and MXFP4 have their own kind of scale.
HALVES = {
    "Q8_0": [0],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ1_S": [0],
    "IQ2_XXS": [0],
    "IQ2_XS": [0],
    "IQ2_S": [0],
    "IQ3_XXS": [0],
    "IQ3_S": [0],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
}
# Zeros, the smallest and largest subnormals, the smallest and largest normals, infinities and NaNs of both signs.
AWKWARD_HALVES = np.array(
    [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01, 0x7C01],
    np.uint16,
)


def oracle(name: str, data: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Decode with the ``gguf`` package."""
    with np.errstate(all="ignore"):
        values = gguf.dequantize(data.reshape(shape[0], -1), gguf.GGMLQuantizationType[name])
    return values.reshape(shape)


def assert_same_bits(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    """Every bit agrees, the sign of zero included; a NaN agrees with any NaN."""
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(actual.view(np.uint32)[number], expected.view(np.uint32)[number])


def random_bytes(name: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, formats.num_bytes(name, shape), np.uint8)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_decodes_random_bytes_like_gguf(name: str) -> None:
    shape = (9, 1024)
    data = random_bytes(name, shape, seed=1)
    assert_same_bits(formats.decode(name, data, shape), oracle(name, data, shape))


@pytest.mark.parametrize("name", HALVES)
def test_decodes_awkward_scales_like_gguf(name: str) -> None:
    entry = formats.FORMATS[name]
    shape = (len(AWKWARD_HALVES) ** 2, entry.block_len)
    data = random_bytes(name, shape, seed=2).reshape(shape[0], entry.block_bytes)
    pairs = np.stack(np.meshgrid(AWKWARD_HALVES, AWKWARD_HALVES), axis=-1).reshape(-1, 2)
    for at, column in zip(HALVES[name], pairs.T, strict=False):
        data[:, at : at + 2] = np.ascontiguousarray(column)[:, None].view(np.uint8)
    assert_same_bits(formats.decode(name, data.reshape(-1), shape), oracle(name, data, shape))


def test_decodes_every_scale_of_mxfp4_like_gguf() -> None:
    data = random_bytes("MXFP4", (256, 32), seed=3).reshape(256, 17)
    data[:, 0] = np.arange(256)
    assert_same_bits(formats.decode("MXFP4", data.reshape(-1), (256, 32)), oracle("MXFP4", data, (256, 32)))


def test_decodes_awkward_scales_of_iq1_m_like_gguf() -> None:
    shape = (len(AWKWARD_HALVES), 256)
    data = random_bytes("IQ1_M", shape, seed=4).reshape(shape[0], 56)
    words = data[:, 48:].view(np.uint16)
    words[:] = words & 0x0FFF | (AWKWARD_HALVES[:, None] >> np.array([0, 4, 8, 12], np.uint16) & 15) << 12
    assert_same_bits(formats.decode("IQ1_M", data.reshape(-1), shape), oracle("IQ1_M", data, shape))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_decodes_all_65536_short_floats_like_gguf(name: str) -> None:
    data = np.arange(65536, dtype=np.uint16).view(np.uint8)
    assert_same_bits(formats.decode(name, data, (1, 65536)), oracle(name, data, (1, 65536)))


@pytest.mark.parametrize("name", QUANTISED)
def test_int8_form_reproduces_decode(name: str) -> None:
    shape = (3, 4, 512)
    data = random_bytes(name, shape, seed=5)
    codes, scales, offsets = formats.to_int8(name, data, shape)
    assert (codes.dtype.name, codes.shape) == ("int8", (12, 512))
    assert (scales.dtype.name, scales.shape) == ("float32", (12, 32))
    assert (offsets is not None) == (name in WITH_MINIMUM)
    with np.errstate(over="ignore", invalid="ignore"):
        values = codes.reshape(12, 32, 16) * scales[:, :, None]
        if offsets is not None:
            values -= offsets[:, :, None]
    assert_same_bits(values.reshape(shape), formats.decode(name, data, shape))


def test_tensors_larger_than_a_slice_are_decoded_whole() -> None:
    shape = (5, 40960)  # the slices end inside a row
    data = formats.random_blocks("Q6_K", shape, np.random.default_rng(6))
    assert_same_bits(formats.decode("Q6_K", data, shape), oracle("Q6_K", data, shape))
    codes, scales, _ = formats.to_int8("Q6_K", data, shape)
    assert_same_bits((codes.reshape(5, -1, 16) * scales[:, :, None]).reshape(shape), oracle("Q6_K", data, shape))


@pytest.mark.parametrize("name", formats.FORMATS)
def test_accepts_unaligned_read_only_bytes_and_empty_tensors(name: str) -> None:
    shape = (2, 256)
    data = random_bytes(name, shape, seed=7)
    shifted = np.concatenate([np.zeros(1, np.uint8), data])[1:]
    shifted.flags.writeable = False
    values = formats.decode(name, shifted, shape)
    assert_same_bits(values, formats.decode(name, data, shape))
    assert values.flags.writeable
    assert formats.decode(name, data[:0], (0, 256)).shape == (0, 256)


def test_q8_0_by_hand() -> None:
    block = struct.pack("<e32b", 0.5, *range(-16, 16))
    expected = [0.5 * code for code in range(-16, 16)]
    assert formats.decode("Q8_0", np.frombuffer(block, np.uint8), (32,)).tolist() == expected


def test_q4_k_by_hand() -> None:
    # Runs 0-3 have scales 1, 2, 3, 4 and minima 5, 6, 7, 8; runs 4-7 scales 17, 34, 51, 63 and minima 16, 0, 63, 9.
    # The upper two bits of the latter (1, 2, 3, 3 and 1, 0, 3, 0) sit above the former.
    scales = [1 | 1 << 6, 2 | 2 << 6, 3 | 3 << 6, 4 | 3 << 6]
    minima = [5 | 1 << 6, 6, 7 | 3 << 6, 8]
    nibbles = [1 | 0 << 4, 2 | 0 << 4, 3 | 15 << 4, 15 | 9 << 4]  # 17 = 1 * 16 + 1, 34 = 2 * 16 + 2, and so on
    # Of every 32 bytes the low nibbles are one run (0, 2, 4, 6) and the high nibbles the next (1, 3, 5, 7).
    qs = [(position + low) % 16 | (15 - position % 16) << 4 for low in range(4) for position in range(32)]
    block = struct.pack("<ee", 0.25, 0.5) + bytes(scales + minima + nibbles + qs)

    expected = []
    run_scales, run_minima = [1, 2, 3, 4, 17, 34, 51, 63], [5, 6, 7, 8, 16, 0, 63, 9]
    for run in range(8):
        for position in range(32):
            code = (position + run // 2) % 16 if run % 2 == 0 else 15 - position % 16
            expected.append(0.25 * run_scales[run] * code - 0.5 * run_minima[run])
    assert formats.decode("Q4_K", np.frombuffer(block, np.uint8), (256,)).tolist() == expected


def test_q6_k_by_hand() -> None:
    # Value i has code (7 * i) mod 64, stored as four bits in ql and two in qh. Each half of the block (128 values) has
    # 64 bytes of ql, whose low nibbles are its first 64 values, and 32 bytes of qh, two bits for each run of 32.
    codes = [7 * i % 64 for i in range(256)]
    ql, qh = bytearray(128), bytearray(64)
    for i, code in enumerate(codes):
        half, within = divmod(i, 128)
        ql[64 * half + within % 64] |= (code % 16) << (4 * (within // 64))
        qh[32 * half + within % 32] |= (code // 16) << (2 * (within // 32))
    scales = [-128, 127, 0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7]
    block = bytes(ql + qh) + struct.pack("<16be", *scales, 0.125)

    expected = [0.125 * scales[i // 16] * (code - 32) for i, code in enumerate(codes)]
    assert formats.decode("Q6_K", np.frombuffer(block, np.uint8), (256,)).tolist() == expected


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"])
def test_grids_equal_ggufs(name: str) -> None:
    table = getattr(gguf.quants, name)
    table.init_grid()
    np.testing.assert_array_equal(grid("IQ1" if name == "IQ1_S" else name), table.grid[0, 0])


def test_the_seven_bit_signs_equal_ggufs() -> None:
    patterns = np.frombuffer(gguf.quants.IQ2_XXS.ksigns, np.uint8)
    np.testing.assert_array_equal(signs(7), signs(8)[patterns])


def test_refuses_a_wrong_number_of_bytes() -> None:
    with pytest.raises(FormatError, match="Its shape needs 144"):
        formats.decode("Q4_K", np.zeros(143, np.uint8), (1, 256))


def test_plain_floats_have_no_int8_form() -> None:
    with pytest.raises(UnsupportedError, match="BF16 has no int8 form"):
        formats.to_int8("BF16", np.zeros(32, np.uint8), (1, 16))
