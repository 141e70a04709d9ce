"""What the geodesic solvers return, and what is done about members that were not solved."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from dln_manifolds.errors import (
    ConvergenceError,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.geodesics.integrate import carry, flow
from dln_manifolds.geodesics.system import Status, System, Trajectory
from dln_manifolds.numerics.arguments import times_of
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType
from dln_manifolds.numerics.precision import DOUBLE

_Changes = dict[str, float | Status]
_MODES = ("raise", "warn", "nan")
# What holds one entry for each member, and what of it changes where there is no path, or no end.
_OF_DISCONNECTED: _Changes = {
    "initial_velocity": np.nan,
    "end_point": np.nan,
    "length": np.nan,
    "lower_bound": np.nan,
    "upper_bound": np.nan,
    "residual": np.inf,
    "status": Status.DISCONNECTED,
}
_ALONE: _Changes = {"competing_lengths": np.inf, "rival_length": np.inf, "is_close_contest": 0}
_OF_LOST: _Changes = {"end_point": np.nan, "residual": np.inf, "status": Status.STALLED}
_BY_MEMBER = (*_OF_DISCONNECTED, "n_iterations", "n_evaluations", "crossing_time")


@dataclass(repr=False, eq=False)
class GeodesicSolution:
    r"""A batch of geodesics ``X(t)``, with how well each was solved.

    Calling it, ``solution(t)``, returns points of the geodesic; t may lie outside [0, 1] as long
    as the geodesic does not meet a singular matrix on the way.

    Attributes
    ----------
    initial_velocity : ndarray, shape=[..., m, n]
        ``X'(0)``, so that ``exp(initial_velocity, X(0))`` is the end point.
    end_point : ndarray, shape=[..., m, n]
        ``X(1)`` by the initial-value flow; NaN where the geodesic ends before.
    length : ndarray, shape=[...]
        Length of the geodesic, in Frobenius norm of the layers.
    lower_bound, upper_bound : ndarray, shape=[...]
        What the distance of the end points is at least and at most, known without solving: as
        ``metric.bounds`` returns for log; the upper bound of exp is its length.
    residual : ndarray, shape=[...]
        For log, the distance ``|X(1) - Y| / |Y|`` from the target of the end of the initial-value
        problem, solved from ``initial_velocity`` alone; for exp, the relative drift of the energy
        along the flow. Infinite where the flow did not reach t = 1.
    n_iterations : ndarray of int, shape=[...]
        Newton steps (log) or integration steps (exp).
    n_evaluations : ndarray of int, shape=[...]
        Evaluations of the metric at a point (singular value decompositions).
    status : ndarray of int, shape=[...]
        0 solved; 1 meets a singular matrix; 2 not converged; 3 between components: no path exists.
    crossing_time : ndarray, shape=[...]
        Time t* of the first singular matrix on [0, 1], infinite if there is none.
    message : str
        One sentence on the whole batch.
    conjugate_time : ndarray, shape=[...], or None
        First time in (0, 1] whose point is conjugate to that at 0, infinite if there is none; None
        unless ``solve_log`` was asked for it.
    competing_lengths : ndarray, shape=[..., k], or None
        Lengths of the verified geodesics that were found, from the shortest on and each once,
        padded with infinity; None where one was sought of every pair.
    rival_length : ndarray, shape=[...], or None
        Length of the shortest way that competed and lost, infinite if none did: of a geodesic, if
        it was solved, else of a path of few modes, a bound of that near it. None for exp.
    is_close_contest : ndarray of bool, shape=[...], or None
        Whether `rival_length` is at most 1 % above the length; None for exp.

    Notes
    -----
    Of the solver: ``tolerance``, ``system``, recorded ``trajectory``, ``between`` points or not.
    """

    initial_velocity: Array
    end_point: Array
    length: Array
    lower_bound: Array
    upper_bound: Array
    residual: Array
    n_iterations: Array
    n_evaluations: Array
    status: Array
    crossing_time: Array
    message: str
    tolerance: float = field(repr=False)
    system: System = field(repr=False)
    trajectory: Trajectory = field(repr=False)
    between: bool = field(default=False, repr=False)
    conjugate_time: Array | None = field(default=None, repr=False)
    competing_lengths: Array | None = field(default=None, repr=False)
    rival_length: Array | None = field(default=None, repr=False)
    is_close_contest: Array | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """Return a line: how many were solved, lengths and residuals."""
        return summary(self, f"depth {self.depth:g}, points {self.point_shape}")

    @property
    def point_shape(self) -> tuple[int, ...]:
        """Shape of one point."""
        return self.initial_velocity.shape[self.length.ndim :]

    @property
    def depth(self) -> float:
        """Depth N of the network."""
        return float(self.system.depth)

    @property
    def success(self) -> Array:
        """Whether each member was solved, shape ``(...)``."""
        return np.asarray(self.status == Status.CONVERGED.value)

    @property
    def is_locally_minimizing(self) -> Array:
        """Whether no shorter curve is near, shape ``(...)``: no point before the end is conjugate.

        There may be a shorter one elsewhere. Known after ``solve_log(..., conjugate_points=True)``.
        """
        if self.conjugate_time is None:
            raise ValueError(
                "Conjugate points were not sought. Solve with metric.solve_log(point, base_point, "
                "conjugate_points=True)."
            )
        return np.asarray(self.conjugate_time >= 1)

    @property
    def ends(self) -> tuple[Array, Array]:
        """States of the solver at t = 0 and t = 1, each of shape ``(n_members, 2, 1, *shape)``.

        Meaningful for members that were solved, and only if the solution was recorded.
        """
        return self.trajectory.states[0], self.trajectory.states[-1]

    def without(self, apart: Array) -> GeodesicSolution:
        """Return the solution with members, a mask of shape ``(...)``, marked as disconnected."""
        if not apart.any():
            return self
        solved = f"{np.count_nonzero(self.success & ~apart)} of {apart.size} geodesics solved"
        message = f"{solved}; {apart.sum()} of the pairs {Status.DISCONNECTED.message}."
        return self._marked(apart, _OF_DISCONNECTED | _ALONE, message)

    def _marked(self, members: Array, changes: _Changes, message: str) -> GeodesicSolution:
        """Return the solution with entries of members replaced."""
        changed = replace(self, message=message)
        for name, new in changes.items():
            if getattr(self, name) is not None:
                value = np.array(getattr(self, name))
                value[members] = new
                setattr(changed, name, value)
        return changed

    def representable(self, contains: Callable[[Array, DType], Array]) -> GeodesicSolution:
        """Return a flat solution with members marked whose end, as an array, is no point.

        Roots and rotations lead further than the entries of matrices: these overflow, or lose a
        singular value to the rounding of the largest. ``contains`` says what is a point.
        """
        entries = tuple(range(1, self.end_point.ndim))
        held = np.asarray(np.isfinite(self.end_point).all(axis=entries))
        held[held] = contains(self.end_point[held], DOUBLE)
        if not (lost := self.success & ~held).any():
            return self
        told = f"{lost.sum()} of them to what overflows, or whose rank is lost to rounding"
        return self._marked(lost, _OF_LOST, f"{self.message[:-1]}, {told}.")

    def reshape(self, batch: tuple[int, ...]) -> GeodesicSolution:
        """Return a flat solution with its members arranged in the given batch shape."""
        shaped = replace(self)
        for name in (*_BY_MEMBER, *_ALONE):
            value = getattr(self, name)
            if value is not None:
                setattr(shaped, name, value.reshape(batch + value.shape[1:]))
        return shaped

    def __call__(self, t: ArrayLike) -> Array:
        """Return points of the geodesics.

        Parameters
        ----------
        t : float or array-like, shape=[n_times]
            Times; 0 is the base point and 1 the end point.

        Returns
        -------
        points : ndarray, shape=[..., m, n] for a scalar, [..., n_times, m, n] otherwise
            ``X(t)``; not finite, with a `GeodesicWarning`, where entries overflow.

        Raises
        ------
        IncompleteGeodesicError
            If a geodesic meets a singular matrix before one of the times.
        """
        points, crossing = self.evaluate(times := np.atleast_1d(times_of(t, least=0)))
        if np.isfinite(crossing).any():
            raise self.out_of_reach(times, crossing)
        return points if np.ndim(t) else np.take(points, 0, axis=self.length.ndim)

    def out_of_reach(self, times: Array, crossing: Array) -> IncompleteGeodesicError:
        """Return the error of a curve that was asked for points past a singular matrix.

        ``times`` were asked for, ``(n_times,)``; ``crossing`` are the times t* met on the way to
        each, ``(..., n_times)``, infinite where there is none.
        """
        *member, k = (int(i) for i in np.argwhere(np.isfinite(crossing))[0])
        end, which = crossing[(*member, k)], f" of batch member {member}" if member else ""
        path = "with the initial velocity"
        if self.between:
            path = "between the points" + ("" if 0 <= end <= 1 else ", continued beyond them,")
        return IncompleteGeodesicError(
            f"The geodesic{which} {path} {Status.CROSSED.message} at t* = {end:.6g} and ends "
            f"there: it does not reach the time t = {times[k]:.6g} asked for. Ask for times "
            f'between 0 and t*, or make the metric with on_failure="nan" to have NaN there.',
            time=crossing,
            solution=self,
        )

    def transport(self, vector: ArrayLike) -> Array:
        """Transport vectors parallel along the geodesics, from t = 0 to t = 1.

        Integrated with them: lengths and angles are kept. As ``metric.parallel_transport`` does,
        but for the geodesics at hand, several vectors for each at the price of one.

        ``vector`` are tangent vectors at the base points, ``(..., m, n)``, whose normal parts drop
        out; the batch shape of the solution ends theirs. Returns tangent vectors at the end points,
        NaN where the geodesic was not solved.
        """
        shape, batch = self.point_shape, self.length.shape
        given = np.asarray(vector, dtype=float)
        whole = given.shape[: max(given.ndim - len(shape), 0)]
        several = whole[: max(len(whole) - len(batch), 0)] + batch
        fits = all(a in (1, b) for a, b in zip(whole[::-1], batch[::-1], strict=False))
        if given.shape != whole + shape or not fits:
            raise InvalidPointError(
                f"vector has shape {given.shape}; its last axes must be {shape}, those of a point, "
                f"and {batch} before them, those of the solution."
            )
        vectors = np.broadcast_to(given, several + shape).reshape(-1, self.length.size, *shape)
        moved = np.full((self.length.size, len(vectors), *shape), np.nan)
        pick = np.nonzero(self.success.ravel())[0]
        if pick.size:
            state, scale = self.trajectory.states[0][pick], self.trajectory.scales[0][pick]
            unit = self.system.at(state[:, 0, 0], scale)
            carried = np.moveaxis(vectors[:, pick], 0, 1)
            rate = state[:, 1, 0]
            moved[pick], _ = carry(self.system, unit, rate, carried, self.tolerance)
        return np.moveaxis(moved, 1, 0).reshape(several + shape)

    def evaluate(self, times: Array) -> tuple[Array, Array]:
        """Return points at the times, NaN past a singular matrix, and the times t* met."""
        batch, shape = self.length.shape, self.point_shape
        if self.length.size == 0 or not self.trajectory.times:
            # Of no member, or where no path was worth following.
            shaped = (*batch, times.size)
            return np.full((*shaped, *shape), np.nan), np.full(shaped, np.inf)
        knots, states = np.stack(self.trajectory.times), np.stack(self.trajectory.states)
        scales, members = np.stack(self.trajectory.scales), np.arange(knots.shape[1])[:, None]
        # From the nearest knot, forwards or backwards in time; from the last of those that rounding
        # makes equal.
        apart = np.abs(knots[::-1, :, None] - times)
        nearest = len(knots) - 1 - np.argmin(apart, axis=0)
        origin = states[nearest, members].reshape(-1, *states.shape[2:])
        knot = knots[nearest, members].ravel()
        lapse = np.broadcast_to(times, nearest.shape).ravel() - knot
        backward = lapse < 0
        origin[backward, 1] *= -1
        result = flow(self.system, origin, np.abs(lapse), tolerance=self.tolerance)
        reached = result.status == Status.CONVERGED
        signed = knot + np.where(backward, -result.time, result.time)
        crossing = np.where(result.status == Status.CROSSED, signed, np.inf)
        points = np.full((knot.size, *shape), np.nan)
        scale = scales[nearest, members].ravel()[reached]
        with np.errstate(over="ignore", invalid="ignore"):
            unit = self.system.at(result.state[reached, 0, 0], scale)
            points[reached] = self.system.point(unit)
        if not np.isfinite(points[reached]).all():
            message = "Points of a geodesic overflow at some times: ask for those nearer to 0."
            warnings.warn(message, GeodesicWarning, stacklevel=3)
        points[np.repeat(self.status.ravel() == Status.DISCONNECTED, times.size)] = np.nan
        shaped = (*batch, times.size)
        return points.reshape(*shaped, *shape), crossing.reshape(shaped)


class Solved(Protocol):
    """What solutions of every kind say of their members."""

    length: Array
    residual: Array

    @property
    def success(self) -> Array:
        """Whether each member was solved."""


def summary(solution: Solved, what: str) -> str:
    """Return a line on a solution: what it is of, how many were solved, lengths and residuals."""
    said = [what] + ([f"batch {solution.length.shape}"] if solution.length.ndim else [])
    said.append(f"{np.count_nonzero(solution.success)} of {solution.length.size} solved")
    for name, values in (("length", solution.length), ("residual", solution.residual)):
        known = values[~np.isnan(values)]
        if known.size:
            least, most = known.min(), known.max()
            upto = f" to {most:.3g}" if most != least else ""
            said.append(f"{name} {least:.3g}{upto}")
    return f"<{type(solution).__name__}: {', '.join(said)}>"


def failure(
    solution: GeodesicSolution, times: Array | None = None
) -> IncompleteGeodesicError | ConvergenceError:
    """Return the error of a solution some of whose members failed.

    ``times`` are those at which geodesics meet a singular matrix, of the batch's shape, if they
    are not the solution's own.
    """
    way_out = 'make the metric with on_failure="nan" to go on with the other members of a batch'
    subject = "The geodesic between the points" if solution.between else "A geodesic"
    if (solution.status == Status.CROSSED).any() or times is not None:
        times = solution.crossing_time if times is None else times
        remedy = _remedy(Status.CROSSED, solution)
        return IncompleteGeodesicError(
            f"{subject} {Status.CROSSED.message} at t* = {np.min(times):.6g}{_member(times)}: the "
            f"manifold of invertible matrices is not complete. {remedy}, or {way_out}.",
            time=times if np.ndim(times) else float(times),
            solution=solution,
        )
    residual = np.where(solution.status == Status.CONVERGED, -1.0, solution.residual)
    return ConvergenceError(
        f"{solution.message} The worst{_member(-residual)} has a residual of "
        f"{residual.max():.2e}. {_remedy(Status.STALLED, solution)}, or make the metric with "
        f'on_failure="nan".',
        solution=solution,
    )


def _remedy(status: Status, solution: GeodesicSolution) -> str:
    if not solution.between:
        return status.after_exp
    if status == Status.CROSSED and solution.system.straight:
        return "At depth 1 it is the straight line, the only one: take a larger depth"
    return status.after_log


def _member(values: Array) -> str:
    """Name the batch member of the least value, if there is a batch."""
    index = np.unravel_index(np.argmin(values), np.shape(values))
    return f" (batch member {[int(i) for i in index]})" if index else ""


@dataclass(frozen=True)
class FailurePolicy:
    """What to do about members of a batch that are not solved: raise, or NaN with a warning or not.

    Attributes
    ----------
    mode : {"raise", "warn", "nan"}
        As ``on_failure`` of the metrics.
    """

    mode: str

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(f"on_failure must be one of {_MODES}, not {self.mode!r}.")

    @property
    def raises(self) -> bool:
        """Whether a failure raises."""
        return self.mode == "raise"

    def resolve(self, solution: GeodesicSolution, value: Array, stacklevel: int = 4) -> Array:
        """Return values of the members of a solution, ``(..., *)``, or do what the mode says."""
        failed = ~solution.success
        if not failed.any():
            return value
        if self.raises:
            raise failure(solution)
        self.warn(f"{solution.message} The others are NaN.", stacklevel=stacklevel)
        missing = failed.reshape(failed.shape + (1,) * (value.ndim - failed.ndim))
        return np.where(missing, np.nan, value)

    def warn(self, message: str, stacklevel: int = 3) -> None:
        """Warn of failures, if the mode says so."""
        if self.mode == "warn":
            warnings.warn(message, GeodesicWarning, stacklevel=stacklevel + 1)
