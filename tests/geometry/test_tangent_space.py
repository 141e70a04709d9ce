"""The prepared tangent space against the batched sectors, and what solvers meet there."""

import copy
import pickle

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from balanced_reference import ROOTS, layers_of
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.manifolds import Product
from pymanopt.optimizers import ConjugateGradient, SteepestDescent, TrustRegions

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    InvalidPointError,
    costs,
    pymanopt_problem,
)
from dln_manifolds.geometry import sectors as jacobi
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import weingarten
from dln_manifolds.geometry.tangent_space import TangentSpace

DEPTHS = [1, 2, 3, 8]


@pytest.fixture(params=[(k, d) for k in ROOTS for d in DEPTHS], ids=lambda p: f"{p[0]}-{p[1]}")
def setting(request):
    """Return layers, their frame and prepared tangent space."""
    layers = layers_of(ROOTS[request.param[0]], request.param[1])
    frame = Frame.of_layers(layers)
    return layers, frame, TangentSpace(frame)


def test_projection_is_that_of_the_sectors(setting):
    layers, frame, space = setting
    vector = np.random.normal(size=layers.shape)
    wanted = jacobi.tangent_part(frame, vector)
    assert_allclose(space.tangent_part(vector), wanted, rtol=0, atol=1e-13)
    inside = space.leave(space.project(space.enter(vector)))
    assert_allclose(inside, wanted, rtol=0, atol=1e-13)


def test_hessian_is_projection_plus_weingarten_map(setting):
    layers, frame, space = setting
    gradient, second = np.random.normal(size=(2, *layers.shape))
    vector = jacobi.tangent_part(frame, np.random.normal(size=layers.shape))
    wanted = jacobi.tangent_part(frame, second) + weingarten(frame, vector, gradient)
    normal = space.normal_part(gradient)
    found = space.hessian(second, vector, normal)
    # the multiplier grows where roots are small, and V S - S V cancels
    size = 1 if normal is None else max(1, np.abs(normal.multiplier).max(initial=0))
    assert_allclose(found, wanted, rtol=0, atol=1e-13 * size * len(layers))


def test_only_rounding_is_taken_for_a_vanishing_normal_part(setting):
    layers, frame, space = setting
    gradient = np.random.normal(size=layers.shape)
    tangent = jacobi.tangent_part(frame, gradient)
    assert space.normal_part(tangent) is None
    if len(layers) > 1:
        normal = gradient - tangent
        assert space.normal_part(tangent + 1e-9 * normal) is not None


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["generic", "all equal", "nearly equal"])
def test_derivatives_inside_the_frames(kind, depth):
    # the same cost, once as pymanopt knows it and once where layers are diagonal
    manifold = BalancedManifold(3, depth)
    W = layers_of(ROOTS[kind], depth)
    V = manifold.random_tangent_vector(W)
    loss = costs.MatrixSensing(np.random.normal(size=(7, 3, 3)), np.random.normal(size=7))
    cost = costs.OfLayers(costs.free_energy(loss, 3.0, depth))
    problem = pymanopt_problem(manifold, cost)
    gradient, second = cost.euclidean_gradient(W), cost.euclidean_hessian(W, V)
    # the entropy feels the relative error of the smallest singular value of X
    rounding = 1e-14 * np.linalg.cond(manifold.end_to_end(W))
    plain = manifold.euclidean_to_riemannian_gradient(W, gradient)
    bound = rounding * np.abs(gradient).max()
    assert_allclose(problem.riemannian_gradient(W), plain, rtol=0, atol=bound)
    wanted = manifold.euclidean_to_riemannian_hessian(W, gradient, second, V)
    found = problem.riemannian_hessian(W, V)
    assert_allclose(found, wanted, rtol=0, atol=rounding * np.abs(second).max())


def test_points_are_decomposed_once(monkeypatch):
    manifold = BalancedManifold(3, 3)
    W = manifold.random_point()
    calls = []
    original = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda *a, **k: calls.append(1) or original(*a, **k))
    V = np.random.normal(size=W.shape)
    for _ in range(5):
        manifold.to_tangent_space(W, V)
        manifold.euclidean_to_riemannian_hessian(W, V, V, V)
    first = len(calls)
    assert first <= 2
    W[...] = layers_of([1.3, 1.0, 0.4], 3)
    manifold.to_tangent_space(W, V)
    assert len(calls) > first


