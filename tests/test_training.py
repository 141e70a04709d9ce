"""Training: the limit of small steps, and Hessians from the inner product alone."""

import numpy as np
import pytest
from pymanopt.manifolds import Euclidean
from pymanopt.optimizers import SteepestDescent, TrustRegions

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    PointRecorder,
    costs,
    pymanopt_problem,
)
from dln_manifolds.dynamics.gradient_flow import flow_of_point
from dln_manifolds.geometry.balancing import end_to_end, relative_imbalance

TARGET = np.array([[1.5, 0.4, 0.0], [-0.3, 1.0, 0.2], [0.1, 0.0, 0.6]])
SEEN = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]])


class FixedStep:
    """Steps of a fixed time of the gradient flow, in pymanopt's interface of line searches."""

    def __init__(self, time):
        self.time = time

    def search(self, objective, manifold, x, d, f0, df0):
        return self.time, manifold.retraction(x, self.time * d)


@pytest.mark.parametrize("depth", [2, 3])
def test_small_steps_follow_the_gradient_flow_downstairs(depth):
    total = BalancedManifold(3, depth)
    loss = costs.MatrixCompletion(TARGET, SEEN)
    start = total.random_point(bound=0.3)
    X = total.end_to_end(start)
    flow = flow_of_point(X, depth, loss.euclidean_gradient, np.array([0.0, 0.4]))
    errors = []
    for n_steps in (40, 80, 160):
        solver = SteepestDescent(
            verbosity=0,
            line_searcher=FixedStep(0.4 / n_steps),
            max_iterations=n_steps + 1,  # the first counts the start
            min_gradient_norm=0,
            min_step_size=0,
        )
        result = solver.run(pymanopt_problem(total, costs.OfLayers(loss)), initial_point=start)
        errors.append(np.linalg.norm(total.end_to_end(result.point) - flow.points[-1]))
    # steps of Euler's method: half the step, half the error
    assert errors[0] <= 0.05
    assert 1.8 <= errors[0] / errors[1] <= 2.2
    assert 1.9 <= errors[1] / errors[2] <= 2.1


def test_recorder_notes_every_point_once():
    total, recorder = BalancedManifold(3, 2), PointRecorder()
    cost = costs.OfLayers(costs.MatrixCompletion(TARGET, SEEN))
    problem = pymanopt_problem(total, cost, preconditioner=recorder)
    start = total.random_point()
    result = TrustRegions(verbosity=0).run(problem, initial_point=start)
    path = recorder.path(result)
    np.testing.assert_array_equal(path[0], start)
    np.testing.assert_array_equal(path[-1], result.point)
    assert 2 <= len(path) <= result.iterations + 1
    assert (np.diff(cost(path)) < 0).all()
    assert relative_imbalance(path).max() <= 1e-13
    # copies
    problem.manifold.retraction(start, start)
    start[...] = 0
    assert np.linalg.norm(path[0]) > 0.1


def metric_matrix(space, X):
    """Return g_X in the standard basis, from ``inner_product`` alone."""
    n = len(X)
    basis = np.eye(n * n).reshape(-1, n, n)
    return np.array([[space.inner_product(X, a, b) for b in basis] for a in basis])


def koszul_hessian(space, X, gradient, second, Z):
    """Return the Hessian by Christoffel symbols from differences of the metric matrix."""
    n, h = len(X), 1e-3
    basis = np.eye(n * n).reshape(-1, n, n)
    weights = np.array([-1, 9, -45, 45, -9, 1]) / (60 * h)
    shifts = h * np.array([-3, -2, -1, 1, 2, 3])
    dg = np.array(
        [
            sum(w * metric_matrix(space, X + t * e) for w, t in zip(weights, shifts, strict=True))
            for e in basis
        ]
    )  # dg[k, i, j] = d_k g_ij
    z, inverse = Z.ravel(), np.linalg.inv(metric_matrix(space, X))
    riemannian = inverse @ gradient.ravel()
    # 2 <nabla_Z grad f, e_k> = 2 (d^2 f)(Z, e_k) - 2 Gamma^m_{Z k} d_m f
    lower = (
        np.einsum("a,akm,m->k", z, dg, riemannian)
        + np.einsum("kam,a,m->k", dg, z, riemannian)
        - np.einsum("mak,a,m->k", dg, z, riemannian)
    )
    return (inverse @ (second.ravel() - 0.5 * lower)).reshape(n, n)


@pytest.mark.parametrize("depth", [1, 2.5, 4])
@pytest.mark.parametrize("X", [np.array([[1.2, 0.3], [-0.4, 0.8]]), np.eye(2)], ids=["any", "I"])
def test_hessian_by_the_koszul_formula(X, depth):
    space = DLNObservableManifold(2, depth)
    cost = costs.MatrixSensing(np.random.normal(size=(3, 2, 2)), np.random.normal(size=3))
    Z = np.random.normal(size=(2, 2))
    gradient, second = cost.euclidean_gradient(X), cost.euclidean_hessian(X, Z)
    wanted = koszul_hessian(space, X, gradient, second, Z)
    found = space.euclidean_to_riemannian_hessian(X, gradient, second, Z)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8 * np.abs(wanted).max())


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("length", [1e-4, 1e-2, 1.0])
def test_retraction_at_nearly_singular_layers_keeps_its_length(depth, length):
    # the second fundamental form is of size 1 / smallest root there
    total = BalancedManifold(4, depth)
    q = np.linalg.qr(np.random.normal(size=(depth + 1, 4, 4)))[0]
    W = (q[1:] * [3.0, 0.5, 1e-6, 1e-8]) @ np.swapaxes(q[:-1], 1, 2)
    for _ in range(20):
        V = length * total.random_tangent_vector(W)
        end = total.retraction(W, V)
        assert total.belongs(end)
        assert np.linalg.norm(end - W) <= 2 * length


def complete(seed, depth, manifold):
    """Complete a 30 x 30 matrix of rank 5; return iterations, hidden error and worst imbalance."""
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, 30, 5))
    target = left @ right.T / np.sqrt(5)
    seen = rng.uniform(size=target.shape) < 0.6
    loss = costs.MatrixCompletion(target + 0.01 * rng.normal(size=target.shape), seen)
    q = np.linalg.qr(rng.normal(size=(depth + 1, 30, 30)))[0]
    start = 0.01 ** (1 / depth) * q[1:] @ np.swapaxes(q[:-1], 1, 2)
    recorder = PointRecorder()
    problem = pymanopt_problem(manifold, costs.OfLayers(loss), preconditioner=recorder)
    result = TrustRegions(verbosity=0, min_gradient_norm=1e-6).run(problem, initial_point=start)
    assert result.gradient_norm <= 1e-6
    error = np.linalg.norm(~seen * (end_to_end(result.point) - target))
    path = recorder.path(result)
    hidden = np.linalg.norm(~seen * target)
    return result.iterations, error / hidden, relative_imbalance(path).max()


@pytest.mark.slow
def test_completion_against_free_layers():
    # Counts of iterations are chaotic: only all runs together differ clearly.
    totals = np.zeros(2)
    for depth in (2, 3, 4):
        spaces = BalancedManifold(30, depth), Euclidean(depth, 30, 30)
        runs = np.array([[complete(seed, depth, space) for space in spaces] for seed in range(6)])
        iterations, errors, imbalance = np.moveaxis(runs, -1, 0)
        assert imbalance[:, 0].max() <= 1e-10
        assert imbalance[:, 1].min() >= 0.1
        assert errors[:, 0].mean() <= errors[:, 1].mean()
        totals += iterations.sum(axis=0)
    assert totals[0] < totals[1]
