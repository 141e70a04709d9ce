"""Learning algorithms of geomstats run on the space unchanged."""

import logging
import math

import numpy as np
import pytest
from geomstats.learning.frechet_mean import FrechetMean, variance
from geomstats.learning.geometric_median import GeometricMedian
from geomstats.learning.kmeans import RiemannianKMeans
from geomstats.learning.mdm import RiemannianMinimumDistanceToMean
from geomstats.learning.pca import TangentPCA
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import DLNObservableManifold, IncompleteGeodesicError


def frechet_mean(space, points, method="default", **options):
    """Return geomstats' Fréchet mean, iterated as far as rounding allows."""
    estimator = FrechetMean(space, method=method)
    # the squared norm of the gradient, by dimension or not, or the norm
    epsilon = {"default": 1e-22, "batch": 1e-16, "adaptive": 1e-8}[method]
    estimator.set(max_iter=64, epsilon=epsilon, **options)
    return estimator.fit(points).estimate_


def gradient_norm(space, points, mean, weights=None):
    """Return the Riemannian norm of the gradient of half the variance."""
    gradient = np.average(space.metric.log(points, mean), axis=0, weights=weights)
    return space.metric.norm(gradient, mean)


def cluster(space, centre, count, size=0.1):
    """Return random points near a centre, at distances of ``size`` times ``|W|``."""
    roots = np.linalg.svd(centre, compute_uv=False) ** (1 / space.depth)
    length = size * np.sqrt(space.depth * np.sum(roots**2))
    return space.metric.exp(length * space.metric.random_unit_tangent_vec(centre, count), centre)


def test_frechet_mean_of_a_hundred_matrices():
    space = DLNObservableManifold(5, 4)
    points = cluster(space, space.random_point(), 100, 0.3)
    mean = frechet_mean(space, points)
    assert gradient_norm(space, points, mean) <= 1e-9


