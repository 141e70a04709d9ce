"""Boundary-value problems, solved level by level, each result verified by the flow.

Paths with few unknowns first and with more until these have decayed; a check of every initial rate
by solving the initial-value problem, in one collocation step that starts from the path or else in
steps; a correction of the aim by the defect of the flow's end; more unknowns where the check fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.collocation import Followed, follow, nodes_needed
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geodesics.system import (
    FlowResult,
    Guess,
    MovingFrame,
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
from dln_manifolds.numerics.polynomials import gauss

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
# Nodes of the step that follows a geodesic, as shares of the nodes of its path and two more: few
# sizes, so that members are followed together, and never the same nodes.
_NODES = (1.0, 1.5, 2.0)


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
    followed from a path is ``stepped`` along from then on.
    """

    def __init__(self, problem: Problem) -> None:
        n_batch = len(problem.first.position)
        self.problem, self.trajectory = problem, Trajectory()
        self.rate, self.defect = np.zeros((2, *problem.first.position.shape))
        self.end_point = np.full_like(problem.target, np.nan)
        self.residual, self.crossing = never(n_batch), never(n_batch)
        self.status = np.full(n_batch, Status.STALLED)
        self.stepped = np.zeros(n_batch, dtype=bool)
        self.n_iterations, self.n_evaluations = np.zeros((2, n_batch), dtype=int)

    def improve(self, pick: Array, rate: Array, result: FlowResult) -> None:
        """Keep what ends nearer the target than what is known of some members."""
        problem = self.problem
        system, reached = problem.system, result.status == Status.CONVERGED
        self.n_evaluations[pick] += result.n_evaluations
        position, target = result.state[:, 0, 0], problem.target[pick]
        end_point = system.point(system.at(position, problem.last.scale[pick]))
        sizes = size_of(np.concatenate([end_point - target, target]))
        residual = np.where(reached, sizes[: pick.size] / sizes[pick.size :], np.inf)
        end_point[~reached] = np.nan
        better = (residual < self.residual[pick]) | ~np.isfinite(self.residual[pick])
        kept = pick[better]
        self.rate[kept], self.residual[kept] = rate[better], residual[better]
        self.defect[kept] = (problem.last.position[pick] - position)[better]
        self.end_point[kept] = end_point[better]
        crossed = result.status == Status.CROSSED
        self.crossing[kept] = np.where(crossed, result.time, np.inf)[better]
        solved = residual <= system.goal(problem.tolerance)
        ended = np.where(solved, Status.CONVERGED, Status.STALLED)
        self.status[kept] = np.where(crossed, Status.CROSSED, ended)[better]
        if problem.record:
            self._record(kept, result.trajectory, better)

    def _record(self, kept: Array, new: Trajectory, better: Array) -> None:
        """Replace the trajectories of some members, padding the shorter ones with their end."""
        mine = self.trajectory
        if not mine.times:
            everyone = np.arange(len(self.rate))
            mine.times.append(np.zeros(everyone.size))
            mine.states.append(self.problem.initial_state(everyone, self.rate))
        for k in range(max(len(mine.times), len(new.times))):
            if k >= len(mine.times):
                mine.times.append(mine.times[-1].copy())
                mine.states.append(mine.states[-1].copy())
            last = min(k, len(new.times) - 1)
            mine.times[k][kept] = new.times[last][better]
            mine.states[k][kept] = new.states[last][better]


def connect(
    system: System, first: Unit, last: Unit, target: Array, *, tolerance: float, record: bool
) -> Connection:
    """Find geodesics between positions of size one, by a closed form or by paths, and verify them.

    ``target`` are the end points, of the scale of ``last``.
    """
    problem = Problem(system, first, last, target, tolerance, record)
    best = Connection(problem)
    rate, known = system.closed_form(first, last)
    pick = np.nonzero(known)[0]
    if pick.size:
        _step_along(best, pick, rate[pick])
    pending = np.nonzero(best.status == Status.STALLED)[0]
    if pending.size:
        everyone = pending.size == len(rate)
        ends = (first, last) if everyone else (first.take(pending), last.take(pending))
        _Levels(system.paths(*ends, tolerance), best).solve(pending)
    return best


def _step_along(best: Connection, pick: Array, rate: Array) -> None:
    """Follow the flow from the given initial rates in steps."""
    problem = best.problem
    state, span = problem.initial_state(pick, rate), np.ones(pick.size)
    result = flow(problem.system, state, span, tolerance=problem.tolerance, record=problem.record)
    best.improve(pick, rate, result)


