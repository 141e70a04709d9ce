"""Exp, log and parallel transport of any system; the one place where solutions are made."""

from dataclasses import replace

import numpy as np

from dln_manifolds.geodesics.integrate import carry, flow_anyhow
from dln_manifolds.geodesics.multilevel import connect
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geodesics.system import (
    ConeLaw,
    FlowResult,
    Points,
    Status,
    System,
    Trajectory,
    Unit,
)
from dln_manifolds.geometry.closed_forms import StraightFactors, radial_rate
from dln_manifolds.geometry.facing import Earlier
from dln_manifolds.geometry.reduction import Reduction
from dln_manifolds.numerics.arrays import Array

# Part of its length by which another way is longer at most where the contest was close.
_CLOSE = 1e-2
# Lengths whose difference is less, relative to them and to the points, are listed as one.
_DISTINCT = 1e-9


def solve_exp(
    system: System, start: Points, velocity: Array, *, tolerance: float, record: bool = True
) -> GeodesicSolution:
    """Follow geodesics from points with given velocities, ``(n_batch, *point_shape)``, for t = 1.

    ``tolerance`` is the relative local error of the integrator, and ``record`` says whether the
    solution has to be callable and to know its lower bound. Its ``status`` tells which members
    reached t = 1, its ``residual`` is the relative drift of the energy, which an exact solution
    keeps.
    """
    narrow = system.narrowed(start, vectors=velocity[:, None])
    if narrow is not None:
        small, within = narrow
        (origin,), narrow_velocity = _shrunk(within, start), within.shrunk(velocity)
        solution = solve_exp(small, origin, narrow_velocity, tolerance=tolerance, record=record)
        return _expanded(system, within, solution, velocity)
    unit = system.unit(start)
    rate = system.flat(unit, velocity)
    _straighten(system, start, velocity, unit, rate)
    state = np.stack([unit.position, rate], axis=1)[:, :, None]
    result = flow_anyhow(system, state, tolerance=tolerance, record=record)
    return followed(system, start, velocity, unit, rate, result, tolerance, record)


def _straighten(system: System, start: Points, velocity: Array, unit: Unit, rate: Array) -> None:
    """Free the rates of radial velocities, in place, of rounding that leads past the tip."""
    pace, radial = radial_rate(start.value, velocity)
    if radial.any():
        rate[radial] = system.radial(unit.take(radial), pace[radial])


def followed(
    system: System,
    start: Points,
    velocity: Array,
    unit: Unit,
    rate: Array,
    result: FlowResult,
    tolerance: float,
    record: bool,
) -> GeodesicSolution:
    """Return the solution of an initial-value problem from the flow that was followed."""
    reached, crossed = result.status == Status.CONVERGED, result.status == Status.CROSSED
    # Where a singular matrix was met, what is computed of the last state is dropped. An end that
    # overflows is told by who knows what is a point.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        last = system.at(result.state[:, 0, 0], unit.scale)
        end_point = start.value + velocity if system.straight else system.point(last)
        held = reached & np.isfinite(end_point).all(axis=tuple(range(1, end_point.ndim)))
        rows, bound = np.flatnonzero(held & record), np.full(len(rate), np.nan)
        if rows.size:
            bound[rows] = system.lower_bound(unit.take(rows), last.take(rows))
        speed, after = system.speed(unit, rate), system.speed(last, result.state[:, 1, 0])
    drift = np.abs((after / np.where(speed == 0, 1.0, speed)) ** 2 - (speed > 0))
    end_point[~reached] = np.nan
    length = system.length(unit.scale, speed)
    return _solution(
        system,
        ("reached t = 1", "ran out of steps"),
        tolerance=tolerance,
        trajectory=replace(result.trajectory, scales=[unit.scale] * len(result.trajectory.times)),
        between=False,
        initial_velocity=velocity.copy(),
        end_point=end_point,
        length=length,
        lower_bound=bound,
        upper_bound=np.where(reached & record, length, np.nan),
        residual=np.where(reached, drift, np.inf),
        n_iterations=result.n_steps,
        n_evaluations=result.n_evaluations,
        status=result.status,
        crossing_time=np.where(crossed, result.time, np.inf),
    )


