"""Exp, log and parallel transport of any system; the one place where solutions are made."""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.integrate import Trajectory, flow
from dln_manifolds.geodesics.multilevel import connect
from dln_manifolds.geodesics.scaling import Cone
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geodesics.system import Points, Status, System
from dln_manifolds.geometry.closed_forms import radial_rate
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import weigh


def solve_exp(
    system: System, start: Points, velocity: Array, *, tolerance: float, record: bool = True
) -> GeodesicSolution:
    """Follow geodesics from given points with given velocities for unit time.

    Parameters
    ----------
    system : System
        The geometry.
    start : Points
        Points and their frames.
    velocity : ndarray, shape=[n_batch, *point_shape]
        Velocities there.
    tolerance : float
        Relative local error of the integrator.
    record : bool
        Whether the solution has to be callable and to know its lower bound.

    Returns
    -------
    solution : GeodesicSolution
        Its ``status`` tells which members reached t = 1; ``residual`` is the relative drift of the
        energy, which an exact solution keeps.
    """
    unit = system.unit(start)
    rate = system.flat(unit, velocity)
    pace, along_ray = radial_rate(start.value, velocity)
    if along_ray.any():
        # Free of the rounding of decompositions, which the flow would follow past the tip.
        factor = system.radial / system.degree * pace[along_ray]
        rate[along_ray] = weigh(factor, unit.position[along_ray])
    state = np.stack([unit.position, rate], axis=1)[:, :, None]
    result = flow(system, state, np.ones(len(state)), tolerance=tolerance, record=record)
    reached = result.status == Status.CONVERGED
    last = system.at(result.state[:, 0, 0], unit.scale)
    speed, after = system.speed(unit, rate), system.speed(last, result.state[:, 1, 0])
    drift = np.abs((after / np.where(speed == 0, 1.0, speed)) ** 2 - (speed > 0))
    end_point = start.value + velocity if system.straight else system.point(last)
    end_point[~reached] = np.nan
    bound = system.lower_bound(unit, last) if record else np.nan
    return _solution(
        system,
        initial_velocity=velocity.copy(),
        end_point=end_point,
        length=unit.scale * speed,
        lower_bound=np.where(reached, bound, np.nan),
        residual=np.where(reached, drift, np.inf),
        n_iterations=result.n_steps,
        n_evaluations=result.n_evaluations,
        status=result.status,
        crossing_time=np.where(result.status == Status.CROSSED, result.time, np.inf),
        between=False,
        tolerance=tolerance,
        scale=unit.scale,
        trajectory=result.trajectory,
        texts=("reached t = 1", "ran out of steps"),
    )


def solve_log(
    system: System, start: Points, end: Points, *, tolerance: float, record: bool = True
) -> GeodesicSolution:
    """Find geodesics between pairs of points of one component.

    Solved between points of size one; the cone law of :mod:`dln_manifolds.geodesics.scaling` does
    the rest.

    Parameters
    ----------
    system : System
        The geometry.
    start, end : Points
        Points and their frames, as many of each.
    tolerance : float
        Relative local error of the verifying flow.
    record : bool
        Whether the solution has to be callable and to know its lower bound.

    Returns
    -------
    solution : GeodesicSolution
        Its ``status`` tells which members are solved: those whose ``residual`` is at most
        ``system.goal(tolerance)``.
    """
    first, last = system.unit(start), system.unit(end)
    cone = Cone(first.scale, last.scale, system.radial)
    found = connect(system, first, last, end.value, tolerance=tolerance, record=record)
    if system.straight:
        velocity = end.value - start.value
    else:
        rate = cone.initial_rate(first.position, found.rate)
        velocity = system.sharp(first, rate, cone.scale)
    goal = system.goal(tolerance)
    return _solution(
        system,
        initial_velocity=velocity,
        end_point=found.end_point,
        length=cone.length(system.speed(first, found.rate)),
        lower_bound=system.lower_bound(first, last) if record else np.full(len(velocity), np.nan),
        residual=found.residual,
        n_iterations=found.n_iterations,
        n_evaluations=found.n_evaluations,
        status=found.status,
        crossing_time=cone.time(found.crossing),
        between=True,
        tolerance=tolerance,
        scale=cone.scale,
        trajectory=cone.trajectory(found.trajectory),
        texts=(f"solved to a relative residual of {goal:.1e}", "did not converge"),
    )


