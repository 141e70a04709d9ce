"""Geodesics in closed form: of rank 1, of two layers, with the same singular vectors, and radial.

Those of square matrices against solved geodesics: ``tests/geodesics/test_log.py``.
"""

import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose
from root_chart import pull_from_root
from spectral_matrices import matrices

from dln_manifolds.geometry.balancing import factor
from dln_manifolds.geometry.bounds import lower_bound, upper_bound
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.closed_forms import (
    closed_form_velocity,
    radial_rate,
    rank_one_velocity,
)
from dln_manifolds.geometry.coefficients import a
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import root_of

RATES = np.array([-7.0, -1 / 3, 0.0, 1e-5, 2.0])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 2, 2), (5,)])
def test_multiples_of_the_point_are_radial(shape, scale):
    x = np.random.default_rng(len(shape)).normal(size=(len(RATES), *shape))
    v = np.reshape(RATES, (-1, *(1,) * len(shape))) * x
    rate, radial = radial_rate(scale * x, scale * v)
    assert radial.all()
    assert_allclose(rate, RATES, rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2, 2)])
def test_others_are_not_radial(shape):
    x, other = np.random.default_rng(0).normal(size=(2, 20, *shape))
    size = np.abs(x).reshape(20, -1).max(axis=1).reshape(-1, *(1,) * len(shape))
    _, radial = radial_rate(x, x + 1e-13 * size * np.sign(other))
    assert not radial.any()
    assert not radial_rate(x, other)[1].any()


@pytest.mark.parametrize("depth", [1.5, 4])
def test_velocities_c_x_have_the_rate_c_over_n_in_the_root_chart(depth):
    X = matrices("random", 3, 4)
    frame = Frame.of_point(X, depth)
    rate, radial = radial_rate(X, pull_from_root(frame, root_of(frame)))
    # to first order (1 + t / N)^N X of (1 + t / N) T
    assert_allclose(rate, depth, rtol=1e-12)
    assert radial_rate(X, -2 * X)[1].all()
    W = factor(frame, chain_of((frame.left.shape[-1],) * 4))
    assert radial_rate(W, -W / 3)[1].all()
    assert radial.shape == (4,)


def length(frame, blocks):
    """Length of vectors, from their blocks: weights ``1 / a_ij`` and ``s_j^(2/N - 2)``."""
    s, rank = frame.singular_values, frame.values.shape[-1]
    core = np.sum(blocks[..., :rank, :] ** 2 / a(s, frame.depth), axis=(-2, -1))
    beside = blocks[..., rank:, :] * (s ** (1 / frame.depth - 1))[..., None, :]
    return np.sqrt(core + np.sum(beside**2, axis=(-2, -1)))


def rank_one(m, n, count, seed, depth):
    """Pairs of random matrices of rank 1, and their frames."""
    rng = np.random.default_rng([m, n, seed])
    u, v = rng.normal(size=(2, count, m)), rng.normal(size=(2, count, n))
    X = u[..., :, None] * v[..., None, :]
    return X, [Frame.of_point(x, depth, 1) for x in X]


def rank_one_distance(first, last, depth):
    """The formula in 50 digits."""
    with mpmath.workdps(50):
        N = mpmath.mpf(depth)
        cosines = []
        for p, q in ((first.left[:, 0], last.left[:, 0]), (first.right_t[0], last.right_t[0])):
            dot = mpmath.fdot(map(mpmath.mpf, p), map(mpmath.mpf, q))
            norms = [
                mpmath.sqrt(mpmath.fdot(map(mpmath.mpf, x), map(mpmath.mpf, x))) for x in (p, q)
            ]
            cosines.append((dot / norms[0] / norms[1], len(p)))
        allowed = []
        for sign in (1, -1):
            # What has one entry only keeps its sign.
            if all(size > 1 or sign * cosine > 0 for cosine, size in cosines):
                allowed.append(sum(mpmath.acos(sign * cosine) ** 2 for cosine, _ in cosines))
        angle = mpmath.sqrt(min(allowed) / N)
        l_0, l_1 = (mpmath.mpf(f.values[0]) ** (1 / N) for f in (first, last))
        return float(mpmath.sqrt(N * (l_0**2 + l_1**2 - 2 * l_0 * l_1 * mpmath.cos(angle))))


