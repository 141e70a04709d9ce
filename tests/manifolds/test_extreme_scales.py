"""Lengths where squares, or the coefficients of the metric, leave the range of double precision."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    InvalidPointError,
)
from dln_manifolds.numerics.matrices import decomposed

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


@pytest.mark.parametrize("scale", [2.0**-330, 2.0**-700, 2.0**-1000, 2.0**300])
@pytest.mark.parametrize("depth", [2, 3])
def test_layers_of_any_size_follow_the_cone_law(depth, scale):
    """Squares of roots are out of range, and products with vectors; powers of two are exact."""
    space = BalancedManifold(2, depth)
    layers = space.random_point(rng=1)
    vector = 0.1 * space.random_tangent_vec(layers, rng=2)
    end = space.metric.exp(vector, layers)
    np.testing.assert_allclose(
        space.metric.exp(scale * vector, scale * layers) / scale, end, rtol=0, atol=1e-12
    )
    ambient = np.random.default_rng(3).normal(size=layers.shape)
    for size in (2.0**-600, 2.0**600):
        found = space.to_tangent(size * ambient, scale * layers) / size
        np.testing.assert_allclose(found, space.to_tangent(ambient, layers), rtol=0, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 2.5])
def test_completed_distances_at_any_size(depth):
    metric = DLNObservableManifold(2, depth).metric
    first, last = np.diag([2.0, 1.0]), np.array([[1.0, 0.5], [0.0, -3.0]])
    wanted = metric.completed_dist(last, first)
    for exponent in (-1000, -600, 600, 900):
        scale = 2.0**exponent
        found = metric.completed_dist(scale * last, scale * first)
        assert found / scale ** (1 / depth) == pytest.approx(wanted, rel=1e-9)


def test_subnormal_points_at_depth_one():
    metric, tiny = DLNObservableManifold(2, 1).metric, 2.0**-1040
    start, step = np.array([[2.0, 1.0], [0.0, 1.0]]), 0.125 * np.eye(2)
    np.testing.assert_array_equal(metric.exp(tiny * step, tiny * start), tiny * (start + step))


def test_entropy_gradients_of_small_points_of_low_depth():
    space = DLNObservableManifold(shape=(3, 2), rank=2, depth=1.5)
    point = space.random_point(rng=0)
    wanted = space.entropy_gradient(point)
    # Of degree 2 / N - 1.
    for scale in (2.0**-900, 2.0**900):
        found = space.entropy_gradient(scale * point)
        np.testing.assert_allclose(found / scale ** (1 - 2 / 1.5), wanted, rtol=1e-10)


NOT_OPEN = [
    DLNObservableManifold(shape=(4, 3), rank=2, depth=3),
    DLNObservableManifold(shape=(3, 3), rank=1, depth=2),
    BalancedManifold(3, 1),
    BalancedManifold(widths=(3, 2, 3)),
]


@pytest.mark.parametrize("power", [-900, 0, 900])
@pytest.mark.parametrize("space", NOT_OPEN, ids=str)
def test_tangency_is_seen_at_every_size(space, power):
    rng = np.random.default_rng(0)
    point = np.ldexp(space.random_point(2, rng=rng), power)
    ambient = np.ldexp(rng.normal(size=point.shape), power)
    tangent = space.to_tangent(ambient, point)
    assert space.is_tangent(tangent, point).all()
    space.metric.norm(tangent, point)
    if not space.stratum.is_open and space.dim < ambient[0].size:
        assert not space.is_tangent(ambient, point).any()
        # Of one vector at several points, too.
        for wrong in (ambient, ambient[0]):
            with pytest.raises(InvalidPointError, match="not tangent"):
                space.metric.exp(wrong, point)


@pytest.mark.parametrize("power", [-600, 600, 1000])
def test_nearly_symmetric_matrices_of_every_size(power):
    # Symmetric up to rounding and nearly singular: the polar factor is that of eigenvectors.
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    X = (left * [1.0, 0.5, 1e-13]) @ left.T
    for change, near in ((1e-16, True), (1e-9, False)):
        X[0, 1] += change
        polar, expected = (x[0] @ x[2] for x in map(decomposed, (np.ldexp(X, power), X)))
        assert_allclose(polar, expected, rtol=0, atol=1e-15 if near else 1e-3)
        apart = np.abs(polar - np.eye(3)).max()
        assert apart < 1e-15 if near else apart > 0.1


@pytest.mark.filterwarnings("ignore::dln_manifolds.GeodesicWarning")
def test_chords_of_layers_of_every_size():
    # Of layers that a straight line through a singular matrix joins.
    space = BalancedManifold(2, 1)
    W = np.array([[[3.0, 0.0], [0.0, 4.0]]])
    for power in (-900, 0, 900):
        assert space.dist(np.ldexp(W, power), np.ldexp(-W, power)) == np.ldexp(10.0, power)
