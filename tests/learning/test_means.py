"""Fréchet means against an independent library, and their symmetries."""

import math

import numpy as np
import pytest
from geomstats.learning.frechet_mean import FrechetMean
from numpy.testing import assert_allclose

from dln_manifolds import BalancedManifold, DLNObservableManifold


def frechet_mean(space, points):
    return FrechetMean(space).set(epsilon=1e-24, max_iter=200).fit(points).estimate_


@pytest.fixture(scope="module")
def spd_mean():
    """Return SPD matrices and their mean at depth 2."""
    factors = np.eye(3) + 0.25 * np.random.default_rng(0).normal(size=(4, 3, 3))
    points = factors @ np.swapaxes(factors, -1, -2)
    return points, frechet_mean(DLNObservableManifold(3, 2), points)


def test_of_spd_matrices_at_depth_two_is_the_wasserstein_mean(spd_mean):
    mean = pytest.importorskip("pyriemann.utils.mean")
    points, found = spd_mean
    expected = mean.mean_wasserstein(points, tol=1e-12, maxiter=500)
    assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_of_spd_matrices_at_depth_two_solves_the_fixed_point_equation(spd_mean):
    # Agueh and Carlier 2011: M = mean of (M^1/2 A M^1/2)^1/2
    points, found = spd_mean

    def root(A):
        values, vectors = np.linalg.eigh(A)
        return (vectors * np.sqrt(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2)

    half = root(found)
    assert_allclose(root(half @ points @ half).mean(axis=0), found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("depth", [2, 3])
def test_is_equivariant_under_rotations_and_transposition(depth):
    space = DLNObservableManifold(3, depth)
    points = np.diag([2.0, 1.0, 0.5]) + 0.15 * np.random.normal(size=(5, 3, 3))
    # from O(3) on both sides, not only rotations: det changes its sign
    R, Q = np.linalg.qr(np.random.normal(size=(2, 3, 3)))[0]
    R[:, 0] *= -np.sign(np.linalg.det(R @ Q))
    assert np.linalg.det(R @ Q) < 0
    mean = frechet_mean(space, points)
    turned = R @ np.swapaxes(points, -1, -2) @ Q
    assert_allclose(frechet_mean(space, turned), R @ mean.T @ Q, atol=1e-9)


@pytest.mark.parametrize(
    ("space", "scale"),
    [
        (DLNObservableManifold(2, 1), 1e-200),
        (DLNObservableManifold(2, 3), 1e-12),
        (DLNObservableManifold(shape=(3, 2), rank=1, depth=2), 1e-9),
        (BalancedManifold(2, 2), 1e-7),
        (DLNObservableManifold(2, math.inf), 1e-9),
    ],
    ids=str,
)
def test_of_small_numbers_is_as_good(space, scale):
    """geomstats stops at a variance of 1e-8, which data in small units always have."""
    base = space.random_point(bound=0.3, rng=3)
    vectors = space.metric.random_unit_tangent_vec(base, 4, rng=4)
    points = space.metric.exp(0.2 * vectors, base)
    mean = frechet_mean(space, points)
    found = FrechetMean(space).set(epsilon=1e-24, max_iter=200).fit(scale * points).estimate_
    assert_allclose(found / scale, mean, rtol=0, atol=1e-9 * np.abs(mean).max())
    single = (scale * points).astype(np.float32)
    if scale > 1e-30:
        assert space.metric.squared_norm(single[0], space.projection(single[1])).dtype == np.float32
