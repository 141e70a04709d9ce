"""Shared material of the geodesic tests: random pairs, and an independent Hamiltonian."""

from __future__ import annotations

import numpy as np
import pytest

from dln_manifolds.geodesics import ObservableSystem, Points
from dln_manifolds.geometry.frame import Frame


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


def states_at(points: np.ndarray, velocities: np.ndarray, depth: float):
    """Return the system of square matrices, and states of the flow there, of points of size one."""
    n = points.shape[-1]
    system = ObservableSystem(depth, (n, n), n)
    unit = system.unit(Points(points, Frame.of_point(points, depth, n)))
    rate = system.flat(unit, velocities)
    return system, np.stack([unit.position, rate], axis=1)[:, :, None]


@pytest.fixture(name="states")
def fixture_states():
    """Return the function that makes states."""
    return states_at
