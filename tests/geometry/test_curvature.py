"""Curvature of end-to-end matrices and of layers."""

import math

import numpy as np
import pytest
from curvature_reference import differences
from numpy.testing import assert_allclose, assert_array_equal
from spectral_matrices import rotation
from spectral_reference import check

from dln_manifolds.geometry import layer_curvature, sectors
from dln_manifolds.geometry.balancing import factor
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.curvature import LayeredCurvature, SmoothCurvature, curvature_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.layer_curvature import LayerCurvature
from dln_manifolds.geometry.metric import inner_product
from dln_manifolds.geometry.second_fundamental_form import integrability

INF = math.inf
DEPTHS = [1.5, 2, 3, 4, 8, INF]
TURN = np.array([[0.6, -0.8], [0.8, 0.6]])

# Widths and rank, of every kind.
LAYERS = [
    ((2, 2), 2),
    ((3, 3, 3), 3),
    ((2, 2, 2, 2, 2, 2), 2),
    ((3, 2), 1),
    ((3, 3), 2),
    ((3, 2, 3), 2),
    ((2, 4, 3), 2),
    ((4, 3, 2, 3), 1),
    ((2, 3, 3, 4), 2),
    ((3, 4, 3, 2), 2),
]
SHAPES = [((3, 3), 3), ((3, 3), 2), ((4, 3), 3), ((2, 4), 2), ((4, 3), 2), ((3, 4), 1), ((1, 1), 1)]


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def matrix(shape, rank, seed=0, batch=()):
    """Draw matrices of a rank."""
    return normal((*batch, shape[0], rank), seed) @ normal((*batch, rank, shape[1]), seed + 1)


def tangents(frame, count, seed=2, scaled=False):
    """Draw tangent vectors at matrices; scaled, those of about unit length."""
    shape = (count, *frame.values.shape[:-1], frame.left.shape[-2], frame.right_t.shape[-1])
    blocks = frame.blocks(normal(shape, seed))
    return frame.assemble(blocks * frame.root_weights if scaled else blocks)


def relative(got, wanted):
    """Error relative to the largest entry."""
    return np.abs(got - wanted).max() / np.abs(wanted).max()


def bracket(a, b):
    """Commutator."""
    return a @ b - b @ a


def every(frame, curvature, vectors):
    """Return ``<R(v_i, v_j) v_k, v_l>``."""
    bent = curvature.tensor(vectors[:, None, None], vectors[:, None], vectors)
    return inner_product(frame, bent[..., None, :, :], vectors)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("x", [normal((2, 2)), 1.5 * TURN, np.diag([2.0, 1e-3])])
def test_whole_tensor_of_small_matrices(x, depth):
    vectors, _, _, wanted = differences(x, 2, depth)
    frame = Frame.of_point(x, depth)
    check(relative(every(frame, curvature_of(frame), vectors), wanted), 1e-11)


@pytest.mark.parametrize("depth", [1, 1.25, 2, 2.5, 3])
def test_whole_tensor_of_matrices_of_rank_one(depth):
    x = np.outer([1.2, 0.7], [0.9, -0.5])
    vectors, _, _, wanted = differences(x, 1, depth)
    frame = Frame.of_point(x, depth, 1)
    check(relative(every(frame, curvature_of(frame), vectors), wanted), 1e-11)


@pytest.mark.parametrize(
    ("shape", "rank", "depths"),
    [
        ((3, 3), 3, [1.5, 3]),
        ((3, 3), 2, [1, 1.5, 6.5]),
        ((3, 2), 2, [1.5, 3]),
        ((2, 3), 2, [2.5]),
        ((4, 3), 2, [2.5]),
    ],
)
def test_some_entries_of_larger_matrices(shape, rank, depths):
    x = matrix(shape, rank)
    size = (sum(shape) - rank) * rank
    directions = normal((3, size)).round(2)
    for depth in depths:
        vectors, _, _, wanted = differences(x, rank, depth, directions)
        frame = Frame.of_point(x, depth, rank)
        check(relative(every(frame, curvature_of(frame), vectors), wanted), 1e-11)


@pytest.mark.parametrize("depth", [1.5, 3, 8, INF])
@pytest.mark.parametrize("values", [[1.5, 1.5, 0.7], [1.0, 1.0, 1.0], [1.0, 1.0 - 1e-9, 0.3]])
def test_some_entries_where_singular_values_meet(values, depth):
    x = rotation(3, 1) @ np.diag(values) @ rotation(3, 2)
    vectors, _, _, wanted = differences(x, 3, depth, normal((3, 9)).round(2))
    frame = Frame.of_point(x, depth)
    check(relative(every(frame, curvature_of(frame), vectors), wanted), 1e-11)


