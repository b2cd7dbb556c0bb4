"""exp and log that give the same bits on every machine.

NumPy's own differ in the last bit between instruction sets, and a sampled token may hang on that bit. These use nothing
but correctly rounded float64 operations in a fixed order. Their error is at most 2 units in the last place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DoubleArray = npt.NDArray[np.float64]

_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # ln 2 cut to 32 bits, so that a multiple of it is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # the rest of ln 2
_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
_SMALLEST_EXPONENT = -745.2  # exp of anything below rounds to zero

_EXP_TERMS = tuple(
    1.0 / factorial
    for factorial in (1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600, 6227020800)
)
_LOG_TERMS = tuple(2.0 / odd for odd in range(1, 23, 2))


def exp(x: DoubleArray) -> DoubleArray:
    """e to the power of ``x`` for ``x`` of at most 700; minus infinity gives 0."""
    x = np.maximum(x, _SMALLEST_EXPONENT)
    power = np.rint(x * _LOG2_E)
    rest = (x - power * _LN2_HIGH) - power * _LN2_LOW  # at most ln 2 / 2, where 14 Taylor terms suffice
    return np.ldexp(_polynomial(rest, _EXP_TERMS), power.astype(np.int32))


def log(x: DoubleArray) -> DoubleArray:
    """The natural logarithm of ``x``, which must be positive and finite."""
    fraction, power = np.frexp(x)
    low = fraction < _SQRT_HALF
    fraction = np.where(low, 2.0 * fraction, fraction)  # now between sqrt(1/2) and sqrt(2)
    exponent = (power - low).astype(np.float64)
    ratio = (fraction - 1.0) / (fraction + 1.0)  # log(fraction) = 2 artanh(ratio), |ratio| < 0.172
    series = ratio * _polynomial(ratio * ratio, _LOG_TERMS)
    return exponent * _LN2_HIGH + (series + exponent * _LN2_LOW)


def _polynomial(x: DoubleArray, terms: tuple[float, ...]) -> DoubleArray:
    """Sum of ``terms[i] * x**i``, highest power first."""
    total = x * terms[-1]
    for term in terms[-2:0:-1]:
        total += term
        total *= x
    total += terms[0]
    return total
