"""Costs of layers of unequal widths, and which networks they take."""

from itertools import pairwise

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.optimizers import TrustRegions

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    InvalidPointError,
    costs,
    diagnostics,
    pymanopt_problem,
)
from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.layer_stratum import LayerStratum

NETWORKS = [((4, 3, 5), 3), ((3, 5, 3), 3), ((5, 2, 4), 1), ((5, 2, 4), 2), ((4, 3, 5, 4), 3)]
of_all_networks = pytest.mark.parametrize(("widths", "rank"), NETWORKS, ids=str)


def losses(widths):
    """Return losses of all kinds, and the same literally."""
    columns, *_, rows = widths
    target = np.random.normal(size=(rows, columns))
    operators = np.random.normal(size=(7, rows, columns))
    measured = np.random.normal(size=7)
    seen = np.random.uniform(size=target.shape)
    inputs, outputs = np.random.normal(size=(9, columns)), np.random.normal(size=(9, rows))
    return {
        "completion": (
            costs.MatrixCompletion(target, seen),
            lambda X: 0.5 * anp.sum(seen * (X - target) ** 2),
        ),
        "sensing": (
            costs.MatrixSensing(operators, measured),
            lambda X: (
                0.5
                * sum(
                    (anp.trace(a.T @ X) - b) ** 2 for a, b in zip(operators, measured, strict=True)
                )
            ),
        ),
        "regression": (
            costs.LinearRegression(inputs, outputs),
            lambda X: (
                0.5
                * sum(anp.sum((X @ x - y) ** 2) for x, y in zip(inputs, outputs, strict=True))
                / 9
            ),
        ),
    }


def literal_product(flat, widths):
    """Multiply layers cut out of a vector one after the other."""
    X, start = anp.eye(widths[0]), 0
    for before, after in pairwise(widths):
        X = anp.reshape(flat[start : start + after * before], (after, before)) @ X
        start += after * before
    return X


@of_all_networks
@pytest.mark.parametrize("name", ["completion", "sensing", "regression"])
def test_values_and_derivatives_are_those_of_the_literal_product(widths, rank, name):
    cost, literal = losses(widths)[name]
    of_layers = costs.OfLayers(cost, widths)
    W, V = np.random.normal(size=(2, *chain_of(widths).array_shape))
    assert_allclose(of_layers(W), literal(literal_product(W, widths)), rtol=1e-12)
    gradient = grad(lambda w: literal(literal_product(w, widths)))
    wanted = gradient(W)
    found = of_layers.euclidean_gradient(W)
    assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    wanted = grad(lambda w: anp.sum(gradient(w) * V))(W)
    found = of_layers.euclidean_hessian(W, V)
    assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def differences(function, X, Z, h=1e-3):
    """Return the directional derivative, by differences of order six."""
    weights = np.array([-1, 9, -45, 45, -9, 1]) / 60
    steps = h * np.array([-3, -2, -1, 1, 2, 3])
    return sum(w * function(X + t * Z) for w, t in zip(weights, steps, strict=True)) / h


@of_all_networks
def test_free_energy_by_differences(widths, rank):
    stratum = LayerStratum.of(widths=widths, rank=rank)
    draws = np.random.default_rng(3)
    W = stratum.draw(1, 0.5, lambda size: draws.uniform(size=size), draws.standard_normal)[0]
    loss, _ = losses(widths)["sensing"]
    energy = costs.free_energy(loss, 3.0, len(widths) - 1, rank, widths)
    cost = costs.OfLayers(energy, widths)
    # Below full rank the entropy is one of matrices of that rank.
    frame = Frame.of_layers(W, stratum.chain, rank)
    V = sectors.tangent_part(frame, draws.normal(size=W.shape))
    slope = differences(cost, W, V)
    assert np.sum(cost.euclidean_gradient(W) * V) == pytest.approx(slope, rel=1e-8)
    image = differences(cost.euclidean_gradient, W, V)
    found = cost.euclidean_hessian(W, V)
    assert_allclose(found, image, rtol=0, atol=1e-8 * np.abs(image).max())


