"""Geodesics between points of very different size: the cone law, checked by the flow."""

import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.numerics.matrices import size_of


def relative(got, expected, point_ndim):
    axes = tuple(range(-point_ndim, 0))
    return np.sqrt(np.sum((got - expected) ** 2, axis=axes) / np.sum(expected**2, axis=axes))


@pytest.mark.parametrize(
    ("depth", "factor"),
    [(1.5, 1e6), (2, 1e-6), (3, 1e6), (3, 1e-6), (1.5, 1e-40), (2, 1e40), (30, 1e40)],
)
def test_end_to_end_matrices(pairs, depth, factor):
    """Solved at any ratio of sizes; the velocity leads to the target, and the curve is its flow."""
    space = DLNObservableManifold(3, depth)
    metric = space.metric
    starts, ends = pairs(3, 3, seed=3)
    ends = ends * factor
    solution = metric.solve_log(ends, starts)
    assert solution.success.all(), solution.message
    assert np.max(solution.residual) <= (1e-9 if depth == 30 else 1e-11)
    assert (solution.lower_bound <= solution.length * (1 + 1e-14)).all()
    vectors = solution.initial_velocity
    np.testing.assert_allclose(metric.norm(vectors, starts), solution.length, rtol=1e-11)
    swapped = metric.solve_log(starts, ends)
    np.testing.assert_allclose(swapped.length, solution.length, rtol=1e-11)
    points = solution([0.0, 1.0])
    assert np.max(relative(points[:, 0], starts, 2)) <= 1e-12
    assert np.max(relative(points[:, 1], ends, 2)) <= 1e-10
    if 1e-6 <= factor <= 1e6:
        # A geodesic towards the tip of the cone magnifies what its velocity cannot resolve.
        shrink = max(1.0, factor ** (-1 / depth))
        reached = metric.exp(vectors, starts)
        assert np.max(relative(reached, ends, 2)) <= max(1.5e-11, 1e-12 * shrink)
        middle = metric.exp(0.4 * vectors, starts)
        assert np.max(relative(solution(0.4), middle, 2)) <= 1e-10


def test_length_is_that_of_the_flat_sector(pairs):
    """``d(c X, e Y)`` for all c and e follows from ``d(X, Y)`` and both sizes."""
    depth = 3
    metric = DLNObservableManifold(3, depth).metric
    start, end = (points[0] for points in pairs(3, 1, seed=4))
    radii = [
        np.sqrt(depth * np.sum(np.linalg.svd(x, compute_uv=False) ** (2 / depth)))
        for x in (start, end)
    ]
    distance = metric.dist(start, end)
    cosine = (radii[0] ** 2 + radii[1] ** 2 - distance**2) / (2 * radii[0] * radii[1])
    for factor in (0.2, 1e-3, 1e5):
        far = factor ** (1 / depth) * radii[1]
        expected = np.sqrt(radii[0] ** 2 + far**2 - 2 * radii[0] * far * cosine)
        assert abs(metric.dist(start, factor * end) / expected - 1) <= 1e-12


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e20])
@pytest.mark.parametrize("crossing", [False, True])
def test_straight_lines(factor, crossing):
    """At N = 1 geodesics are straight; the time of a singular matrix is that of the line."""
    metric = DLNObservableManifold(2, 1).metric
    start = np.diag([2.0, 1.0])
    end = factor * (np.diag([-1.0, -3.0]) if crossing else np.array([[1.0, 2.0], [-1.0, 1.0]]))
    solution = metric.solve_log(end, start)
    assert np.array_equal(solution.initial_velocity, end - start)
    if not crossing:
        line = start + np.array([0.1, 0.6])[:, None, None] * (end - start)
        assert np.max(relative(solution([0.1, 0.6]), line, 2)) <= 1e-12
        assert abs(solution.length / np.linalg.norm(end - start) - 1) <= 1e-14
    else:
        first = 1 / (1 + 3 * factor)
        assert abs(solution.crossing_time / first - 1) <= 1e-8


@pytest.mark.parametrize("factor", [1e3, 1e-8])
def test_balanced_layers(factor):
    """The same upstairs, where the whole factor is in the layers."""
    space = BalancedManifold(2, 3)
    np.random.seed(2)
    starts, ends = space.random_point(3), factor * space.random_point(3)
    solution = space.metric.solve_log(ends, starts)
    assert solution.success.all(), solution.message
    vectors = solution.initial_velocity
    np.testing.assert_allclose(size_of(vectors), solution.length, rtol=1e-10)
    swapped = space.metric.dist(ends, starts)
    np.testing.assert_allclose(swapped, solution.length, rtol=1e-10)
    if factor > 1e-4:
        reached = space.metric.exp(vectors, starts)
        assert np.max(relative(reached, ends, 3)) <= 1e-10 * max(1, 1e-2 / factor)
    middle = space.metric.exp(0.4 * vectors, starts)
    assert np.max(relative(solution(0.4), middle, 3)) <= 1e-9
