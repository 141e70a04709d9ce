"""The pymanopt half: what its solvers call, and the solvers themselves."""

import itertools

import numpy as np
import pymanopt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.manifolds import Euclidean
from pymanopt.optimizers import (
    ConjugateGradient,
    NelderMead,
    ParticleSwarm,
    SteepestDescent,
    TrustRegions,
)

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    PointRecorder,
    costs,
    pymanopt_problem,
)

DEPTHS = [1, 1.5, 2, 3, 10]

# Points where the metric's formulas have limits, and an ordinary one.
POINTS = {
    "generic": np.array([[1.2, 0.3, -0.4], [0.1, 0.8, 0.2], [-0.3, 0.5, 1.1]]),
    "identity": np.eye(3),
    "two equal": np.diag([1.5, 1.5, 0.4]),
    "nearly equal": np.diag([1.0, 1.0 + 1e-9, 1.0 - 1e-6]),
    "far apart": np.diag([10.0, 1.0, 1e-2]),
    "negative": np.diag([1.0, 2.0, -0.7]),
}
TARGET = np.array([[1.0, 0.5, 0.0], [-0.5, 1.5, 0.3], [0.2, 0.0, 0.8]])
WEIGHTS = np.array([[1.0, 2.0, 0.5], [0.3, 1.5, 1.0], [2.0, 1.0, 0.7]])


def make_problem(depth, target=TARGET):
    """Return the problem of the nearest matrix, with its derivatives."""
    space = DLNObservableManifold(len(target), depth)

    @pymanopt.function.numpy(space)
    def cost(X):
        return 0.5 * np.sum((X - target) ** 2)

    @pymanopt.function.numpy(space)
    def gradient(X):
        return X - target

    @pymanopt.function.numpy(space)
    def hessian(X, Z):
        return Z

    return pymanopt.Problem(space, cost, euclidean_gradient=gradient, euclidean_hessian=hessian)


# A function that is neither quadratic nor invariant.
def value(X):
    return np.sum(WEIGHTS * np.sin(X)) + 0.3 * np.trace(X @ X @ X)


def gradient(X):
    return WEIGHTS * np.cos(X) + 0.9 * (X @ X).T


def hessian(X, Z):
    return -WEIGHTS * np.sin(X) * Z + 0.9 * (X @ Z + Z @ X).T


def riemannian_hessian(space, X, Z):
    return space.euclidean_to_riemannian_hessian(X, gradient(X), hessian(X, Z), Z)


def second_derivative(function, h):
    """Return the second derivative at zero by central differences of order six."""
    values = [function(k * h) for k in range(-3, 4)]
    return np.dot([2, -27, 270, -490, 270, -27, 2], values) / (180 * h**2)


def unit(space, X):
    """Return a tangent vector of length ``|W|``, or of 20 distances from the singular matrices."""
    roots = np.linalg.svd(X, compute_uv=False) ** (1 / space.depth)
    length = np.sqrt(space.depth) * min(np.linalg.norm(roots), 20 * roots[-1])
    return length * space.random_tangent_vector(X)


def scalars(space):
    X, Y = space.random_point(2)
    v = space.random_tangent_vector(X)
    return {
        "inner_product": space.inner_product(X, v, v),
        "norm": space.norm(X, v),
        "dist": space.dist(X, Y),
        "norm of zero": space.norm(X, space.zero_vector(X)),
    }


@pytest.mark.parametrize("name", ["inner_product", "norm", "dist", "norm of zero"])
def test_scalars_are_of_numpy(name):
    assert type(scalars(DLNObservableManifold(3, 4))[name]) is np.float64


