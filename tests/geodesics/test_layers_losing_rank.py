"""Geodesics of layers of any widths and rank that meet layers of lower rank, or nearly do."""

import numpy as np
import pytest
from layer_reference import CHAINS
from layer_systems import bases_of, draw, draw_vectors, points, sizes, system_of
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import BalancedManifold
from dln_manifolds.geodesics import parallel_transport, solve_exp, solve_log
from dln_manifolds.geodesics.system import Status
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.singular import comes_near, facing_cores

TOLERANCE = 1e-13
#: When the smallest root vanishes.
TIMES = np.array([0.05, 0.3, 0.6, 0.95, 0.999, 1.001])

chains = pytest.mark.parametrize(("widths", "rank"), CHAINS, ids=str)


def commuting(widths, rank):
    """Return layers whose roots move on straight lines, the smallest through zero at `TIMES`."""
    system, rng = system_of(widths, rank), np.random.default_rng(3)
    roots = np.tile(np.linspace(1.5, 1.0, rank), (TIMES.size, 1))
    pace = 0.1 * rng.normal(size=roots.shape)
    pace[:, -1] = -roots[:, -1] / TIMES
    frame = Frame.of_bases(bases_of(widths, rank, TIMES.size, rng), roots, system.chain)
    return system, frame.compose(roots), frame.compose(pace)


@chains
def test_a_root_through_zero_ends_a_geodesic(widths, rank):
    system, W, V = commuting(widths, rank)
    start = points(system, W)
    solution = solve_exp(system, start, V, tolerance=TOLERANCE)
    assert_array_equal(solution.status[:-1], Status.CROSSED)
    assert solution.status[-1] == Status.CONVERGED
    assert_allclose(solution.crossing_time[:-1], TIMES[:-1], rtol=1e-12)
    assert_allclose(solution.end_point[-1], W[-1] + V[-1], rtol=0, atol=1e-12)
    assert np.isnan(solution.end_point[:-1]).all()
    moved, along = parallel_transport(system, start, V, V[:, None], tolerance=TOLERANCE)
    assert_allclose(along.crossing_time[:-1], TIMES[:-1], rtol=1e-12)
    assert_allclose(moved[-1, 0], V[-1], rtol=0, atol=1e-12 * sizes(V).max())


@chains
def test_rays_end_at_the_tip(widths, rank):
    system, W = draw(widths, rank, 3)
    pace = np.array([-2.0, -1.0, -0.9])
    V = pace.reshape(-1, *(1,) * (W.ndim - 1)) * W
    solution = solve_exp(system, points(system, W), V, tolerance=TOLERANCE)
    assert_array_equal(solution.status, [Status.CROSSED, Status.CROSSED, Status.CONVERGED])
    assert_allclose(solution.crossing_time[:2], -1 / pace[:2], rtol=1e-14)
    assert_allclose(solution.end_point[2], 0.1 * W[2], rtol=0, atol=1e-14)


# The smallest root turns round at about that distance: generic geodesics do.
@pytest.mark.parametrize("gap", [1e-2, 1e-3])
@pytest.mark.parametrize(
    ("widths", "rank"), [((4, 3, 5), 1), ((4, 3, 5), 2), ((3, 3, 3, 3), 2), ((4, 5), 2)], ids=str
)
def test_geodesics_that_nearly_lose_rank_go_on(widths, rank, gap):
    system, W, V = commuting(widths, rank)
    aside = gap * draw_vectors(system, W, 1.0)
    solution = solve_exp(system, points(system, W), V + aside, tolerance=TOLERANCE)
    assert solution.success.all(), solution.message
    assert solution.residual.max() <= 1e-11
    law = sizes(W) ** 2 + 2 * np.sum((W * (V + aside)).reshape(len(W), -1), axis=1)
    law += sizes(V + aside) ** 2
    assert np.all(np.abs(sizes(solution.end_point) ** 2 - law) <= 1e-11 * (law + sizes(W) ** 2))
    # And back, by the velocity at the end.
    scale = solution.trajectory.scales[-1].reshape(-1, *(1,) * (W.ndim - 1))
    end = scale * solution.trajectory.states[-1][:, 1, 0]
    back = solve_exp(system, points(system, solution.end_point), -end, tolerance=TOLERANCE)
    assert back.success.all()
    assert_allclose(back.end_point, W, rtol=0, atol=1e-8 * sizes(V).max())


