"""Conjugate times: the closed family of n = 2, signs of determinants, and the sphere."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp
from sphere import Sphere, tangent

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.geodesics import (
    Points,
    conjugate_times,
    exp_adjoint,
    exp_inverse,
    jacobi_fields,
)

TOLERANCE = 1e-13


@pytest.fixture
def sphere():
    """Return points of the unit sphere with velocities and two tangent vectors each."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    vectors = tangent(x, rng.normal(size=(3, 6, 4)))
    return Points(x, None), vectors[0], np.moveaxis(vectors[1:], 0, 1)


def test_antipodes_are_conjugate_twice_over(sphere):
    """Of dimension three: the determinant touches zero and keeps its sign."""
    start, v, _ = sphere
    expected = np.pi / np.linalg.norm(v, axis=1)
    found = conjugate_times(Sphere(), start, v, np.full(6, 20.0), tolerance=TOLERANCE)
    assert_allclose(found, expected, rtol=1e-12)
    horizon = expected * [0.9, 1 - 1e-9, 1 + 1e-9, 1.1, 3.5, 0.1]
    found = conjugate_times(Sphere(), start, v, horizon, tolerance=TOLERANCE)
    assert_allclose(found, np.where(horizon < expected, np.inf, expected), rtol=1e-12)


def test_fields_on_the_sphere(sphere):
    start, v, vectors = sphere
    x, times = start.value[:, None, None], np.array([0.0, 0.4, 1.0, 2.5])
    values = vectors[:, ::-1]
    length = np.linalg.norm(v, axis=1)[:, None, None, None]
    along, angle = v[:, None, None] / length, times[:, None, None] * length
    turned = np.cos(angle) * along - np.sin(angle) * x
    parts = [np.sum(y[:, None] * along, axis=-1, keepdims=True) for y in (values, vectors)]
    rest = [y[:, None] - p * along for y, p in zip((values, vectors), parts, strict=True)]
    expected = (parts[0] + times[:, None, None] * parts[1]) * turned
    expected += np.cos(angle) * rest[0] + np.sin(angle) / length * rest[1]
    found, solution = jacobi_fields(Sphere(), start, v, values, vectors, times, tolerance=TOLERANCE)
    assert solution.success.all()
    assert_allclose(found, expected, rtol=0, atol=1e-11)
    end = jacobi_fields(Sphere(), start, v, 0 * vectors, vectors, np.ones(1), tolerance=TOLERANCE)[
        0
    ][:, 0]
    back, _ = exp_inverse(Sphere(), start, v, end, tolerance=TOLERANCE)
    assert_allclose(back, vectors, rtol=0, atol=1e-10)
    adjoint, _ = exp_adjoint(Sphere(), start, v, end, tolerance=TOLERANCE)
    assert_allclose(np.sum(adjoint * vectors, -1), np.sum(end**2, -1), rtol=1e-12)


def test_no_inverse_at_the_antipode(sphere):
    start, v, vectors = sphere
    v = np.pi * v / np.linalg.norm(v, axis=1, keepdims=True)
    with pytest.raises(ConjugatePointsError, match="Batch member 0"):
        exp_inverse(Sphere(), start, v, vectors, tolerance=TOLERANCE)


# --- n = 2: a cone over three dimensions with two rotations


def rest_of_inverse_sinh(x):
    """Return ``1 / sinh(x) - 1 / x``."""
    if abs(x) > 0.5:
        return 1 / np.sinh(x) - 1 / x
    terms = np.array([-1 / 6, 7 / 360, -31 / 15120, 127 / 604800, -73 / 3421440])
    return x * np.polynomial.polynomial.polyval(x * x, [*terms, 1414477 / 653837184000])


