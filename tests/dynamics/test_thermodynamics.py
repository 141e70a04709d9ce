"""Quadrature of spectral losses: scaling laws, derivatives, a table, and samples."""

import numpy as np
import pytest

from dln_manifolds.dynamics import SpectralThermodynamics


def quadratic(s):
    return 0.5 * np.sum(s**2, axis=-1)


def shifted(s):
    return 0.5 * np.sum((s - 1.5) ** 2, axis=-1)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 10])
def test_homogeneous_losses(n, depth):
    """U = D / (q N b) and C = D / (q N), D = n + n (n-1) (N+1) / 2, of degree q."""
    degrees = n + n * (n - 1) * (depth + 1) / 2
    for degree, loss in ((2, quadratic), (4, lambda s: np.sum(s**4, axis=-1))):
        exact = SpectralThermodynamics(loss, n, depth)
        wanted = degrees / (degree * depth)
        assert exact.mean_energy(3.0) == pytest.approx(wanted / 3, rel=1e-8)
        assert exact.heat_capacity(3.0) == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize(("n", "depth", "k"), [(1, 3, 1.0), (2, 2.5, 0.25), (3, 3, 4.0)])
def test_energy_is_the_slope_of_the_partition_function(n, depth, k):
    exact, beta, h = SpectralThermodynamics(shifted, n, depth, k), 4.0, 1e-3
    slope = (exact.log_partition(beta + h) - exact.log_partition(beta - h)) / (2 * h)
    assert exact.mean_energy(beta) == pytest.approx(-k * slope, rel=1e-6)
    warmer, colder = exact.mean_energy(beta - h), exact.mean_energy(beta + h)
    assert exact.heat_capacity(beta) == pytest.approx(beta**2 * (warmer - colder) / (2 * h), 1e-5)
    rise = exact.entropy(beta + h) - exact.entropy(beta - h)
    assert rise == pytest.approx(beta / k * (colder - warmer), rel=1e-4)


def test_thermodynamic_integration():
    exact = SpectralThermodynamics(shifted, 2, 3)
    x, w = np.polynomial.legendre.leggauss(8)
    low, high = np.log([0.25, 16.0])
    log_beta = low + (x + 1) / 2 * (high - low)
    energies = np.array([exact.mean_energy(beta) for beta in np.exp(log_beta)])
    integral = -(high - low) / 2 * w @ (np.exp(log_beta) * energies)
    change = exact.log_partition(16.0) - exact.log_partition(0.25)
    assert integral == pytest.approx(change, abs=1e-4)


def test_depth_melts_rank():
    known = {1: 0.010, 2: 0.049, 3: 0.097, 5: 0.193, 10: 0.399, 30: 0.767}
    for depth, share in known.items():
        values, weights = SpectralThermodynamics(shifted, 2, depth).law(4.0)
        assert weights[values[:, 1] < 0.2].sum() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("depth", [2, 3])
def test_literal_sum(depth):
    """On a plain grid of both roots, with the powers written out."""
    grid = (np.arange(1200) + 0.5) / 1200 * 3.2 ** (2 / depth)
    first, second = np.meshgrid(grid, grid, indexing="ij")
    a = sum(first ** (2 * (depth - 1 - m)) * second ** (2 * m) for m in range(depth))
    values = np.stack([first, second], axis=-1) ** depth
    weights = np.abs(first**2 - second**2) * np.sqrt(a) * np.exp(-4 * shifted(values))
    exact = SpectralThermodynamics(shifted, 2, depth)
    total = weights.sum() * (grid[1] - grid[0]) ** 2 / 2
    assert exact.log_partition(4.0) == pytest.approx(np.log(total), abs=1e-4)
    mean = np.sum(weights * shifted(values)) / weights.sum()
    assert exact.mean_energy(4.0) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((4, 2), "at most 3"), ((2, np.inf), "depth must be finite"), ((2, 2, 0), "and anisotropy")],
    ids=str,
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpectralThermodynamics(shifted, *arguments)


def test_measures_of_infinite_mass_and_bad_losses():
    with pytest.raises(ValueError, match="no finite mass"):
        SpectralThermodynamics(lambda s: 0 * s[..., 0], 2, 3).mean_energy(1.0)
    with pytest.raises(ValueError, match="loss has shape"):
        SpectralThermodynamics(np.sum, 2, 3).mean_energy(1.0)
    for beta in (0, -1.0, np.nan):
        with pytest.raises(ValueError, match="beta must be positive"):
            SpectralThermodynamics(shifted, 2, 3).mean_energy(beta)
