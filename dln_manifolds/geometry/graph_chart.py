r"""The Lagrangian of the root chart at any shape and rank, as a turning frame sees it.

Matrices of rank r whose leading block M is invertible are graphs over it:

.. math::
    T = \begin{pmatrix} M & Q \\ P & P M^{-1} Q \end{pmatrix}, \qquad
    x = \begin{pmatrix} M & Q \\ P & 0 \end{pmatrix},

and x is their chart; with ``A = P M^-1`` and ``B = M^-1 Q`` a covector Z of T pulls back to
``Z_11 - A^T Z_22 B^T``, ``Z_21 + Z_22 B^T`` and ``Z_12 + A^T Z_22``. If the rank is the least side
there is no corner, and x is T. In bases ``E_L`` and ``E_R`` of column and row space the velocity is
``E_L C E_R^T + a E_R^T + E_L b^T``, and the Lagrangian is that of the core of full rank and
``(|a|^2 + |b|^2) / 2``: beside the core the metric g_N of the root chart is the Euclidean one.
(Ours; Bah et al. arXiv 1910.05505 have the metric at rank r.)
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Self

import numpy as np

from dln_manifolds.geometry.flow_frames import SingularFrame
from dln_manifolds.geometry.hamiltonian import NodalState, SecondVariation, nodal_state
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, transpose, turned

# Paths that pretend to be short jump between nodes, where M all but vanishes and the graph is
# steep. Slopes of it beyond which the chart is not trusted (those of geodesics are below 2), and
# the largest ``|(M' + M)^{-1} (M' - M)|`` of neighbours.
_STEEPEST, _LONGEST = 10.0, 1.0


class SquarePoints:
    """Square matrices of full rank with velocities: T itself is the chart.

    Arrays have shape ``(n_batch, n_nodes, n, n)``; ``turns``, angular velocities of the frame, are
    two of shape ``(n_batch, n, n)``.
    """

    def __init__(self, x: Array, rate: Array, turns: tuple[Array, Array], depth: float) -> None:
        self.depth, self.turns = depth, turns
        self.nodal: NodalState = nodal_state(x, depth, velocity=rate + turned(turns, x))
        self.energy: Array = self.nodal.energy

    def derivatives(self) -> tuple[Array, Array]:
        """Return the derivatives of the Lagrangian by the rate and by x: momentum and force."""
        momentum = self.nodal.leave(self.nodal.momentum)
        force = turned(self.turns, momentum)
        force += self.nodal.leave(self.nodal.gradient)
        return momentum, np.negative(force, out=force)

    def raise_(self, covector: Array) -> Array:
        """Apply the cometric."""
        return self.nodal.raise_(covector)

    def second_variation(self) -> SquareVariation:
        """Prepare second derivatives."""
        return SquareVariation(self.turns, SecondVariation(self.nodal, self.depth))

    def singular_frame(self) -> SingularFrame:
        """Return the singular frame."""
        nodal = self.nodal
        nothing = np.zeros_like(nodal.left)
        bases = nodal.left, nodal.roots, transpose(nodal.right_t)
        return SingularFrame(*bases, nodal.velocity, nodal.momentum, (nothing, nothing))

    def mapped(self, function: Callable[[Array], Array]) -> Self:
        """Return the same with a function applied to all arrays."""
        part = object.__new__(type(self))
        part.depth, part.energy = self.depth, function(self.energy)
        part.turns = function(self.turns[0]), function(self.turns[1])
        part.nodal = self.nodal.mapped(function)
        return part

    def take(self, members: Array) -> Self:
        """Return some members."""
        return self.mapped(itemgetter(members))


class SquareVariation:
    """Second derivatives of the Lagrangian at `SquarePoints`."""

    def __init__(self, turns: tuple[Array, Array], core: SecondVariation) -> None:
        self._turns, self._core = turns, core

    def apply(self, x: Array, rate: Array) -> tuple[Array, Array]:
        """Differentiate the derivatives by rate and by x; the rate is overwritten."""
        rate += turned(self._turns, x)
        momentum, force = self._core.apply(x, rate)
        force -= turned(self._turns, momentum)
        return momentum, force

    def take(self, members: Array) -> SquareVariation:
        """Return some members."""
        return self.mapped(itemgetter(members))

    def mapped(self, function: Callable[[Array], Array]) -> SquareVariation:
        """Return the same with a function applied to all arrays."""
        left, right = self._turns
        return SquareVariation((function(left), function(right)), self._core.mapped(function))


class GraphPoints:
    """Matrices of rank r by their chart x with velocities, ``(n_batch, n_nodes, m, n)``.

    The energy is infinite at all nodes of members whose M has a determinant that is not positive,
    or jumps between nodes, or whose graph is steep: they may have jumped through lower rank.
    """

    def __init__(
        self, x: Array, rate: Array, turns: tuple[Array, Array], depth: float, rank: int
    ) -> None:
        self.depth, self.turns, self.rank = depth, turns, rank
        interior = min(x.shape[-2:]) > rank
        x, rate, allowed = _regular(x, rate, rank, interior)
        m, q, p = blocks(x, rank)
        self.m_rate, q_rate, p_rate = blocks(rate, rank)
        self.inverse = np.linalg.inv(m) if interior else np.zeros_like(m)
        # A and B^T; their derivatives times M
        self.a, self.b_t = p @ self.inverse, self.inverse @ q
        self.a_moved = p_rate - self.a @ self.m_rate
        self.b_moved = q_rate - self.m_rate @ self.b_t
        self.a_rate, self.b_rate = self.a_moved @ self.inverse, self.inverse @ self.b_moved
        root = with_corner(x, rank, p @ self.b_t)
        velocity = with_corner(rate, rank, self.a @ q_rate + self.a_moved @ self.b_t)
        velocity += turned(turns, root)
        self._in_frames(root, velocity)
        for slope in (self.a, self.b_t):
            allowed &= np.abs(slope).max(axis=(-3, -2, -1), initial=0.0) <= _STEEPEST
        beside = sum(np.sum(side * side, axis=(-2, -1)) for side in self.sides)
        self.energy: Array = np.where(allowed[:, None], self.nodal.energy + 0.5 * beside, np.inf)

    def _in_frames(self, root: Array, velocity: Array) -> None:
        """Split velocity, momentum and force into core and sides."""
        r = self.rank
        self.left = left = np.linalg.qr(root[..., :, :r])[0]
        self.right = right = np.linalg.qr(transpose(root[..., :r, :]))[0]
        self.core, self.sides = self.split(velocity)
        self.nodal: NodalState = nodal_state(
            transpose(left) @ root @ right, self.depth, velocity=self.core
        )
        over = transpose(self.nodal.left / self.nodal.roots[..., None, :])
        self.core_inverse = transpose(self.nodal.right_t) @ over
        self.core_momentum = self.nodal.leave(self.nodal.momentum)
        self.core_force = -self.nodal.leave(self.nodal.gradient)
        self.excess = self.core_momentum - self.core
        self.force_sides = (
            self.sides[0] @ transpose(self.core_inverse @ self.excess),
            self.sides[1] @ (self.excess @ self.core_inverse),
        )
        self.momentum = self.join(self.core_momentum, self.sides)
        self.force = self.join(self.core_force, self.force_sides)
        self.force -= turned(self.turns, self.momentum)

    def split(self, matrix: Array) -> tuple[Array, tuple[Array, Array]]:
        """Return core and sides of a matrix."""
        right = matrix @ self.right
        core = transpose(self.left) @ right
        below = transpose(matrix) @ self.left - self.right @ transpose(core)
        return core, (right - self.left @ core, below)

    def join(self, core: Array, sides: tuple[Array, Array]) -> Array:
        """Return the matrix of a core and sides."""
        return np.asarray(
            (self.left @ core + sides[0]) @ transpose(self.right) + self.left @ transpose(sides[1])
        )

    def pull(self, covector: Array) -> Array:
        """Pull a covector of T back to the chart."""
        r, corner = self.rank, covector[..., self.rank :, self.rank :]
        beside, above = corner @ transpose(self.b_t), transpose(self.a) @ corner
        pulled = with_corner(covector, r, 0.0)
        pulled[..., :r, :r] -= transpose(self.a) @ beside
        pulled[..., r:, :r] += beside
        pulled[..., :r, r:] += above
        return pulled

    def derivatives(self) -> tuple[Array, Array]:
        """Return the derivatives of the Lagrangian by the rate and by x: momentum and force."""
        r, force = self.rank, self.pull(self.force)
        corner = self.momentum[..., r:, r:]
        beside, above = corner @ transpose(self.b_rate), transpose(self.a_rate) @ corner
        force[..., :r, :r] -= above @ transpose(self.b_t) + transpose(self.a) @ beside
        force[..., r:, :r] += beside
        force[..., :r, r:] += above
        return self.pull(self.momentum), force

    def raise_(self, covector: Array) -> Array:
        """Apply the cometric of the chart: its velocities are three blocks of those of T."""
        core, sides = self.split(covector)
        return with_corner(self.join(self.nodal.raise_(core), sides), self.rank, 0.0)

    def second_variation(self) -> GraphVariation:
        """Prepare second derivatives."""
        return GraphVariation(self, SecondVariation(self.nodal, self.depth))

    def singular_frame(self) -> SingularFrame:
        """Return the singular frame."""
        nodal, right = self.nodal, transpose(self.nodal.right_t)
        sides = self.sides[0] @ right, self.sides[1] @ nodal.left
        bases = self.left @ nodal.left, nodal.roots, self.right @ right
        return SingularFrame(*bases, nodal.velocity, nodal.momentum, sides)

    def take(self, members: Array) -> Self:
        """Return some members."""
        part = object.__new__(type(self))
        for name, value in vars(self).items():
            if isinstance(value, tuple):
                value = tuple(entry[members] for entry in value)
            elif isinstance(value, np.ndarray):
                value = value[members]
            setattr(part, name, value)
        part.nodal = NodalState(*part.nodal)
        return part


class GraphVariation:
    """Second derivatives of the Lagrangian at `GraphPoints`: all of these, differentiated."""

    def __init__(self, points: GraphPoints, core: SecondVariation) -> None:
        self._points, self._core = points, core

    def take(self, members: Array) -> GraphVariation:
        """Return some members."""
        return GraphVariation(self._points.take(members), self._core.mapped(itemgetter(members)))

    def apply(self, x: Array, rate: Array) -> tuple[Array, Array]:
        """Differentiate the derivatives by rate and by x."""
        at, r = self._points, self._points.rank
        (m, q, p), (m_rate, q_rate, p_rate) = blocks(x, r), blocks(rate, r)
        a_moved, b_moved = p - at.a @ m, q - m @ at.b_t
        da, db = a_moved @ at.inverse, at.inverse @ b_moved
        root = with_corner(x, r, at.a @ q + a_moved @ at.b_t)
        a_next, b_next = p_rate - at.a @ m_rate, q_rate - m_rate @ at.b_t
        corner = at.a @ q_rate + a_next @ at.b_t + da @ at.b_moved + at.a_moved @ db
        velocity = with_corner(rate, r, corner) + turned(at.turns, root)
        da_rate = (a_next - da @ at.m_rate - at.a_rate @ m) @ at.inverse
        db_rate = at.inverse @ (b_next - at.m_rate @ db - m @ at.b_rate)
        momentum, force = self._ambient(root, velocity)
        return self._pulled(momentum, force, (da, db), (da_rate, db_rate))

    def _ambient(self, root: Array, velocity: Array) -> tuple[Array, Array]:
        """Differentiate momentum and force of T."""
        at = self._points
        left, right, inverse = at.left, at.right, at.core_inverse
        seen = root @ right
        core = transpose(left) @ seen
        # how the bases of column and row space move
        d_left = (seen - left @ core) @ inverse
        d_right = (transpose(root) @ left - right @ transpose(core)) @ transpose(inverse)
        inside, (side, other) = at.split(velocity)
        in_left, in_right = transpose(d_left) @ at.sides[0], transpose(d_right) @ at.sides[1]
        d_core = inside + in_left + transpose(in_right)
        d_sides = (
            side - d_left @ at.core - left @ in_left,
            other - d_right @ transpose(at.core) - right @ in_right,
        )
        d_momentum, d_force = self._core.apply(core, d_core)
        d_excess = d_momentum - d_core
        d_force_sides = (
            (
                d_sides[0] @ transpose(at.excess)
                + at.sides[0] @ transpose(d_excess)
                - at.force_sides[0] @ transpose(core)
            )
            @ transpose(inverse),
            (d_sides[1] @ at.excess + at.sides[1] @ d_excess - at.force_sides[1] @ core) @ inverse,
        )

        change = at.join(d_momentum, d_sides) + self._turned_bases(
            d_left, d_right, at.core_momentum, at.sides
        )
        force = at.join(d_force, d_force_sides) + self._turned_bases(
            d_left, d_right, at.core_force, at.force_sides
        )
        return change, force - turned(at.turns, change)

    def _turned_bases(
        self, d_left: Array, d_right: Array, core: Array, sides: tuple[Array, Array]
    ) -> Array:
        """Return the change of `join` as the bases move."""
        at = self._points
        moved = d_left @ (core @ transpose(at.right) + transpose(sides[1]))
        return np.asarray(moved + (at.left @ core + sides[0]) @ transpose(d_right))

    def _pulled(
        self, momentum: Array, force: Array, slopes: tuple[Array, Array], rates: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        """Differentiate the derivatives in the chart, given those of T and of A and ``B^T``."""
        at, r = self._points, self._points.rank
        (da, db), (da_rate, db_rate) = slopes, rates
        pulled, pushed = at.pull(momentum), at.pull(force)
        corner, d_corner = at.momentum[..., r:, r:], momentum[..., r:, r:]
        for result, covector in (pulled, corner), (pushed, at.force[..., r:, r:]):
            beside, above = covector @ transpose(db), transpose(da) @ covector
            result[..., :r, :r] -= above @ transpose(at.b_t) + transpose(at.a) @ beside
            result[..., r:, :r] += beside
            result[..., :r, r:] += above
        # of A'^T Z B + A^T Z B' and its neighbours
        beside = corner @ transpose(db_rate) + d_corner @ transpose(at.b_rate)
        above = transpose(da_rate) @ corner + transpose(at.a_rate) @ d_corner
        mixed = above @ transpose(at.b_t) + transpose(at.a) @ beside
        mixed += transpose(at.a_rate) @ corner @ transpose(db)
        mixed += transpose(da) @ corner @ transpose(at.b_rate)
        pushed[..., :r, :r] -= mixed
        pushed[..., r:, :r] += beside
        pushed[..., :r, r:] += above
        return pulled, pushed


def blocks(x: Array, rank: int) -> tuple[Array, Array, Array]:
    """Return M, Q and P."""
    return x[..., :rank, :rank], x[..., :rank, rank:], x[..., rank:, :rank]


def with_corner(x: Array, rank: int, corner: Array | float) -> Array:
    """Return a copy of x with another corner."""
    copy = x.copy()
    copy[..., rank:, rank:] = corner
    return copy


def _regular(x: Array, rate: Array, rank: int, interior: bool) -> tuple[Array, Array, Array]:
    """Return points and rates, those of members outside the chart replaced, and who was inside."""
    axes = (-3, -2, -1)
    allowed = np.asarray(np.isfinite(x).all(axis=axes) & np.isfinite(rate).all(axis=axes))
    if interior:
        leading = np.where(allowed[:, None, None, None], x[..., :rank, :rank], 0.0)
        middle = leading[:, :-1] + leading[:, 1:]
        signs = np.linalg.slogdet(np.concatenate([leading, middle], axis=1))[0]
        allowed &= (signs > 0).all(axis=1)
        # |(z - 1) / (z + 1)| < 1 if z, an eigenvalue of M^{-1} M', is to the right of zero
        turn = np.linalg.solve(
            np.where(allowed[:, None, None, None], middle, np.eye(rank)),
            leading[:, 1:] - leading[:, :-1],
        )
        allowed &= frobenius(turn).max(axis=1) <= _LONGEST
    if not allowed.all():
        where = allowed[:, None, None, None]
        x, rate = np.where(where, x, np.eye(*x.shape[-2:])), np.where(where, rate, 0.0)
    return x, rate, allowed
