"""Costs: literal formulas, differences, autograd, and their use by pymanopt."""

import copy
import pickle
import threading

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from autograd import grad
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.manifolds import Euclidean, Product, Sphere
from pymanopt.optimizers import ParticleSwarm, TrustRegions

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    costs,
    diagnostics,
    pymanopt_problem,
)
from dln_manifolds.numerics.cache import PointMemo

N = 4
RNG = np.random.default_rng(0)
TARGET = RNG.normal(size=(N, N))
SEEN = RNG.uniform(size=(N, N)) < 0.6
OPERATORS, MEASUREMENTS = RNG.normal(size=(9, N, N)), RNG.normal(size=9)
INPUTS, OUTPUTS = RNG.normal(size=(20, N)), RNG.normal(size=(20, N))


def completion(X):
    return sum(
        0.5 * (X[i, j] - TARGET[i, j]) ** 2 for i in range(N) for j in range(N) if SEEN[i, j]
    )


def sensing(X):
    pairs = zip(OPERATORS, MEASUREMENTS, strict=True)
    return 0.5 * sum((anp.trace(A.T @ X) - b) ** 2 for A, b in pairs)


def regression(X):
    pairs = zip(INPUTS, OUTPUTS, strict=True)
    return anp.mean(anp.array([0.5 * anp.sum((X @ x - y) ** 2) for x, y in pairs]))


LOSSES = {
    "completion": (costs.MatrixCompletion(TARGET, SEEN), completion),
    "sensing": (costs.MatrixSensing(OPERATORS, MEASUREMENTS), sensing),
    "regression": (costs.LinearRegression(INPUTS, OUTPUTS), regression),
}


