"""Both hosts: pymanopt's solvers and what they call, and geomstats' own test cases."""

import itertools

import numpy as np
import pymanopt
import pytest
from balanced_reference import ROOTS, layers_of, product, relative_imbalance, size
from geomstats.geometry.nfold_manifold import NFoldManifold
from geomstats.geometry.product_manifold import ProductManifold
from geomstats.learning.frechet_mean import FrechetMean
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.optimizers import (
    ConjugateGradient,
    NelderMead,
    ParticleSwarm,
    SteepestDescent,
    TrustRegions,
)

from dln_manifolds import BalancedManifold, DLNObservableManifold

KINDS = ["generic", "all equal", "two equal", "nearly equal"]
DEPTHS = [1, 2, 3, 8]
WEIGHTS = np.random.default_rng(3).uniform(0.5, 2.0, (8, 3, 3))


def value(W):
    return np.sum(WEIGHTS[: len(W)] * np.sin(W)) + np.sum(W**2) ** 2 / 40


def gradient(W):
    return WEIGHTS[: len(W)] * np.cos(W) + np.sum(W**2) * W / 10


def hessian(W, V):
    second = -WEIGHTS[: len(W)] * np.sin(W) * V
    return second + (np.sum(W**2) * V + 2 * np.sum(W * V) * W) / 10


@pytest.fixture(params=itertools.product(KINDS, DEPTHS), ids=lambda p: f"{p[0]}-{p[1]}")
def setting(request):
    """Return a space, a point and two unit tangent vectors."""
    kind, depth = request.param
    space = BalancedManifold(3, depth)
    W = layers_of(ROOTS[kind], depth)
    return space, W, space.random_tangent_vector(W), space.random_tangent_vector(W)


def riemannian_hessian(space, W, V):
    return space.euclidean_to_riemannian_hessian(W, gradient(W), hessian(W, V), V)


class TestDerivatives:
    def test_gradient_is_the_tangent_part(self, setting):
        space, W, U, _ = setting
        df = gradient(W)
        image = space.euclidean_to_riemannian_gradient(W, df)
        assert space.is_tangent(image, W, atol=1e-12)
        assert abs(np.sum(image * U) - np.sum(df * U)) <= 1e-12 * size(df)

    def test_hessian_is_symmetric_and_tangent(self, setting):
        space, W, U, V = setting
        image_u, image_v = riemannian_hessian(space, W, U), riemannian_hessian(space, W, V)
        assert space.is_tangent(image_u, W, atol=1e-12)
        assert abs(np.sum(image_u * V) - np.sum(U * image_v)) <= 1e-10 * size(image_u)

    def test_hessian_against_finite_differences_of_the_gradient(self, setting):
        space, W, U, _ = setting
        h = 1e-5
        gradients = [
            space.euclidean_to_riemannian_gradient(end, gradient(end))
            for end in (space.exp(W, h * U), space.exp(W, -h * U))
        ]
        numerical = space.to_tangent_space(W, (gradients[0] - gradients[1]) / (2 * h))
        image = riemannian_hessian(space, W, U)
        assert size(image - numerical) <= 1e-6 * size(image)

    def test_hessian_against_second_differences_along_geodesics(self, setting):
        space, W, U, _ = setting
        h = 0.01
        f = [value(space.exp(W, k * h * U)) for k in (-2, -1, 0, 1, 2)]
        second = (-f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]) / (12 * h**2)
        image = riemannian_hessian(space, W, U)
        assert abs(np.sum(image * U) - second) <= 1e-6 * size(image)

    def test_weingarten_map_against_finite_differences(self, setting):
        space, W, U, _ = setting
        normal = space.normal_projection(np.random.normal(size=W.shape), W)
        h = 1e-5
        fields = [
            space.normal_projection(normal, end)
            for end in (space.exp(W, h * U), space.exp(W, -h * U))
        ]
        numerical = -space.to_tangent_space(W, (fields[0] - fields[1]) / (2 * h))
        assert size(space.weingarten(W, U, normal) - numerical) <= 1e-6 * max(size(normal), 1e-300)

    def test_weingarten_map_is_symmetric_and_tangent(self, setting):
        space, W, U, V = setting
        normal = space.normal_projection(np.random.normal(size=W.shape), W)
        image = space.weingarten(W, U, normal)
        assert space.is_tangent(image, W, atol=1e-12)
        other = space.weingarten(W, V, normal)
        assert abs(np.sum(image * V) - np.sum(U * other)) <= 1e-10 * size(normal)
        # only the normal part of the last argument counts
        mixed = space.weingarten(W, U, normal + V)
        assert_allclose(mixed, image, rtol=0, atol=1e-12)


