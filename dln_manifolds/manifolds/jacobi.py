"""Jacobi fields, the differential of exp and conjugate times, in geomstats' conventions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dln_manifolds.checks import At, flatten
from dln_manifolds.errors import ConvergenceError
from dln_manifolds.geodesics import (
    FailurePolicy,
    GeodesicSolution,
    Points,
    System,
    conjugate_times,
    exp_adjoint,
    exp_inverse,
    jacobi_fields,
)
from dln_manifolds.manifolds.curvature import CurvedMetric
from dln_manifolds.numerics.arguments import real, times_of
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray

_Solve = Callable[..., tuple[Array, GeodesicSolution]]


class _Along:
    """Geodesics of a call, in one flat batch, and vectors along them, several for each."""

    def __init__(self, at: At) -> None:
        shape = at.stratum.point_shape
        velocity, n_axes = at.vectors[0], len(shape)
        batches = (x.shape[: x.ndim - n_axes] for x in (at.point, velocity))
        # Axes of the whole batch that points and velocities do not have are those of directions.
        own = len(np.broadcast_shapes(*batches))
        self.at, self.shape, self.batch = at, shape, at.batch[len(at.batch) - own :]
        self.velocity = flatten(velocity, self.batch, n_axes)
        frame = at.frame.mapped(lambda x: flatten(x, self.batch, x.ndim - at.frame.values.ndim + 1))
        self.start = Points(flatten(at.point, self.batch, n_axes), frame)

    def several(self, vector: Array) -> Array:
        """Return vectors as ``(n_batch, k, *point_shape)``."""
        flat = flatten(vector, self.at.batch, len(self.shape))
        k = math.prod(self.at.batch[: len(self.at.batch) - len(self.batch)])
        return np.moveaxis(flat.reshape(k, len(self.velocity), *self.shape), 0, 1)

    def joined(self, policy: FailurePolicy, solution: GeodesicSolution, values: Array) -> Array:
        """Return values ``(n_batch, k, *)`` with the batch of the call, or do what failures ask."""
        values = values.reshape(*self.batch, *values.shape[1:])
        values = policy.resolve(solution.reshape(self.batch), values, stacklevel=5)
        values = values.reshape(len(self.velocity), *values.shape[len(self.batch) :])
        values = np.moveaxis(values, 1, 0)
        return self.at.cast(values.reshape(*self.at.batch, *values.shape[2:]))


class JacobiMetric(CurvedMetric):
    """The methods of a metric that vary its geodesics.

    Several directions at one geodesic cost less than as many geodesics: axes of the batch that
    neither points nor velocities have are those of directions, and each geodesic is followed once.
    The flow is linearized, exactly at equal singular values too; nothing is a difference.
    """

    system: System
    tolerance: float
    policy: FailurePolicy

    def jacobi_field(
        self,
        initial_derivative: ArrayLike,
        tangent_vec: ArrayLike,
        base_point: ArrayLike,
        initial_value: OptionalArray = None,
        t: ArrayLike = 1.0,
    ) -> Array:
        r"""Jacobi field J along the geodesic from a point with velocity ``tangent_vec``.

        ``J'' + R(J, V) V = 0`` with J and its covariant derivative given at t = 0: how geodesics
        vary with their start and velocity (ours, by the linearized flow). With ``J(0) = 0`` it is
        the differential of exp, ``J(1) = d exp_X(Z)[J'(0)]``. Raises as `exp`, for the last time.

        Parameters
        ----------
        initial_derivative : array-like, shape=[..., *point_shape]
            Tangent vector ``J'(0)``.
        tangent_vec : array-like, shape=[..., *point_shape]
            Initial velocity of the geodesic.
        base_point : array-like, shape=[..., *point_shape]
            Its first point.
        initial_value : array-like, shape=[..., *point_shape], optional
            Tangent vector ``J(0)``, zero by default.
        t : float or array-like, shape=[n_times]
            Times, not negative.

        Returns
        -------
        field : array-like, shape=[..., *point_shape] for a scalar, [..., n_times, *point_shape]
            ``J(t)``, a tangent vector at the point of the geodesic.
        """
        times = _times(t)
        given = {"tangent_vec": tangent_vec, "initial_derivative": initial_derivative}
        if initial_value is not None:
            given["initial_value"] = initial_value
        along = _Along(At(self.stratum, base_point, **given).tangent())
        slopes, *values = map(along.several, along.at.vectors[1:])
        fields, solution = jacobi_fields(
            self.system,
            along.start,
            along.velocity,
            values[0] if values else np.zeros_like(slopes),
            slopes,
            times,
            tolerance=self.tolerance,
        )
        fields = along.joined(self.policy, solution, np.moveaxis(fields, 1, 2))
        return fields if np.ndim(t) else np.take(fields, 0, axis=len(along.at.batch))

    def exp_adjoint(
        self, vector: ArrayLike, tangent_vec: ArrayLike, base_point: ArrayLike
    ) -> Array:
        """Adjoint in the metric of ``d exp_X(Z)``: ``<d exp[w], u> = <w, exp_adjoint(u)>``.

        By one variation that is followed backwards for each vector. Raises as `exp`.

        Parameters
        ----------
        vector : array-like, shape=[..., *point_shape]
            Vector u at the end point ``exp(tangent_vec, base_point)``; normal parts drop out.
        tangent_vec : array-like, shape=[..., *point_shape]
            Initial velocity Z of the geodesic.
        base_point : array-like, shape=[..., *point_shape]
            Its first point X.
        """
        return self._pulled(exp_adjoint, vector, tangent_vec, base_point)

    def exp_inverse(
        self, vector: ArrayLike, tangent_vec: ArrayLike, base_point: ArrayLike
    ) -> Array:
        """Inverse of ``d exp_X(Z)``: the change of the velocity that moves the end point so.

        It is the differential of log by its point where log leads back to Z. Raises as `exp`, and
        `ConjugatePointsError` where the differential is singular.

        Parameters
        ----------
        vector : array-like, shape=[..., *point_shape]
            Vector at the end point ``exp(tangent_vec, base_point)``; normal parts drop out.
        tangent_vec : array-like, shape=[..., *point_shape]
            Initial velocity Z of the geodesic.
        base_point : array-like, shape=[..., *point_shape]
            Its first point X.
        """
        return self._pulled(exp_inverse, vector, tangent_vec, base_point)

    def _pulled(
        self, solve: _Solve, vector: ArrayLike, tangent_vec: ArrayLike, base_point: ArrayLike
    ) -> Array:
        """Take vectors from end points to the start."""
        at = At(self.stratum, base_point, tangent_vec=tangent_vec).tangent()
        added = at.add(vector, "vector", self.stratum.point_shape)
        along = _Along(at)
        ends = along.start, along.velocity, along.several(added)
        found, solution = solve(self.system, *ends, tolerance=self.tolerance)
        return along.joined(self.policy, solution, found)

    def conjugate_time(
        self, tangent_vec: ArrayLike, base_point: ArrayLike, t_max: float = np.inf
    ) -> Array:
        r"""First time t > 0 at which ``d exp_X(t Z)`` is singular, infinity if there is none.

        From there on the geodesic is no shortest curve, not even among those near it. The search is
        by the index form, whose least eigenvalue passes zero at that time, whatever its
        multiplicity (:mod:`dln_manifolds.geodesics.conjugate`), and ends with the geodesic: at a
        singular matrix, at ``t_max``, or never. At finite depth all of an endless geodesic is
        searched, by the cone law; at infinite depth a length of 20, unless ``t_max`` is given. The
        search carries twice as many fields as the manifold has dimensions: seconds at n = 8.
        Invertible matrices seem to have none for N <= 2, while other shapes and ranks have some at
        every N > 1 (seen, not proven).

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., *point_shape]
            Initial velocity Z; of zero nothing is conjugate.
        base_point : array-like, shape=[..., *point_shape]
            Point X.
        t_max : float
            Time until which to search, positive.
        """
        t_max = real("t_max", t_max, "positive")
        at = At(self.stratum, base_point, tangent_vec=tangent_vec).tangent()
        times = self._conjugate(at, at.flat(at.vectors[0]), t_max)
        if np.isnan(times).any():
            message = (
                f"Conjugate points along {np.isnan(times).sum()} of {times.size} geodesics could "
                f"not be sought, as the integrator ran out of steps. Take a smaller t_max."
            )
            if self.policy.raises:
                raise ConvergenceError(message)
            self.policy.warn(message)
        return at.cast(times.reshape(at.batch))

    def injectivity_radius(self, base_point: OptionalArray = None) -> Array:
        r"""Upper bound of the injectivity radius, shape ``(...)``: ``sqrt(N) s_r^(1/N)`` (ours).

        That is the distance to matrices of lower rank, where geodesics end, in Frobenius norm of
        the layers, infinite at infinite depth; a conjugate or cut point may come before. Chen
        (arXiv 2510.07324) leaves the radius itself open.
        """
        at = At(self.stratum, base_point)
        return at.cast(np.sqrt(at.frame.depth) * at.frame.roots[..., -1])

    def _conjugate(self, at: At, velocity: Array, t_max: float) -> Array:
        """Return first conjugate times of a flat batch."""
        horizon = np.full(len(velocity), t_max)
        start = Points(*at.flat_point())
        return conjugate_times(self.system, start, velocity, horizon, tolerance=self.tolerance)

    def _examined(self, start: At, solution: GeodesicSolution) -> GeodesicSolution:
        """Return a solution with first conjugate times; NaN where there is no geodesic."""
        solved = solution.success.ravel()
        velocity = start.flat(solution.initial_velocity).copy()
        velocity[~solved] = 0.0
        times = np.where(solved, self._conjugate(start, velocity, 1.0), np.nan)
        return replace(solution, conjugate_time=times.reshape(start.batch))


def _times(t: ArrayLike) -> Array:
    """Check times."""
    times = np.atleast_1d(times_of(t))
    if (times < 0).any():
        raise ValueError(f"t must be finite and not negative, not {times.min()}.")
    return times
