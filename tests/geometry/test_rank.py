"""The rank of matrices: what counts as which, nearest matrices, and how those of a rank curve."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.rank import (
    MARGIN,
    has_rank,
    nearest_of_rank,
    resolution,
    truncation_pullback,
    weingarten,
)

RNG = np.random.default_rng(0)
DOUBLE, SINGLE = np.dtype(float), np.dtype(np.float32)
SHAPES = [(3, 3, 1), (3, 3, 2), (5, 4, 2), (4, 5, 3), (3, 5, 3), (6, 3, 3), (1, 1, 1), (1, 4, 1)]
each = pytest.mark.parametrize(("m", "n", "r"), SHAPES)


def of_rank(m, n, r, *batch):
    return RNG.normal(size=(*batch, m, r)) @ RNG.normal(size=(*batch, r, n))


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE])
def test_thresholds(dtype):
    unit = resolution(4, dtype)
    assert unit == 16 * np.finfo(dtype).eps
    rows = {
        (1.0, 2 * MARGIN * unit, 0.0): 2,
        (1.0, unit / 2, 0.0): 1,
        (1.0, 1.0, 2 * MARGIN * unit): 3,
        (1.0, unit / 2, unit / 4): 1,
        (1.0, 1.0, 1.01 * unit): 3,
        (1.0, 1.0, 0.99 * unit): 2,
    }
    for values, rank in rows.items():
        found = [bool(has_rank(1e-200 * np.array(values), r, 4, dtype)) for r in (1, 2, 3)]
        assert found == [r == rank for r in (1, 2, 3)], values
    assert not has_rank(np.zeros(3), 1, 4, dtype)


def test_values_up_to_a_tolerance_count_as_zero():
    values = np.array([1.0, 0.1, 1e-6])
    assert not has_rank(values, 2, 3, DOUBLE)
    assert has_rank(values, 2, 3, DOUBLE, 1e-5)
    assert not has_rank(values, 3, 3, DOUBLE, 1e-5)


@each
def test_nearest_matrix_is_that_of_eckart_and_young(m, n, r):
    matrices = RNG.normal(size=(6, m, n))
    nearest = nearest_of_rank(matrices, r, DOUBLE)
    values = np.linalg.svd(matrices, compute_uv=False)
    assert has_rank(np.linalg.svd(nearest, compute_uv=False), r, max(m, n), DOUBLE).all()
    distance = np.linalg.norm(matrices - nearest, axis=(-2, -1))
    assert_allclose(distance, np.sqrt(np.sum(values[:, r:] ** 2, axis=-1)), atol=1e-14)
    # Such matrices are left as they are.
    assert_array_equal(nearest_of_rank(nearest, r, DOUBLE), nearest)


@each
@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE])
def test_lower_ranks_are_raised(m, n, r, dtype):
    for matrix in (np.zeros((m, n)), of_rank(m, n, 1)):
        nearest = nearest_of_rank(matrix, r, dtype)
        values = np.linalg.svd(nearest, compute_uv=False)
        assert has_rank(values, r, max(m, n), dtype)
        size = max(float(np.linalg.norm(matrix)), 1.0)
        if matrix.any():
            assert np.linalg.norm(nearest - matrix) <= 3 * r * MARGIN * resolution(6, dtype) * size


def covariance(n, rank, *batch):
    """Return a positive semidefinite matrix of a rank."""
    half = RNG.normal(size=(*batch, n, rank))
    return half @ half.swapaxes(-1, -2)


@pytest.mark.parametrize(("n", "rank"), [(3, 2), (3, 1), (8, 5), (17, 12)])
def test_positive_semidefinite_matrices_become_positive_definite(n, rank):
    nearest = nearest_of_rank(covariance(n, rank, 40), n, DOUBLE)
    assert (np.linalg.slogdet(nearest)[0] > 0).all()
    # Close to symmetric with positive eigenvalues: the polar factor is the identity.
    values = np.linalg.eigvalsh(0.5 * (nearest + nearest.swapaxes(-1, -2)))
    assert (values[:, 0] > 4 * n * np.finfo(float).eps * values[:, -1]).all()
    assert np.abs(nearest - nearest.swapaxes(-1, -2)).max() <= 1e-15 * n * values.max()
    # Below full rank too.
    kept = nearest_of_rank(covariance(n, 1, 5), n - 1, DOUBLE)
    assert (np.linalg.eigvalsh(0.5 * (kept + kept.swapaxes(-1, -2))) > -1e-15 * n**2).all()


def test_polar_factors_of_symmetric_matrices_are_exact():
    """In all directions, where rounding in singular vectors would turn those of small values."""
    half = RNG.normal(size=(10, 8, 4))
    ridged = half @ half.swapaxes(-1, -2)
    largest = np.linalg.norm(ridged, 2, axis=(-2, -1))[:, None, None]
    ridged = ridged + 2e-14 * largest * np.eye(8)
    for matrices in (ridged, nearest_of_rank(covariance(8, 3, 10), 8, DOUBLE)):
        assert_array_equal(matrices, matrices.swapaxes(-1, -2))
        frame = Frame.of_point(matrices, 2.0)
        assert_array_equal(frame.left, frame.right_t.swapaxes(-1, -2))
        values = np.linalg.svd(matrices, compute_uv=False)
        assert_allclose(frame.values, values, atol=1e-15 * values.max())
        assert_allclose(frame.compose(frame.values), matrices, atol=1e-14 * values.max())
    # Of indefinite ones it is symmetric; others, and those far from singular, are left alone.
    indefinite = np.diag([3.0, -2.0, 1e-12]) + 0.0
    assert_allclose(Frame.of_point(indefinite, 2.0).polar, np.diag([1, -1, 1]), atol=1e-15)
    other = of_rank(3, 3, 2) + 1e-12 * RNG.normal(size=(3, 3))
    left, values, right_t = np.linalg.svd(other)
    assert_array_equal(Frame.of_point(other, 2.0).polar, left @ right_t)


def test_null_columns_follow_continuously():
    """A small change of a matrix of lower rank changes its projection by little, and no sign."""
    matrix, turn = of_rank(5, 5, 3), np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    bases = Frame.of_point(nearest_of_rank(matrix, 5, DOUBLE), 2.0).polar
    assert np.linalg.det(bases) > 0
    for step in (1e-3, 1e-5):
        change = matrix + step * matrix @ RNG.normal(size=(5, 5))
        moved = Frame.of_point(nearest_of_rank(change, 5, DOUBLE), 2.0).polar
        # Raised values are a few roundings, of which their vectors are a fraction.
        assert np.linalg.norm(moved - bases) < 100 * step + 0.5
        assert np.linalg.det(moved) > 0
    turned = Frame.of_point(nearest_of_rank(turn @ matrix @ turn.T, 5, DOUBLE), 2.0).polar
    assert np.linalg.det(turned) > 0


def test_raised_determinants_are_positive():
    matrices = np.concatenate([of_rank(4, 4, 2, 30), of_rank(4, 4, 3, 30), -covariance(4, 3, 30)])
    assert (np.linalg.slogdet(nearest_of_rank(matrices, 4, DOUBLE))[0] > 0).all()
    # Determinants that are known keep their signs, in the same batch.
    both = np.stack([np.diag([1.0, 1.0, -1e-3, 1.0]), np.diag([1.0, 0.0, -1.0, 1.0])])
    assert_array_equal(np.linalg.slogdet(nearest_of_rank(both, 4, DOUBLE))[0], [-1, 1])


@each
def test_weingarten_map_is_the_second_derivative_of_the_projection(m, n, r):
    point, normal = of_rank(m, n, r), RNG.normal(size=(m, n))
    frame = Frame.of_point(point, 1.0, r)

    def tangent(matrix):
        return frame.assemble(frame.blocks(matrix))

    a, b = (tangent(RNG.normal(size=(m, n))) for _ in range(2))
    normal = normal - tangent(normal)
    # The nearest matrices of rank r to X + t a + t^2 b are on a curve of the second order.
    found = np.sum(weingarten(frame, a, normal) * b)
    steps = 1e-4 * np.array([-1, 1])
    turned = [Frame.of_point(nearest_of_rank(point + t * b, r, DOUBLE), 1.0, r) for t in steps]
    moved = [f.assemble(f.blocks(a)) for f in turned]
    expected = np.sum(normal * (moved[1] - moved[0])) / (steps[1] - steps[0])
    assert_allclose(found, expected, atol=1e-6 * max(1.0, abs(expected)))
    assert_allclose(weingarten(frame, a, normal + b), weingarten(frame, a, normal), atol=1e-12)
    if r == min(m, n):
        assert not weingarten(frame, a, normal).any()


@each
def test_derivative_of_the_nearest_matrix(m, n, r):
    matrix, direction, weight = (RNG.normal(size=(m, n)) for _ in range(3))
    step = 1e-6
    ends = [nearest_of_rank(matrix + t * direction, r, DOUBLE) for t in (-step, step)]
    expected = np.sum(weight * (ends[1] - ends[0])) / (2 * step)
    found = np.sum(truncation_pullback(matrix, r, weight) * direction)
    assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    frame = Frame.of_point(matrix, 1.0, r)
    at_point = truncation_pullback(nearest_of_rank(matrix, r, DOUBLE), r, weight)
    assert_allclose(at_point, frame.assemble(frame.blocks(weight)), atol=1e-12)


def test_empty_batches():
    assert nearest_of_rank(np.empty((0, 3, 3)), 2, DOUBLE).shape == (0, 3, 3)
    assert truncation_pullback(np.empty((0, 4, 3)), 2, np.empty((0, 4, 3))).shape == (0, 4, 3)
