r"""Fréchet means by Newton's method on the mean and the paths to all samples together.

In the root chart paths from ``T_0 + delta`` to the samples are those of
:mod:`dln_manifolds.geodesics.root_paths` with one more mode ``1 - t``, whose coefficient delta they
share, and

.. math::
    F(\delta, c_1, c_2, \dots) = \sum_k w_k E_k(\delta, c_k)

is half the mean squared distance where it is least. Conjugate gradients with the cometric at the
nodes, and for delta that at the mean, which are the inverse of the Hessian where space is flat.
(Ours.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.root_paths import LEVELS, Ends, PathState, apply_nodal_cometric
from dln_manifolds.geometry.facing import Facing
from dln_manifolds.geometry.graph_chart import SquarePoints
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, transpose
from dln_manifolds.numerics.polynomials import ModalBasis, modal_basis

# Samples whose last modes are not this small beside the largest have more modes then.
_DECAYED = 5e-6
# Slopes up to which a step more needs no check, and what it is to leave.
SHORT, _FINE = 2e-6, 1e-11
_MAX_INNER, _LEAST_FACTOR = 200, 1e-4
# Below this slope a step that does not halve it has met the rounding of the gradient.
_ROUNDING = 1e-8
# Doubles in one array of a block of samples.
_BLOCK = 3 * 2**13

Parts = list[Array]


class Problem(NamedTuple):
    """What is joined: one root, as seen from its polar factor, and those of the samples."""

    start: Array
    ends: Array
    facing: Facing
    weights: Array
    layout: Layout


class Group(NamedTuple):
    """Samples whose paths have the modes of one level."""

    rows: Array
    level: int


class Joint:
    """F with its derivatives; ``unknowns`` are delta and the modes of each group."""

    def __init__(self, problem: Problem, groups: list[Group], unknowns: Parts) -> None:
        self.problem, self.groups, self.unknowns = problem, groups, unknowns
        self.paths, self.value = [], 0.0
        self.gradient: Parts = [np.zeros_like(problem.start)]
        for (rows, level), modes in zip(groups, unknowns[1:], strict=True):
            ends = joined_ends(problem, rows, problem.facing.take(rows), problem.start)
            path = PathState(ends, self._joined(unknowns[0], modes), _basis(level))
            self.value += float(problem.weights[rows] @ path.energy)
            self._add(self.gradient, rows, path.gradient)
            self.paths.append(path)
        base, still = self.mean[None, None], np.zeros((1, *problem.start.shape))
        depth = problem.layout.depth
        self._base = SquarePoints(base, np.zeros_like(base), (still, still), depth)

    @property
    def mean(self) -> Array:
        """The root of the mean."""
        return np.asarray(self.problem.start + self.unknowns[0])

    @cached_property
    def ascent(self) -> Parts:
        """The gradient, raised."""
        return self.raised(self.gradient)

    @property
    def slope(self) -> float:
        """The gradient's dual norm by the root of 2 F."""
        square = max(_dot(self.gradient, self.ascent), 0.0)
        return float(np.sqrt(square / (2 * self.value))) if self.value > 0 else 0.0

    @property
    def energies(self) -> Array:
        """Energy of the path to each sample."""
        found = np.empty(len(self.problem.ends))
        for (rows, _), path in zip(self.groups, self.paths, strict=True):
            found[rows] = path.energy
        return found

    @property
    def momenta(self) -> Array:
        """Momenta of the paths at the mean."""
        found = np.empty_like(self.problem.ends)
        for (rows, _), path in zip(self.groups, self.paths, strict=True):
            found[rows] = -path.gradient[:, 0]
        return found

    def squared(self, momenta: Array) -> Array:
        """Squared lengths of momenta at the mean."""
        raised = self._base.raise_(momenta[None])[0] / self.problem.layout.depth
        return np.asarray(np.sum(momenta * raised, axis=(-2, -1)))

    def moved(self, step: Parts, factor: float) -> Joint:
        """Return the same after a step."""
        moved = [x + factor * y for x, y in zip(self.unknowns, step, strict=True)]
        return Joint(self.problem, self.groups, moved)

    def raised(self, residual: Parts) -> Parts:
        """Apply the preconditioner."""
        depth = self.problem.layout.depth
        found = [self._base.raise_(residual[0][None, None])[0, 0] / depth]
        for (rows, level), path, part in zip(self.groups, self.paths, residual[1:], strict=True):
            image = apply_nodal_cometric(modal_basis(*LEVELS[level]), depth, path.points, part)
            found.append(image / self.problem.weights[rows, None, None, None])
        return found

    def hessian(self) -> Callable[[Parts], Parts]:
        """Prepare Hessian products."""
        models = [path.quadratic_model() for path in self.paths]

        def product(step: Parts) -> Parts:
            image: Parts = [np.zeros_like(step[0])]
            for (rows, _), model, part in zip(self.groups, models, step[1:], strict=True):
                self._add(image, rows, model.product(self._joined(step[0], part)))
            return image

        return product

    def refined(self) -> Joint:
        """Return the same with more modes for samples whose last ones have not decayed."""
        groups: list[Group] = []
        parts = [self.unknowns[0]]
        for (rows, level), path, modes in zip(
            self.groups, self.paths, self.unknowns[1:], strict=True
        ):
            sizes = frobenius(modes)
            whole = np.maximum(frobenius(path.ends.end - path.ends.start), sizes.max(axis=1))
            settled = sizes[:, -2:].max(axis=1) <= _DECAYED * whole
            for chosen, after in ((settled, level), (~settled, min(level + 1, len(LEVELS) - 1))):
                if chosen.any():
                    more = [(0, 0), (0, LEVELS[after][0] - modes.shape[1]), (0, 0), (0, 0)]
                    parts.append(np.pad(modes[chosen], more))
                    groups.append(Group(rows[chosen], after))
        same = [group.level for group in groups] == [group.level for group in self.groups]
        return self if same else Joint(self.problem, groups, parts)

    def switched(self, rows: Array, facing: Facing, modes: Array) -> Joint:
        """Return the same with other paths to some samples."""
        groups: list[Group] = []
        parts = [self.unknowns[0]]
        for group, part in zip(self.groups, self.unknowns[1:], strict=True):
            stay = ~np.isin(group.rows, rows)
            if stay.any():
                groups.append(Group(group.rows[stay], group.level))
                parts.append(part[stay])
        turned = self.problem.facing.put(rows, facing)
        problem = self.problem._replace(facing=turned)
        return Joint(problem, [*groups, Group(rows, 1)], [*parts, modes])

    def _joined(self, shift: Array, modes: Array) -> Array:
        shared = np.broadcast_to(shift, (len(modes), 1, *shift.shape))
        return np.concatenate([shared, modes], axis=1)

    def _add(self, parts: Parts, rows: Array, image: Array) -> None:
        """Add what a group contributes to a gradient or product."""
        weights = self.problem.weights[rows]
        parts[0] += np.tensordot(weights, image[:, 0], 1)
        parts.append(weights[:, None, None, None] * image[:, 1:])


