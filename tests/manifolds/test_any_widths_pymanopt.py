"""pymanopt's half of layers of any widths and rank: derivatives, retraction, and all solvers."""

import itertools

import numpy as np
import pymanopt
import pytest
from dense_layers import ROOTS, layers_of, name_of, product
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.optimizers import (
    ConjugateGradient,
    NelderMead,
    ParticleSwarm,
    SteepestDescent,
    TrustRegions,
)

from dln_manifolds import BalancedManifold, costs, pymanopt_problem
from dln_manifolds.geometry.balancing import relative_imbalance

NETWORKS = [((4, 3, 5), 3), ((4, 3, 5), 2), ((3, 5, 3), 3), ((4, 2, 3, 4), 2), ((3, 4), 2)]
KINDS = ["generic", "1e-9 apart", "all equal"]
WEIGHTS = np.random.default_rng(3).uniform(0.5, 2.0, 64)


def value(W):
    return np.sum(WEIGHTS[: W.size] * np.sin(W)) + np.sum(W**2) ** 2 / 40


def gradient(W):
    return WEIGHTS[: W.size] * np.cos(W) + np.sum(W**2) * W / 10


def hessian(W, V):
    second = -WEIGHTS[: W.size] * np.sin(W) * V
    return second + (np.sum(W**2) * V + 2 * np.sum(W * V) * W) / 10


def identify(parameter):
    network, kind = parameter
    return f"{name_of(network)} {kind}"


@pytest.fixture(params=itertools.product(NETWORKS, KINDS), ids=identify)
def setting(request):
    """Return a space, a point and two unit tangent vectors."""
    (widths, rank), kind = request.param
    space = BalancedManifold(widths=widths, rank=rank)
    W = space.point(layers_of(widths, ROOTS[kind][:rank]))
    return space, W, space.random_tangent_vector(W), space.random_tangent_vector(W)


def riemannian_hessian(space, W, V):
    return space.euclidean_to_riemannian_hessian(W, gradient(W), hessian(W, V), V)


def imbalance(space, W):
    return float(relative_imbalance(W, space.stratum.chain))


class TestDerivatives:
    def test_gradient_is_the_tangent_part(self, setting):
        space, W, U, _ = setting
        df = gradient(W)
        image = space.euclidean_to_riemannian_gradient(W, df)
        assert_allclose(image, space.to_tangent(df, W), rtol=0, atol=1e-13)
        assert abs(np.sum(image * U) - np.sum(df * U)) <= 1e-12

    def test_hessian_is_symmetric_and_tangent(self, setting):
        space, W, U, V = setting
        image_u, image_v = riemannian_hessian(space, W, U), riemannian_hessian(space, W, V)
        assert_allclose(space.to_tangent(image_u, W), image_u, rtol=0, atol=1e-12)
        assert abs(np.sum(image_u * V) - np.sum(U * image_v)) <= 1e-12

    def test_hessian_against_differences_of_the_gradient(self, setting):
        space, W, U, _ = setting
        h = 1e-3

        def field(t):
            end = space.exp(W, t * U)
            return space.euclidean_to_riemannian_gradient(end, gradient(end))

        near, far = (field(k * h) - field(-k * h) for k in (1, 2))
        numerical = space.to_tangent_space(W, (8 * near - far) / (12 * h))
        assert_allclose(riemannian_hessian(space, W, U), numerical, rtol=0, atol=1e-9)

    def test_hessian_against_second_differences_along_geodesics(self, setting):
        space, W, U, _ = setting
        h = 0.02
        f = [value(space.exp(W, k * h * U)) for k in (-3, -2, -1, 0, 1, 2, 3)]
        second = np.dot([2, -27, 270, -490, 270, -27, 2], f) / (180 * h**2)
        image = riemannian_hessian(space, W, U)
        assert abs(np.sum(image * U) - second) <= 1e-8

    def test_hessian_is_projection_plus_weingarten_map(self, setting):
        space, W, U, _ = setting
        normal = space.normal_projection(gradient(W), W)
        expected = space.to_tangent(hessian(W, U), W) + space.weingarten(W, U, normal)
        assert_allclose(riemannian_hessian(space, W, U), expected, rtol=0, atol=1e-12)


