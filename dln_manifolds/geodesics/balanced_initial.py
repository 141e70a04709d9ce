"""Geodesics of the balanced manifold with given initial velocities, and transport along them."""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.cone import size_of
from dln_manifolds.geodesics.fields import BalancedField
from dln_manifolds.geodesics.flow import CONVERGED, CROSSED, FlowResult, flow
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.spectral.elementary import Array


def _flow(
    base_point: Array, vectors: list[Array], tolerance: float, record: bool
) -> tuple[FlowResult, Array]:
    """Follow the flow of layers divided by their size; also return the size."""
    scale = size_of(base_point)
    unit = scale[:, None, None, None]
    state = np.stack([base_point / unit, *(vector / unit for vector in vectors)], axis=1)
    span = np.ones(len(base_point))
    return flow(BalancedField(), state, span, tolerance=tolerance, record=record), scale


def solve_balanced_initial(
    base_point: Array, tangent_vec: Array, *, tolerance: float, record: bool = True
) -> GeodesicSolution:
    """Follow geodesics ``W'' = II(W', W')`` from balanced layers for unit time.

    Parameters
    ----------
    base_point, tangent_vec : ndarray, shape=[n_batch, N, n, n]
        Balanced layers and tangent vectors there.
    tolerance : float
        Relative local error of the integrator.
    record : bool
        Whether the solution has to be callable.

    Returns
    -------
    solution : GeodesicSolution
        ``lower_bound`` is the length of the chord in the ambient space, ``residual`` the relative
        drift of the energy.
    """
    result, scale = _flow(base_point, [tangent_vec], tolerance, record)
    reached = result.status == CONVERGED
    end_point = result.state[:, 0] * scale[:, None, None, None]
    end_point[~reached] = np.nan
    length = size_of(tangent_vec)
    last = scale * size_of(result.state[:, 1])
    drift = np.abs((last / np.where(length == 0, 1.0, length)) ** 2 - (length > 0))
    n_reached, n_crossed = int(reached.sum()), int(np.sum(result.status == CROSSED))
    return GeodesicSolution(
        initial_velocity=tangent_vec.copy(),
        end_point=end_point,
        length=length,
        lower_bound=size_of(end_point - base_point),
        residual=np.where(reached, drift, np.inf),
        n_iterations=result.n_steps,
        n_evaluations=result.n_evaluations,
        status=result.status,
        crossing_time=np.where(result.status == CROSSED, result.time, np.inf),
        message=(
            f"{n_reached} of {len(reached)} geodesics reached t = 1, {n_crossed} met a singular "
            f"matrix, {len(reached) - n_reached - n_crossed} ran out of steps."
        ),
        depth=float(base_point.shape[1]),
        tolerance=tolerance,
        _field=BalancedField(),
        _scale=scale,
        _trajectory=result.trajectory,
    )


def transport(
    base_point: Array, direction: Array, vector: Array, *, tolerance: float
) -> tuple[Array, FlowResult]:
    """Transport tangent vectors parallel along geodesics for unit time: ``U' = II(V, U)``.

    Parameters
    ----------
    base_point, direction, vector : ndarray, shape=[n_batch, N, n, n]
        Start, initial velocity of the geodesic, and what to transport.
    tolerance : float
        Relative local error of the integrator.

    Returns
    -------
    transported : ndarray, shape=[n_batch, N, n, n]
        Vectors at the end points.
    result : FlowResult
        With the status of every member.
    """
    result, scale = _flow(base_point, [direction, vector], tolerance, record=False)
    return result.state[:, 2] * scale[:, None, None, None], result