def begun(problem: Problem) -> Joint:
    """Return straight paths in the frames that turn."""
    n = len(problem.start)
    rows = blocks_of(n, len(problem.ends), 0)
    blank = [np.zeros((len(some), LEVELS[0][0], n, n)) for some in rows]
    return Joint(problem, [Group(some, 0) for some in rows], [np.zeros((n, n)), *blank])


def blocks_of(n: int, n_samples: int, level: int) -> list[Array]:
    """Split samples into blocks whose arrays stay in cache."""
    block = max(1, _BLOCK // (LEVELS[level][1] * n * n))
    return np.split(np.arange(n_samples), range(block, n_samples, block))


def joined_ends(problem: Problem, rows: Array, facing: Facing, start: Array) -> Ends:
    """Return what the paths to some samples join."""
    seen = transpose(facing.left_turn) @ problem.ends[rows] @ facing.right_turn
    start = np.broadcast_to(start, seen.shape)
    basis = np.broadcast_to(np.eye(len(problem.start)), seen.shape)
    return Ends(problem.layout, start, seen, facing, (basis, basis))


@lru_cache(maxsize=16)
def _basis(level: int) -> ModalBasis:
    """Return the modes of a level after the mode ``1 - t``."""
    basis = modal_basis(*LEVELS[level])
    t = basis.nodes[:, None]
    modes = np.concatenate([1 - t, basis.modes], axis=1)
    slopes = np.concatenate([-np.ones_like(t), basis.slopes], axis=1)
    return ModalBasis(basis.nodes, basis.weights, modes, slopes)


@dataclass
class Newton:
    """Newton's method, the steps of which are counted and told."""

    max_iter: int
    told: Callable[[int], object]
    steps: int = 0

    def descended(self, joint: Joint, goal: float) -> Joint:
        """Take steps to a slope, the gradient's dual norm by the root of 2 F."""
        last = np.inf
        while True:
            slope = joint.slope
            stuck = slope < _ROUNDING and slope > 0.5 * last
            if not slope > goal or stuck or self.steps >= self.max_iter:
                return joint
            step = _newton_step(joint, max(min(0.1, slope), 0.3 * goal / slope))
            after = _lower(joint, step)
            if after is None:
                return joint
            joint, last = after, slope
            self._count()

    def finished(self, joint: Joint) -> Joint:
        """Return the same after a last step, so short that what F becomes does not matter."""
        slope = joint.slope
        if not _FINE < slope <= SHORT or self.steps >= self.max_iter:
            return joint
        self._count()
        return joint.moved(_newton_step(joint, 0.3 * _FINE / slope), 1.0)

    def _count(self) -> None:
        self.steps += 1
        self.told(self.steps)


def _lower(joint: Joint, step: Parts) -> Joint | None:
    """Return the same after a step, shorter if need be, that lowers F."""
    descent, factor = _dot(joint.gradient, step), 1.0
    while factor >= _LEAST_FACTOR:
        after = joint.moved(step, factor)
        if after.value <= joint.value * (1 + 1e-13) + 1e-4 * factor * descent:
            return after
        factor *= 0.5
    return None


def _newton_step(joint: Joint, share: float) -> Parts:
    """Solve for a step by conjugate gradients, until a share of the residual is left."""
    product, step = joint.hessian(), [np.zeros_like(x) for x in joint.gradient]
    rest, direction = [-x for x in joint.gradient], [-x for x in joint.ascent]
    energy = start = _dot(joint.gradient, joint.ascent)
    for count in range(_MAX_INNER):
        image = product(direction)
        curvature = _dot(direction, image)
        if not curvature > 0:
            return direction if count == 0 else step
        factor = energy / curvature
        step = [x + factor * y for x, y in zip(step, direction, strict=True)]
        rest = [x - factor * y for x, y in zip(rest, image, strict=True)]
        ahead = joint.raised(rest)
        before, energy = energy, _dot(rest, ahead)
        if energy <= share**2 * start:
            break
        direction = [x + energy / before * y for x, y in zip(ahead, direction, strict=True)]
    return step


def _dot(first: Parts, last: Parts) -> float:
    return float(sum(np.vdot(x, y) for x, y in zip(first, last, strict=True)))