@of_all_networks
def test_gradient_at_balanced_layers_is_horizontal(widths, rank):
    stratum = LayerStratum.of(widths=widths, rank=rank)
    draws = np.random.default_rng(4)
    W = stratum.draw(2, 0.5, lambda size: draws.uniform(size=size), draws.standard_normal)
    gradient = costs.OfLayers(losses(widths)["completion"][0], widths).euclidean_gradient(W)
    horizontal = sectors.horizontal_part(Frame.of_layers(W, stratum.chain, rank), gradient)
    assert_allclose(horizontal, gradient, rtol=0, atol=1e-13 * np.abs(gradient).max())


@of_all_networks
def test_batches(widths, rank):
    cost = costs.OfLayers(losses(widths)["completion"][0], widths)
    W, V = np.random.normal(size=(2, 3, 2, *chain_of(widths).array_shape))
    values, gradients = cost(W), cost.euclidean_gradient(W)
    images = cost.euclidean_hessian(W, V)
    for k in np.ndindex(3, 2):
        assert_allclose(values[k], cost(W[k]), rtol=1e-13)
        assert_allclose(gradients[k], cost.euclidean_gradient(W[k]), rtol=0, atol=1e-12)
        assert_allclose(images[k], cost.euclidean_hessian(W[k], V[k]), rtol=0, atol=1e-12)


def test_equal_widths_may_be_named():
    loss = losses((3, 3, 3))["sensing"][0]
    W = np.random.normal(size=(2, 3, 3))
    named, plain = costs.OfLayers(loss, (3, 3, 3)), costs.OfLayers(loss)
    assert_array_equal(named.euclidean_gradient(W), plain.euclidean_gradient(W))
    with pytest.raises(InvalidPointError, match=r"shape \(3, 3, 3\).*\(2, 3, 3\).*\(3, 3, 3\)"):
        named(np.ones((3, 3, 3)))


def test_layers_of_another_size_are_refused():
    loss = losses((4, 3, 5))["completion"][0]
    for bad in (np.ones(26), np.ones((2, 28)), np.ones((2, 4, 4))):
        with pytest.raises(InvalidPointError, match=r"must be \(27\).*widths \(4, 3, 5\)"):
            costs.OfLayers(loss, (4, 3, 5))(bad)
    with pytest.raises(InvalidPointError, match=r"vector has shape \(26,\)"):
        costs.OfLayers(loss, (4, 3, 5)).euclidean_hessian(np.ones(27), np.ones(26))
    with pytest.raises(InvalidPointError, match=r"shape \(27,\).*give OfLayers their widths="):
        costs.OfLayers(loss)(np.ones(27))


@pytest.mark.parametrize(
    ("widths", "kind", "message"),
    [
        ((5, 3, 4), ValueError, r"\(4, 5\).*\(5, 4\)"),
        ((4, 5), ValueError, "depth 1.*depth 2"),
        ((4,), ValueError, "at least 2"),
        ((4, 0, 5), ValueError, r"widths\[1\]"),
        ((4, 2.0, 5), TypeError, r"widths\[1\]"),
        (4, TypeError, "widths"),
        ((4, 6, 5), ValueError, r"hidden widths \(6,\).*hidden widths \(3,\)"),
    ],
)
def test_widths_that_do_not_fit(widths, kind, message):
    energy = costs.free_energy(losses((4, 3, 5))["completion"][0], 2.0, 2, widths=(4, 3, 5))
    with pytest.raises(kind, match=message):
        costs.OfLayers(energy, widths)


FULL, WIDE = DLNObservableManifold(shape=(4, 5), depth=2), DLNObservableManifold(widths=(5, 6, 4))
LOW = DLNObservableManifold(shape=(4, 5), rank=2, depth=2)


