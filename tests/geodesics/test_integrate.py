"""The exponential map against its exact invariants and against an independent code."""

import itertools

import numpy as np
import pytest
from root_chart import lower
from scipy.integrate import solve_ivp

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import ObservableSystem, Status
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geodesics.root_paths import RootChart
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.singular import comes_near

DEPTHS = [1, 1.5, 2, 3, 8, 30]


def reach(depth):
    """Length, relative to that of the layers, up to which X(t) stays well conditioned.

    A dense matrix of condition number c holds its smallest singular value to eps c only, and
    the singular values are the N-th powers of what moves.
    """
    return min(0.25, 1.5 / depth)


def tangent_vectors(space, points, length, seed):
    """Random directions, of a length relative to that of the layers."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal(points.shape)
    s = np.linalg.svd(points, compute_uv=False)
    layers = np.sqrt(space.depth * np.sum(s ** (2 / space.depth), axis=-1))
    return vectors * (length * layers / space.metric.norm(vectors, points))[..., None, None]


def momentum(space, points, velocities):
    """Return ``P = A_X^{-1}(X')`` through the dense metric matrix: another code than the flow's."""
    matrix = space.metric.metric_matrix(points)
    flat = velocities.reshape(*velocities.shape[:-2], -1, 1)
    return (matrix @ flat).reshape(velocities.shape)


def velocity_by_differences(solution, t, step):
    """Sixth-order central difference of the curve."""
    weights = np.array([-1, 9, -45, 45, -9, 1]) / (60 * step)
    times = t + step * np.array([-3, -2, -1, 1, 2, 3])
    return np.einsum("k,...kij->...ij", weights, solution(times))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_cone_law(n, depth):
    """``N sum s(t)^(2/N) = |W|^2 + 2 t <W, V> + t^2 |V|^2`` at every t."""
    space = DLNObservableManifold(n, depth)
    np.random.seed(n)
    points = space.random_point(6)
    vectors = tangent_vectors(space, points, reach(depth), seed=n)
    solution = space.metric.solve_exp(vectors, points)
    times = np.linspace(0, 1, 9)

    def cone(s):
        return depth * np.sum(s ** (2 / depth), axis=-1)

    left, s, right_t = np.linalg.svd(points)
    diagonal = np.einsum("bki,bkl,bil->bi", left, vectors, right_t)
    # <W, V> = half the derivative of |W|^2 = N sum s^(2/N)
    inner = np.sum(s ** (2 / depth - 1) * diagonal, axis=-1)
    square = space.metric.squared_norm(vectors, points)
    expected = cone(s)[:, None] + 2 * times * inner[:, None] + times**2 * square[:, None]
    got = cone(np.linalg.svd(solution(times), compute_uv=False))
    error = np.max(np.abs(got - expected) / expected)
    assert error <= 1e-10, error


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_energy_and_momenta(n, depth):
    """The speed and the two skew momenta are constant along the curve."""
    space = DLNObservableManifold(n, depth)
    np.random.seed(10 + n)
    points = space.random_point(4)
    vectors = tangent_vectors(space, points, 0.8 * reach(depth), seed=n)
    solution = space.metric.solve_exp(vectors, points)
    start = momentum(space, points, vectors)
    for t in (0.3, 0.7, 1.0):
        # The velocity at t from the flow itself, continued: the curve is a geodesic from there on.
        here = solution(t)
        remaining = space.metric.log(solution(t + 0.05), here) / 0.05
        speed = space.metric.norm(remaining, here)
        assert np.max(np.abs(speed / space.metric.norm(vectors, points) - 1)) <= 1e-10
        p = momentum(space, here, remaining)
        for moment in (
            lambda x, q: x @ np.swapaxes(q, 1, 2) - q @ np.swapaxes(x, 1, 2),
            lambda x, q: np.swapaxes(x, 1, 2) @ q - np.swapaxes(q, 1, 2) @ x,
        ):
            drift = np.linalg.norm(moment(here, p) - moment(points, start), axis=(1, 2))
            scale = np.linalg.norm(points, axis=(1, 2)) * np.linalg.norm(start, axis=(1, 2))
            assert np.max(drift / scale) <= 1e-10


def hamiltonian_rhs(depth, n):
    """Chen's equations in (X, P) for integer N, literally: ``X' = A_X(P)``, ``P' = -dH/dX``."""

    def powers(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return [(vectors * values ** (k / depth)) @ vectors.T for k in range(depth)]

    def hamiltonian(x, p):
        left, right = powers(x @ x.T), powers(x.T @ x)
        return 0.5 * sum(
            np.sum(p * (left[depth - k] @ p @ right[k - 1])) for k in range(1, depth + 1)
        )

    def rhs(_, y):
        x, p = y.reshape(2, n, n)
        left, right = powers(x @ x.T), powers(x.T @ x)
        velocity = sum(left[depth - k] @ p @ right[k - 1] for k in range(1, depth + 1))
        force = np.empty((n, n))
        step = 2e-3
        for index in np.ndindex(n, n):
            e = np.zeros((n, n))
            e[index] = step
            values = [hamiltonian(x + k * e, p) for k in (-4, -3, -2, -1, 1, 2, 3, 4)]
            weights = [1 / 280, -4 / 105, 1 / 5, -4 / 5, 4 / 5, -1 / 5, 4 / 105, -1 / 280]
            force[index] = np.dot(weights, values) / step
        return np.concatenate([velocity.ravel(), -force.ravel()])

    return rhs


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_against_hamiltons_equations_in_x(depth):
    """An independent integration in (X, P) with the literal sum ends at the same point."""
    n = 3
    space = DLNObservableManifold(n, depth)
    np.random.seed(depth)
    point = space.random_point(bound=0.3)
    vector = tangent_vectors(space, point, 0.3, seed=depth)
    start = np.concatenate([point.ravel(), momentum(space, point, vector).ravel()])
    reference = solve_ivp(
        hamiltonian_rhs(depth, n), (0, 1), start, method="DOP853", rtol=1e-11, atol=1e-12
    ).y[:9, -1]
    error = np.abs(space.metric.exp(vector, point) - reference.reshape(n, n)).max()
    assert error <= 1e-9 * np.abs(reference).max(), error


@pytest.mark.parametrize("depth", [2, 3.5, 8])
def test_error_follows_the_tolerance(depth):
    """The error stays within a small factor of the tolerance asked for, and falls with it."""
    space = DLNObservableManifold(3, depth)
    np.random.seed(0)
    points = space.random_point(8)
    vectors = tangent_vectors(space, points, 0.3, seed=1)
    space.equip_with_metric(tolerance=1e-14)
    reference = space.metric.exp(vectors, points)
    errors = []
    for tolerance in (1e-6, 1e-8, 1e-10, 1e-12):
        space.equip_with_metric(tolerance=tolerance)
        solution = space.metric.solve_exp(vectors, points)
        distance = np.linalg.norm(solution.end_point - reference, axis=(1, 2))
        errors.append(np.max(distance / np.linalg.norm(reference, axis=(1, 2))))
        assert errors[-1] <= 20 * depth * tolerance, (errors, tolerance)
    assert all(finer < 0.1 * coarser for coarser, finer in itertools.pairwise(errors))


def test_evaluations_are_bounded_and_depend_on_the_member():
    """Every member takes its own steps: a hard one does not make the others expensive."""
    space = DLNObservableManifold(3, 3)
    np.random.seed(2)
    points = space.random_point(5, bound=0.2)
    vectors = tangent_vectors(space, points, 0.3, seed=3)
    vectors[:4] *= 1e-3
    solution = space.metric.solve_exp(vectors, points)
    alone = [
        int(space.metric.solve_exp(v, x).n_evaluations)
        for v, x in zip(vectors, points, strict=True)
    ]
    assert solution.n_evaluations.tolist() == alone
    assert max(alone[:4]) <= 40
    assert alone[4] <= 250


def test_evaluations_are_independent_of_the_depth():
    """The same X and Z take about as many steps in a deep network as in a shallow one."""
    rng = np.random.default_rng(15)
    left, right = np.linalg.qr(rng.standard_normal((2, 6, 6, 6)))[0]
    points = (left * np.exp(rng.uniform(-1, 1, (6, 1, 6)))) @ right
    vectors = rng.standard_normal((6, 6, 6))
    size = np.linalg.norm(points, axis=(1, 2)) / np.linalg.norm(vectors, axis=(1, 2))
    vectors *= 0.1 * size[:, None, None]
    shallow, deep = (
        DLNObservableManifold(6, depth).metric.solve_exp(vectors, points).n_evaluations
        for depth in (2, 64)
    )
    assert np.sum(deep) <= 1.3 * np.sum(shallow), (deep, shallow)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8])