def solve_log(
    system: System,
    start: Points,
    end: Points,
    *,
    tolerance: float,
    record: bool = True,
    thorough: bool = False,
    warm: GeodesicSolution | None = None,
) -> GeodesicSolution:
    """Find geodesics between pairs of points of one component.

    Solved between points of size one; the cone law of :mod:`dln_manifolds.geometry.scaling` does
    the rest. ``tolerance`` is the relative local error of the verifying flow, ``record`` as for
    `solve_exp`. The ``status`` of the solution tells which members are solved: those whose
    ``residual`` is at most ``system.goal(tolerance)``. A ``thorough`` search solves from many
    starts, and returns the shortest geodesics. A ``warm`` start is a recorded solution of as many
    pairs near these.
    """
    narrow = system.narrowed(start, end=end)
    if narrow is not None:
        small, within = narrow
        ends = _shrunk(within, start, end)
        solution = solve_log(small, *ends, tolerance=tolerance, record=record, thorough=thorough)
        return _expanded(system, within, solution)
    known = None if record or thorough else system.verified(start, end)
    if known is not None:
        solved = known.residual <= system.goal(tolerance)
        if solved.any():
            return _known(system, (start, end), known, solved, tolerance)
    first, last = system.unit(start), system.unit(end)
    cone = system.cone(first, last)
    found = connect(
        system,
        first,
        last,
        end.value,
        tolerance=tolerance,
        record=record,
        thorough=thorough,
        earlier=None if warm is None else _earlier(system, warm),
    )
    if system.straight:
        velocity = end.value - start.value
    else:
        rate = cone.initial_rate(first.position, found.rate)
        velocity = system.sharp(first, rate, cone.scale)
    rivals = None
    if found.speeds:
        lengths = np.stack([_lengths(cone, speed) for speed in found.speeds], axis=1)
        rivals = _distinct(lengths, system.length(first.scale, np.ones(len(velocity))))
    unknown = np.full(len(velocity), np.nan)
    bounds = system.bounds(start, end) if record else (unknown, unknown)
    recorded = zip(found.trajectory.times, found.trajectory.states, strict=True)
    steps = [cone.states(time, state) for time, state in recorded]
    solution = _solution(
        system,
        (f"solved to a relative residual of {system.goal(tolerance):.1e}", Status.STALLED.message),
        tolerance=tolerance,
        trajectory=Trajectory(*map(list, zip(*steps, strict=True))),
        between=True,
        initial_velocity=velocity,
        end_point=found.end_point,
        length=cone.length(system.speed(first, found.rate)),
        lower_bound=bounds[0],
        upper_bound=bounds[1],
        residual=found.residual,
        n_iterations=found.n_iterations,
        n_evaluations=found.n_evaluations,
        status=found.status,
        crossing_time=cone.time(found.crossing),
    )
    # Shorter by the error of few modes, or below N = 2 through singular matrices.
    beside = _lengths(cone, np.maximum(found.beside, found.speed()))
    close = np.isfinite(beside) & (beside <= (1 + _CLOSE) * solution.length)
    return replace(solution, competing_lengths=rivals, rival_length=beside, is_close_contest=close)


def _lengths(cone: ConeLaw, speeds: Array) -> Array:
    """Return the lengths of unit speeds, some of which may be infinite."""
    known = np.isfinite(speeds)
    return np.where(known, cone.length(np.where(known, speeds, 0.0)), np.inf)


def _distinct(lengths: Array, size: Array) -> Array:
    """Sort lengths ``(n_batch, k)``, each once; beside points of that size they are rounded."""
    lengths = np.sort(lengths, axis=1)
    room = _DISTINCT * (np.where(np.isfinite(lengths), lengths, 0.0) + size[:, None])
    near = lengths[:, 1:] <= (lengths + room)[:, :-1]
    lengths[:, 1:][near] = np.inf
    lengths = np.sort(lengths, axis=1)
    kept = max(1, int(np.isfinite(lengths).sum(axis=1).max(initial=0)))
    return lengths[:, :kept]


def _earlier(system: System, warm: GeodesicSolution) -> Earlier | None:
    """Return the geodesics of size one of a recorded solution, of members that were solved."""
    steps, members = warm.trajectory, np.flatnonzero(warm.success)
    if members.size == 0 or len(steps.scales) == 0:
        return None
    positions = np.stack([state[members, 0, 0] for state in steps.states], axis=1)
    ends = (system.at(positions[:, k], steps.scales[k][members]) for k in (-1, 0))
    # from times to those of geodesics of size one: the law with both ends interchanged
    back = system.cone(*ends)
    times = np.stack([back.time(time[members]) for time in steps.times], axis=1)
    return Earlier(members, times, positions)


