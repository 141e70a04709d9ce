"""The Lagrangian of the root chart at any shape and rank: energy, derivatives, guards."""

import numpy as np
import pytest
from spectral_reference import check

from dln_manifolds.geometry.graph_chart import GraphPoints, SquarePoints, with_corner
from dln_manifolds.numerics.matrices import rotation as exponential
from dln_manifolds.numerics.matrices import transpose

SHAPES = [(3, 3, 3), (3, 3, 1), (4, 4, 2), (5, 3, 2), (4, 5, 3), (6, 3, 3), (3, 5, 3), (1, 4, 1)]
DEPTHS = [1, 1.5, 2, 4]
KINDS = ["generic", "equal"]


def drawn(shape, kind, seed=0, batch=(2, 3)):
    """Points, rates and turns; with all roots equal at the first node of each member."""
    m, n, r = shape
    rng = np.random.default_rng([m, n, r, seed])
    x, rate = 0.2 * rng.standard_normal((2, *batch, m, n))
    x[..., :r, :r] += np.diag(np.linspace(1.0, 1.4, r))
    if min(m, n) > r:
        x, rate = with_corner(x, r, 0.0), with_corner(rate, r, 0.0)
    if kind == "equal":
        x[:, 0] = 0
        x[:, 0, :r, :r] = 1.2 * np.eye(r)
    turns = tuple(
        0.5 * (a - transpose(a)) for a in (rng.standard_normal((2, k, k)) for k in (m, n))
    )
    return x, rate, turns


def points(shape, x, rate, turns, depth):
    if shape == (shape[2],) * 3:
        return SquarePoints(x, rate, turns, depth)
    return GraphPoints(x, rate, turns, depth, shape[2])


def graph(x, rank):
    """``T`` of the chart."""
    m, q, p = x[..., :rank, :rank], x[..., :rank, rank:], x[..., rank:, :rank]
    if min(x.shape[-2:]) == rank:
        return x
    return with_corner(x, rank, p @ np.linalg.solve(m, q))


def independent_energy(root, velocity, depth, rank):
    """``g_T(v, v) / 2`` in whole singular bases: weight one beside the core of nonzero roots."""
    u, roots, vt = np.linalg.svd(root)
    inside = np.swapaxes(u, -1, -2) @ velocity @ np.swapaxes(vt, -1, -2)
    assert np.abs(inside[..., rank:, rank:]).max(initial=0) < 1e-7  # a tangent vector
    roots = roots[..., :rank]
    half = 0.5 * np.log(roots[..., :, None] / roots[..., None, :])
    close = np.abs(half) < 1e-9
    kappa = np.where(close, depth, np.tanh(depth * half) / np.tanh(np.where(close, 1.0, half)))
    core = inside[..., :rank, :rank]
    even, odd = 0.5 * (core + transpose(core)), 0.5 * (core - transpose(core))
    square = np.sum(inside**2, axis=(-2, -1)) - np.sum(core**2, axis=(-2, -1))
    return 0.5 * (square + np.sum(kappa * even**2 + odd**2 / kappa, axis=(-2, -1)))


STENCIL = [(k, w) for k, w in zip((-3, -2, -1, 1, 2, 3), (-1, 9, -45, 45, -9, 1), strict=True)]


def slope(function, step=1e-3):
    """Derivative at zero, of sixth order."""
    return sum(w * function(k * step) for k, w in STENCIL) / (60 * step)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_energy(shape, kind, depth):
    x, rate, turns = drawn(shape, kind)

    def turning(t):
        left, right = (exponential(t * turn)[:, None] for turn in turns)
        return left @ graph(x + t * rate, shape[2]) @ transpose(right)

    wanted = independent_energy(turning(0.0), slope(turning), depth, shape[2])
    got = points(shape, x, rate, turns, depth).energy
    check(np.abs(got / wanted - 1), 1e-10)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives(shape, kind, depth):
    x, rate, turns = drawn(shape, kind)
    dx, d_rate, _ = drawn(shape, "generic", seed=1)

    def energy(t):
        return points(shape, x + t * dx, rate + t * d_rate, turns, depth).energy

    momentum, force = points(shape, x, rate, turns, depth).derivatives()
    got = np.sum(momentum * d_rate + force * dx, axis=(-2, -1))
    check(np.abs(got - slope(energy)), 1e-9 * depth * (1 + np.abs(got)))
    if shape[2] < min(shape[:2]):
        assert not momentum[..., shape[2] :, shape[2] :].any()
        assert not force[..., shape[2] :, shape[2] :].any()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_second_variation(shape, kind, depth):
    x, rate, turns = drawn(shape, kind)
    dx, d_rate, _ = drawn(shape, "generic", seed=1)

    def derivatives(t):
        return np.stack(points(shape, x + t * dx, rate + t * d_rate, turns, depth).derivatives())

    variation = points(shape, x, rate, turns, depth).second_variation()
    wanted = slope(derivatives)
    got = np.stack(variation.apply(dx.copy(), d_rate.copy()))
    # where roots coincide they are spread on purpose
    bound = 1e-9 if kind == "generic" else 1e-2
    check(np.linalg.norm(got - wanted) / np.linalg.norm(wanted), bound)
    second = np.array([1])
    part = np.stack(variation.take(second).apply(dx[second].copy(), d_rate[second].copy()))
    check(np.abs(part - got[:, second]), 1e-10 * np.abs(got).max())


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_raising_the_momentum_gives_the_rate(shape, depth):
    x, rate, turns = drawn(shape, "generic")
    at = points(shape, x, rate, tuple(np.zeros_like(turn) for turn in turns), depth)
    momentum, _ = at.derivatives()
    check(np.abs(at.raise_(momentum) - rate), 1e-11 * depth)
    np.testing.assert_allclose(np.sum(momentum * rate, axis=(-2, -1)) / 2, at.energy, rtol=1e-12)
    part = at.take(np.array([1]))
    np.testing.assert_array_equal(part.raise_(momentum[1:]), at.raise_(momentum)[1:])


@pytest.mark.parametrize("harm", ["singular", "reflected", "two at once", "steep", "nan"])
def test_members_outside_the_chart_leave_the_others_alone(harm):
    shape, depth = (5, 4, 2), 3
    x, rate, turns = drawn(shape, "generic")
    wanted = GraphPoints(x[1:], rate[1:], tuple(turn[1:] for turn in turns), depth, 2)
    if harm == "singular":
        x[0, 1, 0, :2] = 0
    elif harm == "reflected":
        x[0, 1, 0, :2] *= -1
    elif harm == "two at once":
        x[0, 1, :2, :2] *= -1
    elif harm == "steep":
        x[0, 1, 2:, 0] = 100
    else:
        x[0, 1, 0, 0] = np.nan
    got = GraphPoints(x, rate, turns, depth, 2)
    assert np.isinf(got.energy[0]).all()
    np.testing.assert_allclose(got.energy[1:], wanted.energy, rtol=1e-14)
    for value, other in zip(got.derivatives(), wanted.derivatives(), strict=True):
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value[1:], other, rtol=1e-12)