class TestRetraction:
    def test_is_of_second_order(self, setting):
        space, W, U, _ = setting
        steps = np.array([0.01, 0.02]) * size(W)
        errors = [size(space.retraction(W, t * U) - space.exp(W, t * U)) for t in steps]
        rounding = 1e-13 * size(W)
        slope = np.log(max(errors[1], 1e-300) / max(errors[0], 1e-300)) / np.log(2)
        assert errors[1] <= rounding or slope >= 2.9, f"slope {slope:.3f} of errors {errors}"

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_is_a_point_of_the_component_for_every_step(self, setting, sign):
        space, W, U, _ = setting
        signs = np.sign(np.linalg.det(W))
        lengths = [*np.logspace(-12, 6, 19) * size(W), 1e30, 1e150]
        for direction in (U, W / size(W), -W / size(W)):
            for length in lengths:
                end = space.retraction(W, sign * length * direction)
                assert np.isfinite(end).all()
                assert relative_imbalance(end) <= 1e-10
                assert space.belongs(end)
                assert_array_equal(np.linalg.slogdet(end)[0], signs)

    @pytest.mark.parametrize("length", [1e160, 1e300])
    def test_is_a_point_for_steps_whose_squares_overflow(self, length):
        space = BalancedManifold(3, 3)
        W = space.random_point()
        U = space.random_tangent_vector(W)
        end = space.retraction(W, length * U)
        assert np.isfinite(end).all()
        assert relative_imbalance(end) <= 1e-10
        # nor is it where it started
        assert size(end) >= 1e6

    @pytest.mark.parametrize("depth", [1, 2, 5])
    def test_is_a_point_where_the_step_ends_at_a_singular_one(self, depth):
        space = BalancedManifold(3, depth)
        for _ in range(20):
            q = np.linalg.qr(np.random.normal(size=(depth + 1, 3, 3)))[0]
            W = (q[1:] * [1.5, 1.0, 0.5]) @ np.swapaxes(q[:-1], 1, 2)
            V = (q[1:] * [0.2, 0.0, -0.5]) @ np.swapaxes(q[:-1], 1, 2)
            end = space.retraction(W, V)
            assert space.belongs(end)
            assert_array_equal(np.linalg.slogdet(end)[0], np.linalg.slogdet(W)[0])

    def test_of_zero_is_the_point(self, setting):
        space, W, _, _ = setting
        assert_array_equal(space.retraction(W, np.zeros_like(W)), W)

    def test_towards_zero_stays_a_point(self):
        space = BalancedManifold(3, 3)
        W = space.random_point()
        for factor in (0.5, 1.0, 1.0001, 3.0):
            end = space.retraction(W, -factor * W)
            assert space.belongs(end)
            assert_array_equal(np.linalg.slogdet(end)[0], np.linalg.slogdet(W)[0])

    @pytest.mark.parametrize("scale", [1e-60, 1e60])
    def test_is_free_of_scale(self, scale):
        space = BalancedManifold(3, 3)
        W = space.random_point()
        V = space.random_tangent_vector(W)
        expected = scale * space.retraction(W, V)
        assert_allclose(space.retraction(scale * W, scale * V), expected, rtol=1e-11)


