"""Detection of singular matrices on a geodesic.

Nothing stops the flow where the determinant vanishes, so every step is examined: a matrix farther
from the singular ones than the step is long cannot have met one (Weyl's inequality); the others
are looked at more closely.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dln_manifolds.geodesics.fields import Field
from dln_manifolds.geodesics.runge_kutta import step
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import transpose

_PARTS = 16
_FALSI_ROUNDS = 40
_ZOOM_ROUNDS = 120
# Width, relative to the step, at which a piece that may hold a singular matrix is taken to do so.
_NARROW = 1e-12
# The arc of a step is longer than its chord, by much less than this at any useful tolerance.
_ARC = 1.25


def _sign(matrix: Array) -> Array:
    return np.linalg.slogdet(matrix)[0]


def _smallest(matrix: Array) -> Array:
    return np.linalg.svd(matrix, compute_uv=False)[..., -1]


def may_cross(old: Array, new: Array, old_smallest: Array, new_smallest: Array) -> Array:
    """Whether a step from ``old`` to ``new`` is long enough to meet a singular matrix."""
    chord = np.linalg.norm(new - old, axis=(-2, -1))
    return _ARC * chord >= old_smallest + new_smallest


def _suspect_pieces(path: Array) -> Array:
    """Whether pieces between neighbouring matrices, on the third axis from the end, may cross.

    As `may_cross`, but only what moves the singular values that are in reach of zero counts. A
    change of sign of the determinant is not needed: where several singular values vanish at once,
    as at the tip of the cone, the sign may stay.
    """
    left, values, right_t = np.linalg.svd(path)
    move = path[..., 1:, :, :] - path[..., :-1, :, :]
    chord = np.linalg.norm(move, axis=(-2, -1))
    inside = transpose(left[..., :-1, :, :]) @ move @ transpose(right_t[..., :-1, :, :])
    reach = values[..., :-1, :] <= _ARC * chord[..., None]
    block = inside * reach[..., :, None] * reach[..., None, :]
    speed = np.linalg.norm(block, axis=(-2, -1))
    return _ARC * speed >= values[..., :-1, -1] + values[..., 1:, -1]


def seems_to_cross(old: Array, new: Array, old_rate: Array, new_rate: Array, size: Array) -> Array:
    """Whether pieces of the cubic interpolant of a step are still long enough to cross."""
    t = np.arange(2 * _PARTS + 1)[:, None, None] / (2 * _PARTS)
    old, new, old_rate, new_rate = (x[:, None] for x in (old, new, old_rate, new_rate))
    h = size[:, None, None, None]
    chord = new - old
    path = old + t * (
        chord + (1 - t) * ((1 - 2 * t) * -chord + (1 - t) * h * old_rate - t * h * new_rate)
    )
    return np.any(_suspect_pieces(path), axis=1)


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
    The step is searched from its start. The first piece that is long enough to meet a singular
    matrix is divided by 16 again; a piece without any is left behind. Once the determinant changes
    sign over a piece, the regula falsi finishes. Positions come from single steps of the
    integrator, all from the start of the step.
    """
    rate, _ = field.rates(state)
    n_batch = len(size)

    def watched_at(times: Array, members: Array) -> Array:
        end, _ = step(field, state[members], rate[members], times)
        return field.watched(end[:, 0])

    crossing = np.full(n_batch, np.inf)
    cursor, width = np.zeros(n_batch), size.copy()
    active = np.arange(n_batch)
    fractions = np.arange(_PARTS + 1) / _PARTS
    brackets: list[tuple[Array, Array, Array]] = []
    for _ in range(_ZOOM_ROUNDS):
        times = cursor[active, None] + fractions * width[active, None]
        path = watched_at(times.ravel(), np.repeat(active, _PARTS + 1))
        path = path.reshape(*times.shape, *path.shape[1:])
        suspect = _suspect_pieces(path)
        found = suspect.any(axis=1)
        first = np.argmax(suspect, axis=1)
        rows = np.arange(len(active))
        sign = _sign(path)
        flips = found & (sign[rows, first] * sign[rows, first + 1] < 0)
        narrow = found & ~flips & (width[active] <= _NARROW * size[active])
        brackets.append((active[flips], times[rows, first][flips], times[rows, first + 1][flips]))
        crossing[active[narrow]] = times[rows, first][narrow]
        # Into the first suspect piece, or past a piece without any, with longer strides again.
        cursor[active] = np.where(found, times[rows, first], times[:, -1])
        width[active] = np.where(found, width[active] / _PARTS, width[active] * _PARTS)
        left = size[active] - cursor[active]
        width[active] = np.minimum(width[active], left)
        active = active[~flips & ~narrow & (left > 0)]
        if active.size == 0:
            break
    # What still zooms after so many rounds hugs the singular matrices.
    crossing[active] = cursor[active]
    members, low, high = (np.concatenate(parts) for parts in zip(*brackets, strict=True))
    if members.size:
        crossing[members] = _regula_falsi(watched_at, members.astype(int), low, high)
    return crossing


def _regula_falsi(
    watched_at: Callable[[Array, Array], Array], members: Array, low: Array, high: Array
) -> Array:
    """Find the change of sign of the smallest root singular value, signed by the determinant.

    It is smooth there. The Illinois variant: an end that is kept twice counts half.
    """
    start = watched_at(low, members)
    sign, f_low = _sign(start), _smallest(start)

    def value(times: Array) -> Array:
        matrix = watched_at(times, members)
        return sign * _sign(matrix) * _smallest(matrix)

    f_high = value(high)
    middle, tiny = high, 1e-15 * np.linalg.norm(start, axis=(-2, -1))
    for k in range(_FALSI_ROUNDS):
        spread = f_low - f_high
        share = np.where(spread == 0, 0.5, f_low / np.where(spread == 0, 1.0, spread))
        # Where two singular values cross the function has a kink, which bisection passes.
        middle = low + (high - low) * (0.5 if k % 3 == 2 else share)
        f_middle = value(middle)
        if (np.abs(f_middle) <= tiny).all():
            break
        before = f_middle > 0
        f_high = np.where(before, 0.5 * f_high, f_middle)
        f_low = np.where(before, f_middle, 0.5 * f_low)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return middle
