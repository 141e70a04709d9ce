"""Metric, its derivative, retraction, chord and volumes of matrices of any rank and shape."""

import math

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from scipy.integrate import solve_ivp
from spectral_matrices import rotation
from spectral_reference import EPS, check

from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry.chord import chord_length, chord_log
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative, riemannian_hessian
from dln_manifolds.geometry.retraction import retract

SHAPES = [(4, 4, 4), (5, 4, 2), (4, 4, 2), (3, 5, 3), (5, 3, 3), (5, 3, 1)]
DEPTHS = [1, 1.5, 2, 3, 30, 1e4, math.inf]
KINDS = {
    "separate": [2.0, 1.3, 0.8, 0.5],
    "equal": [2.0, 2.0, 1.0, 1.0],
    "nearly equal": [2.0, 2.0 - 1e-9, 1.0, 1.0 - 1e-14],
}
PLACES = [
    pytest.param(*shape, depth, kind, id="-".join(map(str, (*shape, depth, kind))))
    for shape in SHAPES
    for depth in DEPTHS
    for kind in KINDS
    if math.isfinite(depth) or shape == (4, 4, 4)
]
places = pytest.mark.parametrize("m, n, rank, depth, kind", PLACES)


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def point(m, n, rank, kind):
    s = np.array(KINDS[kind][:rank])
    return (rotation(m, 1)[:, :rank] * s) @ rotation(n, 2)[:rank]


def tangent(frame, seed=0):
    """A tangent vector of Frobenius norm one."""
    z = normal((frame.left.shape[-2], frame.right_t.shape[-1]), seed)
    z = frame.assemble(frame.blocks(z))
    return z / np.linalg.norm(z)


def geodesic(x, z, depth, rank, times):
    """Points of the geodesic by Hamilton's equations for matrices and covectors."""

    def flow(_, state):
        y, p = state.reshape(2, *x.shape)
        frame = Frame.of_point(y, depth, rank)
        force = -0.5 * CometricDerivative(frame).gradient(p, p)
        return np.stack([observable.apply_cometric(frame, p), force]).ravel()

    momentum = observable.apply_metric(Frame.of_point(x, depth, rank), z)
    start, ends = np.stack([x, momentum]).ravel(), (0, times[-1])
    options = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-14, "t_eval": times}
    return solve_ivp(flow, ends, start, **options).y.T.reshape(-1, 2, *x.shape)[:, 0]


def literal_cometric(x, p, depth):
    """The sum over layers of Bah et al., for integer depth."""

    def power(gram, exponent):
        values, vectors = np.linalg.eigh(gram)
        values = np.where(values > 1e-12, np.maximum(values, 1e-12) ** exponent, 0.0)
        return (vectors * values) @ vectors.T if exponent else np.eye(len(gram))

    return sum(
        power(x @ x.T, (depth - k) / depth) @ p @ power(x.T @ x, (k - 1) / depth)
        for k in range(1, depth + 1)
    )


@pytest.mark.parametrize("m, n, rank", SHAPES)
@pytest.mark.parametrize("depth", [2, 3, 7])
def test_cometric_is_the_sum_over_layers(m, n, rank, depth):
    x, p = point(m, n, rank, "equal"), normal((m, n))
    frame = Frame.of_point(x, depth, rank)
    wanted = literal_cometric(x, p, depth)
    check(abs(observable.apply_cometric(frame, p) - wanted), 1e-13 * depth)
    matrix = observable.operator_matrix(frame, frame.weights)
    check(abs(matrix @ p.ravel() - wanted.ravel()), 1e-13 * depth)