@pytest.mark.parametrize(
    ("manifold", "cost", "message"),
    [
        (LOW, costs.Entropy(2), "rank 4.*rank 2"),
        (FULL, costs.Entropy(2, rank=3), "rank 3.*rank 4"),
        (LOW, 2 * costs.Entropy(2, rank=3), "rank 3.*rank 2"),
        (WIDE, costs.Entropy(2), r"hidden widths \(4,\).*hidden widths \(6,\)"),
        (FULL, costs.Entropy(2, widths=(5, 6, 4)), r"hidden widths \(6,\).*hidden widths \(4,\)"),
        (LOW, costs.FrechetVariance(np.eye(4, 5)[None], 2), "rank 4.*rank 2"),
    ],
)
def test_ranks_and_widths_that_differ_from_those_of_the_manifold(manifold, cost, message):
    with pytest.raises(ValueError, match=message):
        pymanopt_problem(manifold, cost)


def test_ranks_and_widths_of_terms_differ():
    with pytest.raises(ValueError, match=r"rank 2.*rank 3"):
        costs.Entropy(2, rank=2) - costs.Entropy(2, rank=3)
    with pytest.raises(ValueError, match=r"hidden widths \(4,\).*hidden widths \(6,\)"):
        costs.Entropy(2) + costs.Entropy(2, widths=(5, 6, 4))
    # The same network, said in two ways.
    costs.Entropy(2) + costs.Entropy(2, widths=(5, 4, 4)) + costs.Entropy(2, rank=4)
    costs.Entropy(2.5) + costs.Entropy(2.5)
    loss = losses((4, 3, 5))["completion"][0]
    with pytest.raises(TypeError, match=r"in one vector.*\(N, n, n\).*widths="):
        costs.OfLayers(loss, (4, 3, 5)) + costs.OfLayers(loss)


@pytest.mark.parametrize(
    ("manifold", "network"),
    [
        (FULL, {"depth": 2}),
        (LOW, {"depth": 2, "rank": 2}),
        (WIDE, {"depth": 2, "widths": (5, 6, 4)}),
        (DLNObservableManifold(shape=(4, 5), depth=2.5), {"depth": 2.5, "rank": 4}),
    ],
)
def test_ranks_and_widths_that_are_the_same(manifold, network):
    loss = losses((5, 4))["completion"][0]
    problem = pymanopt_problem(manifold, costs.free_energy(loss, 2.0, **network))
    assert diagnostics.check_hessian(problem)


def check_slopes(problem, W, V, tolerance, h=1e-2):
    """Compare gradient and Hessian with the cost along a retraction of second order."""
    steps = h * np.arange(-3, 4)
    values = np.array([problem.cost(problem.manifold.retraction(W, t * V)) for t in steps])
    slope = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60 @ values / h
    bend = np.array([2, -27, 270, -490, 270, -27, 2]) / 180 @ values / h**2
    gradient, image = problem.riemannian_gradient(W), problem.riemannian_hessian(W, V)
    assert abs(np.sum(gradient * V) - slope) <= tolerance * np.linalg.norm(gradient)
    assert abs(np.sum(image * V) - bend) <= tolerance * np.linalg.norm(image)
    for vector in (gradient, image):
        assert_allclose(
            problem.manifold.to_tangent(vector, W), vector, atol=1e-12 * np.abs(vector).max()
        )


UPSTAIRS = [*NETWORKS, ((5, 4), 4), ((5, 4), 2), ((3, 3, 3), 2), ((6, 4, 4, 6), 2)]


