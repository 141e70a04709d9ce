"""Detection of singular matrices on a geodesic.

Nothing stops the root chart's flow at det T = 0, so every step is examined: a matrix farther from
the singular ones than the step is long cannot have met one (Weyl's inequality); the others are
looked at more closely.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.runge_kutta import rates, step
from dln_manifolds.spectral.elementary import Array

_PARTS = 16
_ROUNDS = 12
# The arc of a step is longer than its chord, by much less than this at any useful tolerance.
_ARC = 1.25


def _sign(matrix: Array) -> Array:
    return np.linalg.slogdet(matrix)[0]


def may_cross(old: Array, new: Array, old_smallest: Array, new_smallest: Array) -> Array:
    """Whether a step from ``old`` to ``new`` (roots T) is long enough to meet a singular matrix."""
    chord = np.linalg.norm(new - old, axis=(-2, -1))
    return _ARC * chord >= old_smallest + new_smallest


def seems_to_cross(old: Array, new: Array, old_rate: Array, new_rate: Array, size: Array) -> Array:
    """Whether the cubic interpolant of a step changes the sign of its determinant."""
    t = np.arange(1, _PARTS + 1)[:, None, None, None] / _PARTS
    h = size[:, None, None]
    chord = new - old
    path = old + t * (
        chord + (1 - t) * ((1 - 2 * t) * -chord + (1 - t) * h * old_rate - t * h * new_rate)
    )
    return (_sign(path) != _sign(old)).any(axis=0)


def locate(state: Array, size: Array, depth: float) -> Array:
    """Time from the start of a step to its first singular matrix, infinite where there is none.

    Parameters
    ----------
    state : ndarray, shape=[n_batch, 2, n, n]
        Root T and momentum P at the start of the step.
    size : ndarray, shape=[n_batch]
        Step sizes.
    depth : float
        Depth N >= 1.

    Notes
    -----
    The bracket of the first change of sign is divided by 16 a dozen times, every time by steps of
    the integrator from the start of the step.
    """
    rate = rates(state, depth)[0]
    start = _sign(state[:, 0])
    low, high = np.zeros_like(size), size.copy()
    found = np.ones(size.shape, dtype=bool)
    fractions = np.arange(1, _PARTS + 1) / _PARTS
    for _ in range(_ROUNDS):
        times = low[:, None] + fractions * (high - low)[:, None]
        ends, _ = step(
            np.repeat(state, _PARTS, axis=0),
            np.repeat(rate, _PARTS, axis=0),
            times.ravel(),
            depth,
        )
        flipped = _sign(ends[:, 0]).reshape(times.shape) != start[:, None]
        found &= flipped.any(axis=1)
        first = np.argmax(flipped, axis=1)[:, None]
        high = np.take_along_axis(times, first, axis=1)[:, 0]
        low = np.where(first[:, 0] == 0, low, np.take_along_axis(times, first - 1, axis=1)[:, 0])
    return np.where(found, high, np.inf)