class TestOtherMethods:
    space = BalancedManifold(3, 3)

    def test_orders_of_arguments(self):
        W, target = self.space.random_point(2)
        V = self.space.random_tangent_vector(W)
        metric = self.space.metric
        assert_array_equal(self.space.exp(W, 0.3 * V), metric.exp(0.3 * V, W))
        assert_array_equal(self.space.log(W, target), metric.log(target, W))
        assert self.space.dist(W, target) == metric.dist(W, target)
        assert self.space.inner_product(W, V, 2 * V) == pytest.approx(2.0, rel=1e-14)

    def test_scalars_are_of_numpy(self):
        W, target = self.space.random_point(2)
        V = self.space.random_tangent_vector(W)
        for scalar in (
            self.space.inner_product(W, V, V),
            self.space.norm(W, V),
            self.space.dist(W, target),
        ):
            assert type(scalar) is np.float64
        assert self.space.norm(W, V) == pytest.approx(1.0, rel=1e-14)
        assert self.space.typical_dist > 0

    def test_random_tangent_vector_is_one(self):
        W = self.space.random_point()
        V = self.space.random_tangent_vector(W)
        assert self.space.is_tangent(V, W, atol=1e-13)
        assert_array_equal(self.space.zero_vector(W), np.zeros(self.space.shape))

    def test_pair_mean_is_the_middle(self):
        W, target = self.space.random_point(2)
        middle = self.space.pair_mean(W, target)
        assert self.space.belongs(middle, atol=1e-12)
        half = self.space.dist(W, target) / 2
        assert_allclose(
            [self.space.dist(W, middle), self.space.dist(middle, target)], half, rtol=1e-8
        )

    def test_transport_is_a_projection(self):
        W, target = self.space.random_point(2)
        V = self.space.random_tangent_vector(W)
        moved = self.space.transport(W, target, V)
        assert_array_equal(moved, self.space.to_tangent_space(target, V))
        assert self.space.is_tangent(moved, target, atol=1e-12)

    def test_random_point_lies_in_the_positive_component(self):
        W = self.space.random_point(50)
        assert np.all(np.linalg.det(W) > 0)
        assert np.all(self.space.belongs(W, atol=1e-13))
        assert self.space.random_point().shape == self.space.shape

    def test_dimension(self):
        for n, depth in ((1, 1), (1, 5), (2, 3), (5, 4)):
            space = BalancedManifold(n, depth)
            assert space.dim == n**2 + (depth - 1) * n * (n - 1) // 2
            W = space.random_point()
            basis = space.jacobi_basis(W)
            assert len(basis.horizontal) + len(basis.vertical) == space.dim

    def test_random_unit_tangent_vectors(self):
        W = self.space.random_point(4)
        V = self.space.metric.random_unit_tangent_vec(W)
        assert_allclose(self.space.metric.norm(V, W), 1, rtol=1e-14)
        assert np.all(self.space.is_tangent(V, W, atol=1e-12))
        assert self.space.metric.random_unit_tangent_vec(W[0], 5).shape == (5, 3, 3, 3)

    def test_injectivity_radius_is_at_most_the_distance_from_the_singular_layers(self):
        W = layers_of([1.5, 1.0, 0.5], 3)
        radius = self.space.metric.injectivity_radius(W)
        assert radius == pytest.approx(0.5 * np.sqrt(3), rel=1e-13)


MASK = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
TARGET = np.array([[1.0, 0.5, 0.2], [-0.5, 1.5, 0.3], [0.2, 0.4, 0.8]])


def gradients_of_layers(W, P):
    """Return ``(W_N ... W_{p+1})^T P (W_{p-1} ... W_1)^T`` for all p."""
    n = W.shape[-1]
    return np.stack([product(W[p + 1 :], n).T @ P @ product(W[:p], n).T for p in range(len(W))])


def make_problem(space, mask=MASK, target=TARGET):
    """Return the completion of a matrix from some of its entries."""
    n = space.n

    @pymanopt.function.numpy(space)
    def cost(W):
        return 0.5 * np.sum((mask * (product(W, n) - target)) ** 2)

    @pymanopt.function.numpy(space)
    def euclidean_gradient(W):
        return gradients_of_layers(W, mask * (product(W, n) - target))

    @pymanopt.function.numpy(space)
    def euclidean_hessian(W, V):
        # the gradient is a polynomial: complex steps are exact
        h = 1e-30
        moved = W + 1j * h * V
        P = mask * (product(moved, n) - target)
        return gradients_of_layers(moved, P).imag / h

    return pymanopt.Problem(
        space, cost, euclidean_gradient=euclidean_gradient, euclidean_hessian=euclidean_hessian
    )


class Watched(BalancedManifold):
    """Notes the worst imbalance of all points that a solver visits."""

    worst = 0.0

    def retraction(self, point, tangent_vector):
        end = super().retraction(point, tangent_vector)
        self.worst = max(self.worst, relative_imbalance(end))
        return end


