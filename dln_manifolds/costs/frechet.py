"""The Fréchet variance of end-to-end matrices as a cost: its minimizers are Fréchet means."""

from typing import NamedTuple

import numpy as np

from dln_manifolds.checks import check_connected, checked_point
from dln_manifolds.costs.base import Cost, Domain, real_array, real_number
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geodesics import (
    FailurePolicy,
    GeodesicSolution,
    Points,
    log_pullback,
    solve_log,
    system_of_matrices,
)
from dln_manifolds.geometry.bounds import lower_bound
from dln_manifolds.geometry.metric import CometricDerivative, apply_metric
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.cache import PointMemo


class _State(NamedTuple):
    """Geodesics from a point to all the data, and their momenta ``A_X^{-1}(log_X(Y_k))``."""

    derivative: CometricDerivative
    solution: GeodesicSolution
    momenta: Array


class FrechetVariance(Cost):
    r"""Weighted mean of squared distances: ``V(X) = sum_k w_k dist(X, Y_k)^2``, ``sum w_k = 1``.

    One point X at a time. All logarithms are one batch, solved once per point; a Hessian-vector
    product takes the variations along these geodesics.

    The data ``points``, ``shape=[k, m, n]``, are of one ``rank``, by default the full one, and of
    one component, the ``weights``, ``shape=[k,]``, not negative, and equal by default: they are
    divided by their sum, and data of weight zero are left out. The ``depth`` is N >= 1, and
    ``tolerance`` the relative local error of the flow that verifies logarithms.

    All methods raise `DisconnectedPointsError` if ``det X`` has another sign than that of a datum,
    `ConvergenceError` if a logarithm is not solved, and `IncompleteGeodesicError` if a geodesic to
    a datum meets a singular matrix.
    """

    def __init__(
        self,
        points: ArrayLike,
        depth: float,
        weights: ArrayLike | None = None,
        *,
        rank: int | None = None,
        tolerance: float = 1e-13,
    ) -> None:
        self.depth = real_number(depth, "depth", at_least=1)
        self.tolerance = real_number(tolerance, "tolerance", at_least=1e-14)
        points = real_array(points, "points")
        if points.ndim != 3 or len(points) == 0:
            raise InvalidPointError(f"points must have shape (k, m, n), not {points.shape}.")
        weights = np.ones(len(points)) if weights is None else real_array(weights, "weights")
        if weights.shape != (len(points),) or (weights < 0).any() or not weights.any():
            raise ValueError(f"weights must be {len(points)} numbers >= 0, and not all zero.")
        # Data of weight zero are left out: not even their geodesics have to exist.
        self.points, self.weights = points[weights > 0], weights[weights > 0] / weights.sum()
        self._stratum = MatrixStratum.of(shape=points.shape[1:], depth=self.depth, rank=rank)
        self.domain = Domain(False, self._stratum.shape, self.depth, self._stratum.rank)
        self._system = system_of_matrices(self.depth, self._stratum.shape, self._stratum.rank)
        _, frames, _ = checked_point(self._stratum, self.points, "points")
        self._data = Points(self.points, frames)
        self._states = PointMemo(self._state)

    def _about(self) -> str:
        return f" to {len(self.points)} points"

    def _base(self, point: Array) -> Points:
        """Return the point, checked, as many times as there are data."""
        if point.ndim != 2:
            raise InvalidPointError(f"One point at a time is needed, not {point.shape}.")
        base = np.broadcast_to(point, self.points.shape)
        _, first, _ = checked_point(self._stratum, base, "point")
        check_connected(first, self._data.frame)
        return Points(base, first)

    def _state(self, point: Array) -> _State:
        base = self._base(point)
        solution = solve_log(self._system, base, self._data, tolerance=self.tolerance)
        velocities = FailurePolicy("raise").resolve(solution, solution.initial_velocity)
        momenta = apply_metric(base.frame, velocities)
        return _State(CometricDerivative(base.frame), solution, momenta)

    def __call__(self, point: Array) -> Array:
        """Return V(X)."""
        return np.asarray(np.dot(self.weights, self._states(point).solution.length ** 2))[()]

    def lower_bound(self, point: Array) -> float:
        """Return ``sum_k w_k b_k^2`` with rigorous lower bounds of distances, for no logarithm."""
        bounds = lower_bound(self._base(point).frame, self._data.frame)
        return float(np.dot(self.weights, bounds**2))

    def euclidean_gradient(self, point: Array) -> Array:
        """Return ``-2 sum_k w_k A_X^{-1}(log_X(Y_k))``."""
        return np.asarray(-2 * np.einsum("k,kij->ij", self.weights, self._states(point).momenta))

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        r"""Return the derivative of that along Z.

        As the Hessian is symmetric, it is also the transpose of the differential of the gradient:
        that of ``X -> log_X(Y)`` applied to ``A_X^{-1}(Z)``, and that of ``A_X^{-1}``.
        """
        derivative, solution, momenta = self._states(point)
        covector = apply_metric(derivative.frame, np.broadcast_to(vector, self.points.shape))
        by_point, _ = log_pullback(solution, np.arange(len(covector)), covector)
        turned = derivative.gradient(momenta, covector)
        return np.asarray(-2 * np.einsum("k,kij->ij", self.weights, by_point - turned))
