"""What is to be joined by geodesics, the best that is known of each, and contests between paths.

A contest tells with few unknowns which of several paths are worth solving: energies are minimized
to slopes that say how much farther they may fall. What is longer all the same is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.integrate import splice
from dln_manifolds.geodesics.system import (
    Chart,
    FlowResult,
    Guess,
    MovingPath,
    PathFamily,
    Status,
    System,
    Trajectory,
    Unit,
    never,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import size_of
from dln_manifolds.numerics.newton import Minimum, minimize

# Evaluations and products with Hessians, at nodes and in steps, of each family of paths: of
# positions with so many entries, and of more the more; then what is not solved is given up.
_MAX_WORK, _ENTRIES = 140_000, 75
# Lengths whose relative difference is less do not change which is kept. Initial rates whose
# difference is less, relative to them or to what is short, are of one geodesic.
_SAME, _ALIKE, _SHORT = 1e-10, 1e-4, 1e-2
# Slopes to which rivals and what they challenge are minimized with few unknowns; how much energies
# may then fall, at most and at least, in units of the square of the slope (0.8 to 2.2 for most, up
# to 11 on long ways). With more unknowns, the slope and the ratio that decide.
_SELECTION, _LEAST_FALL = ((0.3, 3.0), (0.1, 12.0), (1e-2, 12.0)), 0.6
_CONTEST = (3e-3, 1 - 1e-5)
# How paths from all starts are minimized: levels, slopes, energies above the least, as ratios, at
# which they go on, and at which they are the same paths. What a round lets go would not end within
# the last: energies fall by the shares above, and by at most 2 % more with more unknowns.
_ROUNDS = (
    *((0, slope, 1.02 / (1 - fall * slope**2), 1.0) for slope, fall in _SELECTION[:2]),
    (0, 1e-2, 1.02, 1.0),
    (1, 3e-3, 1.0052, 1.0),
    (1, 3e-4, 1.005, 1 + 4e-6),
)
#: Level of the paths that are listed.
LISTED = _ROUNDS[-1][0]
# Doubles in one array of a block of members: what the second-level cache holds a few of.
_BLOCK = 3 * 2**13


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

    def counted(self, pick: Array, evaluations: Array) -> None:
        """Count evaluations for some members."""
        self.n_evaluations[pick] += evaluations
        self.work[pick] += evaluations

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
        apart = size_of(self.rate - rival.rate) > _ALIKE * np.maximum(size_of(self.rate), _SHORT)
        self.beside = np.fmin(self.beside, np.where(apart, np.maximum(mine, other), np.inf))
        won = np.flatnonzero(other < mine * (1 - _SAME))
        for name in ("rate", "defect", "end_point", "residual", "crossing", "status"):
            getattr(self, name)[won] = getattr(rival, name)[won]
        self.n_iterations += rival.n_iterations
        self.n_evaluations += rival.n_evaluations
        if self.problem.record and won.size:
            self._record(won, rival.trajectory, won)


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


class Contest:
    """Paths of some members in a family, with what is known of their geodesics."""

    def __init__(self, family: PathFamily, best: Connection, members: Array) -> None:
        self.family, self.best, self.members = family, best, members
        self.end = best.problem.last.position[members]

    def shortlist(self, starts: list[Guess], known: Array) -> list[tuple[Array, Guess]]:
        """Return different paths of the second level of hardly more than the least energy.

        Each of some members, by their indices; ``starts`` are of all members each. Paths of the
        energies that are ``known``, infinite where none is, are not listed again.
        """
        shape = len(starts), self.members.size
        near, guess, level = np.arange(shape[0] * shape[1]), Guess.joined(starts), 0
        for level_now, slope, within, alike in _ROUNDS:
            rows = near % shape[1]
            if level_now > level:
                guess, level = self.family.extend(guess, rows, level_now), level_now
            energy = np.full(shape[0] * shape[1], np.inf)
            energy[near] = self.minimized(rows, guess, level, slope)[0]
            table = np.concatenate([known[None], energy.reshape(shape)])
            order = np.argsort(table, axis=0)
            table = np.take_along_axis(table, order, axis=0)
            far = energy[near] > within * table[0][rows]
            lost = rows[far]
            self.best.compared(self.members[lost], table[0][lost], energy[near][far])
            kept = np.isfinite(table) & (table <= within * table[0]) & (order > 0)
            kept[1:] &= table[1:] > alike * table[:-1]
            places = np.where(kept, (order - 1) * shape[1] + np.arange(shape[1]), -1)
            some = np.isin(near, places)
            near, guess = near[some], guess.take(some)
        listed = (place[place >= 0] for place in places)
        return [
            (some % shape[1], guess.take(np.searchsorted(near, some)))
            for some in listed
            if some.size
        ]

    def selected(self, guess: Guess, rows: Array, rival: Guess) -> tuple[Array, Guess]:
        """Return the rivals of some members' paths that few unknowns do not tell to be longer.

        Those that they tell to be shorter replace the paths; not where the flow alone can tell
        whether paths meet a singular matrix.
        """
        replace = not self.best.problem.system.cautious
        for chosen in _SELECTION:
            if rows.size == 0:
                break
            some = guess.take(rows)
            mine, most, least = self._bracket(rows, some, *chosen)
            other, most_of_rival, least_of_rival = self._bracket(rows, rival, *chosen)
            won = (most_of_rival < least) & replace
            some.put(won, rival.take(won))
            guess.put(rows, some)
            close = ~won & (least_of_rival < most)
            self.best.compared(self.members[rows[~close]], mine[~close], other[~close])
            rows, rival = rows[close], rival.take(close)
        return rows, rival

    def decide(self, guess: Guess, rows: Array, rival: Guess) -> None:
        """Replace paths of some members by their rivals where these have less energy."""
        finer = [self.family.extend(some, rows, 1) for some in (guess.take(rows), rival)]
        energies = [self.minimized(rows, some, 1, _CONTEST[0])[0] for some in finer]
        ahead = energies[1] < _CONTEST[1] * energies[0]
        self.best.compared(self.members[rows], *energies)
        guess.put(rows[ahead], rival.take(ahead))

    def _bracket(self, rows: Array, guess: Guess, slope: float, fall: float) -> list[Array]:
        """Minimize some members' paths, in place, to a slope; return and bound their energies."""
        energy, reached = self.minimized(rows, guess, 0, slope)
        return [energy * (1 - share * reached**2) for share in (0.0, _LEAST_FALL, fall)]

    def minimized(self, rows: Array, guess: Guess, level: int, slope: float) -> Array:
        """Minimize some members' paths, in place, to a slope; return energies and slopes."""
        found = np.empty((2, rows.size))
        for block in blocks(guess):
            some = guess.take(block)
            path = self.family.path(some, rows[block], self.end[rows[block]], level)

            def finished(part: Array, path: MovingPath, done: Array, some: Guess = some) -> None:
                some.put(part, path.guess(done))

            most = self.left(rows[block])
            result = minimize(path, tolerance=slope, most=most, finished=finished)
            self.counted(rows[block], result)
            found[:, block] = result.energy, result.slope
        return found

    def counted(self, rows: Array, result: Minimum) -> None:
        """Count the work of minimizing some members' paths."""
        pick = self.members[rows]
        np.add.at(self.best.n_iterations, pick, result.n_iterations)
        np.add.at(self.best.n_evaluations, pick, result.n_evaluations)
        np.add.at(self.best.work, pick, result.n_evaluations + result.n_products)

    def left(self, rows: Array) -> Array:
        """Return how much work for some members is left."""
        return self.best.most - self.best.work[self.members[rows]]


def blocks(guess: Guess) -> Iterator[slice]:
    """Split members into blocks whose arrays stay in cache."""
    unknowns = guess.unknowns
    step = max(1, _BLOCK * len(unknowns) // max(1, unknowns.size))
    for low in range(0, len(unknowns), step):
        yield slice(low, min(low + step, len(unknowns)))
