"""Hessians and Laplacians of functions of the singular values, at every shape, rank and depth."""

import math

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from numpy.testing import assert_allclose
from spectral_matrices import rotation
from spectral_reference import check

from dln_manifolds import BalancedManifold, DLNObservableManifold, InvalidPointError, costs
from dln_manifolds.geometry import spectral_functions as spectral
from dln_manifolds.geometry.entropy import entropy_jet
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative, riemannian_hessian
from dln_manifolds.geometry.second_fundamental_form import second_fundamental_form

INF = math.inf
CASES = [
    ((3, 3), 3, 1),
    ((3, 3), 3, 1.5),
    ((3, 3), 3, 2),
    ((3, 3), 3, 30),
    ((3, 3), 3, INF),
    ((4, 3), 3, 3),
    ((4, 3), 2, 2.5),
    ((4, 4), 1, 2),
]
VALUES = {
    "apart": [2.0, 0.9, 0.4],
    "equal": [1.2, 1.2, 1.2],
    "nearly equal": [1.2, 1.2 - 1e-9, 0.5],
    "close": [1.2, 1.15, 1.1],
    "ill": [1.0, 1e-5, 1e-9],
}


def power_sum(power):
    """Return value and derivatives of ``sum s^p``, p any number but 0."""
    return (
        lambda s: np.sum(s**power, axis=-1),
        lambda s: power * s ** (power - 1),
        lambda s: power * (power - 1) * s[..., None] ** (power - 2) * np.eye(s.shape[-1]),
    )


def mixed():
    """Return those of ``log(sum s^2) sum 1/s``, of which no second derivative vanishes."""

    def parts(s):
        return np.sum(s**2, axis=-1, keepdims=True), np.sum(1 / s, axis=-1, keepdims=True)

    def hessian(s):
        (q, h), row, column = parts(s), s[..., :, None], s[..., None, :]
        q, h, unit = q[..., None], h[..., None], np.eye(s.shape[-1])
        whole = -4 * row * column / q**2 * h - 2 * row / q / column**2 - 2 * column / q / row**2
        return whole + unit * (2 / q * h + 2 * np.log(q) / row**3)

    return (
        lambda s: (np.log(parts(s)[0]) * parts(s)[1])[..., 0],
        lambda s: 2 * s / parts(s)[0] * parts(s)[1] - np.log(parts(s)[0]) / s**2,
        hessian,
    )


def frame_of(kind, shape, rank, depth):
    """Return exact singular vectors with singular values of a kind."""
    # Far spread values need exact singular vectors.
    turn = rotation if kind != "ill" else lambda n, _: np.eye(n)
    left, right_t = turn(shape[0], 1)[:, :rank], turn(shape[1], 2)[:rank]
    return Frame(left, np.array(VALUES[kind][:rank]), right_t, depth, 1.0)


def tangents(frame, count, seed=0):
    """Draw tangent vectors of about unit length."""
    shape = (count, frame.left.shape[-2], frame.right_t.shape[-1])
    normal = np.random.default_rng([*shape, seed]).standard_normal(shape)
    return frame.assemble(frame.blocks(normal) * frame.root_weights)


def jets(frame):
    """Return the derivatives of two functions: one given by the user, and the entropy."""
    return {"mixed": spectral.jet_of(frame, *mixed()[1:]), "entropy": entropy_jet(frame)}


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind != "ill"])
@pytest.mark.parametrize(("shape", "rank", "depth"), CASES)
def test_hessian_is_that_of_the_connection(shape, rank, depth, kind):
    """In orthonormal coordinates, against the derivative of the cometric and Euclid's Hessian."""
    frame = frame_of(kind, shape, rank, depth)
    vectors = tangents(frame, 3)
    for jet in jets(frame).values():
        slope = spectral.differential(frame, jet)
        second = spectral.SpectralHessian(frame, jet).apply(vectors)
        wanted = riemannian_hessian(CometricDerivative(frame), slope, second, vectors)
        got = spectral.spectral_hessian(frame, jet, vectors)
        got, wanted = (frame.blocks(v) / frame.root_weights for v in (got, wanted))
        check(np.abs(got - wanted).max(), 1e-13 * max(np.abs(wanted).max(), 1e-10))


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(("shape", "rank", "depth"), CASES)
def test_squared_distance_from_zero_of_a_cone(shape, rank, depth, kind):
    """``f = N sum s^(2/N)``: ``nabla grad f = 2`` and the Laplacian is twice the dimension."""
    frame = frame_of(kind, shape, rank, depth)
    vectors, dimension = tangents(frame, 2), (sum(shape) - rank) * rank
    if depth == INF:
        # In its place log |det|, which is affine.
        functions = np.reciprocal, lambda s: -np.eye(3) / s[..., None] ** 2
    else:
        functions = power_sum(2 / depth)[1:]
    factor = 2 / depth
    jet = spectral.jet_of(frame, *functions)
    got = frame.blocks(spectral.spectral_hessian(frame, jet, vectors)) / frame.root_weights
    wanted = factor * frame.blocks(vectors) / frame.root_weights
    check(np.abs(got - wanted).max(), 1e-13)
    check(abs(spectral.spectral_laplacian(frame, jet) - factor * dimension), 1e-12)


