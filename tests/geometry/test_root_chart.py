"""The root chart: inverse maps, the metric in it, and volume."""

import numpy as np
import pytest
import root_chart as chart
from spectral_matrices import matrices
from spectral_reference import DEPTHS, EPS, check

from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry import metric as root_chart
from dln_manifolds.geometry.coefficients import kappa
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.matrices import parity_combine

KINDS = ["random", "identity", "pairs", "nearly pairs", "gap 1e-3", "ill"]
POLYNOMIAL = [1, 3, 5]


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def frames(kind, n, depth, count=3):
    """Frames of X and of its root T."""
    frame = Frame.of_point(matrices(kind, n, count), depth)
    return frame, Frame.of_root(root_chart.root_of(frame), depth)


def norms(x):
    return np.linalg.norm(x, axis=(-2, -1))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_chart_can_be_undone(kind, depth):
    x = matrices(kind, 4, 3)
    frame, root_frame = frames(kind, 4, depth)
    # Rounding of T to a relative eps changes X by N eps.
    check(norms(chart.point_of(root_frame) - x) / norms(x), 400 * EPS * depth)
    check(norms(chart.point_of(frame) - x) / norms(x), 400 * EPS)


@pytest.mark.parametrize("depth", POLYNOMIAL)
@pytest.mark.parametrize("kind", KINDS)
def test_the_root_of_an_odd_depth_is_a_polynomial_inverse(kind, depth):
    # X = T (T^T T)^((N-1)/2)
    frame, _ = frames(kind, 4, depth)
    t, x = root_chart.root_of(frame), matrices(kind, 4, 3)
    power = np.linalg.matrix_power(np.swapaxes(t, -1, -2) @ t, depth // 2)
    check(norms(t @ power - x) / norms(x), 100 * EPS * depth)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_push_and_pull_are_inverse(kind, depth):
    frame, _ = frames(kind, 4, depth)
    z = normal((3, 4, 4))
    even, odd = frame.chart_factors
    for factor in (even, odd):
        assert (factor > 0).all()
    spread = max(even.max(), odd.max()) / min(even.min(), odd.min())
    there = chart.pull_from_root(frame, chart.push_to_root(frame, z))
    back = chart.push_to_root(frame, chart.pull_from_root(frame, z))
    check(norms(there - z) / norms(z), 32 * EPS * spread)
    check(norms(back - z) / norms(z), 32 * EPS * spread)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["random", "identity", "pairs", "nearly pairs", "gap 1e-3"])
def test_push_is_the_differential_of_the_chart(kind, depth):
    x, z = matrices(kind, 4)[0], normal((4, 4))
    frame = Frame.of_point(x, depth)
    z *= frame.values[-1] / np.linalg.norm(z)

    def root(step):
        return root_chart.root_of(Frame.of_point(x + step * z, depth))

    h = 1e-3
    difference = (8 * (root(h) - root(-h)) - (root(2 * h) - root(-2 * h))) / (12 * h)
    got = chart.push_to_root(frame, z)
    check(np.linalg.norm(got - difference) / np.linalg.norm(root_chart.root_of(frame)), 1e-11)


@pytest.mark.parametrize("depth", POLYNOMIAL)
@pytest.mark.parametrize("kind", KINDS)
def test_pull_is_the_differential_of_the_polynomial(kind, depth):
    frame, _ = frames(kind, 4, depth)
    t, v = root_chart.root_of(frame), normal((3, 4, 4))
    factors = [t if k % 2 == 0 else np.swapaxes(t, -1, -2) for k in range(depth)]
    moved = [v if k % 2 == 0 else np.swapaxes(v, -1, -2) for k in range(depth)]
    wanted = np.zeros_like(v)
    for k in range(depth):
        term = np.eye(4)
        for m in range(depth):
            term = term @ (moved[m] if m == k else factors[m])
        wanted += term
    got = chart.pull_from_root(frame, v)
    check(norms(got - wanted) / norms(wanted), 100 * EPS)


