"""pymanopt's solvers and the diagnostics work on NumPy's arrays, whatever the backend."""

import warnings

import numpy as np
import pymanopt
import pytest
from pymanopt.manifolds import Product
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
    costs,
    diagnostics,
    pymanopt_problem,
)

LOSS = costs.MatrixCompletion([[2.0, 0.5], [0.0, 1.0]], np.ones((2, 2)))
SPACES = {
    "matrices": (DLNObservableManifold(2, 2.5), LOSS),
    "layers": (BalancedManifold(2, 3), costs.OfLayers(LOSS)),
}
of_both_spaces = pytest.mark.parametrize(("space", "cost"), SPACES.values(), ids=SPACES)
SOLVERS = {
    "steepest descent": SteepestDescent(verbosity=0, max_iterations=20),
    "conjugate gradient": ConjugateGradient(verbosity=0, max_iterations=20),
    "trust regions": TrustRegions(verbosity=0, max_iterations=20),
    "Nelder-Mead": NelderMead(verbosity=0, max_iterations=2),
    "particle swarm": ParticleSwarm(verbosity=0, max_iterations=3, population_size=4),
}


@pytest.mark.parametrize("given", [False, True], ids=["no start", "start of the backend"])
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@of_both_spaces
def test_solvers(space, cost, solver, given):
    # pymanopt 2.2.1 takes a simplex only if it has a wrong number of vertices
    counts = {"NelderMead": space.dim + 2, "ParticleSwarm": 4}
    start = None
    if given:
        count = counts.get(type(solver).__name__)
        start = [space.random_point() for _ in range(count)] if count else space.random_point()
    problem = pymanopt_problem(space, cost)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = solver.run(problem, initial_point=start)
    assert given or type(result.point) is np.ndarray
    assert space.belongs(np.asarray(result.point))
    assert result.cost == problem.cost(result.point)


@of_both_spaces
def test_costs_of_users_meet_arrays_of_numpy(space, cost):
    @pymanopt.function.numpy(space)
    def value(point):
        assert type(point) is np.ndarray
        return np.sum((point - np.eye(2)) ** 2)

    solver = ParticleSwarm(verbosity=0, max_iterations=2, population_size=3)
    solver.run(pymanopt.Problem(space, value))


@of_both_spaces
def test_diagnostics(space, cost):
    for manifold in (space, Product([space, space])):
        for result in diagnostics.check_manifold(manifold):
            assert result, result.message
    problem = pymanopt_problem(space, cost)
    for result in (diagnostics.check_gradient(problem), diagnostics.check_hessian(problem)):
        assert result, result.message
