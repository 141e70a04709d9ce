"""Connection and curvature under geomstats' names, on both manifolds."""

import inspect
import math

import autograd
import numpy as np
import pytest
from geomstats.geometry.connection import Connection
from geomstats.geometry.riemannian_metric import RiemannianMetric
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import BalancedManifold, DLNObservableManifold, InvalidPointError

SPACES = [
    DLNObservableManifold(n=3, depth=3),
    DLNObservableManifold(n=2, depth=2.5),
    DLNObservableManifold(n=3, depth=math.inf),
    DLNObservableManifold(shape=(3, 2), depth=2),
    DLNObservableManifold(shape=(3, 3), rank=2, depth=1.5),
    BalancedManifold(n=2, depth=3),
    BalancedManifold(widths=(2, 3, 2), rank=1),
]
NAMES = ["curvature", "directional_curvature", "sectional_curvature", "scalar_curvature"]
NAMES += ["ricci_tensor", "riemann_tensor", "christoffels", "curvature_derivative"]


@pytest.fixture(params=SPACES, ids=repr)
def space(request):
    np.random.seed(0)
    return request.param


def sample(space, count, batch=3):
    """Return points and tangent vectors there."""
    points = space.random_point(batch)
    return points, *(space.random_tangent_vec(points) for _ in range(count))


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_geomstats(name):
    for space in (SPACES[0], SPACES[5]):
        wanted = inspect.signature(getattr(RiemannianMetric, name)).parameters
        assert list(inspect.signature(getattr(space.metric, name)).parameters) == list(wanted)[1:]


def test_definitions_of_geomstats_hold(space):
    """Its own formulas, on top of ours: signs, orders of arguments, and places of indices."""
    points, a, b, c = sample(space, 3)
    metric = space.metric
    view, flat = space.flattened(), [space.flattened().flatten(v) for v in (a, b, c, points)]
    close = {"rtol": 1e-9, "atol": 1e-11}
    value = metric.curvature(a, b, c, points)
    assert_allclose(Connection.curvature(view.metric, *flat), view.flatten(value), **close)
    generic = RiemannianMetric.sectional_curvature(view.metric, *flat[:2], flat[3])
    assert_allclose(metric.sectional_curvature(a, b, points), generic, **close)
    ricci = metric.ricci_tensor(points)
    assert_allclose(Connection.ricci_tensor(metric, points), ricci, **close)
    generic = RiemannianMetric.scalar_curvature(metric, points)
    assert_allclose(metric.scalar_curvature(points), generic, **close)
    tidal = metric.directional_curvature(a, b, points)
    assert_allclose(tidal, metric.curvature(b, a, b, points), **close)
    covariant = metric.covariant_riemann_tensor(points[0])
    entries = np.einsum("ijkl,i,j,k,l->", covariant, *(v[0] for v in (flat[0], flat[2], *flat[:2])))
    assert_allclose(entries, metric.inner_product(value, a, points)[0], **close)


def test_views_say_the_same(space):
    points, a, b, c = sample(space, 3)
    for orthonormal in (False, True):
        view = space.flattened(orthonormal=orthonormal)
        x, units = view.flatten(points), space.metric
        enter = units.orthonormal_coordinates if orthonormal else (lambda v, _: v)
        u, v, w = (view.flatten(enter(z, points)) for z in (a, b, c))
        got = view.metric.curvature(u, v, w, x)
        wanted = view.flatten(enter(units.curvature(a, b, c, points), points))
        close = {"rtol": 1e-9, "atol": 1e-11}
        assert_allclose(got, wanted, **close)
        sectional = units.sectional_curvature(a, b, points)
        assert_allclose(view.metric.sectional_curvature(u, v, x), sectional, **close)
        assert_array_equal(view.metric.scalar_curvature(x), units.scalar_curvature(points))
        riemann = view.metric.riemann_tensor(x)
        assert_allclose(np.einsum("bijkl,bi,bj,bk->bl", riemann, w, u, v), got, **close)
        assert_allclose(np.einsum("bijkj->bik", riemann), view.metric.ricci_tensor(x), **close)