@places
def test_products_and_operators_agree(m, n, rank, depth, kind):
    frame = Frame.of_point(point(m, n, rank, kind), depth, rank)
    z, y = tangent(frame), tangent(frame, 1)
    covector = observable.apply_metric(frame, z)
    assert np.linalg.norm(observable.apply_cometric(frame, covector) - z) < 1e-13
    product = observable.inner_product(frame, z, y)
    assert product == pytest.approx(np.sum(covector * y), rel=1e-12, abs=1e-14)
    dual = observable.inner_coproduct(frame, covector, observable.apply_metric(frame, y))
    assert dual == pytest.approx(product, rel=1e-12, abs=1e-14)
    matrix = observable.operator_matrix(frame, 1 / frame.weights)
    assert z.ravel() @ matrix @ y.ravel() == pytest.approx(product, rel=1e-12, abs=1e-14)
    assert np.linalg.matrix_rank(matrix, tol=1e-9 / min(depth, 1e4)) == rank * (m + n - rank)
    np.testing.assert_allclose(frame.root_weights**2, frame.weights, rtol=1e-13)


def nearly_of_full_rank(x, depth):
    """Square matrix of mpmath numbers whose other singular values hardly matter to ``A_X``."""
    size = max(x.shape)
    padded = np.zeros((size, size))
    padded[: x.shape[0], : x.shape[1]] = x
    left, _, right_t = ref.svd(ref.matrix(padded))
    rank = np.linalg.matrix_rank(x)
    values = [mp.mpf(0)] * rank + [mp.mpf(10) ** (-60 * depth / (depth - 1))] * (size - rank)
    return ref.matrix(padded) + left * mp.diag(values) * right_t