# Rounding aside, as near as this counts as lost.
def test_hits_that_nearly_are():
    system, W, V = commuting((4, 3, 5), 2)
    aside = 1e-8 * draw_vectors(system, W, 1.0)
    solution = solve_exp(system, points(system, W), V + aside, tolerance=TOLERANCE)
    assert_array_equal(solution.status[:-1], Status.CROSSED)
    assert_allclose(solution.crossing_time[:-1], TIMES[:-1], rtol=1e-6)


def test_no_path_jumps_over_lost_rank():
    widths, rank = (4, 3, 5), 2
    system, W, V = commuting(widths, rank)
    nodes = np.stack([W, W + 0.5 * V, W + V], axis=1)
    frame = system.frame(nodes[:, 1:-1])
    # Between the first two, between the others, or not at all.
    assert_array_equal(system.jumps(frame, nodes), [True] * 5 + [False])
    # Turned by a right angle in one of the layers only.
    again = np.stack([W, W, W], axis=1)
    assert not system.jumps(system.frame(again[:, 1:-1]), again).any()


def test_close_to_lost_rank_paths_may_seem_to_jump():
    """Guarded paths do not get through here, others do; the flow verifies the geodesic."""
    space = BalancedManifold(widths=(3, 5, 3))
    np.random.seed(1)
    start, end = space.random_point(40, 0.3)[26], space.random_point(40, 0.3)[26]
    solution = space.metric.solve_log(end, start)
    assert solution.status == Status.CONVERGED
    assert_allclose(space.metric.exp(solution.initial_velocity, start), end, atol=1e-9)
    assert solution.lower_bound <= solution.length < 1.01 * solution.lower_bound


# Paths that turn the other way are shorter for some, and found from either end.
def test_other_ways_are_tried(monkeypatch):
    system, W = draw((3, 3, 3, 3), 2, 20)
    end = draw((3, 3, 3, 3), 2, 20, seed=1)[1]
    loose = system.loose(W, end)
    assert 0 < loose.size < 20
    ends = points(system, W), points(system, end)
    solution = solve_log(system, *ends, tolerance=TOLERANCE, record=False)
    monkeypatch.setattr(type(system), "loose", lambda self, start, end: np.empty(0, dtype=int))
    alone = solve_log(system, *ends, tolerance=TOLERANCE, record=False)
    for found in (solution, alone):
        assert np.count_nonzero(found.success) >= 19
        assert np.isin(found.status, list(Status)).all()
        assert np.all(found.residual[found.success] <= 1e-10)
    both = solution.success & alone.success
    shorter = both & (solution.length < (1 - 1e-6) * alone.length)
    assert shorter.any()
    assert np.isin(np.nonzero(shorter)[0], loose).all()
    assert np.count_nonzero(both & (solution.length > (1 + 1e-6) * alone.length)) <= 1


def test_cores_that_face_each_other():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(5, n, 3)))[0] for n in (6, 4))
    roots = np.array([1.4, 1.0, 0.2])
    start = (left * roots) @ right.swapaxes(1, 2)
    for sign in (1.0, -1.0):
        end = (left * [1.1, 1.3, sign * 0.1]) @ right.swapaxes(1, 2)
        first, last = facing_cores(start, end, 3)
        assert_allclose(first, np.broadcast_to(np.diag(roots), first.shape), atol=1e-14)
        assert_array_equal(np.sign(np.linalg.det(last)), sign)
        path = np.stack([start, end], axis=1)
        smallest, largest = np.array([[0.2, 0.1]] * 5), np.full((5, 2), 1.3)
        near = comes_near(path, smallest, largest, 3)[:, 0]
        assert_array_equal(near, sign < 0)
