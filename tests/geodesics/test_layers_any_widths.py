"""Geodesics of balanced layers of any widths and rank: exp, log, transport and derivatives."""

import itertools

import numpy as np
import pytest
from layer_reference import CHAINS, exp, tangent_projector
from layer_systems import draw, draw_vectors, points, shaped, sizes
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import (
    exp_pullback,
    log_pullback,
    parallel_transport,
    solve_exp,
    solve_log,
    squared_length_gradients,
)
from dln_manifolds.geodesics.layer_system import LayerSystem
from dln_manifolds.geometry import second_fundamental_form as forms
from dln_manifolds.geometry.balancing import end_to_end, relative_imbalance
from dln_manifolds.geometry.second_fundamental_form import weingarten
from dln_manifolds.geometry.sectors import horizontal_part, push_forward

TOLERANCE = 1e-13

chains = pytest.mark.parametrize(("widths", "rank"), CHAINS, ids=str)
some_chains = pytest.mark.parametrize(
    ("widths", "rank"), [((4, 3, 5), 2), ((4, 3, 5), 3), ((3, 3, 3, 3), 2), ((4, 5), 2)], ids=str
)


def follow(system, W, V):
    solution = solve_exp(system, points(system, W), V, tolerance=TOLERANCE)
    assert solution.success.all(), solution.message
    return solution


def join(system, W, end):
    return solve_log(system, points(system, W), points(system, end), tolerance=TOLERANCE)


@chains
def test_exp_against_dense_linear_algebra(widths, rank):
    system, W = draw(widths, rank, 2)
    V = draw_vectors(system, W, 0.6)
    end = follow(system, W, V).end_point
    for start, velocity, actual in zip(W, V, end, strict=True):
        expected, _ = exp(start.ravel(), velocity.ravel(), widths, rank)
        assert_allclose(actual.ravel(), expected, rtol=0, atol=1e-11 * sizes(W).max())


# Without what II maps from complement to complement the rank leaks.
def test_rank_leaks_without_the_corner(monkeypatch):
    widths, rank = (4, 3, 5), 2
    system, W = draw(widths, rank, 4)
    V = draw_vectors(system, W, 0.6)

    def leak(layers):
        values = np.linalg.svd(system.core(layers), compute_uv=False)
        return np.max(values[:, rank] / values[:, 0])

    def rough():
        return solve_exp(system, points(system, W), V, tolerance=1e-6).end_point

    assert leak(follow(system, W, V).end_point) <= 1e-14
    # What is wrong must not be projected away, either.
    monkeypatch.setattr(LayerSystem, "project", lambda self, state: state)
    monkeypatch.setattr(LayerSystem, "narrowed", lambda self, start, **_: None)
    assert leak(rough()) <= 1e-6
    whole = forms.second_fundamental_form

    def without_corner(frame, first, second):
        normal = whole(frame, first, second)
        return frame.assemble(frame.blocks(normal))

    monkeypatch.setattr(
        "dln_manifolds.geodesics.layer_system.second_fundamental_form", without_corner
    )
    assert leak(rough()) > 1e-3


def skew(matrix):
    return (matrix - matrix.T) / 2


def momenta(W, V):
    """Return the momenta of ``W_p -> h_p W_p h_{p-1}^T`` for all p = 0..N."""
    after = [0 * W[0].T @ W[0], *(skew(v @ w.T) for w, v in zip(W, V, strict=True))]
    before = [*(skew(w.T @ v) for w, v in zip(W, V, strict=True)), 0 * W[-1] @ W[-1].T]
    return np.concatenate([(a - b).ravel() for a, b in zip(after, before, strict=True)])


