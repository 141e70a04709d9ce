"""Singular ends, pairs of one sign, and what is refused."""

import math

import numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ortho_group

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.completion import crossing
from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    GeodesicWarning,
    InvalidPointError,
)


def gaussian(n_pairs, n, seed=0):
    return np.random.default_rng([n_pairs, n, seed]).normal(size=(2, n_pairs, n, n))


def check_begins_singular(solution, X, Y):
    """All are solved from X, of rank n - 1, to Y, with lengths between the bounds."""
    assert solution.success.all()
    assert_array_equal(solution.crossing_time, 0)
    assert_array_equal(solution.crossing_rank, X.shape[-1] - 1)
    assert (solution.lower_bound <= solution.length).all()
    assert (solution.length <= solution.upper_bound).all()
    assert_allclose(solution([0, 1]), np.stack([X, Y], axis=1), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n", "depth"), [(2, 2), (3, 2), (4, 3), (3, 8)])
def test_both_of_rank_below_by_one(cut, n, depth):
    X, Y = map(cut, gaussian(3, n))
    solution = DLNObservableManifold(n, depth).metric.solve_completed(Y, X)
    lower = DLNObservableManifold(n, depth, shape=None, rank=n - 1).metric
    assert_allclose(solution.length, lower.dist(X, Y), rtol=1e-10)
    assert_array_equal(solution.crossing_time, 0)
    assert_array_equal(solution.crossing_rank, n - 1)
    assert (solution.lower_bound <= solution.length).all()
    assert (solution.length <= solution.upper_bound).all()


@pytest.mark.parametrize(("n", "depth"), [(2, 1.5), (3, 1.5), (3, 1.8), (4, 1.7)])
def test_both_of_rank_below_by_one_at_shallow_depth(cut, n, depth):
    """Geodesics leave that rank: they are shorter than its own, and the limit of nearby pairs."""
    X, Y = map(cut, gaussian(3, n))
    metric = DLNObservableManifold(n, depth).metric
    solution = metric.solve_completed(Y, X)
    check_begins_singular(solution, X, Y)
    along = DLNObservableManifold(n, depth, shape=None, rank=n - 1).metric.dist(X, Y)
    assert (solution.length <= along * (1 + 1e-9)).all()
    assert (solution.length < along * (1 - 1e-4)).any()
    left, right = ortho_group.rvs(n, size=2, random_state=0)
    turned, transposed = (left @ X @ right, left @ Y @ right), (X.swapaxes(1, 2), Y.swapaxes(1, 2))
    for alike in ((Y, X), turned, transposed):
        assert_allclose(metric.completed_dist(*alike), solution.length, rtol=1e-9)
    middle = solution(0.5)
    assert (np.linalg.svd(middle, compute_uv=False)[:, -1] > 1e-6).any()
    for end in (X, Y):
        assert_allclose(metric.completed_dist(middle, end), solution.length / 2, rtol=1e-8)
    eps = 1e-2
    for sign in (1, -1):
        near = cut(X, value=eps**depth), cut(Y, value=sign * eps**depth)
        apart = np.abs(metric.completed_dist(*near) - solution.length)
        assert (apart <= 2 * np.sqrt(depth) * eps).all()


def test_both_of_rank_below_by_one_near_depth_one(cut):
    """As the depth goes to one, distances go to those of straight lines."""
    X, Y = map(cut, gaussian(2, 3))
    straight = DLNObservableManifold(3, 1).metric.completed_dist(X, Y)
    assert_allclose(straight, np.linalg.norm(X - Y, axis=(-2, -1)), rtol=1e-14)
    near = DLNObservableManifold(3, 1.001).metric.completed_dist(X, Y)
    nearer = DLNObservableManifold(3, 1.0005).metric.completed_dist(X, Y)
    assert_allclose(2 * nearer - near, straight, rtol=1e-5)


@pytest.mark.parametrize(("n", "depth"), [(2, 2), (3, 1.5), (3, 3), (4, 8)])
def test_one_singular_end(cut, n, depth):
    """The limit of pairs of either sign, as the last root vanishes like eps."""
    X, Y = gaussian(2, n, seed=1)
    X, metric = cut(X), DLNObservableManifold(n, depth).metric
    solution = metric.solve_completed(Y, X)
    check_begins_singular(solution, X, Y)
    assert_allclose(metric.completed_dist(X, Y), solution.length, rtol=1e-10)
    eps = 0.03 if depth > 3 else 1e-2
    near = cut(X, value=eps**depth)
    apart = np.abs(metric.completed_dist(near, Y) - solution.length)
    assert (apart <= np.sqrt(depth) * eps).all()


@pytest.mark.parametrize(("n", "depth"), [(3, 1.5), (3, 2), (3, 6), (4, 4)])
def test_one_end_of_low_rank(cut, n, depth):
    X, Y = gaussian(1, n, seed=2)
    low, metric = cut(Y, 2), DLNObservableManifold(n, depth).metric
    solution = metric.solve_completed(low, X)
    assert solution.success.all()
    assert_array_equal(solution.crossing_rank, n - 2)
    assert_array_equal(solution.crossing_time, 1)
    assert (solution.lower_bound <= solution.length).all()
    assert (solution.length <= solution.upper_bound).all()
    assert_allclose(solution([0, 1]), np.stack([X, low], axis=1), rtol=0, atol=1e-9)
    eps = 1e-2
    apart = np.abs(metric.completed_dist(cut(Y, 2, eps**depth), X) - solution.length)
    assert (apart <= np.sqrt(2 * depth) * eps).all()


@pytest.mark.parametrize(("n", "count", "depth"), [(3, 2, 9), (3, 2, 14), (4, 3, 10), (4, 2, 12)])
def test_one_end_of_low_rank_in_deep_networks(cut, n, count, depth):
    """Several null directions: the limit of ends of full rank, and a cone law up to the tip."""
    X, Y = (each[0] for each in gaussian(1, n, seed=17))
    low, metric = cut(Y, count), DLNObservableManifold(n, depth).metric
    solution = metric.solve_completed(low, X)
    assert solution.success
    assert solution.n_evaluations < 40_000
    assert solution.lower_bound <= solution.length <= solution.upper_bound
    sizes = cone_sizes(solution, np.array([0, 0.25, 0.5, 0.7]), depth)
    last = depth * np.sum(np.linalg.svd(low, compute_uv=False)[: n - count] ** (2 / depth))
    assert_allclose(sizes, cone_law(sizes[0], last, solution.length, [0, 0.25, 0.5, 0.7]), 1e-9)
    eps = 0.05
    apart = np.abs(metric.completed_dist(cut(Y, count, eps**depth), X) - solution.length)
    assert apart <= np.sqrt(count * depth) * eps


def cone_sizes(solution, times, depth):
    """``N sum s^(2/N)`` along a curve."""
    return depth * np.sum(np.linalg.svd(solution(times), compute_uv=False) ** (2 / depth), axis=-1)


def cone_law(first, last, length, times):
    """The same of any geodesic: quadratic, with the square of the length in front."""
    times = np.asarray(times)
    return first + times * (last - first - length**2) + times**2 * length**2


def test_the_last_way_to_a_tip_is_part_of_the_curve(cut):
    """What the flow does not reach: the cone law holds there too."""
    X, Y = (each[0] for each in gaussian(1, 3, seed=23))
    low = cut(Y, 2)
    solution = DLNObservableManifold(3, 3).metric.solve_completed(low, X)
    times = np.array([0, 0.5, 0.99, 0.997, 0.9985, 0.9995, 0.9999])
    sizes = cone_sizes(solution, times, 3)
    last = 3 * np.linalg.norm(low, 2) ** (2 / 3)
    assert_allclose(sizes, cone_law(sizes[0], last, solution.length, times), rtol=1e-9)


def test_low_rank_along_common_singular_vectors():
    """Straight lines in the root chart: sqrt(N) times the distance of roots."""
    X, Y = np.diag([4.0, 1.0, 0.5]), np.diag([3.0, 0.0, 0.0])
    for depth in (2, 3):
        roots = [np.diag(Z) ** (1 / depth) for Z in (X, Y)]
        expected = np.sqrt(depth) * np.linalg.norm(roots[0] - roots[1])
        assert DLNObservableManifold(3, depth).metric.completed_dist(X, Y) == pytest.approx(
            expected, rel=1e-10
        )


@pytest.mark.parametrize("depth", [2, 3, math.inf])
def test_one_sign_is_dist(depth):
    X, Y = gaussian(4, 3)
    Y[np.linalg.det(X) * np.linalg.det(Y) < 0, 0] *= -1
    metric = DLNObservableManifold(3, depth).metric
    solution = metric.solve_completed(Y, X)
    assert_array_equal(solution.length, metric.solve_log(Y, X).length)
    assert np.isinf(solution.crossing_time).all()
    assert_array_equal(solution.crossing_rank, 3)
    assert_allclose(solution(0.5), metric.solve_log(Y, X)(0.5))


@pytest.mark.parametrize("depth", [1.5, 1.8])
def test_one_sign_at_shallow_depth_is_never_longer(depth):
    """Polar angles of nearly pi and small last roots: near N = 1 some go through det = 0."""
    rng = np.random.default_rng(0)
    turns = ortho_group.rvs(3, size=3 * 24, random_state=1).reshape(3, 24, 3, 3)
    angles = np.pi - 0.3 * rng.random(24)
    turn = np.tile(np.eye(3), (24, 1, 1))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angles)
    turn[:, 1, 0] = np.sin(angles)
    turn[:, 0, 1] = -turn[:, 1, 0]
    values = np.array([1, 0.5, 0.1]) ** depth * rng.uniform(0.5, 2, (2, 24, 3))
    X, Y = (
        (q * s[:, None, :]) @ np.swapaxes(q, -1, -2) for q, s in zip(turns[1:], values, strict=True)
    )
    Y = Y @ turns[0] @ turn @ np.swapaxes(turns[0], -1, -2)
    metric = DLNObservableManifold(3, depth).metric
    plain, solution = metric.solve_log(Y, X), metric.solve_completed(Y, X)
    assert solution.success.all()
    assert (solution.length <= plain.length * (1 + 1e-9))[plain.success].all()
    shorter = solution.length < plain.length * (1 - 1e-4)
    through = np.isfinite(solution.crossing_time)
    assert (through | ~(shorter | ~plain.success)).all()
    assert through.any() == (depth < 1.8)
    assert (solution.lower_bound <= solution.length).all()
    assert_allclose(solution([0, 1]), np.stack([X, Y], axis=1), atol=1e-9)


