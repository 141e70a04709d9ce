"""Sectors of layers of any widths and rank, against dense linear algebra of differentials."""

import itertools

import numpy as np
import pytest
from dense_layers import (
    NETWORKS,
    ROOTS,
    case,
    constraint_matrix,
    dense_bases,
    like,
    motion_matrix,
    name_of,
    orbit_velocities,
    product,
    product_matrix,
    range_of,
    vector,
)
from numpy.testing import assert_allclose

from dln_manifolds import BalancedManifold

PARTS = ("horizontal", "vertical", "normal")
networks = pytest.mark.parametrize("network", NETWORKS, ids=name_of)
kinds = pytest.mark.parametrize("kind", ROOTS)


@pytest.fixture
def setting(network, kind):
    """Return a space, a point as a list of layers, and the same as an array."""
    widths, rank = network
    space = BalancedManifold(widths=widths, rank=rank)
    layers = case(network, kind)
    return space, layers, space.point(layers)


def ranks(widths, r):
    """Return the dimensions of the three sectors."""
    hidden = widths[1:-1]
    corners = sum((a - r) * (b - r) for a, b in itertools.pairwise(widths))
    normal = len(hidden) * r * (r + 1) // 2 + r * sum(d - r for d in hidden) + corners
    return (
        (widths[0] + widths[-1] - r) * r,
        sum(d * r - r * (r + 1) // 2 for d in hidden),
        normal,
    )


def rows(vectors, layers):
    """Return vectors of the space as rows of entries."""
    return vectors.reshape(len(vectors), sum(layer.size for layer in layers))


def projectors(space, W):
    """Return the matrices of the three projections."""
    size = W.size
    basis = np.eye(size).reshape(size, *W.shape)
    return [getattr(space, f"{part}_projection")(basis, W).reshape(size, size).T for part in PARTS]


@networks
@kinds
def test_jacobi_basis_is_orthonormal_complete_and_of_the_right_numbers(network, setting):
    space, layers, W = setting
    basis = space.jacobi_basis(W)
    parts = [rows(getattr(basis, part), layers) for part in PARTS]
    assert tuple(map(len, parts)) == ranks(*network)
    assert space.dim == len(parts[0]) + len(parts[1])
    assert sum(map(len, parts)) == W.size
    whole = np.concatenate(parts)
    assert_allclose(whole @ whole.T, np.eye(W.size), rtol=0, atol=1e-13)
    assert_allclose(whole.T @ whole, np.eye(W.size), rtol=0, atol=1e-13)
    # each sector is the range of its projection
    for part, matrix in zip(parts, projectors(space, W), strict=True):
        assert_allclose(part.T @ part, matrix, rtol=0, atol=1e-13)


@networks
@kinds
def test_sectors_are_those_of_the_differentials(setting):
    space, layers, W = setting
    for matrix, basis in zip(projectors(space, W), dense_bases(layers), strict=True):
        assert_allclose(matrix, basis @ basis.T, rtol=0, atol=1e-12)
    tangent = space.to_tangent(np.eye(W.size).reshape(-1, *W.shape), W)
    basis = range_of(motion_matrix(layers))
    assert_allclose(rows(tangent, layers), basis @ basis.T, rtol=0, atol=1e-12)


@networks
@kinds
def test_tangent_vectors_are_those_that_keep_balance_and_rank(setting):
    space, layers, W = setting
    constraints = constraint_matrix(layers)
    horizontal, vertical, normal = projectors(space, W)
    assert_allclose(constraints @ (horizontal + vertical), 0, rtol=0, atol=1e-13)
    # and they are all of them
    gradients = range_of(constraints.T)
    assert_allclose(gradients @ gradients.T, normal, rtol=0, atol=1e-12)


@networks
def test_vertical_vectors_are_velocities_of_the_group(network):
    space, layers = BalancedManifold(widths=network[0], rank=network[1]), case(network)
    W = space.point(layers)
    velocities, _ = orbit_velocities(layers)
    velocities = velocities.reshape(-1, *W.shape)
    assert_allclose(space.vertical_projection(velocities, W), velocities, rtol=0, atol=1e-13)
    assert_allclose(space.push_forward(velocities, W), 0, rtol=0, atol=1e-13)
    # as many as there are vertical vectors
    assert range_of(rows(velocities, layers).T).shape[1] == ranks(*network)[1]


@networks
@kinds
def test_horizontal_lift_is_the_shortest_preimage(network, setting):
    space, layers, W = setting
    # of tangent vectors, which matters for a single layer of lower rank
    tangent = range_of(motion_matrix(layers))
    differential, count = product_matrix(layers) @ tangent @ tangent.T, 3
    Z = np.random.normal(size=(count, *space.stratum.shape))
    basis = range_of(differential)
    Z = (Z.reshape(count, -1) @ basis @ basis.T).reshape(Z.shape)
    expected = np.linalg.lstsq(differential, Z.reshape(count, -1).T, rcond=1e-9)[0].T
    lift = space.horizontal_lift(Z, W)
    assert_allclose(rows(lift, layers), expected, rtol=0, atol=1e-12)
    assert_allclose(space.push_forward(lift, W), Z, rtol=0, atol=1e-13)
    assert_allclose(space.horizontal_projection(lift, W), lift, rtol=0, atol=1e-13)


@networks
@kinds
def test_push_forward_is_the_differential_of_the_product(network, setting):
    space, layers, W = setting
    V = space.random_tangent_vec(W, 3)
    expected = rows(V, layers) @ product_matrix(layers).T
    assert_allclose(space.push_forward(V, W).reshape(3, -1), expected, rtol=0, atol=1e-13)
    assert_allclose(space.end_to_end(W), product(layers), rtol=0, atol=1e-14)


@networks
def test_layers_there_and_back(network):
    space, layers = BalancedManifold(widths=network[0], rank=network[1]), case(network)
    W = space.point(layers)
    assert W.shape == space.shape
    assert space.belongs(W)
    for found, wanted in zip(space.layers(W), layers, strict=True):
        assert_allclose(found, wanted, rtol=0, atol=0)
    assert_allclose(W.ravel(), vector(layers), rtol=0, atol=0)
    batch = space.random_point(2)
    assert [layer.shape for layer in space.layers(batch)] == [(2, *w.shape) for w in layers]
    assert_allclose(space.point(space.layers(batch)), batch, rtol=0, atol=0)
    assert_allclose(vector(like(layers, W.ravel())), W.ravel(), rtol=0, atol=0)