class TestRetraction:
    def test_is_of_second_order(self, setting):
        space, W, U, _ = setting
        steps = np.array([0.02, 0.04])
        errors = [np.linalg.norm(space.retraction(W, t * U) - space.exp(W, t * U)) for t in steps]
        slope = np.log(max(errors[1], 1e-300) / max(errors[0], 1e-300)) / np.log(2)
        assert errors[1] <= 1e-13 or slope >= 2.9, f"slope {slope:.3f} of errors {errors}"

    def test_of_zero_is_the_point(self, setting):
        space, W, _, _ = setting
        assert_array_equal(space.retraction(W, np.zeros_like(W)), W)

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_is_a_point_for_every_step(self, setting, sign):
        space, W, U, _ = setting
        for direction in (U, W / np.linalg.norm(W)):
            for length in [*np.logspace(-12, 6, 7), 1e30, 1e150]:
                end = space.retraction(W, sign * length * direction)
                assert np.isfinite(end).all()
                assert imbalance(space, end) <= 1e-10
                assert space.belongs(end)

    def test_keeps_the_component(self):
        # three square bases: four components
        space = BalancedManifold(widths=(2, 3, 2, 2))
        W = space.random_point()

        def signs(point):
            first, second, last = space.layers(point)
            return [np.sign(np.linalg.det(second @ first)), np.sign(np.linalg.det(last))]

        for length in np.logspace(-3, 3, 13):
            for _ in range(5):
                U = space.random_tangent_vector(W)
                assert signs(space.retraction(W, length * U)) == signs(W)

    def test_towards_singular_layers_stays_a_point(self, setting):
        space, W, _, _ = setting
        for factor in (0.5, 1.0, 1.0001, 3.0):
            assert space.belongs(space.retraction(W, -factor * W))

    @pytest.mark.parametrize("scale", [1e-60, 1e60])
    def test_is_free_of_scale(self, scale):
        space = BalancedManifold(widths=(4, 3, 5), rank=2)
        W = space.random_point()
        V = space.random_tangent_vector(W)
        expected = scale * space.retraction(W, V)
        assert_allclose(space.retraction(scale * W, scale * V), expected, rtol=1e-11)


@pytest.mark.parametrize("network", NETWORKS, ids=name_of)
def test_orders_of_arguments_and_scalars(network):
    space = BalancedManifold(widths=network[0], rank=network[1])
    W = space.random_point(bound=0.3)
    V = space.random_tangent_vector(W)
    assert_allclose(space.norm(W, V), 1, rtol=1e-14)
    target = space.exp(W, 0.5 * V)
    assert_array_equal(target, space.metric.exp(0.5 * V, W))
    assert_array_equal(space.log(W, target), space.metric.log(target, W))
    assert_allclose(space.log(W, target), 0.5 * V, rtol=0, atol=1e-9)
    assert_allclose(space.dist(W, target), 0.5, rtol=1e-9)
    for scalar in (space.inner_product(W, V, V), space.norm(W, V), space.dist(W, target)):
        assert type(scalar) is np.float64
    moved = space.transport(W, target, V)
    assert_array_equal(moved, space.to_tangent_space(target, V))
    middle = space.pair_mean(W, target)
    assert_allclose(middle, space.exp(W, 0.25 * V), rtol=0, atol=1e-9)
    assert_array_equal(space.zero_vector(W), np.zeros(space.shape))
    assert space.typical_dist > 0


MASK = np.random.default_rng(0).uniform(size=(5, 4)) < 0.6
TARGET = np.random.default_rng(1).normal(size=(5, 3)) @ np.random.default_rng(2).normal(size=(3, 4))