@pytest.mark.parametrize("depth", [2.5, 30, INF])
def test_accuracy_is_kept_at_ratios_of_one_billion(depth):
    # Exact singular vectors, so that those of tiny singular values are known.
    x = np.diag([1.0, 3e-5, 1e-9])
    frame = Frame.of_point(x, depth)
    vectors = tangents(frame, 3, scaled=True)
    _, _, _, wanted = differences(x, 3, depth, vectors.reshape(3, 9))
    check(relative(every(frame, curvature_of(frame), vectors), wanted), 1e-9)


@pytest.mark.parametrize("depth", [2, 3, 5, 30])
@pytest.mark.parametrize(("shape", "rank"), SHAPES)
def test_sums_over_layers_and_closed_forms_agree(shape, rank, depth):
    frame = Frame.of_point(matrix(shape, rank, batch=(2,)), depth, rank)
    both = LayeredCurvature(frame), SmoothCurvature(frame)
    assert type(curvature_of(frame)) is LayeredCurvature
    x, y, z = tangents(frame, 3)
    for name, arguments in {
        "tensor": (x, y, z),
        "sectional": (x, y),
        "riemann": (),
        "ricci": (),
        "scalar": (),
    }.items():
        first, second = (getattr(curvature, name)(*arguments) for curvature in both)
        scale = np.nanmax(np.abs(first), initial=1e-3)
        assert_allclose(first, second, rtol=0, atol=1e-12 * scale, err_msg=name)


@pytest.mark.parametrize("values", [[1.0, 3e-5, 1e-9], [1.0, 1.0, 1e-9], [1.0, 1.0 - 1e-12, 1e-9]])
def test_deep_sums_and_closed_forms_agree_at_ratios_of_one_billion(values):
    frame = Frame.of_point(np.diag(values), 30)
    x, y = tangents(frame, 2, scaled=True)
    first, second = (form(frame).sectional(x, y) for form in (LayeredCurvature, SmoothCurvature))
    check(abs(first / second - 1), 1e-11)


@pytest.mark.parametrize("depth", [1.5, 3, INF])
@pytest.mark.parametrize(("shape", "rank"), SHAPES[:6])
def test_symmetries_and_traces(shape, rank, depth):
    if rank < max(shape) and depth == INF:
        depth = 2.5
    frame = Frame.of_point(matrix(shape, rank), depth, rank)
    curvature, (x, y, z, w) = curvature_of(frame), tangents(frame, 4)
    tensor = curvature.tensor

    def inner(a, b):
        return inner_product(frame, a, b)

    scale = np.abs(tensor(x, y, z)).max()
    bianchi = tensor(x, y, z) + tensor(y, z, x) + tensor(z, x, y)
    check(np.abs(bianchi).max(), 1e-12 * scale)
    check(np.abs(tensor(x, y, z) + tensor(y, x, z)).max(), 1e-12 * scale)
    pair = inner(tensor(x, y, z), w)
    assert_allclose(pair, inner(tensor(z, w, x), y), rtol=1e-10)
    assert_allclose(pair, -inner(tensor(x, y, w), z), rtol=1e-10)
    area = inner(x, x) * inner(y, y) - inner(x, y) ** 2
    assert_allclose(curvature.sectional(x, y), inner(tensor(x, y, y), x) / area, rtol=1e-9)
    # The tensor on entries, and its traces.
    riemann = curvature.riemann()
    flat = [v.ravel() for v in (z, x, y)]
    bent = np.einsum("ijkl,i,j,k->l", riemann, *flat)
    assert_allclose(bent, tensor(x, y, z).ravel(), rtol=0, atol=1e-12 * scale)
    ricci = curvature.ricci()
    assert_allclose(ricci, np.einsum("ijkj->ik", riemann), atol=1e-12 * np.abs(ricci).max())
    size = math.prod(shape)
    units = frame.blocks(np.eye(size).reshape(size, *shape)) * frame.root_weights
    units = units.reshape(size, -1)
    assert_allclose(np.sum(ricci * (units @ units.T)), curvature.scalar(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_one_layer_is_flat(n):
    frame = Frame.of_point(normal((n, n)), 1)
    curvature, (x, y, z) = curvature_of(frame), tangents(frame, 3)
    assert_array_equal(curvature.tensor(x, y, z), np.zeros((n, n)))
    assert not curvature.ricci().any()
    assert curvature.scalar() == 0


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8, 64, INF])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_values_at_the_identity(n, depth):
    factor = 1 / 6 if depth == INF else (depth**2 - 1) / (6 * depth)
    curvature = curvature_of(Frame.of_point(np.eye(n), depth))
    x, y = np.zeros((2, n, n))
    x[0, 0], x[1, 1], y[0, 1], y[1, 0] = 1, -1, -1, 1
    check(abs(curvature.sectional(x, y) + factor), 1e-12 * factor)
    check(abs(curvature.scalar() / (factor * n * (n - 1) ** 2) - 1), 1e-12)


