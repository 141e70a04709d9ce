"""Which of several paths between two points are worth solving: compared with few unknowns.

Energies are minimized to slopes that tell how much farther they may fall; what is longer all the
same is dropped, and noted among what has competed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dln_manifolds.geodesics.connection import Connection
from dln_manifolds.geodesics.system import Guess, MovingPath, PathFamily
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.newton import Minimum, minimize

# Slopes to which rivals and what they challenge are minimized with few unknowns; how much energies
# may then fall, at most and at least, in units of the square of the slope (0.8 to 2.2 for most, up
# to 11 on long ways). With more unknowns, the slope and the ratio that decide.
_SELECTION, _LEAST_FALL = ((0.3, 3.0), (0.1, 12.0), (1e-2, 12.0)), 0.6
_CONTEST = (3e-3, 1 - 1e-5)
# How paths from all starts are minimized: levels, slopes, energies above the least, as ratios, at
# which they go on, and at which they are the same paths. What the second lets go would not end
# within the third: energies fall by at most 12 times the square of the slope.
_ROUNDS = (0, 1e-2, 1.02, 1.0), (1, 3e-3, 1.0052, 1.0), (1, 3e-4, 1.005, 1 + 4e-6)
#: Level of the paths that are listed.
LISTED = _ROUNDS[-1][0]
# Doubles in one array of a block of members: what the second-level cache holds a few of.
_BLOCK = 3 * 2**13


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
