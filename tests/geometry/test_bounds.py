"""Bounds of distances: against solved geodesics, multiprecision, isometries and limits."""

import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geometry.bounds import lower_bound, upper_bound
from dln_manifolds.geometry.frame import Frame

SHAPES = [(3, 3, 1), (3, 3, 2), (6, 6, 2), (8, 5, 3), (6, 3, 3), (2, 5, 2), (1, 4, 1), (3, 3, 3)]
DEPTHS = [1, 1.5, 2, 3, 4, 30, 1e5]


def gaussian(m, n, r, count, seed, depth):
    """Pairs of frames of random matrices of rank r, in one component."""
    rng = np.random.default_rng([m, n, r, seed])
    left, right = rng.normal(size=(2, count, m, r)), rng.normal(size=(2, count, r, n))
    first, last = left @ right
    if m == n == r:
        last[:, 0] *= np.sign(np.linalg.det(first) * np.linalg.det(last))[:, None]
    return (first, last), [Frame.of_point(X, depth, r) for X in (first, last)]


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("depth", [1.5, 2, 3, 4, 8, 30])
def test_distances_lie_between(n, depth):
    points, frames = gaussian(n, n, n, 20, 0, depth)
    space = DLNObservableManifold(n, depth)
    space.equip_with_metric(on_failure="nan")
    dist = space.metric.dist(*points)
    solved = np.isfinite(dist)
    assert solved.mean() >= 0.9
    lower, upper = (bound(*frames)[solved] / dist[solved] for bound in (lower_bound, upper_bound))
    assert (lower <= 1).all()
    assert (upper >= 1 - 1e-12).all()
    assert np.median(lower) > 0.7
    assert np.median(upper) < 1.06


@pytest.mark.parametrize("depth", [1, 1.2, 1.7, 2, 2.01, 2.5, 3, 3.99, 4, 5, 20, 300])
def test_inequalities_of_the_proof(depth):
    first = depth / 2 if depth <= 2 else 2 / depth
    second = 0 if depth <= 2 else min(1 - 2 / depth, (depth**2 - 4) / (6 * depth))
    assert first + second <= 1
    with mpmath.workdps(50):
        for u in np.geomspace(1e-4, 20, 60):
            deep, twice = mpmath.mpf(depth) * mpmath.mpf(u), 2 * mpmath.mpf(u)
            slack = mpmath.tanh(deep) - (first + second) * mpmath.tanh(twice)
            assert slack >= -1e-16
            known = first * mpmath.coth(twice) + second * mpmath.tanh(twice)
            assert mpmath.coth(deep) >= known * (1 - mpmath.mpf(1e-15))


def _nuclear(matrix):
    return mpmath.fsum(mpmath.svd_r(matrix, compute_uv=False))


def exact_lower_bound(frames, depth):
    """The formula in 50 digits, from the factors in double precision."""
    with mpmath.workdps(50):
        first, last = frames
        N = mpmath.mpf(depth)
        l_0, l_1 = ([mpmath.mpf(s) ** (1 / N) for s in frame.values] for frame in frames)
        A = mpmath.matrix(last.left).T * mpmath.matrix(first.left)
        B = mpmath.matrix(last.right_t) * mpmath.matrix(first.right_t).T
        dot = mpmath.fsum(a * b for a, b in zip(l_0, l_1, strict=True))
        gap = mpmath.fsum((a - b) ** 2 for a, b in zip(l_0, l_1, strict=True))

        def between(C):
            return _nuclear(mpmath.diag(l_1) * C * mpmath.diag(l_0))

        first_weight = N / 2 if N <= 2 else 2 / N
        second_weight = 0 if N <= 2 else min(1 - 2 / N, (N**2 - 4) / (6 * N))
        apart = 2 * dot - between(A) - between(B)
        square = N * gap + 2 * first_weight * (2 * dot - between(A + B)) + 2 * second_weight * apart
        return float(mpmath.sqrt(square))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_lower_bound_in_many_digits(shape, depth):
    _, frames = gaussian(*shape, 3, 1, depth)
    found = lower_bound(*frames)
    expected = [exact_lower_bound([f.take(k) for f in frames], depth) for k in range(3)]
    assert (found <= expected).all()
    # Terms that cancel are rounded down: in deep square networks 1e-16 is weighed by N.
    assert_allclose(found, expected, rtol=1e-12 if depth < 100 else 1e-14 * depth)


