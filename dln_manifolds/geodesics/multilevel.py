"""Solving boundary-value problems level by level, each result verified by the flow.

What is common to the geodesics of end-to-end matrices and to those of balanced layers: paths with
few unknowns first and with more until these have decayed; a check of every initial velocity by
solving the initial-value problem; a correction of the aim by the defect of the flow's end; more
unknowns where the check fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from dln_manifolds.geodesics.fields import MovingFrame
from dln_manifolds.geodesics.integrate import CROSSED, STALLED
from dln_manifolds.geodesics.members import Members
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.newton import Minimum, Path, minimize

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
        """Return some members: views, if they are a slice."""
        return Guess(self.unknowns[members], self.frames[members])

    def put(self, members: Array, other: Guess) -> None:
        """Replace some members."""
        self.unknowns[members], self.frames[members] = other.unknowns, other.frames


class MovingPath(Path, Protocol):
    """Paths that end at given positions, with what makes them initial-value problems."""

    @property
    def frame(self) -> MovingFrame:
        """Where the paths are seen from."""

    def momentum_at_start(self) -> Array:
        """Return the initial momentum: minus the derivative of the energy by the start."""

    def rates(self) -> Array:
        """Return rates of position and momentum at Gauss nodes, seen from the frame.

        Shape ``(n_batch, n_gauss, 2, ...)``.
        """


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

    def path(self, guess: Guess, start: Array, end: Array, level: int) -> MovingPath:
        """Return paths with their energy."""

    def has_decayed(self, guess: Guess, start: Array, end: Array, level: int) -> Array:
        """Whether more unknowns would change nothing that matters, shape ``(n_batch,)``."""

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Time at which paths of least energy run into a singular matrix, infinite if not."""

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return aims moved by defects."""


def refine(members: Members, family: PathFamily, pending: Array) -> None:
    """Solve the pending members by paths of increasing resolution."""
    start, end = members.start, members.end
    guess, rows, rivals = family.initial(start[pending], end[pending])
    if rivals is not None:
        _contest(members, family, pending, guess, rows, rivals)
    for level in range(family.n_levels):
        members.aim[pending] = end[pending]
        if level > 0:
            guess = family.extend(guess, start[pending], end[pending], level)
        chosen = np.arange(pending.size)
        for correction in range(1 + _MAX_CORRECTIONS):
            pick, some = pending[chosen], guess.take(chosen)
            before = members.residual[pick]
            tried = _try(members, family, pick, some, level, judged=correction == 0)
            guess.put(chosen, some)
            after = members.residual[pick]
            again = tried & (members.status[pick] == STALLED)
            again &= after < np.minimum(_NEAR, 0.5 * before)
            chosen, pick = chosen[again], pick[again]
            if chosen.size == 0:
                break
            members.aim[pick] = family.shift(members.aim[pick], members.defect[pick])
        remaining = members.status[pending] == STALLED
        pending, guess = pending[remaining], guess.take(remaining)
        if pending.size == 0:
            break


def _try(
    members: Members, family: PathFamily, pick: Array, guess: Guess, level: int, *, judged: bool
) -> Array:
    """Minimize the energy of some members' paths and see where their momenta lead.

    Paths whose unknowns have not decayed are left alone, if that is to be ``judged``.

    Returns
    -------
    tried : ndarray of bool, shape=[n_pick]
        Whose momenta were followed.
    """
    fine = max(_FINE, _FINE_SHARE * members.tolerance)
    rough = _ROUGH[min(level, 1)] if judged else 0.0
    momentum, tried = np.empty_like(members.start[pick]), np.ones(pick.size, dtype=bool)
    confirmed = np.zeros(pick.size, dtype=bool)
    for block in _blocks(guess):
        rows, some = pick[block], guess.take(block)
        found = _find(members, family, rows, some, level, fine, rough)
        momentum[block] = found.momentum
        if judged:
            tried[block], collapsed = _judge(members, family, rows, some, level)
            members.status[rows[collapsed]] = CROSSED
        ready = np.nonzero(tried[block])[0]
        if ready.size:
            confirmed[block][ready] = members.confirm(rows[ready], *found.take(ready))
    left = tried & ~confirmed
    if left.any():
        members.verify(pick[left], momentum[left])
    return tried


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
    energy = _energies(members, family, pending[rows], first, _ROUGH[0])
    guess.put(rows, first)
    for slope, share in _CONTEST:
        reached = _energies(members, family, pending[rows], rivals, slope)
        ahead = reached < share * energy
        rows, energy, rivals = rows[ahead], energy[ahead], rivals.take(ahead)
    guess.put(rows, rivals)


def _energies(
    members: Members, family: PathFamily, pick: Array, guess: Guess, slope: float
) -> Array:
    """Minimize the energy of some members' paths on the first level, in place; return it."""
    energy = np.empty(pick.size)
    for block in _blocks(guess):
        some = guess.take(block)
        path = family.path(some, members.start[pick[block]], members.aim[pick[block]], 0)
        energy[block] = _minimize(members, pick[block], some, path, slope).energy
    return energy


