"""Shared material of the geodesic tests: random pairs, and an independent Hamiltonian."""

from __future__ import annotations

import numpy as np
import pytest


def gaussian_pairs(n: int, n_pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian matrices whose determinants have equal signs."""
    rng = np.random.default_rng(seed)
    first, last = rng.standard_normal((2, n_pairs, n, n))
    differ = np.linalg.det(first) * np.linalg.det(last) < 0
    last[differ, 0] *= -1
    return first, last


@pytest.fixture(name="pairs")
def fixture_pairs():
    """Return the function that draws pairs."""
    return gaussian_pairs
