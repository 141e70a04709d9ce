"""The splitting ambient = normal + vertical + horizontal, against dense linear algebra."""

import numpy as np
import pytest
from balanced_reference import (
    ROOTS,
    dense_projectors,
    exact_layers,
    layers_of,
    precise_projectors,
    size,
)
from dense_layers import skew_basis
from numpy.testing import assert_allclose
from scipy.special import gamma

from dln_manifolds import BalancedManifold, DLNObservableManifold

PARTS = ("normal", "vertical", "horizontal")
# Width and depth; n = 3 takes the roots of all kinds.
SIZES = [(1, 1), (1, 2), (1, 64), (2, 1), (2, 2), (2, 64), (4, 3), (6, 5)]


def spread(n, condition):
    """Return roots from 1 down to 1 / condition, in equal ratios."""
    return np.geomspace(1.0, 1.0 / condition, n)


CASES = [(ROOTS[kind], depth) for kind in ROOTS for depth in (1, 2, 3, 8, 64)]
CASES += [(np.random.default_rng(n + N).uniform(0.5, 2.0, n), N) for n, N in SIZES]
# condition numbers of X up to 1e8, and of the layers up to 1e8
CASES += [(spread(4, 1e8 ** (1 / depth)), depth) for depth in (2, 5, 64)]
CASES += [(spread(5, condition), 4) for condition in (1e2, 1e4, 1e6, 1e8)]


def identify(value):
    return str(value) if np.ndim(value) == 0 else "_".join(f"{x:.3g}" for x in value)


def split(space, vectors, W):
    return [getattr(space, f"{part}_projection")(vectors, W) for part in PARTS]


def projectors(space, W):
    """Return the matrices of the three projections."""
    units = np.eye(W.size).reshape(-1, *W.shape)
    return [part.reshape(W.size, W.size).T for part in split(space, units, W)]


def ranks(n, N):
    return (N - 1) * n * (n + 1) // 2, (N - 1) * n * (n - 1) // 2, n * n


@pytest.mark.parametrize(("roots", "depth"), CASES, ids=identify)
def test_projections_are_orthogonal_projectors_of_the_right_ranks(roots, depth):
    n = len(roots)
    space = BalancedManifold(n, depth)
    W = layers_of(roots, depth)
    matrices = projectors(space, W)
    assert_allclose(sum(matrices), np.eye(W.size), rtol=0, atol=1e-12)
    for k, (matrix, rank) in enumerate(zip(matrices, ranks(n, depth), strict=True)):
        assert_allclose(matrix, matrix.T, rtol=0, atol=1e-12)
        for m, other in enumerate(matrices):
            expected = matrix if m == k else np.zeros_like(matrix)
            assert_allclose(matrix @ other, expected, rtol=0, atol=1e-12)
        assert abs(np.trace(matrix) - rank) <= 1e-12 * W.size
        assert np.sum(np.linalg.eigvalsh((matrix + matrix.T) / 2) > 0.5) == rank


@pytest.mark.parametrize("roots", ROOTS.values(), ids=ROOTS)
@pytest.mark.parametrize("depth", [1, 2, 3, 7])
def test_projections_against_null_spaces(roots, depth):
    if min(roots) < 0.1:
        # null spaces are as inaccurate as the layers are ill-conditioned
        roots = spread(3, 1e8 ** (1 / depth) if depth > 2 else 1e2)
    W = layers_of(roots, depth)
    expected = dense_projectors(W)
    tolerance = 1e-12 * max(1.0, (max(roots) / min(roots)) ** 2)
    for matrix, reference in zip(projectors(BalancedManifold(3, depth), W), expected, strict=True):
        assert_allclose(matrix, reference, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("n", "depth"), [(1, 3), (2, 2), (2, 20), (5, 3)])