def flat_laplacian(root, depth):
    """Return the Laplacian of ``log(sum s^2) sum 1/s`` as a function of T, by differences."""

    def value(matrix):
        values = [v**depth for v in mp.svd_r(matrix, compute_uv=False)]
        return mp.log(sum(v**2 for v in values)) * sum(1 / v for v in values)

    step, total = mp.mpf(10) ** -18, mp.mpf(0)
    for i, j in np.ndindex(root.rows, root.cols):
        ends = [root.copy(), root.copy()]
        ends[0][i, j] += step
        ends[1][i, j] -= step
        total += (value(ends[0]) + value(ends[1]) - 2 * value(root)) / step**2
    return float(total)


@pytest.mark.parametrize("kind", ["apart", "equal", "nearly equal"])
@pytest.mark.parametrize(("shape", "depth"), [((2, 2), 1.5), ((3, 3), 3), ((3, 2), 2)])
def test_laplacian_is_the_flat_one_of_the_root_chart(shape, depth, kind):
    """Divided by N, with 70 digits: volumes of the root chart are constant."""
    frame = frame_of(kind, shape, min(shape), depth)
    with mp.workdps(70):
        left, right_t = ref.matrix(frame.left), ref.matrix(frame.right_t)
        roots = [mp.mpf(float(v)) ** (1 / mp.mpf(depth)) for v in frame.values]
        wanted = flat_laplacian(left * mp.diag(roots) * right_t, mp.mpf(depth)) / depth
    jet = spectral.jet_of(frame, *mixed()[1:])
    assert_allclose(spectral.spectral_laplacian(frame, jet), wanted, rtol=1e-11)


@pytest.mark.parametrize("kind", VALUES)
def test_given_functions_are_as_exact_as_the_entropy(kind):
    """At depth 2, ``S = (1/2) sum_(i<j) log(s_i + s_j)`` and a constant."""

    def halves(s):
        inverse = 1 / (s[..., :, None] + s[..., None, :])
        return 0.5 * inverse * (1 - np.eye(s.shape[-1]))

    def hessian(s):
        squares = -2 * halves(s) ** 2
        return squares + np.eye(s.shape[-1]) * squares.sum(axis=-1)[..., None]

    frame = frame_of(kind, (3, 3), 3, 2)
    got = spectral.jet_of(frame, lambda s: halves(s).sum(axis=-1), hessian)
    wanted = entropy_jet(frame)
    scale = np.abs(wanted.rates).max()
    away = 1 - np.eye(3)
    check(np.abs(got.rates - wanted.rates), 1e-14 * scale)
    check(np.abs(got.seconds - wanted.seconds), 1e-13 * scale)
    check(np.abs(got.quotients - wanted.quotients) * away, 1e-13 * scale)


@pytest.mark.parametrize(("shape", "rank", "depth"), [((2, 2), 2, INF), ((3, 2), 1, 2.5)])
def test_second_derivative_along_geodesics(shape, rank, depth):
    space = DLNObservableManifold(shape=shape, rank=rank, depth=depth)
    point, cost = space.random_point(), costs.SpectralFunction(*mixed(), rank=rank)
    vector = 0.3 * space.metric.random_unit_tangent_vec(point)
    step = 1e-2
    at = [cost(space.metric.exp(k * step * vector, point)) for k in (-2, -1, 0, 1, 2)]
    wanted = np.dot([-1, 16, -30, 16, -1], at) / (12 * step**2)
    found = space.metric.hessian(cost, vector, point)
    assert_allclose(space.metric.inner_product(found, vector, point), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("widths", "rank"), [((2, 2, 2), 2), ((3, 3, 3, 3), 3), ((3, 2, 2), 2), ((2, 4, 3), 1)]
)
def test_laplacian_of_layers_has_the_mean_curvature_of_the_fibre_beside_it(widths, rank):
    """Upstairs ``Lap (f phi) = (Lap f) phi + <grad S, grad f>``, S the entropy."""
    total = BalancedManifold(widths=widths, rank=rank)
    shape = widths[-1], widths[0]
    base = DLNObservableManifold(widths=widths, rank=rank)
    seen = np.random.default_rng(1).uniform(0.5, 1, shape)
    loss = costs.MatrixCompletion(np.random.default_rng(2).standard_normal(shape), seen)
    lifted = costs.OfLayers(loss, widths)
    point = total.random_point()
    known = total.jacobi_basis(point)
    basis = np.concatenate([known.horizontal, known.vertical])
    axes, points = tuple(range(1, basis.ndim)), np.broadcast_to(point, basis.shape)
    # A submanifold of Euclidean space: second derivatives, and its own mean curvature vector.
    bent = np.sum(basis * lifted.euclidean_hessian(points, basis), axis=axes).sum()
    frame = total.stratum.frame(point)
    normal = second_fundamental_form(frame.beside(), basis, basis).sum(axis=0)
    upstairs = bent + np.sum(normal * lifted.euclidean_gradient(point))
    x = total.end_to_end(point)
    slope = loss.euclidean_gradient(x)
    along = np.sum(slope * base.entropy_gradient(x))
    assert_allclose(upstairs, base.metric.laplacian(loss, x) + along, rtol=1e-11)


