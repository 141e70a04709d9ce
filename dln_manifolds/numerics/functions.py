"""Elementary functions that lose no digits near zero and do not overflow.

Most are a difference of terms that agree to leading order. Near zero the Taylor series is summed;
elsewhere the plain difference is accurate, to a few units in the last place.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from dln_manifolds.numerics.arrays import Array

# Below |x| = 1 these many terms leave a relative remainder under 1e-17.
_SINH_TAIL = [1.0 / math.factorial(2 * k + 3) for k in range(8)]
_EXP_TAIL = [1.0 / math.factorial(k + 2) for k in range(18)]

#: exp(HUGE) is finite, and 1 / exp(HUGE) is negligible beside any double.
HUGE = 700.0
# Quotients from here to its inverse are within range.
_TINY = 1e-290


def log_quotient(numerator: Array, denominator: Array) -> Array:
    """Return ``log(a / b)`` of positive numbers, also where the quotient leaves the range."""
    with np.errstate(over="ignore", under="ignore"):
        quotient = numerator / denominator
    usual = (quotient > _TINY) & (quotient < 1 / _TINY)
    near = np.log(np.where(usual, quotient, 1.0))
    return np.where(usual, near, np.log(numerator) - np.log(denominator))


def horner(coefficients: Sequence[float], x: Array) -> Array:
    """Evaluate a polynomial, its coefficients given from the constant upwards."""
    total = coefficients[-1] * x
    for coefficient in coefficients[-2:0:-1]:
        total += coefficient
        total *= x
    return total + coefficients[0] if len(coefficients) > 1 else np.full_like(x, coefficients[0])


def sinhc(x: Array) -> Array:
    """Return ``sinh(x) / x``, 1 at zero."""
    nonzero = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, np.sinh(nonzero) / nonzero)


def damped_sinh(x: Array) -> Array:
    """Return ``exp(-x) sinh(x)`` for ``x >= 0``; at most 1/2."""
    return -0.5 * np.expm1(-2 * x)


def damped_sinhc(x: Array) -> Array:
    """Return ``exp(-x) sinh(x) / x`` for ``x >= 0``, 1 at zero."""
    nonzero = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, damped_sinh(nonzero) / nonzero)


def damped_sinhc_tail(x: Array) -> Array:
    """Return ``exp(-x) (sinh(x) - x) / x`` for ``x >= 0``, 0 at zero."""
    near = np.where(x < 1, x, 0.0)
    square = near * near
    series = np.exp(-near) * square * horner(_SINH_TAIL, square)
    far = np.where(x < 1, 1.0, x)
    return np.where(x < 1, series, damped_sinh(far) / far - np.exp(-far))


def exp_minus_linear(x: Array) -> Array:
    """Return ``exp(x) - 1 - x``."""
    near = np.where(np.abs(x) < 1, x, 0.0)
    return np.where(np.abs(x) < 1, near * near * horner(_EXP_TAIL, near), np.expm1(x) - x)


def sinh_minus_identity(x: Array) -> Array:
    """Return ``sinh(x) - x``."""
    near = np.where(np.abs(x) < 1, x, 0.0)
    square = near * near
    return np.where(np.abs(x) < 1, near * square * horner(_SINH_TAIL, square), np.sinh(x) - x)


def coth_minus_reciprocal(x: Array) -> Array:
    """Return ``coth(x) - 1/x`` (the Langevin function), 0 at zero."""
    near = np.abs(x) < 1
    small = np.where(near, x, 0.0)
    tail = small * horner(_SINH_TAIL, small * small) / sinhc(small)
    large = np.where(near, 1.0, x)
    return np.where(near, np.tanh(small / 2) - tail, 1 / np.tanh(large) - 1 / large)


def coth_minus_reciprocal_derivative(x: Array) -> Array:
    """Return ``1/x^2 - 1/sinh(x)^2``, 1/3 at zero."""
    near = np.abs(x) < 1
    small = np.where(near, x, 0.0)
    inverse = 1 / sinhc(small)
    series = horner(_SINH_TAIL, small * small) * (1 + inverse) * inverse
    large = np.where(near, 1.0, x)
    return np.where(near, series, 1 / large**2 - csch(large) ** 2)


def csch(x: Array) -> Array:
    """Return ``1 / sinh(x)`` for ``x > 0``, negligible where sinh would overflow."""
    return 1 / np.sinh(np.minimum(x, HUGE))


def _csch_coefficients(terms: int) -> list[float]:
    """Taylor coefficients of ``1/sinh(x) - 1/x`` at x, x^3, x^5, ..."""
    # (sinh(x)/x) * (x/sinh(x)) = 1, solved power by power in exact rationals
    inverse = [Fraction(1)]
    for k in range(1, terms + 1):
        terms_below = (inverse[j] / math.factorial(2 * (k - j) + 1) for j in range(k))
        inverse.append(-sum(terms_below, Fraction(0)))
    return [float(value) for value in inverse[1:]]


#: Taylor coefficients of ``1/sinh(x) - 1/x``; enough for a relative 1e-16 at |x| = 1/2.
CSCH_SERIES = _csch_coefficients(11)
