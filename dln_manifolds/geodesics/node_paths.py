r"""Paths on submanifolds through nodes.

A path is the polynomial through its values at Gauss-Lobatto nodes, every one of them a point of the
submanifold. Its energy ``int |x'|^2 / 2`` is then an exact quadratic form ``<x, K x> / 2`` of the
values in the ambient space, and its gradient and Hessian on the submanifold follow from tangent
projection and Weingarten map at the nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from dln_manifolds.geodesics.system import Guess
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import inner
from dln_manifolds.numerics.polynomials import NodalBasis, combine, legendre, nodal_basis

# Numbers of nodes, from the first rough minimization to the last resort.
LEVELS = (8, 14, 24, 40, 64)
_DECAYED = 3e-6
# Coefficients below this are rounding, beside points of size one.
_ROUNDING = 1e-14
# Nodes with singular values this far apart are what minimization leaves of a singular matrix.
_SINGULAR = 1e-5


D = TypeVar("D", bound="Decomposed")


class Decomposed(Protocol):
    """What belongs to the points of some members of a batch."""

    def take(self, members: Array) -> Self:
        """Return some members."""


class NodeSpace(ABC, Generic[D]):
    """What paths through nodes need to know of a submanifold."""

    @abstractmethod
    def frame(self, points: Array) -> D:
        """Decompose points, shape ``(..., *shape)``."""

    @abstractmethod
    def tangent_part(self, frame: D, vector: Array) -> Array:
        """Project ambient vectors."""

    @abstractmethod
    def shape(self, frame: D, vector: Array) -> Array:
        """Return what the Weingarten map takes of the normal parts of ambient vectors."""

    @abstractmethod
    def bent(self, tangent_vec: Array, shape: Array) -> Array:
        """Return minus that Weingarten map along tangent vectors, up to a normal part."""

    @abstractmethod
    def nearest(self, points: Array, like: Array | None = None) -> Array:
        """Return points near ambient ones ``(n_batch, n_nodes, *shape)``.

        In the components of ``like``, shape ``(n_batch, *shape)``, if these are given.
        """

    @abstractmethod
    def first_path(self, start: Array, end: Array, times: Array) -> Array:
        """Return a path on the submanifold at some times, ``(n_batch, n_times, *shape)``."""

    def other_path(self, start: Array, end: Array, times: Array) -> Array:
        """Return paths that turn the other way; where there is no other, the first path."""
        return self.first_path(start, end, times)

    def loose(self, start: Array, end: Array) -> Array:
        """Return indices of members whose other path may be shorter: none."""
        return np.empty(0, dtype=int)

    def jumps(self, frame: D, nodes: Array) -> Array:
        """Return which paths jump over a singular matrix: none.

        ``frame`` is that of all nodes but the first and the last, ``(n_batch, n_nodes, *shape)``.
        """
        return np.zeros(len(nodes), dtype=bool)

    def nearness(self, points: Array) -> Array:
        """Return how near nodes are to where geodesics end, one where they do not."""
        return np.ones(points.shape[:2])


class NodePath(Generic[D]):
    """Energy of a batch of paths with its derivatives by the interior nodes.

    ``start`` and ``end`` are points, shape ``(n_batch, *shape)``, and ``interior`` those at the
    interior nodes, ``(n_batch, n_nodes - 2, *shape)``.
    """

    def __init__(
        self, space: NodeSpace[D], start: Array, end: Array, interior: Array, basis: NodalBasis
    ) -> None:
        self.space, self.start, self.end = space, start, end
        self.unknowns, self.basis, self.n_nodes = interior, basis, basis.nodes.size - 2
        whole = np.concatenate([start[:, None], interior, end[:, None]], axis=1)
        pull = combine(basis.stiffness, whole)
        self.energy: Array = 0.5 * inner(whole, pull)
        self._pull_at_start, self._pull = pull[:, 0], pull[:, 1:-1]
        self._decomposed = space.frame(interior)
        self.energy[space.jumps(self._decomposed, whole)] = np.inf
        self.gradient: Array = space.tangent_part(self._decomposed, self._pull)

    def take(self, members: Array) -> NodePath[D]:
        """Return some members."""
        ends = self.start[members], self.end[members]
        return NodePath(self.space, *ends, self.unknowns[members], self.basis)

    def moved(self, step: Array) -> NodePath[D]:
        """Return the paths after a step along tangent vectors, back on the submanifold."""
        interior = self.space.nearest(self.unknowns + step, self.start)
        return NodePath(self.space, self.start, self.end, interior, self.basis)

    def guess(self, members: Array) -> Guess:
        """Return the interior nodes of some members."""
        return Guess(self.unknowns[members])

    def rate_at_start(self) -> Array:
        """Return minus the derivative of the energy by the start, a tangent vector there."""
        return -self.space.tangent_part(self.space.frame(self.start), self._pull_at_start)

    def rates(self) -> Array:
        """Return first and second derivatives of the path at Gauss nodes."""
        whole = np.concatenate([self.start[:, None], self.unknowns, self.end[:, None]], axis=1)
        both = [combine(matrix, whole) for matrix in (self.basis.slopes, self.basis.bends)]
        return np.stack(both, axis=2)[:, :, :, None]

    def quadratic_model(self) -> NodeModel[D]:
        """Prepare Hessian products at this path."""
        shape = self.space.shape(self._decomposed, self._pull)
        return NodeModel(self.space, self.basis, self._decomposed, shape)

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`NodeModel`."""
        return self.space.tangent_part(self._decomposed, combine(self.basis.compliance, residual))


