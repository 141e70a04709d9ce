"""Logarithms at N = 2 that verify themselves, against the flow and in 50 digits."""

import numpy as np
import pytest
from mpmath import mp
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import DLNObservableManifold, spd
from dln_manifolds.geodesics import solve
from dln_manifolds.geometry.closed_forms import straight_factors
from dln_manifolds.geometry.frame import Frame


def positive(rng, *shape):
    factors = rng.normal(size=(*shape, 2 * shape[-1]))
    return factors @ np.swapaxes(factors, -1, -2)


def closed(points, targets):
    ends = (Frame.of_point(x, 2.0) for x in (points, targets))
    return straight_factors(*ends, points, targets)


@pytest.mark.parametrize("turned", [False, True])
def test_velocities_are_those_of_the_transport_map(turned):
    rng = np.random.default_rng(0)
    first, last = positive(rng, 2, 6, 4)
    factor = np.linalg.qr(rng.normal(size=(4, 4)))[0] if turned else np.eye(4)
    found = closed(first @ factor, last @ factor)
    move = spd.riccati(first, last) - np.eye(4)
    expected = (move @ first + first @ move) @ factor
    np.testing.assert_allclose(found.initial_velocity, expected, rtol=1e-10, atol=1e-10)
    traces = np.einsum("bij,bjk,bki->b", move, first, move)
    np.testing.assert_allclose(found.length, np.sqrt(2 * traces), rtol=1e-11)
    np.testing.assert_allclose(found.end_point, last @ factor, rtol=1e-10, atol=1e-10)
    assert (found.residual < 1e-12).all()


def test_near_points_keep_all_digits():
    rng = np.random.default_rng(1)
    first = positive(rng, 1, 3)
    step = rng.normal(size=(1, 3, 3))
    last = first + 1e-9 * (step + np.swapaxes(step, 1, 2))
    with mp.workdps(50):
        a, b = mp.matrix(first[0].tolist()), mp.matrix(last[0].tolist())
        values, vectors = mp.eigsy(a)
        half, inverse = (
            vectors * mp.diag([v**p for v in values]) * vectors.T
            for p in (mp.mpf(1) / 2, -mp.mpf(1) / 2)
        )
        squares, turn = mp.eigsy(half * b * half)
        root = turn * mp.diag([mp.sqrt(v) for v in squares]) * turn.T
        move = inverse * root * inverse - mp.eye(3)
        expected = np.array((move * a + a * move).tolist(), dtype=float)
    error = np.abs(closed(first, last).initial_velocity[0] - expected).max()
    assert error < 1e-12 * np.abs(expected).max()
    assert not closed(first, first).initial_velocity.any()


def test_other_pairs_are_left_to_the_flow():
    rng = np.random.default_rng(2)
    first, last = positive(rng, 2, 3, 3)
    assert np.isfinite(closed(first, last).residual).all()
    other = last.copy()
    other[1, 0, 2] += 1e-6
    assert_array_equal(np.isfinite(closed(first, other).residual), [True, False, True])
    assert not np.isfinite(closed(first, -last).residual).any()
    assert closed(first * 1e100, last) is None
    # near, a small part that is skew matters
    near = first.copy()
    near[:, 0, 1] += 1e-10
    near[:, 1, 0] -= 1e-10
    assert closed(first, near) is None


def test_members_of_both_kinds_share_a_batch(monkeypatch):
    """Those in closed form are not sought as paths, and all are what they are alone."""
    rng = np.random.default_rng(5)
    first, last = positive(rng, 2, 6, 3)
    last[2, 0, 2] += 0.3 * last[2, 0, 0]
    last[4] = rng.normal(size=(3, 3))
    last[4, 0] *= np.linalg.det(last[4])
    metric = DLNObservableManifold(n=3, depth=2).metric
    alone = [metric.log(y, x) for x, y in zip(first, last, strict=True)]
    sought, connect = [], solve.connect

    def noted(system, begin, *others, **options):
        sought.append(len(begin.position))
        return connect(system, begin, *others, **options)

    monkeypatch.setattr(solve, "connect", noted)
    assert_allclose(metric.log(last, first), alone, rtol=1e-9, atol=1e-9)
    assert sought == [2]
    lengths = metric.norm(np.array(alone), first)
    assert_allclose(metric.dist(first, last), lengths, rtol=1e-10)


def test_one_base_point_serves_a_batch():
    rng = np.random.default_rng(6)
    points = positive(rng, 2, 3, 4)
    metric = DLNObservableManifold(n=4, depth=2).metric
    found = metric.log(points, points[0, 0])
    assert found.shape == points.shape
    assert not found[0, 0].any()
    pairs = metric.log(points, np.broadcast_to(points[0, 0], points.shape))
    assert_allclose(found, pairs, atol=1e-13 * np.abs(points).max())
    assert_allclose(metric.dist(points[:, :1], points[:, 1:]).shape, (2, 2))
    assert metric.dist(points.astype(np.float32), points[0, 0].astype(np.float32)).dtype == "f4"


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
def test_log_agrees_with_the_flow_at_every_condition(condition):
    rng = np.random.default_rng(3)
    values = np.geomspace(1, 1 / condition, 4)
    bases = np.linalg.qr(rng.normal(size=(2, 5, 4, 4)))[0]
    first, last = (bases * values) @ np.swapaxes(bases, -1, -2)
    first, last = (0.5 * (x + np.swapaxes(x, 1, 2)) for x in (first, last))
    metric = DLNObservableManifold(n=4, depth=2).metric
    metric.on_failure = "nan"
    slow, fast = metric.solve_log(last, first), metric.log(last, first)
    good = slow.success & np.isfinite(fast).all(axis=(1, 2))
    assert good.all() or condition == 1e10
    size = np.abs(fast[good]).max(initial=1e-300)
    rtol = 1e-11 * np.sqrt(condition)
    assert np.abs(slow.initial_velocity[good] - fast[good]).max(initial=0) < rtol * size
    np.testing.assert_allclose(metric.dist(last, first)[good], slow.length[good], rtol=rtol)
