"""Polynomials on [0, 1], against monomials."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds.numerics.polynomials import (
    combine,
    gauss,
    integrals,
    legendre,
    legendre_analysis,
    modal_basis,
    nodal_basis,
)

SIZES = [2, 3, 7, 16, 40]


def monomials(times, degree):
    return np.asarray(times)[:, None] ** np.arange(degree + 1)


@pytest.mark.parametrize("n", [1, *SIZES])
def test_gauss_rule_is_exact(n):
    nodes, weights = gauss(n)
    assert_allclose(weights @ monomials(nodes, 2 * n - 1), 1 / np.arange(1, 2 * n + 1), rtol=1e-12)


@pytest.mark.parametrize("n", [1, *SIZES])
def test_series_of_what_is_one(n):
    coefficients = np.random.default_rng(n).normal(size=n)
    values = legendre(gauss(n).nodes, n - 1) @ coefficients
    assert_allclose(legendre_analysis(n) @ values, coefficients, rtol=0, atol=1e-13 * n)


@pytest.mark.parametrize("n_to", [1, 5, 16])
@pytest.mark.parametrize("n_from", [1, 4, 12])
def test_integrals_of_polynomials(n_from, n_to):
    times = np.append(gauss(n_to).nodes, 1.0)
    wanted = monomials(times, n_from)[:, 1:] / np.arange(1, n_from + 1)
    got = integrals(n_from, n_to) @ monomials(gauss(n_from).nodes, n_from - 1)
    assert_allclose(got, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", SIZES)
def test_modes_vanish_at_the_ends_and_their_slopes_are_orthonormal(n):
    basis = modal_basis(n, n + 1)
    gram = basis.slopes.T @ basis.weighted_slopes
    assert_allclose(gram, np.eye(n), rtol=0, atol=1e-12)
    ends = integrals(n + 1, 3) @ basis.slopes
    assert_allclose(ends[-1], 0, rtol=0, atol=1e-13)
    modes = modal_basis(n, 3).modes if n + 1 != 3 else basis.modes
    assert_allclose(ends[:-1], modes, rtol=0, atol=1e-13)
    assert_allclose(basis.functions, np.concatenate([basis.modes, basis.slopes]))


@pytest.mark.parametrize("n", SIZES)
def test_polynomials_through_their_nodal_values(n):
    basis = nodal_basis(n)
    coefficients = np.random.default_rng(n).normal(size=n)
    series = np.polynomial.Legendre(coefficients, domain=[0, 1])
    values = series(basis.nodes)
    first, second = (series.deriv(k)(gauss(n).nodes) for k in (1, 2))
    size = np.abs(second).max() + n**2
    assert_allclose(basis.slopes @ values, first, rtol=0, atol=1e-13 * size)
    assert_allclose(basis.bends @ values, second, rtol=0, atol=1e-12 * size)
    energy = np.sum(gauss(n).weights * series.deriv()(gauss(n).nodes) ** 2)
    assert abs(values @ basis.stiffness @ values - energy) <= 1e-12 * energy
    inverse = basis.compliance @ basis.stiffness[1:-1, 1:-1]
    assert_allclose(inverse, np.eye(n - 2), rtol=0, atol=1e-11)
    times = np.array([0.0, 0.3, *basis.nodes[1:2], 1.0])
    assert_allclose(basis.interpolate(values[None], times)[0], series(times), rtol=0, atol=1e-12)


def test_matrices_act_along_the_second_axis():
    rng = np.random.default_rng(0)
    matrix, values = rng.normal(size=(4, 3)), rng.normal(size=(2, 3, 5, 6))
    assert_allclose(combine(matrix, values), np.einsum("qr,br...->bq...", matrix, values))
    assert combine(matrix, values[:0]).shape == (0, 4, 5, 6)