def start(space):
    return space.factor(np.eye(3) + 0.2 * np.diag([1.0, -1.0, 0.5])[::-1] @ TARGET)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize(
    "optimizer",
    [
        SteepestDescent(verbosity=0, max_iterations=3000, min_gradient_norm=1e-7),
        ConjugateGradient(verbosity=0, max_iterations=2000, min_gradient_norm=1e-7),
        TrustRegions(verbosity=0, max_iterations=200, min_gradient_norm=1e-9),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_solver_with_derivatives_completes_a_matrix(optimizer, depth):
    space = Watched(3, depth)
    problem = make_problem(space)
    result = optimizer.run(problem, initial_point=start(space))
    assert result.gradient_norm <= 1e-6
    assert relative_imbalance(result.point) <= 1e-10
    assert 0 < space.worst <= 1e-10
    misfit = np.abs(MASK * (space.end_to_end(result.point) - TARGET)).max()
    assert misfit <= 1e-6


def test_trust_regions_converge_quadratically():
    space = Watched(3, 3)
    problem = make_problem(space, MASK + 0.5)
    exact = TrustRegions(verbosity=0, max_iterations=200, min_gradient_norm=1e-12)
    best = exact.run(problem, initial_point=start(space)).point
    V = space.random_tangent_vector(best)
    near = space.exp(best, 0.05 * V)
    norms = []
    for count in range(1, 10):
        # as many iterations from the same start
        optimizer = TrustRegions(verbosity=0, max_iterations=count, min_gradient_norm=1e-10)
        norms.append(optimizer.run(problem, initial_point=near).gradient_norm)
    norms = norms[: 1 + np.argmax(np.array(norms) <= 1e-10)]
    assert norms[-1] <= 1e-10
    assert 3 <= len(norms) <= 6
    for before, after in itertools.pairwise(norms):
        assert after <= max(10 * before**1.9, 1e-12)


def test_particle_swarm_runs():
    space = Watched(2, 2)
    problem = make_problem(space, np.ones((2, 2)), np.array([[1.0, 0.3], [-0.2, 0.8]]))
    swarm = [space.random_point(bound=0.3) for _ in range(6)]
    best = min(problem.cost(point) for point in swarm)
    result = ParticleSwarm(verbosity=0, max_iterations=5, population_size=6).run(
        problem, initial_point=swarm
    )
    assert space.belongs(result.point, atol=1e-10)
    assert 0 < space.worst <= 1e-10
    assert result.cost <= best


def test_nelder_mead_finds_a_number():
    # Its centroids are Fréchet means, found by many distances: a small space will do.
    space = BalancedManifold(1, 2)
    problem = make_problem(space, np.ones((1, 1)), np.array([[1.3]]))
    result = NelderMead(verbosity=0, max_iterations=8).run(problem)
    assert_allclose(space.end_to_end(result.point), [[1.3]], rtol=1e-2)
    assert_allclose(result.point[0], result.point[1], rtol=1e-10)


def test_solver_draws_its_own_first_point():
    np.random.seed(1)
    space = BalancedManifold(3, 2)
    result = TrustRegions(verbosity=0, min_gradient_norm=1e-8).run(make_problem(space))
    assert result.gradient_norm <= 1e-8


def test_autograd_problem():
    space = BalancedManifold(3, 3)

    @pymanopt.function.autograd(space)
    def cost(W):
        return 0.5 * ((W[2] @ W[1] @ W[0] - TARGET) ** 2).sum()

    problem = pymanopt.Problem(space, cost)
    result = TrustRegions(verbosity=0, min_gradient_norm=1e-9).run(
        problem, initial_point=start(space)
    )
    assert_allclose(space.end_to_end(result.point), TARGET, rtol=0, atol=1e-6)


# geomstats


def test_frechet_mean_of_two_points_is_the_middle():
    space = BalancedManifold(2, 3)
    points = space.random_point(2, bound=0.3)
    estimator = FrechetMean(space)
    estimator.optimizer.epsilon = 1e-12
    mean = estimator.fit(points).estimate_
    assert space.metric.dist(mean, space.pair_mean(*points)) <= 1e-5


def test_product_of_spaces():
    factors = [BalancedManifold(2, 3), BalancedManifold(2, 3)]
    both = ProductManifold(factors)
    assert both.dim == sum(space.dim for space in factors)
    a, b = both.random_point(), both.random_point()
    assert both.belongs(a)
    parts = [
        space.metric.squared_dist(x, y)
        for space, x, y in zip(
            factors, both.project_from_product(a), both.project_from_product(b), strict=True
        )
    ]
    assert_allclose(both.metric.squared_dist(a, b), sum(parts), rtol=1e-9)
    log = both.metric.log(b, a)
    assert_allclose(both.metric.exp(log, a), b, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "space", [BalancedManifold(2, 2), DLNObservableManifold(2, 3)], ids=["layers", "observable"]
)
def test_copies_of_a_space(space):
    copies = NFoldManifold(space, 3)
    a, b = copies.random_point(), copies.random_point(2)
    assert np.all(copies.belongs(b))
    assert_allclose(copies.metric.exp(copies.metric.log(b, a), a), b, rtol=0, atol=1e-8)


def test_product_of_observable_manifolds_of_different_widths():
    factors = [DLNObservableManifold(2, 3), DLNObservableManifold(3, 2)]
    both = ProductManifold(factors)
    a, b = both.random_point(), both.random_point()
    assert both.belongs(a)
    parts = zip(factors, both.project_from_product(a), both.project_from_product(b), strict=True)
    expected = sum(space.metric.squared_dist(x, y) for space, x, y in parts)
    assert_allclose(both.metric.squared_dist(a, b), expected, rtol=1e-9)


def test_repr_and_new():
    space = BalancedManifold(3, 4)
    assert repr(space) == "BalancedManifold(n=3, depth=4)"
    other = space.new(equip=False)
    assert (other.n, other.depth, other.shape) == (3, 4, (4, 3, 3))
    assert not hasattr(other, "metric")