def test_zero_may_be_divided_by():
    # as conjugate gradients do at a critical point
    space = DLNObservableManifold(3, 4)
    zero = space.norm(np.eye(3), space.zero_vector(np.eye(3)))
    with np.errstate(all="ignore"):
        assert np.isnan(zero / zero)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_typical_dist_is_the_length_of_gaussian_vectors_up_and_down(depth):
    np.random.seed(3)
    space, total = DLNObservableManifold(3, depth), BalancedManifold(3, depth)
    W = total.random_point()
    down = space.random_tangent_vec(total.end_to_end(W), 4000)
    up = total.horizontal_projection(total.random_tangent_vec(W, 4000), W)
    squares = (
        space.metric.squared_norm(down, total.end_to_end(W)),
        np.sum(up**2, axis=(1, 2, 3)),
    )
    for square, manifold in zip(squares, (space, total), strict=True):
        # relative deviation of such a mean of squares: sqrt(2 / (9 * 4000)) = 0.0075
        assert_allclose(square.mean(), manifold.typical_dist**2, rtol=0.03)


def test_typical_dist_at_depth_one_is_that_of_all_matrices():
    for manifold in (DLNObservableManifold(5, 1), BalancedManifold(5, 1)):
        assert manifold.typical_dist == Euclidean(5, 5).typical_dist


def test_zero_vector():
    assert_array_equal(DLNObservableManifold(3, 4).zero_vector(np.eye(3)), np.zeros((3, 3)))


def test_to_tangent_space_is_the_identity():
    assert_array_equal(DLNObservableManifold(3, 4).to_tangent_space(np.eye(3), TARGET), TARGET)


def test_transport_is_the_identity():
    space = DLNObservableManifold(3, 4)
    assert_array_equal(space.transport(np.eye(3), 2 * np.eye(3), TARGET), TARGET)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_random_tangent_vector_has_unit_norm(point, depth):
    space = DLNObservableManifold(3, depth)
    assert_allclose(space.norm(point, space.random_tangent_vector(point)), 1, rtol=1e-12)


def test_random_tangent_vector_is_drawn_from_numpy():
    space = DLNObservableManifold(3, 4)
    np.random.seed(3)
    first = space.random_tangent_vector(np.eye(3))
    np.random.seed(3)
    assert_array_equal(space.random_tangent_vector(np.eye(3)), first)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_gradient_represents_the_differential(point, depth):
    space = DLNObservableManifold(3, depth)
    Z = space.random_tangent_vector(point)
    riemannian = space.euclidean_to_riemannian_gradient(point, gradient(point))
    size = space.norm(point, riemannian)
    slope = np.sum(gradient(point) * Z)
    assert abs(space.inner_product(point, riemannian, Z) - slope) <= 1e-12 * size


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_hessian_is_symmetric_in_the_metric(point, depth):
    space = DLNObservableManifold(3, depth)
    Y, Z = space.random_tangent_vector(point), space.random_tangent_vector(point)
    images = riemannian_hessian(space, point, Y), riemannian_hessian(space, point, Z)
    difference = space.inner_product(point, images[0], Z) - space.inner_product(point, Y, images[1])
    assert abs(difference) <= 1e-10 * max(space.norm(point, image) for image in images)


@pytest.mark.parametrize("depth", DEPTHS)
def test_hessian_is_linear(depth):
    space, X = DLNObservableManifold(3, depth), POINTS["generic"]
    Y, Z = space.random_tangent_vector(X), space.random_tangent_vector(X)
    both = riemannian_hessian(space, X, 2 * Y - 3 * Z)
    parts = 2 * riemannian_hessian(space, X, Y) - 3 * riemannian_hessian(space, X, Z)
    assert_allclose(both, parts, rtol=0, atol=1e-12 * np.abs(parts).max())


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_hessian_is_the_second_derivative_along_geodesics(point, depth):
    space = DLNObservableManifold(3, depth)
    Z = unit(space, point)
    second = second_derivative(lambda t: value(space.exp(point, t * Z)), 0.02 / (depth + 1))
    image = riemannian_hessian(space, point, Z)
    size = space.norm(point, image) * space.norm(point, Z)
    assert abs(space.inner_product(point, image, Z) - second) <= 1e-6 * size


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_hessian_in_other_widths(n, depth):
    space = DLNObservableManifold(n, depth)
    X = space.random_point()
    Z = unit(space, X)
    # f = |X|^4 / 4
    second = second_derivative(
        lambda t: np.sum(space.exp(X, t * Z) ** 2) ** 2 / 4, 0.02 / (depth + 1)
    )
    df = np.sum(X**2) * X
    ddf = np.sum(X**2) * Z + 2 * np.sum(X * Z) * X
    image = space.euclidean_to_riemannian_hessian(X, df, ddf, Z)
    size = space.norm(X, image) * space.norm(X, Z)
    assert abs(space.inner_product(X, image, Z) - second) <= 1e-6 * size