def squared_root_norm(frame, v):
    """``sum kappa S^2 + K^2 / kappa`` as it stands in the definition."""
    inner = frame.enter(v)
    flipped = np.swapaxes(inner, -1, -2)
    even, odd = 0.5 * (inner + flipped), 0.5 * (inner - flipped)
    weight = kappa(frame.half_log_ratio, frame.depth)
    return np.sum(weight * even**2 + odd**2 / weight, axis=(-2, -1))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_chart_is_an_isometry(kind, n, depth):
    frame, root_frame = frames(kind, n, depth)
    z = normal((3, n, n))
    v = chart.push_to_root(frame, z)
    wanted = observable.inner_product(frame, z, z)
    condition = frame.values[..., 0] / frame.values[..., -1]
    # Rounding of v to a relative eps counts N times in the direction of weight N.
    bound = 100 * EPS * (condition + depth)
    check(abs(squared_root_norm(frame, v) / wanted - 1), bound)
    check(abs(squared_root_norm(root_frame, v) / wanted - 1), bound)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_lower_is_the_gradient_of_the_quadratic_form(kind, depth):
    _, frame = frames(kind, 4, depth)
    v, w = normal((2, 3, 4, 4))
    # exact for a quadratic form: (g(v + w) - g(v - w)) / 4 = <g_T(v, .), w>
    wanted = (squared_root_norm(frame, v + w) - squared_root_norm(frame, v - w)) / 4
    got = np.sum(chart.lower(frame, v) * w, axis=(-2, -1))
    check(abs(got - wanted), 100 * EPS * depth * norms(v) * norms(w))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_raise_and_lower_are_inverse(kind, depth):
    _, frame = frames(kind, 4, depth)
    v = normal((3, 4, 4))
    for back in (
        chart.raise_(frame, chart.lower(frame, v)),
        chart.lower(frame, chart.raise_(frame, v)),
    ):
        check(norms(back - v) / norms(v), 64 * EPS * depth**2)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_momentum_in_the_chart_is_the_pulled_back_covector(kind, depth):
    # <P_T, push z> = <A_X^{-1} Z, z> for every z
    frame, root_frame = frames(kind, 4, depth)
    vec, z = normal((2, 3, 4, 4))
    momentum = chart.lower(root_frame, chart.push_to_root(frame, vec))
    got = np.sum(momentum * chart.push_to_root(frame, z), axis=(-2, -1))
    wanted = observable.inner_product(frame, vec, z)
    products = [observable.inner_product(frame, x, x) for x in (vec, z)]
    condition = frame.values[..., 0] / frame.values[..., -1]
    size = np.sqrt(products[0] * products[1])
    check(abs(got - wanted), 100 * EPS * (condition + depth) * size)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_riemannian_volume_is_lebesgue_measure_in_the_chart(kind, n, depth):
    # sqrt(det g_X) = N^(n/2) |det d(X -> T)|, the determinant taken of the matrix of `push`
    frame = Frame.of_point(matrices(kind, n)[0], depth)
    basis = np.eye(n * n).reshape(n * n, n, n)
    jacobian = chart.push_to_root(frame, basis).reshape(n * n, n * n)
    _, log_det = np.linalg.slogdet(jacobian)
    got = volume.log_riemannian_density(frame.singular_values, depth)
    even, odd = frame.chart_factors
    spread = max(even.max(), odd.max()) / min(even.min(), odd.min())
    size = 1 + abs(np.log(frame.a)).sum()
    check(abs(n / 2 * np.log(depth) + log_det - got), 100 * EPS * (spread + size))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", [*KINDS, "very ill"])
def test_condition_in_the_chart_is_at_most_the_square_of_the_depth(kind, depth):
    frame, _ = frames(kind, 4, depth)
    weight = kappa(frame.half_log_ratio, depth)
    check(1 - weight, 4 * EPS)
    check(weight - depth, 4 * EPS * depth)
    assert np.array_equal(np.diagonal(weight, axis1=-2, axis2=-1), np.full((3, 4), depth))


def test_parity_combine():
    even, odd, z = normal((3, 2, 4, 4))
    even, odd = (x + np.swapaxes(x, -1, -2) for x in (even, odd))
    flipped = np.swapaxes(z, -1, -2)
    wanted = even * (z + flipped) / 2 + odd * (z - flipped) / 2
    check(abs(parity_combine(even, odd, z) - wanted), 100 * EPS)
