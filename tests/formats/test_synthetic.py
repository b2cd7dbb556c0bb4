"""Random tensors of any format."""

from __future__ import annotations

import numpy as np
import pytest

from loqal.errors import FormatError, UnsupportedError
from loqal.formats.codec import decode
from loqal.formats.synthetic import random_blocks
from loqal.formats.table import FORMATS, num_bytes


def drawn(format: str, shape: tuple[int, ...], seed: int = 0, **more: float) -> np.ndarray:
    return random_blocks(format, shape, np.random.default_rng(seed), **more)


@pytest.mark.parametrize("format", FORMATS)
def test_values_have_the_deviation_that_was_asked_for(format: str) -> None:
    shape = (64, 1024)
    for std in (0.02, 1.0):
        data = drawn(format, shape, std=std)
        assert data.size == num_bytes(format, shape)
        values = decode(format, data, shape)
        assert np.isfinite(values).all()
        assert abs(values.mean()) < 0.05 * std
        most = 1.5 if format == "MXFP4" else 1.06
        assert std / most <= values.std() <= std * most


def test_the_same_randomness_gives_the_same_tensor() -> None:
    assert np.array_equal(drawn("Q4_K", (4, 256)), drawn("Q4_K", (4, 256)))
    assert not np.array_equal(drawn("Q4_K", (4, 256)), drawn("Q4_K", (4, 256), seed=1))


def test_slices_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loqal.formats.synthetic._SLICE_BYTES", 1000)  # a few blocks at a time, with a rest
    values = decode("Q6_K", drawn("Q6_K", (64, 256)), (64, 256))
    assert np.unique(values, axis=0).shape == (64, 256)
    assert 0.018 < values.std() < 0.022


def test_what_cannot_be_made() -> None:
    with pytest.raises(FormatError):
        drawn("Q4_K", (4, 255))
    with pytest.raises(UnsupportedError):
        drawn("Q9", (4, 256))
    assert drawn("F16", (0, 256)).size == 0
