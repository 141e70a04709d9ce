"""Flows in closed form: singular matrices that are known, conserved speed, and the integrator."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import FlatSystem, ObservableSystem
from dln_manifolds.geometry.closed_flows import rank_one_flow, singular_times
from dln_manifolds.geometry.closed_forms import rank_one_velocity
from dln_manifolds.geometry.frame import Frame


@pytest.mark.parametrize("rows", [3, 5])
@pytest.mark.parametrize("condition", [1.0, 1e6])
def test_first_singular_matrix_of_a_line(rows, condition):
    rng = np.random.default_rng(rows)
    left, right = rng.normal(size=(6, rows, 3)), rng.normal(size=(6, 3, 3))
    left *= np.geomspace(1, 1 / condition, 3)
    # X + t V = L diag(1 - t / t_i) R
    times = np.array([0.3, -1, 5.0])[rng.permuted(np.tile(np.arange(3), (6, 1)), axis=1)]
    point, velocity = left @ right, (-left / times[:, None, :]) @ right
    frame = Frame.of_point(point, 1.0)
    assert_allclose(singular_times(frame, velocity, np.ones(6)), 0.3, rtol=1e-13 * condition)
    assert_allclose(singular_times(frame, velocity, np.full(6, 9.0)), 0.3, rtol=1e-13 * condition)
    assert np.isinf(singular_times(frame, velocity, np.full(6, 0.29))).all()
    if rows > 3:
        # What is beside the column space keeps the rank.
        aside = velocity + (np.eye(rows) - frame.left @ frame.left.swapaxes(1, 2)) @ rng.normal(
            size=(6, rows, 3)
        )
        assert np.isinf(singular_times(frame, aside, np.ones(6))).all()


def test_lines_that_turn_past_zero_stay_invertible():
    angle = np.array([[0.0, -1.0], [1.0, 0.0]])
    point, velocity = np.eye(2)[None], (angle - np.eye(2))[None] * np.array([1.0])
    assert np.isinf(singular_times(Frame.of_point(point, 1.0), velocity, np.full(1, 3.0))).all()
    through = -2 * np.eye(2)[None]
    assert_allclose(singular_times(Frame.of_point(point, 1.0), through, np.ones(1)), 0.5)


@pytest.mark.parametrize("depth", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("shape", [(4, 3), (3, 1), (1, 3)])
def test_rank_one_ends_where_its_logarithm_leads(depth, shape):
    rng = np.random.default_rng(1)
    first, last = (
        rng.uniform(0.5, 2, size=(8, 1, 1))
        * (rng.normal(size=(8, shape[0], 1)) @ rng.normal(size=(8, 1, shape[1])))
        for _ in range(2)
    )
    frame = Frame.of_point(first, depth, 1)
    velocity = frame.assemble(rank_one_velocity(frame, Frame.of_point(last, depth, 1)))

    def flow(span):
        *parts, column, logs = rank_one_flow(frame, velocity, np.full(8, span))
        return [np.exp(logs)[:, None, None] * part for part in parts] + [column]

    end, rate, column = flow(1.0)
    overlap = np.sum(column * Frame.of_point(last, depth, 1).left[:, :, 0], axis=1)
    assert_allclose(np.abs(overlap), 1, rtol=1e-13)
    assert_allclose(end, last, rtol=1e-12, atol=1e-12)
    near = [flow(1 + h)[0] for h in (-1e-5, 1e-5)]
    assert_allclose((near[1] - near[0]) / 2e-5, rate, atol=1e-8 * np.abs(rate).max())
    still, same, _ = flow(0.0)
    assert_allclose(still, first, rtol=1e-13, atol=1e-13)
    assert_allclose(same, velocity, rtol=1e-13, atol=1e-13)


SPACES = [
    DLNObservableManifold(3, 1),
    DLNObservableManifold(shape=(4, 3), depth=1),
    DLNObservableManifold(shape=(4, 3), rank=1, depth=3),
    DLNObservableManifold(shape=(1, 4), depth=2),
]


def anywhere(space, rng):
    shape = space.stratum.point_shape
    points = space.projection(rng.normal(size=(12, *shape)))
    return points, space.to_tangent(rng.normal(size=(12, *shape)), points)


def along_frames(space, rng):
    """Singular values, some equal, that move alone."""
    shape, rank = space.stratum.shape, space.stratum.rank
    left, right = (np.linalg.qr(rng.normal(size=(12, size, rank)))[0] for size in shape)
    values, rates = rng.uniform(0.5, 2, size=(12, rank)), 2 * rng.normal(size=(12, rank))
    values[::3, :2] = values[::3, :1]
    weights = np.stack([values, rates * values])[:, :, None, :]
    return (left * weights) @ right.swapaxes(1, 2)


STEADY = [
    DLNObservableManifold(3, 4),
    DLNObservableManifold(3, np.inf),
    DLNObservableManifold(shape=(5, 4), rank=2, depth=3),
]


@pytest.mark.parametrize(
    ("space", "draw"),
    [(space, anywhere) for space in SPACES] + [(space, along_frames) for space in STEADY],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_the_integrator_agrees(space, draw, monkeypatch):
    points, vectors = draw(space, np.random.default_rng(2))
    closed = space.metric.solve_exp(vectors, points)
    inside = closed.evaluate(np.array([0.2, 0.7]))
    for system in (FlatSystem, ObservableSystem):
        monkeypatch.setattr(system, "lines", lambda *_: None)
    stepped = space.metric.solve_exp(vectors, points)
    np.testing.assert_array_equal(closed.status, stepped.status)
    assert_allclose(closed.end_point, stepped.end_point, rtol=1e-11, atol=1e-11)
    assert_allclose(closed.crossing_time, stepped.crossing_time, rtol=1e-11)
    assert (closed.residual[closed.success] < 1e-13).all()
    assert np.median(closed.n_evaluations) == 1 < np.median(stepped.n_evaluations)
    assert_allclose(inside[0], stepped.evaluate(np.array([0.2, 0.7]))[0], atol=1e-11)
