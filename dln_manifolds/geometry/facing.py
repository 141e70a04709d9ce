r"""How the bases of two matrices of rank r are turned to face each other.

With bases ``E_0`` and ``E_1`` of column spaces, ``F_0`` and ``F_1`` of row spaces, rotations with
``exp(Omega_L) E_0 = E_1 P`` and ``exp(Omega_R) F_0 = F_1 P`` carry one matrix near the other for
every orthogonal P. Best is the P for which they share the turn fairly: the blocks of ``Omega_L``
and ``Omega_R`` on the first bases add up to zero, and those on the complements vanish. (Ours.)
"""

from typing import NamedTuple

import numpy as np

from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import rotation, rotation_angles, transpose

# Rounds of the refinement at most, and the blocks that count as zero.
_ROUNDS, _SETTLED = 12, 1e-4


class Facing(NamedTuple):
    """Angular velocities ``Omega_L`` and ``Omega_R``, and their exponentials."""

    left: Array
    right: Array
    left_turn: Array
    right_turn: Array

    @classmethod
    def of_velocities(cls, left: Array, right: Array) -> "Facing":
        """Add the exponentials."""
        return cls(left, right, rotation(left), rotation(right))


def common_bases(first: Array, last: Array) -> Array:
    """Return bases, ``(n_batch, m, min(m, 2 r))``, of spaces that hold both of ``(n_batch, m, r)``.

    They begin with the first: orthogonal maps that fix both column spaces of two matrices are
    isometries, so geodesics between these stay in there.
    """
    rank = first.shape[-1]
    if first.shape[-2] == rank:
        return first
    rest = last - first @ (transpose(first) @ last)
    basis = np.linalg.qr(np.concatenate([first, rest], axis=-1))[0]
    return np.concatenate([first, basis[..., rank:]], axis=-1)


def skew_logarithm(turn: Array) -> Array:
    """Return principal logarithms of rotations, to 1e-6: of an angle near pi, any."""
    vectors, angles = rotation_angles(turn)
    return skew_of(vectors, angles)


def skew_of(vectors: Array, angles: Array) -> Array:
    """Return skew matrices with the given eigenvectors and rotation angles."""
    adjoint = np.conj(transpose(vectors))
    skew = ((vectors * (1j * angles)[..., None, :]) @ adjoint).real
    return np.asarray(0.5 * (skew - transpose(skew)))


def signed_polar(matrix: Array, sign: Array | None) -> Array:
    """Return the nearest orthogonal matrices, of determinants with the given signs if any."""
    u, _, vt = np.linalg.svd(matrix)
    if sign is not None:
        u = u.copy()
        u[..., -1] *= (sign * np.linalg.slogdet(u @ vt)[0])[..., None]
    return np.asarray(u @ vt)


def completed(columns: Array) -> Array:
    """Return rotations that begin with these columns, the rest as near to the identity as can be.

    Square ones are returned as they are.
    """
    size, rank = columns.shape[-2:]
    if size == rank:
        return columns
    rest = np.linalg.qr(columns, mode="complete")[0][..., rank:]
    nearest = signed_polar(transpose(rest[..., rank:, :]), None)
    turn = np.concatenate([columns, rest @ nearest], axis=-1)
    odd = np.linalg.slogdet(turn)[0] < 0
    if odd.any():
        sign = -np.linalg.slogdet(nearest[odd])[0]
        other = signed_polar(transpose(rest[odd][..., rank:, :]), sign)
        turn[odd, :, rank:] = rest[odd] @ other
    return turn


def facing(left_end: Array, right_end: Array, turn: Array) -> Facing:
    """Return the rotations of ``[I; 0]`` into ``E_1 P`` and ``F_1 P``, P refined from a first one.

    ``left_end`` and ``right_end`` are the last bases in coordinates of `common_bases`.
    """
    rank = turn.shape[-1]
    turns = [completed(end @ turn) for end in (left_end, right_end)]
    for rounds in range(_ROUNDS + 1):
        velocities = [skew_logarithm(x) for x in turns]
        share = 0.5 * np.sum([x[..., :rank, :rank] for x in velocities], axis=0)
        corners = [x[..., rank:, rank:] for x in velocities]
        largest = max(np.abs(x).max(initial=0.0) for x in (share, *corners))
        if rounds == _ROUNDS or largest < _SETTLED:
            break
        back = rotation(-share)
        turns = [
            np.concatenate([x[..., :rank] @ back, x[..., rank:] @ rotation(-corner)], axis=-1)
            for x, corner in zip(turns, corners, strict=True)
        ]
    return Facing.of_velocities(*velocities)
