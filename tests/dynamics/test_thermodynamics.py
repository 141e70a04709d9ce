"""Quadrature of spectral losses: exact scaling, a determinant formula, integration over beta."""

import math

import numpy as np
import pytest
from radial_law import RadialLaw

from dln_manifolds.dynamics import SpectralThermodynamics, thermodynamic_integration
from dln_manifolds.errors import ConvergenceError


def square(s):
    return 0.5 * np.sum(s**2, axis=-1)


def ring(s):
    return 0.5 * np.sum((s - 1.5) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("n", "depth", "beta"),
    [
        (1, 1, 4),
        (1, 10, 0.1),
        (2, 1, 4),
        (2, 2.5, 0.1),
        (2, 30, 4),
        (2, 1000, 4),
        (3, 3, 4),
        (3, 300, 4),
    ],
)
def test_homogeneous_losses(n, depth, beta):
    """U = D / (q N b), C = D / (q N), D = n + n (n - 1)(N + 1)/2."""
    law = SpectralThermodynamics(square, n, depth)
    expected = (n + n * (n - 1) * (depth + 1) / 2) / (2 * depth)
    assert beta * law.mean_energy(beta) == pytest.approx(expected, abs=1e-8)
    assert law.heat_capacity(beta) == pytest.approx(expected, abs=1e-8)


def test_depth_melts_rank():
    shares = {1: 0.010, 2: 0.049, 3: 0.097, 5: 0.193, 10: 0.399, 30: 0.767}
    found = {N: SpectralThermodynamics(ring, 2, N).distribution(0.2, 4.0, 1) for N in shares}
    assert found == pytest.approx(shares, abs=1e-3)


@pytest.mark.parametrize("depth", [2, 3])
def test_literal_sum(depth):
    """On a plain grid of both roots, with the powers written out."""
    grid = (np.arange(1200) + 0.5) / 1200 * 3.2 ** (2 / depth)
    first, second = np.meshgrid(grid, grid, indexing="ij")
    a = sum(first ** (2 * (depth - 1 - m)) * second ** (2 * m) for m in range(depth))
    values = np.stack([first, second], axis=-1) ** depth
    weights = np.abs(first**2 - second**2) * np.sqrt(a) * np.exp(-4 * ring(values))
    exact = SpectralThermodynamics(ring, 2, depth)
    total = weights.sum() * (grid[1] - grid[0]) ** 2 / 2
    assert exact.log_partition(4.0) == pytest.approx(np.log(total), abs=1e-4)
    mean = np.sum(weights * ring(values)) / weights.sum()
    assert exact.mean_energy(4.0) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("anisotropy", [0.25, 1.0, 4.0])
@pytest.mark.parametrize(("rank", "shape"), [(1, (1, 1)), (2, (2, 2)), (2, (3, 2))])
def test_against_sums_over_a_grid(rank, shape, anisotropy):
    depth, beta = 3, 4.0
    literal = RadialLaw(rank, depth, beta, anisotropy, sum(shape) - 2 * rank)
    law = SpectralThermodynamics(ring, rank, depth, anisotropy, shape)
    expected = literal.mean(lambda roots: ring(roots**depth))
    assert law.mean_energy(beta) == pytest.approx(expected, rel=1e-4)


def test_derivatives_of_the_partition_function():
    for anisotropy in (1.0, 0.5):
        law = SpectralThermodynamics(ring, 2, 4, anisotropy)
        b, h = 3.0, 1e-3
        slope = (law.log_partition(b + h) - law.log_partition(b - h)) / (2 * h)
        assert -anisotropy * slope == pytest.approx(law.mean_energy(b), rel=1e-6)
        slope = (law.mean_energy(b + h) - law.mean_energy(b - h)) / (2 * h)
        assert -(b**2) * slope == pytest.approx(law.heat_capacity(b), rel=1e-6)
        free = law.mean_energy(b) - anisotropy / b * law.entropy(b)
        assert -b / anisotropy * free == pytest.approx(law.log_partition(b))


