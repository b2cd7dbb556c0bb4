"""exp and log that are the same on every machine, against the exact values."""

from __future__ import annotations

import hashlib
import math
from decimal import Decimal, getcontext

import numpy as np
import pytest

from loqal.engine.sampling import portable_math

getcontext().prec = 60


def ulps(found: float, exact: Decimal) -> Decimal:
    return abs(Decimal(found) - exact) / Decimal(math.ulp(float(exact)))


def test_exp_is_within_two_units_of_the_last_place() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-700, 700, 300), rng.uniform(-1, 1, 300), [0.0, 1.0, -1.0, 700.0, 1e-300]])
    for value, found in zip(x.tolist(), portable_math.exp(x).tolist(), strict=True):
        assert ulps(found, Decimal(value).exp()) <= 2


def test_log_is_within_two_units_of_the_last_place() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([np.exp(rng.uniform(-700, 700, 300)), rng.uniform(0.5, 2, 300), [2.0, 0.5, 1e-308, 1e308]])
    for value, found in zip(x.tolist(), portable_math.log(x).tolist(), strict=True):
        assert ulps(found, Decimal(value).ln()) <= 2


def test_where_values_are_exact() -> None:
    assert portable_math.log(np.array([1.0])).tolist() == [0.0]
    assert portable_math.exp(np.array([0.0, -math.inf, -800.0])).tolist() == [1.0, 0.0, 0.0]
    smallest = portable_math.exp(np.array([-745.0]))
    assert smallest.tolist() == [5e-324]


def test_they_neither_change_their_input_nor_depend_on_its_length() -> None:
    x = np.linspace(-20, 20, 1001)
    kept = x.copy()
    whole = portable_math.exp(x)
    assert np.array_equal(x, kept)
    assert whole.tolist() == [portable_math.exp(x[i : i + 1])[0] for i in range(len(x))]
    positive = np.linspace(0.001, 20, 1001)
    whole = portable_math.log(positive)
    assert whole.tolist() == [portable_math.log(positive[i : i + 1])[0] for i in range(len(positive))]


@pytest.mark.parametrize(
    ("function", "first", "frozen"), [("exp", -2000, "e8d7e4b32de4a16e"), ("log", 1, "10594fac9cb86940")]
)
def test_the_bits_are_frozen(function: str, first: int, frozen: str) -> None:
    """A drawn token hangs on them; they are the same on x86 and ARM, and in every version of NumPy."""
    values = getattr(portable_math, function)(np.arange(first, first + 4001) / 40)
    assert hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16] == frozen