def test_table_of_all_pairs(cut):
    X = gaussian(3, 3)[0]
    X[0] = cut(X[0])
    metric = DLNObservableManifold(3, 3).metric
    table = metric.dist_pairwise(X, completed=True)
    expected = [[metric.completed_dist(x, y) if x is not y else 0.0 for y in X] for x in X]
    assert_allclose(table, expected, rtol=1e-9, atol=0)
    assert_array_equal(metric.dist_pairwise(X[:1], completed=True), [[0.0]])
    view = DLNObservableManifold(3, 3).flattened().metric
    assert_array_equal(view.dist_pairwise(X.reshape(3, 9), completed=True), table)
    single = metric.dist_pairwise(X[1:].astype(np.float32), completed=True)
    assert single.dtype == np.float32
    with pytest.raises(InvalidPointError, match="one axis of points"):
        metric.dist_pairwise(X[0], completed=True)
    with pytest.raises(InvalidPointError, match="square end-to-end"):
        BalancedManifold(3, 2).metric.dist_pairwise(np.zeros((2, 2, 3, 3)), completed=True)


def test_points_are_not_changed(cut):
    X, Y = gaussian(2, 3)
    X = cut(X)
    before = X.copy(), Y.copy()
    DLNObservableManifold(3, 2).metric.solve_completed(Y, X)
    assert_array_equal(before, (X, Y))