@pytest.mark.parametrize("depth", [1.5, 3, INF])
def test_closed_form_at_multiples_of_orthogonal_matrices(depth):
    size, n = 1.7, 4
    turn = rotation(n, 3)
    x, y = np.linalg.qr(normal((2, n * n)).T)[0].T.reshape(2, n, n)
    s, k, t, m = (x + x.T) / 2, (x - x.T) / 2, (y + y.T) / 2, (y - y.T) / 2
    mixed = np.sum(bracket(k, s) * bracket(m, t))
    cross = np.sum((bracket(m, s) + bracket(k, t)) ** 2)
    same = np.sum((bracket(s, t) - bracket(k, m)) ** 2)
    factor = 1 / 12 if depth == INF else (depth**2 - 1) / (12 * depth) * size ** (-2 / depth)
    wanted = factor * (4 * mixed - cross + 3 * same)
    frame = Frame.of_point(size * turn, depth)
    assert_allclose(curvature_of(frame).sectional(x @ turn, y @ turn), wanted, rtol=1e-11)


def test_half_of_bures_wasserstein_on_positive_definite_matrices():
    # O'Neill's formula for A -> A A^T, whose fibres are A O(n): with S L + L S = X,
    # K |x ^ y|^2 = 3 sum_(i<j) s_i s_j / (s_i + s_j) [L, L']_ij^2 in the eigenvectors of S.
    values, vectors = np.array([2.0, 1.1, 0.3]), rotation(3, 4)
    x, y = ((z + z.T) / 2 for z in normal((2, 3, 3)))
    sums = values[:, None] + values
    p, q = x / sums, y / sums
    bracket = p @ q - q @ p
    numerator = 1.5 * np.sum(values[:, None] * values / sums * bracket**2)
    xx, yy, xy = (np.sum(values * a * b) for a, b in ((p, p), (q, q), (p, q)))
    turned = [vectors @ z @ vectors.T for z in (np.diag(values), x, y)]
    got = curvature_of(Frame.of_point(turned[0], 2)).sectional(*turned[1:])
    assert_allclose(got, numerator / (xx * yy - xy**2) / 2, rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 1.5, 2.5, 3])
