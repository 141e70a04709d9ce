"""The logarithm: the geodesic between two points, verified by an independent flow.

A closed form where one holds; otherwise a path in the root chart, started from the polar path,
its energy minimized with few modes first and with more until its coefficients have decayed. What
is returned is checked by the initial-value flow, which knows nothing of the path; where the check
fails, more modes follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dln_manifolds.geodesics.closed_forms import closed_form_velocity, lower_bound
from dln_manifolds.geodesics.fields import RootField
from dln_manifolds.geodesics.flow import CONVERGED, CROSSED, STALLED, Trajectory, flow
from dln_manifolds.geodesics.newton import minimize
from dln_manifolds.geodesics.path import PathBasis, path_basis, polar_velocity
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import SingularFrame
from dln_manifolds.spectral.root_chart import lower, pull_from_root, raise_, root_of

# Modes and quadrature nodes, from the first rough minimization to the last resort.
_LEVELS = ((6, 8), (14, 18), (24, 32), (40, 54), (64, 86), (104, 140))
# Slope at which the decay of the coefficients is judged, and at which they are final.
_ROUGH, _FINE = (1e-3, 1e-5), 3e-12
_MAX_ITERATIONS = 60
# The error of the initial momentum is about a tenth of the square of the last coefficients.
_DECAYED = 5e-6
# A solution this near is corrected at its level before more modes are tried.
_NEAR, _MAX_CORRECTIONS = 1e-2, 4
# Doubles in one array of a block of members: what the second-level cache holds a few of.
_BLOCK = 2**13


def residual_goal(depth: float) -> float:
    """Relative residual at which log counts as solved: 1e-11, more for very deep networks.

    The end-to-end matrix is the N-th power of what is computed with, which multiplies relative
    errors by N, and the flow of a deep network takes more steps.
    """
    return 1e-11 * max(1.0, (depth / 8) ** 3)


def _norm(matrix: Array) -> Array:
    """Frobenius norm that neither overflows nor underflows."""
    largest = np.max(np.abs(matrix), axis=(-2, -1), keepdims=True)
    largest = np.where(largest == 0, 1.0, largest)
    return largest[..., 0, 0] * np.linalg.norm(matrix / largest, axis=(-2, -1))


@dataclass
class _Members:
    """The members of a batch with the best that is known of each.

    ``start`` and ``end`` are the end points in the root chart, ``aim`` is where paths are made to
    end: at ``end``, or beyond it by the ``defect`` of the flow's end, which corrects for what the
    modes of a path cannot resolve.
    """

    start: Array
    end: Array
    target: Array
    scale: Array
    depth: float
    tolerance: float
    record: bool
    aim: Array = field(init=False)
    defect: Array = field(init=False)
    momentum: Array = field(init=False)
    residual: Array = field(init=False)
    end_point: Array = field(init=False)
    status: Array = field(init=False)
    crossing: Array = field(init=False)
    n_iterations: Array = field(init=False)
    n_evaluations: Array = field(init=False)
    trajectory: Trajectory = field(default_factory=Trajectory)

    @property
    def field(self) -> RootField:
        """The flow that verifies."""
        return RootField(self.depth)

    def __post_init__(self) -> None:
        n_batch = len(self.start)
        self.aim = self.end.copy()
        self.defect = np.zeros_like(self.start)
        self.momentum = np.zeros_like(self.start)
        self.end_point = np.full_like(self.start, np.nan)
        self.residual = np.full(n_batch, np.inf)
        self.crossing = np.full(n_batch, np.inf)
        self.status = np.full(n_batch, STALLED)
        self.n_iterations = np.zeros(n_batch, dtype=int)
        self.n_evaluations = np.zeros(n_batch, dtype=int)

    def verify(self, pick: Array, momentum: Array) -> None:
        """Follow the flow from the given initial momenta and keep what ends nearer the target."""
        result = flow(
            self.field,
            np.stack([self.start[pick], momentum], axis=1),
            np.ones(pick.size),
            tolerance=self.tolerance,
            record=self.record,
        )
        self.n_evaluations[pick] += result.n_evaluations
        reached = result.status == CONVERGED
        end_point = self.field.points(result.state[:, 0], self.scale[pick])
        if self.depth == 1:
            # The straight line, without the rounding of the decompositions.
            end_point = self.target[pick]
        target = self.target[pick]
        distance = _norm(end_point - target) / _norm(target)
        residual = np.where(reached, distance, np.inf)
        goal = residual_goal(self.depth)
        better = (residual < self.residual[pick]) | ~np.isfinite(self.residual[pick])
        kept = pick[better]
        self.momentum[kept], self.residual[kept] = momentum[better], residual[better]
        self.defect[kept] = (self.end[pick] - result.state[:, 0])[better]
        self.end_point[kept] = np.where(reached[:, None, None], end_point, np.nan)[better]
        self.crossing[kept] = np.where(result.status == CROSSED, result.time, np.inf)[better]
        crossed = result.status[better] == CROSSED
        solved = residual[better] <= goal
        self.status[kept] = np.where(crossed, CROSSED, np.where(solved, CONVERGED, STALLED))
        if self.record:
            self._record(kept, result.trajectory, better)

    def _record(self, kept: Array, new: Trajectory, better: Array) -> None:
        """Replace the trajectories of some members, padding the shorter ones with their end."""
        if not self.trajectory.times:
            self.trajectory.times.append(np.zeros(len(self.start)))
            self.trajectory.states.append(np.stack([self.start, self.momentum], axis=1))
        mine = self.trajectory
        for k in range(max(len(mine.times), len(new.times))):
            if k >= len(mine.times):
                mine.times.append(mine.times[-1].copy())
                mine.states.append(mine.states[-1].copy())
            last = min(k, len(new.times) - 1)
            mine.times[k][kept] = new.times[last][better]
            mine.states[k][kept] = new.states[last][better]


def _starting_coefficients(start: Array, end: Array) -> Array:
    """Coefficients of the polar path in the modes of the first level."""
    basis = path_basis(*_LEVELS[0])
    deviation = polar_velocity(start, end, basis.nodes) - (end - start)[:, None]
    return np.einsum("q,qm,bqij->bmij", basis.weights, basis.slopes, deviation)


def _refine(members: _Members, pending: Array) -> None:
    """Solve the pending members by the path method, level by level."""
    n = members.start.shape[-1]
    c = np.empty((pending.size, 0, n, n))
    for level, (n_modes, n_nodes) in enumerate(_LEVELS):
        basis = path_basis(n_modes, n_nodes)
        last = level == len(_LEVELS) - 1
        members.aim[pending] = members.end[pending]
        c = np.concatenate([c, np.zeros((pending.size, n_modes - c.shape[1], n, n))], axis=1)
        ready = np.zeros(pending.size, dtype=bool)
        for block in _blocks(pending.size, n_nodes * n * n):
            start, end = members.start[pending[block]], members.end[pending[block]]
            if level == 0:
                c[block] = _starting_coefficients(start, end)
            c[block] = _minimize(members, pending[block], c[block], basis, _ROUGH[min(level, 1)])[0]
            ready[block] = _has_decayed(c[block], end - start) | last
        chosen = np.nonzero(ready)[0]
        for _ in range(1 + _MAX_CORRECTIONS):
            if chosen.size == 0:
                break
            pick, before = pending[chosen], members.residual[pending[chosen]]
            momentum = np.empty((pick.size, n, n))
            for block in _blocks(pick.size, n_nodes * n * n):
                c[chosen[block]], momentum[block] = _minimize(
                    members, pick[block], c[chosen[block]], basis, _FINE
                )
            members.verify(pick, momentum)
            members.aim[pick] += members.defect[pick]
            after = members.residual[pick]
            again = (members.status[pick] == STALLED) & (after < np.minimum(_NEAR, 0.5 * before))
            chosen = chosen[again]
        remaining = members.status[pending] == STALLED
        pending, c = pending[remaining], c[remaining]
        if pending.size == 0:
            break


def _blocks(n_members: int, size: int) -> Iterator[slice]:
    """Split members into blocks whose arrays, of ``size`` doubles each member, stay in cache."""
    step = max(1, _BLOCK // size)
    for low in range(0, n_members, step):
        yield slice(low, min(low + step, n_members))


def _minimize(
    members: _Members, pick: Array, c: Array, basis: PathBasis, slope: float
) -> tuple[Array, Array]:
    """Minimize the energy of some members' paths: coefficients and initial momenta."""
    result = minimize(
        members.start[pick],
        members.aim[pick],
        c,
        basis,
        members.depth,
        tolerance=slope,
        max_iterations=_MAX_ITERATIONS,
    )
    members.n_iterations[pick] += result.n_iterations
    members.n_evaluations[pick] += result.n_evaluations
    return result.coefficients, result.momentum


