"""Christoffel action in the entries of matrices and of layers."""

import math

import numpy as np
import pytest
from curvature_reference import differences, field_derivatives
from numpy.testing import assert_allclose
from spectral_matrices import rotation
from spectral_reference import check

from dln_manifolds.geometry import connection, sectors
from dln_manifolds.geometry.balancing import factor
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame

INF = math.inf


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


CASES = {
    "square": (normal((2, 2)), 2, [1, 1.5, 2, 3, 8, INF]),
    "orthogonal": (1.5 * rotation(2, 1), 2, [1.5, 3, INF]),
    "close": (rotation(3, 1) @ np.diag([1.0, 1.0 - 1e-9, 0.5]) @ rotation(3, 2), 3, [1.5, 4, INF]),
    "ill": (np.diag([1.0, 1e-4]), 2, [1.5, 4, INF]),
    "rank 1": (np.outer([1.2, 0.7], [0.9, -0.5]), 1, [1, 1.25, 2, 3]),
    "rank 2": (normal((3, 2)) @ normal((2, 3)), 2, [1, 2.5]),
    "tall": (normal((3, 2)), 2, [1.5, 3]),
}


@pytest.mark.parametrize("name", CASES)
def test_christoffel_action_is_that_of_coordinates(name):
    """``nabla e_b`` along e_a from Christoffel symbols of coordinates, and from ours."""
    x, rank, depths = CASES[name]
    moved = field_derivatives(x, rank)
    for depth in depths:
        # Of few coordinates, all; their curvature is not asked for.
        vectors, _, symbols, _ = differences(x, rank, depth, curvature=False)
        frame = Frame.of_point(x, depth, rank)
        got = moved + connection.christoffel(frame, vectors[:, None], vectors)
        wanted = np.einsum("abc,cmn->abmn", symbols, vectors)
        check(np.abs(got - wanted).max(), 1e-11 * np.abs(wanted).max(initial=1e-3))


@pytest.mark.parametrize("depth", [1.5, 3, INF])
def test_symbols_are_the_action_on_entries(depth):
    x, a, b = normal((2, 2, 2, 2))[0], *normal((2, 2, 2, 2), 1)
    frame = Frame.of_point(x, depth)
    symbols = connection.christoffel_symbols(frame)
    flat = [v.reshape(2, 4) for v in (a, b)]
    got = np.einsum("bkij,bi,bj->bk", symbols, *flat).reshape(a.shape)
    assert_allclose(got, connection.christoffel(frame, a, b), rtol=1e-12, atol=1e-13)
    assert_allclose(symbols, symbols.swapaxes(-1, -2), rtol=0, atol=1e-13 * abs(symbols).max())


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_transpose(name):
    x, rank, depths = CASES[name]
    for depth in depths:
        frame = Frame.of_point(x, depth, rank)
        a, b = frame.assemble(frame.blocks(normal((2, *x.shape))))
        covector = normal(x.shape, 2)
        gradient = connection.christoffel_gradient(frame, covector, b)
        assert_allclose(frame.assemble(frame.blocks(gradient)), gradient, rtol=1e-12, atol=1e-12)
        wanted = np.sum(covector * connection.christoffel(frame, a, b))
        check(abs(np.sum(gradient * a) - wanted), 1e-11 * max(np.abs(gradient).max(), abs(wanted)))


def test_one_layer_has_none():
    frame = Frame.of_point(normal((3, 3)), 1)
    check(np.abs(connection.christoffel(frame, *normal((2, 3, 3)))), 1e-15)


@pytest.mark.parametrize("depth", [1.5, 3, INF])
def test_lines_with_the_same_singular_vectors(depth):
    """Along ``U diag(l(t)^N) V^T`` with affine l, ``X'' = -Gamma(X', X')``; at infinity log s."""
    left, right_t = rotation(3, 1), rotation(3, 2)
    roots, rate = np.array([1.2, 0.8, 0.8]), np.array([0.3, -0.1, 0.2])
    if depth == INF:
        s, first, second = roots, roots * rate, roots * rate**2
    else:
        s, first = roots**depth, depth * roots ** (depth - 1) * rate
        second = depth * (depth - 1) * roots ** (depth - 2) * rate**2
    frame = Frame(left, s, right_t, depth, 1.0)
    z = left @ np.diag(first) @ right_t
    got = connection.christoffel(frame, z, z)
    assert_allclose(got, -left @ np.diag(second) @ right_t, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("widths", "rank"), [((3, 3, 3), 3), ((2, 4, 3), 2), ((3, 2, 3), 1)])
def test_layers_accelerate_normally_only(widths, rank):
    chain, depth = chain_of(widths), len(widths) - 1
    x = normal((widths[-1], rank)) @ normal((rank, widths[0]))
    frame = Frame.of_layers(factor(Frame.of_point(x, depth, rank), chain), chain, rank)
    a, b, c = (sectors.tangent_part(frame, v) for v in normal((3, *chain.array_shape)))
    got = connection.christoffel(frame, a, b)
    assert np.abs(got).max() > 1e-3
    check(abs(np.sum(got * c)), 1e-13 * np.linalg.norm(got) * np.linalg.norm(c))
    assert_allclose(got, connection.christoffel(frame, b, a), rtol=0, atol=1e-13)