def rotations(u, depth):
    """Return pairs ``A' / A, B' / B`` and ``A'' / A, B'' / B`` by phi, ``tan(phi) = e^{-2u}``.

    Of the radii ``A^2 = 2/N tanh(2u) tanh(Nu)`` and ``B^2 = 2/N tanh(2u) coth(Nu)``; A vanishes at
    u = 0, where poles cancel in all but the first.
    """
    c, s, n = np.cosh(2 * u), np.sinh(2 * u), depth
    p, q = 2 / np.sinh(4 * u), n / np.sinh(2 * n * u)
    less = 2 * rest_of_inverse_sinh(4 * u) - n * rest_of_inverse_sinh(2 * n * u)  # p - q
    first, second = 8 / (np.cosh(4 * u) + 1), 2 * n**2 / (np.cosh(2 * n * u) + 1)
    bend_a = 2 * c * s * (p + q) - c * c * (less**2 + first + second)
    bend_b = 2 * c * s * less - c * c * (less * (3 * q + p) + first - second)
    return (-c * (p + q), -c * less), (bend_a, bend_b)


def closed_time(roots, depth, direction, sign):
    """Return the conjugate time in a totally geodesic cone over ``dphi^2 + A^2 da^2``.

    Two scalar Jacobi equations, in that surface of rotation and normal to it; the geodesic is a
    straight line in its sector.
    """
    last = np.arctan2(np.hypot(*direction[1:]), direction[0])
    along = direction[1:] / np.hypot(*direction[1:])

    def radius(u):
        return np.sqrt(2 / depth * np.tanh(2 * u) * np.tanh(depth * u) ** sign)

    moment = along[1] * radius(0.5 * np.log(roots[0] / roots[1]))

    def rates(_, y):
        u = -0.5 * np.log(np.tan(y[0]))
        slopes, bends = rotations(u, depth)
        inside, beside = bends[::sign]
        turn = moment / radius(u)
        outside = y[1] ** 2 * beside + turn**2 * slopes[0] * slopes[1]
        return [y[1], slopes[::sign][0] * turn**2, y[3], inside * y[2], y[5], outside * y[4]]

    def events():
        for of in (
            lambda _, y: y[2],
            lambda _, y: y[4],
            lambda _, y: y[0] - 1e-4,
            lambda _, y: np.pi / 2 - 1e-4 - y[0],
        ):
            of.terminal, of.direction = True, -1
            yield of

    state = [np.arctan2(roots[1], roots[0]), along[0], 1e-300, 1, 1e-300, 1]
    with np.errstate(invalid="ignore", divide="ignore"):  # in trial steps
        found = solve_ivp(
            rates,
            (0, last * (1 - 1e-9)),
            state,
            method="DOP853",
            rtol=1e-13,
            atol=1e-14,
            events=list(events()),
        )
    hits = np.concatenate(found.t_events[:2])
    if not hits.size:
        return np.inf
    return np.sqrt(depth) * np.hypot(*roots) * np.sin(hits[0]) / np.sin(last - hits[0])


@pytest.mark.parametrize(
    ("depth", "sign", "count"), [(3, 1, 1), (8, 1, 2), (8, -1, 2), (20.5, 1, 2)]
)
def test_the_closed_family(depth, sign, count):
    """Symmetric velocities at diagonal matrices, and such with a skew part."""
    rng = np.random.default_rng(0)
    roots = np.sort(rng.uniform(0.02, 1, (12, 2)), axis=1)[:, ::-1] ** (1 / depth)
    directions = rng.normal(size=(12, 3)) * [1, 1, 0.5] + [-1, 1, 0]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    unit = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    (a, b), (radial, phi, turn) = unit.T, directions.T
    inside = np.zeros((12, 2, 2))
    inside[:, 0, 0], inside[:, 1, 1] = a * radial - b * phi, b * radial + a * phi
    inside[:, 0, 1], inside[:, 1, 0] = turn / np.sqrt(2), sign * turn / np.sqrt(2)
    metric = DLNObservableManifold(n=2, depth=depth).metric
    points = (roots**depth)[:, :, None] * np.eye(2)
    velocities = metric.from_orthonormal_coordinates(inside, points)
    expected = np.array(
        [closed_time(*x, sign) for x in zip(roots, [depth] * 12, directions, strict=True)]
    )
    assert np.isfinite(expected).sum() >= count
    assert_allclose(metric.conjugate_time(velocities, points), expected, rtol=1e-11)