def metric_norm(frame, vector):
    """Length of tangent vectors in ``N g_N`` at infinite depth, else in ``g_N``."""
    s, depth = frame.singular_values, frame.depth
    row, column = s[..., :, None], s[..., None, :]
    near = np.isclose(row, column, rtol=1e-12)
    if math.isfinite(depth):
        between = row ** (2 / depth) - column ** (2 / depth)
        same, side = depth * row ** (2 - 2 / depth), s ** (2 / depth - 2)
    else:
        between, same, side = 2 * np.log(row / column), row**2, None
    a = np.where(near, same, (row**2 - column**2) / np.where(near, 1.0, between))
    blocks, r = frame.blocks(vector), s.shape[-1]
    square = np.sum(blocks[..., :r, :] ** 2 / a, axis=(-2, -1))
    if side is not None:
        square = square + np.sum(blocks[..., r:, :] ** 2 * side[..., None, :], axis=(-2, -1))
    return np.sqrt(square)


@pytest.mark.parametrize(
    ("shape", "depth"),
    [*((shape, depth) for shape in SHAPES for depth in (1, 1.5, 2, 4, 30)), ((3, 3, 3), math.inf)],
)
def test_upper_bound_of_near_points_is_the_length_of_the_vector(shape, depth):
    (X, _), (frame, _) = gaussian(*shape, 10, 2, depth)
    Z = frame.assemble(frame.blocks(np.random.default_rng(0).normal(size=X.shape)))
    step = 1e-5 * frame.singular_values.min()
    errors = []
    for size in (step, step / 2):
        Y = Frame.of_point(X + size * Z, depth, shape[2])
        length = size * metric_norm(frame, Z)
        assert (lower_bound(frame, Y) <= length * (1 + 1e-3)).all()
        errors.append(np.abs(upper_bound(frame, Y) / length - 1).max())
    assert max(errors) < 1e-3


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_isometries(shape, depth):
    (m, n, r), rng = shape, np.random.default_rng(3)
    points, frames = gaussian(*shape, 10, 3, depth)
    P, Q = (np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (m, n))
    images = {
        "swapped": (points[::-1], 1.0),
        "turned": ([P @ X @ Q for X in points], 1.0),
        "transposed": ([X.swapaxes(-1, -2) for X in points], 1.0),
        "scaled": ([7 * X for X in points], 7 ** (1 / depth)),
    }
    # The path turns by angles of rotations that are known to 1e-6, of other bases.
    for bound, rtol in ((lower_bound, 1e-11 if depth < 100 else 1e-8), (upper_bound, 1e-6)):
        expected = bound(*frames)
        for moved, factor in images.values():
            found = bound(*(Frame.of_point(X, depth, r) for X in moved))
            assert_allclose(found, factor * expected, rtol=rtol)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_lower_is_below_upper_and_above_the_roots(shape, depth):
    _, frames = gaussian(*shape, 20, 4, depth)
    lower, upper = lower_bound(*frames), upper_bound(*frames)
    gap = np.linalg.norm(frames[0].roots - frames[1].roots, axis=-1)
    assert (lower >= math.sqrt(depth) * gap * (1 - 1e-9)).all()
    assert (lower <= upper).all()
    assert np.isfinite(upper).all()


