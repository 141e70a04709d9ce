r"""Paths between two points of the polar chart and their energy, any shape, rank and depth.

.. math::
    D(t) = (1-t) D_0 + t D_1 + \sum_m h_m \phi_m(t), \qquad
    R_L(t) = \exp(t \Omega_L) C(t K_1) C(K(t)) C(K'(t)) \cdots

with integrated Legendre polynomials ``phi_m``, whose derivatives are orthonormal on [0, 1], the
Cayley transform C, and ``R_R`` alike; see :mod:`dln_manifolds.geometry.polar_chart`. Each step of
the minimization adds to D and turns the frames once more, by opposite combinations of the ``phi_m``
in the cores. Rotations are free of the depth, and so is the number of steps. ``K_1`` corrects what
the turns of the bases lack at the end: at great depth all turns of the cores, see
:mod:`dln_manifolds.geometry.principal`. (Ours.)

The momentum at an end is the derivative of the minimal energy by that end; since the energy is
stationary, its error is the square of that of the path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.root_paths import ModalPaths
from dln_manifolds.geodesics.system import Guess
from dln_manifolds.geometry.facing import Earlier, Facing
from dln_manifolds.geometry.polar_chart import Cometric, NodalState, nodal_state, turns_of
from dln_manifolds.geometry.polar_flow import Layout, rates_along, skewed
from dln_manifolds.geometry.polar_hessian import SecondVariation
from dln_manifolds.geometry.principal import principal_facings
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, half_turns, rotation, transpose
from dln_manifolds.numerics.polynomials import (
    SINGLE_FROM,
    ModalBasis,
    combine,
    modal_basis,
    modes_through,
    propagators,
    single,
)

# Modes and quadrature nodes, from the first rough minimization to the last resort.
LEVELS = ((6, 8), (14, 16), (18, 22), (24, 32), (40, 54), (64, 86))
# Least root at a node with which a path is allowed.
_LEAST_ROOT = 1e-7
# Depth from which spaces first turn by principal angles: from 1000 on, other turns often ended
# nowhere, and at 300 they cost twice as much; geodesics were as short.
DEEP = 300
# One, and more than its rounding.
_NUDGED = 1 + 1e-13


class Turns(NamedTuple):
    """Rotations ``(..., 2, k, k)`` of both sides at nodes, and body velocities, first and now."""

    rotations: Array
    bodies: Array
    first: Array

    def followed_by(self, halves: Array, rates: Array) -> Turns:
        """Return ``R C(K)`` and its body velocity, from `half_turns` of K and from ``K'``."""
        turned = self.bodies @ halves
        # C^T Omega C + F^T K' F, F = (C + 1) / 2; what is not skew of it would grow
        bodies = 0.5 * transpose(halves) @ (4 * turned + rates @ halves) - 2 * turned
        bodies += 0.5 * self.bodies
        return Turns(2 * self.rotations @ halves - self.rotations, skewed(bodies), self.first)


class Ends(NamedTuple):
    """What paths join, and how it is seen.

    ``first`` and ``last`` are ``D_0`` and ``D_1``, the latter in the gauge in which the bases face
    each other; ``velocities``, ``at_one`` and ``correction`` are Omega, its exponential and ``K_1``
    of both sides, padded to the same number of rows, ``bases`` the common bases of both ends.
    """

    layout: Layout
    bases: tuple[Array, Array]
    first: Array
    last: Array
    velocities: Array
    at_one: Array
    correction: Array

    def take(self, members: Array) -> Ends:
        """Return some members."""
        bases = self.bases[0][members], self.bases[1][members]
        return Ends(self.layout, bases, *(value[members] for value in self[2:]))

    def turns(self, times: Array) -> Turns:
        """Return the body velocities of ``exp(t Omega) C(t K_1)``, and no rotations yet."""
        rates = self.correction[:, None]
        halves = half_turns(times[:, None, None, None] * rates)
        still = np.broadcast_to(np.eye(halves.shape[-1]), halves.shape)
        bodies = np.broadcast_to(self.velocities[:, None], halves.shape)
        bodies = Turns(still, bodies, bodies).followed_by(halves, rates).bodies
        return Turns(still, bodies, bodies)

    def rotations(self, times: Array) -> Array:
        """Return ``exp(t Omega) C(t K_1)``."""
        t = times[:, None, None, None]
        halves = half_turns(t * self.correction[:, None])
        turned = rotation(t * self.velocities[:, None])
        return 2 * turned @ halves - turned

    def lifted(self, core: Array, sides: Array) -> Array:
        """Stack a core with rows ``(n_batch, ..., 2, k, r)`` of both sides, out of the bases."""
        parts = []
        for side, basis in enumerate(self.bases):
            basis = basis.reshape(len(basis), *(1,) * (core.ndim - 3), *basis.shape[1:])
            parts.append(basis @ sides[..., side, : basis.shape[-1], :])
        return self.layout.stacked(core, *parts)


