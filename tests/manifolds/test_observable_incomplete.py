"""Geodesics that leave GL(n): found, timed, and handled as the metric was told to."""

import dataclasses

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import (
    ConvergenceError,
    DLNError,
    DLNObservableManifold,
    GeodesicWarning,
    IncompleteGeodesicError,
)
from dln_manifolds.geodesics import solve_log
from dln_manifolds.manifolds import metric

DEPTHS = [1, 1.5, 2, 3, 4, 5, 8]


def make(n, depth, **options):
    space = DLNObservableManifold(n, depth, equip=False)
    space.equip_with_metric(**options)
    return space


def diagonal(roots, rates, depth):
    """Return X = diag(l^N) and its velocity for which l(t) = roots + t rates exactly."""
    roots, rates = np.asarray(roots, dtype=float), np.asarray(rates, dtype=float)
    return np.diag(roots**depth), np.diag(depth * roots ** (depth - 1) * rates)


def rotations(n, seed):
    generator = np.random.default_rng(seed)
    return np.linalg.qr(generator.normal(size=(2, n, n)))[0]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    ("roots", "rates"),
    [
        ([1.0], [-3.0]),
        ([1.0], [-1.001]),
        ([1.0, 2.0], [-1.7, 0.5]),
        ([1.0, 2.0, 0.5], [4.0, 0.3, -0.9]),
        ([1.2, 1.1, 1.0, 0.5], [0.0, 0.0, 0.0, -50.0]),
        ([1.0, 1.0], [-3.0, 0.0]),
    ],
    ids=["number", "near the end", "one of two", "one of three", "early", "equal roots"],
)
@pytest.mark.parametrize("turned", [False, True], ids=["diagonal", "turned"])
def test_time_of_a_single_crossing(roots, rates, depth, turned):
    X, v = diagonal(roots, rates, depth)
    expected = min(-x / y for x, y in zip(roots, rates, strict=True) if y < 0)
    if turned:
        left, right = rotations(len(roots), 1)
        X, v = left @ X @ right, left @ v @ right
    space = DLNObservableManifold(len(roots), depth)
    with pytest.raises(IncompleteGeodesicError) as caught:
        space.metric.exp(v, X)
    assert_allclose(caught.value.time, expected, rtol=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("first", [1 / 3, 0.9])
@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-3, 0.02])
@pytest.mark.parametrize("others", [[], [1.0, 0.4]], ids=["2x2", "4x4"])
def test_time_of_two_crossings_close_together(depth, first, gap, others):
    # det X does not change its sign over both
    rates = [-1 / first, -1 / (first + gap), *(0.2 for _ in others)]
    X, v = diagonal([1.0, 1.0, *others], rates, depth)
    solution = DLNObservableManifold(len(rates), depth).metric.solve_exp(v, X)
    assert_allclose(solution.crossing_time, first, rtol=1e-9)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_ray_through_the_tip_of_the_cone(n, depth):
    X, v = diagonal(np.ones(n), -3 * np.ones(n), depth)
    with pytest.raises(IncompleteGeodesicError) as caught:
        DLNObservableManifold(n, depth).metric.exp(v, X)
    assert_allclose(caught.value.time, 1 / 3, rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_straight_lines_of_depth_one_end_where_the_determinant_vanishes(seed):
    generator = np.random.default_rng(seed)
    X, v = generator.normal(size=(2, 3, 3))
    eigenvalues = np.linalg.eigvals(-np.linalg.solve(X, v))
    real = eigenvalues[np.abs(eigenvalues.imag) < 1e-12].real
    expected = 1 / real[real > 0].max() if (real > 0).any() else np.inf
    # so that t* is 0.7, or the geodesic is complete
    v = v * (expected / 0.7 if np.isfinite(expected) else 1.0)
    solution = DLNObservableManifold(3, 1).metric.solve_exp(v, X)
    assert_allclose(solution.crossing_time, 0.7 if np.isfinite(expected) else np.inf, rtol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 76, 103, 106, 193, 223, 364])
def test_straight_lines_of_depth_one_along_the_singular_matrices(seed):
    # The smallest singular values are, all along, far smaller than the line is long.
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 6))
    values = 10.0 ** generator.uniform(-9, 0, size=n)
    values[0] = 1
    rank = int(generator.integers(1, n + 1))
    left, right = (np.linalg.qr(generator.normal(size=(n, n)))[0] for _ in range(2))
    X = (left * values) @ right
    v = generator.normal(size=(n, rank)) @ generator.normal(size=(rank, n))
    v *= 10.0 ** generator.uniform(-3, 2)
    with mpmath.workdps(60):
        quotient = -(mpmath.matrix(X.tolist()) ** -1) * mpmath.matrix(v.tolist())
        eigenvalues = [complex(x) for x in mpmath.eig(quotient, left=False, right=False)]
    rates = [x.real for x in eigenvalues if abs(x.imag) < 1e-20 * abs(x) and x.real > 0]
    expected = 1 / max(rates) if rates and max(rates) > 1 else np.inf
    solution = DLNObservableManifold(n, 1).metric.solve_exp(v, X)
    # rounding alone moves the smallest singular values of X by 1e-7 of themselves
    assert_allclose(solution.crossing_time, expected, rtol=1e-6)


