"""What is known of geodesics of the metric completion, and the error of those not found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from dln_manifolds.errors import ConvergenceError
from dln_manifolds.geodesics.solution import summary
from dln_manifolds.geodesics.system import Status
from dln_manifolds.numerics.arguments import times_of
from dln_manifolds.numerics.arrays import Array, ArrayLike


class Curves(Protocol):
    """Geodesics of some members of a batch."""

    def evaluate(self, times: Array) -> Array:
        """Return points X at times ``(n_batch, n_times)``, ``(n_batch, n_times, n, n)``."""


@dataclass(repr=False, eq=False)
class CompletedSolution:
    r"""A batch of geodesics of the metric completion, with how well each was solved.

    Calling it, ``solution(t)``, returns points for times from 0 to 1. Geodesics through det = 0 are
    sought from both ends, so that there is no initial velocity; to keep one in a file, save its
    points.

    Attributes
    ----------
    length : ndarray, shape=[...]
        Length of the geodesic, in Frobenius norm of the layers; where none was found, that of the
        best path if it is between the bounds, or NaN.
    lower_bound, upper_bound : ndarray, shape=[...]
        What the distance is at least and at most, known without solving: the lower bound of
        ``metric.bounds``, which holds across det = 0; and a path that sends the last root singular
        value of one end straight through zero, ``2 sqrt(N) l_n``, and goes on as the upper bound of
        ``metric.bounds`` does.
    residual : ndarray, shape=[...]
        By how much the flow from one end misses the other: in the root chart, relative to the size
        of that end, both ends scaled to the same size; of pairs that ``metric.log`` joins, as
        there. Infinite where the flow did not get so far.
    crossing_time : ndarray, shape=[...]
        Time t* of the first singular matrix on [0, 1], infinite if there is none.
    crossing_rank : ndarray of int, shape=[...]
        Rank of X(t*), n if there is no crossing.
    n_evaluations : ndarray of int, shape=[...]
        Evaluations of the metric at a point (singular value decompositions).
    status : ndarray of int, shape=[...]
        0 solved; 2 not converged.
    message : str
        One sentence on the whole batch.
    """

    length: Array
    lower_bound: Array
    upper_bound: Array
    residual: Array
    crossing_time: Array
    crossing_rank: Array
    n_evaluations: Array
    status: Array
    message: str
    # Geodesics with the members that they belong to, by their place in the flat batch.
    curves: list[tuple[Array, Curves]] = field(repr=False)
    point_shape: tuple[int, int] = field(repr=False)

    def __repr__(self) -> str:
        """Return a line: how many were solved, lengths and residuals."""
        crossed = np.count_nonzero(np.isfinite(self.crossing_time))
        return summary(self, f"points {self.point_shape}, {crossed} across det = 0")

    @property
    def success(self) -> Array:
        """Whether each member was solved, shape ``(...)``."""
        return np.asarray(self.status == Status.CONVERGED)

    def reshape(self, batch: tuple[int, ...]) -> CompletedSolution:
        """Return a flat solution with its members arranged in the given batch shape."""
        shaped = replace(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(shaped, name, value.reshape(batch))
        return shaped

    def evaluate(self, times: Array) -> Array:
        """Return points at times ``(n_times,)``, NaN of members that were not solved."""
        if not ((times >= 0) & (times <= 1)).all():
            raise ValueError(f"Times must lie between 0 and 1, not {times}: geodesics end there.")
        points = np.full((self.length.size, times.size, *self.point_shape), np.nan)
        for members, curves in self.curves:
            points[members] = curves.evaluate(np.tile(times, (members.size, 1)))
        points[~self.success.ravel()] = np.nan
        return points.reshape(*self.length.shape, times.size, *self.point_shape)

    def __call__(self, t: ArrayLike) -> Array:
        """Return points of the geodesics.

        Parameters
        ----------
        t : float or array-like, shape=[n_times]
            Times between 0, the base point, and 1, the end point.

        Returns
        -------
        points : ndarray, shape=[..., n, n] for a scalar, [..., n_times, n, n] otherwise
            ``X(t)``.
        """
        points = self.evaluate(np.atleast_1d(times_of(t, least=0)))
        return points if np.ndim(t) else np.take(points, 0, axis=self.length.ndim)

    def failure(self) -> ConvergenceError:
        """Return the error of a batch some of whose members were not solved."""
        residual = np.where(self.success, -1.0, self.residual)
        where = np.unravel_index(np.argmax(residual), residual.shape)
        member = f" (batch member {[int(i) for i in where]})" if where else ""
        return ConvergenceError(
            f"{self.message} The worst{member} has a residual of {residual[where]:.2e}. Between "
            f"its lower_bound and upper_bound, which solve_completed returns, lies the distance; "
            f"depths near 1 and above 8 are hard, and so are several singular values that are tiny "
            f"beside the largest: take another depth, set such values to zero, or make the metric "
            f'with on_failure="nan".',
            solution=self,
        )
