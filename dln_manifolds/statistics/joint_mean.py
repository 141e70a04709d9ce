"""The search for a Fréchet mean of square matrices by paths of least energy to all samples.

Newton's method on all of it is that of :mod:`dln_manifolds.statistics.joint`; here frames are
chosen in which paths turn, the shorter of two for each sample, and paths are handed on to the flow
that confirms them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics import Points
from dln_manifolds.geodesics.root_paths import LEVELS, Ends, PathState
from dln_manifolds.geometry.facing import AlignedPairs, Facing
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius
from dln_manifolds.numerics.newton import minimize
from dln_manifolds.numerics.polynomials import modal_basis
from dln_manifolds.statistics.confirmed import Departures, departures
from dln_manifolds.statistics.joint import (
    SHORT,
    Joint,
    Newton,
    Problem,
    begun,
    blocks_of,
    joined_ends,
)

# Depths and numbers of entries of all samples for which this pays.
_DEEPEST, _MOST_ENTRIES = 8, 2**15
# Slope before the frames are turned anew, where the mean has moved by more than a share of its
# size. Those before more modes are added.
_FIRST, _MOVED, _GOALS = 3e-2, 0.1, (1e-3, 1e-5, 1e-5)
# Rounds in which frames are chosen. Levels of rivals with the slope at which those too long are
# left and the slope to reach, and how much energies may then fall in units of its square; the
# shares of energies below which rivals have won, and up to which they are asked again; the share
# by which the mean must gain to take a longer one.
_ROUNDS, _SELECTION, _FALL = 8, ((0, 0.1, 1e-2), (1, 1e-2, 1e-3)), 20.0
_CONTEST, _CLOSE, _TRADED = 1 - 5e-6, 1.02, 1e-4


class Rivals(NamedTuple):
    """Samples to which another geodesic may be shorter, in frames that turn the other way."""

    rows: Array
    facing: Facing

    def take(self, place: Array) -> Rivals:
        """Return some of them."""
        return Rivals(self.rows[place], self.facing.take(place))


class Close(NamedTuple):
    """Rivals that are not much longer, by their places, with their paths and energies."""

    place: Array
    modes: Array
    energy: Array

    def take(self, members: Array) -> Close:
        """Return some of them."""
        return Close(*(value[members] for value in self))


def joint_mean(
    point: Array,
    samples: Points,
    weights: Array,
    max_iter: int,
    told: Callable[[int], object],
    tolerance: float,
) -> tuple[Departures, int] | None:
    """Return a mean of square matrices of full rank, near a first point, and the steps taken.

    The number of steps is ``told`` after each; ``tolerance`` is that of the flow which confirms the
    paths. None where others should be asked: at depths, numbers and shapes for which this is not
    made, or if it fails. Of several geodesics to a sample two compete, in frames that turn either
    way: where more may, the path is not confirmed.
    """
    frame, shape = samples.frame, samples.value.shape
    if frame.layered or not 2 <= frame.depth <= _DEEPEST or samples.value.size > _MOST_ENTRIES:
        return None
    if shape[-1] != shape[-2] or frame.values.shape[-1] < shape[-1] or len(weights) < 2:
        return None
    newton = Newton(max_iter, told)
    first = Frame.of_point(point, frame.depth)
    root = first.compose(first.roots)
    for _ in range(_ROUNDS):
        polar = Frame.of_root(root, frame.depth).polar
        problem, rivals = _posed(root, polar, frame, weights)
        joint = newton.descended(begun(problem), _FIRST)
        root = joint.mean @ polar
        if frobenius(joint.unknowns[0]) <= _MOVED * frobenius(joint.mean):
            break
    joint = newton.descended(joint, _GOALS[0]).refined()
    joint, decided = _decided(newton, joint, rivals)
    for goal in _GOALS:
        joint = newton.descended(joint, goal).refined()
    joint = newton.finished(newton.descended(joint, SHORT))
    found = Frame.of_root(joint.mean @ polar, frame.depth)
    if not (np.isfinite(joint.value) and np.linalg.det(polar) * np.linalg.det(found.polar) > 0):
        return None
    paths = [(rows, path) for (rows, _), path in zip(joint.groups, joint.paths, strict=True)]
    return departures(paths, found, polar, samples, decided, tolerance), newton.steps


def _decided(newton: Newton, joint: Joint, rivals: Rivals) -> tuple[Joint, Array]:
    """Let rivals compete until none wins; return which samples have such, and lost or won."""
    decided = np.zeros(len(joint.problem.ends), dtype=bool)
    decided[rivals.rows] = True
    for goal in _GOALS[:2]:
        for _ in range(_ROUNDS):
            if rivals.rows.size == 0:
                return joint, decided
            joint = newton.descended(joint, goal)
            close = _close(joint, rivals)
            won = close.energy < _CONTEST * joint.energies[rivals.rows[close.place]]
            if won.any():
                joint, rivals = _switched(joint, rivals, close.take(won))
                continue
            traded = _traded(newton, joint, rivals, close)
            if traded is None:
                rivals = rivals.take(close.place)
                break
            joint, rivals = traded
        else:
            return joint, np.zeros_like(decided)
    return joint, decided


def _switched(joint: Joint, rivals: Rivals, close: Close) -> tuple[Joint, Rivals]:
    """Let some rivals and the paths to their samples change places."""
    rows, facing = rivals.take(close.place)
    replaced = joint.problem.facing.take(rows)
    after = joint.switched(rows, facing, close.modes)
    return after, rivals._replace(facing=rivals.facing.put(close.place, replaced))


def _close(joint: Joint, rivals: Rivals) -> Close:
    """Return the rivals that are shorter or hardly longer."""
    place, present = np.arange(rivals.rows.size), joint.energies[rivals.rows]
    modes, energy = np.zeros((place.size, 0, *joint.problem.start.shape)), present
    for level, rough, goal in _SELECTION:
        ends = joined_ends(joint.problem, *rivals.take(place), joint.mean)
        blank = ((0, 0), (0, LEVELS[level][0] - modes.shape[1]), (0, 0), (0, 0))
        modes = np.pad(modes, blank)
        energy, least = _minimized(ends, modes, level, rough, goal, _CLOSE * present[place])
        kept = least < _CLOSE * present[place]
        place, modes, energy = place[kept], modes[kept], energy[kept]
    return Close(place, modes, energy)


def _traded(
    newton: Newton, joint: Joint, rivals: Rivals, close: Close
) -> tuple[Joint, Rivals] | None:
    """Take the rival, if any, for whose longer way the mean gains more by moving.

    If momenta at the mean differ by D, twice F falls by ``|w D|^2`` then.
    """
    if close.place.size == 0:
        return None
    rows, facing = rivals.take(close.place)
    present, ends = joint.energies[rows], joined_ends(joint.problem, rows, facing, joint.mean)
    other = PathState(ends, close.modes, modal_basis(*LEVELS[_SELECTION[-1][0]]))
    jump = joint.squared(other.momentum_at_start() - joint.momenta[rows])
    gain = 0.5 * joint.problem.weights[rows] * jump - (close.energy - present)
    best = np.array([gain.argmax()])
    if not gain[best] > _TRADED * present[best]:
        return None
    after, rivals = _switched(joint, rivals, close.take(best))
    after = newton.descended(after, _GOALS[0])
    return (after, rivals) if after.value < joint.value else None


def _minimized(
    ends: Ends, modes: Array, level: int, rough: float, goal: float, most: Array
) -> tuple[Array, Array]:
    """Minimize paths in place to a slope, unless at a rough one they are too long.

    Return their energies and what these may fall to.
    """
    energy, slope = np.empty((2, len(modes)))
    basis = modal_basis(*LEVELS[level])
    for rows in blocks_of(modes.shape[-1], len(modes), level):

        def finished(part: Array, path: PathState, done: Array, rows: Array = rows) -> None:
            modes[rows[part]] = path.unknowns[done]

        def short(part: Array, path: PathState, asked: Array, rows: Array = rows) -> Array:
            return path.energy[asked] * (1 - _FALL * rough**2) < most[rows[part]]

        path = PathState(ends.take(rows), modes[rows], basis)
        found = minimize(
            path,
            tolerance=goal,
            max_iterations=60,
            rough=rough,
            worthwhile=short,
            finished=finished,
        )
        energy[rows], slope[rows] = found.energy, found.slope
    return energy, energy * (1 - _FALL * slope**2)


def _posed(root: Array, polar: Array, frame: Frame, weights: Array) -> tuple[Problem, Rivals]:
    """Return what joins a root to those of samples in frames that turn, and other such frames."""
    n, roots = len(root), frame.compose(frame.roots)
    layout = Layout((n, n), n, frame.depth)
    bases = np.broadcast_to(np.eye(n), roots.shape)
    first = layout.position(bases, bases, bases)
    pairs = AlignedPairs(first, layout.position(bases, frame.polar @ polar.T, bases), layout)
    problem = Problem(root @ polar.T, roots @ polar.T, pairs.facing(), weights, layout)
    none = Rivals(np.empty(0, dtype=int), problem.facing.take(slice(0)))
    return problem, next((Rivals(*other) for other in pairs.rivals()), none)
