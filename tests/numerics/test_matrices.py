"""Rotations against scipy's exponentials, others against their definitions."""

import math

import numpy as np
import pytest
from scipy.linalg import expm

from dln_manifolds.numerics import matrices
from dln_manifolds.numerics.matrices import half_turns, rotation, tall_qr, transpose


@pytest.mark.parametrize("size", [0, 1e-9, 0.1, 0.25, 3, 100])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_rotation_is_the_exponential(n, size):
    """Against scipy; orthogonal, also after many halvings."""
    skew = np.random.default_rng(2).standard_normal((3, 2, n, n))
    skew -= np.swapaxes(skew, -1, -2)
    norm = np.linalg.norm(skew, axis=(-2, -1), keepdims=True)
    skew *= size / np.where(norm == 0, 1, norm) * np.array([1, 0.3, 0.01])[:, None, None, None]
    turn = rotation(skew)
    tolerance = 4e-16 * max(1, 4 * size)
    assert np.abs(turn - expm(skew)).max() <= 10 * tolerance
    assert np.abs(turn @ np.swapaxes(turn, -1, -2) - np.eye(n)).max() <= 10 * tolerance


@pytest.mark.parametrize("size", [0, 1e-3, 1.9e-2, 2.1e-2, 3])
def test_half_turns_are_inverses(size):
    """Small turns by products, others by elimination."""
    skew = np.random.default_rng(3).standard_normal((4, 5, 5))
    skew -= np.swapaxes(skew, -1, -2)
    skew *= size / np.linalg.norm(skew, axis=(-2, -1), keepdims=True)
    identity = np.eye(5)
    assert np.abs((identity - skew / 2) @ half_turns(skew) - identity).max() <= 1e-15


@pytest.mark.parametrize("rank", [3, 2, 0])
@pytest.mark.parametrize("rows", [2, 100, 8191, 20_001])
def test_tall_qr(rows, rank):
    """At once and in blocks; columns of very different sizes keep their digits."""
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, 3)) * [1.0, 1e-12, 1e9]
    matrix[: rows // 2] *= rank > 2  # a block may be zero
    copy = matrix.copy()
    q, r = tall_qr(matrix)
    assert np.array_equal(matrix, copy)
    assert q.shape == (rows, min(rows, 3))
    assert np.abs(q.T @ q - np.eye(min(rows, 3))).max() <= 1e-14
    assert np.array_equal(r, np.triu(r))
    sizes = np.linalg.norm(matrix, axis=0)
    assert (np.linalg.norm(q @ r - matrix, axis=0) <= 1e-14 * sizes).all()


@pytest.mark.parametrize("n", [1, 3, 4, 5])
@pytest.mark.parametrize("batch", [(), (2, 3), (40, 5)])
def test_products_of_matrices_that_lie_side_by_side(batch, n):
    """Small ones change their place in memory if they are many; no entry changes."""
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, *batch, n, n))
    moved, other = matrices.side_by_side(a), matrices.side_by_side(b)
    np.testing.assert_array_equal(moved, a)
    many = math.prod(batch) >= 64 and n <= 4
    assert (moved is not a) == many
    for left, right in ((moved, other), (transpose(moved), other)):
        got = matrices.times(left, right)
        np.testing.assert_allclose(got, left @ right, rtol=0, atol=1e-14 * n)
        assert not many or n == 1 or got.strides[-3] == got.itemsize
    vectors = matrices.side_by_side(a[..., 0], 1)
    np.testing.assert_array_equal(vectors, a[..., 0])
    assert not many or n == 1 or vectors.strides[-2] == vectors.itemsize