@pytest.mark.parametrize(("widths", "rank"), UPSTAIRS, ids=str)
@pytest.mark.parametrize("kind", ["loss", "free energy"])
def test_slopes_on_balanced_layers(widths, rank, kind):
    space = BalancedManifold(widths=widths, rank=rank)
    cost, _ = losses(widths)["sensing"]
    if kind == "free energy":
        cost = costs.free_energy(cost, 2.0, len(widths) - 1, rank, widths)
    problem = pymanopt_problem(space, costs.OfLayers(cost, widths))
    W = space.random_point(bound=0.5)
    V, other = (space.random_tangent_vector(W) for _ in range(2))
    check_slopes(problem, W, V, 1e-6)
    images = [problem.riemannian_hessian(W, vector) for vector in (V, other)]
    mixed = np.sum(images[0] * other) - np.sum(images[1] * V)
    assert abs(mixed) <= 1e-11 * np.linalg.norm(images[0])
    # Downstairs the same function: its gradient is the push-forward of that upstairs.
    below = DLNObservableManifold(widths=widths, rank=rank)
    X = space.end_to_end(W)
    pushed = space.push_forward(problem.riemannian_gradient(W), W)
    wanted = pymanopt_problem(below, cost).riemannian_gradient(X)
    assert_allclose(pushed, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("space", "cost", "kind", "message"),
    [
        ((4, 3, 5), lambda loss: costs.OfLayers(loss), TypeError, r"widths=\(d_0"),
        ((4, 3, 5), lambda loss: loss, TypeError, "OfLayers"),
        (
            (4, 6, 5),
            lambda loss: costs.OfLayers(loss, (4, 3, 5)),
            ValueError,
            r"hidden widths \(3,\).*hidden widths \(6,\)",
        ),
        (
            (4, 6, 5),
            lambda loss: costs.OfLayers(loss, (4, 6, 6, 5)),
            ValueError,
            "depth 3.*depth 2",
        ),
        (
            (4, 6, 3),
            lambda loss: costs.OfLayers(loss, (4, 6, 5)),
            ValueError,
            r"\(5, 4\).*\(3, 4\)",
        ),
    ],
)
def test_layers_that_are_not_those_of_the_manifold(space, cost, kind, message):
    with pytest.raises(kind, match=message):
        pymanopt_problem(BalancedManifold(widths=space), cost(losses((4, 5))["sensing"][0]))


def test_ranks_of_layers_that_are_not_those_of_the_manifold():
    total = BalancedManifold(widths=(4, 6, 5), rank=2)
    for cost, message in (
        (costs.Entropy(2, widths=(4, 6, 5)), "rank 4.*rank 2"),
        (costs.Entropy(2, rank=2), r"hidden widths \(6,\).*hidden widths \(2,\)"),
        (costs.FrechetVariance(np.eye(5, 4)[None], 2), "rank 4.*rank 2"),
    ):
        with pytest.raises(ValueError, match=message):
            pymanopt_problem(total, costs.OfLayers(cost, (4, 6, 5)))


def test_frechet_variance_of_layers():
    widths, rank = (3, 2, 4), 1
    total = BalancedManifold(widths=widths, rank=rank)
    below = DLNObservableManifold(widths=widths, rank=rank)
    data = below.random_point(2, bound=0.3)
    variance = costs.FrechetVariance(data, 2, [1, 2], rank=rank, tolerance=1e-10)
    problem = pymanopt_problem(total, costs.OfLayers(variance, widths))
    start = total.factor(data[0])
    check_slopes(problem, start, total.random_tangent_vector(start), 1e-4)
    result = TrustRegions(verbosity=0, min_gradient_norm=1e-7).run(problem, initial_point=start)
    assert result.gradient_norm <= 1e-7
    # Two thirds of the way.
    wanted = below.metric.geodesic(data[0], end_point=data[1])(2 / 3)[0]
    assert_allclose(total.end_to_end(result.point), wanted, rtol=0, atol=1e-7)


def test_bounds_are_those_of_the_end_to_end_matrix():
    widths = (3, 2, 4)
    below = DLNObservableManifold(widths=widths)
    variance = costs.FrechetVariance(below.random_point(2), 2, rank=2)
    total, of_layers = BalancedManifold(widths=widths), costs.OfLayers(variance, widths)
    W = total.random_point()
    assert of_layers.lower_bound(W) == variance.lower_bound(total.end_to_end(W)) > 0
    assert (3 * of_layers).lower_bound(W) == 3 * of_layers.lower_bound(W)
    assert costs.OfLayers(costs.Entropy(2)).lower_bound(np.ones((2, 3, 3))) == -np.inf
    # Trials far out are refused by it, without logarithms.
    problem = pymanopt_problem(total, of_layers)
    problem.riemannian_gradient(W)
    far = 1e4 * W
    assert problem.cost(far) == of_layers.lower_bound(far) > 1e3 * problem.cost(W)