def _known(
    system: System,
    ends: tuple[Points, Points],
    known: StraightFactors,
    solved: Array,
    tolerance: float,
) -> GeodesicSolution:
    """Return the solution of pairs whose geodesics have verified themselves; solve the others."""
    n_batch = len(solved)
    none, unknown = np.zeros(n_batch, dtype=int), np.full(n_batch, np.nan)
    found = {
        **known._asdict(),
        "lower_bound": unknown,
        "upper_bound": unknown.copy(),
        "n_iterations": none,
        "n_evaluations": none + 1,
        "status": np.full(n_batch, Status.CONVERGED),
        "crossing_time": np.full(n_batch, np.inf),
    }
    rest = np.flatnonzero(~solved)
    if rest.size:
        some = (points.take(rest) for points in ends)
        others = solve_log(system, *some, tolerance=tolerance, record=False)
        for name, values in found.items():
            values[rest] = getattr(others, name)
    return _solution(
        system,
        (f"solved to a relative residual of {system.goal(tolerance):.1e}", Status.STALLED.message),
        tolerance=tolerance,
        trajectory=Trajectory(),
        between=True,
        **found,
    )


def parallel_transport(
    system: System, start: Points, direction: Array, vectors: Array, *, tolerance: float
) -> tuple[Array, GeodesicSolution]:
    """Transport tangent vectors parallel along geodesics for unit time.

    ``direction`` holds the initial velocities of the geodesics, ``(n_batch, *point_shape)``, and
    ``vectors`` what to transport, ``(n_batch, k, *point_shape)``. Returns the vectors at the end
    points, NaN where a geodesic does not get there, and the geodesics, not callable.
    """
    narrow = system.narrowed(start, vectors=np.concatenate([direction[:, None], vectors], axis=1))
    if narrow is not None:
        small, within = narrow
        (origin,), along = _shrunk(within, start), within.shrunk(direction)
        moved, solution = parallel_transport(
            small, origin, along, within.shrunk(vectors), tolerance=tolerance
        )
        return within.expanded(moved), _expanded(system, within, solution, direction)
    unit = system.unit(start)
    rate = system.flat(unit, direction)
    transported, result = carry(system, unit, rate, vectors, tolerance)
    return transported, followed(
        system, start, direction, unit, rate, result, tolerance, record=False
    )


def _shrunk(within: Reduction, *points: Points) -> list[Points]:
    """Return points in a narrower system."""
    values = [within.shrunk(point.value) for point in points]
    return [Points(value, within.frame(value)) for value in values]


def _expanded(
    system: System,
    within: Reduction,
    solution: GeodesicSolution,
    initial_velocity: Array | None = None,
) -> GeodesicSolution:
    """Return the solution in a narrower system as one of this; its velocity may be known."""
    steps = solution.trajectory
    if initial_velocity is None:
        initial_velocity = within.expanded(solution.initial_velocity)
    return replace(
        solution,
        system=system,
        initial_velocity=initial_velocity.copy(),
        end_point=within.expanded(solution.end_point),
        trajectory=replace(steps, states=[within.expanded(state) for state in steps.states]),
    )


def _solution(
    system: System,
    texts: tuple[str, str],
    *,
    tolerance: float,
    trajectory: Trajectory,
    between: bool,
    status: Array,
    **arrays: Array,
) -> GeodesicSolution:
    """Return the solution of a flat batch, with one sentence on all of it."""
    counts = np.bincount(status, minlength=len(Status))
    n_solved, n_crossed = int(counts[Status.CONVERGED]), int(counts[Status.CROSSED])
    good, bad = texts
    message = (
        f"{n_solved} of {len(status)} geodesics {good}, {n_crossed} met a singular matrix, "
        f"{len(status) - n_solved - n_crossed} {bad}."
    )
    return GeodesicSolution(
        message=message,
        tolerance=tolerance,
        system=system,
        trajectory=trajectory,
        between=between,
        status=status,
        **arrays,
    )