class Found(NamedTuple):
    """Paths of least energy as far as the flow needs to know them.

    ``rate`` is the initial rate, ``rates`` those at Gauss nodes as seen from the frame.
    """

    rate: Array
    frame: MovingFrame
    rates: Array

    def take(self, members: Array) -> Found:
        """Return some members."""
        return Found(self.rate[members], self.frame.take(members), self.rates[members])


def _follow(best: Connection, pick: Array, found: Found) -> Array:
    """Follow geodesics of some members in one step from their paths; return which could be."""
    problem, (rate, frame, rates) = best.problem, found
    state, system, tolerance = problem.initial_state(pick, rate), problem.system, problem.tolerance
    inside = problem.inside
    needed = nodes_needed(state, rates, tolerance, inside=inside)
    needed[best.stepped[pick]] = np.inf
    solved = np.zeros(pick.size, dtype=bool)
    fewer, left = 0.0, pick.size
    for share in _NODES:
        n_nodes = int(share * rates.shape[1]) + 2
        rows = np.nonzero((fewer < needed) & (needed <= n_nodes))[0]
        fewer, left = n_nodes, left - rows.size
        if rows.size:
            there, some = frame.take(rows), state[rows]
            given = rates[rows]
            followed = follow(system, there, some, given, n_nodes, tolerance, inside=inside)
            astray = ~followed.solved
            best.stepped[pick[rows]] = astray
            best.n_evaluations[pick[rows[astray]]] += followed.n_evaluations[astray]
            done = rows[followed.solved]
            if done.size:
                solved[done] = True
                result = flow_of(system, there, some, followed, problem.record)
                best.improve(pick[done], rate[done], result)
        if left == 0:
            break
    return solved


def flow_of(
    system: System, frame: MovingFrame, state: Array, followed: Followed, record: bool
) -> FlowResult:
    """Return what was followed, of the members that are solved, as a flow in one step."""
    solved = followed.solved
    state, frame, states = state[solved], frame.take(solved), followed.states[solved]
    n_batch, n_knots = states.shape[:2]
    ones, trajectory = np.ones(n_batch), Trajectory()
    end = system.project(frame.leave(ones, states[:, -1])[0])
    if record:
        times = gauss(n_knots - 1).nodes
        members = np.repeat(np.arange(n_batch), times.size)
        inner = states[:, :-1].reshape(-1, *state.shape[1:])
        inner = system.project(frame.take(members).leave(np.tile(times, n_batch), inner)[0])
        inner = np.moveaxis(inner.reshape(n_batch, times.size, *state.shape[1:]), 1, 0)
        trajectory.times.extend([0 * ones, *times[:, None] * ones, ones])
        trajectory.states.extend([state, *inner, end])
    status, n_steps = np.full(n_batch, Status.CONVERGED), np.ones(n_batch, dtype=int)
    return FlowResult(end, ones, status, n_steps, followed.n_evaluations[solved], trajectory)