def test_free_energies_are_sums_and_batches_are_single_calls():
    space = DLNObservableManifold(n=3, depth=3)
    loss = costs.MatrixCompletion(np.eye(3), np.ones((3, 3)))
    energy, s = costs.free_energy(loss, 4.0, 3), costs.Entropy(3)
    points = space.random_point(4)
    vectors = space.random_tangent_vec(points)
    found = space.metric.laplacian(energy, points)
    parts = [space.metric.laplacian(cost, points) for cost in (loss, s)]
    assert_allclose(found, parts[0] - parts[1] / 4, rtol=1e-13)
    bent = space.metric.hessian(energy, vectors, points)
    wanted = (
        space.metric.hessian(loss, vectors, points) - space.entropy_hessian(vectors, points) / 4
    )
    assert_allclose(bent, wanted, rtol=0, atol=1e-13)
    for k in range(4):
        assert_allclose(space.metric.laplacian(energy, points[k]), found[k], rtol=1e-12)
        one = space.metric.hessian(energy, vectors[k], points[k])
        assert_allclose(one, bent[k], rtol=0, atol=1e-13)
    units = space.metric.from_orthonormal_coordinates(np.eye(9).reshape(9, 3, 3), points[0])
    trace = space.metric.inner_product(
        space.metric.hessian(energy, units, points[0]), units, points[0]
    )
    assert_allclose(trace.sum(), found[0], rtol=1e-12)
    single = points.astype(np.float32)
    assert space.metric.laplacian(energy, single).dtype == np.float32
    assert space.metric.hessian(energy, single, single).dtype == np.float32


@pytest.mark.parametrize("kind", ["apart", "equal"])
def test_a_cost_by_value_and_derivatives_is_one_of_matrices(kind):
    point, (y, z) = frame_of(kind, (3, 3), 3, 1), np.random.default_rng(0).normal(size=(2, 3, 3))
    x = point.compose(point.values)
    cost = costs.SpectralFunction(*mixed())
    step = 1e-3
    values = [cost(x + k * step * y) for k in (-2, -1, 1, 2)]
    slopes = [cost.euclidean_gradient(x + k * step * y) for k in (-2, -1, 1, 2)]
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    assert_allclose(np.dot(weights, values), np.sum(cost.euclidean_gradient(x) * y), rtol=1e-8)
    wanted = np.sum(np.tensordot(weights, slopes, axes=1) * z)
    assert_allclose(np.sum(cost.euclidean_hessian(x, y) * z), wanted, rtol=1e-7)


def test_what_is_no_cost_of_these_matrices_is_refused():
    space = DLNObservableManifold(n=2, depth=3)
    metric, point = space.metric, np.eye(2)
    with pytest.raises(TypeError, match="not function"):
        metric.laplacian(lambda x: x, point)
    with pytest.raises(TypeError, match="layers W"):
        metric.laplacian(costs.OfLayers(costs.Entropy(3)), point)
    with pytest.raises(ValueError, match="depth 2"):
        metric.hessian(costs.Entropy(2), point, point)
    with pytest.raises(InvalidPointError, match="singular"):
        metric.laplacian(costs.Entropy(3), np.diag([1.0, 0.0]))
    wrong = costs.SpectralFunction(np.sum, np.ones_like, np.zeros_like)
    with pytest.raises(ValueError, match=r"value of a SpectralFunction has shape \(\)"):
        wrong(np.stack([point, point]))
    with pytest.raises(ValueError, match=r"hessian .* \(2, 2\) is needed"):
        metric.laplacian(wrong, point)
