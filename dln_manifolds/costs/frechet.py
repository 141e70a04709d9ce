"""The Fréchet variance of end-to-end matrices as a cost: its minimizers are Fréchet means."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dln_manifolds.checks import check_connected, checked_frame
from dln_manifolds.costs.base import Cost, Domain
from dln_manifolds.errors import ConvergenceError, IncompleteGeodesicError, InvalidPointError
from dln_manifolds.geodesics import ObservableSystem, Points, Status, log_pullback, solve_log
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative, apply_metric
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.cache import PointMemo


class _State(NamedTuple):
    """Geodesics from a point to all the data, and their momenta ``A_X^{-1}(log_X(Y_k))``."""

    frame: Frame
    solution: GeodesicSolution
    momenta: Array


class FrechetVariance(Cost):
    r"""Weighted mean of squared distances: ``V(X) = sum_k w_k dist(X, Y_k)^2``, ``sum w_k = 1``.

    One point X at a time. All logarithms are one batch, solved once per point; a Hessian-vector
    product takes the variations along these geodesics.

    Parameters
    ----------
    points : array-like, shape=[k, n, n]
        Data Y, invertible and of one component.
    depth : float
        Depth N >= 1.
    weights : array-like, shape=[k,], optional
        Positive; equal by default. They are divided by their sum.
    tolerance : float
        Relative local error of the flow that verifies logarithms.

    Raises
    ------
    DisconnectedPointsError
        By all methods, if ``det X`` has another sign than that of a datum.
    ConvergenceError
        By all methods, if a logarithm is not solved.
    IncompleteGeodesicError
        By all methods, if a geodesic to a datum meets a singular matrix.
    """

    def __init__(
        self, points: Any, depth: float, weights: Any = None, *, tolerance: float = 1e-13
    ) -> None:
        points = np.array(points, dtype=float)
        if points.ndim != 3 or len(points) == 0:
            raise InvalidPointError(f"points must have shape (k, n, n), not {points.shape}.")
        self.depth, self.tolerance = float(depth), tolerance
        self._frames, _ = checked_frame(points, points.shape[1:], self.depth, "points")
        self.points = points
        self.domain = Domain(of_layers=False, shape=points.shape[1:], depth=self.depth)
        weights = np.ones(len(points)) if weights is None else np.array(weights, dtype=float)
        if weights.shape != (len(points),) or not (weights > 0).all():
            raise ValueError(f"weights must be {len(points)} positive numbers.")
        self.weights = weights / weights.sum()
        self._states = PointMemo(self._state)

    def _state(self, point: Array) -> _State:
        if point.ndim != 2:
            raise InvalidPointError(f"One point at a time is needed, not {point.shape}.")
        base = np.broadcast_to(point, self.points.shape)
        first, _ = checked_frame(base, base.shape[1:], self.depth, "point")
        check_connected(first, self._frames)
        solution = solve_log(
            ObservableSystem(self.depth),
            Points(base, first),
            Points(self.points, self._frames),
            tolerance=self.tolerance,
        )
        if not solution.success.all():
            failed = np.flatnonzero(~solution.success)
            if (solution.status[failed] == Status.CROSSED).any():
                raise IncompleteGeodesicError(
                    f"Between the point and datum {failed[0]} the geodesic meets a singular "
                    f"matrix: {solution.message}",
                    solution.crossing_time,
                    solution,
                )
            raise ConvergenceError(
                f"The logarithm of datum {failed[0]} was not solved ({len(failed)} of "
                f"{len(self.points)}): {solution.message}",
                solution,
            )
        return _State(first, solution, apply_metric(first, solution.initial_velocity))

    def __call__(self, point: Array) -> Array:
        """Return V(X)."""
        return np.asarray(np.dot(self.weights, self._states(point).solution.length ** 2))[()]

    def euclidean_gradient(self, point: Array) -> Array:
        """Return ``-2 sum_k w_k A_X^{-1}(log_X(Y_k))``."""
        return np.asarray(-2 * np.einsum("k,kij->ij", self.weights, self._states(point).momenta))

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        r"""Return the derivative of that along Z.

        As the Hessian is symmetric, it is also the transpose of the differential of the gradient:
        that of ``X -> log_X(Y)`` applied to ``A_X^{-1}(Z)``, and that of ``A_X^{-1}``.
        """
        frame, solution, momenta = self._states(point)
        covector = apply_metric(frame, np.broadcast_to(vector, self.points.shape))
        by_point, _ = log_pullback(solution, np.arange(len(self.points)), covector)
        turned = CometricDerivative(frame).gradient(momenta, covector)
        return np.asarray(-2 * np.einsum("k,kij->ij", self.weights, by_point - turned))