def test_projections_against_null_spaces_at_other_sizes(n, depth):
    W = layers_of(np.random.uniform(0.7, 1.4, n), depth)
    expected = dense_projectors(W)
    for matrix, reference in zip(projectors(BalancedManifold(n, depth), W), expected, strict=True):
        assert_allclose(matrix, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("roots", "depth"),
    [
        ([1.0, 1e-8], 2),
        ([1.0, 1e-8], 4),
        ([1e-8, 1e-8], 3),
        ([1.0, 1.0 - 1e-13], 3),
        ([1.0, 1e-4, 1e-8], 2),
        ([3.0, 3.0, 3e-8], 2),
    ],
    ids=identify,
)
def test_projections_against_multiple_precision(roots, depth):
    W = exact_layers(roots, depth)
    expected = precise_projectors(W)
    space = BalancedManifold(len(roots), depth)
    for matrix, reference in zip(projectors(space, W), expected, strict=True):
        assert_allclose(matrix, reference, rtol=0, atol=1e-12)


def test_projections_to_the_tangent_space_are_vertical_plus_horizontal():
    space = BalancedManifold(3, 5)
    W, Z = layers_of(ROOTS["two equal"], 5), np.random.normal(size=(5, 3, 3))
    normal, vertical, horizontal = split(space, Z, W)
    for tangent in (space.to_tangent(Z, W), space.projection(W, Z), space.to_tangent_space(W, Z)):
        assert_allclose(tangent, vertical + horizontal, rtol=0, atol=1e-13)
        assert space.is_tangent(tangent, W, atol=1e-12)
    assert not space.is_tangent(normal, W)


@pytest.mark.parametrize(("roots", "depth"), CASES, ids=identify)
def test_jacobi_basis_is_orthonormal_and_spans_the_sectors(roots, depth):
    n = len(roots)
    if n**2 * depth > 400:
        roots = roots[:2]
        n = len(roots)
    space = BalancedManifold(n, depth)
    W = layers_of(roots, depth)
    basis = space.jacobi_basis(W)
    rows = []
    for part, rank in zip(PARTS, ranks(n, depth), strict=True):
        vectors = getattr(basis, part)
        assert vectors.shape == (rank, depth, n, n)
        projected = getattr(space, f"{part}_projection")(vectors, W)
        assert_allclose(projected, vectors, rtol=0, atol=1e-12)
        rows.append(vectors.reshape(rank, W.size))
    matrix = np.concatenate(rows)
    assert_allclose(matrix @ matrix.T, np.eye(W.size), rtol=0, atol=1e-12)


def test_vertical_vectors_are_velocities_of_orbits():
    space = BalancedManifold(3, 4)
    W = space.random_point()
    A = np.random.normal(size=(3, 3, 3))
    A -= np.swapaxes(A, 1, 2)
    padded = np.concatenate([np.zeros((1, 3, 3)), A, np.zeros((1, 3, 3))])
    V = padded[1:] @ W - W @ padded[:-1]
    assert_allclose(space.vertical_projection(V, W), V, rtol=0, atol=1e-13)
    assert_allclose(space.push_forward(V, W), 0, rtol=0, atol=1e-13)


def orbit_gram(W):
    """Return the Gram matrix of the velocities of the action along an orthonormal Lie basis."""
    N, n = len(W), W.shape[-1]
    velocities = []
    for p in range(N - 1):
        for A in skew_basis(n):
            V = np.zeros_like(W)
            V[p], V[p + 1] = A @ W[p], -W[p + 1] @ A
            velocities.append(V.ravel())
    velocities = np.reshape(velocities, (-1, W.size))
    return velocities @ velocities.T


def log_volume_of_the_group(n):
    """Return the logarithm of vol O(n): twice the product of the volumes of spheres, rescaled."""
    spheres = [2 * np.pi ** (k / 2) / gamma(k / 2) for k in range(2, n + 1)]
    return np.log(2) + np.sum(np.log(spheres)) + n * (n - 1) / 4 * np.log(2)


@pytest.mark.parametrize(
    ("roots", "depth"),
    [(ROOTS[kind], depth) for kind in ROOTS if kind != "far apart" for depth in (1, 2, 3, 6)]
    + [([1.4], 4), ([1.0, 0.3], 12), (spread(4, 20.0), 3), (np.linspace(0.6, 1.6, 7), 4)],
    ids=identify,
)
def test_entropy_from_the_determinant_of_the_orbit(roots, depth):
    n = len(roots)
    W = layers_of(roots, depth)
    sign, log_det = np.linalg.slogdet(orbit_gram(W))
    assert sign == 1
    expected = (depth - 1) * log_volume_of_the_group(n) + log_det / 2
    bound = 1e-12 * max(1.0, abs(expected))
    space = BalancedManifold(n, depth)
    assert abs(space.entropy(W) - expected) <= bound
    observable = DLNObservableManifold(n, depth)
    assert abs(observable.entropy(space.end_to_end(W)) - expected) <= bound
    assert abs(space.volume_density(W) / np.exp(expected) - 1) <= 1e-10


