"""What is to be joined by geodesics, and the best that is known of every one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.integrate import splice
from dln_manifolds.geodesics.system import (
    Chart,
    FlowResult,
    Status,
    System,
    Trajectory,
    Unit,
    never,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import size_of

# Evaluations and products with Hessians, at nodes and in steps, of each family of paths: of
# positions with so many entries, and of more the more; then what is not solved is given up.
_MAX_WORK, _ENTRIES = 140_000, 75
# Lengths whose relative difference is less are listed as one, or do not change which is kept; and
# initial rates that are of one geodesic.
_DISTINCT, _SAME, _ALIKE = 1e-9, 1e-10, 1e-4


@dataclass(frozen=True, eq=False)
class Problem:
    """Pairs of positions of size one that geodesics are to join.

    ``target`` are the end points themselves, of the scale of the last positions: met if their
    relative residual is at most the system's goal.
    """

    system: System
    first: Unit
    last: Unit
    target: Array
    tolerance: float
    record: bool

    @property
    def inside(self) -> bool:
        """Whether a followed geodesic must be accurate at its nodes too."""
        return self.record or self.system.cautious

    def initial_state(self, pick: Array, rate: Array) -> Array:
        """Return the initial states of some members."""
        return np.stack([self.first.position[pick], rate], axis=1)[:, :, None]


class Connection:
    """The best that is known of every geodesic; nothing at first.

    ``defect`` is what the end of the flow lacks of the end position. A geodesic that could not be
    followed from a path is ``stepped`` along from then on. ``beside`` is the speed of the shortest
    way that has competed and lost, a path or a geodesic, and ``speeds`` are those of all geodesics
    that were solved, if several were sought.
    """

    def __init__(self, problem: Problem) -> None:
        n_batch = len(problem.first.position)
        self.problem, self.trajectory = problem, Trajectory()
        self.rate, self.defect = np.zeros((2, *problem.first.position.shape))
        self.end_point = np.full_like(problem.target, np.nan)
        self.residual, self.crossing = never(n_batch), never(n_batch)
        self.status = np.full(n_batch, Status.STALLED)
        self.stepped = np.zeros(n_batch, dtype=bool)
        self.n_iterations, self.n_evaluations, self.work = np.zeros((3, n_batch), dtype=int)
        self.most = int(_MAX_WORK * max(1.0, self.rate[:1].size / _ENTRIES))
        self.beside, self.speeds = never(n_batch), list[Array]()

    def unsolved(self) -> Array:
        """Return the mask of members that are not solved and have not cost too much yet."""
        return (self.status == Status.STALLED) & (self.work <= self.most)

    def counted(self, pick: Array, evaluations: Array, products: Array | int = 0) -> None:
        """Count the work for some members."""
        self.n_evaluations[pick] += evaluations
        self.work[pick] += evaluations + products

    def improve(self, pick: Array, rate: Array, result: FlowResult) -> None:
        """Keep what ends nearer the target than what is known of some members."""
        problem = self.problem
        system, reached = problem.system, result.status == Status.CONVERGED
        self.counted(pick, result.n_evaluations)
        position, target = result.state[:, 0, 0], problem.target[pick]
        end_point = system.point(system.at(position, problem.last.scale[pick]))
        sizes = size_of(np.concatenate([end_point - target, target]))
        residual = np.where(reached, sizes[: pick.size] / sizes[pick.size :], np.inf)
        end_point[~reached] = np.nan
        better = (residual < self.residual[pick]) | ~np.isfinite(self.residual[pick])
        kept = pick[better]
        self.rate[kept], self.residual[kept] = rate[better], residual[better]
        self.defect[kept] = system.gap(problem.last.position[kept], position[better])
        self.end_point[kept] = end_point[better]
        crossed = result.status == Status.CROSSED
        self.crossing[kept] = np.where(crossed, result.time, np.inf)[better]
        solved = residual <= system.goal(problem.tolerance)
        ended = np.where(solved, Status.CONVERGED, Status.STALLED)
        self.status[kept] = np.where(crossed, Status.CROSSED, ended)[better]
        if problem.record:
            self._record(kept, result.trajectory, better)

    def forget(self, pick: Array) -> None:
        """Forget what is known of some members."""
        self.residual[pick] = self.crossing[pick] = np.inf
        self.status[pick], self.stepped[pick] = Status.STALLED, False

    def _record(self, kept: Array, new: Trajectory, better: Array) -> None:
        """Replace the trajectories of some members, padding the shorter ones with their end."""
        mine = self.trajectory
        if not mine.times:
            everyone = np.arange(len(self.rate))
            mine.times.append(np.zeros(everyone.size))
            mine.states.append(self.problem.initial_state(everyone, self.rate))
        splice(mine, kept, new, better)

    def speed(self) -> Array:
        """Return the lengths of geodesics between positions of size one, infinite if unsolved."""
        solved = self.status == Status.CONVERGED
        speed = self.problem.system.speed(self.problem.first, self.rate)
        return np.where(solved, speed, np.inf)

    def compared(self, pick: Array, energy: Array, other: Array) -> None:
        """Note energies of paths of some members that have competed: the larger ones have lost."""
        np.fmin.at(self.beside, pick, np.sqrt(2 * np.maximum(energy, other)))

    def challenge(self, rival: Connection) -> None:
        """Take over the shorter geodesics of another search for the same."""
        mine, other = self.speed(), rival.speed()
        self.speeds = [*(self.speeds or [mine]), other]
        apart = size_of(self.rate - rival.rate) > _ALIKE * size_of(self.rate)
        self.beside = np.fmin(self.beside, np.where(apart, np.maximum(mine, other), np.inf))
        won = np.flatnonzero(other < mine * (1 - _SAME))
        for name in ("rate", "defect", "end_point", "residual", "crossing", "status"):
            getattr(self, name)[won] = getattr(rival, name)[won]
        self.n_iterations += rival.n_iterations
        self.n_evaluations += rival.n_evaluations
        if self.problem.record and won.size:
            self._record(won, rival.trajectory, won)

    def rivals(self) -> Array | None:
        """Return the different speeds of all that solved, sorted, ``(n_batch, k)``."""
        if not self.speeds:
            return None
        speeds = np.sort(np.stack(self.speeds, axis=1), axis=1)
        near = speeds[:, 1:] <= speeds[:, :-1] * (1 + _DISTINCT)
        speeds[:, 1:][near] = np.inf
        speeds = np.sort(speeds, axis=1)
        kept = max(1, int(np.isfinite(speeds).sum(axis=1).max(initial=0)))
        return np.asarray(speeds[:, :kept])


class Found(NamedTuple):
    """Paths of least energy as far as the flow needs to know them.

    ``members`` are those worth following, by their indices among all, ``rate`` their initial rates
    and ``rates`` those at Gauss nodes, in a ``chart`` of the system; ``crossing`` is when paths of
    all meet a singular matrix.
    """

    chart: Chart
    members: Array
    rate: Array
    rates: Array
    crossing: Array
