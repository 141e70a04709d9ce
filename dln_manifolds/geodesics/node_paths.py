r"""Paths on a submanifold of Euclidean space and their energy.

A path is the polynomial through its values at Gauss-Lobatto nodes, every one of them a point of
the submanifold. Its energy ``int |x'|^2 / 2`` is then an exact quadratic form ``<x, K x> / 2`` of
the values in the ambient space, and its gradient and Hessian on the submanifold follow from tangent
projection and Weingarten map at the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from dln_manifolds.geodesics.system import Guess, Rest
from dln_manifolds.numerics.arrays import Array

# Numbers of nodes, from the first rough minimization to the last resort.
LEVELS = (8, 14, 24, 40, 64)
_DECAYED = 3e-6
# Coefficients below this are rounding, beside points of size one.
_ROUNDING = 1e-14
# Nodes with singular values this far apart are what minimization leaves of a singular matrix.
_SINGULAR = 1e-5


@dataclass(frozen=True, eq=False)
class NodeBasis:
    """Gauss-Lobatto nodes on [0, 1] and the stiffness of the polynomials through them.

    Attributes
    ----------
    nodes, barycentric : ndarray, shape=[n_nodes]
        Nodes, both ends among them, and weights of the barycentric interpolation formula.
    stiffness : ndarray, shape=[n_nodes, n_nodes]
        ``K_qr = int L_q' L_r'``.
    compliance : ndarray, shape=[n_nodes - 2, n_nodes - 2]
        Inverse of its interior part.
    slopes, bends : ndarray, shape=[n_gauss, n_nodes]
        From nodal values to first and second derivatives, by the time in [0, 1], at as many Gauss
        nodes.
    """

    nodes: Array
    barycentric: Array
    stiffness: Array
    compliance: Array
    slopes: Array
    bends: Array

    def interpolate(self, values: Array, times: Array) -> Array:
        """Values at other times of the polynomial through (B, n_nodes, ...) nodal values."""
        difference = times[:, None] - self.nodes
        hit = difference == 0
        weights = self.barycentric / np.where(hit, 1.0, difference)
        weights = np.where(hit.any(axis=1, keepdims=True), hit, weights)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.einsum("tq,bq...->bt...", weights, values)


@lru_cache(maxsize=16)
def node_basis(n_nodes: int) -> NodeBasis:
    """Return the basis with the given number of nodes."""
    degree = n_nodes - 1
    series = np.zeros(n_nodes)
    series[-1] = 1.0
    inner = np.polynomial.legendre.legroots(np.polynomial.legendre.legder(series))
    x = np.concatenate([[-1.0], np.sort(inner.real), [1.0]])
    heights = np.polynomial.legendre.legval(x, series)
    weights = 2 / (degree * n_nodes * heights**2)
    difference = x[:, None] - x + np.eye(n_nodes)
    # Derivative of the Lagrange polynomials at the nodes, rows summing to zero.
    slopes = heights[:, None] / heights / difference
    np.fill_diagonal(slopes, 0.0)
    np.fill_diagonal(slopes, -slopes.sum(axis=1))
    stiffness = 2 * slopes.T @ (weights[:, None] * slopes)
    # On [0, 1] every derivative takes another factor of two.
    gauss = np.polynomial.legendre.leggauss(n_nodes)[0]
    basis = np.polynomial.legendre.legvander(gauss, degree)
    at_gauss = basis @ np.linalg.inv(np.polynomial.legendre.legvander(x, degree))
    first = at_gauss @ slopes
    return NodeBasis(
        (x + 1) / 2,
        1 / heights / degree,
        stiffness,
        np.linalg.inv(stiffness[1:-1, 1:-1]),
        2 * first,
        4 * first @ slopes,
    )


def _mix(matrix: Array, values: Array) -> Array:
    """Apply a matrix along the nodes: (B, R, ...) -> (B, Q, ...)."""
    flat = values.reshape(*values.shape[:2], -1)
    return (matrix @ flat).reshape(len(values), len(matrix), *values.shape[2:])


D = TypeVar("D", bound="Members")


class Members(Protocol):
    """What belongs to some members of a batch."""

    def take(self, members: Array) -> Self:
        """Return some members."""


class Submanifold(Protocol[D]):
    """A submanifold of Euclidean space, as far as paths through nodes ask for it."""

    def frame(self, points: Array) -> D:
        """Decompose nodes, shape ``(n_batch, n_nodes, *shape)``."""

    def tangent_part(self, frame: D, vector: Array) -> Array:
        """Project ambient vectors at nodes."""

    def shape(self, frame: D, vector: Array) -> Array:
        """Return what the Weingarten map takes of the normal parts of vectors at nodes."""

    def bent(self, tangent_vec: Array, shape: Array) -> Array:
        """Return minus that Weingarten map along tangent vectors, up to its normal part."""

    def nearest(self, points: Array, like: Array | None = None) -> Array:
        """Return points near ambient ones, in the component of those of shape (n_batch, *shape)."""

    def first_path(self, start: Array, end: Array, times: Array) -> Array:
        """Return a path on the submanifold at some times, shape ``(n_batch, n_times, *shape)``."""

    def nearness(self, points: Array) -> Array:
        """Return how near nodes are to where geodesics end; large where they do not."""


class NodePath(Generic[D]):
    """Energy of a batch of paths with its derivatives by the interior nodes.

    ``start`` and ``end`` are points, shape ``(n_batch, *shape)``, and ``interior`` those at the
    interior nodes, ``(n_batch, n_nodes - 2, *shape)``.
    """

    frame = Rest()

    def __init__(
        self, space: Submanifold[D], start: Array, end: Array, interior: Array, basis: NodeBasis
    ) -> None:
        self.space, self.start, self.end = space, start, end
        self.unknowns, self.basis, self.n_nodes = interior, basis, basis.nodes.size - 2
        whole = np.concatenate([start[:, None], interior, end[:, None]], axis=1)
        pull = _mix(basis.stiffness, whole)
        self.energy: Array = 0.5 * np.einsum(
            "bi,bi->b", whole.reshape(len(whole), -1), pull.reshape(len(whole), -1)
        )
        self._pull_at_start, self._pull = pull[:, 0], pull[:, 1:-1]
        self._decomposed = space.frame(interior)
        self.gradient: Array = space.tangent_part(self._decomposed, self._pull)

    def take(self, members: Array) -> NodePath[D]:
        """Return some members."""
        ends = self.start[members], self.end[members]
        return NodePath(self.space, *ends, self.unknowns[members], self.basis)

    def moved(self, step: Array) -> NodePath[D]:
        """Return the paths after a step along tangent vectors, back on the submanifold."""
        interior = self.space.nearest(self.unknowns + step, self.start)
        return NodePath(self.space, self.start, self.end, interior, self.basis)

    def rate_at_start(self) -> Array:
        """Return minus the derivative of the energy by the start, a tangent vector there."""
        return -self.space.tangent_part(self.space.frame(self.start), self._pull_at_start)

    def rates(self) -> Array:
        """Return first and second derivatives of the path at Gauss nodes."""
        whole = np.concatenate([self.start[:, None], self.unknowns, self.end[:, None]], axis=1)
        both = [_mix(matrix, whole) for matrix in (self.basis.slopes, self.basis.bends)]
        return np.stack(both, axis=2)[:, :, :, None]

    def quadratic_model(self) -> NodeModel[D]:
        """Prepare Hessian products at this path."""
        shape = self.space.shape(self._decomposed, self._pull)
        return NodeModel(self.space, self.basis, self._decomposed, shape)

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`NodeModel`."""
        return self.space.tangent_part(self._decomposed, _mix(self.basis.compliance, residual))


