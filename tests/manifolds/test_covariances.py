"""Covariances, singular ones among them, at depth 2: the geometry of Bures and Wasserstein."""

import numpy as np
import pytest
from geomstats.learning.frechet_mean import FrechetMean
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics.integrate import _Run


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ vectors.swapaxes(-1, -2)


def wasserstein(first, last):
    """Return sqrt(2) times Bures-Wasserstein distances, by square roots of matrices."""
    fidelity = np.linalg.svd(root(first) @ root(last), compute_uv=False).sum(axis=-1)
    traces = np.trace(first, axis1=-2, axis2=-1) + np.trace(last, axis1=-2, axis2=-1)
    return np.sqrt(2 * np.maximum(traces - 2 * fidelity, 0.0))


def barycentre(points, iterations=400):
    """Return the mean in that distance by a fixed point, in the span of the arithmetic mean."""
    mean = points.mean(axis=0)
    values, vectors = np.linalg.eigh(mean)
    span = vectors[:, values > 1e-12 * values[-1]]
    inside = span.T @ points @ span
    mean = span.T @ mean @ span
    for _ in range(iterations):
        half = root(mean)
        inverse = np.linalg.inv(half)
        square = root(half @ inside @ half).mean(axis=0)
        mean = inverse @ square @ square @ inverse
    return span @ mean @ span.T


def referenced(n, count, seed=0):
    """Return covariances of n channels after average reference: the constant vector is null."""
    rng = np.random.default_rng(seed)
    signals = (np.eye(n) - 1 / n) @ rng.normal(size=(count, n, 60)) * np.exp(rng.normal(size=60))
    return signals @ signals.swapaxes(-1, -2) / 60


def digits(n_pixels):
    """Return covariances of the first pixels for each digit: some pixels are constant."""
    data = load_digits()
    return np.stack([np.cov(data.data[data.target == k][:, :n_pixels].T) for k in range(10)])


@pytest.mark.parametrize("n", [3, 8, 17])
def test_average_reference(n):
    points = referenced(n, 12)
    wanted = wasserstein(points[0], points[1:])
    full, lower = DLNObservableManifold(n, 2), DLNObservableManifold(n, 2, rank=n - 1)
    raised = full.projection(points)
    assert full.belongs(raised).all()
    assert_allclose(full.metric.dist(raised[0], raised[1:]), wanted, rtol=1e-7)
    kept = lower.projection(points)
    assert_allclose(lower.metric.dist(kept[0], kept[1:]), wanted, rtol=1e-9)
    found = full.metric.completed_dist(points[1:4], points[0])
    assert_allclose(found, wanted[:3], rtol=1e-9)


@pytest.mark.parametrize("n_pixels", [17, 64])
def test_constant_pixels(n_pixels):
    """Of ranks that differ, each below full rank."""
    points = digits(n_pixels)
    ranks = np.linalg.matrix_rank(points)
    assert ranks.max() < n_pixels
    assert ranks.min() < ranks.max()
    space = DLNObservableManifold(n_pixels, 2)
    raised = space.projection(points)
    found = space.metric.dist_pairwise(raised)
    wanted = wasserstein(points[:, None], points[None])
    apart = ~np.eye(10, dtype=bool)
    assert_allclose(found[apart], wanted[apart], rtol=1e-7)
    velocity = space.metric.log(raised[1:], raised[0])
    reached = space.metric.exp(velocity, raised[0])
    assert np.abs(reached - raised[1:]).max() <= 1e-9 * np.abs(raised).max()


def test_means_of_singular_covariances():
    for points in (referenced(8, 6), digits(17)):
        space = DLNObservableManifold(points.shape[-1], 2)
        raised = space.projection(points)
        estimator = FrechetMean(space).set(epsilon=1e-20, max_iter=100)
        mean = estimator.fit(raised).estimate_
        wanted = barycentre(points)
        assert np.linalg.norm(mean - wanted) <= 1e-7 * np.linalg.norm(wanted)


@pytest.mark.parametrize("n", [3, 8, 64])
def test_ridges(n):
    """Exactly symmetric matrices with a ridge of 1e-13 are points, and close to singular ones."""
    rng = np.random.default_rng(n)
    factors = rng.normal(size=(6, n, n // 2 + 1))
    points = factors @ factors.swapaxes(-1, -2)
    largest = np.linalg.norm(points, 2, axis=(-2, -1))[:, None, None]
    ridged = points + 1e-13 * largest * np.eye(n)
    space = DLNObservableManifold(n, 2)
    assert space.belongs(ridged).all()
    assert_array_equal(space.projection(ridged), ridged)
    wanted = wasserstein(ridged[0], ridged[1:])
    assert_allclose(space.metric.dist(ridged[0], ridged[1:]), wanted, rtol=1e-7)


def test_all_channels_equal():
    """A covariance of rank one, far below full rank."""
    points = np.stack([np.ones((3, 3)), *referenced(3, 1), np.diag([1.0, 0.0, 0.0])])
    space = DLNObservableManifold(3, 2)
    raised = space.projection(points)
    found = space.metric.dist(raised[0], raised[1:])
    assert_allclose(found, wasserstein(points[0], points[1:]), rtol=1e-7)


@pytest.mark.parametrize("turned", [False, True])
def test_straight_factors_are_the_flow(monkeypatch, turned):
    """The closed form against the integrator, between matrices far from singular ones."""
    rng = np.random.default_rng(5)
    first, last = (x @ x.T + 0.1 * np.eye(4) for x in rng.normal(size=(2, 4, 4)))
    if turned:
        first, last = (np.linalg.qr(rng.normal(size=(4, 4)))[0] @ x for x in (first, last))
        last = _with_polar(first, last)
    metric = DLNObservableManifold(4, 2).metric
    velocity = metric.log(last, first)
    times = np.array([0.2, 0.7, 1.1])
    found = metric.solve_exp(velocity, first)
    before = metric.solve_exp(-4 * velocity, first)
    monkeypatch.setattr(_Run, "_leave_straight", lambda self: None)
    stepped = metric.solve_exp(velocity, first)
    assert found.n_iterations == 0 < stepped.n_iterations
    assert_allclose(found(times), stepped(times), atol=1e-12 * np.abs(last).max())
    assert found.residual < 1e-13
    wanted = metric.solve_exp(-4 * velocity, first)
    assert_array_equal(before.status, wanted.status)
    assert_allclose(before.crossing_time, wanted.crossing_time, rtol=1e-10)
    assert np.isfinite(before.crossing_time)


def _with_polar(like, matrix):
    """Return a matrix with the polar factor of another one."""
    u, _, vt = np.linalg.svd(like)
    _, values, right_t = np.linalg.svd(matrix)
    return u @ vt @ (right_t.T * values) @ right_t
