"""Entropy, volume of the fibre, Riemannian density and the gradient of the entropy."""

import math

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from spectral_matrices import matrices, rotation, singular_value_triples
from spectral_reference import BOUND, DEPTHS, EPS, check, check_table, rows

from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_cometric, inner_product, operator_matrix

S = singular_value_triples()
# Triples, and rows of other lengths made of them.
ROWS = {
    1: S[:, :1],
    2: S[:, 1:],
    3: S,
    5: -np.sort(-np.concatenate([S[:40], S[40:80, :2] / S[40:80, 2:] * S[:40, 2:]], axis=-1)),
}


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_entropy_of_given_singular_values(depth, n):
    # The entropy passes through zero: relative to the sum of the absolute values of its terms.
    wanted, scale = (rows(f, ROWS[n], depth) for f in (ref.entropy, ref.entropy_terms))
    check_table(volume.entropy(ROWS[n], depth), wanted, BOUND, scale, ROWS[n])


@pytest.mark.parametrize("widths", [None, (3, 5)])
@pytest.mark.parametrize("depth", [1, 2.5, 3, 40])
def test_entropy_of_roots_is_that_of_their_powers(depth, widths):
    s = np.array([[2.0, 1.0, 1.0], [3.0, 1e-4, 1e-9], [1.0, 1.0 - 1e-9, 0.5]])
    got = volume.entropy_of_roots(s ** (1 / depth), depth, widths)
    np.testing.assert_allclose(got, volume.entropy(s, depth, widths), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_log_riemannian_density_of_given_singular_values(depth, n):
    # It passes through zero: relative to the sum of the absolute values of its terms.
    wanted, scale = (
        rows(f, ROWS[n], depth)
        for f in (ref.log_riemannian_density, ref.log_riemannian_density_terms)
    )
    check_table(volume.log_riemannian_density(ROWS[n], depth), wanted, BOUND, scale, ROWS[n])


@pytest.mark.parametrize(
    ("n", "wanted"),
    [
        (1, 2),  # two points
        (2, 4 * math.pi * math.sqrt(2)),  # two circles of radius sqrt 2
        # twice SO(3), the projective space of radius 2 sqrt 2: pi^2 (2 sqrt 2)^3
        (3, 2 * math.pi**2 * (2 * math.sqrt(2)) ** 3),
    ],
)
def test_volume_of_the_orthogonal_group(n, wanted):
    got = math.exp(volume.log_volume_orthogonal_group(n))
    check(abs(got / wanted - 1), 1e-14)


@pytest.mark.parametrize("n", [4, 5, 10, 50])
def test_volume_of_larger_orthogonal_groups(n):
    wanted = np.array([ref.log_volume_orthogonal_group(n)])
    check_table(np.array([volume.log_volume_orthogonal_group(n)]), wanted, 1e-14)


@pytest.mark.parametrize("roots", [(1.0, 1.0), (2.0, 0.5), (3.0, 1e-3)])
def test_fibre_of_two_layers_of_width_two_is_two_circles(roots):
    # Length of the polygon through h -> (h W_1, W_2 h^T), extrapolated to its limit.
    first, last = rotation(2, 0) * np.array(roots), np.array(roots)[:, None] * rotation(2, 1)

    def length(steps):
        angle = np.linspace(0, 2 * math.pi, steps + 1)
        cos, sin = np.cos(angle), np.sin(angle)
        h = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        curve = np.stack([h @ last, first @ np.swapaxes(h, -1, -2)], axis=1)
        return np.sqrt(np.sum(np.diff(curve, axis=0) ** 2, axis=(1, 2, 3))).sum()

    # Each component is passed once; both have the same length.
    polygon = 2 * (4 * length(4000) - length(2000)) / 3
    circles = 4 * math.pi * math.sqrt(2) * math.hypot(*roots)
    got = math.exp(volume.entropy(np.square(roots), 2))
    check(abs(got / polygon - 1), 1e-11)
    check(abs(got / circles - 1), 1e-14)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize(
    "s", [(2.0, 1.0), (1.0, 1.0), (3.0, 1.5, 0.2), (2.0, 2.0, 1.0), (1.0, 1.0, 1.0, 1.0)], ids=str
)
def test_volume_of_the_fibre_from_the_action_of_the_group(s, depth):
    # The orbit map of O(n)^(N-1) stretches volume by sqrt(det Gram) everywhere, Gram that of
    # W' = (A_p W_p - W_p A_{p-1})_p for an orthonormal basis of the skew A_1..A_{N-1}.
    s = np.array(s)
    n = len(s)
    layers = [np.diag(s ** (1 / depth))] * depth
    tangents = []
    for p in range(depth - 1):
        for i in range(n):
            for j in range(i):
                skew = np.zeros((n, n))
                skew[i, j], skew[j, i] = math.sqrt(0.5), -math.sqrt(0.5)
                moved = np.zeros((depth, n, n))
                moved[p] = skew @ layers[p]
                moved[p + 1] = -layers[p + 1] @ skew
                tangents.append(moved.ravel())
    _, log_det = np.linalg.slogdet(np.array(tangents) @ np.array(tangents).T)
    wanted = (depth - 1) * volume.log_volume_orthogonal_group(n) + 0.5 * log_det
    check(abs(volume.entropy(s, depth) - wanted), 1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
def test_entropy_scales_with_the_point(depth):
    # log a_ij gains (2 - 2/N) log c
    s, factor = np.array([3.0, 1.0 + 1e-9, 1.0, 1e-4]), 1e20
    last, first = volume.entropy(factor * s, depth), volume.entropy(s, depth)
    gain = 6 * (1 - 1 / depth) * math.log(factor)
    check(abs(last - first - gain), 8 * EPS * (abs(last) + abs(first) + 1))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["random", "pairs", "scaled orthogonal", "ill"])
def test_log_riemannian_density_is_half_the_log_determinant_of_the_metric(kind, depth):
    x = matrices(kind, 4, count=3)
    frame = Frame.of_point(x, depth)
    signs, log_det = np.linalg.slogdet(operator_matrix(frame, 1 / frame.a))
    got = volume.log_riemannian_density(frame.singular_values, depth)
    assert (signs == 1).all()
    # What an LU decomposition loses to conditioning, and the rounding of a sum of 16 logarithms.
    condition = frame.a[..., 0, 0] / frame.a[..., -1, -1]
    size = np.abs(np.log(frame.a)).sum(axis=(-2, -1))
    check(abs(got - 0.5 * log_det), 100 * EPS * (condition + size))


def reference_gradient(x, depth):
    """Gradient of the entropy by mpmath from the matrix: ``U diag(a_ii dS/ds_i) V^T``."""
    with mp.workdps(120):
        depth = mp.mpf(depth)
        left, s, right_t = ref.svd(ref.matrix(x))
        values = []
        for i, s_i in enumerate(s):
            rates = [ref.log_a_derivative(s_i, s_j, depth) for j, s_j in enumerate(s) if j != i]
            values.append(ref.a(s_i, s_i, depth) * sum(rates) / (2 * s_i))
        return left * mp.diag(values) * right_t


@pytest.mark.parametrize("depth", [1.5, 2, 3, 10, 100])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
@pytest.mark.parametrize(
    "kind", ["random", "pairs", "nearly pairs", "scaled orthogonal", "ill", "very ill"]
)
def test_entropy_gradient_of_dense_matrices(kind, n, depth):
    x = matrices(kind, n)[0]
    got = volume.entropy_gradient(Frame.of_point(x, depth))
    error = ref.matrix_error(got, reference_gradient(x, depth))
    check(error, 100 * EPS * np.linalg.cond(x))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("kind", ["random", "pairs", "identity"])
def test_entropy_gradient_from_the_determinant_of_the_cometric(kind, depth):
    # No decomposition of X: sum_ij log a_ij = log det A_X with A_X the literal sum, hence
    # S = const + (log det A_X - (2 - 2/N) log |det X|) / 4, differentiated by mpmath.
    x, n, step = matrices(kind, 3)[0], 3, mp.mpf("1e-30")
    with mp.workdps(90):
        exact = ref.matrix(x)

        def entropy(y):
            log_det = mp.log(mp.det(ref.literal_cometric(y, depth)))
            return (log_det - (2 - 2 / mp.mpf(depth)) * mp.log(abs(mp.det(y)))) / 4

        partial = mp.zeros(n * n, 1)
        for index in range(n * n):
            shift = mp.zeros(n)
            shift[index // n, index % n] = step
            partial[index] = (entropy(exact + shift) - entropy(exact - shift)) / (2 * step)
        wanted = ref.unvector(ref.literal_cometric(exact, depth) * partial, n)
    got = volume.entropy_gradient(Frame.of_point(x, depth))
    check(ref.matrix_error(got, wanted), 100 * EPS * np.linalg.cond(x))


@pytest.mark.parametrize("depth", [1.5, 2, 7])
@pytest.mark.parametrize("kind", ["random", "pairs", "nearly pairs", "scaled orthogonal"])
def test_entropy_gradient_represents_the_differential(kind, depth):
    x = matrices(kind, 4)[0]
    frame = Frame.of_point(x, depth)
    gradient = volume.entropy_gradient(frame)
    z = np.random.default_rng(3).standard_normal((5, 4, 4))
    z *= frame.singular_values[-1] / np.linalg.norm(z, axis=(1, 2), keepdims=True)

    def entropy(step):
        values = np.linalg.svd(x + step * z, compute_uv=False)
        return volume.entropy(values, depth)

    h = 2e-3
    difference = (8 * (entropy(h) - entropy(-h)) - (entropy(2 * h) - entropy(-2 * h))) / (12 * h)
    got = inner_product(frame, gradient, z)
    check(abs(got - difference), 1e-9 * np.linalg.norm(difference))


@pytest.mark.parametrize("n", [1, 4])
def test_entropy_gradient_vanishes_where_the_entropy_is_constant(n):
    # n = 1: the fibre of every point is 2^(N-1) points; N = 1: the fibre is one point
    frame = Frame.of_point(matrices("random", n)[0], 1 if n > 1 else 3)
    check(abs(volume.entropy_gradient(frame)), 0.0)


@pytest.mark.parametrize("depth", DEPTHS)
def test_entropy_gradient_at_multiples_of_orthogonal_matrices(depth):
    # S grows along X by half of (2 - 2/N) per pair, so the gradient is A_X of a multiple of X.
    n, factor = 5, 7.0
    x = factor * rotation(n, 4)
    frame = Frame.of_point(x, depth)
    slope = n * (n - 1) / 2 * (1 - 1 / depth)
    wanted = apply_cometric(frame, x) * slope / (n * factor**2)
    error = np.linalg.norm(volume.entropy_gradient(frame) - wanted)
    check(error, 1e-13 * np.linalg.norm(wanted))