@pytest.mark.parametrize("depth", [1, 1.5, 2, 4, 300])
@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_extreme_sizes(size, depth):
    (X, Y), frames = gaussian(3, 3, 3, 5, 5, depth)
    with np.errstate(all="raise", under="ignore"):
        for bound in (lower_bound, upper_bound):
            found = bound(*(Frame.of_point(size * Z, depth) for Z in (X, Y)))
            assert_allclose(found, size ** (1 / depth) * bound(*frames), rtol=1e-12)
            # Beside the far end, the other one is the tip of the cone.
            ends = Frame.of_point(size * X, depth), Frame.of_point(Y / size, depth)
            roots = [np.linalg.norm(frame.roots, axis=-1) for frame in ends]
            if depth <= 4:
                assert_allclose(bound(*ends), math.sqrt(depth) * np.maximum(*roots), rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 4, 30, math.inf])
def test_wide_condition(depth):
    rng = np.random.default_rng(6)
    bases = np.linalg.qr(rng.normal(size=(4, 5, 3, 3)))[0]
    s = np.geomspace(1, 1e-12, 3)
    X, Y = bases[0] * s @ bases[1], bases[2] * s @ bases[3]
    Y[:, 0] *= np.sign(np.linalg.det(bases).prod(axis=0))[:, None]
    first, last = Frame.of_point(X, depth), Frame.of_point(Y, depth)
    lower, upper = lower_bound(first, last), upper_bound(first, last)
    assert ((lower >= 0) & (lower <= upper) & np.isfinite(upper)).all()
    assert_array_equal(lower_bound(first, first), 0)
    assert (upper_bound(first, first) <= 0.02).all()


@pytest.mark.parametrize("bound", [lower_bound, upper_bound])
def test_infinite_depth_is_the_limit(bound):
    points, frames = gaussian(4, 4, 4, 10, 7, math.inf)
    limit = bound(*frames)
    errors = [
        np.abs(math.sqrt(N) * bound(*(Frame.of_point(X, N) for X in points)) / limit - 1).max()
        for N in (1e3, 1e4, 1e5, 1e6)
    ]
    ratios = np.array(errors[:-1]) / errors[1:]
    assert_allclose(ratios, 10, rtol=0.05)
    assert errors[-1] < 1e-5


@pytest.mark.parametrize("depth", [1, 2, 3.5, math.inf])
@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-9])
def test_equal_and_nearly_equal_singular_values(depth, gap):
    """Between multiples of a rotation and a point with the same frames, both are exact."""
    s, t = np.array([[1.0, 1 + gap, 1 + gap, 1]]), np.array([[3.0, 3 + gap, 2, 2 - gap]])
    Q = np.linalg.qr(np.random.default_rng(8).normal(size=(4, 4)))[0]
    first, last = (Frame.of_point(Q * np.sort(v)[:, None, ::-1], depth) for v in (s, t))
    if math.isfinite(depth):
        roots = [np.sort(v) ** (1 / depth) for v in (s, t)]
        expected = math.sqrt(depth) * np.linalg.norm(roots[0] - roots[1])
    else:
        expected = np.linalg.norm(np.log(np.sort(s)) - np.log(np.sort(t)))
    assert_allclose(lower_bound(first, last), expected, rtol=1e-12)
    assert_allclose(upper_bound(first, last), expected, rtol=1e-9)


def test_no_path_joins_the_components_of_square_matrices():
    first, last = (Frame.of_point(np.diag(d), 3) for d in ([1.0, 1, 1], [1.0, 1, -1]))
    assert upper_bound(first, last) == np.inf
    assert lower_bound(first, last) > 0
    lower_rank = [Frame.of_point(np.diag(d), 3, 2) for d in ([1.0, 1, 0], [1.0, -1, 0])]
    assert np.isfinite(upper_bound(*lower_rank))


def test_frames_broadcast():
    (X, Y), _ = gaussian(4, 3, 2, 5, 9, 2)
    first, last = Frame.of_point(X[:, None], 2, 2), Frame.of_point(Y[:3], 2, 2)
    for bound in (lower_bound, upper_bound):
        pair = Frame.of_point(X[4], 2, 2), Frame.of_point(Y[2], 2, 2)
        assert bound(first, last).shape == (5, 3)
        assert_allclose(bound(first, last)[4, 2], bound(*pair), rtol=1e-12)