def make_problem(space, mask=MASK, target=TARGET, ridge=0.1):
    """Return a fit of some entries of X with a penalty of the layers, by literal products."""

    def split(W):
        return list(space.stratum.chain.layers(W))

    def gradients(layers, P):
        above = [product(layers[p + 1 :]) if layers[p + 1 :] else None for p in range(len(layers))]
        below = [product(layers[:p]) if p else None for p in range(len(layers))]
        parts = []
        for a, b in zip(above, below, strict=True):
            part = P if a is None else a.T @ P
            parts.append((part if b is None else part @ b.T).ravel())
        return np.concatenate(parts)

    @pymanopt.function.numpy(space)
    def cost(W):
        misfit = mask * (product(split(W)) - target)
        return 0.5 * np.sum(misfit**2) + 0.25 * ridge * np.sum(W**4)

    @pymanopt.function.numpy(space)
    def euclidean_gradient(W):
        return gradients(split(W), mask * (product(split(W)) - target)) + ridge * W**3

    @pymanopt.function.numpy(space)
    def euclidean_hessian(W, V):
        # the gradient is a polynomial: complex steps are exact
        moved = W + 1e-30j * V
        P = mask * (product(split(moved)) - target)
        return gradients(split(moved), P).imag / 1e-30 + 3 * ridge * W**2 * V

    return pymanopt.Problem(
        space, cost, euclidean_gradient=euclidean_gradient, euclidean_hessian=euclidean_hessian
    )


class Watched(BalancedManifold):
    """Notes the worst imbalance of all points that a solver visits."""

    worst = 0.0

    def retraction(self, point, tangent_vector):
        end = super().retraction(point, tangent_vector)
        self.worst = max(self.worst, imbalance(self, end))
        return end


@pytest.mark.parametrize("arguments", [{}, {"rank": 2}, {"widths": (4, 6, 3, 5)}], ids=str)
def test_solvers_with_derivatives_agree(arguments):
    space = Watched(**{"widths": (4, 3, 5), **arguments})
    problem = make_problem(space)
    exact = TrustRegions(verbosity=0, max_iterations=200, min_gradient_norm=1e-10).run(
        problem, initial_point=space.random_point()
    )
    assert exact.gradient_norm <= 1e-9
    assert space.belongs(exact.point)
    for kind, goal in ((SteepestDescent, 1e-4), (ConjugateGradient, 1e-6)):
        optimizer = kind(verbosity=0, max_iterations=1500, min_gradient_norm=goal)
        near = space.retraction(exact.point, 0.05 * space.random_tangent_vector(exact.point))
        result = optimizer.run(problem, initial_point=near)
        assert result.gradient_norm <= goal
        assert abs(result.cost - exact.cost) <= 1e-6
        assert imbalance(space, result.point) <= 1e-10
    assert 0 < space.worst <= 1e-10


def test_solvers_without_derivatives_run():
    space = Watched(widths=(1, 2, 1))
    problem = make_problem(space, np.ones((1, 1)), np.array([[1.3]]), 0.0)
    result = NelderMead(verbosity=0, max_iterations=10).run(problem)
    assert_allclose(space.end_to_end(result.point), [[1.3]], rtol=0.1)
    assert space.belongs(result.point)
    space = Watched(widths=(4, 3, 5), rank=2)
    problem = make_problem(space)
    swarm = [space.random_point(bound=0.3) for _ in range(6)]
    best = min(problem.cost(point) for point in swarm)
    result = ParticleSwarm(verbosity=0, max_iterations=5, population_size=6).run(
        problem, initial_point=swarm
    )
    assert space.belongs(result.point, atol=1e-10)
    assert 0 < space.worst <= 1e-10
    assert result.cost <= best


@pytest.mark.parametrize("network", NETWORKS[:4], ids=name_of)
def test_costs_of_ours(network):
    space = BalancedManifold(widths=network[0], rank=network[1])
    X = BalancedManifold(widths=network[0], rank=network[1]).random_point()
    loss = costs.MatrixCompletion(space.end_to_end(X), np.ones(space.stratum.shape))
    problem = pymanopt_problem(space, costs.OfLayers(loss, widths=space.widths))
    result = TrustRegions(verbosity=0, max_iterations=300, min_gradient_norm=1e-9).run(
        problem, initial_point=space.random_point()
    )
    assert result.gradient_norm <= 1e-8
    assert_allclose(space.end_to_end(result.point), space.end_to_end(X), rtol=0, atol=1e-6)