def test_thermodynamic_integration():
    law = SpectralThermodynamics(ring, 2, 3)
    found = thermodynamic_integration(law.mean_energy, 0.25, 16.0)
    assert found == pytest.approx(law.log_partition(16.0) - law.log_partition(0.25), abs=1e-4)
    with pytest.raises(ValueError, match="must be positive"):
        thermodynamic_integration(law.mean_energy, 0.0, 1.0)


@pytest.mark.parametrize(("n", "depth", "beta"), [(2, 2, 1.0), (2, 3, 4.0), (3, 3, 4.0)])
def test_nodes_by_the_determinant_of_the_complex_field(n, depth, beta):
    """Over C: prod (x_i - x_j)(x_i^N - x_j^N) prod x_i^((N-1)/2) w, Z = n! det of moments.

    A Muttalib-Borodin ensemble in x = l^2. The real density is turned into it by its quotient.
    """
    law = SpectralThermodynamics(ring, n, depth)

    def quotient(s):
        roots = s ** (1 / depth)
        i, j = np.triu_indices(n, 1)
        a = sum(
            roots[..., i] ** (2 * (depth - 1 - m)) * roots[..., j] ** (2 * m) for m in range(depth)
        )
        pairs = np.abs(roots[..., i] ** 2 - roots[..., j] ** 2) * np.sqrt(a)
        return np.prod(pairs, axis=-1) * np.prod(2 * roots**depth, axis=-1)

    found = np.log(law.expectation(quotient, beta)) + law.log_partition(beta)
    x, w = np.polynomial.legendre.leggauss(400)
    top = (1.5 + 9 / np.sqrt(beta)) ** (1 / depth)
    roots, weights = (x + 1) / 2 * top, w / 2 * top
    weights = weights * np.exp(-beta * ring((roots**depth)[:, None])) * 2 * roots**depth
    moments = [[weights @ roots ** (2 * (i + depth * j)) for j in range(n)] for i in range(n)]
    # n! for all orders of the roots, of which quadrature takes one.
    assert found == pytest.approx(math.log(np.linalg.det(moments)), abs=1e-7)


def test_questions_that_have_no_answer():
    law = SpectralThermodynamics(square, 2, 2)
    with pytest.raises(TypeError, match="beta must be a real number"):
        law.mean_energy("a")
    with pytest.raises(ValueError, match="beta must be positive"):
        law.distribution([1.0], -1.0)
    with pytest.raises(ValueError, match="index must lie between"):
        law.distribution([1.0], 1.0, index=5)
    with pytest.raises(ValueError, match="a number for each row"):
        law.expectation(lambda s: s, 1.0)


@pytest.mark.parametrize(
    ("arguments", "beta", "error", "message"),
    [
        ((square, 4, 2), 1.0, ValueError, "n must be at most 3, not 4"),
        ((square, 0, 2), 1.0, ValueError, "n must be at least 1"),
        ((square, 2, np.inf), 1.0, ValueError, "needs a finite depth"),
        ((square, 2, 2, 0.0), 1.0, ValueError, "anisotropy must be positive"),
        ((square, 2, 2), 0.0, ValueError, "beta must be positive"),
        ((lambda s: s, 2, 2), 1.0, ValueError, "a number for each row"),
        ((lambda s: 0 * s[..., 0], 2, 2), 1.0, ValueError, "cannot be normalized"),
        ((lambda s: np.nan * s[..., 0], 2, 2), 1.0, ValueError, "nan"),
        (
            (lambda s: square(s) + np.round(5 * s.sum(axis=-1)), 2, 2),
            1.0,
            ConvergenceError,
            "disagree",
        ),
    ],
)
def test_bad_input(arguments, beta, error, message):
    with pytest.raises(error, match=message):
        SpectralThermodynamics(*arguments).mean_energy(beta)
