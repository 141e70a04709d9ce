"""The exponential that goes on through det = 0."""

import numpy as np
import pytest
from autograd import grad
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.errors import (
    DisconnectedPointsError,
    IncompleteGeodesicError,
    InvalidPointError,
)

# Weights of a one-sided difference of order eight.
DIFFERENCE = np.array([-761 / 280, 8, -14, 56 / 3, -35 / 2, 56 / 5, -14 / 3, 8 / 7, -1 / 8])


@pytest.mark.parametrize(
    ("n", "depth"), [(1, 3), (2, 2), (3, 3), (3, 4), (3, 1.5), (4, 2.5), (3, 1)]
)
def test_it_leads_where_completed_geodesics_do(opposite, n, depth):
    metric = DLNObservableManifold(n, depth).metric
    first, last = (x[0] for x in opposite(1, n))
    step = 1e-3
    start = metric.completed_geodesic(first, last)(step * np.arange(9))
    velocity = np.tensordot(DIFFERENCE, start, 1) / step
    assert_allclose(metric.norm(velocity, first), metric.completed_dist(last, first), rtol=1e-9)
    with pytest.raises(IncompleteGeodesicError):
        metric.exp(velocity, first)
    assert_allclose(metric.exp(velocity, first, through_singular=True), last, atol=1e-8)
    # What does not cross is followed as always, in one batch.
    velocities = np.stack([velocity, 1e-3 * velocity])
    both = metric.exp(velocities, first, through_singular=True)
    assert_allclose(both[0], last, atol=1e-8)
    assert_array_equal(both[1], metric.exp(velocities[1], first))


def test_the_way_back(opposite):
    """The flow is reversible: from where it leads, with the opposite velocity, to the start."""
    first, last = (x[0] for x in opposite(1, 3))
    metric = DLNObservableManifold(3, 3).metric
    step = 1e-3
    path = metric.completed_geodesic(first, last)
    velocity = -np.tensordot(DIFFERENCE, path(1 - step * np.arange(9)), 1) / step
    back = metric.exp(-velocity, last, through_singular=True)
    assert_allclose(back, first, atol=1e-8)


def test_what_is_refused(opposite):
    X = np.diag([3.0, 2.0, 1.0])
    with pytest.raises(IncompleteGeodesicError, match="singular"):
        DLNObservableManifold(3, 2).metric.exp(-9 * X, X, through_singular=True)
    lower = DLNObservableManifold(3, 2, rank=2)
    with pytest.raises(InvalidPointError, match="square end-to-end matrices"):
        lower.metric.exp(X, lower.random_point(), through_singular=True)
    metric = DLNObservableManifold(3, 2).metric
    with pytest.raises(NotImplementedError, match="leave through_singular out"):
        grad(lambda v: metric.exp(v, X, through_singular=True).sum())(X)
    with pytest.raises(TypeError):
        BalancedManifold(3, 2).metric.exp(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), True)


def test_layers_name_the_way_out():
    total = BalancedManifold(3, 2)
    X = np.diag([3.0, 2.0, 1.0])
    layers = total.factor(X), total.factor(X * [1, 1, -1])
    with pytest.raises(DisconnectedPointsError, match="completed_dist of DLNObservableMetric"):
        total.metric.log(*layers)


@pytest.mark.parametrize("depth", [2, 4])
def test_corner_upstairs_at_even_depth(depth):
    """The smooth solution for n = 1, ``w -> w - t``, comes back with the sign that it had."""
    metric = DLNObservableManifold(1, depth).metric
    X = np.array([[1.0]])
    velocity = -1.5 * depth * X
    through = metric.exp(velocity, X, through_singular=True)
    assert_allclose(through, [[-(0.5**depth)]], rtol=1e-10)
    assert through[0, 0] < 0 < (1 - 1.5) ** depth
