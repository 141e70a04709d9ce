"""Distances of many points: the same as one by one, in blocks, on workers, with typed failures."""

import itertools
import math
import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import (
    BalancedManifold,
    ConvergenceError,
    DisconnectedPointsError,
    DLNObservableManifold,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.statistics import pairwise

SPACES = [DLNObservableManifold(2, 3), BalancedManifold(2, 3)]


def near(space, count):
    """Return points near each other: geodesics between them exist upstairs too."""
    base = space.random_point(bound=0.3)
    vectors = space.metric.random_unit_tangent_vec(base, count)
    return space.metric.exp(0.4 * vectors, base)


@pytest.fixture(params=SPACES, ids=["observable", "balanced"])
def space(request):
    return request.param


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Make tiles of one pair, so that small samples make many."""
    monkeypatch.setattr(pairwise, "_BLOCK", 1)


def line(lengths):
    """Return points on a straight line through the origin, for N = 1: some pairs cross det = 0."""
    return np.stack([np.diag([x, 1.0 * np.sign(x)]) for x in lengths])


@pytest.mark.parametrize("options", [{}, {"n_jobs": 2, "backend": "threading"}])
def test_pairwise_distances_are_those_of_single_pairs(space, tiny_blocks, options):
    points = near(space, 4)
    table = space.metric.dist_pairwise(points, **options)
    expected = np.zeros((4, 4))
    for i, j in itertools.combinations(range(4), 2):
        expected[i, j] = expected[j, i] = space.metric.dist(points[i], points[j])
    assert_allclose(table, expected, rtol=1e-9)
    assert_array_equal(table, table.T)


def test_every_pair_is_solved_once_in_blocks(space, monkeypatch):
    monkeypatch.setattr(pairwise, "_BLOCK", 4 * math.prod(space.stratum.point_shape))
    points, seen = near(space, 5), []
    solve = pairwise.solve_log

    def count(system, start, end, **options):
        seen.extend(
            (first.tobytes(), last.tobytes())
            for first, last in zip(start.value, end.value, strict=True)
        )
        assert 0 < len(end.value) <= 4
        return solve(system, start, end, **options)

    monkeypatch.setattr(pairwise, "solve_log", count)
    space.metric.dist_pairwise(points)
    index = {point.tobytes(): k for k, point in enumerate(points)}
    pairs = sorted((index[a], index[b]) for a, b in seen)
    assert pairs == list(itertools.combinations(range(5), 2))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points(space, count):
    points = near(space, 2)
    table = space.metric.dist_pairwise(points[:count])
    assert table.shape == (count, count)
    if count == 2:
        assert_allclose(table[0, 1], space.metric.dist(*points), rtol=1e-12)


def test_closest_neighbor(space):
    points = near(space, 5)
    expected = [np.argmin(space.metric.dist(a, points[2:])) for a in points[:2]]
    found = space.metric.closest_neighbor_index(points[None, :2], points[2:])
    assert_array_equal(found, [expected])
    single = space.metric.closest_neighbor_index(points[0], points[2:])
    assert np.ndim(single) == 0
    assert single == expected[0]


def test_closest_neighbor_among_as_many_as_there_are_points(space, tiny_blocks):
    # all pairs, not one by one
    points = near(space, 2)
    assert_array_equal(space.metric.closest_neighbor_index(points, points[::-1]), [1, 0])


def test_first_of_equal_neighbors(space):
    point = near(space, 2)[0]
    assert space.metric.closest_neighbor_index(point, np.stack([point] * 3)) == 0


def test_joblib_tells_what_it_does(space, capsys, tiny_blocks):
    space.metric.dist_pairwise(near(space, 4), verbose=20)
    assert re.search(r"\b6 out of +6\b", capsys.readouterr().err)
    space.metric.dist_pairwise(near(space, 4))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{}, {"n_jobs": 2, "backend": "threading"}])
def test_progress_tells_how_many_pairs_are_solved(space, tiny_blocks, options):
    points, calls = near(space, 4), []
    table = space.metric.dist_pairwise(points, progress=lambda *x: calls.append(x), **options)
    assert calls == [(done, 6) for done in range(7)]  # as few at once as there may be
    assert_allclose(table, space.metric.dist_pairwise(points, progress=False), rtol=1e-12)
    calls.clear()
    nearest = space.metric.closest_neighbor_index(
        points[:2], points, progress=lambda *x: calls.append(x), **options
    )
    assert_array_equal(nearest, [0, 1])
    assert calls[-1] == (8, 8)


def test_progress_of_views_and_across_det_zero():
    calls, space = [], DLNObservableManifold(2, 2)
    points = space.random_point(3)
    points[1, 0] *= -1
    view = space.flattened()
    view.metric.dist_pairwise(
        view.flatten(points), completed=True, progress=lambda *x: calls.append(x)
    )
    assert calls == [(0, 3), (3, 3)]


def test_whoever_is_told_can_stop(space, tiny_blocks):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space.metric.dist_pairwise(near(space, 4), progress=stop)
    with pytest.raises(TypeError, match="progress must be"):
        space.metric.dist_pairwise(near(space, 3), progress=3)


def test_single_precision_stays(space):
    points = near(space, 3)
    table = space.metric.dist_pairwise(points.astype(np.float32))
    assert table.dtype == np.float32
    assert_allclose(table, space.metric.dist_pairwise(points), rtol=1e-3, atol=1e-5)


def test_inputs_stay_as_they_are(space):
    points = near(space, 3)
    before = points.copy()
    points.flags.writeable = False
    space.metric.dist_pairwise(points)
    space.metric.closest_neighbor_index(points, points)
    assert_array_equal(points, before)


def test_bad_points(space):
    points = near(space, 3)
    with pytest.raises(InvalidPointError, match="one axis of points"):
        space.metric.dist_pairwise(points[0])
    with pytest.raises(InvalidPointError, match="one axis of points"):
        space.metric.closest_neighbor_index(points[0], points[0])
    with pytest.raises(InvalidPointError, match="empty"):
        space.metric.closest_neighbor_index(points[0], points[:0])
    points[1] = np.nan
    with pytest.raises(InvalidPointError, match="points is not finite"):
        space.metric.dist_pairwise(points)


def two_components(space):
    """Return three points, of which the last lies in another component."""
    points = near(space, 3)
    # a reflection of the output: det of the last layer, and of X, changes its sign
    points[2].reshape(-1, 2, 2)[-1, 0] *= -1
    return points


def test_other_components_are_named(space):
    points = two_components(space)
    with pytest.raises(DisconnectedPointsError, match="number 2"):
        space.metric.dist_pairwise(points)
    with pytest.raises(DisconnectedPointsError, match="number 2"):
        space.metric.closest_neighbor_index(points, points[:2])
    with pytest.raises(DisconnectedPointsError, match="number 1"):
        space.metric.closest_neighbor_index(points[0], points[1:])


@pytest.mark.parametrize("view", ["the space", "flattened"])
def test_pairs_in_different_components_are_nan(space, view, tiny_blocks):
    points = two_components(space)
    expected = space.metric.dist(points[0], points[1])
    space = space.new(equip=False)
    space.equip_with_metric(space.default_metric(), on_failure="nan")
    if view == "flattened":
        space = space.flattened()
        points = space.flatten(points)
    table = space.metric.dist_pairwise(points)
    assert_array_equal(np.isnan(table), [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    assert_allclose(table[0, 1], expected, rtol=1e-12)
    assert_array_equal(table, table.T)


def test_one_warning_for_pairs_in_different_components(space):
    metric = type(space.metric)(space, on_failure="warn")
    with pytest.warns(GeodesicWarning, match="2 of 3") as caught:
        table = metric.dist_pairwise(two_components(space))
    assert len(caught) == 1
    assert np.isnan(table).sum() == 4


def test_neighbors_in_other_components_do_not_count(space):
    metric = type(space.metric)(space, on_failure="nan")
    points = two_components(space)
    # The last one is nearest to nobody but itself.
    found = metric.closest_neighbor_index(points, points[[2, 1, 0]])
    assert_array_equal(found, [2, 1, 0])
    with pytest.raises(
        DisconnectedPointsError, match="number 2 lies in another component than every"
    ):
        metric.closest_neighbor_index(points, points[:2])


class TestFailures:
    """At N = 1 geodesics are straight lines; those from diag(x, 1) to diag(-y, -1) end early."""

    space = DLNObservableManifold(2, 1)
    points = line([1.0, 2.0, -1.0, -3.0])

    def metric(self, on_failure):
        return type(self.space.metric)(self.space, on_failure=on_failure)

    def test_raise_names_the_pair(self, tiny_blocks):
        with pytest.raises(IncompleteGeodesicError) as caught:
            self.metric("raise").dist_pairwise(self.points)
        assert "(0, 2)" in caught.value.__notes__[0]

    def test_nan_for_the_pairs_that_fail(self):
        table = self.metric("nan").dist_pairwise(self.points)
        sign = np.sign(self.points[:, 0, 0])
        assert_array_equal(np.isnan(table), sign != sign[:, None])
        assert_allclose(table[0, 1], 1.0)
        assert_allclose(table[2, 3], 2.0)

    def test_one_warning_with_the_number(self, tiny_blocks):
        with pytest.warns(GeodesicWarning, match="4 of 6") as caught:
            self.metric("warn").dist_pairwise(self.points)
        assert len(caught) == 1
        assert caught[0].filename == __file__

    def test_neighbors_out_of_reach_do_not_count(self):
        metric = self.metric("nan")
        assert metric.closest_neighbor_index(self.points[0], self.points[[2, 1]]) == 1
        with pytest.raises(ConvergenceError, match="point 0"):
            metric.closest_neighbor_index(self.points[0], self.points[2:])

    def test_errors_travel_between_processes(self):
        with pytest.raises(IncompleteGeodesicError) as caught:
            self.metric("raise").dist_pairwise(self.points)
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == str(caught.value)
        assert again.__notes__ == caught.value.__notes__
        assert_array_equal(again.time, caught.value.time)


def test_metrics_travel_between_processes(space):
    points = near(space, 2)
    metric = pickle.loads(pickle.dumps(type(space.metric)(space, on_failure="nan")))
    assert metric.on_failure == "nan"
    assert metric.dist(*points) == space.metric.dist(*points)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of a pool that is left to its workers
def test_processes(space):
    points = near(space, 6)
    table = space.metric.dist_pairwise(points, n_jobs=2, backend="loky")
    assert_allclose(table, space.metric.dist_pairwise(points), rtol=1e-12)


class TestBalancedMatrices:
    space = BalancedManifold(2, 3)

    def test_metric_matrix_gives_the_inner_product(self):
        W = self.space.random_point(2)
        u, v = self.space.random_tangent_vec(W), self.space.random_tangent_vec(W)
        matrix = self.space.metric.metric_matrix(W)
        product = np.einsum("ki,kij,kj->k", u.reshape(2, -1), matrix, v.reshape(2, -1))
        assert_allclose(product, self.space.metric.inner_product(u, v, W), rtol=1e-13)

    def test_cometric_matrix_is_the_projection_to_the_tangent_space(self):
        W = self.space.random_point(2)
        matrix = self.space.metric.cometric_matrix(W)
        assert matrix.shape == (2, 12, 12)
        assert_allclose(matrix, np.swapaxes(matrix, -1, -2), atol=1e-14)
        assert_allclose(np.trace(matrix, axis1=-2, axis2=-1), self.space.dim, rtol=1e-13)
        P, Q = np.random.normal(size=(2, 2, 3, 2, 2))
        projected = np.einsum("kij,kj->ki", matrix, P.reshape(2, -1)).reshape(W.shape)
        assert_allclose(projected, self.space.to_tangent(P, W), atol=1e-13)
        product = np.einsum("ki,kij,kj->k", Q.reshape(2, -1), matrix, P.reshape(2, -1))
        assert_allclose(self.space.metric.inner_coproduct(Q, P, W), product, rtol=1e-12)

    def test_unbatched_shapes(self):
        W = self.space.random_point()
        assert self.space.metric.metric_matrix(W).shape == (12, 12)
        assert self.space.metric.cometric_matrix(W).shape == (12, 12)
        assert self.space.metric.inner_coproduct(W, W, W).shape == ()

    def test_normal_basis_scales_and_keeps_directions(self):
        W = self.space.random_point()
        basis = self.space.random_tangent_vec(W, 4)
        unit = self.space.metric.normal_basis(basis, W)
        length = self.space.metric.norm(basis, W)
        assert_allclose(unit * length[:, None, None, None], basis, rtol=1e-13, atol=1e-14)
        assert_allclose(self.space.metric.norm(unit, W), 1, rtol=1e-13)
