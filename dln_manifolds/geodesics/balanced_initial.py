"""Geodesics of the balanced manifold with given initial velocities, and transport along them."""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.fields import BalancedField
from dln_manifolds.geodesics.integrate import CONVERGED, CROSSED, flow
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import size_of


def _solve(
    base_point: Array, vectors: list[Array], tolerance: float, record: bool
) -> tuple[GeodesicSolution, Array]:
    """Follow the geodesic of the first vector; also return all vectors moved to its end."""
    # Layers and vectors divided by the size of the layers.
    scale = size_of(base_point)
    unit = scale[:, None, None, None]
    state = np.stack([base_point / unit, *(vector / unit for vector in vectors)], axis=1)
    result = flow(
        BalancedField(), state, np.ones(len(base_point)), tolerance=tolerance, record=record
    )
    reached = result.status == CONVERGED
    end = result.state * unit[:, None]
    end[~reached] = np.nan
    velocity = vectors[0]
    length = size_of(velocity)
    drift = np.abs((size_of(end[:, 1]) / np.where(length == 0, 1.0, length)) ** 2 - (length > 0))
    n_reached, n_crossed = int(reached.sum()), int(np.sum(result.status == CROSSED))
    solution = GeodesicSolution(
        initial_velocity=velocity.copy(),
        end_point=end[:, 0],
        length=length,
        lower_bound=size_of(end[:, 0] - base_point),
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
    return solution, end[:, 1:]


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
    return _solve(base_point, [tangent_vec], tolerance, record)[0]


def transport(
    base_point: Array, direction: Array, vector: Array, *, tolerance: float
) -> tuple[Array, GeodesicSolution]:
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
        Vectors at the end points; NaN where the geodesic does not get there.
    solution : GeodesicSolution
        The geodesics, not callable.
    """
    solution, moved = _solve(base_point, [direction, vector], tolerance, record=False)
    return moved[:, 1], solution