def _has_decayed(c: Array, chord: Array) -> Array:
    """Whether the last two coefficients are small beside the chord and the largest coefficient."""
    sizes = np.linalg.norm(c, axis=(-2, -1))
    whole = np.maximum(np.linalg.norm(chord, axis=(-2, -1)), sizes.max(axis=1))
    return sizes[:, -2:].max(axis=1) <= _DECAYED * whole


def solve_boundary_value(
    first: SingularFrame,
    last: SingularFrame,
    base_point: Array,
    point: Array,
    *,
    tolerance: float,
    record: bool = True,
) -> GeodesicSolution:
    """Find geodesics between pairs of points of one component of GL(n).

    Parameters
    ----------
    first, last : SingularFrame
        Frames of the base points and of the points, at depth N.
    base_point, point : ndarray, shape=[n_batch, n, n]
        Invertible matrices X(0) and X(1) with equal signs of det.
    tolerance : float
        Relative local error of the verifying flow.
    record : bool
        Whether the solution has to be callable.

    Returns
    -------
    solution : GeodesicSolution
        Its ``status`` tells which members are solved: those whose ``residual`` is at most
        :func:`residual_goal`.
    """
    depth = first.depth
    # Solved for matrices divided by the largest singular value of the pair.
    size = np.maximum(first.singular_values[:, 0], last.singular_values[:, 0])
    scale = size ** (1 / depth)
    first, last = first.scaled(1 / size), last.scaled(1 / size)
    members = _Members(
        start=root_of(first),
        end=root_of(last),
        target=point,
        scale=scale,
        depth=depth,
        tolerance=tolerance,
        record=record,
    )
    velocity, known = closed_form_velocity(first, last)
    pick = np.nonzero(known)[0]
    if pick.size:
        members.verify(pick, lower(first, velocity)[pick])
    pending = np.nonzero(members.status == STALLED)[0]
    if pending.size:
        _refine(members, pending)

    velocity = raise_(first, members.momentum)
    energy = 0.5 * np.sum(velocity * members.momentum, axis=(-2, -1))
    solved = members.status == CONVERGED
    n_crossed = int(np.sum(members.status == CROSSED))
    initial_velocity = pull_from_root(first, velocity) * size[:, None, None]
    if depth == 1:
        initial_velocity = point - base_point
    return GeodesicSolution(
        initial_velocity=initial_velocity,
        end_point=members.end_point,
        length=scale * np.sqrt(2 * energy),
        lower_bound=scale * lower_bound(first, last),
        residual=members.residual,
        n_iterations=members.n_iterations,
        n_evaluations=members.n_evaluations,
        status=members.status,
        crossing_time=members.crossing,
        message=(
            f"{int(solved.sum())} of {solved.size} geodesics solved to a relative residual of "
            f"{residual_goal(depth):.1e}, {n_crossed} met a singular matrix, "
            f"{solved.size - int(solved.sum()) - n_crossed} did not converge."
        ),
        depth=depth,
        tolerance=tolerance,
        _field=members.field,
        _scale=scale,
        _trajectory=members.trajectory,
    )
