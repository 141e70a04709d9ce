"""Whether paths of matrices, given by points on them, may meet a singular matrix.

Nothing stops the flow where the determinant vanishes, so every step is examined: a matrix farther
from the singular ones than the step is long cannot have met one (Weyl's inequality); the others
are looked at more closely. Matrices of rank r, of any shape, are singular where the rank drops:
then between two of them their cores count, r x r in bases that turn from one to the other.
"""

import numpy as np

from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, nearest_orthogonal, transpose

# The arc of a step is longer than its chord, by much less than this at any useful tolerance.
_ARC = 1.25
# A chord from A to B with eigenvalues of ``A^{-1} B`` to the right of this is far from singular.
_SAFE = 0.3


def may_cross(old: Array, new: Array, old_smallest: Array, new_smallest: Array) -> Array:
    """Whether a step from ``old`` to ``new`` is long enough to meet a singular matrix."""
    # By Weyl: a matrix is as far from the singular ones as its smallest singular value.
    chord = frobenius(new - old)
    return np.asarray(_ARC * chord >= old_smallest + new_smallest)


def facing_cores(start: Array, end: Array, rank: int) -> tuple[Array, Array]:
    """Return cores of matrices of a rank, ``(..., r, r)``, in bases that turn the shortest way.

    Determinants have different signs where a singular value has changed its sign in between.
    """
    parts = [np.linalg.svd(matrix, full_matrices=False) for matrix in (start, end)]
    (u, values, vt), (u_end, values_end, vt_end) = (
        (left[..., :rank], s[..., :rank], right_t[..., :rank, :]) for left, s, right_t in parts
    )
    left, right_t = (nearest_orthogonal(x) for x in (transpose(u) @ u_end, vt_end @ transpose(vt)))
    return values[..., None] * np.eye(rank), (left * values_end[..., None, :]) @ right_t


def comes_near(path: Array, smallest: Array, largest: Array, rank: int | None = None) -> Array:
    """Whether chords of paths ``(n_batch, n_times, m, n)`` come near a singular matrix.

    ``rank`` is that of the matrices, for square ones of full rank None.
    """
    # A chord from A to B meets one where A^{-1} B has a real eigenvalue below zero.
    start, end = path[:, :-1], path[:, 1:]
    # The numerically singular have no inverse.
    node = smallest <= np.finfo(float).eps * largest
    singular = node[:, :-1] | node[:, 1:]
    near = singular | may_cross(start, end, smallest[:, :-1], smallest[:, 1:])
    chosen = near & ~singular
    start, end = start[chosen], end[chosen]
    if rank is not None:
        start, end = facing_cores(start, end, rank)
    quotients: Array
    try:
        quotients = np.linalg.solve(start, end)
    except np.linalg.LinAlgError:
        # A pivot has vanished by rounding, which as much rounding undoes.
        nudge = np.finfo(float).eps * frobenius(start)[:, None, None] * np.eye(start.shape[-1])
        quotients = np.linalg.solve(start + nudge, end)
    near[chosen] = (np.linalg.eigvals(quotients).real < _SAFE).any(axis=-1)
    return near


def passes_near(path: Array, smallest: Array, rank: int | None = None) -> Array:
    """Whether any chord comes near a singular matrix, ``(n_batch,)``; as for `comes_near`."""
    long = may_cross(path[:, :-1], path[:, 1:], smallest[:, :-1], smallest[:, 1:])
    near = np.asarray(long.any(axis=1))
    if near.any():
        values = np.linalg.svd(path[near], compute_uv=False)[..., :rank]
        near[near] = comes_near(path[near], values[..., -1], values[..., 0], rank).any(axis=1)
    return near


def stays_away(path: Array, smallest: Array, rank: int | None = None) -> Array:
    """Whether smooth paths, known at ends and nodes, surely stay away; ``smallest`` at nodes."""
    chords = frobenius(path[:, 1:] - path[:, :-1])
    # Singular matrices are as far as the smallest singular value, which changes by no more than the
    # matrix does: chords of half of it are safe, from the ends as well.
    near = np.asarray(2 * chords.max(axis=1) >= smallest.min(axis=1))
    if near.any():
        # Of the ends it is known by how much they differ from the nodes next to them.
        outer = np.maximum(smallest[near][:, [0, -1]] - chords[near][:, [0, -1]], 0.0)
        roots = np.concatenate([outer[:, :1], smallest[near], outer[:, 1:]], axis=1)
        near[near] = passes_near(path[near], roots, rank)
    return ~near