def product_of(W):
    X = W[0]
    for layer in W[1:]:
        X = layer @ X
    return X


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_what_they_are_said_to_be(name):
    cost, literal = LOSSES[name]
    X, Z = np.random.normal(size=(2, N, N))
    assert_allclose(cost(X), literal(X), rtol=1e-13)
    gradient = grad(literal)
    assert_allclose(cost.euclidean_gradient(X), gradient(X), rtol=0, atol=1e-12)
    along = grad(lambda x: anp.sum(gradient(x) * Z))
    assert_allclose(cost.euclidean_hessian(X, Z), along(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_layers(name, depth):
    cost, literal = LOSSES[name]
    W, V = np.random.normal(size=(2, depth, N, N))
    upstairs = costs.OfLayers(cost)

    def composed(layers):
        return literal(product_of(layers))

    assert_allclose(upstairs(W), composed(W), rtol=1e-12)
    gradient = grad(composed)
    wanted = gradient(W)
    bound = 1e-12 * np.abs(wanted).max()
    assert_allclose(upstairs.euclidean_gradient(W), wanted, rtol=0, atol=bound)
    along = grad(lambda w: anp.sum(gradient(w) * V))(W)
    found = upstairs.euclidean_hessian(W, V)
    assert_allclose(found, along, rtol=0, atol=1e-12 * np.abs(along).max())


def all_costs(depth):
    energy = LOSSES["completion"][0]
    return {
        "entropy": costs.Entropy(depth),
        "free energy": costs.free_energy(energy, 5.0, depth),
        "sum": 2 * LOSSES["sensing"][0] - LOSSES["regression"][0] / 3 + (-costs.Entropy(depth)),
    }


@pytest.mark.parametrize("depth", [1, 3.5])
@pytest.mark.parametrize("name", ["entropy", "sum"])
def test_slopes_of_composed_costs(name, depth):
    space = DLNObservableManifold(N, depth)
    problem = pymanopt_problem(space, all_costs(depth)[name])
    for X in (space.random_point(), np.eye(N)):
        Z = space.random_tangent_vector(X)
        assert diagnostics.check_gradient(problem, X, Z)
        assert diagnostics.check_hessian(problem, X, Z)


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("name", ["free energy", "sum"])
def test_slopes_of_composed_costs_of_layers(name, depth):
    space = BalancedManifold(N, depth)
    problem = pymanopt_problem(space, costs.OfLayers(all_costs(depth)[name]))
    for W in (space.random_point(), space.factor(np.eye(N))):
        V = space.random_tangent_vector(W)
        assert diagnostics.check_gradient(problem, W, V)
        assert diagnostics.check_hessian(problem, W, V)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_free_energy_up_and_down(name):
    cost = costs.free_energy(LOSSES[name][0], 5.0, 3)
    for space, of_points in (
        (DLNObservableManifold(N, 3), cost),
        (BalancedManifold(N, 3), costs.OfLayers(cost)),
    ):
        result = diagnostics.check_hessian(pymanopt_problem(space, of_points))
        assert result, result.message
        assert abs(result.slope - 3) <= 0.1, result.message


def test_entropy_is_that_of_the_manifold():
    space = DLNObservableManifold(N, 3)
    X = space.random_point()
    entropy = costs.Entropy(3)
    assert entropy(X) == space.entropy(X)
    riemannian = space.euclidean_to_riemannian_gradient(X, entropy.euclidean_gradient(X))
    assert_allclose(riemannian, space.entropy_gradient(X), rtol=0, atol=1e-13)


@pytest.mark.parametrize("rank", [2, 3])
def test_entropy_of_wide_networks_is_that_of_the_manifold(rank):
    widths = (4, 6, 5, 3)
    space = DLNObservableManifold(widths=widths, rank=rank)
    X = space.random_point()
    energy = costs.MatrixCompletion(np.random.normal(size=(3, 4)), np.ones((3, 4)))
    entropy = costs.Entropy(3, rank, widths)
    assert entropy(X) == pytest.approx(space.entropy(X), rel=1e-13)
    riemannian = space.euclidean_to_riemannian_gradient(X, entropy.euclidean_gradient(X))
    assert_allclose(riemannian, space.entropy_gradient(X), rtol=0, atol=1e-12)
    F = costs.free_energy(energy, 4.0, 3, rank, widths)
    assert F(X) == pytest.approx(energy(X) - space.entropy(X) / 4, rel=1e-13)
    result = diagnostics.check_hessian(pymanopt_problem(space, F))
    assert result, result.message


def test_free_energy():
    X = np.random.normal(size=(N, N))
    energy = LOSSES["regression"][0]
    F = costs.free_energy(energy, 4.0, 3)
    assert F(X) == pytest.approx(energy(X) - costs.Entropy(3)(X) / 4, rel=1e-14)
    assert costs.free_energy(energy, np.inf, 3) is energy


@pytest.mark.parametrize("name", [*LOSSES, "free energy"])
def test_batches(name):
    cost = LOSSES[name][0] if name in LOSSES else all_costs(3)[name]
    X, Z = np.random.normal(size=(2, 3, 2, N, N))
    values, gradients = cost(X), cost.euclidean_gradient(X)
    images = cost.euclidean_hessian(X, Z)
    for k in np.ndindex(3, 2):
        assert_allclose(values[k], cost(X[k]), rtol=1e-12)
        assert_allclose(gradients[k], cost.euclidean_gradient(X[k]), rtol=0, atol=1e-12)
        assert_allclose(images[k], cost.euclidean_hessian(X[k], Z[k]), rtol=0, atol=1e-10)
    W, V = np.random.normal(size=(2, 3, 2, N, N))
    upstairs = costs.OfLayers(cost)
    for k in range(3):
        assert_allclose(upstairs(W)[k], upstairs(W[k]), rtol=1e-12)
        together = upstairs.euclidean_hessian(W, V)[k]
        alone = upstairs.euclidean_hessian(W[k], V[k])
        assert_allclose(together, alone, rtol=0, atol=1e-10 * np.abs(alone).max())


def test_gradient_of_layers_is_horizontal_at_balanced_points():
    space = BalancedManifold(N, 3)
    W = space.random_point()
    gradient = costs.OfLayers(LOSSES["sensing"][0]).euclidean_gradient(W)
    horizontal = space.horizontal_projection(gradient, W)
    assert_allclose(horizontal, gradient, rtol=0, atol=1e-12 * np.abs(gradient).max())


def test_entries_that_are_not_seen_do_not_matter():
    target = np.where(SEEN, TARGET, np.nan)
    X = np.random.normal(size=(N, N))
    assert costs.MatrixCompletion(target, SEEN)(X) == LOSSES["completion"][0](X)


def test_regression_keeps_its_digits_and_shape():
    # the squares of these inputs differ by less than rounding
    inputs = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-9], [1.0, 1.0]])
    exact = np.array([[2.0, -1.0]])
    cost = costs.LinearRegression(inputs, inputs @ exact.T)
    assert cost(exact) <= 1e-30
    assert cost(exact + np.array([[1.0, -1.0]])) == pytest.approx(1e-18 / 6, rel=1e-6)
    assert cost.euclidean_gradient(exact).shape == (1, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: costs.MatrixCompletion(np.eye(2), np.eye(3)),
        lambda: costs.MatrixCompletion(np.eye(2), -np.eye(2)),
        lambda: costs.MatrixCompletion([[np.nan, 1.0]], [[1, 0]]),
        lambda: costs.MatrixSensing(OPERATORS, MEASUREMENTS[1:]),
        lambda: costs.MatrixSensing(OPERATORS[0], MEASUREMENTS),
        lambda: costs.LinearRegression(INPUTS, OUTPUTS[1:]),
        lambda: costs.LinearRegression(np.full((3, 2), np.inf), np.ones((3, 1))),
        lambda: costs.Entropy(0.5),
        lambda: costs.Entropy(np.nan),
        lambda: costs.Entropy(2, widths=(4, 3, 3, 4)),
        lambda: costs.Entropy(3, 4, widths=(4, 3, 3, 4)),
        lambda: costs.free_energy(LOSSES["sensing"][0], 0, 2),
    ],
)
def test_wrong_data_are_refused(make):
    with pytest.raises(ValueError, match=r"\w"):
        make()


