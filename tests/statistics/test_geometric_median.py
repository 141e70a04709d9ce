"""Geometric medians against closed forms, another minimizer and their own condition."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.errors import DisconnectedPointsError, GeodesicWarning, InvalidPointError
from dln_manifolds.statistics import FrechetMean, GeometricMedian


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def cloud(rng, space, n_points, spread=0.3):
    center = space.random_point()
    vectors = space.random_tangent_vec(np.broadcast_to(center, (n_points, *center.shape)))
    vectors = vectors / space.metric.norm(vectors, center).reshape(-1, *(1,) * center.ndim)
    return space.metric.exp(spread * vectors, center)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_numbers_have_the_weighted_median(rng, scale):
    space = DLNObservableManifold(n=1, depth=3)
    points = scale * rng.uniform(0.5, 3, size=(7, 1, 1))
    weights = rng.uniform(0.5, 1.5, size=7)
    order = np.argsort(points[:, 0, 0])
    share = np.cumsum(weights[order]) / weights.sum()
    expected = points[order[np.searchsorted(share, 0.5)]]
    found = GeometricMedian(space).fit(points, sample_weight=weights)
    np.testing.assert_array_equal(found.estimate_, expected)
    assert found.gradient_norm_ == 0


def test_flat_matrices_have_the_euclidean_median(rng):
    space = DLNObservableManifold(n=2, depth=1)
    points = 3 * np.eye(2) + 0.5 * rng.normal(size=(9, 2, 2))
    weights = rng.uniform(0.5, 1.5, size=9)

    def mean_distance(entries):
        apart = np.linalg.norm(points.reshape(9, 4) - entries, axis=1)
        return np.average(apart, weights=weights)

    best = minimize(mean_distance, points.mean(axis=0).ravel(), method="BFGS", tol=1e-10)
    found = GeometricMedian(space).fit(points, sample_weight=weights)
    np.testing.assert_allclose(found.estimate_.ravel(), best.x, atol=1e-6)
    assert found.mean_distance_ <= best.fun * (1 + 1e-14)
    assert found.n_iter_ < 25


SPACES = [
    DLNObservableManifold(n=3, depth=2),
    DLNObservableManifold(n=3, depth=4),
    DLNObservableManifold(n=2, depth=math.inf),
    DLNObservableManifold(shape=(4, 3), rank=2, depth=3),
    BalancedManifold(n=2, depth=3),
]


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_mean_of_unit_vectors_is_zero(space, rng):
    points, weights = cloud(rng, space, 6), np.array([1.0, 2.0, 0.0, 1.0, 0.5, 1.0])
    found = GeometricMedian(space).fit(points, sample_weight=weights)
    kept, weights = points[weights > 0], weights[weights > 0] / weights.sum()
    lengths = space.metric.dist(kept, found.estimate_)
    np.testing.assert_allclose(found.mean_distance_, weights @ lengths, rtol=1e-9)
    logs = space.metric.log(kept, found.estimate_)
    apart = lengths > 0
    total = np.tensordot(weights[apart] / lengths[apart], logs[apart], 1)
    norm = space.metric.norm(total, found.estimate_)
    assert norm <= weights[~apart].sum() + 1e-10


def test_a_heavy_sample_is_the_median(rng):
    space = DLNObservableManifold(n=2, depth=3)
    points = cloud(rng, space, 5)
    found = GeometricMedian(space).fit(points, sample_weight=[1, 1, 5, 1, 1])
    np.testing.assert_array_equal(found.estimate_, points[2])
    # twice the same sample, just as heavy
    twice = np.concatenate([points, points[2:3]])
    found = GeometricMedian(space).fit(twice, sample_weight=[1, 1, 2, 1, 1, 2.5])
    np.testing.assert_array_equal(found.estimate_, points[2])
    # not heavy enough: one starts there, and leaves
    light = GeometricMedian(space, init_point=points[2]).fit(points)
    assert light.mean_distance_ < space.metric.dist(points, points[2]).mean()
    assert space.metric.dist(light.estimate_, points[2]) > 0


def test_outliers_hardly_matter(rng):
    space = DLNObservableManifold(n=2, depth=3)
    points = cloud(rng, space, 8, spread=0.1)
    outlier = 50 * points[:1]
    moved = [
        space.metric.dist(
            kind(space).fit(points).estimate_,
            kind(space).fit(np.concatenate([points, outlier])).estimate_,
        )
        for kind in (GeometricMedian, FrechetMean)
    ]
    assert moved[0] < 0.1 * moved[1]


def test_starts_weights_and_bad_input(rng):
    space = DLNObservableManifold(n=2, depth=3)
    points, told = cloud(rng, space, 5), []
    estimator = GeometricMedian(space, warm_start=True, progress=lambda *done: told.append(done))
    first = estimator.fit(points).estimate_
    assert told[-1] == (estimator.n_iter_, 100)
    assert estimator.fit(points).n_iter_ <= 1
    np.testing.assert_allclose(estimator.estimate_, first, atol=1e-9)
    assert len(estimator.solution_.length) == 5
    with pytest.warns(GeodesicWarning, match="mean of unit vectors"):
        GeometricMedian(space, max_iter=1).fit(points)
    one = GeometricMedian(space).fit(points[:1])
    np.testing.assert_array_equal(one.estimate_, points[0])
    with pytest.raises(InvalidPointError, match="X is empty"):
        GeometricMedian(space).fit(points[:0])
    with pytest.raises(DisconnectedPointsError, match="another component"):
        GeometricMedian(space).fit([np.eye(2), np.diag([1.0, -1.0])])
    with pytest.raises(ValueError, match="zero throughout"):
        GeometricMedian(space).fit(points, sample_weight=np.zeros(5))
    with pytest.raises(TypeError, match=r"space is None; give .* GeometricMedian\("):
        GeometricMedian(None)
