"""Bures and Wasserstein on symmetric positive definite matrices, and depth 2."""

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold, IncompleteGeodesicError, InvalidPointError, spd


def positive(n, seed, batch=()):
    normal = np.random.default_rng([n, seed]).standard_normal((*batch, n, n))
    return normal @ normal.swapaxes(-1, -2) + 0.1 * np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_lyapunov_operator(n):
    a, q = positive(n, 0), np.random.default_rng(n).standard_normal((n, n))
    got = spd.lyapunov(a, q)
    assert_allclose(got, scipy.linalg.solve_continuous_lyapunov(a, q), rtol=1e-10, atol=1e-12)
    assert_allclose(a @ got + got @ a, q, rtol=1e-11, atol=1e-12)
    even = spd.lyapunov(a, q + q.T)
    assert_allclose(even, even.T, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_geometric_mean(n):
    a, b = positive(n, 1), positive(n, 2)
    got = spd.geometric_mean(a, b)
    root, inverse = scipy.linalg.sqrtm(a), np.linalg.inv(scipy.linalg.sqrtm(a))
    wanted = root @ scipy.linalg.sqrtm(inverse @ b @ inverse) @ root
    assert_allclose(got, wanted.real, rtol=1e-9, atol=1e-11)
    assert_allclose(got @ np.linalg.solve(a, got), b, rtol=1e-10, atol=1e-12)
    assert_allclose(got, spd.geometric_mean(b, a), rtol=1e-10, atol=1e-12)
    inverses = spd.geometric_mean(np.linalg.inv(a), np.linalg.inv(b))
    assert_allclose(inverses @ got, np.eye(n), rtol=0, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_riccati_equation(n):
    a, b = positive(n, 3), positive(n, 4)
    got = spd.riccati(a, b)
    assert_allclose(got @ a @ got, b, rtol=1e-10, atol=1e-12)
    assert np.linalg.eigvalsh(got)[0] > 0
    assert_allclose(got, spd.geometric_mean(np.linalg.inv(a), b), rtol=1e-9, atol=1e-11)


def test_geodesic_of_bures_and_wasserstein_is_that_of_depth_two():
    a, b = positive(3, 5), positive(3, 6)
    metric = DLNObservableManifold(n=3, depth=2).metric
    times = np.array([0.0, 0.25, 0.5, 1.0])
    path = spd.bures_wasserstein_geodesic(a, b, times)
    assert_allclose(path, metric.geodesic(a, end_point=b)(times), rtol=1e-9, atol=1e-10)
    assert_allclose(path[[0, -1]], [a, b], rtol=1e-11)
    assert_allclose(spd.bures_wasserstein_geodesic(a, b, 0.25), path[1], rtol=1e-12)
    # The speed is the length, sqrt(2) times that of Bures and Wasserstein.
    root = scipy.linalg.sqrtm(a)
    fidelity = np.trace(scipy.linalg.sqrtm(root @ b @ root)).real
    square = np.trace(a) + np.trace(b) - 2 * fidelity
    assert_allclose(metric.dist(a, b) ** 2, 2 * square, rtol=1e-10)
    # d/dt at the start, in the metric and by the Lyapunov operator.
    move = spd.riccati(a, b) - np.eye(3)
    velocity = move @ a + a @ move
    assert_allclose(metric.squared_norm(velocity, a), 2 * square, rtol=1e-10)
    assert_allclose(np.sum(velocity * spd.lyapunov(a, velocity)) / 2, square, rtol=1e-10)


def test_batches_and_single_precision():
    a, b = positive(3, 7, (4, 1)), positive(3, 8, (5,))
    times = [0.2, 0.7]
    path = spd.bures_wasserstein_geodesic(a, b, times)
    assert path.shape == (4, 5, 2, 3, 3)
    one = spd.bures_wasserstein_geodesic(a[2, 0], b[3], times)
    assert_allclose(path[2, 3], one, rtol=1e-11, atol=1e-13)
    for function in (spd.lyapunov, spd.geometric_mean, spd.riccati):
        whole = function(a, b)
        assert whole.shape == (4, 5, 3, 3)
        assert_allclose(whole[1, 4], function(a[1, 0], b[4]), rtol=1e-11, atol=1e-13)
        assert function(a.astype(np.float32), b.astype(np.float32)).dtype == np.float32
        assert function(np.empty((0, 3, 3)), b[0]).shape == (0, 3, 3)
        assert_allclose(function(a[0, 0].tolist(), b[0]), function(a[0, 0], b[0]))
    assert spd.bures_wasserstein_geodesic(np.empty((0, 3, 3)), b[0], times).shape == (0, 2, 3, 3)


def test_beyond_the_ends():
    a, b = np.diag([4.0, 1.0]), np.diag([1.0, 4.0])
    # Roots of singular values move on straight lines: 2 - t and 1 + t.
    got = spd.bures_wasserstein_geodesic(a, b, [-0.5, 1.5])
    assert_allclose(got, [np.diag([6.25, 0.25]), np.diag([0.25, 6.25])], rtol=1e-12)
    with pytest.raises(IncompleteGeodesicError, match=r"at t = 2, and .* t = 2\.5") as e:
        spd.bures_wasserstein_geodesic(a, b, [0.5, 2.5])
    assert e.value.time == pytest.approx(2.0)
    with pytest.raises(IncompleteGeodesicError, match="at t = -1, "):
        spd.bures_wasserstein_geodesic(a, b, -1.5)
    for t in (np.nan, [[0.5]]):
        with pytest.raises(ValueError, match="t must be a finite number"):
            spd.bures_wasserstein_geodesic(a, b, t)


@pytest.mark.parametrize("function", [spd.lyapunov, spd.geometric_mean, spd.riccati])
def test_bad_input(function):
    a = positive(2, 9, (3,))
    for bad, message in (
        (np.ones((2, 3)), "square matrices"),
        (np.ones(3), "square matrices"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "not symmetric"),
        (np.diag([1.0, -1.0]), "not positive definite"),
        (np.diag([1.0, 1e-17]), "not positive definite"),
        (np.diag([1.0, np.nan]), "not finite"),
        (np.eye(2) + 0j, "complex"),
        (None, "is None"),
    ):
        with pytest.raises(InvalidPointError, match=message):
            function(bad, np.eye(2))
    spoiled = a.copy()
    spoiled[1] = -np.eye(2)
    with pytest.raises(InvalidPointError, match=r"batch member \[1\]"):
        function(spoiled, a)
    with pytest.raises(InvalidPointError):
        function(a, np.eye(3))
    with pytest.raises(InvalidPointError, match="broadcast"):
        function(a, a[:2])
