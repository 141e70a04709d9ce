"""Elementary functions against mpmath over the real line."""

import mpmath as mp
import numpy as np
import pytest
from spectral_reference import EPS, check, check_table, table

from dln_manifolds.numerics import functions as elementary

TINY = np.finfo(float).tiny


def points(sign):
    """Points on the real line or half of it: all magnitudes, and densely where formulas change."""
    positive = np.concatenate(
        [
            [5e-324, TINY],
            np.geomspace(1e-300, 700, 401),
            np.geomspace(1e-8, 40, 301),
            np.linspace(0.4, 3, 131),
            np.nextafter([0.5, 1.0, 1.0], [0, 0, 2]),
            [0.5, 1.0, 2.0],
        ]
    )
    return np.unique(np.concatenate([[0.0], positive, -positive] if sign else [[0.0], positive]))


def at_zero(value, function):
    return lambda x, _: mp.mpf(value) if x == 0 else function(x)


WHOLE_LINE = {
    "sinhc": at_zero(1, lambda x: mp.sinh(x) / x),
    "sinh_minus_identity": lambda x, _: mp.sinh(x) - x,
    "exp_minus_linear": lambda x, _: mp.exp(x) - 1 - x,
    "coth_minus_reciprocal": at_zero(0, lambda x: mp.coth(x) - 1 / x),
}
HALF_LINE = {
    "damped_sinh": lambda x, _: mp.exp(-x) * mp.sinh(x),
    "damped_sinhc": at_zero(1, lambda x: mp.exp(-x) * mp.sinh(x) / x),
    "damped_sinhc_tail": at_zero(0, lambda x: mp.exp(-x) * (mp.sinh(x) - x) / x),
}


def references(function, x):
    """Reference values, and their sizes as far as doubles can tell them from zero."""
    # differences of terms of size 1 that leave x^3: three times 300 digits, and some
    wanted = [None] * x.size
    for i, value in enumerate(x):
        with mp.workdps(60 if abs(value) > 1e-12 or value == 0 else 1100):
            wanted[i] = function(mp.mpf(float(value)), 1)
    return np.array(wanted), np.array([max(abs(value), mp.mpf(TINY)) for value in wanted])


@pytest.mark.parametrize("name", WHOLE_LINE)
def test_on_the_real_line(name):
    x = points(sign=True)
    wanted, scale = references(WHOLE_LINE[name], x)
    check_table(getattr(elementary, name)(x), wanted, 8 * EPS, scale, x)


@pytest.mark.parametrize("name", HALF_LINE)
def test_on_the_positive_half_line(name):
    x = points(sign=False)
    wanted, scale = references(HALF_LINE[name], x)
    check_table(getattr(elementary, name)(x), wanted, 8 * EPS, scale, x)


def test_csch():
    x = points(sign=False)
    x = x[x >= TINY]
    wanted, scale = references(lambda x, _: mp.csch(x), x)
    check_table(elementary.csch(x), wanted, 8 * EPS, scale, x)


@pytest.mark.parametrize("x", [701.0, 1e4, 1e300, np.inf])
def test_far_out(x):
    positive, both = np.array([x]), np.array([-x, x])
    check(abs(elementary.csch(positive)), 1e-300)
    check(abs(elementary.damped_sinh(positive) - 0.5), EPS)
    check(abs(elementary.damped_sinhc(positive) - 0.5 / x), EPS / x)
    check(abs(elementary.damped_sinhc_tail(positive) - 0.5 / x), EPS / x)
    check(abs(elementary.coth_minus_reciprocal(both) - [1 / x - 1, 1 - 1 / x]), 2 * EPS)


def test_series_of_csch():
    x = np.concatenate([np.geomspace(1e-6, 0.5, 101), [0.5]])
    got = x * elementary.horner(elementary.CSCH_SERIES, x * x)
    wanted = table(lambda x, _: mp.csch(x) - 1 / x, x, depth=1)
    check_table(got, wanted, 4 * EPS, cases=x)


def test_horner():
    x = np.array([[0.0, 0.5], [-2.0, 3.0]])
    coefficients = [1.0, -2.0, 0.5]
    kept = x.copy()
    assert np.array_equal(elementary.horner(coefficients, x), 1 - 2 * x + 0.5 * x**2)
    assert np.array_equal(elementary.horner([7.0], x), np.full_like(x, 7))
    assert np.array_equal(x, kept)


@pytest.mark.parametrize("name", [*WHOLE_LINE, *HALF_LINE, "csch"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3)])
def test_shapes_are_kept_and_input_is_not_written_to(name, shape):
    x = np.random.default_rng(0).uniform(0.1, 3, shape)
    x.flags.writeable = False
    kept = x.copy()
    got = getattr(elementary, name)(x)
    assert np.shape(got) == shape
    assert np.array_equal(x, kept)
    singles = [getattr(elementary, name)(np.array(value)) for value in x.ravel()]
    wanted = np.reshape(singles, shape)
    assert np.allclose(got, wanted, rtol=4 * EPS, atol=0)


def test_odd_functions_are_odd():
    x = points(sign=False)
    for name in ("sinh_minus_identity", "coth_minus_reciprocal"):
        function = getattr(elementary, name)
        assert np.array_equal(function(-x), -function(x)), name
