"""Depth from N = 10 to infinity: costs that stay the same, the limit, and what is special there."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold

AT_INFINITY = DLNObservableManifold(4, math.inf)


def gaussian_pairs(n, n_pairs, seed=0):
    first, last = np.random.default_rng(seed).normal(size=(2, n_pairs, n, n))
    apart = np.linalg.slogdet(first)[0] != np.linalg.slogdet(last)[0]
    last[apart, 0] *= -1
    return first, last


@pytest.mark.parametrize(("n", "n_pairs"), [(3, 40), (8, 8)])
def test_logs_cost_the_same_at_every_depth(n, n_pairs):
    X, Y = gaussian_pairs(n, n_pairs)
    counts = []
    for depth in (10, 100, 1e3, 1e4, 1e6, math.inf):
        solution = DLNObservableManifold(n, depth).metric.solve_log(Y, X)
        assert solution.success.all()
        assert solution.residual.max() <= 1e-10
        counts.append(solution.n_evaluations.mean())
    assert max(counts) <= 1.5 * counts[0], counts


@pytest.mark.parametrize("n", [2, 3, 5])
def test_distances_converge_to_those_at_infinity(n):
    """``sqrt(N) d_N(X, Y)`` like 1/N; its mean with that of the inverses like 1/N^2.

    ``a_N / N = a_inf (1 - (log s_i + log s_j) / N + ...)``: inversion changes the sign of the term.
    """
    X, Y = gaussian_pairs(n, 5)
    limit = DLNObservableManifold(n, math.inf).metric.dist(X, Y)
    odd, even = [], []
    for depth in (200, 400, 800):
        metric = DLNObservableManifold(n, depth).metric
        there = math.sqrt(depth) * metric.dist(X, Y)
        inverse = math.sqrt(depth) * metric.dist(np.linalg.inv(X), np.linalg.inv(Y))
        odd.append((there - inverse) / 2)
        even.append((there + inverse) / 2 - limit)
    odd, even = np.array(odd), np.array(even)
    assert_allclose(odd[:-1] / odd[1:], 2, rtol=2e-3)
    assert_allclose(even[:-1] / even[1:], 4, rtol=2e-3)


def test_geodesics_converge_to_those_at_infinity():
    X, Y = gaussian_pairs(3, 5)
    limit = DLNObservableManifold(3, math.inf).metric
    velocity = limit.log(Y, X)
    for depth in (1e4, 1e6, 1e8):
        metric = DLNObservableManifold(3, depth).metric
        size = np.abs(velocity).max()
        assert_allclose(metric.log(Y, X), velocity, atol=100 * size / depth)
        assert_allclose(metric.exp(velocity, X), Y, atol=1e3 / depth)


def test_isometries_at_infinity():
    """Inversion and scaling, beside those of every depth; and log |det X| is affine."""
    metric = AT_INFINITY.metric
    X, Y = gaussian_pairs(4, 6)
    expected = metric.dist(X, Y)
    assert_allclose(metric.dist(np.linalg.inv(X), np.linalg.inv(Y)), expected, rtol=1e-12)
    assert_allclose(metric.dist(1e30 * X, 1e30 * Y), expected, rtol=1e-12)
    assert_allclose(metric.dist(X.swapaxes(1, 2), Y.swapaxes(1, 2)), expected, rtol=1e-12)
    # Scaling one end alone: the determinant is a line of its own.
    traces = np.linalg.slogdet(Y)[1] - np.linalg.slogdet(X)[1]
    shifted = (traces + 4 * math.log(7)) ** 2 - traces**2
    assert_allclose(metric.dist(X, 7 * Y) ** 2, expected**2 + shifted / 4, rtol=1e-12)
    Z = metric.log(Y, X)
    inverse = np.linalg.inv(X)
    assert_allclose(
        metric.exp(-inverse @ Z @ inverse, inverse), np.linalg.inv(Y), rtol=1e-9, atol=1e-9
    )
    times = np.linspace(0, 1, 5)
    logs = np.linalg.slogdet(metric.geodesic(X, end_point=Y)(times))[1]
    start = np.linalg.slogdet(X)[1]
    assert_allclose(logs, start[:, None] + times * traces[:, None], atol=1e-11)


def test_same_singular_vectors_at_infinity():
    """``X_0^(1-t) X_1^t`` of singular values, and the distance of their logarithms."""
    u, v = np.linalg.qr(np.random.normal(size=(2, 4, 4)))[0]
    a, b = np.array([3.0, 1.0, 1.0, 0.1]), np.array([1.0, 2.0, 0.3, 1e-3])
    X, Y = (u * a) @ v, (u * b) @ v
    metric = AT_INFINITY.metric
    assert_allclose(metric.dist(X, Y), np.linalg.norm(np.log(a / b)), rtol=1e-12)
    middle = metric.geodesic(X, end_point=Y)(0.5)[0]
    assert_allclose(middle, (u * np.sqrt(a * b)) @ v, atol=1e-12)


@pytest.mark.parametrize(
    "arguments", [{"n": 3, "rank": 2}, {"shape": (4, 3)}, {"widths": (3, 3, 3), "rank": 3}], ids=str
)
def test_infinite_depth_below_full_rank_is_refused_with_its_reason(arguments):
    with pytest.raises(ValueError, match=r"depth=inf (needs|contradicts)"):
        DLNObservableManifold(**arguments, depth=math.inf)