# --- other matrices and layers


def fields_over_time(metric, point, velocity, times):
    """Return singular values of all Jacobi fields from zero, over the time, at times."""
    shape = point.shape
    units = metric.space.to_tangent(np.eye(point.size).reshape(-1, *shape), point)
    gram = metric.inner_product(units[:, None], units, point)
    values, axes = np.linalg.eigh(gram)
    keep = values > 1e-9 * values[-1]
    basis = np.tensordot((axes[:, keep] / np.sqrt(values[keep])).T, units, 1)
    fields = metric.jacobi_field(basis, velocity, point, t=times).swapaxes(0, 1)
    fields /= times.reshape(-1, 1, *[1] * len(shape))
    ends = metric.exp(times.reshape(-1, *[1] * len(shape)) * velocity, point)[:, None]
    grams = metric.inner_product(fields[:, :, None], fields[:, None], ends[:, None])
    values = np.sqrt(np.abs(np.linalg.eigvalsh(grams)))  # zero to 1e-8
    if metric.space.dim != point.size:
        return values, None
    # Both bases are orthonormal: the product of singular values with its sign.
    first = np.linalg.slogdet(metric.orthonormal_coordinates(basis, point).reshape(len(basis), -1))
    inside = metric.orthonormal_coordinates(fields, ends)
    last = np.linalg.slogdet(inside.reshape(*inside.shape[:2], -1))
    return values, first[0] * last[0]


# Spaces, and which of eight or more random geodesics has a conjugate time.
SPACES = {
    "n = 2": (DLNObservableManifold(n=2, depth=8), 10),
    "n = 3": (DLNObservableManifold(n=3, depth=4), 3),
    "infinite depth": (DLNObservableManifold(n=3, depth=np.inf), 5),
    "rank 2": (DLNObservableManifold(shape=(3, 3), rank=2, depth=6), 4),
    "rank 1": (DLNObservableManifold(shape=(3, 2), rank=1, depth=3), 7),
    "layers": (BalancedManifold(widths=(3, 2, 2), rank=2), 17),
}
COUNTS = {"n = 2": 20, "n = 3": 40, "infinite depth": 10, "layers": 40}


@pytest.mark.parametrize("name", SPACES)
def test_fields_vanish_there_and_not_before(name):
    space, member = SPACES[name]
    rng = np.random.default_rng(3)
    points = space.projection(rng.normal(size=(COUNTS.get(name, 8), *space.shape)))
    velocities = space.to_tangent(rng.normal(size=points.shape), points)
    point, velocity = points[member], velocities[member]
    velocity = space.metric.normalize(velocity, point)
    time = space.metric.conjugate_time(velocity, point)
    shares = np.concatenate([np.linspace(0.05, 0.98, 12), [1 - 1e-5, 1, 1 + 1e-5]])
    values, signs = fields_over_time(space.metric, point, velocity, shares * time)
    assert values[-2, 0] < 1e-7 < values[:-3, 0].min()
    # Linear on both sides, and simple.
    assert_allclose(values[-3, 0], values[-1, 0], rtol=1e-2)
    assert values[-1, 0] < 1e-3 < values[-2, 1]
    if signs is not None:
        assert (signs[:-2] == 1).all()
        assert signs[-1] == -1


def test_the_whole_of_a_cone_and_a_part_of_it():
    """Endless geodesics are searched as others between finite times."""
    space, rng = DLNObservableManifold(n=2, depth=8), np.random.default_rng(1)
    points, velocities = rng.normal(size=(2, 20, 2, 2))
    velocities = space.metric.normalize(velocities, points)
    endless = space.metric.conjugate_time(velocities, points)
    until = space.metric.conjugate_time(velocities, points, t_max=10.0)
    assert np.isfinite(until).sum() >= 2
    assert_allclose(until, np.where(endless <= 10, endless, np.inf), rtol=1e-11)