class TestRefused:
    X = gaussian(1, 3)[0][0]
    metric = DLNObservableManifold(3, 3).metric

    @pytest.mark.parametrize("name", ["completed_dist", "completed_geodesic", "solve_completed"])
    def test_zero(self, name):
        with pytest.raises(InvalidPointError, match=r"zero matrix.*tip of the cone"):
            getattr(self.metric, name)(self.X, 0 * self.X)
        with pytest.raises(InvalidPointError, match=r"batch member \[1\]"):
            getattr(self.metric, name)(np.stack([self.X, 0 * self.X]), self.X)

    def test_low_rank_at_both_ends(self, cut):
        for counts in ((2, 2), (1, 2), (2, 1)):
            ends = [cut(self.X, count) for count in counts]
            with pytest.raises(InvalidPointError, match="must be of rank 2"):
                self.metric.completed_dist(*ends)

    def test_what_is_no_number(self):
        with pytest.raises(InvalidPointError, match="not finite"):
            self.metric.completed_dist(self.X, self.X * np.nan)
        with pytest.raises(InvalidPointError, match="last axes must be"):
            self.metric.completed_dist(self.X, self.X[:2])

    @pytest.mark.parametrize("shape", [{"shape": (4, 3)}, {"n": 3, "rank": 2}])
    def test_other_manifolds(self, shape):
        space = DLNObservableManifold(depth=3, **shape)
        with pytest.raises(InvalidPointError, match="square end-to-end matrices of full rank"):
            space.metric.completed_dist(*space.random_point(2))

    def test_infinite_depth(self, cut):
        metric = DLNObservableManifold(3, math.inf).metric
        flipped = self.X * [[-1], [1], [1]]
        with pytest.raises(DisconnectedPointsError, match="complete"):
            metric.completed_dist(self.X, flipped)
        with pytest.raises(InvalidPointError, match="infinitely far"):
            metric.completed_dist(self.X, cut(self.X))

    def test_times_beyond_the_ends(self):
        path = self.metric.completed_geodesic(self.X, self.X * [[-1], [1], [1]])
        with pytest.raises(ValueError, match="between 0 and 1"):
            path(1.5)

    def test_derivatives(self):
        flipped = self.X * [[-1], [1], [1]]
        with pytest.raises(NotImplementedError, match="completed_dist has no derivative"):
            grad(lambda x: self.metric.completed_dist(x, flipped))(self.X)
        both = np.stack([self.X, flipped])
        with pytest.raises(NotImplementedError, match="completed=True"):
            grad(lambda x: self.metric.dist_pairwise(x, completed=True).sum())(both)

    def test_dist_names_the_way_out(self):
        with pytest.raises(DisconnectedPointsError, match=r"metric\.completed_dist"):
            self.metric.dist(self.X, self.X * [[-1], [1], [1]])


