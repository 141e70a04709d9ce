"""A metric whose geodesics are solved: exp, log, distance and curves on top of the solvers."""

import abc
from collections.abc import Callable

import numpy as np

from dln_manifolds.checks import At, connect, spread
from dln_manifolds.geodesics import (
    FailurePolicy,
    GeodesicSolution,
    Points,
    Status,
    System,
    parallel_transport,
    solve_exp,
    solve_log,
)
from dln_manifolds.geometry.bounds import Bounds
from dln_manifolds.manifolds.described import DescribedMetric
from dln_manifolds.manifolds.inner_product import InnerProduct
from dln_manifolds.manifolds.jacobi import JacobiMetric
from dln_manifolds.manifolds.space import NetworkSpace
from dln_manifolds.numerics.arguments import one_of, real, times_of
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray
from dln_manifolds.statistics.pairwise import PairwiseDistances

_SEARCHES = ("default", "thorough")


class GeodesicMetric(PairwiseDistances, InnerProduct, DescribedMetric, JacobiMetric, abc.ABC):
    """Metric with numerically solved geodesics, in geomstats' conventions.

    Every method raises `InvalidPointError` for arguments of a wrong shape or dtype, that are not
    finite, or are no points.

    Parameters
    ----------
    space : DLNObservableManifold or BalancedManifold
        The manifold.
    tolerance : float
        Relative local error of the integrator of geodesics; between 1e-14 and 1e-3.
    on_failure : {"raise", "warn", "nan"}
        What ``exp``, ``log``, ``dist``, ``geodesic`` and ``parallel_transport`` do about members of
        a batch that cannot be solved: raise an error for the batch, or return NaN for these members
        with or without a `GeodesicWarning`. Pairs in different components are such members too.
        Invalid input raises always, and what asks for one answer to many points, as means do,
        raises `DisconnectedPointsError` for points of several components.
    """

    def __init__(
        self, space: NetworkSpace, tolerance: float = 1e-13, on_failure: str = "raise"
    ) -> None:
        if not isinstance(space, NetworkSpace):
            raise TypeError(f"space must be a manifold of this package, not {space!r}.")
        tolerance = real("tolerance", tolerance)
        if not 1e-14 <= tolerance <= 1e-3:
            raise ValueError(f"tolerance must lie between 1e-14 and 1e-3, not {tolerance}.")
        self.on_failure = on_failure
        super().__init__(space=space)
        self.stratum = space.stratum
        self.system = self._make_system()
        self.tolerance = tolerance

    @abc.abstractmethod
    def _make_system(self) -> System:
        """Return what the solvers of geodesics need to know of this geometry."""

    @property
    def space(self) -> NetworkSpace:
        """The manifold that has this metric."""
        space: NetworkSpace = self._space
        return space

    @property
    def on_failure(self) -> str:
        """What happens to members of a batch that cannot be solved: "raise", "warn" or "nan"."""
        return self.policy.mode

    @on_failure.setter
    def on_failure(self, mode: str) -> None:
        self.policy = FailurePolicy(mode)

    def _follow(self, at: At, record: bool) -> GeodesicSolution:
        """Solve the initial-value problem from a point with its first vector as velocity."""
        start, velocity = Points(*at.flat_point()), at.flat(at.vectors[0])
        tolerance = self.tolerance
        solution = solve_exp(self.system, start, velocity, tolerance=tolerance, record=record)
        return solution.representable(self.stratum.contains).reshape(at.batch)

    def _join(
        self,
        start: At,
        end: At,
        record: bool,
        search: str = "default",
        warm: GeodesicSolution | None = None,
    ) -> GeodesicSolution:
        """Solve the boundary-value problem between two points."""
        if search not in _SEARCHES:
            raise ValueError(f"search must be one of {_SEARCHES}, not {search!r}.")
        apart = connect(start, end, tolerate=not self.policy.raises)
        ends = Points(*start.flat_point()), Points(*end.flat_point())
        tolerance, thorough = self.tolerance, search == "thorough"
        solution = solve_log(
            self.system,
            *ends,
            tolerance=tolerance,
            record=record,
            thorough=thorough,
            warm=None if warm is None else self._warm(warm, start.batch),
        )
        return solution.without(apart).reshape(start.batch)

    def _warm(self, solution: object, batch: tuple[int, ...]) -> GeodesicSolution:
        """Check a solution from which others are to start."""
        if not isinstance(solution, GeodesicSolution):
            raise TypeError(
                f"warm_start must be a solution, as solve_log returns, not {solution!r}."
            )
        if solution.system != self.system or not solution.between:
            raise ValueError(
                f"warm_start must come from solve_log of this metric, not {solution!r}."
            )
        if solution.length.shape != batch:
            raise ValueError(
                f"warm_start has the batch shape {solution.length.shape}, and the pairs have "
                f"{batch}: one earlier geodesic for each is needed."
            )
        return solution

    def _of_log(self, name: str, point: ArrayLike, base_point: ArrayLike, search: str) -> Array:
        """Return what a solution of `solve_log` would have, by its name."""
        start, end = At(self.stratum, base_point), At(self.stratum, point, "point")
        if search == _SEARCHES[0] and start.frame.positive and end.frame.positive:
            # In one component, and nothing that failed or is told.
            start.meet(end, point=end, base_point=start)
            ends = Points(start.point, start.frame), Points(end.point, end.frame)
            known = self.system.verified(*ends)
            if known is not None and (known.residual <= self.system.goal(self.tolerance)).all():
                return start.cast(getattr(known, name))
        solution = self._join(start, end, record=False, search=search)
        return start.cast(self.policy.resolve(solution, getattr(solution, name)))

    def solve_exp(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> GeodesicSolution:
        """Solve as `exp` does and return everything that is known of the geodesic.

        ``solution(t)`` gives points, shape ``(..., *point_shape)``. Geodesics that end early do not
        raise here: see ``solution.status`` and ``solution.crossing_time``.
        """
        at = At(self.stratum, base_point, tangent_vec=tangent_vec).tangent()
        return self._follow(at, record=True)

    def solve_log(
        self,
        point: ArrayLike,
        base_point: ArrayLike,
        conjugate_points: bool = False,
        *,
        search: str = "default",
        warm_start: GeodesicSolution | None = None,
    ) -> GeodesicSolution:
        """Solve as `log` does and return everything that is known of the geodesic.

        ``solution(t)`` gives points, shape ``(..., *point_shape)``. A solver that fails does not
        raise here: see ``solution.status`` and ``solution.residual``. `DisconnectedPointsError` for
        points in different components is raised, for ``on_failure="raise"``. With
        ``conjugate_points`` first conjugate times are sought along the geodesics, as
        `conjugate_time` does: see ``solution.conjugate_time``. For ``search`` see `log`.

        A ``warm_start`` is the solution of earlier pairs, one for each: paths of square matrices of
        full rank bend at first as those did, if ends are not farther from the earlier ones than
        1e-4 times from each other. Results are verified, and other ways tried, as without; where a
        start fails, the search begins anew.
        """
        start, end = At(self.stratum, base_point), At(self.stratum, point, "point")
        solution = self._join(start, end, record=True, search=search, warm=warm_start)
        return self._examined(start, solution) if conjugate_points else solution

    def exp(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Riemannian exponential: the point at t = 1 of the geodesic with a given velocity.

        Hamilton's equations (Chen, arXiv 2510.07324, Theorem 2.1) in the root chart, or
        ``W'' = II(W', W')`` for layers. The order of arguments is geomstats'; pymanopt's
        ``space.exp(point, tangent_vector)`` has the other one.

        Raises
        ------
        IncompleteGeodesicError, ConvergenceError
            If a geodesic meets a singular matrix before t = 1, or could not be followed to there,
            or ends in what no array of doubles holds: entries overflow, or the least singular value
            is lost beside the largest, so that ``belongs`` would not tell the rank.
        """
        at = At(self.stratum, base_point, tangent_vec=tangent_vec).tangent()
        solution = self._follow(at, record=False)
        return at.cast(self.policy.resolve(solution, solution.end_point))

    def log(self, point: ArrayLike, base_point: ArrayLike, *, search: str = "default") -> Array:
        """Riemannian logarithm: the initial velocity of the geodesic from X to another point.

        The order of arguments is geomstats'; pymanopt's ``space.log(point_a, point_b)`` takes the
        base point first.

        Geodesics between two points are not unique. The energy of paths is minimized from the polar
        path, whose rotations are by less than pi, and, where one is by nearly pi (n > 2), from the
        path that turns it the other way too; between nearly singular matrices, from rough paths of
        up to twenty starts; the shortest geodesic is returned. For ``search="thorough"`` many
        starts are solved, at ten times the cost and more (not upstairs).
        Beyond the cut locus it is not the geodesic that led there: ``log(exp(v)) = v`` holds for
        ``|v|_g`` up to ``0.3 |W|`` at N <= 8, while at N = 30 I and -I are ``0.1 |W|`` apart.

        Closed forms are taken where they are exact (same singular vectors; N = 1; N = 2 with equal
        polar factors: Chen, arXiv 2510.07324, (2.9) and Theorem 3.5). Every result has been
        verified by the initial-value flow, with both ends scaled to the same size, or the last one
        from the velocity alone: the end point is met to a relative 1e-11, or to 100 times a
        ``tolerance`` looser than 1e-13 (N <= 8; ``(N/8)^2`` times that if deeper). To much
        smaller points a velocity of doubles leads to 1e-12 times the ratio of the layers' sizes.

        Raises
        ------
        DisconnectedPointsError, IncompleteGeodesicError, ConvergenceError
            If the signs of determinants differ, the geodesic that was found meets a singular
            matrix, or the residual could not be brought below its bound.
        """
        return self._of_log("initial_velocity", point, base_point, search)

    def dist(self, point_a: ArrayLike, point_b: ArrayLike, *, search: str = "default") -> Array:
        """Geodesic distance, shape ``(...)``: the length of the log, which says what it raises.

        In Frobenius norm of the layers.
        """
        return self._of_log("length", point_b, point_a, search)

    def bounds(self, point: ArrayLike, base_point: ArrayLike) -> Bounds:
        r"""Bounds of geodesic distances for a few decompositions each: no geodesic is solved.

        Of end-to-end matrices, with the root singular values l, ``L = diag(l)`` and
        ``A = U_1^T U_0``, ``B = V_1^T V_0`` of both points, ``|.|_*`` the nuclear norm,

        .. math::
            d^2 \ge N |l_0 - l_1|^2 + 2 c_1 (2 l_0 \cdot l_1 - |L_1 (A + B) L_0|_*)
                    + 2 c_2 (2 l_0 \cdot l_1 - |L_1 A L_0|_* - |L_1 B L_0|_*),

        ``c_1 = N/2, c_2 = 0`` for N <= 2, else ``c_1 = 2/N``, ``c_2 = min(1 - 2/N, (N^2-4)/(6N))``
        (ours; proved in :mod:`dln_manifolds.geometry.bounds`). From above it is the length of a
        path whose singular frames turn steadily. Medians of Gaussian pairs are 0.70 to 0.99 and
        1.00 to 1.08 times the distance (n = 2, 3, 5, N = 1 to 30).

        Of layers: the larger of their chord and of the bound of their end-to-end matrices, and the
        length of the path along which polar factors turn steadily.

        Returns
        -------
        bounds : Bounds
            Named tuple of ``lower`` and ``upper``, shape ``(...)``, rounded outward in float64;
            ``upper`` is infinite between components.
        """
        start, end = At(self.stratum, base_point), At(self.stratum, point, "point")
        start.meet(end, point=end, base_point=start)
        found = self.system.bounds(Points(*start.flat_point()), Points(*end.flat_point()))
        return Bounds(*(start.cast(bound.reshape(start.batch)) for bound in found))

    def squared_dist(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Square of the geodesic distance, shape ``(...)``; raises as `log`."""
        return np.square(self.dist(point_a, point_b))

    def geodesic(
        self,
        initial_point: ArrayLike,
        end_point: OptionalArray = None,
        initial_tangent_vec: OptionalArray = None,
        *,
        search: str = "default",
    ) -> Callable[[ArrayLike], Array]:
        """Geodesic from a point, with exactly one of end point and initial velocity given.

        It is solved once, and raises as `log` or `exp`; its points are read off at any times. For
        ``search``, where an end point is given, see `log`.

        Returns
        -------
        path : callable
            ``path(t)`` with t of shape ``(n_t,)`` or a scalar returns points of shape
            ``(..., n_t, *point_shape)``; the axis of time is there for a scalar too. It raises
            `IncompleteGeodesicError` for times that a geodesic does not reach.
        """
        one_of(end_point=end_point, initial_tangent_vec=initial_tangent_vec)
        if initial_tangent_vec is not None:
            at = At(self.stratum, initial_point, tangent_vec=initial_tangent_vec).tangent()
            solution = self._follow(at, record=True)
            usable = solution.status != Status.CROSSED
        else:
            at = At(self.stratum, initial_point)
            end = At(self.stratum, end_point, "point")
            solution = self._join(at, end, record=True, search=search)
            usable = solution.success
            if self.policy.raises:
                self.policy.resolve(solution, solution.length)

        def path(t: ArrayLike) -> Array:
            times = np.atleast_1d(times_of(t, least=0))
            points, crossing = solution.evaluate(times)
            if end_point is not None:
                points[~usable] = np.nan
            met = np.isfinite(crossing)
            if met.any() and self.policy.raises:
                raise solution.out_of_reach(times, crossing)
            if met.any() or not usable.all():
                self.policy.warn(f"{solution.message} Points that do not exist are NaN.", 2)
            return at.cast(points)

        return path

    def parallel_transport(
        self,
        tangent_vec: ArrayLike,
        base_point: ArrayLike,
        direction: OptionalArray = None,
        end_point: OptionalArray = None,
    ) -> Array:
        """Parallel transport of ``tangent_vec`` along a geodesic from the base point to its end.

        Of which exactly one of initial velocity (``direction``) and end point is given. Integrated
        with it; lengths and angles are kept. Raises as `exp` or `log`.
        """
        one_of(direction=direction, end_point=end_point)
        if direction is not None:
            at = At(self.stratum, base_point, tangent_vec=tangent_vec, direction=direction)
            vector, along = at.tangent().vectors
            reached = np.ones((), dtype=bool)
        else:
            at = At(self.stratum, base_point, tangent_vec=tangent_vec).tangent()
            vector, start = at.vectors[0], At(self.stratum, base_point)
            found = self._join(start, At(self.stratum, end_point, "point"), record=False)
            at.meet(start, tangent_vec=at, end_point=start)
            reached = np.isfinite(self.policy.resolve(found, found.length))
            reached = spread(reached, len(self.stratum.point_shape))
            # Members without a geodesic stay where they are until the end.
            along = np.where(reached, found.initial_velocity, 0.0)
        where, vectors = Points(*at.flat_point()), at.flat(vector)[:, None]
        moved, solution = parallel_transport(
            self.system, where, at.flat(along), vectors, tolerance=self.tolerance
        )
        moved = moved[:, 0].reshape(*at.batch, *self.stratum.point_shape)
        solution = solution.representable(self.stratum.contains).reshape(at.batch)
        moved = self.policy.resolve(solution, moved)
        return at.cast(np.where(reached, moved, np.nan))
