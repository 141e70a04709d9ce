r"""How column and row spaces turn into others by principal angles, as they do at great depth.

Per layer, blocks beside the core weigh 1 and changes of the core ``1 / N``: at great depth a
geodesic of rank r moves its column and its row space along geodesics of the Grassmannians, and its
core as square matrices move, between cores that were carried along. If these differ in the sign of
the determinant, one principal direction turns by its angle less ``pi``, the other way. (Ours.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.facing import Facing
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose

# Sine of the widest angle below which any direction will do to turn back.
_EQUAL = 1e-12
# How much longer, as a ratio of squares, the next turns may be to be tried too.
_NEXT = 1.2


class _Space(NamedTuple):
    """Principal ``angles``, the widest first, from ``[I; 0]`` to the space of other columns.

    The directions ``start`` turn towards ``ways``, those of the complement, to the columns times
    ``end``; ``odd`` tells whether that changes the orientation, and ``cost`` what it adds to the
    square of the way to turn the widest angle the other way.
    """

    start: Array
    ways: Array
    angles: Array
    odd: Array
    cost: Array

    @classmethod
    def of(cls, columns: Array) -> _Space:
        """Decompose orthonormal columns, ``(n_batch, k, r)``."""
        r = columns.shape[-1]
        u, cosines, vt = np.linalg.svd(columns[:, :r])
        start, cosines, end = u[..., ::-1], cosines[..., ::-1], transpose(vt)[..., ::-1]
        beside = columns[:, r:] @ end
        sines = np.linalg.norm(beside, axis=-2)
        equal = sines < _EQUAL
        ways, angles = beside / np.where(equal, 1.0, sines)[:, None], np.arctan2(sines, cosines)
        if columns.shape[1] == r:
            cost = np.full(len(columns), np.inf)
        else:
            ways[equal[:, 0], 0, 0] = 1.0
            cost = np.pi * (np.pi - 2 * angles[:, 0])
        return cls(start, ways, angles, np.linalg.slogdet(u @ vt)[0] < 0, cost)

    def velocities(self, rows: Array, back: Array) -> Array:
        """Return the angular velocities of some members, the widest angle taken ``back`` or not."""
        angles = self.angles[rows]
        angles[back, 0] -= np.pi
        beside = (self.ways[rows] * angles[:, None]) @ transpose(self.start[rows])
        p, r = beside.shape[1:]
        turn = np.zeros((rows.size, r + p, r + p))
        turn[:, r:, :r], turn[:, :r, r:] = beside, -transpose(beside)
        return turn


def principal_facings(
    left: Array, right: Array, *, thorough: bool = False
) -> list[tuple[Array, Facing]]:
    """Return the shortest turns of ``[I; 0]`` to both spaces, and the next where they may win.

    Each with the indices of its members. The square of the way in the Grassmannians tells, what
    the core adds vanishes with depth; a ``thorough`` search takes the next wherever there are any.
    """
    spaces = _Space.of(left), _Space.of(right)
    costs, odd = np.stack([x.cost for x in spaces]), spaces[0].odd ^ spaces[1].odd
    back = odd & (costs.argmin(axis=0) == np.arange(2)[:, None])
    way = np.sum([(x.angles**2).sum(axis=-1) for x in spaces], axis=0)
    first, second = (way + np.where(x, costs, 0.0).sum(axis=0) for x in (back, ~back))
    near = np.flatnonzero(second < (np.inf if thorough else _NEXT * first))
    found = []
    for rows, turned in (np.arange(len(way)), back), (near, ~back):
        velocities = (x.velocities(rows, y[rows]) for x, y in zip(spaces, turned, strict=True))
        found.append((rows, Facing.of_velocities(*velocities)))
    return found
