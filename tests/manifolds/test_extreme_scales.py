"""Lengths where squares, or the coefficients of the metric, leave the range of double precision."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import BalancedManifold, DLNObservableManifold

SCALES = [1e-300, 1e-200, 1e-160, 1e160, 1e200, 1e290]


@pytest.mark.parametrize("x", SCALES)
@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 8, 100])
def test_norm_of_numbers_is_the_closed_form(depth, x):
    metric = DLNObservableManifold(1, depth).metric
    X = np.array([[x]])
    v = metric.log(2 * X, X)
    length = np.sqrt(depth) * (2 ** (1 / depth) - 1) * x ** (1 / depth)
    assert_allclose(metric.norm(v, X), length, rtol=1e-11)
    assert_allclose(metric.norm(v, X), metric.dist(X, 2 * X), rtol=1e-11)
    assert_allclose(metric.norm(metric.normalize(v, X), X), 1, rtol=1e-13)


def scaled(depth, power):
    """Return a space, points, two vectors at each, and all of them times 2^power."""
    space = DLNObservableManifold(3, depth)
    X = space.random_point(2)
    u, v = space.random_tangent_vec(X), space.random_tangent_vec(X)
    return space.metric, X, u, v, *(np.ldexp(a, power) for a in (X, u, v))


@pytest.mark.parametrize("power", [-1000, -600, 600, 1000])
@pytest.mark.parametrize("depth", [1, 2, 2.5, 4, 10])
def test_lengths_follow_the_law_of_the_cone(depth, power):
    """Lengths scale as roots of X, and vectors as X."""
    metric, X, u, v, big_X, big_u, big_v = scaled(depth, power)
    root = 2.0 ** (power / depth)
    assert_allclose(metric.norm(big_u, big_X), root * metric.norm(u, X), rtol=1e-11)
    assert_allclose(
        metric.normalize(big_u, big_X) / root ** (depth - 1), metric.normalize(u, X), rtol=1e-11
    ) if abs(power * (depth - 1) / depth) < 1000 else None
    if abs(2 * power / depth) < 1000:
        expected = root**2 * metric.inner_product(u, v, X)
        assert_allclose(metric.inner_product(big_u, big_v, big_X), expected, rtol=1e-10)
        expected = root**2 * metric.squared_norm(u, X)
        assert_allclose(metric.squared_norm(big_u, big_X), expected, rtol=1e-11)


@pytest.mark.parametrize("power", [-900, 900])
@pytest.mark.parametrize("depth", [2, 4, 10])
def test_dual_lengths_follow_it_the_other_way(depth, power):
    metric, X, p, q, big_X, *_ = scaled(depth, power)
    down = 2.0 ** -(power * (1 - 1 / depth))
    expected = metric.inner_coproduct(p, q, X)
    found = metric.inner_coproduct(down * p, down * q, big_X)
    assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("x", SCALES)
@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_random_unit_vectors(depth, x):
    space = DLNObservableManifold(3, depth)
    X = x * space.random_point()
    unit = space.metric.random_unit_tangent_vec(X, 5)
    assert_allclose(space.metric.norm(unit, X), 1, rtol=1e-12)
    gaussian = space.random_tangent_vec(X, 50)
    assert 1 < np.mean(space.metric.norm(gaussian, X)) < 5


@pytest.mark.parametrize("depth", [2, 5])
def test_orthonormal_coordinates_there_and_back(depth):
    metric, X, u, _, big_X, big_u, _ = scaled(depth, 990)
    C = metric.orthonormal_coordinates(big_u, big_X)
    assert_allclose(C, 2.0 ** (990 / depth) * metric.orthonormal_coordinates(u, X), rtol=1e-10)
    assert_allclose(metric.from_orthonormal_coordinates(C, big_X), big_u, rtol=1e-10)


@pytest.mark.parametrize("x", SCALES)
def test_layers(x):
    space = BalancedManifold(2, 3)
    W = space.random_point(3)
    V = space.random_tangent_vec(W)
    metric = space.metric
    assert_allclose(metric.norm(x * V, x * W), x * metric.norm(V, W), rtol=1e-13)
    assert_allclose(metric.norm(metric.normalize(x * V, W), W), 1, rtol=1e-13)
    assert metric.norm(0 * V, W).tolist() == [0.0] * 3


def test_results_can_be_written_to():
    metric = BalancedManifold(2, 3).metric
    zero = np.zeros((2, 3, 2, 2))
    for value in (metric.norm(zero), metric.inner_product(zero[0], zero[0], zero)):
        value[0] = 1.0


def test_a_batch_of_all_scales():
    metric = DLNObservableManifold(1, 2).metric
    X = np.array([1e-300, 1e-200, 1.0, 1e200, 1e300]).reshape(-1, 1, 1)
    assert_allclose(metric.norm(X, X), np.sqrt(X.ravel() / 2), rtol=1e-13)
    mixed = np.concatenate([0 * X[:1], X[1:]])
    assert_allclose(metric.norm(mixed, X)[:2], [0.0, np.sqrt(0.5e-200)], rtol=1e-13)