@pytest.mark.parametrize("condition", [1e3, 1e8])
@pytest.mark.parametrize("depth", [2, 3, 5, 16])
def test_entropy_from_the_determinants_of_the_jacobi_matrices(depth, condition):
    # sigma_k^2 multiplied out: the tridiagonal matrix of a pair by its three-term recurrence
    roots = 1.3 * spread(4, condition)
    log_det = 0.0
    for i in range(4):
        for j in range(i):
            before, here = 0.0, 1.0
            for _ in range(depth - 1):
                step = (roots[i] ** 2 + roots[j] ** 2) * here - (roots[i] * roots[j]) ** 2 * before
                before, here = here, step
            log_det += np.log(here)
    expected = (depth - 1) * log_volume_of_the_group(4) + log_det / 2
    computed = BalancedManifold(4, depth).entropy(layers_of(roots, depth))
    assert abs(computed - expected) <= 1e-12 * max(1.0, abs(expected))


def rotations(angles):
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def spectral_derivative(samples, axis):
    """Differentiate samples of a function of period 2 pi along an axis."""
    count = samples.shape[axis]
    frequency = np.fft.fftfreq(count, 1 / count)
    frequency[count // 2] = 0
    shape = [1] * samples.ndim
    shape[axis] = count
    return np.fft.ifft(
        1j * frequency.reshape(shape) * np.fft.fft(samples, axis=axis), axis=axis
    ).real


@pytest.mark.parametrize("roots", [[1.3, 0.4], [0.9, 0.9], [2.0, 1e-3]], ids=identify)
@pytest.mark.parametrize("depth", [2, 3])
def test_volume_of_the_fibre_by_integration_over_the_orbit(roots, depth):
    space = BalancedManifold(2, depth)
    W = layers_of(roots, depth)
    count, flip = 16, np.diag([1.0, -1.0])
    turns = rotations(2 * np.pi * np.arange(count) / count)
    grid = np.stack(np.meshgrid(*[np.arange(count)] * (depth - 1), indexing="ij"), axis=-1)
    volume = 0.0
    # the components of O(2)^(N-1)
    for flips in np.ndindex(*[2] * (depth - 1)):
        group = turns[grid] @ np.stack([flip if f else np.eye(2) for f in flips])
        orbit = space.act(group, W)
        assert_allclose(
            space.end_to_end(orbit),
            np.broadcast_to(space.end_to_end(W), (*orbit.shape[:-3], 2, 2)),
            rtol=0,
            atol=1e-13,
        )
        flat = orbit.reshape(*orbit.shape[:-3], -1)
        slopes = np.stack([spectral_derivative(flat, axis) for axis in range(depth - 1)], -2)
        areas = np.sqrt(np.linalg.det(slopes @ np.swapaxes(slopes, -1, -2)))
        volume += np.sum(areas) * (2 * np.pi / count) ** (depth - 1)
    assert abs(space.volume_density(W) / volume - 1) <= 1e-8
    assert_allclose(space.volume_density(W), np.exp(space.entropy(W)), rtol=1e-14)


@pytest.mark.parametrize("kind", ROOTS)
def test_horizontal_vectors_have_their_closed_form(kind):
    # V_p = (W_N ... W_{p+1})^T A^-1(Z) (W_{p-1} ... W_1)^T of one matrix A^-1(Z)
    space = BalancedManifold(3, 3)
    W = layers_of(ROOTS[kind], 3)
    P = np.random.normal(size=(3, 3))
    V = np.stack([(W[2] @ W[1]).T @ P, W[2].T @ P @ W[0].T, P @ (W[1] @ W[0]).T])
    normal, vertical, _ = split(space, V, W)
    assert max(size(normal), size(vertical)) <= 1e-12 * size(V)