@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (3, 4)])
def test_matrices_of_rank_one_are_a_cone_over_spheres(shape, depth):
    """``N dl^2 + l^2 (du^2 + dv^2)``: over spheres of radius ``1/sqrt(N)``."""
    frame = Frame.of_point(matrix(shape, 1), depth, 1)
    spheres = sum((k - 1) * (k - 2) for k in shape)
    link = depth * spheres - (sum(shape) - 2) * (sum(shape) - 3)
    wanted = link / (depth * frame.roots[0] ** 2)
    assert_allclose(curvature_of(frame).scalar(), wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("depth", [1.5, 3, INF])
def test_isometries_and_homotheties(depth):
    x, (y, z) = normal((3, 3)), normal((2, 3, 3))
    left, right = rotation(3, 5), rotation(3, 6)

    def sectional(x, y, z):
        return curvature_of(Frame.of_point(x, depth)).sectional(y, z)

    value = sectional(x, y, z)
    assert_allclose(sectional(*(left @ v @ right for v in (x, y, z))), value, rtol=1e-11)
    assert_allclose(sectional(x.T, y.T, z.T), value, rtol=1e-11)
    scaled = sectional(*(1e6 * v for v in (x, y, z)))
    assert_allclose(scaled, value * 1e6 ** (-2 / depth), rtol=1e-11)
    if depth == INF:
        inverse = np.linalg.inv(x)
        moved = [-inverse @ v @ inverse for v in (y, z)]
        assert_allclose(sectional(inverse, *moved), value, rtol=1e-10)


@pytest.mark.parametrize("power", [-900, 900])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_points_of_any_size(depth, power):
    x, *plane = normal((3, 3, 3))
    value = curvature_of(Frame.of_point(x, depth)).sectional(*plane)
    scaled = curvature_of(Frame.of_point(2.0**power * x, depth)).sectional(*plane)
    assert_allclose(scaled, 2.0 ** (-2 * power / depth) * value if depth > 1 else 0.0, rtol=1e-11)


@pytest.mark.parametrize("depth", [2, 2.5])
def test_planes_without_an_area(depth):
    frame = Frame.of_point(normal((3, 3)), depth)
    curvature, (x, y) = curvature_of(frame), tangents(frame, 2)
    assert np.isnan(curvature.sectional(x, -3 * x))
    assert np.isnan(curvature.sectional(x, 0 * x))
    # Of nearly parallel vectors nothing is lost but what their difference has lost.
    value = curvature.sectional(x, y)
    assert_allclose(curvature.sectional(x, x + 1e-6 * y), value, rtol=1e-7)
    assert_allclose(curvature.sectional(1e-200 * x, 1e200 * y), value, rtol=1e-11)


@pytest.mark.parametrize(("widths", "rank"), LAYERS, ids=str)
def test_layers_lie_above(widths, rank):
    """By O'Neill's formula ``K(x, y) = K(lifts) + 3 |A|^2``; and the symmetries upstairs."""
    chain, depth = chain_of(widths), len(widths) - 1
    x = matrix((widths[-1], widths[0]), rank)
    layers = factor(Frame.of_point(x, depth, rank), chain)
    frame = Frame.of_layers(layers, chain, rank)
    x, y = tangents(frame.ends, 2)
    up, lifts = LayerCurvature(frame), [sectors.horizontal_lift(frame, z) for z in (x, y)]
    vertical = integrability(frame, *lifts)
    xx, yy, xy = (np.sum(lifts[i] * lifts[j]) for i, j in ((0, 0), (1, 1), (0, 1)))
    bent = np.sum(up.tensor(*lifts, lifts[1]) * lifts[0]) + 3 * np.sum(vertical**2)
    wanted = curvature_of(frame.ends).sectional(x, y)
    assert_allclose(bent / (xx * yy - xy**2), wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("widths", "rank"), LAYERS, ids=str)
def test_symmetries_and_traces_of_layers(widths, rank):
    chain, depth = chain_of(widths), len(widths) - 1
    x = matrix((widths[-1], widths[0]), rank, batch=(2,))
    frame = Frame.of_layers(factor(Frame.of_point(x, depth, rank), chain), chain, rank)
    up, shape = LayerCurvature(frame), chain.array_shape
    x, y, z, w = (sectors.tangent_part(frame, v) for v in normal((4, 2, *shape)))
    axes, size = tuple(range(1, 1 + len(shape))), math.prod(shape)

    def inner(a, b):
        return np.sum(a * b, axis=axes)

    bent, scale = up.tensor(x, y, z), np.abs(up.tensor(x, y, z)).max()
    bianchi = bent + up.tensor(y, z, x) + up.tensor(z, x, y)
    check(np.abs(bianchi).max(), 1e-12 * scale)
    assert_allclose(inner(bent, w), inner(up.tensor(z, w, x), y), rtol=1e-9, atol=1e-12)
    area = inner(x, x) * inner(y, y) - inner(x, y) ** 2
    value = inner(up.tensor(x, y, y), x) / area
    assert_allclose(up.sectional(x, y), value, rtol=1e-10, atol=1e-13)
    assert np.isnan(up.sectional(x, 2 * x)).all()
    riemann = up.riemann()
    flat = [v.reshape(2, size) for v in (z, x, y)]
    got = np.einsum("bijkl,bi,bj,bk->bl", riemann, *flat)
    assert_allclose(got, bent.reshape(2, size), rtol=0, atol=1e-12 * scale)
    ricci = up.ricci()
    assert_allclose(ricci, np.einsum("...ijkj->...ik", riemann), atol=1e-12 * scale)
    assert_allclose(np.trace(ricci, axis1=1, axis2=2), up.scalar(), rtol=1e-11, atol=1e-12)


def test_traces_of_layers_part_by_part(monkeypatch):
    """All pairs of a basis at once would be 0.6 GB for thirty layers of width five."""
    chain = chain_of((3, 3, 3, 3))
    x = matrix((3, 3), 3, batch=(2,))
    frame = Frame.of_layers(factor(Frame.of_point(x, 3, 3), chain), chain, 3)
    whole, parts = LayerCurvature(frame), LayerCurvature(frame)
    wanted = whole.ricci(), whole.scalar()
    monkeypatch.setattr(layer_curvature, "_BLOCK", 1)
    assert_allclose(parts.ricci(), wanted[0], rtol=0, atol=1e-13 * np.abs(wanted[0]).max())
    assert_allclose(parts.scalar(), wanted[1], rtol=1e-13)