@pytest.mark.slow
def test_frechet_mean_of_a_hundred_scattered_matrices():
    """Gaussian matrices with positive determinants, without a common centre, in short rounds.

    geomstats halves its step for good whenever the gradient exceeds its least norm so far, as it
    does where the geodesic to one of the points jumps. A round starts with the whole step again.
    """
    space = DLNObservableManifold(5, 4)
    np.random.seed(0)
    points = np.random.normal(size=(100, 5, 5))
    points[:, 0] *= np.linalg.slogdet(points)[0][:, None]
    mean = np.eye(5)
    for _ in range(16):
        estimator = FrechetMean(space).set(init_step_size=0.5, max_iter=12, epsilon=1e-20)
        mean = estimator.set(init_point=mean).fit(points).estimate_
        if gradient_norm(space, points, mean) <= 1e-9:
            break
    assert gradient_norm(space, points, mean) <= 1e-9


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_frechet_mean_is_that_of_the_roots_where_singular_vectors_agree(depth):
    space = DLNObservableManifold(4, depth)
    U, V = np.linalg.qr(np.random.normal(size=(2, 4, 4)))[0]
    values = np.exp(np.random.uniform(-1, 1, size=(20, 4)))
    points = (U * values[:, None, :]) @ V.T
    expected = (U * np.mean(values ** (1 / depth), axis=0) ** depth) @ V.T
    mean = frechet_mean(space, points)
    assert_allclose(mean, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_frechet_mean_of_two_points_is_the_middle_of_their_geodesic():
    space = DLNObservableManifold(3, 4)
    X, Y = space.random_point(2)
    mean = frechet_mean(space, np.stack([X, Y]))
    assert_allclose(mean, space.metric.geodesic(X, end_point=Y)(0.5)[0], atol=1e-9)


def test_frechet_mean_with_weights():
    space = DLNObservableManifold(3, 4)
    points = cluster(space, np.eye(3), 10, 0.3)
    weights = np.arange(1.0, 11.0)
    estimator = FrechetMean(space)
    estimator.set(max_iter=64, epsilon=1e-22)
    mean = estimator.fit(points, weights=weights).estimate_
    assert gradient_norm(space, points, mean, weights) <= 1e-9


@pytest.mark.parametrize("method", ["adaptive", "batch"])
def test_other_descents_find_the_same_mean(method):
    space = DLNObservableManifold(3, 4)
    points = cluster(space, np.eye(3), 10, 0.2)
    expected = frechet_mean(space, points)
    # the batch descent takes several sets of points at once
    given = points[:, None] if method == "batch" else points
    mean = frechet_mean(space, given, method).reshape(3, 3)
    assert_allclose(mean, expected, atol=1e-6)


def test_frechet_mean_is_equivariant_under_rotations():
    space = DLNObservableManifold(3, 4)
    points = cluster(space, np.diag([2.0, 1.0, 0.5]), 10, 0.2)
    R, Q = np.linalg.qr(np.random.normal(size=(2, 3, 3)))[0]
    mean = frechet_mean(space, points)
    assert_allclose(frechet_mean(space, R @ points @ Q), R @ mean @ Q, atol=1e-9)


def test_frechet_mean_minimizes_the_variance():
    space = DLNObservableManifold(3, 4)
    points = cluster(space, np.diag([2.0, 1.0, 0.5]), 10, 0.3)
    mean = frechet_mean(space, points)
    least = variance(space, points, mean)
    for other in [np.mean(points, axis=0), *cluster(space, mean, 3, 0.01)]:
        assert variance(space, points, other) > least


def test_frechet_mean_reaches_its_goal_without_a_warning(caplog):
    space = DLNObservableManifold(3, 4)
    points = cluster(space, np.eye(3), 10, 0.3)
    with caplog.at_level(logging.WARNING):
        frechet_mean(space, points)
    assert "Maximum number of iterations" not in caplog.text


@pytest.fixture
def clusters():
    """Return a space, two clusters of points far apart, and their labels."""
    space = DLNObservableManifold(3, 4)
    first = cluster(space, np.diag([2.0, 1.0, 0.5]), 6)
    second = cluster(space, np.diag([0.3, 2.0, 3.0]), 6)
    return space, np.concatenate([first, second]), np.repeat([0, 1], 6)


def test_k_means_separates_two_clusters(clusters):
    space, points, labels = clusters
    found = RiemannianKMeans(space, n_clusters=2, tol=1e-6).fit(points).predict(points)
    if found[0] == 1:
        found = 1 - found
    assert_array_equal(found, labels)


def test_minimum_distance_to_mean_classifies(clusters):
    space, points, labels = clusters
    classifier = RiemannianMinimumDistanceToMean(space).fit(points, labels)
    assert_array_equal(classifier.predict(points), labels)


def test_geometric_median_of_points_in_line():
    # Of three points on a geodesic it is the middle one, wherever it lies.
    space = DLNObservableManifold(3, 4)
    X, Y = np.diag([2.0, 1.0, 0.5]), np.array([[1.0, 0.2, 0], [-0.3, 1.5, 0.4], [0, 0.1, 0.7]])
    points = space.metric.geodesic(X, end_point=Y)([0.0, 0.3, 1.0])
    median = GeometricMedian(space, max_iter=200, epsilon=1e-12).fit(points).estimate_
    assert space.metric.dist(median, points[1]) <= 1e-2 * space.metric.dist(X, Y)


def test_tangent_pca_explains_a_geodesic_by_one_component():
    space = DLNObservableManifold(3, 4)
    X = np.array([[1.0, 0.2, 0], [-0.3, 1.5, 0.4], [0, 0.1, 0.7]])
    v = 0.3 * space.random_tangent_vec(X)
    points = space.metric.geodesic(X, initial_tangent_vec=v)(np.linspace(-1, 1, 5))
    pca = TangentPCA(space, n_components=2).fit(points, base_point=X)
    assert pca.explained_variance_ratio_[0] >= 1 - 1e-12


TRANSPORTS = [
    DLNObservableManifold(3, 4),
    DLNObservableManifold(2, 1.5),
    DLNObservableManifold(3, math.inf),
    DLNObservableManifold(shape=(3, 2), depth=2.5),
    DLNObservableManifold(shape=(3, 4), rank=2, depth=3),
    DLNObservableManifold(shape=(3, 3), rank=1, depth=1),
]


def test_parallel_transport_of_depth_one_is_the_identity():
    space = DLNObservableManifold(3, 1)
    X, v, d = np.eye(3), 0.1 * np.arange(9.0).reshape(3, 3), 0.05 * np.ones((3, 3))
    assert_allclose(space.metric.parallel_transport(v, X, direction=d), v, rtol=0, atol=1e-12)


def test_parallel_transport_of_a_velocity_is_the_velocity():
    space = DLNObservableManifold(3, 4)
    X, Y = np.diag([2.0, 1.0, 0.5]), np.array([[1.0, 0.2, 0], [-0.3, 1.5, 0.4], [0, 0.1, 0.7]])
    transported = space.metric.parallel_transport(space.metric.log(Y, X), X, end_point=Y)
    assert_allclose(transported, -space.metric.log(X, Y), rtol=0, atol=1e-8)


@pytest.mark.parametrize("space", TRANSPORTS, ids=repr)
def test_parallel_transport_preserves_inner_products(space):
    X = space.projection(np.eye(*space.shape) + 0.3 * np.random.normal(size=space.shape))
    u, v, d = space.metric.random_unit_tangent_vec(X, 3)
    d = 0.4 * space.metric.norm(X, X) * d
    end = space.metric.exp(d, X)
    a, b = space.metric.parallel_transport(np.stack([u, v]), X, direction=d)
    for first, last in (((u, u), (a, a)), ((u, v), (a, b)), ((v, v), (b, b))):
        kept = space.metric.inner_product(*last, end)
        assert_allclose(kept, space.metric.inner_product(*first, X), rtol=0, atol=1e-11)


@pytest.mark.parametrize("space", TRANSPORTS, ids=repr)
def test_parallel_transport_there_and_back(space):
    # The identity, or its nearest neighbour: all singular values are equal.
    X = space.projection(np.eye(*space.shape))
    v, d = space.metric.random_unit_tangent_vec(X, 2)
    d = 0.4 * space.metric.norm(X, X) * d
    Y = space.metric.exp(d, X)
    there, velocity = space.metric.parallel_transport(np.stack([v, d]), X, direction=d)
    back = space.metric.parallel_transport(there, Y, direction=-velocity)
    assert space.metric.norm(back - v, X) <= 1e-11


@pytest.mark.parametrize("space", TRANSPORTS, ids=repr)
def test_parallel_transport_obeys_the_connection(space):
    """``(nabla_d P)(0) = 0``: differences of transported vectors against the Christoffel action."""
    X = space.random_point()
    v, d = space.metric.random_unit_tangent_vec(X, 2)
    step = 2e-3 * space.metric.norm(X, X)
    at = [space.metric.parallel_transport(v, X, direction=k * step * d) for k in (-2, -1, 1, 2)]
    rate = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step)
    gamma = space.metric.connection(d, v, X)
    assert_allclose(rate, -gamma, rtol=0, atol=1e-7 * max(np.abs(gamma).max(), 1.0))


