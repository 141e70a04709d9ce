"""exp of end-to-end matrices of every shape, rank and depth: other codes, and what is conserved."""

import math

import layer_flow
import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold

WIDTHS = [
    ((4, 3, 5), (1, 2, 3)),
    ((3, 5, 3), (1, 2, 3)),
    ((5, 2, 4), (1, 2)),
    ((4, 3, 5, 4), (1, 2, 3)),
]
SPACES = [
    DLNObservableManifold(n=3, rank=1, depth=4),
    DLNObservableManifold(n=4, rank=2, depth=1.5),
    DLNObservableManifold(shape=(5, 3), rank=2, depth=3),
    DLNObservableManifold(shape=(6, 3), depth=2),
    DLNObservableManifold(shape=(4, 5), rank=3, depth=30),
    DLNObservableManifold(shape=(4, 4), rank=3, depth=300),
    DLNObservableManifold(n=3, depth=8),
    DLNObservableManifold(n=3, depth=1e6),
    DLNObservableManifold(n=4, depth=math.inf),
]
each = pytest.mark.parametrize("space", SPACES, ids=repr)


def points_of(space):
    """Return a generic point, one of equal singular values, and the identity as far as it goes."""
    u, v = (np.linalg.qr(np.random.normal(size=(k, k)))[0] for k in space.shape)
    identity = np.eye(*space.shape) * (np.arange(space.shape[1]) < space.rank)
    pair = identity.copy()
    pair[0, 0], pair[space.rank - 1, space.rank - 1] = 2.0, 1 + 1e-9
    return np.stack([space.random_point(bound=0.5), u @ identity @ v, u @ pair @ v, identity])


def vectors_at(space, points, length=0.25):
    """Return tangent vectors of a length relative to that of the layers.

    Of deep networks the logarithms of singular values move by that times the depth: less then.
    """
    vectors = space.to_tangent(np.random.normal(size=points.shape), points)
    size = length * np.sqrt(space.rank * min(space.depth, 50 / space.depth))
    norms = space.metric.norm(vectors, points)
    return size * vectors / norms[:, None, None] if np.isfinite(space.depth) else vectors / 3


@pytest.mark.parametrize(("widths", "rank"), [(w, r) for w, ranks in WIDTHS for r in ranks])
def test_exp_is_that_of_the_layers(widths, rank):
    """Layers of these widths, followed with multipliers of their own."""
    space = DLNObservableManifold(widths=widths, rank=rank)
    points = points_of(space)
    vectors = vectors_at(space, points, 0.4)
    ends = space.metric.exp(vectors, points)
    assert space.belongs(ends).all()
    for X, Z, end in zip(points, vectors, ends, strict=True):
        expected = layer_flow.exp(Z, X, rank, widths)
        assert np.linalg.norm(end - expected) <= 1e-9 * np.linalg.norm(expected)


def momenta(points, momentum):
    """Return ``X P^T - P X^T`` and ``X^T P - P^T X``."""
    first = points @ np.swapaxes(momentum, -1, -2)
    second = np.swapaxes(points, -1, -2) @ momentum
    return [x - np.swapaxes(x, -1, -2) for x in (first, second)]


def states_of(space, points, vectors):
    """Return times, points and velocities along geodesics, ``(n_times, n_batch, m, n)``."""
    solution = space.metric.solve_exp(vectors, points)
    assert solution.success.all()
    system, path = solution.system, solution.trajectory
    found = [[], [], []]
    for times, states, scale in zip(path.times, path.states, path.scales, strict=True):
        unit = system.at(states[:, 0, 0], scale)
        velocity = system.sharp(unit, states[:, 1, 0], scale)
        for kept, value in zip(found, (times, system.point(unit), velocity), strict=True):
            kept.append(value)
    return map(np.stack, found)


@each
def test_what_geodesics_conserve(space):
    """Energy and both momenta, through the dense pseudo-inverse of the cometric; and the rank."""
    points = points_of(space)
    vectors = vectors_at(space, points)
    times, along, velocities = states_of(space, points, vectors)
    assert times[-1].tolist() == [1] * len(points)
    assert_allclose(velocities[0], vectors, atol=1e-12 * np.abs(vectors).max())
    speed = space.metric.norm(velocities, along)
    assert np.abs(speed / space.metric.norm(vectors, points) - 1).max() <= 1e-11
    matrices = space.metric.metric_matrix(along)
    momentum = (matrices @ velocities.reshape(*along.shape[:2], -1, 1)).reshape(along.shape)
    size = np.linalg.norm(along, axis=(-2, -1)) * np.linalg.norm(momentum, axis=(-2, -1))
    for moment in momenta(along, momentum):
        drift = np.linalg.norm(moment - moment[0], axis=(-2, -1))
        assert (drift / size).max() <= 1e-11
    values = np.linalg.svd(along, compute_uv=False)
    assert values[..., space.rank :].max(initial=0) <= 1e-11 * values.max()
    assert space.belongs(along).all()


@each
def test_cone_law(space):
    """``N sum s(t)^(2/N) = |W|^2 + 2 t <W, V> + t^2 |V|^2``; at infinity log |det X| is affine."""
    points = points_of(space)
    vectors = vectors_at(space, points)
    times = np.linspace(0, 1, 7)
    solution, depth, rank = space.metric.solve_exp(vectors, points), space.depth, space.rank
    left, s, right_t = np.linalg.svd(points, full_matrices=False)
    left, s, right_t = left[..., :rank], s[..., :rank], right_t[..., :rank, :]
    diagonal = np.einsum("bmi,bmn,bin->bi", left, vectors, right_t)
    logs = np.log(np.linalg.svd(solution(times), compute_uv=False)[..., :rank])
    if np.isinf(depth):
        expected = np.log(s).sum(-1)[:, None] + times * (diagonal / s).sum(-1)[:, None]
        assert_allclose(logs.sum(-1), expected, atol=1e-11)
        return
    # |W|^2 - N r, free of cancellation in deep networks.
    found = depth * np.expm1(2 / depth * logs).sum(-1)
    inner = np.sum(s ** (2 / depth - 1) * diagonal, axis=-1)
    square = space.metric.squared_norm(vectors, points)
    expected = depth * np.expm1(2 / depth * np.log(s)).sum(-1)[:, None]
    expected = expected + 2 * times * inner[:, None] + times**2 * square[:, None]
    assert_allclose(found, expected, rtol=1e-11, atol=1e-11 * rank * min(depth, 10))


@each
def test_isometries(space):
    """Orthogonal matrices on both sides, and transposition."""
    points = points_of(space)
    vectors = vectors_at(space, points)
    u, v = (np.linalg.qr(np.random.normal(size=(k, k)))[0] for k in space.shape)
    ends = space.metric.exp(vectors, points)
    turned = space.metric.exp(u @ vectors @ v, u @ points @ v)
    assert_allclose(turned, u @ ends @ v, atol=1e-11 * np.abs(ends).max())
    other = DLNObservableManifold(shape=space.shape[::-1], rank=space.rank, depth=space.depth)
    flipped = other.metric.exp(*(x.swapaxes(1, 2) for x in (vectors, points)))
    assert_allclose(flipped.swapaxes(1, 2), ends, atol=1e-11 * np.abs(ends).max())