def test_reversible_and_composable(depth):
    """Flowing on, backwards and in one go agree."""
    space = DLNObservableManifold(3, depth)
    np.random.seed(4)
    point = space.random_point()
    vector = tangent_vectors(space, point, 0.2, seed=5)
    solution = space.metric.solve_exp(vector, point)
    scale = np.linalg.norm(point)
    assert np.abs(solution(0.0) - point).max() <= 1e-13 * scale
    for t in (-1.0, 0.4, 1.7):
        assert np.abs(solution(t) - space.metric.exp(t * vector, point)).max() <= 1e-10 * scale
    end = solution(1.0)
    back = velocity_by_differences(solution, 1.0, 2e-2)
    error = np.abs(space.metric.exp(-back, end) - point).max()
    assert error <= 1e-7 * scale, error


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8])
def test_isometries(depth):
    """Rotations on both sides and transposition map geodesics to geodesics."""
    space = DLNObservableManifold(3, depth)
    np.random.seed(6)
    point, left, right = space.random_point(3, bound=0.5)
    left, right = np.linalg.qr(left)[0], np.linalg.qr(right)[0]
    vector = tangent_vectors(space, point, 0.3, seed=7)
    end = space.metric.exp(vector, point)
    turned = space.metric.exp(left @ vector @ right, left @ point @ right)
    assert np.abs(turned - left @ end @ right).max() <= 1e-11
    assert np.abs(space.metric.exp(vector.T, point.T) - end.T).max() <= 1e-11


