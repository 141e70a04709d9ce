"""Solving boundary-value problems level by level, each result verified by the flow.

What is common to the geodesics of end-to-end matrices and to those of balanced layers: paths with
few unknowns first and with more until these have decayed; a check of every initial velocity by the
initial-value flow, which knows nothing of the path; a correction of the aim by the defect of the
flow's end; more unknowns where the check fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dln_manifolds.geodesics.cone import size_of
from dln_manifolds.geodesics.fields import Field
from dln_manifolds.geodesics.flow import CONVERGED, CROSSED, STALLED, Trajectory, flow
from dln_manifolds.geodesics.newton import Minimum, Path, minimize
from dln_manifolds.spectral.elementary import Array

# Slopes at which the decay of the unknowns is judged, on the first and on later levels, and at
# which they are final: the latter at least this many times the tolerance of the flow.
_ROUGH, _FINE, _FINE_SHARE = (1e-3, 1e-5), 3e-12, 30.0
_MAX_ITERATIONS = 60
# Slopes to which rivals are minimized, and the share of the first path's energy that is too much.
_CONTEST = ((0.3, 1.15), (1e-3, 1 - 1e-5))
# A solution this near is corrected at its level before more unknowns are tried.
_NEAR, _MAX_CORRECTIONS = 1e-2, 4
# Doubles in one array of a block of members: what the second-level cache holds a few of.
_BLOCK = 2**13


@dataclass
class Guess:
    """Paths of a batch as their family describes them.

    Attributes
    ----------
    unknowns : ndarray, shape=[n_batch, ...]
        What is varied.
    frames : ndarray, shape=[n_batch, ...]
        What the unknowns are measured from, if anything; never varied.
    """

    unknowns: Array
    frames: Array

    def take(self, members: Array | slice) -> Guess:
        """Return some members."""
        return Guess(self.unknowns[members], self.frames[members])

    def put(self, members: Array, other: Guess) -> None:
        """Replace some members."""
        self.unknowns[members], self.frames[members] = other.unknowns, other.frames


class PathFamily(Protocol):
    """Paths of increasing resolution between two points."""

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""

    def initial(self, start: Array, end: Array) -> tuple[Guess, Array, Guess | None]:
        """Return first guesses on the first level.

        One for every member; members that may have a shorter geodesic elsewhere, and guesses at
        it, or None if there are no such members.
        """

    def extend(self, guess: Guess, start: Array, end: Array, level: int) -> Guess:
        """Carry unknowns over from the level below to this one."""

    def path(self, guess: Guess, start: Array, end: Array, level: int) -> Path:
        """Return paths with their energy."""

    def has_decayed(self, guess: Guess, start: Array, end: Array, level: int) -> Array:
        """Whether more unknowns would change nothing that matters, shape ``(n_batch,)``."""

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Time at which paths of least energy run into a singular matrix, infinite if not."""

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return aims moved by defects."""


@dataclass
class Members:
    """The members of a batch with the best that is known of each.

    ``start`` and ``end`` are the end points as the flow represents them, divided by ``scale``;
    ``target`` is the end point itself, met if the relative ``residual`` is at most ``goal``. Paths
    are made to end at ``aim``: at ``end``, or beyond it by the ``defect`` of the flow's end, which
    corrects for what the unknowns of a path cannot resolve.
    """

    flow_field: Field
    start: Array
    end: Array
    target: Array
    scale: Array
    goal: float
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

    def __post_init__(self) -> None:
        n_batch = len(self.start)
        self.aim = self.end.copy()
        self.defect = np.zeros_like(self.start)
        self.momentum = np.zeros_like(self.start)
        self.end_point = np.full_like(self.target, np.nan)
        self.residual = np.full(n_batch, np.inf)
        self.crossing = np.full(n_batch, np.inf)
        self.status = np.full(n_batch, STALLED)
        self.n_iterations = np.zeros(n_batch, dtype=int)
        self.n_evaluations = np.zeros(n_batch, dtype=int)

    def verify(self, pick: Array, momentum: Array) -> None:
        """Follow the flow from the given initial momenta and keep what ends nearer the target."""
        result = flow(
            self.flow_field,
            np.stack([self.start[pick], momentum], axis=1),
            np.ones(pick.size),
            tolerance=self.tolerance,
            record=self.record,
        )
        self.n_evaluations[pick] += result.n_evaluations
        reached = result.status == CONVERGED
        end_point = self.flow_field.points(result.state[:, 0], self.scale[pick])
        target = self.target[pick]
        distance = size_of(end_point - target) / size_of(target)
        residual = np.where(reached, distance, np.inf)
        better = (residual < self.residual[pick]) | ~np.isfinite(self.residual[pick])
        kept = pick[better]
        self.momentum[kept], self.residual[kept] = momentum[better], residual[better]
        self.defect[kept] = (self.end[pick] - result.state[:, 0])[better]
        self.end_point[kept] = _where(reached, end_point)[better]
        self.crossing[kept] = np.where(result.status == CROSSED, result.time, np.inf)[better]
        crossed = result.status[better] == CROSSED
        solved = residual[better] <= self.goal
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


def _where(mask: Array, values: Array) -> Array:
    """Replace the members outside the mask by NaN."""
    result = values.copy()
    result[~mask] = np.nan
    return result


def refine(members: Members, family: PathFamily, pending: Array) -> None:
    """Solve the pending members by paths of increasing resolution."""
    start, end = members.start, members.end
    fine = max(_FINE, _FINE_SHARE * members.tolerance)
    guess, rows, rivals = family.initial(start[pending], end[pending])
    if rivals is not None:
        _contest(members, family, pending, guess, rows, rivals)
    for level in range(family.n_levels):
        members.aim[pending] = end[pending]
        if level > 0:
            guess = family.extend(guess, start[pending], end[pending], level)
        rough = _ROUGH[min(level, 1)]
        momentum = _minimize(members, family, pending, guess, level, fine, rough)[1]
        ready, collapsed = _judge(members, family, pending, guess, level)
        members.status[pending[collapsed]] = CROSSED
        chosen = np.nonzero(ready)[0]
        momentum = momentum[chosen]
        for _ in range(1 + _MAX_CORRECTIONS):
            if chosen.size == 0:
                break
            pick = pending[chosen]
            before = members.residual[pick]
            members.verify(pick, momentum)
            after = members.residual[pick]
            again = (members.status[pick] == STALLED) & (after < np.minimum(_NEAR, 0.5 * before))
            chosen, pick = chosen[again], pick[again]
            if chosen.size == 0:
                break
            members.aim[pick] = family.shift(members.aim[pick], members.defect[pick])
            some = guess.take(chosen)
            momentum = _minimize(members, family, pick, some, level, fine)[1]
            guess.put(chosen, some)
        remaining = members.status[pending] == STALLED
        pending, guess = pending[remaining], guess.take(remaining)
        if pending.size == 0:
            break


def _contest(
    members: Members,
    family: PathFamily,
    pending: Array,
    guess: Guess,
    rows: Array,
    rivals: Guess,
) -> None:
    """Replace the first guesses of some members by their rivals where these have less energy."""
    first = guess.take(rows)
    energy, _ = _minimize(members, family, pending[rows], first, 0, _ROUGH[0])
    guess.put(rows, first)
    for slope, share in _CONTEST:
        reached, _ = _minimize(members, family, pending[rows], rivals, 0, slope)
        ahead = reached < share * energy
        rows, energy, rivals = rows[ahead], energy[ahead], rivals.take(ahead)
    guess.put(rows, rivals)


def _judge(
    members: Members, family: PathFamily, rows: Array, guess: Guess, level: int
) -> tuple[Array, Array]:
    """Whether paths of some members are worth finishing; whether they met a singular matrix."""
    ready, collapsed = np.empty(rows.size, dtype=bool), np.empty(rows.size, dtype=bool)
    for block in _blocks(guess):
        pick, some = rows[block], guess.take(block)
        members.crossing[pick] = family.singular_time(some, level)
        collapsed[block] = np.isfinite(members.crossing[pick])
        decayed = family.has_decayed(some, members.start[pick], members.end[pick], level)
        ready[block] = (decayed | (level == family.n_levels - 1)) & ~collapsed[block]
    return ready, collapsed


def _minimize(
    members: Members,
    family: PathFamily,
    pick: Array,
    guess: Guess,
    level: int,
    slope: float,
    rough: float = 0.0,
) -> tuple[Array, Array]:
    """Minimize the energy of some members' paths in place: energies and initial momenta.

    Paths that are not worth finishing stop at the slope ``rough``.
    """
    energy = np.empty(pick.size)
    momentum = np.empty((pick.size, *members.start.shape[1:]))
    for block in _blocks(guess):
        some = guess.take(block)
        result = _minimize_block(members, family, pick[block], some, level, slope, rough)
        guess.unknowns[block], energy[block] = result.unknowns, result.energy
        momentum[block] = result.momentum
    return energy, momentum


def _minimize_block(
    members: Members,
    family: PathFamily,
    rows: Array,
    some: Guess,
    level: int,
    slope: float,
    rough: float,
) -> Minimum:
    def worthwhile(part: Array, unknowns: Array) -> Array:
        return _judge(members, family, rows[part], Guess(unknowns, some.frames[part]), level)[0]

    path = family.path(some, members.start[rows], members.aim[rows], level)
    result = minimize(
        path,
        tolerance=slope,
        max_iterations=_MAX_ITERATIONS,
        rough=rough,
        worthwhile=worthwhile,
    )
    members.n_iterations[rows] += result.n_iterations
    members.n_evaluations[rows] += result.n_evaluations
    return result


def _blocks(guess: Guess) -> Iterator[slice]:
    """Split members into blocks whose arrays stay in cache."""
    unknowns = guess.unknowns
    step = max(1, _BLOCK * len(unknowns) // max(1, unknowns.size))
    for low in range(0, len(unknowns), step):
        yield slice(low, min(low + step, len(unknowns)))