def test_costs_combine_with_numbers_and_costs_only():
    with pytest.raises(TypeError):
        LOSSES["sensing"][0] + 1
    with pytest.raises(TypeError):
        LOSSES["sensing"][0] * "a"
    with pytest.raises(TypeError):
        LOSSES["sensing"][0] - np.eye(2)


SMALL = costs.MatrixCompletion(np.eye(3), np.ones((3, 3)))
REGRESSION_3 = costs.LinearRegression(np.ones((5, 3)), np.ones((5, 3)))
FRECHET_3 = costs.FrechetVariance(np.eye(3)[None], 3)


def layers_of(loss):
    return costs.OfLayers(loss)


@pytest.mark.parametrize(
    ("manifold", "cost", "kind", "message"),
    [
        (BalancedManifold(3, 2), SMALL, TypeError, "matrices X.*layers W.*OfLayers"),
        (DLNObservableManifold(3, 2), layers_of(SMALL), TypeError, "layers W.*matrices X"),
        (DLNObservableManifold(3, 2), layers_of(costs.Entropy(2)), TypeError, "layers W"),
        (DLNObservableManifold(4, 2), SMALL, ValueError, r"\(3, 3\).*\(4, 4\)"),
        (DLNObservableManifold(3, 2), LOSSES["sensing"][0], ValueError, r"\(4, 4\).*\(3, 3\)"),
        (DLNObservableManifold(4, 2), REGRESSION_3, ValueError, r"\(3, 3\).*\(4, 4\)"),
        (BalancedManifold(4, 2), layers_of(SMALL), ValueError, r"\(3, 3\).*\(4, 4\)"),
        (BalancedManifold(4, 2), layers_of(2 * SMALL), ValueError, r"\(3, 3\).*\(4, 4\)"),
        (BalancedManifold(3, 2), layers_of(costs.Entropy(3)), ValueError, "depth 3.*depth 2"),
        (DLNObservableManifold(3, 2.5), costs.Entropy(3), ValueError, "depth 3.*depth 2.5"),
        (DLNObservableManifold(3, 2), FRECHET_3, ValueError, "depth 3.*depth 2"),
        (
            BalancedManifold(3, 2),
            layers_of(costs.free_energy(SMALL, 5.0, 3)),
            ValueError,
            "depth 3.*depth 2.*entropy",
        ),
        (
            DLNObservableManifold(3, 2),
            costs.free_energy(SMALL, 5.0, 3),
            ValueError,
            "depth 3.*depth 2",
        ),
        (BalancedManifold(3, 2), lambda W: 0.0, TypeError, r"Cost.*pymanopt\.Problem"),
    ],
)
def test_costs_that_do_not_fit_the_manifold_are_refused_at_once(manifold, cost, kind, message):
    with pytest.raises(kind, match=message):
        pymanopt_problem(manifold, cost)


@pytest.mark.parametrize(
    ("shape", "cost", "kind", "message"),
    [
        ((2, 4, 4), layers_of(SMALL), ValueError, r"\(3, 3\).*shape \(2, 4, 4\)"),
        ((3, 3), layers_of(SMALL), TypeError, "layers W.*matrices X"),
        ((2, 3, 3), SMALL, TypeError, "matrices X.*layers W"),
        ((2, 3, 3), layers_of(costs.free_energy(SMALL, 5.0, 3)), ValueError, "depth 3.*depth 2"),
    ],
)
def test_costs_that_do_not_fit_other_manifolds_are_refused_at_the_start(shape, cost, kind, message):
    space = Euclidean(*shape)
    problem = pymanopt_problem(space, cost)
    with pytest.raises(kind, match=message):
        TrustRegions(verbosity=0).run(problem, initial_point=np.ones(shape))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: SMALL + LOSSES["sensing"][0], ValueError, r"\(3, 3\).*\(4, 4\)"),
        (lambda: SMALL + layers_of(SMALL), TypeError, "matrices X.*layers W"),
        (lambda: costs.Entropy(2) - costs.Entropy(3), ValueError, "depth 2.*depth 3"),
        (lambda: costs.free_energy(layers_of(SMALL), 5.0, 3), TypeError, "layers W"),
        (lambda: layers_of(layers_of(SMALL)), TypeError, "matrices X.*layers W"),
        (lambda: layers_of(lambda X: 0.0), TypeError, "not function"),
    ],
)
def test_costs_that_do_not_fit_each_other_are_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