@pytest.mark.parametrize("scale", [1e-100, 1e-8, 1e8, 1e100])
@pytest.mark.parametrize("depth", [2, 3, 10])
def test_scale_free(depth, scale):
    """The solver works the same at every scale of X."""
    space = DLNObservableManifold(3, depth)
    np.random.seed(8)
    point = space.random_point()
    vector = tangent_vectors(space, point, 0.3, seed=9)
    end = space.metric.exp(vector, point)
    # W -> c W scales X by c^N; Z is scaled like X.
    scaled = space.metric.exp(scale * vector, scale * point)
    assert np.abs(scaled / scale - end).max() <= 1e-11


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 8])
def test_crossing_time_of_diagonal_geodesics(depth):
    """With diagonal X and Z the roots move on straight lines, so t* is known exactly."""
    space = DLNObservableManifold(3, depth)
    roots, rates = np.array([1.3, 1.0, 0.8]), np.array([0.2, -0.1, -1.7])
    point = np.diag(roots**depth)
    vector = np.diag(depth * roots ** (depth - 1) * rates)
    solution = space.metric.solve_exp(vector, point)
    assert solution.status == 1
    assert abs(solution.crossing_time - 0.8 / 1.7) <= 1e-9
    inside = 0.9 * 0.8 / 1.7
    expected = np.diag((roots + inside * rates) ** depth)
    assert np.abs(solution(inside) - expected).max() <= 1e-10


