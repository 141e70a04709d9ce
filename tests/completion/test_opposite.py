"""Distances between determinants of opposite signs: an oracle, invariances, and verification."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp
from scipy.stats import ortho_group
from torus import distance as torus_distance

from dln_manifolds import DLNObservableManifold

CASES = [(n, N) for n in (2, 3, 4, 6) for N in (1.5, 2, 3, 4, 8)]


def root_of(X, depth):
    u, s, vt = np.linalg.svd(X)
    return (u * s[..., None, :] ** (1 / depth)) @ vt


def speed(T, V, depth):
    """``|V|`` in the metric of the root chart, literally."""
    u, roots, vt = np.linalg.svd(T)
    inside = np.swapaxes(u, -1, -2) @ V @ np.swapaxes(vt, -1, -2)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = 0.5 * np.abs(np.log(roots[..., :, None] / roots[..., None, :]))
        kappa = np.where(half < 1e-9, depth, np.tanh(depth * half) / np.tanh(half))
    even = (inside + np.swapaxes(inside, -1, -2)) / 2
    odd = (inside - np.swapaxes(inside, -1, -2)) / 2
    return np.sqrt(np.sum(kappa * even**2 + odd**2 / kappa, axis=(-2, -1)))


@pytest.mark.parametrize(("n", "depth"), CASES)
def test_gaussian_pairs_are_solved(opposite, n, depth):
    X, Y = opposite(4 if n < 4 and depth > 1.5 else 1, n)
    metric = DLNObservableManifold(n, depth).metric
    solution = metric.solve_completed(Y, X)
    assert solution.success.all()
    assert solution.residual.max() <= 1e-11
    assert (solution.lower_bound <= solution.length).all()
    assert (solution.length <= solution.upper_bound).all()
    assert ((solution.crossing_time > 0) & (solution.crossing_time < 1)).all()
    assert (solution.crossing_rank == n - 1).all()
    assert_allclose(solution([0, 1]), np.stack([X, Y], axis=1), rtol=0, atol=1e-8)
    assert_allclose(metric.completed_dist(X, Y), solution.length, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "depth"), [(n, N) for n in (2, 3, 5) for N in (1.5, 2, 3, 4, 8)])
def test_nearly_all_of_many_pairs_are_solved(opposite, n, depth):
    X, Y = opposite(500, n, seed=1)
    solution = DLNObservableManifold(n, depth).metric.solve_completed(Y, X)
    assert solution.success.mean() >= 0.995
    assert solution.residual[solution.success].max() <= 1e-11
    assert set(solution.status[~solution.success]) <= {2}


@pytest.mark.parametrize("n_pairs", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_oracle_of_the_torus(opposite, n_pairs):
    X, Y = opposite(n_pairs, 2)
    expected = [torus_distance(*pair) for pair in zip(X, Y, strict=True)]
    found = DLNObservableManifold(2, 2).metric.completed_dist(X, Y)
    assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("depth", [1.5, 2, 3])
def test_length_is_that_of_the_path(opposite, depth):
    """By speeds from its definition and differences of points."""
    X, Y = opposite(2, 3)
    solution = DLNObservableManifold(3, depth).metric.solve_completed(Y, X)
    for k in range(2):
        total, crossing = 0.0, solution.crossing_time[k]
        for low, high in ((0, crossing), (crossing, 1)):
            nodes, weights = np.polynomial.legendre.leggauss(12)
            times, step = low + (high - low) * (nodes + 1) / 2, 1e-5
            T = root_of(solution(np.concatenate([times - step, times, times + step])), depth)[k]
            before, here, after = np.split(T, 3)
            # roots lose their sign behind det = 0, as the metric allows
            total += weights @ speed(here, (after - before) / (2 * step), depth) * (high - low) / 2
        assert total == pytest.approx(solution.length[k], rel=3e-6)


def test_geodesic_is_one_on_either_side(opposite):
    """Up to the crossing it is what the exponential map makes of its initial velocity."""
    X, Y = opposite(3, 3)
    metric = DLNObservableManifold(3, 3).metric
    solution = metric.solve_completed(Y, X)
    path = metric.completed_geodesic(X, Y)
    before = 0.5 * solution.crossing_time.min()
    velocity = metric.log(path(before)[:, 0], X) / before
    assert_allclose(metric.exp(0.9 * before * velocity, X), path(0.9 * before)[:, 0], atol=1e-8)
    assert_allclose(metric.norm(velocity, X), solution.length, rtol=1e-9)
    late = metric.dist(path(0.5 + 0.5 * solution.crossing_time.max())[:, 0], Y)
    share = 0.5 - 0.5 * solution.crossing_time.max()
    assert_allclose(late, share * solution.length, rtol=1e-8)


def test_flow_of_the_path_by_another_solver(opposite):
    """A Lagrangian flow in T with numerical derivatives of the metric meets the end."""
    X, Y = opposite(1, 2)
    depth, step = 3, 1e-4
    solution = DLNObservableManifold(2, depth).metric.solve_completed(Y, X)
    times = np.array([0, step, 2 * step, 3 * step, 4 * step])
    T = root_of(solution(times)[0], depth)
    velocity = np.tensordot([-25 / 12, 4, -3, 4 / 3, -1 / 4], T, axes=1) / step
    units = np.eye(4).reshape(4, 2, 2)

    def matrix(T):
        pairs = np.array([[units[i] + units[j] for j in range(4)] for i in range(4)])
        square = speed(T, units, depth) ** 2
        both = speed(T, pairs.reshape(-1, 2, 2), depth).reshape(4, 4) ** 2
        return 0.5 * (both - square[:, None] - square[None])

    def rates(_, state):
        T, momentum = state[:4].reshape(2, 2), state[4:]
        here = np.linalg.solve(matrix(T), momentum)
        h = 1e-5
        slopes = [(matrix(T + h * e) - matrix(T - h * e)) / (2 * h) for e in units]
        return np.concatenate([here, [0.5 * here @ slope @ here for slope in slopes]])

    start = np.concatenate([T[0].ravel(), matrix(T[0]) @ velocity.ravel()])
    end = solve_ivp(rates, (0, 1), start, rtol=1e-9, atol=1e-10, method="DOP853").y[:4, -1]
    assert_allclose(end.reshape(2, 2), root_of(Y[0], depth), atol=1e-5)


@pytest.mark.parametrize(("n", "depth"), [(2, 1.5), (2, 2), (3, 2.5), (3, 8), (4, 3)])
def test_invariances(opposite, n, depth):
    X, Y = opposite(1, n)
    metric = DLNObservableManifold(n, depth).metric
    found = metric.completed_dist(X, Y)
    left, right = ortho_group.rvs(n, size=2, random_state=0)
    assert_allclose(metric.completed_dist(Y, X), found, rtol=1e-10)
    assert_allclose(metric.completed_dist(left @ X @ right, left @ Y @ right), found, rtol=1e-10)
    transposed = [np.swapaxes(points, -1, -2) for points in (X, Y)]
    assert_allclose(metric.completed_dist(*transposed), found, rtol=1e-10)
    scaled = metric.completed_dist(3.0**depth * X, 3.0**depth * Y)
    assert_allclose(scaled, 3 * found, rtol=1e-10)


@pytest.mark.parametrize("depth", [2, 3])
def test_triangle_inequality_over_mixed_signs(depth):
    points = np.random.default_rng(4).normal(size=(12, 3, 3))  # 220 triples
    assert 3 <= (np.linalg.det(points) > 0).sum() <= 9
    table = DLNObservableManifold(3, depth).metric.dist_pairwise(points, completed=True)
    through = (table[:, :, None] + table[None]).min(axis=1)
    assert (table <= through * (1 + 1e-10)).all()
    assert (table == table.T).all()
    assert (table[~np.eye(12, dtype=bool)] > 0).all()


@pytest.mark.parametrize("depth", [1.5, 2, 4])
def test_continuity_across_zero(opposite, cut, depth):
    """The same matrix with a small last root of either sign."""
    X, Y = opposite(2, 3)
    metric = DLNObservableManifold(3, depth).metric
    for eps in (1e-1, 1e-2) if depth > 1.5 else (1e-2,):
        there = cut(X, value=eps**depth)
        u, s, vt = np.linalg.svd(there)
        back = (u * (s * [1, 1, -1])[:, None, :]) @ vt
        apart = np.abs(metric.completed_dist(there, Y) - metric.completed_dist(back, Y))
        assert (apart <= 2 * np.sqrt(depth) * eps * (1 + 1e-9)).all()
        # as well as X knows its last singular value
        assert_allclose(metric.completed_dist(there, back), 2 * np.sqrt(depth) * eps, rtol=1e-7)


@pytest.mark.parametrize("depth", [1, 2, 3.5])
def test_numbers(depth):
    x, y = np.array([[[2.0]], [[3.0]]]), np.array([[[-0.5]], [[4.0]]])
    solution = DLNObservableManifold(1, depth).metric.solve_completed(y, x)
    roots = 2 ** (1 / depth) + 0.5 ** (1 / depth), 4 ** (1 / depth) - 3 ** (1 / depth)
    assert_allclose(solution.length, np.sqrt(depth) * np.array(roots), rtol=1e-14)
    assert_allclose(solution.crossing_time, [2 ** (1 / depth) / roots[0], np.inf])
    assert_allclose(solution([0, 1])[:, :, 0, 0], [[2, -0.5], [3, 4]])


def test_straight_lines_at_depth_one(opposite):
    X, Y = opposite(3, 3)
    solution = DLNObservableManifold(3, 1).metric.solve_completed(Y, X)
    assert_allclose(solution.length, np.linalg.norm(X - Y, axis=(-2, -1)))
    assert_allclose(solution(0.25), 0.75 * X + 0.25 * Y)
    t = solution.crossing_time[:, None, None]
    assert_allclose(np.linalg.det((1 - t) * X + t * Y), 0, atol=1e-12)


def test_sorted_diagonals_of_which_the_last_changes_sign():
    """Straight lines in the root chart, where both are sorted alike."""
    X, Y = np.diag([8.0, 1.0, 0.3]), np.diag([3.0, 2.0, -0.2])
    for depth in (2, 3):
        roots = [np.sign(np.diag(Z)) * np.abs(np.diag(Z)) ** (1 / depth) for Z in (X, Y)]
        expected = np.sqrt(depth) * np.linalg.norm(roots[0] - roots[1])
        found = DLNObservableManifold(3, depth).metric.completed_dist(X, Y)
        assert found == pytest.approx(expected, rel=1e-10)


def test_single_precision_and_batches(opposite):
    X, Y = opposite(3, 2)
    metric = DLNObservableManifold(2, 3).metric
    single = metric.completed_dist(X.astype(np.float32), Y.astype(np.float32))
    assert single.dtype == np.float32
    assert_allclose(single, metric.completed_dist(X, Y), rtol=1e-5)
    table = metric.completed_dist(X[:, None], Y)
    assert table.shape == (3, 3)
    assert_allclose(np.diag(table), metric.completed_dist(X, Y), rtol=1e-10)
    assert metric.completed_dist(X[0], Y[0]).shape == ()
    assert metric.completed_dist(X[:0], Y[:0]).shape == (0,)
    assert metric.completed_geodesic(X, Y[0])([0.1, 0.5]).shape == (3, 2, 2, 2)
