"""The exponential map: end point and curve of the geodesic with a given initial velocity."""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.fields import RootField
from dln_manifolds.geodesics.integrate import CONVERGED, CROSSED, flow
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geometry.closed_forms import lower_bound
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import lower, point_of, push_to_root, raise_, root_of
from dln_manifolds.numerics.arrays import Array


def solve_initial_value(
    frame: Frame,
    point: Array,
    tangent_vec: Array,
    *,
    tolerance: float,
    record: bool = True,
) -> GeodesicSolution:
    """Follow geodesics from given points with given velocities for unit time.

    Parameters
    ----------
    frame : Frame
        Frames of the points, at depth N.
    point, tangent_vec : ndarray, shape=[n_batch, n, n]
        Invertible matrices X and velocities at X.
    tolerance : float
        Relative local error of the integrator.
    record : bool
        Whether the solution has to be callable and to know its lower bound.

    Returns
    -------
    solution : GeodesicSolution
        Its ``status`` tells which members reached t = 1.
    """
    depth = frame.depth
    # Solved for X divided by its largest singular value; lengths scale with the N-th root of it.
    size = frame.singular_values[:, 0]
    scale = frame.roots[:, 0]
    unit = frame.scaled(1 / size)
    velocity = push_to_root(unit, tangent_vec / size[:, None, None])
    momentum = lower(unit, velocity)
    energy = 0.5 * np.sum(velocity * momentum, axis=(-2, -1))
    field = RootField(depth)
    state = np.stack([root_of(unit), momentum], axis=1)
    result = flow(field, state, np.ones(len(size)), tolerance=tolerance, record=record)

    reached = result.status == CONVERGED
    end = Frame.of_root(result.state[:, 0], depth)
    last = 0.5 * np.sum(raise_(end, result.state[:, 1]) * result.state[:, 1], axis=(-2, -1))
    drift = np.abs(last - energy) / np.where(energy == 0, 1.0, energy)
    # At N = 1 geodesics are straight lines, free of the rounding of any decomposition.
    end_point = point + tangent_vec if depth == 1 else point_of(end.scaled(scale))
    bound = lower_bound(unit, end) if record else np.nan
    crossed = int(np.sum(result.status == CROSSED))
    return GeodesicSolution(
        initial_velocity=tangent_vec.copy(),
        end_point=np.where(reached[:, None, None], end_point, np.nan),
        length=scale * np.sqrt(2 * energy),
        lower_bound=np.where(reached, scale * bound, np.nan),
        residual=np.where(reached, drift, np.inf),
        n_iterations=result.n_steps,
        n_evaluations=result.n_evaluations,
        status=result.status,
        crossing_time=np.where(result.status == CROSSED, result.time, np.inf),
        message=(
            f"{int(reached.sum())} of {len(reached)} geodesics reached t = 1, "
            f"{crossed} met a singular matrix, {len(reached) - int(reached.sum()) - crossed} "
            f"ran out of steps."
        ),
        depth=depth,
        tolerance=tolerance,
        _field=field,
        _scale=scale,
        _trajectory=result.trajectory,
    )
