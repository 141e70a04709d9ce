"""Geodesics that are known: numbers, depth one, depth two on SPD, common singular vectors."""

import mpmath
import numpy as np
import pytest
from geomstats.geometry.spd_matrices import SPDBuresWassersteinMetric, SPDMatrices
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import DLNObservableManifold


def rotation(n):
    """Return a random rotation."""
    q = np.linalg.qr(np.random.normal(size=(n, n)))[0]
    q[:, 0] *= np.linalg.det(q)
    return q


def spd(values, axes=None):
    """Return an SPD matrix with given eigenvalues."""
    axes = rotation(len(values)) if axes is None else axes
    matrix = (axes * np.asarray(values)) @ axes.T
    return (matrix + matrix.T) / 2


def exact_function(matrix, function):
    """Apply a function to the eigenvalues of a symmetric mpmath matrix."""
    values, vectors = mpmath.eigsy((matrix + matrix.T) / 2)
    return vectors * mpmath.diag([function(x) for x in values]) * vectors.T


def exact_bures_wasserstein(A, B):
    """Return distance and logarithm (Bhatia, Jain and Lim 2019), computed with 60 digits."""
    with mpmath.workdps(60):
        A, B = mpmath.matrix(A.tolist()), mpmath.matrix(B.tolist())
        root = exact_function(A, mpmath.sqrt)
        cross = exact_function(root * B * root, mpmath.sqrt)
        trace = sum((A + B - 2 * cross)[i, i] for i in range(A.rows))
        half = root * cross * root**-1
        log = half + half.T - 2 * A
        return float(mpmath.sqrt(trace)), np.array(log.tolist(), dtype=float)


SPD_PAIRS = {
    "random": lambda: (spd([3, 1, 0.2]), spd([2, 1.5, 0.4])),
    "far apart": lambda: (spd([30, 1, 0.02]), spd([0.1, 5, 700])),
    "ill-conditioned": lambda: (spd([1, 1e-3, 1e-6]), spd([2, 1e-2, 1e-5])),
    "very ill-conditioned": lambda: (spd([1, 1e-5, 1e-9]), spd([1, 1e-4, 1e-8])),
    "commuting": lambda: (lambda q: (spd([3, 1, 0.2], q), spd([0.5, 4, 1], q)))(rotation(3)),
    "commuting and ill-conditioned": lambda: (
        lambda q: (spd([1, 1e-4, 1e-8], q), spd([1e-8, 1, 1e-4], q))
    )(rotation(3)),
    "close": lambda: (lambda a: (a, a + 1e-6 * spd([1, 2, 3])))(spd([3, 1, 0.2])),
    "repeated eigenvalues": lambda: (np.eye(3), spd([2, 2, 0.5])),
    "multiples": lambda: (np.eye(3), 7 * np.eye(3)),
}


@pytest.fixture(params=SPD_PAIRS)
def pair(request):
    return SPD_PAIRS[request.param]()


@pytest.fixture
def two():
    """Return the space of depth two."""
    return DLNObservableManifold(3, 2)


def test_distance_at_depth_two_is_that_of_bures_wasserstein(two, pair):
    expected = np.sqrt(2) * exact_bures_wasserstein(*pair)[0]
    assert_allclose(two.metric.dist(*pair), expected, rtol=1e-10, atol=1e-14)


def test_log_at_depth_two_is_that_of_bures_wasserstein(two, pair):
    A, B = pair
    expected = exact_bures_wasserstein(A, B)[1]
    error = np.linalg.norm(two.metric.log(B, A) - expected)
    assert error <= 1e-10 * np.linalg.norm(expected) + 1e-14 * np.linalg.norm(A)


def test_exp_at_depth_two_is_that_of_bures_wasserstein(two, pair):
    # exp(log(B)) = B with the exact logarithm: only exp is on trial.
    A, B = pair
    log = exact_bures_wasserstein(A, B)[1]
    assert np.linalg.norm(two.metric.exp(log, A) - B) <= 1e-10 * np.linalg.norm(B)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_depth_two_agrees_with_geomstats(n):
    space = DLNObservableManifold(n, 2)
    other = SPDMatrices(n, equip=False)
    other.equip_with_metric(SPDBuresWassersteinMetric)
    A, B = other.random_point(5), other.random_point(5)
    dist = np.sqrt(2) * other.metric.dist(A, B)
    assert_allclose(space.metric.dist(A, B), dist, rtol=1e-10)
    log = other.metric.log(B, A)
    assert_allclose(space.metric.log(B, A), log, rtol=0, atol=1e-10 * np.abs(log).max())
    vector = 0.3 * other.to_tangent(other.random_tangent_vec(A))
    end = other.metric.exp(vector, A)
    assert_allclose(space.metric.exp(vector, A), end, rtol=0, atol=1e-10 * np.abs(end).max())