def test_batches_are_single_calls(space):
    points, a, b, c = sample(space, 3)
    metric = space.metric
    for name, vectors in {
        "connection": (a, b),
        "curvature": (a, b, c),
        "sectional_curvature": (a, b),
        "riemann_tensor": (),
        "ricci_tensor": (),
        "scalar_curvature": (),
    }.items():
        method = getattr(metric, name)
        whole = method(*vectors, points)
        for k in range(3):
            one = method(*(v[k] for v in vectors), points[k])
            assert_allclose(whole[k], one, rtol=1e-11, atol=1e-13, err_msg=name)
        single = [array.astype(np.float32) for array in (*vectors, points)]
        if space.stratum.is_open:
            assert method(*single).dtype == np.float32
    several = space.random_tangent_vec(points[0], 3)
    found = metric.curvature(several[:, None], several, c[0], points[0])
    assert found.shape == (3, 3, *space.shape)
    assert_allclose(found, -found.swapaxes(0, 1), rtol=0, atol=1e-12)


def test_geodesics_obey_the_connection(space):
    """``X'' = -Gamma(X', X')``, with X'' by differences of the exponential map."""
    point = space.random_point()
    velocity = space.metric.random_unit_tangent_vec(point)
    step = 2e-3 * np.linalg.norm(point) / np.linalg.norm(velocity)
    at = [space.metric.exp(k * step * velocity, point) for k in (-2, -1, 1, 2)]
    second = (-at[0] + 16 * at[1] - 30 * point + 16 * at[2] - at[3]) / (12 * step**2)
    gamma = space.metric.connection(velocity, velocity, point)
    assert_allclose(second, -gamma, rtol=0, atol=1e-5 * max(np.abs(gamma).max(), 0.1))


def test_planes_of_parallel_vectors_have_no_curvature(space):
    points, a, _ = sample(space, 2)
    assert np.isnan(space.metric.sectional_curvature(a, -2 * a, points)).all()
    assert np.isnan(space.metric.sectional_curvature(a, 0 * a, points)).all()


def test_symbols_where_entries_are_coordinates(space):
    points, a, b = sample(space, 2)
    if not space.stratum.is_open:
        with pytest.raises(NotImplementedError, match=r"metric\.connection"):
            space.metric.christoffels(points)
        return
    symbols = space.metric.christoffels(points)
    flat = [v.reshape(3, -1) for v in (a, b)]
    got = np.einsum("bkij,bi,bj->bk", symbols, *flat)
    wanted = space.metric.connection(a, b, points).reshape(3, -1)
    assert_allclose(got, wanted, rtol=1e-10, atol=1e-11)


def test_what_is_not_tangent_is_refused():
    for space in SPACES[4:]:
        point, vector = space.random_point(), space.random_tangent_vec(space.random_point())
        for name, count in {"connection": 2, "curvature": 3, "sectional_curvature": 2}.items():
            with pytest.raises(InvalidPointError, match="not tangent"):
                getattr(space.metric, name)(*[vector] * count, point)


def test_what_is_not_known_says_what_works(space):
    points, a = sample(space, 1)
    with pytest.raises(NotImplementedError, match=r"differences of metric\.curvature"):
        space.metric.curvature_derivative(a, a, a, a, points)
    with pytest.raises(NotImplementedError, match=r"differences of metric\.curvature"):
        space.metric.directional_curvature_derivative(a, a, points)
    with pytest.raises(NotImplementedError, match="derivatives of the metric already"):
        autograd.grad(lambda x: space.metric.scalar_curvature(x))(points[0])


@pytest.mark.parametrize(("n", "depth", "batch"), [(20, 5, ()), (3, 3, (10_000,)), (4, 2.5, (10,))])
def test_one_decomposition_for_a_whole_batch(n, depth, batch, monkeypatch):
    space, calls, svd = DLNObservableManifold(n=n, depth=depth), [], np.linalg.svd
    x, a, b = np.random.normal(size=(3, *batch, n, n))
    monkeypatch.setattr(np.linalg, "svd", lambda *args, **kw: calls.append(1) or svd(*args, **kw))
    values = space.metric.sectional_curvature(a, b, x)
    assert len(calls) == 1
    assert values.shape == batch
    assert np.isfinite(values).all()
