"""Entropy of networks with hidden widths and rank: volumes of fibres, found in other ways."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from dense_layers import (
    ROOTS,
    case,
    dense_bases,
    name_of,
    orbit_velocities,
    product_matrix,
    vector,
)
from numpy.testing import assert_allclose

from dln_manifolds import BalancedManifold, DLNObservableManifold

NETWORKS = [
    ((4, 3, 5), 3),
    ((4, 3, 5), 2),
    ((4, 3, 5), 1),
    ((3, 5, 3), 3),
    ((3, 5, 3), 2),
    ((3, 5, 4, 3), 3),
    ((3, 5, 4, 3), 2),
    ((5, 2, 4), 2),
    ((5, 2, 4), 1),
    ((3, 3, 3), 3),
    ((3, 3, 3), 2),
]
networks = pytest.mark.parametrize("network", NETWORKS, ids=name_of)
kinds = pytest.mark.parametrize("kind", ROOTS)
H = 1e-2


def spaces_of(network):
    """Return the layers and the matrices of a network."""
    widths, rank = network
    return (
        BalancedManifold(widths=widths, rank=rank),
        DLNObservableManifold(widths=widths, rank=rank),
    )


def log_volume_of_group(n):
    """Return the logarithm of the volume of O(n) in Frobenius norm; O(0) is one point."""
    return float(ref.log_volume_orthogonal_group(n)) if n else 0.0


def log_volume_of_orbits(widths, rank):
    """Return the logarithm of the volume of the product of all ``O(d_p) / O(d_p - r)``."""
    return sum(log_volume_of_group(d) - log_volume_of_group(d - rank) for d in widths[1:-1])


@networks
@kinds
def test_entropy_in_multiple_precision(network, kind):
    (widths, rank), (total, base) = network, spaces_of(network)
    depth = len(widths) - 1
    with mp.workdps(50):
        roots = [mp.mpf(x) for x in ROOTS[kind][:rank]]
        wanted = mp.mpf(0)
        for d in widths[1:-1]:
            # the volume of frames: of spheres of radius sqrt 2, in the end of radius one
            for k in range(d - rank + 1, d + 1):
                wanted += mp.log(2 * mp.pi ** (mp.mpf(k) / 2) / mp.gamma(mp.mpf(k) / 2))
            wanted += mp.log(2) * (rank * (rank - 1) / mp.mpf(4) + rank * (d - rank) / mp.mpf(2))
        for a, b in itertools.combinations(roots, 2):
            terms = [(a ** (depth - p) * b ** (p - 1)) ** 2 for p in range(1, depth + 1)]
            wanted += mp.log(sum(terms)) / 2
        surplus = sum(d - rank for d in widths[1:-1])
        wanted += surplus * sum(map(mp.log, roots))
        wanted = float(wanted)
    W = total.point(case(network, kind))
    assert abs(total.entropy(W) - wanted) <= 1e-12
    assert abs(base.entropy(total.end_to_end(W)) - wanted) <= 1e-12
    assert_allclose(total.volume_density(W), math.exp(wanted), rtol=1e-11)
    assert_allclose(base.volume_density(total.end_to_end(W)), math.exp(wanted), rtol=1e-11)


@networks
@kinds
def test_entropy_from_the_determinant_of_the_orbit(network, kind):
    """The orbit map stretches volumes alike everywhere; the stabilizer is what it contracts."""
    (widths, rank), layers = network, case(network, kind)
    velocities, _ = orbit_velocities(layers)
    values = np.linalg.eigvalsh(velocities @ velocities.T)
    moving = values > 1e-10
    stabilizer = sum((d - rank) * (d - rank - 1) // 2 for d in widths[1:-1])
    assert np.sum(~moving) == stabilizer
    assert np.abs(values[~moving]).max(initial=0) <= 1e-13
    wanted = log_volume_of_orbits(widths, rank) + 0.5 * np.sum(np.log(values[moving]))
    total, base = spaces_of(network)
    W = total.point(layers)
    assert abs(total.entropy(W) - wanted) <= 1e-11
    assert abs(base.entropy(total.end_to_end(W)) - wanted) <= 1e-11


@pytest.mark.parametrize("widths", [(1, 3, 1), (2, 3, 4), (1, 2, 3, 1), (3, 1, 4, 2, 2)], ids=str)
def test_fibres_of_rank_one_are_products_of_spheres(widths):
    # |dW|^2 = 2 l^2 sum |dq_p|^2 over the hidden p, each q_p on a sphere
    root, total = 1.3, BalancedManifold(widths=widths, rank=1)
    W = total.point(case((widths, 1)))
    W *= root / np.linalg.norm(total.layers(W)[0])
    spheres = [2 * math.pi ** (d / 2) / math.gamma(d / 2) for d in widths[1:-1]]
    volume = math.prod(spheres) * (math.sqrt(2) * root) ** sum(d - 1 for d in widths[1:-1])
    assert_allclose(total.volume_density(W), volume, rtol=1e-13)


@pytest.mark.parametrize("hidden", [3, 4, 7])
def test_two_layers_have_the_entropy_of_menon_and_yu(hidden):
    # a_ij = s_i + s_j: S = log(c_d / c_{d-r}) + 1/2 sum_{i<j} log(s_i + s_j) + (d-r)/2 sum log s_i
    # and grad S = U diag(d - r + sum_{j != i} s_i / (s_i + s_j)) V^T
    rank, base = 3, DLNObservableManifold(widths=(4, hidden, 5), rank=3)
    X = base.random_point()
    U, s, Vt = np.linalg.svd(X)
    U, s, Vt = U[:, :rank], s[:rank], Vt[:rank]
    pairs = sum(math.log(s[i] + s[j]) for i, j in itertools.combinations(range(rank), 2))
    wanted = log_volume_of_orbits((4, hidden, 5), rank)
    wanted += 0.5 * pairs + (hidden - rank) / 2 * np.sum(np.log(s))
    assert abs(base.entropy(X) - wanted) <= 1e-12
    rates = hidden - rank + np.sum(s[:, None] / (s[:, None] + s), axis=1) - 0.5
    assert_allclose(base.entropy_gradient(X), (U * rates) @ Vt, rtol=0, atol=1e-12)


@networks
@pytest.mark.parametrize("kind", ["generic", "1e-9 apart", "all equal"])
def test_gradient_is_minus_the_mean_curvature_of_the_orbit(network, kind):
    """Curves ``exp(t A) . W`` in the fibre, and mixed second derivatives by symmetry."""
    layers, (total, base) = case(network, kind), spaces_of(network)
    velocities, generators = orbit_velocities(layers)

    def apply(generator, moved):
        p, skew = generator
        return [
            (skew @ V if q == p else 0 * V) - (V @ skew if q == p + 1 else 0 * V)
            for q, V in enumerate(moved)
        ]

    # the trace over an orthonormal basis of the velocities
    weights = np.linalg.pinv(velocities @ velocities.T, rcond=1e-9, hermitian=True)
    trace = np.zeros(velocities.shape[1])
    for (a, first), (b, second) in itertools.product(enumerate(generators), repeat=2):
        if weights[a, b] != 0 and abs(first[0] - second[0]) <= 1:
            trace += weights[a, b] * vector(apply(first, apply(second, layers)))
        elif weights[a, b] != 0:
            assert not any(np.any(part) for part in apply(first, apply(second, layers)))
    horizontal, _, _ = dense_bases(layers)
    curvature = horizontal @ (horizontal.T @ trace)
    W = total.point(layers)
    assert_allclose(total.mean_curvature(W).ravel(), curvature, rtol=0, atol=1e-11)
    X = total.end_to_end(W)
    pushed = product_matrix(layers) @ curvature
    assert_allclose(-base.entropy_gradient(X).ravel(), pushed, rtol=0, atol=1e-11)


def second_difference(function):
    """Return the second derivative of a function of a number at zero."""
    f = [function(k * H) for k in (-3, -2, -1, 0, 1, 2, 3)]
    weights = np.array([2, -27, 270, -490, 270, -27, 2]) / 180
    return np.dot(weights, f) / H**2


def first_difference(function):
    """Return the first derivative."""
    weights = np.array([45, -9, 1]) / 60
    sides = [function(k * H) - function(-k * H) for k in (1, 2, 3)]
    return np.tensordot(weights, sides, 1) / H


def entropy_along(space, point, vector):
    """Return the entropy as a function of time along a curve of second order, and smooth."""
    # the retraction of matrices has third derivatives that jump at zero
    moved = space.retraction if isinstance(space, BalancedManifold) else space.exp
    return lambda t: space.entropy(moved(point, t * vector))


@networks
def test_gradient_against_differences(network):
    for space in spaces_of(network):
        point = space.random_point(bound=0.5)
        V = space.random_tangent_vector(point)
        slope = first_difference(entropy_along(space, point, V))
        found = space.inner_product(point, space.entropy_gradient(point), V)
        assert abs(found - slope) <= 1e-9


@networks
@pytest.mark.parametrize("kind", ["generic", "1e-9 apart", "all equal"])
def test_hessian_is_symmetric_and_that_of_the_gradient(network, kind):
    total, base = spaces_of(network)
    W = total.point(case(network, kind))
    for space, point in ((total, W), (base, total.end_to_end(W))):
        U, V = space.random_tangent_vec(point, 2)
        images = space.entropy_hessian(U, point), space.entropy_hessian(V, point)
        inner = space.metric.inner_product
        first, second = inner(images[0], V, point), inner(U, images[1], point)
        assert abs(first - second) <= 1e-11 * (1 + abs(first))
        assert_allclose(space.to_tangent(images[0], point), images[0], rtol=0, atol=1e-12)
        batch = space.entropy_hessian(np.stack([U, V]), point)
        assert_allclose(batch, np.stack(images), rtol=0, atol=1e-12)


@networks
@pytest.mark.parametrize("kind", ["generic", "all equal"])
def test_hessian_against_differences_along_curves_of_second_order(network, kind):
    total, base = spaces_of(network)
    W = total.point(case(network, kind))
    for space, point in ((total, W), (base, total.end_to_end(W))):
        V = space.random_tangent_vector(point)
        wanted = second_difference(entropy_along(space, point, V))
        found = space.metric.inner_product(space.entropy_hessian(V, point), V, point)
        assert abs(found - wanted) <= 1e-8 * (1 + abs(wanted))


@networks
def test_hessian_of_layers_against_differences_of_the_gradient(network):
    total, _ = spaces_of(network)
    W = total.random_point(bound=0.5)
    V = total.random_tangent_vector(W)
    change = first_difference(lambda t: total.entropy_gradient(total.retraction(W, t * V)))
    wanted = total.to_tangent(change, W)
    assert_allclose(total.entropy_hessian(V, W), wanted, rtol=0, atol=1e-7)


@networks
def test_hessians_of_layers_and_of_matrices_belong_together(network):
    """Horizontal geodesics lie over geodesics."""
    total, base = spaces_of(network)
    W = total.random_point()
    X = total.end_to_end(W)
    Z = base.random_tangent_vec(X, 2)
    lifts = total.horizontal_lift(Z, W)
    upstairs = total.metric.inner_product(total.entropy_hessian(lifts[0], W), lifts[1], W)
    downstairs = base.metric.inner_product(base.entropy_hessian(Z[0], X), Z[1], X)
    assert abs(upstairs - downstairs) <= 1e-11 * (1 + abs(downstairs))


@networks
def test_entropy_is_constant_along_fibres_and_scales(network):
    (widths, rank), (total, _) = network, spaces_of(network)
    W = total.random_point()
    turns = [np.linalg.qr(np.random.normal(size=(d, d)))[0] for d in widths[1:-1]]
    group = np.stack(turns) if len(set(widths)) == 1 else turns
    assert_allclose(total.entropy(total.act(group, W)), total.entropy(W), rtol=0, atol=1e-12)
    # the fibre of c W is c times that of W: its dimension counts
    dimension = sum(d * rank - rank * (rank + 1) // 2 for d in widths[1:-1])
    gain = total.entropy(3.0 * W) - total.entropy(W)
    assert_allclose(gain, dimension * math.log(3), rtol=0, atol=1e-12)