def parallel_transport(
    system: System, start: Points, direction: Array, vectors: Array, *, tolerance: float
) -> tuple[Array, GeodesicSolution]:
    """Transport tangent vectors parallel along geodesics for unit time.

    Parameters
    ----------
    system : System
        The geometry.
    start : Points
        Points and their frames.
    direction : ndarray, shape=[n_batch, *point_shape]
        Initial velocities of the geodesics.
    vectors : ndarray, shape=[n_batch, k, *point_shape]
        What to transport.
    tolerance : float
        Relative local error of the integrator.

    Returns
    -------
    transported : ndarray, shape=[n_batch, k, *point_shape]
        Vectors at the end points; NaN where the geodesic does not get there.
    solution : GeodesicSolution
        The geodesics; not callable.
    """
    unit = system.unit(start)
    n_batch, k = vectors.shape[:2]
    # Both rows of a state hold vectors; the last place stays empty where k is odd.
    state = np.zeros((n_batch, 2, 1 + (k + 1) // 2, *unit.position.shape[1:]))
    state[:, 0, 0], state[:, 1, 0] = unit.position, system.flat(unit, direction)
    for place in range(k):
        state[:, place % 2, 1 + place // 2] = system.flat(unit, vectors[:, place])
    result = flow(system.parallel, state, np.ones(n_batch), tolerance=tolerance)
    last = system.at(result.state[:, 0, 0], unit.scale)
    moved = np.empty_like(vectors)
    for place in range(k):
        moved[:, place] = system.sharp(last, result.state[:, place % 2, 1 + place // 2], unit.scale)
    reached = result.status == Status.CONVERGED
    moved[~reached] = np.nan
    end_point = system.point(last)
    end_point[~reached] = np.nan
    solution = _solution(
        system,
        initial_velocity=direction.copy(),
        end_point=end_point,
        length=unit.scale * system.speed(unit, state[:, 1, 0]),
        lower_bound=np.full(n_batch, np.nan),
        residual=np.where(reached, 0.0, np.inf),
        n_iterations=result.n_steps,
        n_evaluations=result.n_evaluations,
        status=result.status,
        crossing_time=np.where(result.status == Status.CROSSED, result.time, np.inf),
        between=False,
        tolerance=tolerance,
        scale=unit.scale,
        trajectory=Trajectory(),
        texts=("reached t = 1", "ran out of steps"),
    )
    return moved, solution


def _solution(
    system: System,
    *,
    initial_velocity: Array,
    end_point: Array,
    length: Array,
    lower_bound: Array,
    residual: Array,
    n_iterations: Array,
    n_evaluations: Array,
    status: Array,
    crossing_time: Array,
    between: bool,
    tolerance: float,
    scale: Array,
    trajectory: Trajectory,
    texts: tuple[str, str],
) -> GeodesicSolution:
    """Return the solution of a flat batch, with one sentence on all of it."""
    n_solved = np.count_nonzero(status == Status.CONVERGED)
    n_crossed = np.count_nonzero(status == Status.CROSSED)
    good, bad = texts
    return GeodesicSolution(
        initial_velocity=initial_velocity,
        end_point=end_point,
        length=length,
        lower_bound=lower_bound,
        residual=residual,
        n_iterations=n_iterations,
        n_evaluations=n_evaluations,
        status=status,
        crossing_time=crossing_time,
        message=(
            f"{n_solved} of {len(status)} geodesics {good}, {n_crossed} met a singular matrix, "
            f"{len(status) - n_solved - n_crossed} {bad}."
        ),
        tolerance=tolerance,
        system=system,
        scale=scale,
        trajectory=trajectory,
        between=between,
    )
