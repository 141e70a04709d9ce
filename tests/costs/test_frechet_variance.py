"""The Fréchet variance: distances, slopes, and its minimizer by trust regions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pymanopt.optimizers import TrustRegions

from dln_manifolds import (
    BalancedManifold,
    DisconnectedPointsError,
    DLNObservableManifold,
    IncompleteGeodesicError,
    costs,
    diagnostics,
    pymanopt_problem,
)
from dln_manifolds.geometry.frame import Frame


def data(n, depth, count=3):
    space = DLNObservableManifold(n, depth)
    return space, space.random_point(count)


def test_value_and_gradient_are_those_of_the_metric():
    space, points = data(2, 3)
    X, weights = space.random_point(), np.array([1.0, 2.0, 1.0])
    cost = costs.FrechetVariance(points, 3, weights)
    distances = np.array([space.dist(X, Y) for Y in points])
    assert cost(X) == pytest.approx(np.dot(weights, distances**2) / 4, rel=1e-10)
    gradient = space.euclidean_to_riemannian_gradient(X, cost.euclidean_gradient(X))
    logs = np.stack([space.log(X, Y) for Y in points])
    wanted = -2 * np.einsum("k,kij->ij", weights / 4, logs)
    assert_allclose(gradient, wanted, rtol=0, atol=1e-9)


SLOW = pytest.param(3, 3, marks=pytest.mark.slow)


def differences(function, X, Z, h=1e-3):
    """Return the directional derivative, by differences of order six."""
    weights = np.array([-1, 9, -45, 45, -9, 1]) / 60
    steps = h * np.array([-3, -2, -1, 1, 2, 3])
    return sum(w * function(X + t * Z) for w, t in zip(weights, steps, strict=True)) / h


@pytest.mark.parametrize(("n", "depth"), [(1, 2), (2, 1), (2, 2.5), SLOW])
def test_derivatives_by_differences(n, depth):
    space, points = data(n, depth, 2)
    if depth == 1:  # straight lines leave GL(n) easily
        points = np.eye(n) + 0.3 * points
    cost = costs.FrechetVariance(points, depth)
    for X in (np.eye(n) + 0.3 * space.random_point(), 1.1 * np.eye(n)):
        Z, Y = np.random.normal(size=(2, n, n))
        slope = differences(cost, X, Z)
        assert np.sum(cost.euclidean_gradient(X) * Z) == pytest.approx(slope, rel=1e-6, abs=1e-8)
        image = cost.euclidean_hessian(X, Z)
        bound = 1e-6 * np.abs(image).max()
        assert_allclose(image, differences(cost.euclidean_gradient, X, Z), rtol=0, atol=bound)
        mixed = np.sum(image * Y) - np.sum(Z * cost.euclidean_hessian(X, Y))
        assert abs(mixed) <= 1e-7 * np.linalg.norm(image) * np.linalg.norm(Y)


def test_trust_regions_find_the_mean():
    # newton steps end at a gradient norm that FrechetMean does not reach
    space, points = data(2, 3)
    problem = pymanopt_problem(space, costs.FrechetVariance(points, 3, tolerance=1e-10))
    result = TrustRegions(verbosity=0, min_gradient_norm=1e-8).run(problem, initial_point=points[0])
    assert result.gradient_norm <= 1e-8
    assert result.iterations <= 8
    mean_log = np.mean([space.log(result.point, Y) for Y in points], axis=0)
    assert space.norm(result.point, mean_log) <= 1e-8


def test_variance_of_layers():
    _, points = data(2, 2, 2)
    total = BalancedManifold(2, 2)
    cost = costs.FrechetVariance(points, 2)
    upstairs = costs.OfLayers(cost)
    W = total.factor(np.diag([1.5, 0.8]))
    V = total.random_tangent_vector(W)
    assert upstairs(W) == cost(total.end_to_end(W))
    slope = differences(upstairs, W, V)
    assert np.sum(upstairs.euclidean_gradient(W) * V) == pytest.approx(slope, rel=1e-7)


def test_data_out_of_reach_are_refused():
    straight = costs.FrechetVariance(np.eye(2)[None], 1)
    with pytest.raises(IncompleteGeodesicError):
        straight(-np.eye(2))
    cost = costs.FrechetVariance(np.eye(2)[None], 2)
    with pytest.raises(DisconnectedPointsError):
        cost(np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="weights"):
        costs.FrechetVariance(np.eye(2)[None], 2, [-1.0])
    with pytest.raises(ValueError, match="shape"):
        costs.FrechetVariance(np.eye(2), 2)
    with pytest.raises(ValueError, match="One point"):
        cost(np.stack([np.eye(2)] * 2))


def test_free_energy_of_the_variance():
    space = DLNObservableManifold(2, 3)
    variance = costs.FrechetVariance(space.random_point(3, bound=0.3), 3)
    cost = costs.free_energy(variance, 2.0, 3)
    result = diagnostics.check_hessian(pymanopt_problem(space, cost), space.random_point(bound=0.3))
    assert result, result.message
    assert abs(result.slope - 3) <= 0.1, result.message


@pytest.mark.parametrize(("m", "n", "rank", "depth"), [(4, 3, 2, 3), (4, 4, 2, 2), (5, 3, 3, 2.5)])
def test_derivatives_at_lower_rank(m, n, rank, depth):
    rng = np.random.default_rng(1)
    C = rng.normal(size=(4, m, rank)) @ rng.normal(size=(4, rank, n))
    cost = costs.FrechetVariance(C, depth, rank=rank)
    X = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))
    frame = Frame.of_point(X, depth, rank)
    Z, W = (frame.assemble(frame.blocks(rng.normal(size=(m, n)))) for _ in range(2))

    def moved(step):
        there = Frame.of_point(X + step * Z, depth, rank)
        return there.compose(there.values)

    ends = moved(1e-5), moved(-1e-5)
    slope = (cost(ends[0]) - cost(ends[1])) / 2e-5
    assert_allclose(np.sum(cost.euclidean_gradient(X) * Z), slope, rtol=1e-8)
    change = (cost.euclidean_gradient(ends[0]) - cost.euclidean_gradient(ends[1])) / 2e-5
    assert_allclose(np.sum(cost.euclidean_hessian(X, Z) * W), np.sum(change * W), rtol=1e-6)
    assert cost.lower_bound(X) <= cost(X)
