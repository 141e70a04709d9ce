"""Detection of singular matrices on a geodesic.

Nothing stops the flow where the determinant vanishes, so every step is examined: a matrix farther
from the singular ones than the step is long cannot have met one (Weyl's inequality); the others
are looked at more closely.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.fields import Field
from dln_manifolds.geodesics.runge_kutta import step
from dln_manifolds.spectral.elementary import Array

_PARTS = 16
_ROUNDS = 10
# The arc of a step is longer than its chord, by much less than this at any useful tolerance.
_ARC = 1.25


def _sign(matrix: Array) -> Array:
    return np.linalg.slogdet(matrix)[0]


def may_cross(old: Array, new: Array, old_smallest: Array, new_smallest: Array) -> Array:
    """Whether a step from ``old`` to ``new`` is long enough to meet a singular matrix."""
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


def locate(field: Field, state: Array, size: Array) -> Array:
    """Time from the start of a step to its first singular matrix, infinite where there is none.

    Parameters
    ----------
    field : Field
        The flow.
    state : ndarray, shape=[n_batch, 2, ...]
        States at the start of the step.
    size : ndarray, shape=[n_batch]
        Step sizes.

    Notes
    -----
    The first change of sign among 16 parts of the step brackets a zero of the smallest root
    singular value, taken with the sign of the determinant, in which it is smooth. The Illinois
    variant of the regula falsi finds it, every value by one step of the integrator from the start.
    """
    rate, at_start = field.rates(state)
    start = _sign(field.watched(state[:, 0]))

    def signed_smallest(times: Array, members: Array) -> Array:
        end, _ = step(field, state[members], rate[members], times)
        watched = field.watched(end[:, 0])
        smallest = np.linalg.svd(watched, compute_uv=False)[:, -1]
        return _sign(watched) * start[members] * smallest

    n_batch = len(size)
    fractions = np.arange(1, _PARTS + 1) / _PARTS
    times = size[:, None] * fractions
    values = signed_smallest(times.ravel(), np.repeat(np.arange(n_batch), _PARTS))
    values = values.reshape(times.shape)
    negative = values <= 0
    members = np.nonzero(negative.any(axis=1))[0]
    crossing = np.full(n_batch, np.inf)
    if members.size == 0:
        return crossing
    first = np.argmax(negative[members], axis=1)
    high, f_high = times[members, first], values[members, first]
    low = np.where(first == 0, 0.0, times[members, first - 1])
    f_low = np.where(first == 0, at_start[members], values[members, first - 1])
    for _ in range(_ROUNDS):
        spread = f_low - f_high
        middle = low + (high - low) * f_low / np.where(spread == 0, 1.0, spread)
        f_middle = signed_smallest(middle, members)
        before = f_middle > 0
        # Illinois: an end that is kept twice counts half, which makes both ends move.
        f_high = np.where(before, 0.5 * f_high, f_middle)
        f_low = np.where(before, f_middle, 0.5 * f_low)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    crossing[members] = middle
    return crossing
