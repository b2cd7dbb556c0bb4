"""Formats with codebooks are decoded natively to int8 panels: byte for byte what the NumPy decoders give."""

from __future__ import annotations

import numpy as np
import pytest

from loqal.formats import FORMATS, codebook, num_bytes, to_int8
from loqal.formats.tensor import Tensor
from loqal.ops import _kernels
from loqal.ops.backends.cpu import CpuOps, available_isas
from op_backends import backend_ops

FORMATS_WITH_CODEBOOKS = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
SHAPES = [(1, 256), (16, 768), (33, 4096), (3, 17, 512), (2, 32, 256)]


def expected_panels(format: str, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Panels of 16 rows: per 32 inputs two float scales of every row, then four codes of every row at a time."""
    *experts, rows, inputs = shape
    count, panels = experts[0] if experts else 1, -(-rows // 16)
    codes, scales, offsets = to_int8(format, data, shape)
    assert offsets is None
    padded = np.zeros((count, panels * 16, inputs), np.int8)
    padded[:, :rows] = codes.reshape(count, rows, inputs)
    factors = np.zeros((count, panels * 16, inputs // 16), np.float32)
    factors[:, :rows] = scales.reshape(count, rows, -1)
    lanes = (padded.view(np.uint8) ^ 0x80).reshape(count, panels, 16, inputs // 32, 8, 4).transpose(0, 1, 3, 4, 2, 5)
    pairs = factors.reshape(count, panels, 16, inputs // 32, 2).transpose(0, 1, 3, 4, 2)
    sides = np.ascontiguousarray(pairs).view(np.uint8).reshape(*lanes.shape[:3], -1)
    return np.concatenate([sides, lanes.reshape(*lanes.shape[:3], -1)], axis=-1).reshape(-1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("format", FORMATS_WITH_CODEBOOKS)
def test_panels_are_what_the_decoders_give(
    format: str, shape: tuple[int, ...], threads: int, rng: np.random.Generator
) -> None:
    """Random bytes: every code, and scales that are subnormal, infinite or no numbers."""
    ops = backend_ops(f"cpu-{available_isas()[0]}", threads)
    assert isinstance(ops, CpuOps)
    size = num_bytes(format, shape)
    data = rng.integers(0, 256, size + 1, np.uint8)[1:]  # at an odd address, as in a file
    with np.errstate(over="ignore", invalid="ignore"):
        expected = expected_panels(format, data, shape)
    assert np.array_equal(ops.pack_weight(Tensor("w", format, shape, data, "test")).packed(), expected)


def test_tables_of_the_wrong_size_are_refused() -> None:
    cpu = _kernels.make_cpu(available_isas()[0], 1)
    vectors, signs = codebook("IQ2_XS")
    data = np.zeros(FORMATS["IQ2_XS"].block_bytes, np.uint8)
    cpu.pack_codebook("IQ2_XS", data, vectors, signs, 1, 1, 256)
    with pytest.raises(ValueError, match="vectors should be"):
        cpu.pack_codebook("IQ2_XS", data, vectors[:-1], signs, 1, 1, 256)
    with pytest.raises(ValueError, match="signs should be"):
        cpu.pack_codebook("IQ2_XS", data, vectors, signs[:-1], 1, 1, 256)
    with pytest.raises(ValueError, match="source should be"):
        cpu.pack_codebook("IQ2_XS", data, vectors, signs, 1, 2, 256)
    with pytest.raises(ValueError, match="no format with a codebook"):
        cpu.pack_codebook("Q4_K", data, vectors, signs, 1, 1, 256)