def test_log_of_depth_one_across_singular_matrices():
    X, Y = np.diag([1.0, 2.0]), np.diag([-1.0, -6.0])
    with pytest.raises(IncompleteGeodesicError) as caught:
        DLNObservableManifold(2, 1).metric.log(Y, X)
    assert_allclose(caught.value.time, 0.25, rtol=1e-9)


def test_log_of_depth_one_through_zero():
    with pytest.raises(IncompleteGeodesicError) as caught:
        DLNObservableManifold(2, 1).metric.log(-2 * np.eye(2), np.eye(2))
    assert_allclose(caught.value.time, 1 / 3, rtol=1e-9)


def test_the_message_says_what_helps():
    """A shorter step helps an exp, a point on the way a log, and a larger depth at N = 1."""
    X, Y = np.diag([2.0, 1.0]), np.diag([-1.0, -3.0])
    with pytest.raises(IncompleteGeodesicError, match=r"A geodesic meets .* Take a shorter step"):
        DLNObservableManifold(2, 3).metric.exp(-7 * X, X)
    with pytest.raises(IncompleteGeodesicError, match=r"between the points .* a larger depth"):
        DLNObservableManifold(2, 1).metric.log(Y, X)
    # A few Gaussian pairs at N = 1.2 are joined by a geodesic that leaves GL(n).
    starts, ends = np.random.default_rng(2).standard_normal((2, 60, 3, 3))
    ends[np.linalg.det(starts) * np.linalg.det(ends) < 0, 0] *= -1
    with pytest.raises(IncompleteGeodesicError, match=r"between .* Go through a point between"):
        DLNObservableManifold(3, 1.2).metric.log(ends, starts)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("rate", [-0.99, -0.999])
def test_geodesics_that_come_close_to_singular_matrices_are_complete(depth, rate):
    space = DLNObservableManifold(2, depth)
    X, v = diagonal([1.0, 1.0], [rate, 0.5], depth)
    end = space.metric.exp(v, X)
    expected = np.diag(np.array([1 + rate, 1.5]) ** depth)
    assert_allclose(end, expected, rtol=1e-8, atol=1e-12)
    assert space.belongs(end)


def test_ends_whose_rank_rounding_hides_are_told():
    # The end has the singular values 1.5^4 and 1e-24: no array of doubles is this point.
    space = DLNObservableManifold(2, 4)
    X, v = diagonal([1.0, 1.0], [-0.999999, 0.5], 4)
    with pytest.raises(ConvergenceError, match=r"rank is lost to rounding.*Take a shorter step"):
        space.metric.exp(v, X)
    solution = space.metric.solve_exp(np.stack([v, 0.5 * v]), X)
    assert_array_equal(solution.success, [False, True])
    assert np.isnan(solution.end_point[0]).all()
    # The geodesic is there, up to times whose points can be told.
    early = np.diag(np.array([1 - 0.5 * 0.999999, 1.25]) ** 4)
    assert_allclose(solution(0.5)[0], early, rtol=1e-9, atol=1e-12)
    space.metric.on_failure = "nan"
    assert np.isnan(space.metric.exp(v, X)).all()


@pytest.mark.parametrize("depth", [1e6, np.inf])
def test_points_that_overflow_are_told_once(depth):
    # Warnings of NumPy would be errors here.
    metric = DLNObservableManifold(2, depth).metric
    X, v = np.eye(2), np.array([[0.0, 900.0], [-900.0, 900.0]])
    with pytest.raises(ConvergenceError, match="overflows"):
        metric.exp(v, X)
    solution, path = metric.solve_exp(v, X), metric.geodesic(X, initial_tangent_vec=v)
    for curve in (solution, path):
        assert np.isfinite(curve([0.0, 0.1])).all()
        with pytest.warns(GeodesicWarning, match="overflow at some times"):
            points = curve([0.0, 0.1, 1.0])
        finite = np.isfinite(points).all(axis=(1, 2))
        assert_array_equal(finite, [True, True, False])
    with pytest.raises(ConvergenceError, match="overflows"):
        metric.parallel_transport(X, X, v)


def test_error_says_when_and_what_to_do():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    with pytest.raises(IncompleteGeodesicError, match=r"t\* = 0\.625.*on_failure"):
        DLNObservableManifold(2, 3).metric.exp(v, X)


