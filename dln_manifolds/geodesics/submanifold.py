r"""Submanifolds of Euclidean space as systems, and paths on them through nodes.

Geodesics obey ``x'' = II(x', x')``. A path is the polynomial through its values at Gauss-Lobatto
nodes, every one of them a point of the submanifold. Its energy ``int |x'|^2 / 2`` is then an exact
quadratic form ``<x, K x> / 2`` of the values in the ambient space, and its gradient and Hessian on
the submanifold follow from tangent projection and Weingarten map at the nodes.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from dln_manifolds.geodesics.system import TIP, Chart, FlowResult, Guess, Points, System, Unit
from dln_manifolds.geometry.bounds import Bounds, largest_angle
from dln_manifolds.geometry.reduction import Reduction
from dln_manifolds.geometry.scaling import Cone
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import inner, size_of, weigh
from dln_manifolds.numerics.polynomials import NodalBasis, combine, legendre, nodal_basis

# Numbers of nodes, from the first rough minimization to the last resort.
LEVELS = (8, 14, 24, 40, 64)
_DECAYED = 3e-6
_ROUNDING = 1e-14  # of coefficients, beside points of size one
# Nodes with singular values this far apart are what minimization leaves of a singular matrix.
_SINGULAR = 1e-5

D = TypeVar("D", bound="Decomposed")


class Decomposed(Protocol):
    """What belongs to the points of some members of a batch."""

    def take(self, members: Array) -> Self:
        """Return some members."""


class Submanifold(System, Generic[D]):
    """A submanifold of Euclidean space as a system: states (x, v), tangent covectors.

    A subclass adds ``goal``, ``core``, what is abstract here, and flows: ``rates``, ``project``,
    ``linearized``, ``parallel``, of ``v' = II(v, v)`` and ``u' = II(v, u)``.
    """

    reach = 0.0
    cautious = False

    @property
    def depth(self) -> float:
        """One where there is no network."""
        return 1.0

    @property
    def tip(self) -> float:
        """On straight lines nothing happens near zero."""
        return 0.0 if self.straight else TIP

    @property
    def straight(self) -> bool:
        """Whether the submanifold is flat; not in general."""
        return False

    @property
    def core_rank(self) -> int | None:
        """None: cores are invertible."""
        return None

    def narrowed(
        self, start: Points, *, vectors: Array | None = None, end: Points | None = None
    ) -> tuple[System, Reduction] | None:
        """Return None: there is no narrower system."""
        return None

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
        """Return points near ambient ones, ``(n_batch, n_nodes, *shape)``, in components."""

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
        """Return which paths jump over a singular matrix, by the frame inside: none."""
        return np.zeros(len(nodes), dtype=bool)

    def nearness(self, points: Array) -> Array:
        """Return how near nodes are to where geodesics end, one where they do not."""
        return np.ones(points.shape[:2])

    @abstractmethod
    def tangent_basis(self, frame: D) -> Array:
        """Return an orthonormal basis of the tangent space, shape ``(..., dim, *shape)``."""

    def unit(self, points: Points) -> Unit:
        """Scale points to a Frobenius norm of one."""
        size = size_of(points.value)
        return Unit((points.value.T / size).T, size)  # 1 / size may be out of range

    def at(self, position: Array, scale: Array) -> Unit:
        """Return positions."""
        return Unit(position, scale)

    def point(self, unit: Unit) -> Array:
        """Return points."""
        return weigh(unit.scale, unit.position)

    def flat(self, unit: Unit, velocity: Array) -> Array:
        """Return velocities divided by the scale."""
        return np.asarray((velocity.T / unit.scale).T)

    def sharp(self, unit: Unit, rate: Array, scale: Array) -> Array:
        """Return velocities."""
        return weigh(scale, rate)

    def speed(self, unit: Unit, rate: Array) -> Array:
        """Return Frobenius norms."""
        return size_of(rate)

    def lower_bound(self, first: Unit, last: Unit) -> Array:
        """Return the length of the chord in the ambient space."""
        common = np.maximum(first.scale, last.scale)
        start, end = (weigh(unit.scale / common, unit.position) for unit in (first, last))
        return common * size_of(end - start)

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return the chord, and the length of the first path, by the cone law from its angle."""
        start, end = self.unit(first), self.unit(last)
        angle = largest_angle(partial(self.first_path, start.position, end.position), end.position)
        upper = Cone(start.scale, end.scale).length(2 * np.sin(angle / 2))
        return Bounds(self.lower_bound(start, end) * (1 - _ROUNDING), upper * (1 + _ROUNDING))

    def closed_form(self, first: Unit, last: Unit) -> tuple[Array, Array]:
        """Return zero where the points are the same, up to scale, and chords where all is flat."""
        if self.straight:
            return last.position - first.position, np.ones(len(first.position), dtype=bool)
        same = first.position == last.position
        return np.zeros_like(first.position), same.all(axis=tuple(range(1, same.ndim)))

    def families(self, first: Unit, last: Unit) -> list[Array]:
        """Return that there is one family."""
        return [np.zeros(len(first.position), dtype=int)]

    def paths(self, family: int, first: Unit, last: Unit, tolerance: float) -> NodePaths[D]:
        """Return polynomial paths through nodes."""
        return NodePaths(self, first.position, last.position)

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Return that there is no other."""
        return (self,)

    def entered(self, state: Array) -> Array:
        """Return the states."""
        return state

    def left(self, result: FlowResult) -> FlowResult:
        """Return the result."""
        return result

    def chart(self, state: Array, rate: Array) -> tuple[Array, Array]:
        """Return positions and velocities."""
        return state[:, 0, 0], rate[:, 0, 0]

    def grown(self, position: Array, growth: Array) -> Array:
        """Return multiples."""
        return weigh(growth, position)

    def radial(self, unit: Unit, pace: Array) -> Array:
        """Return multiples of the positions."""
        return weigh(pace, unit.position)

    def length(self, scale: Array, speed: Array) -> Array:
        """Return the products."""
        return scale * speed

    def cone(self, first: Unit, last: Unit) -> Cone:
        """Return the cone law between points of these scales."""
        return Cone(first.scale, last.scale)

    def gap(self, position: Array, other: Array) -> Array:
        """Return the difference."""
        return position - other

    def rescaled(self, state: Array, before: Array, after: Array) -> Array:
        """Return multiples."""
        return weigh(before / after, state)

    def length_factor(self, scale: Array) -> Array:
        """Return the scale."""
        return scale

    def covector(self, unit: Unit, gradient: Array) -> Array:
        """Return tangent parts."""
        return self.tangent_part(self.frame(unit.position), gradient)

    def gradient(self, unit: Unit, covector: Array) -> Array:
        """Return the tangent vectors."""
        return covector

    def covector_basis(self, unit: Unit) -> Array:
        """Return an orthonormal basis of the tangent space."""
        return self.tangent_basis(self.frame(unit.position))

    def vector(self, unit: Unit, covector: Array) -> Array:
        """Return the tangent vectors."""
        return covector

    def momentum(self, unit: Unit, vector: Array) -> Array:
        """Return the tangent vectors."""
        return vector

    def gauged(self, state: Array, field: Array, change: Array) -> tuple[Array, Array]:
        """Return the variations."""
        return field, change

    def covariant(self, unit: Unit, rate: Array, field: Array, change: Array) -> Array:
        """Return the tangent part of dv."""
        return self.tangent_part(self.frame(unit.position), change)

    def held(self, unit: Unit, rate: Array, field: Array) -> Array:
        """Return zero: vectors are taken along parallel, projected where the point moves."""
        return np.zeros_like(field)

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return the Weingarten map of the normal part."""
        frame = self.frame(unit.position)
        return -self.tangent_part(frame, self.bent(rate, self.shape(frame, gradient)))


