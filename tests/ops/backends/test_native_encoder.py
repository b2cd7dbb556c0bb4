"""The native encoders: the layouts of the NumPy ones, less loss than theirs, the same bytes on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from loqal import formats
from loqal.errors import FormatError, TensorError
from loqal.formats.loss import Loss, loss
from loqal.ops.backends.cpu import available_isas
from loqal.ops.backends.native_encoder import Encoder

Floats = npt.NDArray[np.float32]
SHAPE = (24, 768)  # three super-blocks a row: a group of two crosses rows
FORMATS = Encoder(threads=1).formats
WITH_NUMPY_TWIN = [name for name in FORMATS if name in formats.ENCODABLE]


def bytes_of(values: Floats) -> npt.NDArray[np.uint8]:
    return values.reshape(-1).view(np.uint8)


def values_of(kind: str) -> Floats:
    rng = np.random.default_rng(3)
    makers = {
        "normal": lambda: rng.standard_normal(SHAPE) * 0.02,
        "heavy": lambda: rng.standard_t(3, SHAPE) * 0.02,
        "outliers": lambda: rng.standard_normal(SHAPE) * np.where(rng.random(SHAPE[1]) < 0.02, 8, 0.1),
        "positive": lambda: rng.random(SHAPE) + 0.5,
        "negative": lambda: -rng.random(SHAPE) - 0.5,
        "ties": lambda: rng.integers(-255, 256, SHAPE) / 2,
        "tiny": lambda: rng.standard_normal(SHAPE) * 1e-6,
        "constant": lambda: np.full(SHAPE, -0.7),
        "zero": lambda: np.zeros(SHAPE),
        "one": lambda: np.eye(*SHAPE) * 3,
        "large": lambda: rng.choice([-65504.0, 65504.0, 1.0], SHAPE),
    }
    return makers[kind]().astype(np.float32)


KINDS = ("normal", "heavy", "outliers", "positive", "negative", "ties", "tiny", "constant", "zero", "one", "large")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WITH_NUMPY_TWIN)
def test_loses_no_more_than_the_numpy_encoder(name: str, kind: str) -> None:
    values = values_of(kind)
    stored, lost = Encoder(threads=2).encode(name, "F32", bytes_of(values), SHAPE)
    decoded = formats.decode(name, stored, SHAPE)
    assert np.isfinite(decoded).all()
    twin = formats.decode(name, formats.encode(name, values), SHAPE)
    runs = (-1, 16)
    typical = np.sqrt((values.reshape(runs) ** 2).mean(axis=1, keepdims=True))
    weights = (typical + np.abs(values.reshape(runs))).reshape(SHAPE)
    ours, theirs = loss_with(values, decoded, weights), loss_with(values, twin, weights)
    assert ours <= theirs * 1.01 + 1e-6 * float((weights * values**2).sum())
    # What is reported is what was stored.
    direct = loss(values, decoded)
    assert lost.squared == pytest.approx(direct.squared, rel=1e-3, abs=1e-9 * direct.energy)
    assert lost.energy == pytest.approx(direct.energy, rel=1e-5)


def loss_with(values: Floats, stored: Floats, weights: Floats) -> float:
    return float((weights.astype(np.float64) * (values - stored.astype(np.float64)) ** 2).sum())


@pytest.mark.parametrize("name", FORMATS)
def test_importance_moves_the_loss_to_where_it_matters_less(name: str) -> None:
    values = values_of("normal")
    importance = np.random.default_rng(5).lognormal(0, 1.5, SHAPE[1]).astype(np.float32)
    encoder = Encoder(threads=1)
    _, without = encoder.encode(name, "F32", bytes_of(values), SHAPE)
    stored, with_it = encoder.encode(name, "F32", bytes_of(values), SHAPE, importance)
    plain = loss(
        values, formats.decode(name, encoder.encode(name, "F32", bytes_of(values), SHAPE)[0], SHAPE), importance
    )
    if name == "Q8_0":  # its scale is the largest value's, whatever matters
        assert with_it.squared == without.squared
    else:
        assert with_it.weighted < plain.weighted
    direct = loss(values, formats.decode(name, stored, SHAPE), importance)
    assert with_it.weighted == pytest.approx(direct.weighted, rel=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_every_instruction_set_thread_count_and_source_gives_the_same_bytes(name: str) -> None:
    values = formats.decode("BF16", formats.encode("BF16", values_of("heavy")), SHAPE)
    importance = np.random.default_rng(6).lognormal(0, 1, SHAPE[1]).astype(np.float32)
    for weights in (None, importance):
        expected = Encoder("plain", 1).encode(name, "F32", bytes_of(values), SHAPE, weights)
        for isa in available_isas():
            for threads, source in ((1, "F32"), (3, "BF16")):
                data = formats.encode(source, values)
                stored, lost = Encoder(isa, threads).encode(name, source, data, SHAPE, weights)
                np.testing.assert_array_equal(stored, expected[0])
                assert lost == expected[1]
    halves = formats.decode("F16", formats.encode("F16", values), SHAPE)
    from_f16 = Encoder(threads=2).encode(name, "F16", formats.encode("F16", values), SHAPE)
    assert from_f16[0].tobytes() == Encoder(threads=2).encode(name, "F32", bytes_of(halves), SHAPE)[0].tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    values = values_of("heavy")
    encoder = Encoder(threads=2)
    whole = encoder.encode(name, "F32", bytes_of(values), SHAPE)[0].reshape(len(values), -1)
    for row in (0, 1, 23):
        alone = encoder.encode(name, "F32", bytes_of(values[row : row + 1]), (1, SHAPE[1]))[0]
        np.testing.assert_array_equal(whole[row], alone)


def test_q8_0_is_the_one_everybody_writes() -> None:
    for kind in KINDS:
        values = values_of(kind)
        stored, _ = Encoder(threads=1).encode("Q8_0", "F32", bytes_of(values), SHAPE)
        np.testing.assert_array_equal(stored, formats.encode("Q8_0", values))


def test_what_cannot_be_stored_is_refused() -> None:
    encoder = Encoder(threads=1)
    values = values_of("normal")
    for bad in (np.nan, np.inf, 7e4):
        broken = values.copy()
        broken[3, 700] = bad
        with pytest.raises(TensorError, match="cannot be stored"):
            encoder.encode("Q4_K", "F32", bytes_of(broken), SHAPE)
    with pytest.raises(FormatError, match="cannot be stored as Q4_K"):
        encoder.encode("Q4_K", "F32", bytes_of(values[:, :64]), (24, 64))
    with pytest.raises(FormatError, match="cannot write IQ2_S"):
        encoder.encode("IQ2_S", "F32", bytes_of(values), SHAPE)


def test_losses_add_up() -> None:
    values = values_of("normal")
    encoder = Encoder(threads=1)
    parts = [encoder.encode("Q4_K", "F32", bytes_of(values[i : i + 8]), (8, SHAPE[1]))[1] for i in (0, 8, 16)]
    whole = encoder.encode("Q4_K", "F32", bytes_of(values), SHAPE)[1]
    assert sum(parts, Loss()).plain == pytest.approx(whole.plain, rel=1e-6)