@pytest.mark.parametrize("shape", [(3, 3), (2, 2), (5, 2), (1, 4), (4, 1)])
@pytest.mark.parametrize("depth", [1, 1.5, 2, 4, 30, 1e6])
def test_length_of_rank_one_in_many_digits(shape, depth):
    _, (first, last) = rank_one(*shape, 6, 0, depth)
    velocity, known = closed_form_velocity(first, last)
    assert known.all()
    assert_allclose(velocity, rank_one_velocity(first, last), rtol=0)
    expected = [rank_one_distance(first.take(k), last.take(k), depth) for k in range(6)]
    assert_allclose(length(first, velocity), expected, rtol=1e-12)
    assert (lower_bound(first, last) <= expected).all()
    # Frames that turn steadily are the geodesic, up to its speed.
    assert_allclose(upper_bound(first, last), expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (1, 4)])
@pytest.mark.parametrize("depth", [1, 1.5, 2, 4, 30])
def test_velocity_of_rank_one_is_minus_the_gradient_of_half_the_squared_distance(shape, depth):
    (X, _), (first, last) = rank_one(*shape, 8, 1, depth)
    velocity = rank_one_velocity(first, last)
    vector = first.blocks(np.random.default_rng(1).normal(size=X.shape))
    s, weights = first.singular_values[:, :, None], np.ones_like(vector)
    weights[:, :1] = s ** (2 / depth - 2) / depth
    weights[:, 1:] = s ** (2 / depth - 2)
    expected = np.sum(weights * velocity * vector, axis=(-2, -1))
    step, squares = 1e-5, []
    for sign in (1, -1):
        moved = Frame.of_point(X + sign * step * first.assemble(vector), depth, 1)
        squares.append(length(moved, rank_one_velocity(moved, last)) ** 2)
    found = -(squares[0] - squares[1]) / (4 * step)
    assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("depth", [1.5, 2, 4])
def test_opposite_vectors_of_rank_one_turn_in_any_direction(depth):
    """The joint sign leaves one of u and v to turn by pi."""
    u, v = np.eye(3)[0], np.array([0.6, 0.8])
    first, last = (Frame.of_point(sign * np.outer(u, v)[None], depth, 1) for sign in (1, -1))
    expected = math.sqrt(depth) * 2 * math.sin(math.pi / math.sqrt(depth) / 2)
    assert_allclose(length(first, rank_one_velocity(first, last)), expected, rtol=1e-12)


def spd(rng, r, count=10):
    g = rng.normal(size=(count, r, r))
    return g @ g.swapaxes(-1, -2) + 0.05 * np.eye(r)


def two_layers_end(frame, blocks):
    """Follow straight factors from their horizontal velocities, read off the blocks."""
    rank, root = frame.values.shape[-1], frame.roots[:, None, :]
    s = frame.singular_values
    momentum = blocks[:, :rank] / (s[:, :, None] + s[:, None, :])
    factors = []
    left_rows, _ = frame.sides
    for basis, core, side in (
        (frame.left, momentum, blocks[:, rank : rank + left_rows]),
        (frame.right_t.swapaxes(-1, -2), momentum.swapaxes(-1, -2), blocks[:, rank + left_rows :]),
    ):
        rate = basis @ (core * root)
        if side.size:
            rate = rate + side / root
        factors.append((basis * root, rate))
    (L, dL), (R, dR) = factors
    balance = dL.swapaxes(-1, -2) @ dL - dR.swapaxes(-1, -2) @ dR
    return (L + dL) @ (R + dR).swapaxes(-1, -2), np.abs(balance).max()


def straight_pairs(kind, m, n, r):
    rng = np.random.default_rng([m, n, r])
    left, right = (np.linalg.qr(rng.normal(size=(10, k, r)))[0] for k in (m, n))
    if kind == "equal polar factors":
        return [left @ spd(rng, r) @ right.swapaxes(-1, -2) for _ in range(2)]
    # Factors that turn apart: L' = l^-1 K and R' = -l^-1 K, K skew, keep the balance.
    root = np.sort(rng.uniform(0.5, 2, size=(10, 1, r)))[..., ::-1]
    skew = rng.normal(size=(10, r, r))
    turn = 0.4 * (skew - skew.swapaxes(-1, -2)) / root.swapaxes(-1, -2)
    L, R = left * root, right * root
    return L @ R.swapaxes(-1, -2), (L + left @ turn) @ (R - right @ turn).swapaxes(-1, -2)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4, 2), (6, 3, 2), (5, 3, 3), (3, 6, 3)])