class _Levels:
    """The search for geodesics in a family of paths, from coarse to fine."""

    def __init__(self, family: PathFamily, best: Connection) -> None:
        self.family, self.best, problem = family, best, best.problem
        self.start, self.end = problem.first.position, problem.last.position
        self.fine = max(_FINE, _FINE_SHARE * problem.tolerance)

    def solve(self, pending: Array) -> None:
        """Solve the pending members by paths of increasing resolution."""
        start, end, best = self.start, self.end, self.best
        guess, rows, rivals = self.family.initial(start[pending], end[pending])
        if rivals is not None:
            self._contest(pending, guess, rows, rivals)
        for level in range(self.family.n_levels):
            if level > 0:
                guess = self.family.extend(guess, start[pending], end[pending], level)
            aim, chosen = end[pending], np.arange(pending.size)
            for correction in range(1 + _MAX_CORRECTIONS):
                pick, some = pending[chosen], guess.take(chosen)
                before = best.residual[pick]
                tried = self._try(pick, some, aim[chosen], level, judged=correction == 0)
                guess.put(chosen, some)
                again = tried & (best.status[pick] == Status.STALLED)
                again &= best.residual[pick] < np.minimum(_NEAR, 0.5 * before)
                chosen, pick = chosen[again], pick[again]
                if chosen.size == 0:
                    break
                aim[chosen] = self.family.shift(aim[chosen], best.defect[pick])
            remaining = best.status[pending] == Status.STALLED
            pending, guess = pending[remaining], guess.take(remaining)
            if pending.size == 0:
                break

    def _try(self, pick: Array, guess: Guess, aim: Array, level: int, *, judged: bool) -> Array:
        """Minimize the energy of some members' paths and see where their rates lead.

        Paths whose unknowns have not decayed are left alone, if that is to be ``judged``. Returns
        the mask of those whose rates were followed.
        """
        rough = _ROUGH[min(level, 1)] if judged else 0.0
        rate, tried = np.empty_like(aim), np.ones(pick.size, dtype=bool)
        followed = np.zeros(pick.size, dtype=bool)
        for block in _blocks(guess):
            rows, some = pick[block], guess.take(block)
            found = self._find(rows, some, aim[block], level, rough)
            rate[block] = found.rate
            if judged:
                tried[block], crossing = self._judge(rows, some, level)
                collapsed = rows[np.isfinite(crossing)]
                self.best.status[collapsed] = Status.CROSSED
                self.best.crossing[rows] = crossing
            ready = np.nonzero(tried[block])[0]
            if ready.size:
                followed[block][ready] = _follow(self.best, rows[ready], found.take(ready))
        left = tried & ~followed
        if left.any():
            _step_along(self.best, pick[left], rate[left])
        return tried

    def _contest(self, pending: Array, guess: Guess, rows: Array, rivals: Guess) -> None:
        """Replace first guesses of some members by their rivals where these have less energy."""
        first = guess.take(rows)
        energy = self._energies(pending[rows], first, _ROUGH[0])
        guess.put(rows, first)
        for slope, share in _CONTEST:
            reached = self._energies(pending[rows], rivals, slope)
            ahead = reached < share * energy
            rows, energy, rivals = rows[ahead], energy[ahead], rivals.take(ahead)
        guess.put(rows, rivals)

    def _energies(self, pick: Array, guess: Guess, slope: float) -> Array:
        """Minimize the energy of some members' paths on the first level, in place; return it."""
        energy = np.empty(pick.size)
        for block in _blocks(guess):
            some, rows = guess.take(block), pick[block]
            path = self.family.path(some, self.start[rows], self.end[rows], 0)
            result = minimize(path, tolerance=slope, max_iterations=_MAX_ITERATIONS)
            energy[block] = self._counted(rows, some, result).energy
        return energy

    def _judge(self, rows: Array, guess: Guess, level: int) -> tuple[Array, Array]:
        """Whether paths of some members are worth finishing; when they meet a singular matrix."""
        crossing = self.family.singular_time(guess, level)
        ends = self.start[rows], self.end[rows]
        decayed = self.family.has_decayed(guess, *ends, level)
        last = level == self.family.n_levels - 1
        return (decayed | last) & ~np.isfinite(crossing), crossing

    def _find(self, rows: Array, some: Guess, aim: Array, level: int, rough: float) -> Found:
        """Minimize the energy of some members' paths in place.

        Paths that are not worth finishing stop at the slope ``rough``.
        """
        parts, at_start, rates = [], [], []

        def worthwhile(part: Array, unknowns: Array) -> Array:
            return self._judge(rows[part], Guess(unknowns, some.frames[part]), level)[0]

        def finished(part: Array, path: MovingPath, done: Array) -> None:
            parts.append(part)
            at_start.append(path.rate_at_start()[done])
            rates.append(path.rates()[done])

        path = self.family.path(some, self.start[rows], aim, level)
        result = minimize(
            path,
            tolerance=self.fine,
            max_iterations=_MAX_ITERATIONS,
            rough=rough,
            worthwhile=worthwhile,
            finished=finished,
        )
        self._counted(rows, some, result)
        order = np.argsort(np.concatenate(parts))
        rate, all_rates = (np.concatenate(values)[order] for values in (at_start, rates))
        return Found(rate, path.frame, all_rates)

    def _counted(self, rows: Array, some: Guess, result: Minimum) -> Minimum:
        """Count the work of minimizing some members' paths, and update what was guessed."""
        self.best.n_iterations[rows] += result.n_iterations
        self.best.n_evaluations[rows] += result.n_evaluations
        some.unknowns[...] = result.unknowns
        return result


def _blocks(guess: Guess) -> Iterator[slice]:
    """Split members into blocks whose arrays stay in cache."""
    unknowns = guess.unknowns
    step = max(1, _BLOCK * len(unknowns) // max(1, unknowns.size))
    for low in range(0, len(unknowns), step):
        yield slice(low, min(low + step, len(unknowns)))