def _judge(
    members: Members, family: PathFamily, rows: Array, guess: Guess, level: int
) -> tuple[Array, Array]:
    """Whether paths of some members are worth finishing; whether they met a singular matrix."""
    members.crossing[rows] = family.singular_time(guess, level)
    collapsed = np.isfinite(members.crossing[rows])
    decayed = family.has_decayed(guess, members.start[rows], members.end[rows], level)
    return (decayed | (level == family.n_levels - 1)) & ~collapsed, collapsed


class Found(NamedTuple):
    """Paths of least energy as far as the flow needs to know them.

    Attributes
    ----------
    momentum : ndarray, shape=[n_batch, ...]
        Initial momenta.
    frame : MovingFrame
        Where they are seen from.
    rates : ndarray, shape=[n_batch, n_nodes, 2, ...]
        Rates of position and momentum at Gauss nodes, seen from there.
    """

    momentum: Array
    frame: MovingFrame
    rates: Array

    def take(self, members: Array) -> tuple[Array, MovingFrame, Array]:
        """Return momenta, frame and rates of some members."""
        return self.momentum[members], self.frame.take(members), self.rates[members]


def _find(
    members: Members,
    family: PathFamily,
    rows: Array,
    some: Guess,
    level: int,
    slope: float,
    rough: float,
) -> Found:
    """Minimize the energy of some members' paths in place.

    Paths that are not worth finishing stop at the slope ``rough``.
    """
    parts, momenta, rates = [], [], []

    def worthwhile(part: Array, unknowns: Array) -> Array:
        return _judge(members, family, rows[part], Guess(unknowns, some.frames[part]), level)[0]

    def finished(part: Array, path: MovingPath, done: Array) -> None:
        parts.append(part)
        momenta.append(path.momentum_at_start()[done])
        rates.append(path.rates()[done])

    path = family.path(some, members.start[rows], members.aim[rows], level)
    _minimize(
        members, rows, some, path, slope, rough=rough, worthwhile=worthwhile, finished=finished
    )
    order = np.argsort(np.concatenate(parts))
    momentum, rate = (np.concatenate(values)[order] for values in (momenta, rates))
    return Found(momentum, path.frame, rate)


def _minimize(
    members: Members, rows: Array, some: Guess, path: MovingPath, slope: float, **options: Any
) -> Minimum:
    """Minimize the energy of some members' paths, update what was guessed, and count."""
    result = minimize(path, tolerance=slope, max_iterations=_MAX_ITERATIONS, **options)
    members.n_iterations[rows] += result.n_iterations
    members.n_evaluations[rows] += result.n_evaluations
    some.unknowns[...] = result.unknowns
    return result


def _blocks(guess: Guess) -> Iterator[slice]:
    """Split members into blocks whose arrays stay in cache."""
    unknowns = guess.unknowns
    step = max(1, _BLOCK * len(unknowns) // max(1, unknowns.size))
    for low in range(0, len(unknowns), step):
        yield slice(low, min(low + step, len(unknowns)))
