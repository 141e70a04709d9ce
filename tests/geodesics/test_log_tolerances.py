"""Logs at every tolerance that a metric takes: none is too loose to be met."""

import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold

SPACES = [DLNObservableManifold(3, 3), DLNObservableManifold(shape=(4, 3), rank=2, depth=5)]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7, 1e-9, 1e-13])
@pytest.mark.parametrize("space", [*SPACES, BalancedManifold(3, 3)], ids=repr)
def test_every_tolerance_is_met(space, tolerance):
    rng = np.random.default_rng(1)
    base = space.random_point(8, rng=rng)
    step = space.random_tangent_vec(base, rng=rng)
    size = np.linalg.norm(base.reshape(8, -1), axis=1) / np.linalg.norm(step.reshape(8, -1), axis=1)
    point = space.metric.exp(0.1 * (size * step.T).T, base)
    loose = type(space.metric)(space, tolerance=tolerance)
    solution = loose.solve_log(point, base)
    assert solution.success.all()
    goal = max(100 * tolerance, loose.system.goal(1e-13))
    assert (solution.residual <= goal).all()
    exact = space.metric.solve_log(point, base)
    errors = np.abs(solution.initial_velocity - exact.initial_velocity).reshape(8, -1).max(axis=1)
    assert (errors <= 10 * goal * np.abs(point).max() + 1e-9).all()
    # Looser ones are cheaper, not dearer.
    assert solution.n_evaluations.sum() <= 1.1 * exact.n_evaluations.sum()
