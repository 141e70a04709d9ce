"""Pairs of matrices on either side of det = 0."""

import numpy as np
import pytest


@pytest.fixture
def opposite():
    """Gaussian pairs whose determinants have different signs."""

    def draw(n_pairs, n, seed=0):
        rng = np.random.default_rng([n_pairs, n, seed])
        first, last = rng.normal(size=(2, n_pairs, n, n))
        last[np.linalg.det(first) * np.linalg.det(last) > 0, 0] *= -1
        return first, last

    return draw


@pytest.fixture
def cut():
    """Set the last singular values of matrices to zero, or to something small."""

    def lower(matrices, count=1, value=0.0):
        u, s, vt = np.linalg.svd(matrices)
        s[..., -count:] = value
        return (u * s[..., None, :]) @ vt

    return lower