def test_time_in_the_error_of_a_single_geodesic_is_a_float():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    with pytest.raises(IncompleteGeodesicError) as caught:
        DLNObservableManifold(2, 3).metric.exp(v, X)
    assert isinstance(caught.value.time, float)


def test_times_in_the_error_of_a_batch_are_infinite_for_complete_geodesics():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    with pytest.raises(IncompleteGeodesicError) as caught:
        DLNObservableManifold(2, 3).metric.exp(np.stack([v, -v, 2 * v]), X)
    assert_allclose(caught.value.time, [0.625, np.inf, 0.3125], rtol=1e-9)


def test_message_of_a_batch_names_the_member():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    with pytest.raises(IncompleteGeodesicError, match=r"\[1\]"):
        DLNObservableManifold(2, 3).metric.exp(np.stack([-v, v]), X)


def test_error_carries_the_solution_up_to_the_crossing():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    with pytest.raises(IncompleteGeodesicError) as caught:
        DLNObservableManifold(2, 3).metric.exp(v, X)
    assert caught.value.solution.status == 1
    assert_array_equal(caught.value.solution.end_point, np.nan)


def test_solve_exp_does_not_raise_and_can_be_called_before_the_crossing():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    solution = DLNObservableManifold(2, 3).metric.solve_exp(v, X)
    assert not solution.success
    expected = np.diag(np.array([1 - 1.6 * 0.6, 2.3]) ** 3)
    assert_allclose(solution(0.6), expected, rtol=1e-9, atol=1e-12)


def test_solution_called_past_the_crossing_raises():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    solution = DLNObservableManifold(2, 3).metric.solve_exp(v, X)
    with pytest.raises(IncompleteGeodesicError, match=r"0\.625"):
        solution([0.5, 0.7])


def test_solution_called_past_its_end_finds_crossings_there():
    X, v = diagonal([1.0, 2.0], [-0.8, 0.5], 3)
    solution = DLNObservableManifold(2, 3).metric.solve_exp(v, X)
    assert solution.success
    with pytest.raises(IncompleteGeodesicError, match=r"1\.25"):
        solution(1.5)


def test_geodesic_raises_when_asked_for_points_past_the_crossing():
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    path = DLNObservableManifold(2, 3).metric.geodesic(X, initial_tangent_vec=v)
    assert path(0.6).shape == (1, 2, 2)
    with pytest.raises(IncompleteGeodesicError, match=r"0\.625"):
        path([0.6, 0.7])


@pytest.mark.parametrize(("asked", "end"), [(50.0, 1.5), (-9.0, -3.0)])
@pytest.mark.parametrize("batch", [False, True])
def test_curve_between_points_asked_for_times_outside(asked, end, batch):
    """The message names the time, not a member of a batch, and how far the geodesic goes."""
    # roots 3 and 1 + t / 3 at the one end, 9 - 3 ... at the other
    X, Y = np.diag([9.0, 1.0]), np.diag([1.0, (4 / 3) ** 2])
    space = DLNObservableManifold(2, 2)
    path = space.metric.geodesic(np.stack([Y, X]) if batch else X, end_point=Y)
    with pytest.raises(IncompleteGeodesicError) as caught:
        path([0.5, asked])
    message = str(caught.value)
    assert f"the time t = {asked:g} asked for" in message
    assert f"t* = {end:g}" in message
    assert "beyond them" in message
    assert ("of batch member [1]" in message) == batch
    assert "Go through a point" not in message
    # the advice is true
    assert np.isfinite(path([0.0, 0.999 * end])).all()


def test_geodesic_can_be_followed_backwards_into_a_crossing():
    X, v = diagonal([1.0, 2.0], [1.6, 0.5], 3)
    path = DLNObservableManifold(2, 3).metric.geodesic(X, initial_tangent_vec=v)
    with pytest.raises(IncompleteGeodesicError) as caught:
        path([-0.7])
    assert_allclose(caught.value.time, -0.625, rtol=1e-9)


@pytest.fixture
def mixed():
    """Return a point and velocities of a complete, an incomplete and a complete geodesic."""
    X, v = diagonal([1.0, 2.0], [-1.6, 0.5], 3)
    return X, np.stack([-v, v, -2 * v])


def check_mixed(points, X, vectors):
    assert_array_equal(points[1], np.full((2, 2), np.nan))
    for k in (0, 2):
        expected = DLNObservableManifold(2, 3).metric.exp(vectors[k], X)
        assert_allclose(points[k], expected, rtol=1e-12)


def test_nan_on_failure_keeps_the_other_members(mixed):
    X, vectors = mixed
    check_mixed(make(2, 3, on_failure="nan").metric.exp(vectors, X), X, vectors)


