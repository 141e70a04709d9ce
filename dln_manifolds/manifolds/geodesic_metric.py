"""A metric whose geodesics are solved: exp, log, distance and curves on top of two solvers."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable
from typing import Any

import geomstats.backend as gs
import numpy as np
from geomstats.geometry.riemannian_metric import RiemannianMetric

from dln_manifolds.checks import as_matrices, cast
from dln_manifolds.errors import GeodesicWarning
from dln_manifolds.geodesics import GeodesicSolution, Status
from dln_manifolds.geodesics.solution import beyond, failure
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.statistics.pairwise import PairwiseDistances

_ON_FAILURE = ("raise", "warn", "nan")


class GeodesicMetric(PairwiseDistances, RiemannianMetric, abc.ABC):
    """Metric with numerically solved geodesics, in geomstats' conventions.

    Parameters
    ----------
    space : Manifold
        The manifold, with ``shape`` and ``depth``.
    tolerance : float
        Relative local error of the integrator of geodesics; between 1e-14 and 1e-3.
    on_failure : {"raise", "warn", "nan"}
        What to do about members of a batch that cannot be solved: raise an error for the batch, or
        return NaN for these members, with or without a `GeodesicWarning`. That includes pairs in
        different components, which no path joins: their distance is NaN too.
    """

    def __init__(self, space: Any, tolerance: float = 1e-13, on_failure: str = "raise") -> None:
        if not isinstance(tolerance, (int, float, np.floating)):
            raise TypeError(f"tolerance must be a real number, not {tolerance!r}.")
        if not 1e-14 <= tolerance <= 1e-3:
            raise ValueError(f"tolerance must lie between 1e-14 and 1e-3, not {tolerance}.")
        if on_failure not in _ON_FAILURE:
            raise ValueError(f"on_failure must be one of {_ON_FAILURE}, not {on_failure!r}.")
        super().__init__(space=space)
        self.tolerance = float(tolerance)
        self.on_failure = on_failure

    @abc.abstractmethod
    def _solve_exp(
        self, tangent_vec: Any, base_point: Any, record: bool
    ) -> tuple[GeodesicSolution, np.dtype[Any]]:
        """Solve the initial-value problem; also return the dtype of results."""

    def solve_exp(self, tangent_vec: Any, base_point: Any) -> GeodesicSolution:
        """Solve the initial-value problem and return everything that is known of the geodesic.

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., n, n]
            Initial velocity.
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        solution : GeodesicSolution
            Callable: ``solution(t)`` gives points. It does not raise for geodesics that end early:
            see its ``status`` and ``crossing_time``.
        """
        return self._solve_exp(tangent_vec, base_point, record=True)[0]

    def solve_log(self, point: Any, base_point: Any) -> GeodesicSolution:
        """Solve the boundary-value problem and return everything that is known of the geodesic.

        Parameters
        ----------
        point, base_point : array-like, shape=[..., n, n]
            End point and initial point, in the same component.

        Returns
        -------
        solution : GeodesicSolution
            Callable: ``solution(t)`` gives points. It does not raise where the solver fails: see
            its ``status`` and ``residual``.

        Raises
        ------
        DisconnectedPointsError
            If the signs of the determinants of a pair differ.
        """
        return self._solve_log(point, base_point, record=True)[0]

    def _resolve(self, solution: GeodesicSolution, value: Array) -> Array:
        """Return a result of a solver, or do what ``on_failure`` says where it failed."""
        failed = ~solution.success
        if not failed.any():
            return value
        if self.on_failure == "raise":
            raise failure(solution)
        if self.on_failure == "warn":
            warnings.warn(f"{solution.message} The others are NaN.", GeodesicWarning, stacklevel=4)
        missing = failed.reshape(failed.shape + (1,) * (value.ndim - failed.ndim))
        return np.where(missing, np.nan, value)

    def exp(self, tangent_vec: Any, base_point: Any) -> Array:
        """Riemannian exponential: the point at t = 1 of the geodesic with initial velocity Z.

        The order of arguments is geomstats'; pymanopt's ``space.exp(point, tangent_vector)`` has
        the other one.

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., n, n]
            Tangent vector Z at the base point.
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        point : array-like, shape=[..., n, n]
            End point.

        Raises
        ------
        InvalidPointError
            If an argument is not valid.
        IncompleteGeodesicError
            If a geodesic meets a singular matrix before t = 1.
        """
        solution, dtype = self._solve_exp(tangent_vec, base_point, record=False)
        return cast(self._resolve(solution, solution.end_point), dtype)

    def log(self, point: Any, base_point: Any) -> Array:
        """Riemannian logarithm: the initial velocity of the geodesic from X to another point.

        The order of arguments is geomstats'; pymanopt's ``space.log(point_a, point_b)`` takes the
        base point first.

        Geodesics between two points are not unique. The energy of paths is minimized from the polar
        path, whose rotations are by less than pi, and, where one is by nearly pi (n > 2, N >= 2),
        from the path that turns it the other way too; the shorter geodesic is returned. Random
        other starts found a shorter one for very few Gaussian pairs (one of sixty). Beyond the cut
        locus it is not the geodesic that led there: ``log(exp(v)) = v`` holds for ``|v|_g`` up to
        ``0.3 |W|`` at N <= 8, while at N = 30 I and -I are ``0.1 |W|`` apart. Swapping the ends
        gives the same length.

        Closed forms are taken where they are exact (same singular vectors; N = 1; N = 2 with equal
        polar factors). Every result has been verified by the initial-value flow, with both ends
        scaled to the same size: the end point is met to a relative 1e-11, or to 100 times a
        ``tolerance`` looser than 1e-13 (N <= 8; ``(N/8)^2`` times that for deeper networks). A
        velocity in double precision leads to a much smaller point less well: to a relative 1e-12
        times the ratio of the layers' sizes.

        Parameters
        ----------
        point : array-like, shape=[..., n, n]
            End point.
        base_point : array-like, shape=[..., n, n]
            Initial point X.

        Returns
        -------
        tangent_vec : array-like, shape=[..., n, n]
            Tangent vector at the base point.

        Raises
        ------
        InvalidPointError
            If an argument is not valid.
        DisconnectedPointsError
            If the signs of the determinants differ.
        IncompleteGeodesicError
            If the geodesic that was found meets a singular matrix.
        ConvergenceError
            If the residual could not be brought below its bound.
        """
        solution, dtype = self._solve_log(point, base_point, record=False)
        return cast(self._resolve(solution, solution.initial_velocity), dtype)

    def dist(self, point_a: Any, point_b: Any) -> Array:
        """Geodesic distance, in Frobenius norm of the layers: the length of the log.

        Parameters
        ----------
        point_a, point_b : array-like, shape=[..., n, n]
            Invertible matrices of one component.

        Returns
        -------
        dist : array-like, shape=[...,]
            Distance. Raises as `log`.
        """
        solution, dtype = self._solve_log(point_b, point_a, record=False)
        return cast(self._resolve(solution, solution.length), dtype)

    def normalize(self, vector: Any, base_point: Any = None) -> Array:
        """Scale tangent vectors to unit length; zero stays zero.

        Parameters
        ----------
        vector, base_point : array-like, shape=[..., *point_shape]
            Tangent vectors and their base points.

        Returns
        -------
        vector : array-like, shape=[..., *point_shape]
            Vectors of length 1.
        """
        array, dtype = as_matrices(vector, self._space.shape, "vector")
        given = np.asarray(self.norm(vector, base_point))
        length = np.where(given == 0, 1.0, np.asarray(self.norm(array, base_point)))
        unit = array / length.reshape(*length.shape, *(1,) * len(self._space.shape))
        return cast(unit, dtype, given.dtype)

    def random_unit_tangent_vec(self, base_point: Any, n_vectors: int = 1) -> Array:
        """Draw tangent vectors of unit length, their direction uniform in the metric.

        Parameters
        ----------
        base_point : array-like, shape=[..., *point_shape]
            Base point; several vectors need a single one.
        n_vectors : int
            Number of vectors.

        Returns
        -------
        vector : array-like, shape=[..., *point_shape] or [n_vectors, *point_shape]
            Unit tangent vectors.
        """
        if n_vectors != 1 and np.ndim(base_point) > len(self._space.shape):
            raise ValueError("Several vectors at once need a single base point.")
        return self.normalize(self._space.random_tangent_vec(base_point, n_vectors), base_point)

    def normal_basis(self, basis: Any, base_point: Any = None) -> Array:
        """Scale every vector of a basis to unit length.

        As in geomstats, the vectors are scaled and not made orthogonal to each other.

        Parameters
        ----------
        basis : array-like, shape=[k, *point_shape]
            Tangent vectors.
        base_point : array-like, shape=[*point_shape]
            Base point.

        Returns
        -------
        basis : array-like, shape=[k, *point_shape]
            Vectors of length 1.
        """
        return self.normalize(basis, base_point)

    def injectivity_radius(self, base_point: Any = None) -> Array:
        r"""Upper bound of the injectivity radius, an estimate: ``sqrt(N) s_min^(1/N)``.

        That is the distance to the singular matrices, where geodesics end; a conjugate or cut
        point may come before. Chen (arXiv 2510.07324) leaves the radius itself open.

        Parameters
        ----------
        base_point : array-like, shape=[..., *point_shape]
            Base point.

        Returns
        -------
        radius : array-like, shape=[...,]
            The bound, in Frobenius norm of the layers.
        """
        frame, dtype = self._frame(base_point)
        return cast(np.sqrt(frame.depth) * frame.roots[..., -1], dtype)

    def squared_norm(self, vector: Any, base_point: Any = None) -> Array:
        """Square of the length of tangent vectors, shape ``(...)``."""
        return self.inner_product(vector, vector, base_point)

    def norm(self, vector: Any, base_point: Any = None) -> Array:
        """Length of tangent vectors, shape ``(...)``; its derivative at zero is taken as zero."""
        return np.sqrt(self.squared_norm(vector, base_point))

    def squared_dist(self, point_a: Any, point_b: Any) -> Array:
        """Square of the geodesic distance, shape ``(...)``."""
        return np.square(self.dist(point_a, point_b))

    def geodesic(
        self, initial_point: Any, end_point: Any = None, initial_tangent_vec: Any = None
    ) -> Callable[[Any], Array]:
        """Geodesic with a given end point or initial velocity.

        It is solved once; its points are read off at any times.

        Parameters
        ----------
        initial_point : array-like, shape=[..., n, n]
            Initial point.
        end_point, initial_tangent_vec : array-like, shape=[..., n, n]
            Exactly one of the two.

        Returns
        -------
        path : callable
            ``path(t)`` with t of shape ``(n_t,)`` or a scalar returns points of shape
            ``(..., n_t, n, n)``; the axis of time is there for a scalar too.
        """
        if (end_point is None) == (initial_tangent_vec is None):
            raise ValueError("Give either end_point or initial_tangent_vec, and not both.")
        if end_point is None:
            solution, dtype = self._solve_exp(initial_tangent_vec, initial_point, record=True)
            usable = solution.status != Status.CROSSED
        else:
            solution, dtype = self._solve_log(end_point, initial_point, record=True)
            usable = solution.success
            if self.on_failure == "raise" and not usable.all():
                raise failure(solution)

        def path(t: Any) -> Array:
            times = np.atleast_1d(np.asarray(t, dtype=np.float64))
            points, crossing = solution.evaluate(times)
            if end_point is not None:
                points[~usable] = np.nan
            met = np.isfinite(crossing)
            if met.any() and self.on_failure == "raise":
                raise beyond(solution, times, crossing)
            if (met.any() or not usable.all()) and self.on_failure == "warn":
                warnings.warn(
                    f"{solution.message} Points that do not exist are NaN.",
                    GeodesicWarning,
                    stacklevel=2,
                )
            return cast(points, dtype)

        return path

    def parallel_transport(
        self, tangent_vec: Any, base_point: Any, direction: Any = None, end_point: Any = None
    ) -> Array:
        """Parallel transport along a geodesic, by geomstats' pole ladder.

        Of second order in the size of ``tangent_vec`` and of a rung; four rungs, with the vector
        scaled as geomstats recommends (alpha = 2).

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., n, n]
            Vector to transport, at the base point.
        base_point : array-like, shape=[..., n, n]
            Where it starts.
        direction, end_point : array-like, shape=[..., n, n]
            Initial velocity of the geodesic, or its end point; one of the two.

        Returns
        -------
        transported : array-like, shape=[..., n, n]
            Tangent vector at the end point.
        """
        if (direction is None) == (end_point is None):
            raise ValueError("Give either direction or end_point, and not both.")
        base, dtype_a = as_matrices(base_point, self._space.shape, "base_point")
        vector, dtype = as_matrices(tangent_vec, self._space.shape, "tangent_vec")
        if direction is None:
            direction = self.log(end_point, base_point)
        along, dtype_b = as_matrices(direction, self._space.shape, "direction")
        # geomstats' code works on the arrays of its backend.
        ladder = self.ladder_parallel_transport(
            *(gs.array(array) for array in (vector, base, along)), n_rungs=4, scheme="pole", alpha=2
        )
        return cast(ladder["transported_tangent_vec"], dtype, dtype_a, dtype_b)
