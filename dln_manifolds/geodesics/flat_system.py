"""Square matrices at depth 1 as a system: all of it is flat, geodesics are straight lines."""

from dataclasses import dataclass

import numpy as np

from dln_manifolds.geodesics.submanifold import Submanifold
from dln_manifolds.geodesics.system import Flow, Points, Unit
from dln_manifolds.geometry.bounds import Bounds, lower_bound, upper_bound
from dln_manifolds.geometry.closed_flows import singular_times
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import weigh

_GOAL = 1e-11


class Anywhere:
    """Points of which nothing is asked."""

    def take(self, members: Array) -> "Anywhere":
        """Return itself."""
        return self


@dataclass(frozen=True)
class FlatSystem(Submanifold[Anywhere]):
    """Straight lines of n x n matrices, states (X, V); they end where a matrix is singular."""

    straight = True
    cautious = True

    def goal(self, tolerance: float) -> float:
        """Return 1e-11, or 100 times the tolerance."""
        return max(_GOAL, 100 * tolerance)

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(V, 0)``, of variations and vectors too."""
        rate = np.zeros_like(state)
        rate[:, 0] = state[:, 1]
        smallest = np.linalg.svd(state[:, 0, 0], compute_uv=False)[:, -1]
        return rate, smallest

    def lines(self, state: Array, span: Array) -> tuple[Array, Array, Array]:
        """Return all."""
        ends, (point, velocity) = state.copy(), (state[:, k, 0] for k in range(2))
        ends[:, 0, 0] += weigh(span, velocity)
        frame = Frame.of_point(point, self.depth)
        return np.arange(len(state)), ends, singular_times(frame, velocity, span)

    def core(self, position: Array) -> Array:
        """Return the matrices."""
        return position

    def project(self, state: Array) -> Array:
        """Return the state."""
        return state

    @property
    def linearized(self) -> Flow:
        """Variations move on straight lines too."""
        return self

    @property
    def parallel(self) -> Flow:
        """Vectors stay as they are."""
        return _Parallel()

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return both bounds of :mod:`dln_manifolds.geometry.bounds`."""
        frames = first.frame, last.frame
        return Bounds(lower_bound(*frames), upper_bound(*frames))

    def frame(self, points: Array) -> Anywhere:
        """Return nothing of them."""
        return Anywhere()

    def tangent_part(self, frame: Anywhere, vector: Array) -> Array:
        """Return the vectors."""
        return vector

    def tangent_basis(self, frame: Anywhere) -> Array:
        """Not asked for: see `covector_basis`."""
        raise NotImplementedError

    def covector_basis(self, unit: Unit) -> Array:
        """Return the matrix units."""
        n_batch, n = unit.position.shape[:2]
        return np.broadcast_to(np.eye(n * n).reshape(n * n, n, n), (n_batch, n * n, n, n))

    def shape(self, frame: Anywhere, vector: Array) -> Array:
        """Return zero: nothing is normal."""
        return np.zeros_like(vector)

    def bent(self, tangent_vec: Array, shape: Array) -> Array:
        """Return zero."""
        return np.zeros_like(tangent_vec)

    def nearest(self, points: Array, like: Array | None = None) -> Array:
        """Return the points."""
        return points

    def first_path(self, start: Array, end: Array, times: Array) -> Array:
        """Return the straight line."""
        t = times[:, None, None]
        return (1 - t) * start[:, None] + t * end[:, None]


class _Parallel(FlatSystem):
    """Straight lines with vectors in both rows, which do not move."""

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the velocity of the point, and zero."""
        rate, smallest = super().rates(state)
        rate[:, 0, 1:] = 0.0
        return rate, smallest