@dataclass(frozen=True, eq=False)
class NodeModel(Generic[D]):
    """Hessian of the energy on the submanifold, and a preconditioner for it."""

    space: NodeSpace[D]
    basis: NodalBasis
    frame: D
    shape: Array

    def take(self, members: Array) -> NodeModel[D]:
        """Return the model of some members."""
        return NodeModel(self.space, self.basis, self.frame.take(members), self.shape[members])

    def product(self, direction: Array) -> Array:
        """Apply the Hessian: the tangent part of ``K V`` and of the Weingarten map."""
        image = combine(self.basis.stiffness[1:-1, 1:-1], direction)
        return self.space.tangent_part(self.frame, image - self.space.bent(direction, self.shape))

    def precondition(self, residual: Array) -> Array:
        """Apply the inverse of the ambient stiffness between tangent projections."""
        return self.space.tangent_part(self.frame, combine(self.basis.compliance, residual))


@dataclass(frozen=True, eq=False)
class NodePaths(Generic[D]):
    """Family of polynomial paths through nodes on a submanifold, from first or ``other`` paths.

    Or from the shorter of both, where there is a ``contest``.
    """

    space: NodeSpace[D]
    start: Array
    end: Array
    contest: bool = True
    other: bool = False
    n_levels = len(LEVELS)
    chart = None

    def initial(self) -> Guess:
        """Return the first path at the nodes."""
        times = nodal_basis(LEVELS[0]).nodes[1:-1]
        path = self.space.other_path if self.other else self.space.first_path
        return Guess(path(self.start, self.end, times))

    def rivals(self) -> list[tuple[Array, Guess]]:
        """Return the other paths at the nodes, where they may be shorter."""
        rows = self.space.loose(self.start, self.end)
        if not self.contest or rows.size == 0:
            return []
        times = nodal_basis(LEVELS[0]).nodes[1:-1]
        path = self.space.other_path(self.start[rows], self.end[rows], times)
        return [(rows, Guess(path))]

    def _whole(self, guess: Guess, rows: Array) -> Array:
        """Return values at all nodes."""
        ends = self.start[rows, None], self.end[rows, None]
        return np.concatenate([ends[0], guess.unknowns, ends[1]], axis=1)

    def extend(self, guess: Guess, rows: Array, level: int) -> Guess:
        """Evaluate the polynomials at the nodes of this level, back on the submanifold."""
        whole = self._whole(guess, rows)
        times = nodal_basis(LEVELS[level]).nodes[1:-1]
        finer = self.space.nearest(nodal_basis(LEVELS[level - 1]).interpolate(whole, times))
        return replace(guess, unknowns=finer)

    def path(self, guess: Guess, rows: Array, aim: Array, level: int) -> NodePath[D]:
        """Return paths with their energy."""
        basis = nodal_basis(LEVELS[level])
        return NodePath(self.space, self.start[rows], aim, guess.unknowns, basis)

    def has_decayed(self, guess: Guess, rows: Array, level: int) -> Array:
        """Whether the last Legendre coefficients are small beside the chord and the first."""
        whole = self._whole(guess, rows)
        nodes = nodal_basis(LEVELS[level]).nodes
        flat = whole.reshape(len(whole), len(nodes), -1)
        series = np.linalg.solve(legendre(nodes, len(nodes) - 1), flat)
        sizes = np.linalg.norm(series, axis=-1)
        chord = np.linalg.norm(flat[:, -1] - flat[:, 0], axis=-1)
        whole_size = np.maximum(chord, sizes[:, 1:].max(axis=1))
        return sizes[:, -2:].max(axis=1) <= np.maximum(_DECAYED * whole_size, _ROUNDING)

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return the time of a node that is singular: the way through the tip of the cone.

        Where layers turn by more than pi in total, no path is as short as those through a singular
        matrix, and the minimization runs into it.
        """
        nearness = self.space.nearness(guess.unknowns)
        times = nodal_basis(LEVELS[level]).nodes[1:-1][np.argmin(nearness, axis=1)]
        return np.where(nearness.min(axis=1) < _SINGULAR, times, np.inf)

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum, back on the submanifold."""
        return self.space.nearest(aim + defect)