@chains
def test_invariants(widths, rank):
    system, W = draw(widths, rank, 3)
    V = draw_vectors(system, W, 0.6)
    solution = follow(system, W, V)
    times, chain = np.linspace(0, 1, 5), system.chain
    curve = solution(times)
    assert relative_imbalance(curve, chain).max() <= 1e-13
    for part in chain.parts(curve):
        values = np.linalg.svd(part, compute_uv=False)
        assert np.max(values[..., rank:] / values[..., :1], initial=0.0) <= 1e-13
    product = np.sum((W * V).reshape(3, -1), axis=1)[:, None]
    law = sizes(W)[:, None] ** 2 + 2 * times * product + (times * sizes(V)[:, None]) ** 2
    assert_allclose(sizes(curve.reshape(15, -1)).reshape(3, 5) ** 2, law, rtol=1e-12)
    scale, end = solution.trajectory.scales[-1], solution.trajectory.states[-1]
    last = end[:, :, 0] * scale.reshape(-1, 1, *(1,) * (W.ndim - 1))
    assert_allclose(sizes(last[:, 1]), sizes(V), rtol=1e-12)
    for start, velocity, (point, rate) in zip(W, V, last, strict=True):
        before, after = (
            momenta(chain.layers(x), chain.layers(v)) for x, v in ((start, velocity), (point, rate))
        )
        assert_allclose(after, before, rtol=0, atol=1e-12 * np.sum(start**2))


@chains
@pytest.mark.parametrize("length", [1e-4, 0.3])
def test_log_inverts_exp(widths, rank, length):
    system, W = draw(widths, rank, 5)
    V = draw_vectors(system, W, length)
    end = follow(system, W, V).end_point
    solution = join(system, W, end)
    assert solution.success.all(), solution.message
    assert_allclose(solution.initial_velocity, V, rtol=0, atol=1e-9 * sizes(W).max())
    assert_allclose(solution.length, sizes(V), rtol=1e-9 / length)


@chains
def test_log_of_random_pairs(widths, rank):
    system, W = draw(widths, rank, 8)
    end = draw(widths, rank, 8, seed=1)[1]
    solution = join(system, W, end)
    assert solution.success.all(), solution.message
    back = join(system, end, W)
    assert_allclose(solution.length, back.length, rtol=1e-8)
    # Followed once more from the rate alone, with other steps.
    again = solve_exp(system, points(system, W), solution.initial_velocity, tolerance=1e-12)
    assert np.max(sizes(again.end_point - end) / sizes(end)) <= 1e-9
    bounds = system.bounds(points(system, W), points(system, end))
    chord = sizes(end - W)
    assert np.all(solution.length >= chord)
    assert np.all(bounds.lower <= solution.length * (1 + 1e-9))
    assert np.all(bounds.upper >= solution.length * (1 - 1e-9))
    below = DLNObservableManifold(shape=(widths[-1], widths[0]), rank=rank, depth=len(widths) - 1)
    ends = (end_to_end(x, system.chain) for x in (W, end))
    assert np.all(below.metric.dist(*ends) <= solution.length * (1 + 1e-9))


@chains
def test_horizontal_geodesics_lie_over_those_of_end_to_end_matrices(widths, rank):
    system, W = draw(widths, rank, 3)
    frame = system.frame(W)
    V = horizontal_part(frame, draw_vectors(system, W, 0.5))
    end = follow(system, W, V).end_point
    below = DLNObservableManifold(shape=(widths[-1], widths[0]), rank=rank, depth=len(widths) - 1)
    X = end_to_end(W, system.chain)
    expected = below.metric.exp(push_forward(frame, V), X)
    actual = end_to_end(end, system.chain)
    assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@chains
def test_tangent_basis(widths, rank):
    system, W = draw(widths, rank, 2)
    basis = system.tangent_basis(system.frame(W)).reshape(2, -1, W[0].size)
    identity = np.broadcast_to(np.eye(basis.shape[1]), (2, *basis.shape[1:2] * 2))
    assert_allclose(basis @ basis.swapaxes(1, 2), identity, rtol=0, atol=1e-14)
    for vectors, layers in zip(basis, W, strict=True):
        projector = tangent_projector(shaped(layers, widths), rank)
        assert_allclose(vectors.T @ vectors, projector, rtol=0, atol=1e-13)


