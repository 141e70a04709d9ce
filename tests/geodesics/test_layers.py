"""Geodesics of the balanced manifold: invariants, independent integrators, log, transport."""

import sys

import numpy as np
import pytest
from balanced_reference import (
    ROOTS,
    constraint_matrix,
    layers_of,
    lifted,
    relative_imbalance,
    size,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp

from dln_manifolds import (
    BalancedManifold,
    BalancedMetric,
    ConvergenceError,
    DLNObservableManifold,
    GeodesicWarning,
    IncompleteGeodesicError,
)
from dln_manifolds.geodesics import ObservableSystem
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geodesics.root_paths import RootChart

# Width, depth and a seed from which a random geodesic of three times |W| stays on the manifold.
LONG = [
    (n, depth, seed)
    for n, depth, seeds in [
        (2, 2, (0, 1, 4)),
        (2, 3, (1, 2, 5)),
        (3, 3, (0, 1, 2)),
        (3, 4, (1, 2, 3)),
        (5, 3, (0, 2, 3)),
        (3, 16, (0, 1, 2)),
    ]
    for seed in seeds
]
TIMES = np.array([0.0, 0.03, 0.3, 0.5, 0.8, 1.0])


def skew(matrix):
    return (matrix - matrix.T) / 2


def momenta(W, V):
    """Return the momenta of ``W_p -> h_p W_p h_{p-1}^T`` for all p = 0..N."""
    N = len(W)
    return np.array(
        [
            (skew(V[p - 1] @ W[p - 1].T) if p > 0 else 0) - (skew(W[p].T @ V[p]) if p < N else 0)
            for p in range(N + 1)
        ]
    )


def long_vector(space, seed, kind):
    """Return a point and a tangent vector of three times its norm."""
    np.random.seed(seed)
    W = space.random_point()
    V = space.random_tangent_vec(W)
    if kind == "vertical":
        V = space.vertical_projection(V, W)
    elif kind == "growing":
        V = V / (2 * size(V)) + W / size(W)
    return W, 3 * size(W) / size(V) * V


@pytest.mark.parametrize("kind", ["random", "vertical", "growing"])
@pytest.mark.parametrize(("n", "depth", "seed"), LONG)
def test_long_geodesics_keep_balance_and_the_cone_law(n, depth, seed, kind):
    space = BalancedManifold(n, depth)
    W, V = long_vector(space, seed, kind)
    solution = space.metric.solve_exp(V, W)
    assert solution.success
    assert_allclose(solution.length, 3 * size(W), rtol=1e-13)
    assert solution.residual <= 1e-10
    for t, point in zip(TIMES, solution(TIMES), strict=True):
        assert relative_imbalance(point) <= 1e-12
        expected = size(W) ** 2 + 2 * t * np.sum(W * V) + t**2 * size(V) ** 2
        assert abs(size(point) ** 2 / expected - 1) <= 1e-10
    assert_allclose(space.metric.exp(V, W), solution.end_point, rtol=0, atol=1e-11 * size(W))


@pytest.mark.parametrize("kind", ["random", "vertical", "growing"])
@pytest.mark.parametrize(("n", "depth", "seed"), LONG[::3])
def test_long_geodesics_keep_energy_and_momenta(n, depth, seed, kind):
    space = BalancedManifold(n, depth)
    W, V = long_vector(space, seed, kind)
    before = momenta(W, V)
    for t in (0.3, 1.0):
        # the velocity is its own parallel transport
        end = space.metric.exp(t * V, W)
        rate = space.metric.parallel_transport(V, W, direction=t * V)
        assert abs(size(rate) / size(V) - 1) <= 1e-10
        assert_allclose(momenta(end, rate), before, rtol=0, atol=1e-10 * size(W) * size(V))


@pytest.mark.parametrize(("n", "depth"), [(2, 2), (3, 3), (3, 8)])
def test_transported_velocity_is_the_derivative(n, depth):
    space = BalancedManifold(n, depth)
    W, V = long_vector(space, 1, "growing")
    solution, h = space.metric.solve_exp(V, W), 1e-4
    numerical = (solution(0.5 + h) - solution(0.5 - h)) / (2 * h)
    rate = space.metric.parallel_transport(V, W, direction=0.5 * V)
    assert size(numerical - rate) <= 1e-6 * size(V)


def acceleration(W, V):
    """Return the normal vector that keeps the layers balanced, by least squares."""
    n = W.shape[-1]
    bend = [V[p + 1].T @ V[p + 1] - V[p] @ V[p].T for p in range(len(W) - 1)]
    right_side = np.concatenate([-2 * b[np.triu_indices(n)] for b in bend])
    return np.linalg.lstsq(constraint_matrix(W), right_side, rcond=None)[0].reshape(W.shape)


@pytest.mark.parametrize(
    ("roots", "depth"),
    [(ROOTS["generic"], 3), (ROOTS["all equal"], 3), (ROOTS["two equal"], 2), ([1.2, 0.8], 6)],
)
def test_geodesics_against_another_integrator(roots, depth):
    space = BalancedManifold(len(roots), depth)
    W = layers_of(roots, depth)
    V = space.random_tangent_vec(W)
    V *= 0.5 * size(W) / size(V)

    def rates(_, state):
        w, v = state.reshape(2, *W.shape)
        return np.concatenate([v.ravel(), acceleration(w, v).ravel()])

    state = np.stack([W, V]).ravel()
    end = solve_ivp(rates, (0, 1), state, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    expected, expected_rate = end.reshape(2, *W.shape)
    assert_allclose(space.metric.exp(V, W), expected, rtol=0, atol=1e-10 * size(W))
    rate = space.metric.parallel_transport(V, W, direction=V)
    assert_allclose(rate, expected_rate, rtol=0, atol=1e-10 * size(V))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("depth", [1, 2, 3, 5, 16])
def test_horizontal_geodesics_are_over_geodesics_of_the_observable_manifold(n, depth):
    total, base = BalancedManifold(n, depth), DLNObservableManifold(n, depth)
    W = total.random_point(4)
    X = total.end_to_end(W)
    Z = base.random_tangent_vec(X)
    V = total.horizontal_lift(Z, W)
    scale = 0.2 * np.linalg.norm(W.reshape(4, -1), axis=1) / total.metric.norm(V)
    V, Z = scale[:, None, None, None] * V, scale[:, None, None] * Z
    assert_allclose(total.metric.norm(V), base.metric.norm(Z, X), rtol=1e-12)
    path = total.metric.geodesic(W, initial_tangent_vec=V)([0.4, 1.0])
    expected = base.metric.geodesic(X, initial_tangent_vec=Z)([0.4, 1.0])
    error = np.linalg.norm(total.end_to_end(path) - expected, axis=(-2, -1))
    assert np.all(error <= 1e-10 * np.linalg.norm(expected, axis=(-2, -1)))
    # a geodesic that starts horizontal stays so
    rate = total.metric.parallel_transport(V, W, direction=V)
    assert np.all(total.fiber_bundle.is_horizontal(rate, path[:, -1], atol=1e-10))


@pytest.mark.parametrize("kind", ROOTS)
def test_growing_layers_from_points_of_every_kind(kind):
    # "far apart" with a condition number of 1e8 of the end-to-end matrix
    depth, roots = (2, [1.0, 1e-2, 1e-4]) if kind == "far apart" else (4, ROOTS[kind])
    space = BalancedManifold(3, depth)
    W = layers_of(roots, depth)
    bound = 1e-14 * max(roots) / min(roots) + 1e-12
    assert_allclose(space.metric.exp(0.7 * W, W), 1.7 * W, rtol=0, atol=bound * size(W))
    solution = space.metric.solve_exp(np.zeros_like(W), W)
    assert solution.success
    assert solution.length == 0
    assert_allclose(solution(TIMES), np.stack([W] * len(TIMES)), rtol=0, atol=bound * size(W))


def test_geodesic_of_time_zero_and_backwards():
    space = BalancedManifold(3, 3)
    W = space.random_point()
    V = space.random_tangent_vec(W)
    V *= 0.3 * size(W) / size(V)
    solution = space.metric.solve_exp(V, W)
    end = solution(1.0)
    back = space.metric.parallel_transport(-V, W, direction=V)
    assert_allclose(space.metric.exp(back, end), W, rtol=0, atol=1e-11)
    assert_allclose(solution(-0.5), space.metric.exp(-0.5 * V, W), rtol=0, atol=1e-11)
    assert_allclose(solution(0.0), W, rtol=0, atol=1e-14)


# Geodesics on which all layers keep their singular vectors reach zero singular values on time.
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("roots", "rates", "time"),
    [
        ([1.5, 1.0, 0.5], [1.5, 1.0, -2.0], 0.25),
        ([1.5, 1.0, 0.5], [-0.3, -4.0, 0.2], 0.25),
        ([1.0, 1.0, 1.0], [0.5, 0.5, -1.25], 0.8),
        ([1.5, 1.0, 0.5], [-4.5, -3.0, -1.5], 1 / 3),
    ],
    ids=["smallest", "middle", "repeated", "all at once"],
)
def test_singular_layers_are_met_on_time(roots, rates, time, depth):
    space = BalancedManifold(3, depth)
    q = np.linalg.qr(np.random.normal(size=(depth + 1, 3, 3)))[0]
    W, V = ((q[1:] * values) @ np.swapaxes(q[:-1], 1, 2) for values in (roots, rates))
    with pytest.raises(IncompleteGeodesicError, match="singular") as caught:
        space.metric.exp(V, W)
    assert abs(caught.value.time - time) <= 1e-6
    solution = space.metric.solve_exp(V, W)
    assert abs(solution.crossing_time - time) <= 1e-6
    assert_allclose(solution(0.9 * time), W + 0.9 * time * V, rtol=0, atol=1e-10)
    with pytest.raises(IncompleteGeodesicError):
        solution(1.1 * time)
    with pytest.raises(IncompleteGeodesicError):
        space.metric.parallel_transport(V, W, direction=V)


@pytest.mark.parametrize(("n", "depth", "seed"), [(2, 2, 2), (2, 3, 0), (3, 3, 4), (3, 4, 0)])
def test_random_geodesics_that_end_at_singular_layers_say_so(n, depth, seed):
    space = BalancedManifold(n, depth)
    W, V = long_vector(space, seed, "random")
    solution = space.metric.solve_exp(V, W)
    assert solution.status == 1
    assert 0 < solution.crossing_time < 1
    near = solution((1 - 1e-6) * solution.crossing_time)
    assert np.linalg.svd(near[0], compute_uv=False)[-1] <= 1e-3 * size(W)
    assert solution.n_iterations <= 1000


def near_singular(roots, depth, root_vecs, length):
    """Return layers with these roots, horizontal vectors there, and what lies below.

    The flow of end-to-end matrices, and the matrices at its end.
    """
    count, n = len(root_vecs), len(roots)
    q = np.linalg.qr(np.random.normal(size=(count, depth + 1, n, n)))[0]
    left, right_t = q[:, -1], np.swapaxes(q[:, 0], 1, 2)
    back = np.swapaxes(q[:, :-1], -1, -2)
    P, V = (np.stack(x) for x in zip(*(lifted(roots, depth, v) for v in root_vecs), strict=True))
    factor = length * np.sqrt(depth) * size(roots) / np.linalg.norm(V.reshape(count, -1), axis=1)
    W, V = (q[:, 1:] * roots) @ back, q[:, 1:] @ (factor[:, None, None, None] * V) @ back
    state = np.stack([(left * roots) @ right_t, left @ (factor[:, None, None] * P) @ right_t], 1)
    system = ObservableSystem(float(depth), (n, n), n)
    state, scale = RootChart(system.layout).unit_states(state[:, :, None])
    below = flow(system, state, np.ones(count), tolerance=1e-13)
    return W, V, below, system.point(system.at(below.state[:, 0, 0], scale))


@pytest.mark.parametrize(
    ("roots", "depth"),
    [
        ([1.0, 1e-8], 2),
        ([1.0, 1e-8], 5),
        ([1.0, 0.5, 1e-8], 3),
        ([1.0, 1.0, 1e-10], 5),
    ],
    ids=str,
)
def test_nearly_singular_layers_end_geodesics_where_their_product_does(roots, depth):
    space = BalancedManifold(len(roots), depth)
    root_vecs = np.random.normal(size=(6, len(roots), len(roots)))
    W, V, below, X = near_singular(np.array(roots), depth, root_vecs, 0.3)
    solution = space.metric.solve_exp(V, W)
    assert_array_equal(solution.status, below.status)
    assert 0 < np.sum(solution.status == 1) < 6
    reached = solution.status == 0
    X = X[reached]
    error = np.linalg.norm(space.end_to_end(solution.end_point[reached]) - X, axis=(1, 2))
    # the smallest root is known to eps relative to the largest
    bound = np.finfo(float).eps / min(roots)
    assert np.all(error <= max(1e-12, bound) * np.linalg.norm(X, axis=(1, 2)))
    times = below.time[~reached]
    assert_allclose(solution.crossing_time[~reached], times, rtol=1e-6 + 30 * bound, atol=0)


@pytest.mark.parametrize(("gap", "depth"), [(1e-5, 1), (1e-6, 2), (1e-4, 3)])
def test_geodesics_that_only_come_near_singular_layers_go_on(gap, depth):
    # the smallest root has its minimum, gap, in the middle
    space = BalancedManifold(2, depth)
    root_vecs = np.array([[[0.3, 1.0], [-1.0, 0.0]], [[-0.5, -0.8], [0.8, 0.0]]])
    W, V, below, X = near_singular(np.array([1.0, gap]), depth, root_vecs, 0.2)
    assert_array_equal(below.status, 0)
    start = space.metric.exp(-V, W)
    through = -space.metric.parallel_transport(-V, W, direction=-V)
    end = space.metric.exp(2 * through, start)
    assert_allclose(space.end_to_end(end), X, rtol=0, atol=1e-11)
    middle = np.linalg.svd(space.metric.exp(through, start), compute_uv=False)
    assert_allclose(middle[..., -1], gap, rtol=1e-11 / gap)


# Members that reach singular layers do not spoil the others.
def test_batch_with_incomplete_geodesics():
    space = BalancedManifold(2, 1)
    metric = BalancedMetric(space, on_failure="nan")
    W = np.stack([np.diag([1.0, 2.0])[None]] * 3)
    V = np.array([0.5, -1.5, 0.25])[:, None, None, None] * W
    ends = metric.exp(V, W)
    assert np.isnan(ends[1]).all()
    assert_allclose(ends[[0, 2]], (W + V)[[0, 2]], rtol=1e-13)


class TestLog:
    space = BalancedManifold(3, 3)
    base = DLNObservableManifold(3, 3)

    def pairs(self, count, bound=1.0):
        return self.space.random_point(2 * count, bound=bound).reshape(2, count, 3, 3, 3)

    def test_hundred_random_pairs(self):
        W, target = self.pairs(100)
        solution = self.space.metric.solve_log(target, W)
        assert solution.success.sum() >= 99
        good = solution.success
        # flowed once more, with other steps
        metric = BalancedMetric(self.space, tolerance=1e-12)
        again = metric.solve_exp(solution.initial_velocity[good], W[good])
        assert again.success.all()
        error = np.linalg.norm((again.end_point - target[good]).reshape(good.sum(), -1), axis=1)
        scale = np.linalg.norm(target[good].reshape(good.sum(), -1), axis=1)
        assert np.max(error / scale) <= 1e-9
        assert np.max(solution.residual[good]) <= 1e-9
        below = self.base.metric.dist(self.space.end_to_end(W), self.space.end_to_end(target))
        assert np.all(solution.length[good] >= below[good] * (1 - 1e-9))
        chord = np.linalg.norm((W - target).reshape(100, -1), axis=1)
        assert_allclose(solution.lower_bound, chord, rtol=1e-13)
        assert np.all(solution.length[good] >= chord[good])
        assert np.all(self.space.is_tangent(solution.initial_velocity[good], W[good], atol=1e-9))

    def test_symmetry(self):
        W, target = self.pairs(20)
        forward = self.space.metric.solve_log(target, W)
        backward = self.space.metric.solve_log(W, target)
        assert_allclose(forward.length, backward.length, rtol=1e-8)
        middle = forward(0.5)
        assert_allclose(middle, backward(0.5), rtol=0, atol=1e-7)
        one_way = self.space.metric.dist(W, middle)
        assert_allclose(one_way, forward.length / 2, rtol=1e-7)

    def test_solutions_are_callable_and_end_where_they_should(self):
        W, target = self.pairs(5)
        path = self.space.metric.geodesic(W, end_point=target)(np.array([0.0, 0.5, 1.0]))
        assert path.shape == (5, 3, 3, 3, 3)
        assert_allclose(path[:, 0], W, rtol=0, atol=1e-13)
        assert_allclose(path[:, 2], target, rtol=0, atol=1e-9)
        assert np.all(self.space.belongs(path, atol=1e-12))

    def test_dist_of_a_point_to_itself(self):
        W = self.space.random_point()
        assert self.space.metric.dist(W, W) == 0
        assert_allclose(self.space.metric.log(W, W), 0, atol=1e-15)


def turned(angle, depth):
    """Return the layers of which all turn the plane by an angle."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.array([[c, -s], [s, c]])] * depth)


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
@pytest.mark.parametrize("angle", [0.3, 2.0, 0.9 * np.pi])
def test_log_between_multiples_of_rotations_is_the_chord(angle, depth):
    # Layers that are all the same multiple of a rotation are a flat plane in the manifold.
    space = BalancedManifold(2, depth)
    W, target = turned(0.4, depth), 1.5 * turned(0.4 + angle, depth)
    assert_allclose(space.metric.log(target, W), target - W, rtol=0, atol=1e-8)
    assert abs(space.metric.dist(W, target) / size(target - W) - 1) <= 1e-9


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_points_that_are_joined_through_zero_only(depth):
    space = BalancedManifold(2, depth)
    W = turned(0.4, depth)
    with pytest.raises(IncompleteGeodesicError):
        space.metric.log(-W, W)
    with pytest.raises(IncompleteGeodesicError):
        space.metric.dist(W, -W)


def test_random_pairs_that_are_joined_through_singular_layers_only():
    space = BalancedManifold(3, 3)
    W, target = space.random_point(200, bound=2.1).reshape(2, 100, 3, 3, 3)
    solution = space.metric.solve_log(target, W)
    assert solution.success.sum() >= 98
    failed = np.nonzero(solution.status == 1)[0]
    # seen with this seed
    assert failed.size >= 1
    for k in failed:
        assert 0 < solution.crossing_time[k] < 1
        with pytest.raises(IncompleteGeodesicError):
            space.metric.log(target[k], W[k])


@pytest.mark.parametrize(("n", "depth"), [(1, 3), (2, 1), (2, 2), (2, 5), (5, 3), (8, 2), (3, 16)])
def test_log_inverts_exp(n, depth):
    space = BalancedManifold(n, depth)
    W = space.random_point(4)
    V = space.random_tangent_vec(W)
    V *= (0.25 * np.linalg.norm(W.reshape(4, -1), axis=1) / space.metric.norm(V))[
        :, None, None, None
    ]
    ends = space.metric.exp(V, W)
    solution = space.metric.solve_log(ends, W)
    assert solution.success.all()
    assert_allclose(solution.initial_velocity, V, rtol=0, atol=1e-8 * size(V))
    assert_allclose(space.metric.dist(W, ends), space.metric.norm(V), rtol=1e-9)


@pytest.mark.parametrize("kind", ["all equal", "two equal", "nearly equal"])
def test_log_at_repeated_singular_values(kind):
    space = BalancedManifold(3, 4)
    W = layers_of(ROOTS[kind], 4)
    V = space.random_tangent_vec(W)
    V *= 0.3 * size(W) / size(V)
    assert_allclose(space.metric.log(space.metric.exp(V, W), W), V, rtol=0, atol=1e-8 * size(V))


def test_single_layers_are_euclidean():
    space = BalancedManifold(3, 1)
    W, target = np.eye(3) + 0.3 * np.random.normal(size=(2, 10, 1, 3, 3))
    signs = np.sign(np.linalg.det(W) * np.linalg.det(target))
    assert np.all(signs > 0)
    assert_allclose(space.metric.log(target, W), target - W, rtol=0, atol=1e-12)
    distance = np.linalg.norm((target - W).reshape(10, -1), axis=1)
    assert_allclose(space.metric.dist(W, target), distance, rtol=1e-12)
    V = 0.1 * np.random.normal(size=(10, 1, 3, 3))
    assert_allclose(space.metric.exp(V, W), W + V, rtol=0, atol=1e-13)
    assert_allclose(space.metric.parallel_transport(target, W, direction=V), target, atol=1e-13)


class TestTransport:
    @pytest.fixture(params=[(2, 2), (3, 3), (3, 6)], ids=str)
    def space(self, request):
        return BalancedManifold(*request.param)

    def draw(self, space, length):
        W = space.random_point()
        V, A, B = space.random_tangent_vec(W, 3)
        return W, length * size(W) / size(V) * V, A, B

    def test_is_an_isometry_of_tangent_spaces(self, space):
        W, V, A, B = self.draw(space, 0.4)
        end = space.metric.exp(V, W)
        moved_a, moved_b = space.metric.parallel_transport(np.stack([A, B]), W, direction=V)
        for before, after in ((A, moved_a), (B, moved_b)):
            assert space.is_tangent(after, end, atol=1e-11)
            assert abs(size(after) / size(before) - 1) <= 1e-11
        assert abs(np.sum(moved_a * moved_b) - np.sum(A * B)) <= 1e-11 * size(A) * size(B)

    def test_has_no_covariant_derivative(self, space):
        W, V, A, _ = self.draw(space, 0.4)
        h = 1e-4
        times = np.array([0.5 - h, 0.5 + h])[:, None, None, None]
        before, after = space.metric.parallel_transport(A, W, direction=times * V)
        middle = space.metric.exp(0.5 * V, W)
        rate = (after - before) / (2 * h)
        assert size(space.to_tangent(rate, middle)) <= 1e-6 * size(A)
        # while in the ambient space it moves
        assert size(rate) > 1e-2 * size(A)

    def test_agrees_with_the_ladder_of_geomstats(self, space):
        W, V, A, _ = self.draw(space, 0.2)
        A *= 0.1 / size(A)
        exact = space.metric.parallel_transport(A, W, direction=V)
        errors = []
        for rungs in (2, 8):
            ladder = space.metric.ladder_parallel_transport(
                A, W, V, n_rungs=rungs, scheme="pole", alpha=2
            )
            errors.append(size(ladder["transported_tangent_vec"] - exact))
        assert errors[1] <= 1e-3 * size(A)
        # of second order
        assert errors[0] >= 10 * errors[1]

    def test_back_and_forth(self, space):
        W, V, A, _ = self.draw(space, 0.4)
        end = space.metric.exp(V, W)
        back = -space.metric.parallel_transport(V, W, direction=V)
        moved = space.metric.parallel_transport(A, W, direction=V)
        returned = space.metric.parallel_transport(moved, end, direction=back)
        assert_allclose(returned, A, rtol=0, atol=1e-10)

    def test_to_an_end_point(self, space):
        W, V, A, _ = self.draw(space, 0.2)
        end = space.metric.exp(V, W)
        along = space.metric.parallel_transport(A, W, direction=V)
        to = space.metric.parallel_transport(A, W, end_point=end)
        assert_allclose(to, along, rtol=0, atol=1e-8)


class TestTransportThatFails:
    """Members whose geodesic ends early, and what is said of the others."""

    space = BalancedManifold(2, 1)
    W = np.diag([1.0, 2.0])[None]
    along = np.array([0.5, -1.5, 0.25])[:, None, None, None] * W
    vector = np.ones((1, 2, 2))

    def test_error_carries_the_time_of_each_member(self):
        with pytest.raises(IncompleteGeodesicError, match=r"t\* = 0.66.*\[1\]") as caught:
            self.space.metric.parallel_transport(self.vector, self.W, direction=self.along)
        assert_allclose(caught.value.time, [np.inf, 2 / 3, np.inf], rtol=1e-6)
        assert_allclose(caught.value.solution.status, [0, 1, 0])

    def check_the_others(self, moved):
        assert_allclose(moved[[0, 2]], np.broadcast_to(self.vector, (2, 1, 2, 2)), rtol=1e-13)
        assert np.isnan(moved[1]).all()

    def test_nan_and_warning(self):
        quiet = BalancedMetric(self.space, on_failure="nan")
        self.check_the_others(quiet.parallel_transport(self.vector, self.W, self.along))
        loud = BalancedMetric(self.space, on_failure="warn")
        with pytest.warns(GeodesicWarning, match="2 of 3 geodesics reached"):
            moved = loud.parallel_transport(self.vector, self.W, self.along)
        self.check_the_others(moved)

    @pytest.mark.parametrize("reaction", ["raise", "nan", "warn"])
    def test_running_out_of_steps_is_no_singular_matrix(self, reaction, monkeypatch):
        for name in ("_MAX_STEPS", "_FEW_STEPS"):
            monkeypatch.setattr(sys.modules[flow.__module__], name, 4)
        # Short steps, of which four are not enough.
        monkeypatch.setattr(sys.modules[flow.__module__], "_FEW", 0)
        space = BalancedManifold(3, 3)
        metric = BalancedMetric(space, on_failure=reaction)
        W = space.random_point()
        V = space.random_tangent_vec(W)
        along = np.array([1e-6, 1.0, 0.0])[:, None, None, None] * V
        if reaction == "raise":
            with pytest.raises(ConvergenceError, match="1 ran out of steps") as caught:
                metric.parallel_transport(V, W, direction=along)
            assert_allclose(caught.value.solution.status, [0, 2, 0])
            assert np.isinf(caught.value.solution.crossing_time).all()
            return
        if reaction == "warn":
            with pytest.warns(GeodesicWarning, match="0 met a singular matrix, 1 ran out"):
                moved = metric.parallel_transport(V, W, direction=along)
        else:
            moved = metric.parallel_transport(V, W, direction=along)
        assert_array_equal(np.isnan(moved).all(axis=(1, 2, 3)), [False, True, False])
        assert_allclose(moved[[0, 2]], np.stack([V, V]), rtol=0, atol=1e-5 * size(V))

    @pytest.mark.parametrize("reaction", ["raise", "nan", "warn"])
    def test_end_points_that_no_geodesic_reaches(self, reaction):
        space = BalancedManifold(2, 3)
        metric = BalancedMetric(space, on_failure=reaction)
        W, V = turned(0.4, 3), np.ones((3, 2, 2))
        V = space.to_tangent(V, W)
        ends = np.stack([-W, 1.2 * W])
        if reaction == "raise":
            with pytest.raises(IncompleteGeodesicError):
                metric.parallel_transport(V, W, end_point=ends)
            return
        if reaction == "warn":
            with pytest.warns(GeodesicWarning):
                moved = metric.parallel_transport(V, W, end_point=ends)
        else:
            moved = metric.parallel_transport(V, W, end_point=ends)
        assert np.isnan(moved[0]).all()
        # along a ray of the cone nothing turns
        assert_allclose(moved[1], V, rtol=0, atol=1e-10)


PAIRS = {
    "one-one": ((), ()),
    "n-one": ((3,), ()),
    "one-n": ((), (3,)),
    "n-n": ((3,), (3,)),
    "n-(1,)": ((3,), (1,)),
    "two axes": ((2, 1), (3,)),
}


@pytest.mark.parametrize("pattern", PAIRS)
@pytest.mark.parametrize("name", ["exp", "log", "dist", "transport", "geodesic", "inner_product"])
def test_batch_equals_loop(name, pattern):
    space = BalancedManifold(2, 3)
    W0 = space.random_point(bound=0.3)
    draw = space.random_tangent_vec(np.broadcast_to(W0, (12, 3, 2, 2)))
    points = space.metric.exp(0.1 * draw, W0)
    first, last = PAIRS[pattern]
    batch = np.broadcast_shapes(first, last)
    a = points[: int(np.prod(first))].reshape(*first, 3, 2, 2)
    b = points[6 : 6 + int(np.prod(last))].reshape(*last, 3, 2, 2)
    v = 0.2 * space.to_tangent(np.random.normal(size=(*batch, 3, 2, 2)), b)
    if not batch or batch == last:
        # vectors of the batch of their points, or a single one beside
        single = 0.2 * space.random_tangent_vec(b) if first == last else v
        v = single
    functions = {
        "exp": (space.metric.exp, (v, b)),
        "log": (space.metric.log, (a, b)),
        "dist": (space.metric.dist, (a, b)),
        "transport": (
            lambda x, y: space.metric.parallel_transport(x, y, direction=0.5 * x),
            (v, b),
        ),
        "geodesic": (lambda x, y: space.metric.geodesic(y, end_point=x)([0.0, 0.5]), (a, b)),
        "inner_product": (lambda x, y: space.metric.inner_product(x, x, y), (v, b)),
    }
    function, arguments = functions[name]
    whole = [np.broadcast_to(x, (*batch, 3, 2, 2)) for x in arguments]
    results = [function(*(x[index] for x in whole)) for index in np.ndindex(*batch)]
    expected = np.reshape(results, (*batch, *np.shape(results[0])))
    actual = function(*arguments)
    assert np.shape(actual) == expected.shape
    assert_allclose(actual, expected, rtol=0, atol=1e-9)