def test_two_crossings_in_one_step_are_seen():
    """At N = 1 steps are long; a determinant that changes sign twice is still detected."""
    space = DLNObservableManifold(2, 1)
    solution = space.metric.solve_exp(np.diag([-2.0, -3.0]), np.diag([1.0, 1.2]))
    assert solution.status == 1
    assert abs(solution.crossing_time - 0.4) <= 1e-9


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize(
    "singular_values", [[1, 1, 1, 1], [1, 1, 2, 2], [1, 1 + 1e-15, 1 + 1e-8, 1 + 1e-3]]
)
def test_repeated_singular_values(depth, singular_values):
    """At (nearly) equal singular values the flow is the limit of that at separated ones."""
    space = DLNObservableManifold(4, depth)
    rng = np.random.default_rng(11)
    left, right = np.linalg.qr(rng.standard_normal((2, 4, 4)))[0]
    point = left @ np.diag(np.array(singular_values, dtype=float)) @ right
    vector = tangent_vectors(space, point, 0.3, seed=12)
    end = space.metric.exp(vector, point)
    ends = []
    for step in (2e-4, 1e-4):
        # Even differences of a spread in the singular values extrapolate to the limit.
        moved = [
            space.metric.exp(vector, point + sign * step * left @ np.diag([3, 1, -1, -3]) @ right)
            for sign in (1, -1)
        ]
        ends.append(0.5 * (moved[0] + moved[1]))
    limit = (4 * ends[1] - ends[0]) / 3
    assert np.abs(limit - end).max() <= 1e-10


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("depth", [2, 3, 8, 30])
def test_ill_conditioned_points(depth, condition):
    """The cone law and the energy hold at any condition number of X.

    Checked on the roots T, where ``N |T|^2`` is the quadratic: an X of condition number c, formed
    as a dense matrix, would hold its smallest singular value to eps c only.
    """
    rng = np.random.default_rng(13)
    left, right = np.linalg.qr(rng.standard_normal((2, 3, 3)))[0]
    roots = np.array([1.0, condition**-0.5, 1 / condition]) ** (1 / depth)
    root = left @ np.diag(roots) @ right
    # All roots grow, so that the smallest does not vanish on the way.
    velocity = left @ (np.eye(3) + 0.3 * rng.standard_normal((3, 3))) @ right
    momentum_0 = lower(Frame.of_root(root, depth), velocity)
    energy = np.sum(velocity * momentum_0)
    span = np.full(1, 1 / np.sqrt(energy))
    system = ObservableSystem(depth, (3, 3), 3)
    root_state = np.stack([root, momentum_0])[None, :, None]
    state, scale = RootChart(system.layout).unit_states(root_state)
    result = flow(system, state, span, tolerance=1e-13)
    assert result.status == [Status.CONVERGED]
    position, rate = result.state[:, 0, 0], result.state[:, 1, 0]
    size, t = np.exp(scale[0] / depth), span[0]
    expected = depth * (np.sum(root**2) + 2 * t * np.sum(root * velocity)) + t**2 * energy
    end = depth * size**2 * np.sum(system.core(position) ** 2)
    assert abs(end - expected) <= 1e-11 * expected
    length = system.length(scale, system.speed(system.at(position, scale), rate))
    assert abs(length[0] ** 2 / energy - 1) <= 1e-10


def test_a_pivot_of_zero_does_not_end_a_batch():
    """Chords from a matrix that elimination finds singular, and rounding does not, count as near.

    The others of the batch are judged as they are alone.
    """
    singular, far = np.ones((2, 2)), np.diag([1.0, 2.0])
    turned = far @ [[0.8, -0.6], [0.6, 0.8]]
    paths = np.array([[singular, -np.eye(2)], [far, -far], [far, turned]])
    smallest, largest = np.full((2, 3, 2), [[[1e-10]], [[2.0]]])
    assert comes_near(paths, smallest, largest)[:, 0].tolist() == [True, True, False]
    alone = comes_near(paths[1:], smallest[1:], largest[1:])
    assert np.array_equal(alone, comes_near(paths, smallest, largest)[1:])