def test_warning_on_failure_keeps_the_other_members(mixed):
    X, vectors = mixed
    with pytest.warns(GeodesicWarning, match="singular") as record:
        points = make(2, 3, on_failure="warn").metric.exp(vectors, X)
    check_mixed(points, X, vectors)
    assert record[0].filename == __file__


def test_nan_on_failure_gives_nan_for_a_single_geodesic(mixed):
    X, vectors = mixed
    assert np.isnan(make(2, 3, on_failure="nan").metric.exp(vectors[1], X)).all()


@pytest.mark.parametrize("name", ["log", "dist", "squared_dist"])
def test_nan_on_failure_of_the_boundary_value_problem(name):
    space = make(2, 1, on_failure="nan")
    X = np.diag([1.0, 2.0])
    points = np.stack([np.diag([2.0, 1.0]), np.diag([-1.0, -6.0])])
    result = getattr(space.metric, name)(points, X)
    assert np.isfinite(result[0]).all()
    assert np.isnan(result[1]).all()


@pytest.mark.parametrize("name", ["log", "dist", "squared_dist"])
def test_warning_on_failure_of_the_boundary_value_problem(name):
    space = make(2, 1, on_failure="warn")
    with pytest.warns(GeodesicWarning, match="singular"):
        getattr(space.metric, name)(np.diag([-1.0, -6.0]), np.diag([1.0, 2.0]))


def test_nan_on_failure_of_a_curve(mixed):
    X, vectors = mixed
    path = make(2, 3, on_failure="nan").metric.geodesic(X, initial_tangent_vec=vectors)
    points = path([0.5, 0.7])
    assert_array_equal(np.isnan(points).any(axis=(-2, -1)), [[0, 0], [0, 1], [0, 0]])


def test_warning_on_failure_of_a_curve(mixed):
    X, vectors = mixed
    path = make(2, 3, on_failure="warn").metric.geodesic(X, initial_tangent_vec=vectors)
    with pytest.warns(GeodesicWarning, match="NaN"):
        points = path([0.5, 0.7])
    assert np.isnan(points).any()


def test_nan_on_failure_of_a_curve_between_two_points():
    space = make(2, 1, on_failure="nan")
    ends = np.stack([np.diag([2.0, 1.0]), np.diag([-1.0, -6.0])])
    points = space.metric.geodesic(np.diag([1.0, 2.0]), end_point=ends)(0.1)
    assert np.isfinite(points[0]).all()
    assert np.isnan(points[1]).all()


def test_invalid_input_raises_whatever_is_asked_for_failures():
    with pytest.raises(ValueError, match="singular"):
        make(2, 3, on_failure="nan").metric.exp(np.eye(2), np.zeros((2, 2)))


@pytest.fixture
def stalled(monkeypatch):
    """Let the solver of boundary-value problems give up on the second of two members."""

    def give_up(*args, **options):
        solution = solve_log(*args, **options)
        status, residual = np.array([0, 2]), np.array([1e-12, 1e-3])
        return dataclasses.replace(solution, status=status, residual=residual)

    monkeypatch.setattr(metric, "solve_log", give_up)
    generator = np.random.default_rng(0)
    return np.eye(3) + 0.1 * generator.normal(size=(2, 3, 3)), np.eye(3)


def test_convergence_error_says_how_near_the_worst_member_came(stalled):
    points, X = stalled
    with pytest.raises(ConvergenceError, match=r"member \[1\].*residual of 1\.00e-03") as caught:
        DLNObservableManifold(3, 4).metric.log(points, X)
    assert_array_equal(caught.value.solution.residual, [1e-12, 1e-3])
    assert caught.value.solution.n_iterations.shape == (2,)


@pytest.mark.parametrize("name", ["log", "dist", "squared_dist"])
def test_nan_for_members_that_did_not_converge(stalled, name):
    points, X = stalled
    result = getattr(make(3, 4, on_failure="nan").metric, name)(points, X)
    assert np.isfinite(result[0]).all()
    assert np.isnan(result[1]).all()


@pytest.mark.parametrize("name", ["log", "dist", "squared_dist"])
def test_warning_for_members_that_did_not_converge(stalled, name):
    points, X = stalled
    with pytest.warns(GeodesicWarning, match="did not converge"):
        getattr(make(3, 4, on_failure="warn").metric, name)(points, X)


def test_curve_between_points_that_did_not_converge(stalled):
    points, X = stalled
    with pytest.raises(ConvergenceError):
        DLNObservableManifold(3, 4).metric.geodesic(X, end_point=points)


def test_solve_log_does_not_raise_where_it_did_not_converge(stalled):
    points, X = stalled
    solution = DLNObservableManifold(3, 4).metric.solve_log(points, X)
    assert_array_equal(solution.success, [True, False])


@pytest.mark.parametrize("error", [IncompleteGeodesicError, ConvergenceError])
def test_errors_are_errors_of_this_package(error):
    assert issubclass(error, DLNError)
