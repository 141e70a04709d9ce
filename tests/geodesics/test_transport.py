"""Parallel transport of end-to-end matrices, against the connection in the entries of X."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from dln_manifolds import DLNObservableManifold, IncompleteGeodesicError
from dln_manifolds.geodesics import (
    Points,
    Status,
    integrate,
    parallel_transport,
    system_of_matrices,
)
from dln_manifolds.geometry.connection import christoffel
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import inner_product

CASES = [
    ((2, 2), 2, 3),
    ((3, 3), 3, 1.5),
    ((3, 3), 3, 8),
    ((3, 3), 3, math.inf),
    ((3, 2), 2, 2.5),
    ((4, 3), 2, 3),
    ((3, 3), 1, 1.5),
    ((3, 4), 2, 1),
]
STARTS = {
    "random": lambda shape: np.random.default_rng(0).standard_normal(shape),
    "equal": lambda shape: 1.3 * np.eye(*shape),
    "close": lambda shape: np.diag([1.0, 1.0 + 1e-9, 0.6, 0.6])[: shape[0], : shape[1]],
}


def reference(x, velocity, vectors, depth, rank):
    """Integrate ``X' = V``, ``V' = -Gamma(V, V)``, ``U' = -Gamma(V, U)`` as they stand."""

    def rates(_, flat):
        state = flat.reshape(-1, *x.shape)
        frame = Frame.of_point(state[0], depth, rank)
        tangent = frame.assemble(frame.blocks(state[1:]))
        return np.concatenate([tangent[:1], -christoffel(frame, tangent[0], tangent)]).ravel()

    start = np.stack([x, velocity, *vectors]).ravel()
    found = solve_ivp(rates, (0, 1), start, method="DOP853", rtol=1e-12, atol=1e-13)
    return found.y[:, -1].reshape(-1, *x.shape)


def problem(shape, rank, depth, start):
    """Return a point with its frame, a velocity and two unit vectors."""
    frame = Frame.of_point(STARTS[start](shape), depth, rank)
    x = frame.compose(frame.singular_values)
    frame = Frame.of_point(x, depth, rank)
    normal = np.random.default_rng(1).standard_normal((3, *shape))
    vectors = frame.assemble(frame.blocks(normal) * frame.root_weights)
    lengths = np.sqrt(inner_product(frame, vectors, vectors))
    vectors /= lengths[:, None, None]
    size = np.sqrt(depth if math.isfinite(depth) else 1.0) * np.linalg.norm(frame.roots)
    return x, 0.3 * size * vectors[0], vectors[1:]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(("shape", "rank", "depth"), CASES)
def test_transport_is_that_of_the_connection(shape, rank, depth, start):
    x, velocity, vectors = problem(shape, rank, depth, start)
    wanted = reference(x, velocity, vectors, depth, rank)
    system = system_of_matrices(depth, shape, rank)
    points = Points(x[None], Frame.of_point(x[None], depth, rank))
    carried = np.stack([*vectors, velocity])[None]
    moved, solution = parallel_transport(system, points, velocity[None], carried, tolerance=1e-13)
    assert solution.status[0] == Status.CONVERGED
    scale = np.abs(wanted).max()
    assert_allclose(solution.end_point[0], wanted[0], rtol=0, atol=1e-10 * scale)
    # The velocity is parallel along its own geodesic.
    assert_allclose(moved[0], wanted[[2, 3, 1]], rtol=0, atol=1e-10 * scale)


def test_a_batch_without_vectors_to_fill_its_last_place():
    x, velocity, vectors = problem((3, 3), 3, 4, "random")
    system = system_of_matrices(4, (3, 3), 3)
    both = np.stack([x, x.T])
    points = Points(both, Frame.of_point(both, 4))
    along = np.stack([velocity, velocity.T])
    moved = [
        parallel_transport(system, points, along, carried, tolerance=1e-13)[0]
        for carried in (
            np.stack([vectors[:1], vectors[:1].swapaxes(-1, -2)]),
            np.stack([vectors, vectors.swapaxes(-1, -2)]),
        )
    ]
    assert_allclose(moved[0][:, 0], moved[1][:, 0], rtol=0, atol=1e-11)
    # The transpose is an isometry.
    assert_allclose(moved[1][1], moved[1][0].swapaxes(-1, -2), rtol=0, atol=1e-11)


def test_geodesics_that_take_many_steps_are_followed_alone(monkeypatch):
    depth = 3
    # The second one meets a singular matrix, the third one takes no step.
    frame = Frame.of_point(np.stack([STARTS["random"]((3, 3))] * 3), depth)
    x = frame.compose(frame.singular_values)
    pace = np.array([1.0, -3.0, 0.0])[:, None, None]
    turn = 0.2 * np.random.default_rng(1).standard_normal((3, 3))
    velocity = x @ turn + (depth * pace * (pace < 0) + 0.5 * pace) * x
    velocity[0] += 0.7 * np.random.default_rng(3).standard_normal((3, 3))  # no closed form
    velocity[2] = 0
    vectors = np.random.default_rng(2).standard_normal((3, 1, 3, 3))
    system = system_of_matrices(depth, (3, 3), 3)
    arguments = system, Points(x, Frame.of_point(x, depth)), velocity, vectors
    expected, solution = parallel_transport(*arguments, tolerance=1e-13)
    monkeypatch.setattr(integrate, "_FEW_STEPS", 1)
    found, other = parallel_transport(*arguments, tolerance=1e-13)
    assert solution.status.tolist() == [Status.CONVERGED, Status.CROSSED, Status.CONVERGED]
    assert other.status.tolist() == solution.status.tolist()
    assert other.n_iterations[0] > solution.n_iterations[0]
    assert_allclose(other.crossing_time, solution.crossing_time, rtol=1e-9)
    assert np.isnan(found[1]).all()
    assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-9, atol=1e-9)


def test_transport_into_a_singular_matrix_takes_no_longer_than_the_geodesic():
    # A velocity a thousand times as long as the point: steps with vectors became ever shorter.
    rng = np.random.default_rng(28750)
    space = DLNObservableManifold(2, 7.3)
    X, v = rng.normal(size=(2, 2)), 1e3 * rng.normal(size=(2, 2))
    with pytest.raises(IncompleteGeodesicError) as caught:
        space.metric.parallel_transport(v, X, v)
    steps = caught.value.solution.n_iterations
    assert steps <= space.metric.solve_exp(v, X).n_iterations + integrate._FEW_STEPS