@dataclass(frozen=True, eq=False)
class PolarPath:
    """Energy of a batch of paths with its derivatives by directions.

    ``unknowns`` add up what has been varied since the ends were joined straight, stretches and
    turns of both sides, flat: ``(n_batch, n_modes, r^2 + 2 k^2)``. Directions, the ``gradient``
    among them, are ``(n_batch, n_modes, r + 2p, r)``. ``turns`` are those beyond ``ends``, with
    the body velocities of all. The energy is infinite where a root is too small.
    """

    ends: Ends
    basis: ModalBasis
    unknowns: Array
    stretch: Array
    turns: Turns
    nodal: NodalState
    energy: Array
    gradient: Array
    pull: Array

    @classmethod
    def of(
        cls, ends: Ends, basis: ModalBasis, unknowns: Array, stretch: Array, turns: Turns
    ) -> PolarPath:
        """Evaluate paths with modes ``stretch`` of D, ``(n_batch, n_modes, r, r)``."""
        t, n_nodes, depth = basis.nodes[:, None, None], basis.nodes.size, ends.layout.depth
        first, last = ends.first[:, None], ends.last[:, None]
        values = combine(basis.functions, stretch)
        position = (1 - t) * first + t * last + values[:, :n_nodes]
        change = (last - first) + values[:, n_nodes:]
        finite = np.isfinite(position).all(axis=(1, 2, 3))
        if not finite.all():
            position[~finite], change[~finite] = 0.0, 0.0
        nodal = nodal_state(position, change, turns.bodies, depth)
        allowed = finite & (nodal.core.roots[..., 0] > _LEAST_ROOT).all(axis=1)
        energy = np.where(allowed, nodal.energy @ basis.weights, np.inf)
        pull = np.concatenate(nodal.derivatives(), axis=1)
        gradient = combine(basis.weighted_functions.T, pull)
        return cls(ends, basis, unknowns, stretch, turns, nodal, energy, gradient, pull)

    @property
    def n_nodes(self) -> int:
        """Number of nodes of each path."""
        return self.basis.nodes.size

    def take(self, members: Array) -> PolarPath:
        """Return some members."""
        return replace(
            self,
            ends=self.ends.take(members),
            unknowns=self.unknowns[members],
            stretch=self.stretch[members],
            turns=Turns(*(value[members] for value in self.turns)),
            nodal=self.nodal.take(members),
            energy=self.energy[members],
            gradient=self.gradient[members],
            pull=self.pull[members],
        )

    def moved(self, step: Array) -> PolarPath:
        """Return the paths after a step: stretches are added, turns follow those before."""
        layout, n_nodes = self.ends.layout, self.n_nodes
        core = step[..., : layout.rank, :]
        stretch = 0.5 * (core + transpose(core))
        turns = turns_of(combine(self.basis.functions, step))
        angles, rates = turns[:, :n_nodes], turns[:, n_nodes:]
        if layout.full:
            # both sides turn oppositely
            left = half_turns(angles[:, :, 0])
            halves = np.stack([left, transpose(left)], axis=2)
        else:
            halves = half_turns(angles)
        unknowns = self.unknowns + _flat(stretch, turns_of(step))
        following = self.turns.followed_by(halves, rates)
        return self.of(self.ends, self.basis, unknowns, self.stretch + stretch, following)

    def guess(self, members: Array) -> Guess:
        """Return some members to start again from: all turns as one, ``C(K)``, on the modes."""
        rotations, bodies, first = (value[members] for value in self.turns)
        # a half turn has no Cayley transform: what is beyond is of no use
        inner = 2 * np.linalg.inv(rotations + _NUDGED * np.eye(rotations.shape[-1]))
        outer = transpose(inner)
        rates = outer @ bodies @ inner - inner @ first @ outer
        modes = combine(self.basis.weighted_slopes.T, rates)
        frames = self.ends.velocities[members], self.ends.at_one[members]
        return Guess(_flat(self.stretch[members], modes), frames)

    def rate_at_start(self) -> Array:
        """Return the initial momentum: minus the derivative of the energy by the start."""
        weights, t = self.basis.weights[:, None, None], self.basis.nodes[:, None, None]
        force, momentum = self.pull[:, : self.n_nodes], self.pull[:, self.n_nodes :]
        total = np.sum(weights * (momentum - (1 - t) * force), axis=1)
        r = self.ends.layout.rank
        return self.ends.lifted(total[:, :r], _below(total[:, r:], r))

    def states(self) -> Array:
        """Return positions and momenta at the nodes, ``(n_batch, n_nodes, 2, 1, rows, r)``.

        In the frames of the flow, which turn against each other only: the common turn is undone.
        """
        r, core, axes = self.ends.layout.rank, self.nodal.core, self.nodal.core.axes
        bodies = self.turns.bodies[..., :r, :r]
        gauge = propagators(-0.5 * (bodies[:, :, 0] + bodies[:, :, 1]))[:, :-1]
        inside = transpose(axes) @ gauge
        stretch = transpose(inside) @ (core.d[..., None] * inside)
        momentum = transpose(inside) @ (core.a + 2 * core.b) @ inside
        rotations = self.ends.rotations(self.basis.nodes) @ self.turns.rotations
        beside = _below(self.pull[:, self.n_nodes :, r:], 0)
        frames = rotations[..., :r] @ gauge[:, :, None]
        sides = rotations[..., r:] @ beside @ gauge[:, :, None]
        position, rate = self.ends.lifted(stretch, frames), self.ends.lifted(momentum, sides)
        return np.stack([position, rate], axis=2)[:, :, :, None]

    def rates(self) -> Array:
        """Return the rates of the flow at those states."""
        return rates_along(self.states(), self.ends.layout)

    def quadratic_model(self) -> QuadraticModel:
        """Prepare Hessian products at this path."""
        layout, basis, cometric = self.ends.layout, self.basis, self.nodal.cometric()
        if layout.rank < SINGLE_FROM:
            return QuadraticModel(basis, cometric, SecondVariation(self.nodal, layout.depth))
        variation = SecondVariation(self.nodal, layout.depth, np.float32)
        return QuadraticModel(basis.single, cometric.mapped(single), variation)

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`QuadraticModel`."""
        return _raised(self.basis, self.nodal.cometric(), residual)


@dataclass(frozen=True, eq=False)
class QuadraticModel:
    """Hessian of the energy of a batch of paths, and a preconditioner for it.

    Both in the precision of the basis: single is enough for steps, which the gradient corrects.
    """

    basis: ModalBasis
    cometric: Cometric
    variation: SecondVariation

    def take(self, members: Array) -> QuadraticModel:
        """Return the model of some members."""
        cometric = self.cometric.mapped(itemgetter(members))
        return QuadraticModel(self.basis, cometric, self.variation.take(members))

    def product(self, direction: Array) -> Array:
        """Apply the Hessian to a direction."""
        basis = self.basis
        pull = self.variation.apply(combine(basis.interleaved, basis.rounded(direction)))
        return combine(basis.weighted_interleaved.T, pull)

    def precondition(self, residual: Array) -> Array:
        """Apply the cometric at the nodes: the inverse of the leading part of the Hessian."""
        return _raised(self.basis, self.cometric, self.basis.rounded(residual))


def _raised(basis: ModalBasis, cometric: Cometric, residual: Array) -> Array:
    return combine(basis.weighted_slopes.T, cometric.apply(combine(basis.slopes, residual)))


def _flat(stretch: Array, turns: Array) -> Array:
    """Return unknowns of stretches and turns of both sides."""
    parts = (x.reshape(*x.shape[:2], math.prod(x.shape[2:])) for x in (stretch, turns))
    return np.concatenate(list(parts), axis=-1)


def _below(rows: Array, zeros: int) -> Array:
    """Return rows of both sides, ``(..., 2p, r)``, apart and below rows of zeros."""
    *batch, count, r = rows.shape
    sides = np.zeros((*batch, 2, zeros + count // 2, r))
    sides[..., zeros:, :] = rows.reshape(*batch, 2, count // 2, r)
    return sides


class PolarPaths(ModalPaths):
    """Family of modal paths in the polar chart."""

    levels = LEVELS

    def __init__(
        self, start: Array, end: Array, *, shape: tuple[int, int], depth: float, decayed: float
    ) -> None:
        super().__init__(start, end, shape=shape, depth=depth, decayed=decayed)
        self._start, self._size = start, max(basis.shape[-1] for basis in self.pairs.bases)
        self.way = frobenius(end[:, : self.layout.rank] - start[:, : self.layout.rank])
        self._deep = self.layout.depth >= DEEP and not self.layout.full
        if self._deep:
            # lengths are those of the turns of spaces, the slope of the core is beside 1
            self.slope_share = depth**-0.5

    def initial(self) -> Guess:
        """Return straight stretches in frames that turn with the bases of the ends."""
        frame = principal_facings(*self.pairs.last)[0][1] if self._deep else self.pairs.facing()
        return self._straight(frame)

    def rivals(self, thorough: bool = False) -> list[tuple[Array, Guess]]:
        """Return the same in frames that turn otherwise, where these may be shorter."""
        if self._deep:
            rivals = principal_facings(*self.pairs.last, thorough=thorough)[1:]
        else:
            rivals = self.pairs.rivals(thorough) if thorough else self.pairs.likely()
        return [(rows, self._straight(frame)) for rows, frame in rivals if rows.size]

    def resumed(self, earlier: Earlier, rows: Array) -> tuple[Array, Guess]:
        """Return paths of the second level of some rows that bend as earlier ones; of which."""
        near, frame, half, stretch = self.pairs.resumed(earlier, rows)
        identity = np.eye(self._size)
        turn = skewed((half - identity) @ np.linalg.inv(half + identity))
        bent, turned = (
            modes_through(earlier.times[near], x, self.levels[1][0]) for x in (stretch, turn)
        )
        unknowns = _flat(bent, np.stack([turned, -turned], axis=2))
        return rows[near], replace(self._straight(frame), unknowns=unknowns)

    def path(self, guess: Guess, rows: Array, aim: Array, level: int) -> PolarPath:
        """Return paths of some members with their energy."""
        ends, basis = self._ends(guess.frames, rows, aim), modal_basis(*self.levels[level])
        r, k, n_nodes = self.layout.rank, self._size, basis.nodes.size
        stretch = guess.unknowns[..., : r * r].reshape(*guess.unknowns.shape[:2], r, r)
        modes = guess.unknowns[..., r * r :].reshape(*guess.unknowns.shape[:2], 2, k, k)
        values = combine(basis.functions, modes)
        halves, rates = half_turns(values[:, :n_nodes]), values[:, n_nodes:]
        turns = ends.turns(basis.nodes).followed_by(halves, rates)
        return PolarPath.of(ends, basis, guess.unknowns, stretch, turns)

    def _straight(self, frame: Facing) -> Guess:
        """Return paths without modes."""
        identity = np.eye(self._size)
        velocities = self._padded(frame.left, frame.right, 0 * identity)
        at_one = self._padded(frame.left_turn, frame.right_turn, identity)
        size = self.layout.rank**2 + 2 * self._size**2
        return Guess(np.zeros((len(frame.left), self.levels[0][0], size)), (velocities, at_one))

    def _padded(self, left: Array, right: Array, blank: Array) -> Array:
        """Stack matrices of both sides, the smaller ones as blocks of ``blank``."""
        both = np.empty((len(left), 2, *blank.shape))
        both[...] = blank
        both[:, 0, : left.shape[-2], : left.shape[-1]] = left
        both[:, 1, : right.shape[-2], : right.shape[-1]] = right
        return both

    def _ends(self, frames: tuple[Array, ...], rows: Array, aim: Array) -> Ends:
        """Return what paths join that end at the aim."""
        (stretch, left, right), (velocities, at_one) = self.layout.split(aim), frames
        r, bases = self.layout.rank, (self.pairs.bases[0][rows], self.pairs.bases[1][rows])
        blank = np.zeros((self._size, r))
        last = _orthonormal(self._padded(*self.pairs.reduced(left, right, rows), blank))
        # P, exactly orthogonal: the velocities are not quite those from base to base
        facing = _orthonormal((transpose(last) @ at_one[..., :r]).sum(axis=1))
        missed = transpose(at_one) @ _with_complement(last @ facing[:, None], at_one)
        identity = np.eye(self._size)
        correction = 2 * (missed - identity) @ np.linalg.inv(missed + _NUDGED * identity)
        correction, stretch = 0.5 * skewed(correction), transpose(facing) @ stretch @ facing
        first = self._start[rows][:, :r]
        return Ends(self.layout, bases, first, stretch, velocities, at_one, correction)


def _orthonormal(columns: Array) -> Array:
    """Return the nearest orthonormal columns."""
    u, _, vt = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u @ vt)


def _with_complement(columns: Array, turn: Array) -> Array:
    """Return the rotation with these first columns whose others are near those of another."""
    r = columns.shape[-1]
    if turn.shape[-1] == r:
        return columns
    rest = turn[..., r:]
    return np.concatenate(
        [columns, _orthonormal(rest - columns @ (transpose(columns) @ rest))], axis=-1
    )
