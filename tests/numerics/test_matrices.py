"""Rotations against scipy's exponentials."""

import numpy as np
import pytest
from scipy.linalg import expm

from dln_manifolds.numerics.matrices import rotation


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