class WeightDecay(costs.Cost):
    """A cost of somebody else, which does not say what it takes."""

    def __call__(self, point):
        return np.asarray(0.5 * np.sum(point**2, axis=(-3, -2, -1)))[()]

    def euclidean_gradient(self, point):
        return point

    def euclidean_hessian(self, point, vector):
        return vector


def test_costs_of_others_may_leave_open_what_they_take():
    cost = layers_of(costs.free_energy(SMALL, 5.0, 2)) + 0.1 * WeightDecay()
    domain = costs.Domain(True, (3, 3), 2.0, rank=np.inf, hidden=(), flat=False)
    assert cost.domain == domain
    assert set(WeightDecay().domain) == {None}
    space = BalancedManifold(3, 2)
    assert diagnostics.check_hessian(pymanopt_problem(space, cost))
    with pytest.raises(ValueError, match="depth 2"):
        pymanopt_problem(BalancedManifold(3, 3), cost)


def test_a_cost_that_is_no_number_is_refused():
    class Vector(WeightDecay):
        def __call__(self, point):
            return np.ones(2)

    space = BalancedManifold(3, 2)
    problem = pymanopt_problem(space, Vector())
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        problem.cost(space.random_point())


@pytest.mark.parametrize("solver", [TrustRegions, ParticleSwarm])
def test_starts_of_another_shape_or_not_finite_are_refused(solver):
    problem = pymanopt_problem(BalancedManifold(3, 2), layers_of(SMALL))
    for start, message in (
        (np.ones((3, 3, 3)), r"shape \(3, 3, 3\)"),
        (np.ones((2, 4, 4)), r"shape \(2, 4, 4\)"),
        (np.full((2, 3, 3), np.nan), "not finite"),
    ):
        swarm = {"initial_point": [start] * 4 if solver is ParticleSwarm else start}
        with pytest.raises(ValueError, match=message):
            solver(verbosity=0).run(problem, **swarm)


def test_inputs_are_left_alone_and_results_are_new():
    W, V = np.random.normal(size=(2, 3, N, N))
    W.flags.writeable = V.flags.writeable = False
    cost = costs.OfLayers(all_costs(3)["free energy"])
    first = cost.euclidean_gradient(W)
    kept = first.copy()
    first[:] = 0
    assert_array_equal(cost.euclidean_gradient(W), kept)
    image = cost.euclidean_hessian(W, V)
    kept = image.copy()
    image[:] = 0
    assert_array_equal(cost.euclidean_hessian(W, V), kept)


def test_values_follow_points_that_are_overwritten():
    cost = costs.OfLayers(all_costs(3)["free energy"])
    W, other = np.random.normal(size=(2, 3, N, N))
    before = cost.euclidean_gradient(W)
    W[...] = other
    assert_array_equal(cost.euclidean_gradient(W), cost.euclidean_gradient(other))
    assert np.abs(before - cost.euclidean_gradient(W)).max() > 0.1


def test_trust_regions_train_with_the_free_energy():
    target = np.diag([3.0, 2.0, 1.0])
    loss = costs.MatrixCompletion(target, np.ones((3, 3)))
    space = BalancedManifold(3, 3)
    problem = pymanopt_problem(space, costs.OfLayers(costs.free_energy(loss, 20.0, 3)))
    result = TrustRegions(verbosity=0, min_gradient_norm=1e-9).run(
        problem, initial_point=space.factor(np.eye(3))
    )
    assert result.gradient_norm <= 1e-9
    # downstairs the same free energy is stationary
    down = DLNObservableManifold(3, 3)
    X = space.end_to_end(result.point)
    below = pymanopt_problem(down, costs.free_energy(loss, 20.0, 3))
    assert down.norm(X, below.riemannian_gradient(X)) <= 1e-8