@chains
def test_normal_parts_move_as_the_weingarten_map_says(widths, rank):
    system, W = draw(widths, rank, 3)
    frame, V = system.frame(W), draw_vectors(system, W, 1.0)
    ambient = np.random.default_rng(5).normal(size=W.shape)
    bent, scale = system.bent(V, system.shape(frame, ambient)), sizes(V).max()
    expected = weingarten(frame, V, ambient)
    assert_allclose(-system.tangent_part(frame, bent), expected, rtol=0, atol=1e-13 * scale)
    # P' of the projections to tangent spaces has the same part: -P DN[V] = P DP[V] N
    h = 1e-5
    normal = ambient - system.tangent_part(frame, ambient)
    ends = (system.nearest((W + s * h * V)[:, None])[:, 0] for s in (1, -1))
    ahead, behind = (system.tangent_part(system.frame(x), normal) for x in ends)
    moved = system.tangent_part(frame, (ahead - behind) / (2 * h))
    assert_allclose(moved, expected, rtol=0, atol=1e-6 * scale)


@chains
def test_first_paths_stay_on_the_manifold(widths, rank):
    system, W = draw(widths, rank, 4)
    end = draw(widths, rank, 4, seed=1)[1]
    times = np.array([0.0, 0.2, 0.7, 1.0])
    path = system.first_path(W, end, times)
    assert_allclose(path[:, 0], W, rtol=0, atol=1e-14 * sizes(W).max())
    # Angles are known to 1e-6.
    assert_allclose(path[:, -1], end, rtol=0, atol=1e-5 * sizes(W).max())
    assert relative_imbalance(path, system.chain).max() <= 1e-14
    for part in system.chain.parts(path):
        values = np.linalg.svd(part, compute_uv=False)
        assert np.max(values[..., rank:], initial=0.0) <= 1e-14
        assert values[..., rank - 1].min() >= 0.1


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("widths", [(4, 3, 5), (3, 3, 3)])
def test_equal_singular_values(widths, rank):
    system, W = draw(widths, rank, 4, equal=True)
    V = draw_vectors(system, W, 0.3)
    solution = follow(system, W, V)
    back = join(system, W, solution.end_point)
    assert back.success.all()
    assert_allclose(back.initial_velocity, V, rtol=0, atol=1e-9 * sizes(W).max())
    expected, _ = exp(W[0].ravel(), V[0].ravel(), widths, rank)
    assert_allclose(solution.end_point[0].ravel(), expected, rtol=0, atol=1e-11)


class TestNarrowLayers:
    """Layers of low rank are solved in widths of at most twice the rank."""

    widths, rank = (40, 11, 30, 25), 2

    def test_equals_the_wide_ones(self, monkeypatch):
        system, W = draw(self.widths, self.rank, 2)
        V = draw_vectors(system, W, 0.4)
        vectors = np.stack([V, *(draw_vectors(system, W, 1.0, seed=s) for s in (2, 3))], axis=1)
        seen = set()
        rates = LayerSystem.rates

        def spied(self, state):
            seen.add(self.widths)
            return rates(self, state)

        monkeypatch.setattr(LayerSystem, "rates", spied)
        narrow = follow(system, W, V)
        log = join(system, W, narrow.end_point)
        assert seen == {(4, 4, 4, 4)}
        transport = parallel_transport(system, points(system, W), V, vectors, tolerance=TOLERANCE)
        monkeypatch.setattr(LayerSystem, "narrowed", lambda self, start, **_: None)
        wide = follow(system, W, V)
        scale = sizes(W).max()
        assert_allclose(narrow.end_point, wide.end_point, rtol=0, atol=1e-11 * scale)
        assert_allclose(log.initial_velocity, V, rtol=0, atol=1e-9 * scale)
        wide_log = join(system, W, narrow.end_point)
        assert_allclose(log.initial_velocity, wide_log.initial_velocity, rtol=0, atol=1e-9 * scale)
        assert_allclose(log.lower_bound, wide_log.lower_bound, rtol=1e-12)
        other = parallel_transport(system, points(system, W), V, vectors, tolerance=TOLERANCE)
        assert_allclose(transport[0], other[0], rtol=0, atol=1e-11 * sizes(vectors).max())
        assert narrow.system == wide.system == system
        times = np.array([-0.2, 0.4, 1.1])
        assert_allclose(narrow(times), wide(times), rtol=0, atol=1e-11 * scale)

    def test_full_rank_of_equal_widths_is_not_reduced(self):
        system, W = draw((3, 3, 3), 3, 2)
        assert system.narrowed(points(system, W), vectors=W[:, None]) is None
        system, W = draw((3, 4, 3), 2, 2)
        assert system.narrowed(points(system, W), end=points(system, W)) is None