def test_rank_one_has_double_ones():
    """A cone over two spheres of radius ``N^{-1/2}``: where one of the vectors has turned by pi."""
    depth, rng = 6, np.random.default_rng(0)
    space = DLNObservableManifold(shape=(4, 4), rank=1, depth=depth)
    u, v = rng.normal(size=(2, 20, 4))
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    a, b = tangent(u, rng.normal(size=u.shape)), tangent(v, rng.normal(size=v.shape))
    s, growth = np.exp(rng.normal(size=(2, 20))) * [[1], [-1]]
    growth *= rng.choice([1.0, -1.0], size=20)
    points = s[:, None, None] * u[:, :, None] * v[:, None]
    moved = a[:, :, None] * v[:, None] + u[:, :, None] * b[:, None]
    velocities = s[:, None, None] * moved + growth[:, None, None] * points
    turns = np.stack([np.linalg.norm(x, axis=1) for x in (a, b)])
    # In the sector: distance from the tip, velocity along and across.
    r, across = np.sqrt(depth) * s ** (1 / depth), np.hypot(*turns) / np.sqrt(depth)
    last = np.arctan2(across, growth / depth)
    angle = np.pi * across / turns.max(axis=0)
    pace = np.hypot(growth / depth, across)
    assert_allclose(space.metric.norm(velocities, points), r * pace, rtol=1e-12)
    with np.errstate(divide="ignore"):
        expected = np.where(angle < last, np.sin(angle) / (pace * np.sin(last - angle)), np.inf)
    assert 3 <= np.isfinite(expected).sum() < 20
    assert_allclose(space.metric.conjugate_time(velocities, points), expected, rtol=1e-11)
    pick = np.argmin(expected)
    values, _ = fields_over_time(space.metric, points[pick], velocities[pick], expected[[pick]])
    assert values[0, 1] < 1e-7 < values[0, 2]


def test_none_where_there_is_none():
    rng = np.random.default_rng(2)
    for space in (
        DLNObservableManifold(n=3, depth=1),
        DLNObservableManifold(n=3, depth=2),
        DLNObservableManifold(shape=(3, 2), depth=1),
        BalancedManifold(n=2, depth=1),
    ):
        points = space.projection(rng.normal(size=(6, *space.shape)))
        velocities = space.to_tangent(rng.normal(size=points.shape), points)
        assert (space.metric.conjugate_time(velocities, points) == np.inf).all()
    # Nothing moves, or on a ray of the cone.
    space = DLNObservableManifold(n=3, depth=8)
    point = np.diag([3.0, 2.0, 1.0])
    velocities = np.stack([0 * point, point, -point, -0.1 * point, np.diag([1.0, 0.0, -2.0])])
    assert (space.metric.conjugate_time(velocities, point) == np.inf).all()


def test_singular_ends_are_located_without_fields(monkeypatch):
    """Fields that are followed, times evaluations; it was three times as much with all of them."""
    space = DLNObservableManifold(n=3, depth=3)
    points, velocities = np.random.default_rng(0).normal(size=(2, 6, 3, 3))[:, [1, 2, 4, 5]]
    ends = space.metric.solve_exp(100 * velocities, points)
    assert np.isfinite(ends.crossing_time).all()
    flow, count = type(space.metric.system.linearized), []
    rates = flow.rates

    def counted(self, state):
        count.append(len(state) * (state.shape[2] - 1))
        return rates(self, state)

    monkeypatch.setattr(flow, "rates", counted)
    for x, z in zip(points, velocities, strict=True):
        assert space.metric.conjugate_time(z, x) == np.inf
    assert sum(count) < 35_000


def test_straight_factors_have_no_conjugate_points_before_they_end():
    """At N = 2, with equal polar factors, the closed flow is one piece that has a singular end."""
    metric, point = DLNObservableManifold(n=2, depth=2).metric, np.diag(np.exp([1.0, -1.0]))
    inward, across = np.diag([-1.0, np.exp(1.0)]), np.array([[0.0, 1.0], [1.0, 0.0]])
    vectors = metric.normalize(np.stack([inward, inward + across, across - inward]), point)
    assert (metric.solve_exp(40 * vectors, point).crossing_time < 1).all()
    assert np.isinf(metric.conjugate_time(vectors, point, 40.0)).all()
