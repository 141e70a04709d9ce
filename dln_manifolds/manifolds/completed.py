"""Distances and geodesics of the metric completion, across det = 0: methods of the metric."""

import abc
from collections.abc import Callable

import numpy as np

from dln_manifolds.checks import At
from dln_manifolds.completion import CompletedSolution, solve_completed
from dln_manifolds.completion.ends import completed_ends, require_square
from dln_manifolds.completion.through import flow_through
from dln_manifolds.geodesics import GeodesicSolution, Points, Status
from dln_manifolds.manifolds.metric import GeodesicMetric
from dln_manifolds.numerics.arguments import times_of
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType


class CompletedDistances(GeodesicMetric, abc.ABC):
    """What a metric of square matrices says across det = 0."""

    def exp(
        self, tangent_vec: ArrayLike, base_point: ArrayLike, through_singular: bool = False
    ) -> Array:
        """Riemannian exponential: the point at t = 1 of the geodesic with a given velocity.

        Hamilton's equations (Chen, arXiv 2510.07324, Theorem 2.1) in the root chart. The order of
        arguments is geomstats'; pymanopt's ``space.exp(point, tangent_vector)`` has the other one.

        Geodesics of square matrices end where they meet a singular one. With ``through_singular``
        they go on through det = 0 as geodesics of the metric completion, see `completed_dist`, to
        points with the other sign of det (ours). Upstairs such a path has a corner: at even N the
        smooth solution of the equation of layers comes back with the sign of det that it had.

        Raises
        ------
        IncompleteGeodesicError, ConvergenceError
            If a geodesic meets a singular matrix before t = 1, or could not be followed to there,
            or ends in what no array of doubles holds: entries overflow, or the least singular value
            is lost beside the largest, so that ``belongs`` would not tell the rank. With
            ``through_singular``, one that meets a matrix of rank n - 2 or lower, as rays through
            zero do, is not followed.
        """
        if through_singular:
            require_square(self.stratum)
        at = At(self.stratum, base_point, tangent_vec=tangent_vec).tangent()
        solution = self._follow(at, record=False)
        if through_singular:
            self._go_on(at, solution)
        return at.cast(self.policy.resolve(solution, solution.end_point))

    def _go_on(self, at: At, solution: GeodesicSolution) -> None:
        """Replace the ends of geodesics that meet a singular matrix, in place."""
        met = np.flatnonzero(solution.status == Status.CROSSED)
        if met.size:
            value, frame = at.flat_point()
            ends, reached = flow_through(
                Points(value[met], frame.take(met)),
                at.flat(at.vectors[0])[met],
                solution.crossing_time.ravel()[met],
                depth=self.stratum.depth,
                tolerance=self.tolerance,
            )
            solution.end_point.reshape(value.shape)[met[reached]] = ends[reached]
            solution.status.reshape(-1)[met[reached]] = Status.CONVERGED

    def _complete(
        self, point: ArrayLike, base_point: ArrayLike, record: bool
    ) -> tuple[CompletedSolution, DType]:
        """Solve the boundary-value problem in the completion; also return the dtype of results."""
        first, last, batch, dtype = completed_ends(self.stratum, point, base_point)
        depth, tolerance = self.stratum.depth, self.tolerance
        solution = solve_completed(
            first, last, depth=depth, dtype=dtype, tolerance=tolerance, record=record
        )
        return solution.reshape(batch), dtype

    def solve_completed(self, point: ArrayLike, base_point: ArrayLike) -> CompletedSolution:
        """Solve as `completed_dist` does and return everything that is known of the geodesic.

        ``solution(t)`` gives points, shape ``(..., n, n)``, for times from 0 to 1. A solver that
        fails does not raise here: see ``solution.status`` and ``solution.residual``.
        """
        return self._complete(point, base_point, record=True)[0]

    def completed_dist(self, point: ArrayLike, base_point: ArrayLike) -> Array:
        r"""Distance in the metric completion of invertible matrices, shape ``(...)``.

        The completion holds singular matrices too, and joins both components of GL(n): the shortest
        path between determinants of opposite signs leads through rank n - 1, and costs about
        ``2 sqrt(N) l_n`` more, ``l_n = s_n^(1/N)`` the lesser of both last roots (ours). Points are
        square matrices of any rank but zero; singular values up to ``4 n eps`` times the largest
        are taken as zero, and if both are singular, both must be of rank n - 1. Where determinants
        have one sign and N >= 2, it is `dist`: no path through det = 0 was ever shorter.

        Every result has been verified by the geodesic flow in the root chart, which goes on through
        det = 0, to a relative 1e-11 there, or to 100 times a ``tolerance`` looser than 1e-13. Of
        opposite Gaussian pairs about one in a thousand is not solved for N = 1.5 to 8, and one in
        ten at n = 3, N = 20. That the geodesic is the shortest is as certain as for `log`: it is
        the shortest that was found from four or six starts.

        Upstairs these paths have a corner: at even N the smooth solution of the equation of layers
        comes back with the sign of det that it had.

        Raises
        ------
        InvalidPointError
            For other shapes and ranks of the manifold, zero matrices, singular matrices at infinite
            depth, and two singular matrices that are not both of rank n - 1.
        DisconnectedPointsError
            At infinite depth, where the completion is the space itself, for opposite signs.
        ConvergenceError
            If a residual could not be brought below its bound. `solve_completed` has bounds.
        """
        solution, dtype = self._complete(point, base_point, record=False)
        return self._resolved(solution, solution.length).astype(dtype, copy=False)

    def completed_geodesic(
        self, initial_point: ArrayLike, end_point: ArrayLike
    ) -> Callable[[ArrayLike], Array]:
        """Geodesic of the metric completion between two points: solved once, raises as its length.

        Returns
        -------
        path : callable
            ``path(t)`` with t of shape ``(n_t,)`` or a scalar, from 0 to 1, returns points of shape
            ``(..., n_t, n, n)``; the axis of time is there for a scalar too. At t* of
            `solve_completed` it passes a matrix of rank n - 1.
        """
        solution, dtype = self._complete(end_point, initial_point, record=True)
        self._resolved(solution, solution.length)

        def path(t: ArrayLike) -> Array:
            times = np.atleast_1d(times_of(t, least=0))
            return solution.evaluate(times).astype(dtype, copy=False)

        return path

    def _resolved(self, solution: CompletedSolution, value: Array) -> Array:
        """Return values of the members of a solution, or do what the policy says."""
        failed = ~solution.success
        if not failed.any():
            return value
        if self.policy.raises:
            raise solution.failure()
        self.policy.warn(f"{solution.message} The others are NaN.", stacklevel=4)
        return np.where(failed, np.nan, value)