def test_what_is_not_solved(cut, monkeypatch):
    """A search that is given up before its first path is final."""
    monkeypatch.setattr(crossing, "_LEVELS", ())
    X, Y = map(cut, gaussian(2, 3))
    metric = DLNObservableManifold(3, 1.5).metric
    solution = metric.solve_completed(Y, X)
    assert_array_equal(solution.status, 2)
    assert (solution.lower_bound < solution.upper_bound).all()
    with pytest.raises(ConvergenceError, match="0 of 2") as caught:
        metric.completed_dist(X, Y)
    assert caught.value.solution.residual[0] == np.inf
    assert "take another depth" in str(caught.value)
    with pytest.raises(ConvergenceError, match=r"pair that failed is \(0, 1\)") as caught:
        metric.dist_pairwise(np.stack([X[0], Y[0]]), completed=True)
    metric.on_failure = "nan"
    assert np.isnan(metric.completed_dist(X, Y)).all()
    assert np.isnan(metric.completed_geodesic(X, Y)(0.5)).all()
    metric.on_failure = "warn"
    with pytest.warns(GeodesicWarning, match="The others are NaN"):
        metric.completed_dist(X, Y)


@pytest.mark.parametrize("depth", [1.01, 1.45])
def test_shallow_depths_say_what_they_have_not_solved(depth):
    X, Y = gaussian(2, 3)
    Y[np.linalg.det(X) * np.linalg.det(Y) > 0, 0] *= -1
    solution = DLNObservableManifold(3, depth).metric.solve_completed(Y, X)
    assert (solution.success == (solution.residual <= 1e-11)).all()
    assert set(solution.status) <= {0, 2}
    good = solution.success
    assert (solution.lower_bound <= solution.length)[good].all()
    assert (solution.length <= solution.upper_bound)[good].all()


@pytest.mark.parametrize("sign", [1, -1])
def test_lengths_of_what_is_not_solved_are_possible(sign):
    """Two tiny values on one side, and the best path that was found is no path of that length."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    end = rng.normal(size=(4, 4))
    sign *= np.linalg.slogdet(left @ right)[0] * np.linalg.slogdet(end)[0]
    point = left @ np.diag([2, 1, 1e-14, sign * 1e-14]) @ right
    solution = DLNObservableManifold(4, 2).metric.solve_completed(end, point)
    inside = solution.lower_bound <= solution.length <= solution.upper_bound
    assert inside or (np.isnan(solution.length) and not solution.success)


def test_times_of_paths_are_checked():
    metric = DLNObservableManifold(2, 3).metric
    path = metric.completed_geodesic(np.eye(2), np.diag([1.0, -1.0]))
    for wrong in (np.zeros((2, 2)), None):
        with pytest.raises(InvalidPointError, match="t must be a finite number"):
            path(wrong)
