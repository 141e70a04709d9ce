"""Boundary-value problems, solved level by level, each result verified by the flow.

Paths with few unknowns first and with more until these have decayed; a check of every initial rate
by solving the initial-value problem, in one collocation step that starts from the path or else in
steps; a correction of the aim by the defect of the flow's end; more unknowns where the check fails.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.collocation import flow_of, follow, nodes_needed
from dln_manifolds.geodesics.connection import (
    LISTED,
    Connection,
    Contest,
    Found,
    Problem,
    blocks,
)
from dln_manifolds.geodesics.integrate import flow_in_charts
from dln_manifolds.geodesics.system import (
    Guess,
    MovingPath,
    PathFamily,
    Status,
    System,
    Unit,
    never,
)
from dln_manifolds.geometry.facing import Earlier
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.newton import minimize

# Slopes at which the decay of the unknowns is judged, on the first and on later levels, and at
# which they are final: the latter at least this many times the tolerance of the flow.
_ROUGH, _FINE, _FINE_SHARE = (1e-3, 1e-5), 3e-12, 30.0
# Slope above which a path is no geodesic, and its initial rate leads anywhere; steps, one after the
# other, after which a geodesic is given up.
_STATIONARY, _MAX_STEPS = 1e-4, 400
# Number of starts, the likeliest first, unless all are asked for; and how much more than one search
# the searches from all of them may cost together.
_LIKELY, _STEEP, _THOROUGH = 20, 3, 10
# A solution this near is corrected at its level before more unknowns are tried.
_NEAR, _MAX_CORRECTIONS = 1e-2, 4
# Nodes of the step that follows a geodesic, as shares of the nodes of its path and two more: few
# sizes, so that members are followed together, and never the same nodes.
_NODES = (1.0, 1.5, 2.0, 3.0)
# What the numbers of nodes that are needed are told short of, from few nodes.
_MARGIN = 1.1
# Levels at which what bends as an earlier path is solved; one, and more than rounding of energies.
_RESUMED, _NO_MORE = range(1, 3), 1 + 1e-9


def connect(
    system: System,
    first: Unit,
    last: Unit,
    target: Array,
    *,
    tolerance: float,
    record: bool,
    thorough: bool = False,
    earlier: Earlier | None = None,
) -> Connection:
    """Find geodesics between positions of size one, by a closed form or by paths, and verify them.

    ``target`` are the end points, of the scale of ``last``. A ``thorough`` search solves from every
    start that a family has, and keeps the shortest. Members with ``earlier`` geodesics begin there,
    and anew where that does not lead to the end.
    """
    problem = Problem(system, first, last, target, tolerance, record)
    best = Connection(problem)
    rate, known = system.closed_form(first, last)
    pick = np.nonzero(known)[0]
    if pick.size:
        _step_along(best, pick, rate[pick])
    for numbers in system.families(first, last):
        best.work[:] = 0
        pending = np.nonzero(best.unsolved())[0]
        for number in np.unique(numbers[pending]):
            members = pending[numbers[pending] == number]
            ends = first.take(members), last.take(members)
            _Levels(system.paths(int(number), *ends, tolerance), best, members).solve(earlier)
        earlier = None
    steep = system.steep(first, last) | thorough
    if steep.any() and not system.straight:
        _search(best, steep, thorough)
    return best


def _search(best: Connection, asked: Array, thorough: bool) -> None:
    """Solve some members from all starts of the first family; keep the shortest.

    Unless the search is ``thorough``, only from those that rough paths do not tell to be longer.
    """
    problem = best.problem
    system = problem.system
    numbers = system.families(problem.first, problem.last)[0]
    for number in np.unique(numbers[asked]):
        members = np.flatnonzero(asked & (numbers == number))
        some = problem.first.take(members), problem.last.take(members)
        family = system.paths(int(number), *some, problem.tolerance)
        best.work[:], work = 0, np.zeros_like(best.work)
        starts = [family.initial(), *(guess for _, guess in family.rivals(thorough=True))]
        chosen, first = [(np.arange(members.size), guess) for guess in starts], 0
        if not thorough:
            known = 0.5 * best.speed()[members] ** 2
            # What is solved began with the first.
            others = starts[int(np.isfinite(known).all()) : _LIKELY]
            chosen = _Levels(family, best, members).shortlist(others, known) if others else []
            first = LISTED
        for rows, guess in chosen:
            rival = Connection(problem)
            rival.work, rival.most = work, rival.most * (_THOROUGH if thorough else _STEEP)
            levels = range(first, family.n_levels)
            _Levels(family, best, members).challenge(rows, guess, rival, levels)


def _step_along(best: Connection, pick: Array, rate: Array) -> None:
    """Follow the flow from the given initial rates in steps."""
    problem, state = best.problem, best.problem.initial_state(pick, rate)
    kept = problem.tolerance, problem.record, _MAX_STEPS
    for rows, result in flow_in_charts(problem.system, state, *kept):
        best.improve(pick[rows], rate[rows], result)
        # Of one member after the other, evaluations cost three times as much.
        best.work[pick[rows]] += 2 * result.n_evaluations


def _follow(best: Connection, pick: Array, found: Found) -> Array:
    """Follow geodesics of some members in one step from their paths; return which could be."""
    problem, rate, rates = best.problem, found.rate, found.rates
    system, inside, tolerance = found.chart, problem.inside, problem.tolerance
    state = system.entered(problem.initial_state(pick, rate))
    needed = _MARGIN * nodes_needed(state, rates, tolerance, inside=inside)
    needed[best.stepped[pick]] = np.inf
    solved = np.zeros(pick.size, dtype=bool)
    fewer, left = 0.0, pick.size
    for share in _NODES:
        n_nodes = int(share * rates.shape[1]) + 2
        rows = np.nonzero((fewer < needed) & (needed <= n_nodes))[0]
        fewer, left = n_nodes, left - rows.size
        if rows.size:
            some, given = state[rows], rates[rows]
            followed = follow(system, some, given, n_nodes, tolerance, inside=inside)
            astray = ~followed.solved
            best.stepped[pick[rows]] = astray
            best.counted(pick[rows[astray]], followed.n_evaluations[astray])
            done = rows[followed.solved]
            if done.size:
                solved[done] = True
                result = system.left(flow_of(system, some, followed, problem.record))
                best.improve(pick[done], rate[done], result)
        if left == 0:
            break
    return solved


class _Levels(Contest):
    """The search for geodesics of some members in a family of paths, from coarse to fine."""

    def __init__(self, family: PathFamily, best: Connection, members: Array) -> None:
        super().__init__(family, best, members)
        self.fine = min(max(_FINE, _FINE_SHARE * best.problem.tolerance), _STATIONARY)
        self.fine *= family.slope_share

    def solve(self, earlier: Earlier | None = None) -> None:
        """Solve all members by paths of increasing resolution, some from ``earlier`` ones."""
        guess, pending = self.family.initial(), np.arange(self.members.size)
        bent, paths = self._resumed(earlier, guess)
        first, left = guess.take(bent), list[tuple[Array, Guess]]()
        guess.put(bent, _coarse(paths, guess))
        for rows, rival in self.family.rivals():
            left.append(self.selected(guess, rows, rival))
            if not self.best.problem.system.cautious:
                self.decide(guess, *left.pop())
        if bent.size:
            # Where a rival has won, frames are its own.
            pairs = zip(guess.take(bent).frames, paths.frames, strict=True)
            mine = np.all([(x == y).reshape(bent.size, -1).all(1) for x, y in pairs], axis=0)
            self.descend(bent[mine], paths.take(mine), _RESUMED)
            failed = self.best.status[self.members[bent]] != Status.CONVERGED
            self.best.forget(self.members[bent[failed]])
            guess.put(bent[mine & failed], first.take(mine & failed))
            pending = np.setdiff1d(pending, bent[~failed])
            guess = guess.take(pending)
        self.descend(pending, guess)
        for rows, rival in left:
            self.challenge(rows, rival, Connection(self.best.problem))

    def challenge(
        self, rows: Array, guess: Guess, rival: Connection, levels: range | None = None
    ) -> None:
        """Solve some members from another start too, and keep what is shorter."""
        _Levels(self.family, rival, self.members).descend(rows, guess, levels)
        self.best.challenge(rival)

    def _resumed(self, earlier: Earlier | None, guess: Guess) -> tuple[Array, Guess]:
        """Return members whose paths have less energy if they bend as earlier ones did, and these.

        Where ends are near the earlier ones and frames the same, they have.
        """
        none = np.empty(0, dtype=int)
        if earlier is None:
            return none, guess.take(none)
        _, rows, places = np.intersect1d(self.members, earlier.members, return_indices=True)
        found = self.best.problem.system.resumed(self.family, earlier.take(places), rows)
        if found is None:
            return none, guess.take(none)
        rows, paths = found
        both = _coarse(paths, guess), guess.take(rows)
        bent, straight = (self.minimized(rows, some, 0, np.inf)[0] for some in both)
        less = bent <= _NO_MORE * straight
        return rows[less], paths.take(less)

    def descend(self, pending: Array, guess: Guess, levels: range | None = None) -> None:
        """Solve members, by their indices in the family, level by level: all levels, or some."""
        best, levels = self.best, levels or range(self.family.n_levels)
        for level in levels:
            if pending.size == 0:
                break
            if level > levels[0]:
                guess = self.family.extend(guess, pending, level)
            aim, chosen = self.end[pending], np.arange(pending.size)
            for correction in range(1 + _MAX_CORRECTIONS):
                rows, some = pending[chosen], guess.take(chosen)
                pick = self.members[rows]
                before = best.residual[pick]
                tried = self._try(rows, some, aim[chosen], level, judged=correction == 0)
                guess.put(chosen, some)
                again = tried & best.unsolved()[pick]
                again &= best.residual[pick] < np.minimum(_NEAR, 0.5 * before)
                chosen, pick = chosen[again], pick[again]
                if chosen.size == 0:
                    break
                aim[chosen] = self.family.shift(aim[chosen], best.defect[pick])
            remaining = best.unsolved()[self.members[pending]]
            pending, guess = pending[remaining], guess.take(remaining)

    def _try(self, rows: Array, guess: Guess, aim: Array, level: int, *, judged: bool) -> Array:
        """Minimize the energy of some members' paths and see where their rates lead.

        Paths whose unknowns have not decayed are left alone, if that is to be ``judged``. Returns
        the mask of those whose rates were followed.
        """
        rough = _ROUGH[min(level, 1)] if judged else 0.0
        rate, tried = np.empty_like(aim), np.zeros(rows.size, dtype=bool)
        followed, pick = np.zeros(rows.size, dtype=bool), self.members[rows]
        for block in blocks(guess):
            found = self._find(rows[block], guess.take(block), aim[block], level, rough)
            if judged:
                self.best.status[pick[block][np.isfinite(found.crossing)]] = Status.CROSSED
                self.best.crossing[pick[block]] = found.crossing
            ready = block.start + found.members
            tried[ready], rate[ready] = True, found.rate
            if ready.size:
                followed[ready] = _follow(self.best, pick[ready], found)
        left = tried & ~followed
        if left.any():
            _step_along(self.best, pick[left], rate[left])
        return tried

    def _judge(self, rows: Array, guess: Guess, level: int) -> tuple[Array, Array]:
        """Whether paths of some members are worth finishing; when they meet a singular matrix."""
        crossing = self.family.singular_time(guess, level)
        decayed = self.family.has_decayed(guess, rows, level)
        last = level == self.family.n_levels - 1
        return (decayed | last) & ~np.isfinite(crossing), crossing

    def _find(self, rows: Array, some: Guess, aim: Array, level: int, rough: float) -> Found:
        """Minimize the energy of some members' paths in place.

        Paths that are not worth finishing stop at the slope ``rough``, if that is positive.
        """
        parts, at_start, rates, crossing = [], [], [], never(len(rows))
        chart = self.family.chart or self.best.problem.system

        def worthwhile(part: Array, path: MovingPath, asked: Array) -> Array:
            return self._judge(rows[part], path.guess(asked), level)[0]

        def finished(part: Array, path: MovingPath, done: Array) -> None:
            ended = path if done.all() else path.take(done)
            guess = ended.guess(np.ones(part.size, dtype=bool))
            some.put(part, guess)
            worth = np.isfinite(ended.energy)
            if rough > 0:
                judged, crossing[part] = self._judge(rows[part], guess, level)
                worth &= judged
            if worth.any():
                ended = ended if worth.all() else ended.take(worth)
                parts.append(part[worth])
                at_start.append(ended.rate_at_start())
                rates.append(ended.rates())

        result = minimize(
            self.family.path(some, rows, aim, level),
            tolerance=self.fine,
            rough=rough,
            most=self.left(rows),
            worthwhile=worthwhile,
            finished=finished,
        )
        self.counted(rows, result)
        if not parts:
            return Found(chart, np.empty(0, dtype=int), aim[:0], aim[:0], crossing)
        members = np.concatenate(parts)
        order = np.argsort(members)
        order = order[result.slope[members[order]] <= _STATIONARY]
        rate, along = (np.concatenate(values)[order] for values in (at_start, rates))
        return Found(chart, members[order], rate, along, crossing)


def _coarse(finer: Guess, like: Guess) -> Guess:
    """Return paths with as few unknowns as others."""
    return Guess(finer.unknowns[:, : like.unknowns.shape[1]].copy(), finer.frames)
