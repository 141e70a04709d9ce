"""Detection of singular matrices on a geodesic.

Nothing stops the flow where the determinant vanishes, so every step is examined: a matrix farther
from the singular ones than the step is long cannot have met one (Weyl's inequality); the others
are looked at more closely.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.fields import Field
from dln_manifolds.geodesics.nearness import comes_near
from dln_manifolds.geodesics.runge_kutta import step
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import frobenius

_PARTS = 16
_ROUNDS = 14
# Pieces shorter than this, relative to the matrix at the start, are not divided any more.
_FINEST = 1e-14


def first_singular(field: Field, state: Array, size: Array) -> Array:
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
    The step is divided by 16 again and again, every time by single steps of the integrator from
    its start, seen from its frame: rotations change no singular value. A piece is kept if its
    chord, from A to B, comes near a singular matrix: it meets one where ``A^{-1} B`` has a real
    eigenvalue below zero. That holds for geodesics that run along the singular matrices, where a
    bound by lengths would need very many pieces, and for singular values that vanish in pairs, as
    on rays of the cone, where the determinant keeps its sign.
    """
    rate, _ = field.rates(state)
    frame = field.frame(state, rate)
    scale = frobenius(field.watched(state[:, 0]))
    crossing = np.full(size.shape, np.inf)
    member, low, width = np.arange(size.size), np.zeros_like(size), size.copy()
    fractions = np.arange(_PARTS + 1) / _PARTS
    for _ in range(_ROUNDS):
        if member.size == 0:
            break
        times = low[:, None] + fractions * width[:, None]
        each = np.repeat(member, _PARTS + 1)
        ends, _ = step(field, frame.take(each), state[each], rate[each], times.ravel())
        path = field.watched(ends[:, 0])
        path = path.reshape(*times.shape, *path.shape[1:])
        values = np.linalg.svd(path, compute_uv=False)
        smallest = values[..., -1]
        suspect = comes_near(path, smallest, values[..., 0])
        chord = frobenius(np.diff(path, axis=1))
        final = chord <= _FINEST * scale[member, None]
        row, part = np.nonzero(suspect & final)
        before, after = smallest[row, part], smallest[row, part + 1]
        share = before / np.maximum(before + after, np.finfo(float).tiny)
        hit = times[row, part] + share * (times[row, part + 1] - times[row, part])
        np.minimum.at(crossing, member[row], hit)
        earlier = times[:, :-1] < crossing[member][:, None]
        row, part = np.nonzero(suspect & ~final & earlier)
        member, low, width = member[row], times[row, part], width[row] / _PARTS
    # What is left is as narrow as numbers allow.
    np.minimum.at(crossing, member, low)
    return crossing
