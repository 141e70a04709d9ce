"""Points close to a lower rank: solved, or refused by an error of its own before long."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold
from dln_manifolds.errors import ConvergenceError, IncompleteGeodesicError
from dln_manifolds.geodesics.solution import failure


def near(n, count, size, seed):
    """Return matrices with det > 0 and so many singular values of about a size."""
    rng = np.random.default_rng(seed)
    u, v = np.linalg.qr(rng.normal(size=(2, n, n)))[0]
    u[:, 0] *= np.linalg.det(u) * np.linalg.det(v)
    s = np.exp(rng.normal(size=n))
    s[n - count :] = size * s.max() * np.exp(0.3 * rng.normal(size=count))
    return (u * s) @ v.T


EVERY = [(n, count, depth) for n, count in ((3, 2), (5, 4)) for depth in (1.5, 2, 3, 8)]
FEW = [(3, 2, 3), (5, 4, 8)]


@pytest.mark.parametrize(
    ("n", "count", "depth"),
    [pytest.param(*x, marks=[] if x in FEW else pytest.mark.slow) for x in EVERY],
)
def test_work_is_bounded(n, count, depth):
    """What is accepted by the checks; the numbers of evaluations stand for seconds."""
    space = DLNObservableManifold(n, depth)
    points = [near(n, count, size, seed) for seed, size in enumerate((1e-9, 3e-14))]
    assert space.belongs(points).all()
    for first, last in (points, points[::-1], (points[1], near(n, 0, 1.0, 9))):
        solution = space.metric.solve_log(last, first)
        assert solution.n_evaluations < 120_000
        if solution.success:
            # A loop of the solver is not longer than what bounds allow.
            assert solution.length <= 2 * solution.upper_bound
            assert solution.length >= (1 - 1e-9) * solution.lower_bound
        else:
            assert isinstance(failure(solution), ConvergenceError | IncompleteGeodesicError)


def test_one_small_value_is_solved_at_every_depth_from_two():
    for depth in (2, 4):
        metric = DLNObservableManifold(3, depth).metric
        for size in (1e-9, 3e-14):
            first, last = near(3, 1, size, 1), near(3, 1, size, 2)
            assert_allclose(metric.dist(first, last), metric.dist(last, first), rtol=1e-9)


@pytest.mark.parametrize("n", [3, 5])
def test_flows_that_do_not_advance_are_given_up(n):
    """Steps become ever shorter where several small roots turn at once, below N = 2."""
    space = DLNObservableManifold(n, 1.2)
    point = near(n, n - 1, 3e-14, 3)
    velocity = np.random.default_rng(0).normal(size=(n, n))
    velocity = space.metric.normalize(velocity, point) / 2
    solution = space.metric.solve_exp(velocity, point)
    assert solution.success or solution.n_iterations < 3000