@pytest.mark.parametrize("kind", [BalancedManifold, DLNObservableManifold])
def test_manifolds_that_have_been_used_can_be_copied(kind):
    manifold = kind(2, 3)
    point = manifold.random_point()
    vector = manifold.random_tangent_vector(point)
    for other in (copy.deepcopy(manifold), pickle.loads(pickle.dumps(manifold))):
        assert_array_equal(other.retraction(point, vector), manifold.retraction(point, vector))


SOLVERS = [
    SteepestDescent(verbosity=0, max_iterations=30),
    ConjugateGradient(verbosity=0, max_iterations=30),
    TrustRegions(verbosity=0, max_iterations=30),
]


@pytest.mark.parametrize("optimizer", SOLVERS, ids=lambda optimizer: type(optimizer).__name__)
@pytest.mark.parametrize("kind", [BalancedManifold, DLNObservableManifold])
def test_cost_that_becomes_nan_goes_nowhere(optimizer, kind):
    manifold = kind(2, 2)

    start = manifold.random_point()
    border = np.sum(start**2) + 1.0

    @pymanopt.function.autograd(manifold)
    def cost(point):
        # decreases until it stops to be a number
        return anp.sqrt(border - (point**2).sum())

    problem = pymanopt.Problem(manifold, cost)
    with np.errstate(all="ignore"):
        if isinstance(optimizer, TrustRegions):
            # the only solver that refuses such a step itself
            assert np.isfinite(optimizer.run(problem, initial_point=start).cost)
        else:
            with pytest.raises(InvalidPointError, match=r"not finite.*domain"):
                optimizer.run(problem, initial_point=start)


def test_nan_of_a_cost_of_ours_is_an_error_too():
    manifold = BalancedManifold(2, 2)

    class Broken(costs.Cost):
        def __call__(self, point):
            return np.float64(np.nan)

        def euclidean_gradient(self, point):
            return np.ones_like(point)

        def euclidean_hessian(self, point, vector):
            return vector

    problem = pymanopt_problem(manifold, Broken())
    with pytest.raises(InvalidPointError, match="NaN"):
        SOLVERS[0].run(problem, initial_point=manifold.random_point())


@pytest.mark.parametrize("optimizer", SOLVERS, ids=lambda optimizer: type(optimizer).__name__)
def test_start_off_the_manifold_is_an_error(optimizer):
    loss = costs.MatrixCompletion(np.eye(2), np.ones((2, 2)))
    layers = BalancedManifold(2, 2)
    problem = pymanopt_problem(layers, costs.OfLayers(loss))
    with pytest.raises(InvalidPointError, match=r"not balanced.*balance"):
        optimizer.run(problem, initial_point=np.random.normal(size=(2, 2, 2)))
    matrices = DLNObservableManifold(2, 3)
    with pytest.raises(InvalidPointError, match="singular"):
        optimizer.run(pymanopt_problem(matrices, loss), initial_point=np.ones((2, 2)))
    with pytest.raises(InvalidPointError, match="one point at a time"):
        matrices.retraction(matrices.random_point(2), np.eye(2))


@pytest.mark.parametrize("kind", [BalancedManifold, DLNObservableManifold])
def test_retractions_survive_steps_of_all_lengths(kind):
    manifold = Product([kind(3, 3)])
    W = manifold.random_point()
    signs = np.linalg.slogdet(W[0])[0]
    for length in np.logspace(-12, 6, 19):
        V = manifold.random_tangent_vector(W)
        V = V * (length * np.linalg.norm(W[0]) / np.linalg.norm(V[0]))
        for sign in (1.0, -1.0):
            (end,) = manifold.retraction(W, sign * V)
            assert np.isfinite(end).all()
            assert manifold.manifolds[0].belongs(end)
            assert_array_equal(np.linalg.slogdet(end)[0], signs)