@some_chains
def test_transport(widths, rank):
    system, W = draw(widths, rank, 2)
    V = draw_vectors(system, W, 0.5)
    vectors = np.stack([draw_vectors(system, W, 1.0, seed=s) for s in (2, 3, 4)], axis=1)
    start = points(system, W)
    moved, _ = parallel_transport(system, start, V, vectors, tolerance=TOLERANCE)
    flat, before = moved.reshape(2, 3, -1), vectors.reshape(2, 3, -1)
    gram = before @ before.swapaxes(1, 2)
    assert_allclose(flat @ flat.swapaxes(1, 2), gram, rtol=0, atol=1e-11 * np.abs(gram).max())
    # Projected from point to point of the geodesic; errors of first order, extrapolated.
    solution, results = follow(system, W, V), []
    for count in (100, 200, 400):
        carried = vectors
        for point in np.moveaxis(solution(np.linspace(0, 1, count + 1)[1:]), 1, 0):
            carried = system.tangent_part(system.frame(point).beside(), carried)
        results.append(carried)
    once = [2 * fine - coarse for coarse, fine in itertools.pairwise(results)]
    assert_allclose(moved, (4 * once[1] - once[0]) / 3, rtol=0, atol=1e-6 * sizes(W).max())


class TestDerivatives:
    """Adjoint rules against differences along curves of points and vectors."""

    widths, rank, h = (4, 3, 5), 2, 1e-4

    @pytest.fixture
    def case(self):
        system, W = draw(self.widths, self.rank, 1)
        vectors = [draw_vectors(system, W, length, seed=s) for length, s in ((0.4, 2), (0.3, 3))]
        return system, W, *vectors, np.random.default_rng(4).normal(size=W.shape)

    def moved(self, system, W, direction, s):
        return system.nearest((W + s * self.h * direction)[:, None])[:, 0]

    def slope(self, function):
        far, near = ((function(s) - function(-s)) / (2 * s * self.h) for s in (2, 1))
        return (4 * near - far) / 3

    def test_exp(self, case):
        system, W, V, direction, cotangent = case

        def value(s):
            point = self.moved(system, W, direction, s)
            velocity = system.tangent_part(system.frame(point), V + s * self.h * direction)
            return np.sum(cotangent * follow(system, point, velocity).end_point)

        by_point, by_vector = exp_pullback(follow(system, W, V), np.arange(1), cotangent)
        expected = self.slope(value)
        actual = np.sum((by_point + by_vector) * direction)
        assert_allclose(actual, expected, rtol=1e-7)

    def test_log_and_length(self, case):
        system, W, V, direction, cotangent = case
        end = follow(system, W, V).end_point
        other = system.tangent_part(system.frame(end), direction)

        def solved(s):
            ends = self.moved(system, W, direction, s), self.moved(system, end, other, s)
            return join(system, *ends)

        solution = solved(0)
        everyone = np.arange(1)
        by_start, by_end = log_pullback(solution, everyone, cotangent)
        actual = np.sum(by_start * direction + by_end * other)
        expected = self.slope(lambda s: np.sum(cotangent * solved(s).initial_velocity))
        assert_allclose(actual, expected, rtol=1e-6)
        by_start, by_end = squared_length_gradients(solution, everyone)
        actual = np.sum(by_start * direction + by_end * other)
        assert_allclose(actual, self.slope(lambda s: np.sum(solved(s).length ** 2)), rtol=1e-7)