@pytest.mark.parametrize("m, n, rank", [(3, 3, 2), (3, 3, 1), (2, 3, 2), (3, 2, 1)])
@pytest.mark.parametrize("depth", [1.5, 2, 3, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_derivative_is_the_limit_of_full_rank(m, n, rank, depth, kind):
    # Of singular values 1e-60^(N/(N-1)) instead of zero: they add 1e-60 or so to A.
    x = point(m, n, rank, kind)
    frame = Frame.of_point(x, depth, rank)
    z, p = tangent(frame), normal((m, n), 5)
    size = max(m, n)

    def padded(matrix):
        whole = np.zeros((size, size))
        whole[:m, :n] = matrix
        return ref.matrix(whole)

    with mp.workdps(400):
        last = mp.mpf(depth)
        wanted = ref.derivative(
            lambda y: ref.cometric(y, padded(p), last), nearly_of_full_rank(x, last), padded(z)
        )
    wanted = np.array(wanted.tolist(), dtype=float)[:m, :n]
    got = CometricDerivative(frame).along(z, p)
    wanted = frame.assemble(frame.blocks(wanted))
    check(np.linalg.norm(got - wanted), 100 * EPS * depth * np.linalg.norm(wanted))


@places
def test_gradients_are_adjoint_to_derivatives(m, n, rank, depth, kind):
    frame = Frame.of_point(point(m, n, rank, kind), depth, rank)
    derivative, z = CometricDerivative(frame), tangent(frame)
    p, q = normal((2, m, n), 3)
    # Parts beyond the blocks are paired, too: by symmetry of the derivative in both covectors.
    inside = frame.assemble(frame.blocks(p))
    for first, second in [(inside, q), (q, inside)]:
        got = np.sum(derivative.gradient(first, second) * z)
        assert got == pytest.approx(np.sum(inside * derivative.along(z, q)), rel=1e-11, abs=1e-12)
    both = derivative.gradient(p, q) - derivative.gradient(q, p)
    check(abs(both), 1e-12 * depth if math.isfinite(depth) else 1e-12)


@places
def test_gradient_of_the_root(m, n, rank, depth, kind):
    x = point(m, n, rank, kind)
    frame = Frame.of_point(x, depth, rank)
    z, (p, q) = tangent(frame), normal((2, m, n), 4)
    h = 1e-3

    def value(t):
        # Any curve of matrices of this rank
        at = Frame.of_point(retract(CometricDerivative(frame), t * z), depth, rank)
        return np.sum(at.root_weights * at.blocks(p) * at.blocks(q))

    slope = 0.75 * (value(h) - value(-h)) - 0.15 * (value(2 * h) - value(-2 * h))
    slope = (slope + (value(3 * h) - value(-3 * h)) / 60) / h
    got = np.sum(CometricDerivative(frame).root_gradient(p, q) * z)
    assert got == pytest.approx(slope, abs=1e-9 * np.sqrt(frame.weights).max())


@places
def test_hessian_gives_second_derivatives_along_geodesics(m, n, rank, depth, kind):
    x = point(m, n, rank, kind)
    frame = Frame.of_point(x, depth, rank)
    z, linear, left, right = tangent(frame), *(normal(s, 9) for s in [(m, n), (m, m), (n, n)])
    left, right = left + left.T, right + right.T

    def value(y):
        return np.sum(linear * y, axis=(-2, -1)) + 0.5 * np.sum(y * (left @ y @ right), (-2, -1))

    derivative = CometricDerivative(frame)
    got = riemannian_hessian(derivative, linear + left @ x @ right, left @ z @ right, z)
    h = 0.04
    times = h * np.arange(1, 4)
    sides = [value(geodesic(x, sign * z, depth, rank, times)) for sign in (1, -1)]
    first, second, third = sum(sides) - 2 * value(x)
    wanted = (1.5 * first - 0.15 * second + third / 90) / h**2
    size = np.linalg.norm(frame.blocks(got) / frame.root_weights)
    size *= np.linalg.norm(frame.blocks(z) / frame.root_weights)
    assert observable.inner_product(frame, got, z) == pytest.approx(wanted, abs=1e-8 * size)
    # Self-adjoint
    y = tangent(frame, 7)
    other = riemannian_hessian(derivative, linear + left @ x @ right, left @ y @ right, y)
    products = [observable.inner_product(frame, *pair) for pair in [(got, y), (other, z)]]
    assert products[0] == pytest.approx(products[1], abs=1e-12 * size)


@places
def test_retraction_and_chord_agree_with_geodesics_to_second_order(m, n, rank, depth, kind):
    x = point(m, n, rank, kind)
    frame = Frame.of_point(x, depth, rank)
    derivative, z = CometricDerivative(frame), tangent(frame)
    times = np.geomspace(0.02, 0.15, 5)
    points = geodesic(x, z, depth, rank, times)
    ends, length = Frame.of_point(points, depth, rank), observable.inner_product(frame, z, z) ** 0.5
    batch = Frame.of_point(np.broadcast_to(x, points.shape), depth, rank)
    chords = chord_length(batch, ends)
    errors = {
        "retraction": retract(derivative, times[:, None, None] * z) - points,
        "logarithm": chord_log(batch, ends) - times[:, None, None] * z,
        "length": (chords / length - times)[:, None, None],
    }
    for name, error in errors.items():
        error = np.linalg.norm(error, axis=(1, 2))
        slope = np.polyfit(np.log(times), np.log(error + 1e-13), 1)[0]
        assert slope > 2.8 or error.max() < 2e-6, f"{name}: slope {slope:.2f}, {error}"
    np.testing.assert_allclose(chord_length(ends, batch), chords, rtol=1e-11)


@pytest.mark.parametrize("m, n, rank", SHAPES)
@pytest.mark.parametrize("depth", [1, 3, 100, math.inf])
def test_long_steps_keep_the_rank(m, n, rank, depth):
    if math.isinf(depth) and rank < max(m, n):
        pytest.skip("no infinite depth below full rank")
    x = point(m, n, rank, "equal")
    steps = np.array([0, 1e-300, 1e-6, 1.0, 1e3, 1e10, 1e100])[:, None, None, None]
    vectors = np.concatenate([steps * normal((5, m, n)), -steps * x])
    derivative = CometricDerivative(Frame.of_point(x, depth, rank))
    values = np.linalg.svd(retract(derivative, vectors), compute_uv=False)
    assert np.isfinite(values).all()
    # The least one may stand at eight times the bound of numerical singularity.
    assert (values[..., rank - 1] > 4 * max(m, n) * EPS * values[..., 0]).all()
    assert (values[..., rank:] <= max(m, n) * EPS * values[..., :1]).all()


@pytest.mark.parametrize("m, n, rank", SHAPES)
@pytest.mark.parametrize("depth", [1, 2, 30, 1e6, math.inf])
def test_chords_of_distant_and_of_opposite_ends_are_finite(m, n, rank, depth):
    if math.isinf(depth) and rank < max(m, n):
        pytest.skip("no infinite depth below full rank")
    x = point(m, n, rank, "equal")
    ends = np.stack([-x, x, 1e5 * x, 1e-5 * x, x @ np.diag([-1.0] + (n - 1) * [1.0])])
    first = Frame.of_point(np.broadcast_to(x, ends.shape), depth, rank)
    last = Frame.of_point(ends, depth, rank)
    assert np.isfinite(chord_length(first, last)).all()
    assert np.isfinite(chord_log(first, last)).all()
    check(chord_length(first, last)[1], 1e-12)


# Volumes


@places
def test_density_is_the_determinant_of_the_metric(m, n, rank, depth, kind):
    frame = Frame.of_point(point(m, n, rank, kind), depth, rank)
    values = np.linalg.eigvalsh(observable.operator_matrix(frame, 1 / frame.weights))
    wanted = 0.5 * np.sum(np.log(values[-rank * (m + n - rank) :]))
    got = volume.log_riemannian_density(frame.singular_values, depth, frame.surplus)
    assert got == pytest.approx(wanted, abs=1e-9)


def curve(frame, z):
    """Tables of singular values and frames on a curve along Z, for a difference of sixth order."""
    times = 1e-2 * np.array([-3, -2, -1, 1, 2, 3])
    points = retract(CometricDerivative(frame), times[:, None, None] * z)
    return Frame.of_point(points, frame.depth, frame.values.shape[-1])


DIFFERENCE = np.array([-1, 9, -45, 45, -9, 1]) / 60 / 1e-2
WIDTHS = [None, (6, 5, 7)]


@places
@pytest.mark.parametrize("widths", WIDTHS)
def test_differentials_of_the_volumes(m, n, rank, depth, kind, widths):
    frame = Frame.of_point(point(m, n, rank, kind), depth, rank)
    z = 0.3 * tangent(frame)
    along = curve(frame, z)
    slope = DIFFERENCE @ volume.entropy(along.singular_values, depth, widths)
    first = volume.entropy_differential(frame, widths)
    assert np.sum(first * z) == pytest.approx(slope, abs=1e-8)
    gradient = volume.entropy_gradient(frame, widths)
    wanted = observable.apply_cometric(frame, first)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-11, atol=1e-12 * abs(wanted).max())
    density = volume.log_riemannian_density(along.singular_values, depth, frame.surplus)
    got = np.sum(volume.log_riemannian_density_differential(frame) * z)
    assert got == pytest.approx(DIFFERENCE @ density, abs=1e-8)
    field = volume.entropy_differential(along, widths)
    second = volume.EntropyHessian(frame, widths).apply(z)
    np.testing.assert_allclose(np.tensordot(DIFFERENCE, field, 1), second, atol=1e-6)


@pytest.mark.parametrize("d, r", [(1, 1), (2, 1), (3, 1), (3, 2), (5, 3)])
def test_volume_of_stiefel_manifolds(d, r):
    # O(d) -> St(d, r) has the fibre O(d - r); rows beyond r count twice in the norm of O(d).
    fibre = volume.log_volume_stiefel(d - r, d - r)
    twice = r * (d - r) / 2 * math.log(2)
    whole = volume.log_volume_stiefel(d, d)
    assert volume.log_volume_stiefel(d, r) == pytest.approx(whole - fibre - twice, abs=1e-12)
    sphere = 2 * math.pi ** (d / 2) / math.gamma(d / 2)
    assert volume.log_volume_stiefel(d, 1) == pytest.approx(math.log(sphere))


def test_entropy_of_two_layers_with_a_wide_middle():
    # W_1 = q l v^T, W_2 = u l q^T with q on the sphere: the fibre has the radius sqrt(2) l.
    s, width = 3.0, 4
    sphere = 2 * math.pi**2 * (math.sqrt(2) * math.sqrt(s)) ** (width - 1)
    got = volume.entropy(np.array([s]), 2, (width,))
    assert math.exp(got) == pytest.approx(sphere)