@dataclass(frozen=True, eq=False)
class NodeModel(Generic[D]):
    """Hessian of the energy on the submanifold, and a preconditioner for it."""

    space: Submanifold[D]
    basis: NodeBasis
    frame: D
    shape: Array

    def take(self, members: Array) -> NodeModel[D]:
        """Return the model of some members."""
        return NodeModel(self.space, self.basis, self.frame.take(members), self.shape[members])

    def product(self, direction: Array) -> Array:
        """Apply the Hessian: the tangent part of ``K V`` and of the Weingarten map."""
        image = _mix(self.basis.stiffness[1:-1, 1:-1], direction)
        return self.space.tangent_part(self.frame, image - self.space.bent(direction, self.shape))

    def precondition(self, residual: Array) -> Array:
        """Apply the inverse of the ambient stiffness between tangent projections."""
        return self.space.tangent_part(self.frame, _mix(self.basis.compliance, residual))


@dataclass(frozen=True, eq=False)
class NodePaths(Generic[D]):
    """Family of polynomial paths through nodes on a submanifold."""

    space: Submanifold[D]
    n_levels = len(LEVELS)

    def initial(self, start: Array, end: Array) -> tuple[Guess, Array, None]:
        """Return the first path at the nodes, and no rivals."""
        unknowns = self.space.first_path(start, end, node_basis(LEVELS[0]).nodes[1:-1])
        return Guess(unknowns, np.empty((len(unknowns), 0))), np.empty(0, dtype=int), None

    def extend(self, guess: Guess, start: Array, end: Array, level: int) -> Guess:
        """Evaluate the polynomials at the nodes of this level, back on the submanifold."""
        whole = np.concatenate([start[:, None], guess.unknowns, end[:, None]], axis=1)
        times = node_basis(LEVELS[level]).nodes[1:-1]
        finer = self.space.nearest(node_basis(LEVELS[level - 1]).interpolate(whole, times))
        return replace(guess, unknowns=finer)

    def path(self, guess: Guess, start: Array, end: Array, level: int) -> NodePath[D]:
        """Return paths with their energy."""
        return NodePath(self.space, start, end, guess.unknowns, node_basis(LEVELS[level]))

    def has_decayed(self, guess: Guess, start: Array, end: Array, level: int) -> Array:
        """Whether the last Legendre coefficients are small beside the chord and the first."""
        whole = np.concatenate([start[:, None], guess.unknowns, end[:, None]], axis=1)
        nodes = node_basis(LEVELS[level]).nodes
        legendre = np.polynomial.legendre.legvander(2 * nodes - 1, len(nodes) - 1)
        flat = whole.reshape(len(whole), len(nodes), -1)
        sizes = np.linalg.norm(np.linalg.solve(legendre, flat), axis=-1)
        chord = np.linalg.norm((end - start).reshape(len(start), -1), axis=-1)
        whole_size = np.maximum(chord, sizes[:, 1:].max(axis=1))
        return sizes[:, -2:].max(axis=1) <= np.maximum(_DECAYED * whole_size, _ROUNDING)

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return the time of a node that is singular: the way through the tip of the cone.

        Where layers turn by more than pi in total, no path is as short as those through a singular
        matrix, and the minimization runs into it.
        """
        nearness = self.space.nearness(guess.unknowns)
        times = node_basis(LEVELS[level]).nodes[1:-1][np.argmin(nearness, axis=1)]
        return np.where(nearness.min(axis=1) < _SINGULAR, times, np.inf)

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum, back on the submanifold."""
        return self.space.nearest(aim + defect)
