"""The flattened view says what the space says, in vectors."""

import inspect

import numpy as np
import pytest
from geomstats.geometry.manifold import Manifold
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import BalancedManifold, DLNObservableManifold, InvalidPointError

OBSERVABLE, BALANCED = DLNObservableManifold(2, 3), BalancedManifold(2, 3)


@pytest.fixture(
    params=[(OBSERVABLE, False), (OBSERVABLE, True), (BALANCED, False), (BALANCED, True)],
    ids=["observable", "observable-orthonormal", "balanced", "balanced-orthonormal"],
)
def view(request):
    space, orthonormal = request.param
    return space.flattened(orthonormal=orthonormal)


@pytest.fixture
def sample(view):
    """Return points near each other, and two vectors at each."""
    base = view.random_point(bound=0.5)
    points = view.metric.exp(0.3 * view.metric.random_unit_tangent_vec(base, 3), base)
    return points, view.random_tangent_vec(points), view.random_tangent_vec(points)


def tangent(view, vector, base_point):
    """Return vectors of the view as tangent vectors of its space, by their definition."""
    shaped = vector.reshape(*vector.shape[:-1], *view.space.shape)
    if view.space is BALANCED or not view.orthonormal:
        return shaped
    # A^{1/2} by eigenvalues of the matrix of the cometric
    matrix = OBSERVABLE.metric.cometric_matrix(base_point)
    values, vectors = np.linalg.eigh(matrix)
    root = (vectors * np.sqrt(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return (root @ vector[..., None])[..., 0].reshape(shaped.shape)


def test_the_view_is_a_manifold_of_vectors(view):
    assert isinstance(view, Manifold)
    assert view.point_ndim == 1
    assert view.shape == (np.prod(view.space.shape),)
    assert view.dim == view.space.dim
    assert "flattened" in repr(view)
    new = view.new()
    assert new.orthonormal == view.orthonormal
    assert type(new.metric) is type(view.metric)


def test_there_and_back(view, sample):
    points = sample[0]
    assert_array_equal(view.flatten(view.unflatten(points)), points)
    assert_array_equal(view.unflatten(points)[1].ravel(), points[1])
    assert_array_equal(view.flatten(view.unflatten(points[0].tolist())), points[0])


def test_space(view, sample):
    points, v, _ = sample
    assert view.belongs(points).tolist() == [True] * 3
    assert view.is_tangent(v, points).all()
    assert_allclose(view.to_tangent(v, points), v, atol=1e-13)
    assert_array_equal(view.regularize(points), points)
    assert_allclose(view.projection(points), points, atol=1e-13)
    assert view.random_point().shape == view.shape
    assert not view.belongs(points[:, :-1]).any()
    assert not view.is_tangent(v[:, :-1], points).any()
    ambient = np.random.normal(size=points.shape)
    assert view.is_tangent(ambient, points).all() == (view.space is OBSERVABLE)
    assert view.is_tangent(view.to_tangent(ambient, points), points).all()


def test_metric_says_what_the_metric_of_the_space_says(view, sample):
    points, u, v = sample
    X, metric = view.unflatten(points), view.space.metric
    U, V = tangent(view, u, X), tangent(view, v, X)
    close = {"rtol": 1e-10, "atol": 1e-12}
    assert_allclose(view.metric.inner_product(u, v, points), metric.inner_product(U, V, X), **close)
    assert_allclose(view.metric.norm(u, points), metric.norm(U, X), **close)
    assert_allclose(view.metric.squared_norm(u, points), metric.squared_norm(U, X), **close)
    end = view.metric.exp(0.1 * u, points)
    assert_allclose(view.unflatten(end), metric.exp(0.1 * U, X), **close)
    log = view.metric.log(points[1:], points[0])
    assert_allclose(tangent(view, log, X[0]), metric.log(X[1:], X[0]), **close)
    assert_allclose(view.metric.dist(points[1:], points[0]), metric.dist(X[1:], X[0]), **close)
    path = view.metric.geodesic(points, initial_tangent_vec=0.1 * u)([0.0, 1.0])
    assert_allclose(path[:, 1], end, **close)
    along = view.metric.geodesic(points[0], end_point=points[1])(1.0)
    assert_allclose(along, points[1:2], rtol=1e-9, atol=1e-10)
    unit = view.metric.normalize(u, points)
    assert_allclose(tangent(view, unit, X), metric.normalize(U, X), **close)
    assert_array_equal(view.metric.injectivity_radius(points), metric.injectivity_radius(X))
    assert_allclose(view.metric.squared_dist(*points[:2]), metric.squared_dist(*X[:2]), **close)


def test_parallel_transport(view, sample):
    points, u, v = (array[0] for array in sample)
    X, metric = view.unflatten(points), view.space.metric
    U, V = tangent(view, u, X), tangent(view, v, X)
    expected = metric.parallel_transport(0.1 * U, X, direction=0.1 * V)
    end = view.metric.exp(0.1 * v, points)
    moved = view.metric.parallel_transport(0.1 * u, points, direction=0.1 * v)
    assert_allclose(tangent(view, moved, view.unflatten(end)), expected, rtol=1e-8, atol=1e-10)
    to = view.metric.parallel_transport(0.1 * u, points, end_point=end)
    assert_allclose(to, moved, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="either direction or end_point"):
        view.metric.parallel_transport(u, points)


def test_many_points(view, sample):
    points = sample[0]
    metric, X = view.space.metric, view.unflatten(points)
    assert_array_equal(view.metric.dist_pairwise(points), metric.dist_pairwise(X))
    assert view.metric.closest_neighbor_index(points[0], points[[2, 0, 1]]) == 1


def test_matrices_are_those_of_inner_products(view, sample):
    points, u, v = sample
    matrix = view.metric.metric_matrix(points)
    product = np.einsum("ki,kij,kj->k", u, matrix, v)
    assert_allclose(product, view.metric.inner_product(u, v, points), rtol=1e-10)
    p, q = np.random.normal(size=(2, *points.shape))
    matrix = view.metric.cometric_matrix(points)
    product = np.einsum("ki,kij,kj->k", p, matrix, q)
    assert_allclose(view.metric.inner_coproduct(p, q, points), product, rtol=1e-10, atol=1e-12)


def test_orthonormal_vectors_have_their_lengths_in_the_metric(view, sample):
    points, u, v = sample
    dots = np.sum(u * v, axis=-1)
    same = np.allclose(view.metric.inner_product(u, v, points), dots, rtol=1e-10)
    assert same == (view.orthonormal or view.space is BALANCED)


def test_orthonormal_frame_does_not_depend_on_singular_vectors():
    # At a multiple of an orthogonal matrix any singular vectors will do.
    metric = OBSERVABLE.metric
    Q = np.linalg.qr(np.random.normal(size=(2, 2)))[0]
    Z, nudge = np.random.normal(size=(2, 2, 2))
    at = metric.orthonormal_coordinates(Z, Q)
    assert_allclose(metric.orthonormal_coordinates(Z, Q + 1e-9 * nudge), at, atol=1e-8)
    assert_allclose(at, Z / np.sqrt(OBSERVABLE.depth), rtol=1e-12)


def test_christoffel_symbols_are_refused_where_entries_are_no_coordinates(view, sample):
    if view.orthonormal or view.space is BALANCED:
        with pytest.raises(NotImplementedError, match="coordinates"):
            view.metric.christoffels(sample[0])


def test_wrong_shapes_are_named(view, sample):
    points = sample[0]
    for call in (view.unflatten, view.projection, lambda x: view.metric.dist(x, points)):
        with pytest.raises(InvalidPointError, match=r"last axis must have \d+ entries"):
            call(points[:, 1:])
    with pytest.raises(InvalidPointError, match="must end in"):
        view.flatten(points)


def test_names_and_order_of_arguments_are_those_of_the_space():
    view = OBSERVABLE.flattened()
    for ours, theirs in ((view, OBSERVABLE), (view.metric, OBSERVABLE.metric)):
        for name, method in inspect.getmembers(type(ours), inspect.isfunction):
            known = getattr(type(theirs), name, None)
            if name.startswith("_") or not vars(type(ours)).get(name) or known is None:
                continue
            expected = list(inspect.signature(known).parameters)
            found = list(inspect.signature(method).parameters)
            assert found == expected[: len(found)], name