def test_parallel_transport_is_what_the_ladder_tends_to():
    space = DLNObservableManifold(3, 4)
    X = np.diag([2.0, 1.0, 0.5])
    v, d = 0.1 * space.random_tangent_vec(X), 0.2 * space.random_tangent_vec(X)
    exact = space.metric.parallel_transport(v, X, direction=d)
    errors = []
    for n_rungs in (1, 2):
        ladder = space.metric.ladder_parallel_transport(
            v, X, d, n_rungs=n_rungs, scheme="pole", alpha=2
        )
        errors.append(space.metric.norm(ladder["transported_tangent_vec"] - exact, X))
    assert errors[0] <= 1e-2 * space.metric.norm(v, X)
    assert errors[1] <= errors[0] / 3


def test_parallel_transport_into_a_singular_matrix():
    space = DLNObservableManifold(3, 4)
    X, v = np.diag([2.0, 1.0, 0.5]), np.ones((3, 3))
    with pytest.raises(IncompleteGeodesicError, match="singular"):
        space.metric.parallel_transport(v, X, direction=np.diag([0.0, 0.0, -4.0]))


def test_directions_agree_with_end_points():
    space = DLNObservableManifold(3, 4)
    X = np.diag([2.0, 1.0, 0.5])
    v, d = 0.1 * space.random_tangent_vec(X), 0.2 * space.random_tangent_vec(X)
    along = space.metric.parallel_transport(v, X, direction=d)
    to = space.metric.parallel_transport(v, X, end_point=space.metric.exp(d, X))
    assert_allclose(to, along, rtol=0, atol=1e-8)


def test_scaled_metric():
    space = DLNObservableManifold(3, 4)
    X, Y = np.diag([2.0, 1.0, 0.5]), np.eye(3)
    scaled = 4.0 * space.metric
    assert_allclose(scaled.dist(X, Y), 2 * space.metric.dist(X, Y), rtol=1e-12)
    assert_array_equal(scaled.log(Y, X), space.metric.log(Y, X))