def test_depth_two_with_a_common_polar_factor(two):
    # An isometry of Bures-Wasserstein: X = S O with the same O.
    A, B, polar = spd([3, 1, 0.2]), spd([2, 1.5, 0.4]), rotation(3)
    expected = np.sqrt(2) * exact_bures_wasserstein(A, B)[0]
    assert_allclose(two.metric.dist(A @ polar, B @ polar), expected, rtol=1e-10)


@pytest.mark.parametrize("size", [1e-9, 1e-12, 1e-14])
def test_log_at_depth_two_is_continuous_near_spd_matrices(two, size):
    # The closed form and the path method meet.
    A, B = spd([3, 1, 0.2]), spd([2, 1.5, 0.4])
    skew = np.array([[0, 1, 2], [-1, 0, 3], [-2, -3, 0.0]])
    change = np.linalg.norm(two.metric.log(B + size * skew, A) - two.metric.log(B, A))
    assert change <= 100 * size + 1e-11


@pytest.mark.parametrize("n", [1, 2, 4])
def test_depth_one_is_euclidean(n):
    space = DLNObservableManifold(n, 1)
    X, Y = space.random_point(2)
    Y = X + 0.3 * (Y - X) * np.linalg.svd(X, compute_uv=False)[-1] / np.linalg.norm(Y - X)
    assert_array_equal(space.metric.log(Y, X), Y - X)
    assert_array_equal(space.metric.exp(Y - X, X), X + (Y - X))
    assert_allclose(space.metric.dist(X, Y), np.linalg.norm(Y - X), rtol=1e-13)


def test_geodesics_at_depth_one_are_straight():
    space = DLNObservableManifold(3, 1)
    X = space.random_point()
    Y = X + 0.1 * np.ones((3, 3)) * np.linalg.svd(X, compute_uv=False)[-1]
    times = np.linspace(0, 1, 5)
    expected = X + times[:, None, None] * (Y - X)
    assert_allclose(space.metric.geodesic(X, end_point=Y)(times), expected, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 8, 30])
def test_numbers_move_on_straight_lines_of_roots(depth):
    space = DLNObservableManifold(1, depth)
    x, y = np.array([[2.0]]), np.array([[0.7]])
    root_x, root_y = 2 ** (1 / depth), 0.7 ** (1 / depth)
    dist = np.sqrt(depth) * (root_x - root_y)
    assert_allclose(space.metric.dist(x, y), dist, rtol=1e-12)
    velocity = depth * root_x ** (depth - 1) * (root_y - root_x)
    assert_allclose(space.metric.log(y, x), [[velocity]], rtol=1e-12)
    middle = ((root_x + root_y) / 2) ** depth
    assert_allclose(space.metric.geodesic(x, end_point=y)(0.5), [[[middle]]], rtol=1e-12)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8, 30])
def test_common_singular_vectors_give_straight_lines_of_roots(depth):
    space = DLNObservableManifold(4, depth)
    U, V = rotation(4), rotation(4)
    # The order of the singular values changes on the way.
    start, end = np.array([3.0, 1.0, 0.5, 0.1]), np.array([0.2, 1.0, 0.4, 2.0])
    roots = start ** (1 / depth), end ** (1 / depth)
    X, Y = (U * start) @ V.T, (U * end) @ V.T
    dist = np.sqrt(depth) * np.linalg.norm(roots[1] - roots[0])
    assert_allclose(space.metric.dist(X, Y), dist, rtol=1e-11)
    velocity = depth * roots[0] ** (depth - 1) * (roots[1] - roots[0])
    expected = (U * velocity) @ V.T
    assert_allclose(space.metric.log(Y, X), expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    middle = (U * (0.3 * roots[0] + 0.7 * roots[1]) ** depth) @ V.T
    point = space.metric.geodesic(X, end_point=Y)(0.7)[0]
    assert_allclose(point, middle, rtol=0, atol=1e-11 * np.abs(middle).max())


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8])
def test_quarter_turn_in_the_plane(depth):
    # For n = 2 the multiples of rotations are a flat cone: kappa is N on it, so that the metric of
    # T = r R(theta) is 2 (N dr^2 + r^2 dtheta^2 / N), a cone of angle theta / N.
    space = DLNObservableManifold(2, depth)
    R = np.array([[0.0, -1.0], [1.0, 0.0]])
    dist = np.sqrt(2 * depth * (2 - 2 * np.cos(np.pi / 2 / depth)))
    assert_allclose(space.metric.dist(np.eye(2), R), dist, rtol=1e-11)