@pytest.mark.parametrize("kind", ["equal polar factors", "factors that turn apart"])
@pytest.mark.parametrize("size", [1e-100, 1.0, 1e100])
def test_straight_factors_of_two_layers(shape, kind, size):
    X, Y = straight_pairs(kind, *shape)
    first, last = (Frame.of_point(size * Z, 2, shape[2]) for Z in (X, 3 * Y))
    velocity, known = closed_form_velocity(first, last)
    assert known.all()
    end, imbalance = two_layers_end(first, velocity)
    assert_allclose(end / size, 3 * Y, atol=1e-12 * np.abs(Y).max())
    assert imbalance <= 1e-12 * size * np.abs(Y).max()
    # There the bound is attained.
    assert_allclose(length(first, velocity), lower_bound(first, last), rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 30, 1e6, math.inf])
@pytest.mark.parametrize("equal", [False, True])
def test_same_singular_vectors(depth, equal):
    rng = np.random.default_rng(3)
    left, right = np.linalg.qr(rng.normal(size=(2, 10, 4, 4)))[0]
    s, t = np.exp(rng.normal(size=(2, 10, 1, 4)))
    if equal:
        s[..., 1] = s[..., 0]
    X, Y = ((left * v) @ right for v in (s, t))
    first, last = Frame.of_point(X, depth), Frame.of_point(Y, depth)
    velocity, known = closed_form_velocity(first, last)
    assert known.all()
    logs = np.log(t / s)
    rate = depth * np.expm1(logs / depth) if math.isfinite(depth) else logs
    expected = (left * (s * rate)) @ right
    assert_allclose(first.assemble(velocity), expected, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(5, 3, 2), (4, 4, 2), (3, 5, 3)])
@pytest.mark.parametrize("depth", [1.5, 3, 30])
def test_same_singular_vectors_of_lower_rank(shape, depth):
    (m, n, r), rng = shape, np.random.default_rng(4)
    left, right = (np.linalg.qr(rng.normal(size=(10, k, r)))[0] for k in (m, n))
    s, t = np.exp(rng.normal(size=(2, 10, 1, r)))
    X, Y = ((left * v) @ right.swapaxes(-1, -2) for v in (s, t))
    first, last = (Frame.of_point(Z, depth, r) for Z in (X, Y))
    velocity, known = closed_form_velocity(first, last)
    assert known.all()
    expected = (left * (depth * s * np.expm1(np.log(t / s) / depth))) @ right.swapaxes(-1, -2)
    assert_allclose(first.assemble(velocity), expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (2, 6)])
def test_one_layer_of_full_rank_moves_on_straight_lines(shape):
    X, Y = np.random.default_rng(5).normal(size=(2, 10, *shape))
    first = Frame.of_point(X, 1)
    velocity, known = closed_form_velocity(first, Frame.of_point(Y, 1))
    assert known.all()
    assert_allclose(first.assemble(velocity), Y - X, atol=1e-13)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 1e6, 1e9, math.inf])
@pytest.mark.parametrize("shape", [(3, 3, 3), (4, 4, 2), (5, 3, 3)])
def test_other_pairs_have_no_closed_form(shape, depth):
    m, n, r = shape
    rng = np.random.default_rng(6)
    X, Y = rng.normal(size=(2, 50, m, r)) @ rng.normal(size=(2, 50, r, n))
    first = Frame.of_point(X, depth, r)
    for other in (Y, X + 1e-6 * rng.normal(size=X.shape), X * (1 + 1e-3) + 1e-6 * Y):
        velocity, known = closed_form_velocity(first, Frame.of_point(other, depth, r))
        assert not known.any()
        assert not velocity.any()


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, math.inf])
def test_the_same_point_is_at_rest(depth):
    X = np.random.default_rng(7).normal(size=(10, 3, 3))
    frame = Frame.of_point(X, depth)
    velocity, known = closed_form_velocity(frame, frame)
    assert known.all()
    assert not velocity.any()