def test_other_manifolds_take_the_costs_too():
    problem = pymanopt_problem(Euclidean(2, N, N), costs.OfLayers(LOSSES["sensing"][0]))
    assert diagnostics.check_hessian(problem)


# The memo


def test_memo_computes_once_per_content():
    calls = []

    def count(array):
        calls.append(array)
        return array.sum()

    memo = PointMemo(count, size=2)
    a, b, c = np.ones(3), np.ones((3, 1)), np.zeros(3)
    assert [memo(a), memo(a.copy()), memo(b), memo(a)] == [3, 3, 3, 3]
    assert len(calls) == 2
    a[0] = 5
    assert memo(a) == 7
    assert memo(c) == 0
    memo(np.ones(3))  # forgotten by now
    assert len(calls) == 5
    assert len(memo._entries) == 2


def test_memo_is_empty_after_a_copy():
    cost = costs.Entropy(3)
    X = np.random.normal(size=(N, N))
    value = cost.euclidean_gradient(X)
    for other in (copy.deepcopy(cost), pickle.loads(pickle.dumps(cost))):
        assert other._frames._entries == ()
        assert_array_equal(other.euclidean_gradient(X), value)


def test_threads_share_a_cost():
    cost = costs.OfLayers(all_costs(3)["free energy"])
    points = np.random.normal(size=(6, 3, N, N))
    wanted = [cost.euclidean_gradient(W) for W in points]
    wrong = []

    def work(offset):
        for k in range(120):
            at = (k + offset) % 6
            if not np.array_equal(cost.euclidean_gradient(points[at]), wanted[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Decorators, and products


def make_cost(decorator, space, of):
    @decorator(space)
    def cost(W):
        X = W[2] @ W[1] @ W[0]
        return 0.5 * ((X - of) ** 2).sum()

    return cost


@pytest.mark.parametrize("backend", ["autograd", "jax", "pytorch"])
def test_decorators_agree_with_exact_derivatives(backend):
    library = {"jax": "jax", "pytorch": "torch"}.get(backend)
    target = TARGET
    if library is not None:
        module = pytest.importorskip(library)
        target = module.from_numpy(TARGET) if backend == "pytorch" else TARGET
    space = BalancedManifold(N, 3)
    decorator = getattr(pymanopt.function, backend)
    problem = pymanopt.Problem(space, make_cost(decorator, space, target))
    exact = pymanopt_problem(space, costs.OfLayers(costs.MatrixCompletion(TARGET, np.ones((N, N)))))
    W = space.random_point()
    V = space.random_tangent_vector(W)
    assert_allclose(problem.cost(W), exact.cost(W), rtol=1e-12)
    for name, arguments in (("riemannian_gradient", (W,)), ("riemannian_hessian", (W, V))):
        wanted = getattr(exact, name)(*arguments)
        found = getattr(problem, name)(*arguments)
        assert type(found) is np.ndarray
        assert found.dtype == np.float64
        assert_allclose(found, wanted, rtol=0, atol=1e-11)
    result = TrustRegions(verbosity=0, max_iterations=5).run(problem, initial_point=W)
    assert result.cost < exact.cost(W)


def test_product_of_our_manifolds_with_another():
    layers, matrix = BalancedManifold(2, 2), DLNObservableManifold(2, 3)
    space = Product([layers, matrix, Sphere(2)])

    @pymanopt.function.autograd(space)
    def cost(W, X, u):
        return ((W[1] @ W[0] @ u - X @ u) ** 2).sum() + ((X - np.diag([2.0, 1.0])) ** 2).sum()

    result = TrustRegions(verbosity=0, min_gradient_norm=1e-8).run(pymanopt.Problem(space, cost))
    W, X, u = result.point
    assert result.cost <= 1e-12
    assert layers.belongs(W)
    assert_allclose(X @ u, layers.end_to_end(W) @ u, atol=1e-6)


def test_particle_swarm_in_a_product():
    # (pymanopt 2.2.1 cannot run NelderMead in a product, of whatever manifolds)
    layers, matrix = BalancedManifold(1, 2), DLNObservableManifold(1, 3)
    space = Product([layers, matrix])

    @pymanopt.function.numpy(space)
    def cost(W, X):
        return (layers.end_to_end(W).item() - 1.2) ** 2 + (X.item() - 0.9) ** 2

    start = [space.random_point() for _ in range(3)]
    solver = ParticleSwarm(verbosity=0, max_iterations=3, population_size=3)
    result = solver.run(pymanopt.Problem(space, cost), initial_point=list(start))
    W, X = result.point
    assert layers.belongs(W)
    assert matrix.belongs(X)
    assert result.cost <= min(cost(*point) for point in start)