class NodePath(Generic[D]):
    """Energy of paths between points with its derivatives by the interior nodes.

    Of shapes ``(n_batch, *shape)`` and ``(n_batch, n_nodes - 2, *shape)``.
    """

    def __init__(
        self, space: Submanifold[D], start: Array, end: Array, interior: Array, basis: NodalBasis
    ) -> None:
        self.space, self.start, self.end = space, start, end
        self.unknowns, self.basis, self.n_nodes = interior, basis, basis.nodes.size - 2
        self._whole = whole = np.concatenate([start[:, None], interior, end[:, None]], axis=1)
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
        both = [combine(matrix, self._whole) for matrix in (self.basis.slopes, self.basis.bends)]
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

    space: Submanifold[D]
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
    """Family of paths through nodes, from first or ``other`` ones, or the best in a ``contest``."""

    space: Submanifold[D]
    start: Array
    end: Array
    contest: bool = True
    other: bool = False
    n_levels = len(LEVELS)
    chart, slope_share = None, 1.0

    def _guess(self, other: bool, rows: Array | slice = slice(None)) -> Guess:
        """Return first or other paths at the nodes."""
        path = self.space.other_path if other else self.space.first_path
        times = nodal_basis(LEVELS[0]).nodes[1:-1]
        return Guess(path(self.start[rows], self.end[rows], times))

    def initial(self) -> Guess:
        """Return the path that was chosen."""
        return self._guess(self.other)

    def rivals(self, thorough: bool = False) -> list[tuple[Array, Guess]]:
        """Return the other paths, where they may be shorter."""
        rows = self.space.loose(self.start, self.end) if self.contest else np.empty(0, dtype=int)
        return [(rows, self._guess(True, rows))] if rows.size else []

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
        """Return the time of a node that is singular, infinite if there is none.

        Minimization runs into one where the way through the tip of the cone is the shortest.
        """
        nearness = self.space.nearness(guess.unknowns)
        times = nodal_basis(LEVELS[level]).nodes[1:-1][np.argmin(nearness, axis=1)]
        return np.where(nearness.min(axis=1) < _SINGULAR, times, np.inf)

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum, back on the submanifold."""
        return self.space.nearest(aim + defect)