def taylor_errors(space, X, Z, steps, order):
    """Return the errors of the Taylor polynomial of a function along the retraction."""
    slope = space.inner_product(X, space.euclidean_to_riemannian_gradient(X, gradient(X)), Z)
    bend = space.inner_product(X, riemannian_hessian(space, X, Z), Z) if order == 2 else 0
    return [
        abs(value(space.retraction(X, t * Z)) - value(X) - t * slope - t**2 / 2 * bend)
        for t in steps
    ]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("order", [1, 2])
def test_taylor_error_along_the_retraction_falls_with_the_right_slope(point, depth, order):
    space = DLNObservableManifold(3, depth)
    Z = unit(space, point)
    steps = np.array([1, 2]) * (3e-4 if order == 2 else 4e-5)
    errors = taylor_errors(space, point, Z, steps, order)
    slope = np.log(errors[1] / errors[0]) / np.log(2)
    # a vanishing next term only makes it steeper
    assert slope >= order + 0.9, f"slope {slope:.3f} of errors {errors}"


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_retraction_agrees_with_exp_to_second_order(point, depth):
    space = DLNObservableManifold(3, depth)
    Z = unit(space, point)
    errors = [
        np.linalg.norm(space.retraction(point, t * Z) - space.exp(point, t * Z))
        for t in (0.002, 0.004)
    ]
    rounding = 1e-13 * np.linalg.norm(point)
    assert errors[1] <= rounding or errors[0] <= errors[1] / 7 + rounding


def test_retraction_of_zero_is_the_point():
    space, X = DLNObservableManifold(3, 4), POINTS["generic"]
    assert_allclose(space.retraction(X, np.zeros((3, 3))), X, rtol=0, atol=1e-14)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("size", [1e-300, 1.0, 1e5, 1e20, 1e300])
def test_retraction_is_a_point_for_every_finite_step(point, depth, size):
    space = DLNObservableManifold(3, depth)
    for _ in range(3):
        direction = np.random.normal(size=(3, 3))
        end = space.retraction(point, size * direction)
        assert np.isfinite(end).all()
        assert space.belongs(end)
        assert np.linalg.slogdet(end)[0] == np.linalg.slogdet(point)[0]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("size", [0.5, 1.0, 1.0001, 3.0, 1e8])
def test_retraction_towards_zero_stays_a_point(depth, size):
    # straight to the singular matrices and past them
    space, X = DLNObservableManifold(3, depth), POINTS["generic"]
    end = space.retraction(X, -size * depth * X)
    assert space.belongs(end)
    assert np.linalg.det(X) > 0
    assert np.linalg.slogdet(end)[0] > 0


def test_a_point_is_decomposed_once_for_all_calls(monkeypatch):
    space = DLNObservableManifold(3, 3)
    X, V = POINTS["generic"].copy(), TARGET
    calls = []
    original = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda *a, **k: calls.append(1) or original(*a, **k))
    for _ in range(3):
        space.euclidean_to_riemannian_gradient(X, V)
        space.euclidean_to_riemannian_hessian(X, V, V, V)
        space.inner_product(X, V, V)
    assert len(calls) == 1
    X[0, 0] += 0.1
    space.norm(X, V)
    assert len(calls) == 2


def test_retraction_from_extreme_scales():
    space = DLNObservableManifold(3, 3)
    for scale in (1e-200, 1e-100, 1e100):
        end = space.retraction(scale * np.eye(3), scale * TARGET)
        expected = scale * space.retraction(np.eye(3), TARGET)
        assert_allclose(end, expected, rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 10])
