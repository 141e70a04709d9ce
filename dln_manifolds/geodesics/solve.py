"""Exp, log and parallel transport, and their derivatives."""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.balanced_boundary import solve_balanced_boundary
from dln_manifolds.geodesics.balanced_initial import solve_balanced_initial, transport
from dln_manifolds.geodesics.balanced_variation import balanced_exp_pullback, balanced_log_pullback
from dln_manifolds.geodesics.boundary_value import solve_boundary_value
from dln_manifolds.geodesics.initial_value import solve_initial_value
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geodesics.system import LayerSystem, ObservableSystem, Points
from dln_manifolds.geodesics.variation import (
    exp_pullback as observable_exp_pullback,
)
from dln_manifolds.geodesics.variation import (
    log_pullback as observable_log_pullback,
)
from dln_manifolds.geodesics.variation import (
    squared_dist_gradients,
)
from dln_manifolds.numerics.arrays import Array

System = ObservableSystem | LayerSystem


def solve_exp(
    system: System, start: Points, velocity: Array, *, tolerance: float, record: bool = True
) -> GeodesicSolution:
    """Follow geodesics from points with given velocities, ``(n_batch, *point_shape)``."""
    if isinstance(system, LayerSystem):
        return solve_balanced_initial(start.value, velocity, tolerance=tolerance, record=record)
    return solve_initial_value(
        start.frame, start.value, velocity, tolerance=tolerance, record=record
    )


def solve_log(
    system: System, start: Points, end: Points, *, tolerance: float, record: bool = True
) -> GeodesicSolution:
    """Find geodesics between pairs of points of one component."""
    if isinstance(system, LayerSystem):
        return solve_balanced_boundary(start.value, end.value, tolerance=tolerance, record=record)
    return solve_boundary_value(
        start.frame, end.frame, start.value, end.value, tolerance=tolerance, record=record
    )


def parallel_transport(
    system: System, start: Points, direction: Array, vectors: Array, *, tolerance: float
) -> tuple[Array, GeodesicSolution]:
    """Transport vectors, shape ``(n_batch, *point_shape)``, along geodesics of unit time."""
    if isinstance(system, ObservableSystem):
        raise NotImplementedError
    return transport(start.value, direction, vectors, tolerance=tolerance)


def exp_pullback(
    solution: GeodesicSolution, members: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Gradients by point and by velocity of ``<c, exp>``, for some members of a recorded exp."""
    start, end = (state[members] for state in solution.ends)
    if len(solution.point_shape) == 3:
        return balanced_exp_pullback(end, cotangent, tolerance=solution.tolerance)
    return observable_exp_pullback(start, end, cotangent, solution.depth, solution.tolerance)


def log_pullback(
    solution: GeodesicSolution, members: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Gradients by base point and by end point of ``<c, log>``, for some members of a log."""
    start, end = (state[members] for state in solution.ends)
    if len(solution.point_shape) == 3:
        return balanced_log_pullback(start, end, cotangent, tolerance=solution.tolerance)
    return observable_log_pullback(start, end, cotangent, solution.depth, solution.tolerance)


def squared_length_gradients(solution: GeodesicSolution, members: Array) -> tuple[Array, Array]:
    """Gradients of the squared length by both end points, for some members of a recorded log."""
    start, end = (state[members] for state in solution.ends)
    scale = solution.scale[members]
    if len(solution.point_shape) == 3:
        both = 2 * scale.reshape(-1, 1, 1, 1)
        return -both * start[:, 1], both * end[:, 1]
    # Squared lengths scale as T^2, points as T^N.
    factor = (scale ** (2 - solution.depth)).reshape(-1, 1, 1)
    first, last = squared_dist_gradients(start, end, solution.depth)
    return np.asarray(factor * first), np.asarray(factor * last)