@pytest.mark.parametrize("start", ["generic", "identity"])
@pytest.mark.parametrize(
    ("optimizer", "tolerance"),
    [
        (SteepestDescent(verbosity=0, max_iterations=2000, min_gradient_norm=1e-9), 1e-6),
        (ConjugateGradient(verbosity=0, max_iterations=2000, min_gradient_norm=1e-9), 1e-6),
        (TrustRegions(verbosity=0, max_iterations=100, min_gradient_norm=1e-9), 1e-8),
    ],
    ids=["steepest descent", "conjugate gradient", "trust regions"],
)
def test_solver_with_derivatives_finds_the_nearest_matrix(optimizer, tolerance, start, depth):
    result = optimizer.run(make_problem(depth), initial_point=POINTS[start])
    assert "min grad norm" in result.stopping_criterion or "step_size" in result.stopping_criterion
    assert np.linalg.norm(result.point - TARGET) <= tolerance


def test_nelder_mead_finds_a_number():
    problem = make_problem(3, np.array([[1.3]]))
    result = NelderMead(verbosity=0, max_iterations=8).run(problem)
    assert_allclose(result.point, [[1.3]], rtol=1e-2)


def test_nelder_mead_runs():
    # Its centroids are Fréchet means, found by many distances: one step of it will do.
    problem = make_problem(3, TARGET[:2, :2])
    np.random.seed(0)
    result = NelderMead(verbosity=0, max_iterations=2).run(problem)
    np.random.seed(0)
    simplex = [problem.manifold.random_point() for _ in range(5)]
    assert problem.manifold.belongs(result.point)
    assert result.cost <= min(problem.cost(point) for point in simplex)


def test_particle_swarm_runs():
    problem = make_problem(3, TARGET[:2, :2])
    swarm = [problem.manifold.random_point() for _ in range(6)]
    result = ParticleSwarm(verbosity=0, max_iterations=4, population_size=6).run(
        problem, initial_point=swarm
    )
    assert problem.manifold.belongs(result.point)
    assert result.cost <= min(problem.cost(point) for point in swarm)


@pytest.mark.parametrize("depth", [2, 3, 10])
def test_trust_regions_converge_quadratically(depth):
    # pymanopt's trust regions keep no log
    space, recorder = DLNObservableManifold(3, depth), PointRecorder()
    loss = costs.MatrixCompletion(TARGET, np.ones((3, 3)))
    problem = pymanopt_problem(space, loss, preconditioner=recorder)
    optimizer = TrustRegions(verbosity=0, min_gradient_norm=1e-10)
    result = optimizer.run(problem, initial_point=TARGET + 0.05 * np.eye(3))
    path = recorder.path(result)
    norms = [space.norm(X, problem.riemannian_gradient(X)) for X in path]
    assert 3 <= len(norms) <= 7
    assert norms[-1] <= 1e-10
    # each norm at most a constant times the square of the one before, down to rounding
    for before, after in itertools.pairwise(norms):
        assert after <= max(10 * before**1.9, 1e-12)


def test_conjugate_gradients_started_at_the_solution_stop_there():
    # the other solvers divide zero by zero there
    with np.errstate(all="ignore"):
        result = ConjugateGradient(verbosity=0).run(make_problem(3), initial_point=TARGET)
    assert_array_equal(result.point, TARGET)


def test_solver_draws_its_own_first_point():
    np.random.seed(1)
    result = TrustRegions(verbosity=0).run(make_problem(3))
    assert_allclose(result.point, TARGET, atol=1e-5)


def test_solvers_stay_inside_the_component_of_their_start():
    # The nearest matrix lies in the other component.
    problem = make_problem(3, np.diag([1.0, 1.0, -1.0]))
    result = SteepestDescent(verbosity=0, max_iterations=200).run(problem, initial_point=np.eye(3))
    assert np.isfinite(result.cost)
    assert np.linalg.slogdet(result.point)[0] > 0


def test_autograd_problem_needs_no_derivatives_by_hand():
    space = DLNObservableManifold(3, 3)

    @pymanopt.function.autograd(space)
    def cost(X):
        return 0.5 * ((X - TARGET) ** 2).sum()

    result = TrustRegions(verbosity=0).run(pymanopt.Problem(space, cost), initial_point=np.eye(3))
    assert_allclose(result.point, TARGET, atol=1e-6)
