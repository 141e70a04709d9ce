r"""Paths between two points of the root chart and their energy, any shape and rank, finite depth.

.. math::
    T(t) = \exp(t \Omega_L) T[x(t)] \exp(-t \Omega_R), \qquad
    x(t) = (1-t) x_0 + t x_1 + \sum_m c_m \phi_m(t),

with integrated Legendre polynomials ``phi_m``, whose derivatives are orthonormal on [0, 1], and
the energy ``int_0^1 N g_T(T', T') / 2 dt`` by Gauss quadrature; x is the chart of
:mod:`dln_manifolds.geometry.graph_chart`, T itself at full rank. Rotations are isometries, so the
energy is that of ``T[x]`` with the velocity ``T[x]' + Omega_L T[x] - T[x] Omega_R``. The frame
turns at a constant rate from the bases of one end to those of the other, half from each side: seen
from it, a geodesic hardly moves, and the metric hardly changes along it, however deep the network.

The momentum at an end is the derivative of the minimal energy by that end; since the energy is
stationary, its error is the square of that of the path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dln_manifolds.geodesics.system import Guess, never
from dln_manifolds.geometry.facing import (
    Facing,
    common_bases,
    facing,
    signed_polar,
    skew_of,
)
from dln_manifolds.geometry.graph_chart import (
    GraphPoints,
    GraphVariation,
    SquarePoints,
    SquareVariation,
    with_corner,
)
from dln_manifolds.geometry.polar_flow import Layout, rates_along
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    diagonal,
    frobenius,
    rotation,
    rotation_angles,
    transpose,
    turned,
)
from dln_manifolds.numerics.polynomials import ModalBasis, combine, modal_basis, propagators

# Modes and quadrature nodes, from the first rough minimization to the last resort.
LEVELS = ((6, 8), (14, 18), (24, 32), (40, 54), (64, 86), (104, 140))
# Least number of nodes where a path could jump through lower rank between them.
_FEWEST_NODES = 14
# Largest polar angle from which turning by 2 pi less is tried too. Of some thousand Gaussian pairs
# where that is shorter (one to nine in a hundred for n = 3 to 8), the smallest angle was 2.69.
_WIDE = 2.5
# Least singular value of ``E_1^T E_0 + F_1^T F_0`` below which flips of directions are tried too.
_LOOSE = 0.7


@dataclass(frozen=True, eq=False)
class Turning:
    """A frame of the root chart that turns from both sides.

    ``velocities`` are ``Omega_L`` and ``Omega_R``, shape ``(n_batch, 2, n, n)``:
    ``T = exp(t Omega_L) T~ exp(-t Omega_R)``, and P likewise. ``at_one`` are their exponentials, as
    :func:`rotation` gives them, if they are known.
    """

    velocities: Array
    at_one: Array | None = None

    def seen(self, state: Array, rate: Array) -> Array:
        """Return ``rate - Omega_L state + state Omega_R``."""
        return np.asarray(rate - turned((self.velocities[:, 0], self.velocities[:, 1]), state))

    def leave(self, time: Array, *states: Array) -> list[Array]:
        """Return ``exp(t Omega_L) state exp(-t Omega_R)``."""
        if self.at_one is not None and (time == 1).all():
            turn = self.at_one
        else:
            turn = rotation(time[:, None, None, None] * self.velocities)
        shape = (len(turn), *(1,) * (states[0].ndim - 3), *turn.shape[2:])
        left, right = turn[:, 0].reshape(shape), transpose(turn[:, 1]).reshape(shape)
        return [left @ state @ right for state in states]

    def take(self, members: Array) -> Turning:
        """Return the frame of some members."""
        at_one = None if self.at_one is None else self.at_one[members]
        return Turning(self.velocities[members], at_one)


@dataclass(frozen=True, eq=False)
class Ends:
    """What paths join, and how it is seen.

    ``start`` and ``end`` are x_0 and x_1, as seen from the turning ``frame``; ``bases`` are the
    common bases of column and row spaces of both ends, which begin with those of the start.
    """

    layout: Layout
    start: Array
    end: Array
    frame: Facing
    bases: tuple[Array, Array]

    def take(self, members: Array) -> Ends:
        """Return some members."""
        frame = Facing(*(value[members] for value in self.frame))
        bases = self.bases[0][members], self.bases[1][members]
        return Ends(self.layout, self.start[members], self.end[members], frame, bases)


class PathState:
    """Energy of a batch of paths with its derivatives by the coefficients.

    ``unknowns`` are the coefficients c of all modes, ``(n_batch, n_modes, *chart)``.
    """

    def __init__(self, ends: Ends, coefficients: Array, basis: ModalBasis) -> None:
        self.ends, self.unknowns, self.basis = ends, coefficients, basis
        self.n_nodes, layout = basis.nodes.size, ends.layout
        t, turns = basis.nodes[:, None, None], (ends.frame.left, ends.frame.right)
        first, last = ends.start[:, None], ends.end[:, None]
        values = combine(basis.functions, coefficients)
        x = (1 - t) * first + t * last + values[:, : self.n_nodes]
        rate = (last - first) + values[:, self.n_nodes :]
        self.points: SquarePoints | GraphPoints
        if layout.full:
            self.points = SquarePoints(x, rate, turns, layout.depth)
        else:
            self.points = GraphPoints(x, rate, turns, layout.depth, layout.rank)
        weights = layout.depth * basis.weights
        pull = np.empty_like(values)
        self._force, self._momentum = pull[:, : self.n_nodes], pull[:, self.n_nodes :]
        momentum, force = self.points.derivatives()
        np.multiply(weights[:, None, None], momentum, out=self._momentum)
        np.multiply(weights[:, None, None], force, out=self._force)
        self.energy: Array = self.points.energy @ weights
        self.gradient: Array = combine(basis.functions.T, pull)

    def take(self, members: Array) -> PathState:
        """Return some members."""
        return PathState(self.ends.take(members), self.unknowns[members], self.basis)

    def moved(self, step: Array) -> PathState:
        """Return the paths after a step of the coefficients."""
        return PathState(self.ends, self.unknowns + step, self.basis)

    def guess(self, members: Array) -> Guess:
        """Return some members to start again from."""
        return Guess(self.unknowns[members], tuple(value[members] for value in self.ends.frame))

    def rate_at_start(self) -> Array:
        """Return the initial momentum: minus the derivative of the energy by the start."""
        t = self.basis.nodes[:, None, None]
        momentum = np.sum(self._momentum - (1 - t) * self._force, axis=1)
        layout, (left, right) = self.ends.layout, self.ends.bases
        r, depth = layout.rank, layout.depth
        # in the chart: by dx = dD / N, by equal and opposite turns K H + H K, by [0; y] H
        roots, inside = self.ends.start[:, :r, :r], momentum[:, :r, :r]
        skew = 0.5 * (inside - transpose(inside))
        core = 0.5 * (inside + transpose(inside)) / depth + skew @ roots + roots @ skew
        beside = momentum[:, r:, :r] @ roots, transpose(momentum[:, :r, r:]) @ roots
        return layout.stacked(core, left[..., r:] @ beside[0], right[..., r:] @ beside[1])

    def states(self) -> Array:
        """Return positions and momenta at the nodes, ``(n_batch, n_nodes, 2, 1, rows, r)``.

        In the frames of the flow, which turn against each other from those of the start: any
        smooth frames ``U g`` and ``V g``, ``g = polar(V^T [I; 0] + U^T [I; 0])``, with the common
        turn ``g^T g'`` undone that they have beyond U and V, if these move as those of the flow.
        """
        layout, t = self.ends.layout, self.basis.nodes[:, None, None]
        r, depth, at = layout.rank, layout.depth, self.points.singular_frame()
        pair_sum = at.roots[..., :, None] + at.roots[..., None, :]
        twist = (at.velocity - transpose(at.velocity)) / pair_sum
        velocities = [side / at.roots[..., None, :] for side in at.sides]
        velocities[0] += at.left @ (0.5 * twist)
        velocities[1] -= at.right @ (0.5 * twist)
        turns = (self.ends.frame.left[:, None], self.ends.frame.right[:, None])
        top = transpose(at.left[..., :r, :] + at.right[..., :r, :])
        seen = [
            (v - o @ e)[..., :r, :]
            for v, o, e in zip(velocities, turns, (at.left, at.right), strict=True)
        ]
        u, values, vt = np.linalg.svd(top)
        drift = transpose(u) @ transpose(seen[0] + seen[1]) @ transpose(vt)
        drift = (drift - transpose(drift)) / (values[..., :, None] + values[..., None, :])
        g = u @ vt @ propagators(-(transpose(vt) @ drift @ vt))[:, :-1]
        swung = [
            rotation(t * omega) @ e for omega, e in zip(turns, (at.left, at.right), strict=True)
        ]
        stretch, outside = np.zeros_like(at.momentum), []
        diagonal(stretch)[...] = depth * (at.roots - 1)
        frames = [basis[:, None] @ (e @ g) for basis, e in zip(self.ends.bases, swung, strict=True)]
        core = 0.5 * (at.momentum + transpose(at.momentum))
        core += 0.5 * depth * pair_sum * (at.momentum - transpose(at.momentum))
        for omega, side, basis in zip(turns, at.sides, self.ends.bases, strict=True):
            weighed = (depth * at.roots[..., None, :] * side) @ g
            outside.append(basis[:, None] @ (rotation(t * omega) @ weighed))
        position = layout.position(transpose(g) @ stretch @ g, *frames)
        momentum = layout.stacked(transpose(g) @ core @ g, *outside)
        return np.stack([position, momentum], axis=2)[:, :, :, None]

    def rates(self) -> Array:
        """Return the rates of the flow at those states."""
        return rates_along(self.states(), self.ends.layout)

    def quadratic_model(self) -> QuadraticModel:
        """Prepare Hessian products at this path."""
        variation = self.points.second_variation()
        return QuadraticModel(self.basis, self.ends.layout.depth, self.points, variation)

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`QuadraticModel`."""
        return _apply_nodal_cometric(self.basis, self.ends.layout.depth, self.points, residual)


@dataclass(frozen=True, eq=False)
class QuadraticModel:
    """Hessian of the energy of a batch of paths, and a preconditioner for it."""

    basis: ModalBasis
    depth: float
    points: SquarePoints | GraphPoints
    variation: SquareVariation | GraphVariation

    def take(self, members: Array) -> QuadraticModel:
        """Return the model of some members."""
        points, variation = self.points.take(members), self.variation.take(members)
        return QuadraticModel(self.basis, self.depth, points, variation)

    def product(self, direction: Array) -> Array:
        """Hessian applied to a direction of the coefficients."""
        basis, n_nodes = self.basis, self.basis.nodes.size
        values = combine(basis.functions, direction)
        momentum, force = self.variation.apply(values[:, :n_nodes], values[:, n_nodes:])
        analysis = self.depth * basis.weighted_functions.T
        return combine(analysis, np.concatenate([force, momentum], axis=1))

    def precondition(self, residual: Array) -> Array:
        """Apply the cometric at the nodes: the inverse of the leading part of the Hessian."""
        return _apply_nodal_cometric(self.basis, self.depth, self.points, residual)


def _apply_nodal_cometric(
    basis: ModalBasis, depth: float, points: SquarePoints | GraphPoints, residual: Array
) -> Array:
    raised = points.raise_(combine(basis.slopes, residual))
    return combine(basis.weighted_slopes.T / depth, raised)


class RootPaths:
    """Family of modal paths in the root chart between positions ``[D; E_L; E_R]`` of size one.

    More modes would change nothing where the last coefficients are relatively below ``decayed``.
    """

    def __init__(
        self, start: Array, end: Array, *, shape: tuple[int, int], depth: float, decayed: float
    ) -> None:
        self.layout, self.decayed = Layout(shape, start.shape[-1], depth), decayed
        (stretch, *first), (_, *last) = self.layout.split(start), self.layout.split(end)
        self.bases = common_bases(first[0], last[0]), common_bases(first[1], last[1])
        self._roots = [self._root(self.layout.split(x)[0]) for x in (start, end)]
        self._last = self._reduced(last)
        self._interior = min(x.shape[-1] for x in self.bases) > self.layout.rank
        r, chart = self.layout.rank, (self.bases[0].shape[-1], self.bases[1].shape[-1])
        self._start = np.zeros((len(start), *chart))
        self._start[:, :r, :r] = self._roots[0]
        chord = self._last[0] @ self._roots[1] @ transpose(self._last[1]) - self._start
        self._chord = frobenius(chord)

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""
        return len(LEVELS)

    def initial(self) -> Guess:
        """Return straight lines in frames that turn with the bases of the ends."""
        everyone = np.arange(len(self._start))
        if self.layout.full:
            return self._straight(everyone, _halved(*self._polar_turn))
        return self._straight(everyone, facing(*self._last, self._first_turn))

    def rivals(self) -> list[tuple[Array, Guess]]:
        """Return straight lines in frames that turn otherwise, where these may be shorter."""
        if self.layout.full:
            return self._the_other_way()
        r, coupling = self.layout.rank, self._coupling
        loose = np.linalg.svd(coupling, compute_uv=False)[:, -1] < _LOOSE
        rows = np.nonzero(loose)[0]
        if rows.size == 0:
            return []
        u, _, vt = np.linalg.svd(self._weighted)
        signs = np.sign(diagonal(transpose(u) @ self._first_turn @ transpose(vt)))[rows]
        counts = [1] if self._interior else []
        rivals = []
        for count in counts + [2] * (r > 1):
            flipped = signs.copy()
            flipped[:, -count:] *= -1
            turn = (u[rows] * flipped[:, None, :]) @ vt[rows]
            frame = facing(self._last[0][rows], self._last[1][rows], turn)
            rivals.append((rows, self._straight(rows, frame)))
        return rivals

    def extend(self, guess: Guess, rows: Array, level: int) -> Guess:
        """Append modes with coefficient zero."""
        unknowns = guess.unknowns
        shape = (len(unknowns), LEVELS[level][0] - unknowns.shape[1], *unknowns.shape[2:])
        return replace(guess, unknowns=np.concatenate([unknowns, np.zeros(shape)], axis=1))

    def path(self, guess: Guess, rows: Array, aim: Array, level: int) -> PathState:
        """Return paths of some members with their energy."""
        frame = Facing(*guess.frames)
        stretch, *bases = self.layout.split(aim)
        left, right = self._reduced(bases, rows)
        seen = transpose(frame.left_turn) @ left @ self._root(stretch)
        seen = seen @ transpose(transpose(frame.right_turn) @ right)
        if self._interior:
            seen = with_corner(seen, self.layout.rank, 0.0)
        ends = Ends(
            self.layout, self._start[rows], seen, frame, (self.bases[0][rows], self.bases[1][rows])
        )
        n_modes, n_nodes = LEVELS[level]
        n_nodes = max(n_nodes, _FEWEST_NODES) if self._interior else n_nodes
        return PathState(ends, guess.unknowns, modal_basis(n_modes, n_nodes))

    def has_decayed(self, guess: Guess, rows: Array, level: int) -> Array:
        """Whether the last two coefficients are small beside chord and largest coefficient."""
        sizes = frobenius(guess.unknowns)
        whole = np.maximum(self._chord[rows], sizes.max(axis=1))
        return np.asarray(sizes[:, -2:].max(axis=1) <= self.decayed * whole)

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return infinity: these paths cross singular matrices, and the flow sees that."""
        return never(len(guess.unknowns))

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum."""
        return aim + defect

    def _root(self, stretch: Array) -> Array:
        """Return ``1 + D / N``."""
        return np.eye(self.layout.rank) + stretch / self.layout.depth

    def _reduced(self, bases: list[Array], rows: Array | slice = slice(None)) -> list[Array]:
        """Return bases of column and row spaces in coordinates of the common ones."""
        return [
            transpose(common[rows]) @ basis for common, basis in zip(self.bases, bases, strict=True)
        ]

    def _straight(self, rows: Array, frame: Facing) -> Guess:
        """Return straight lines in given frames."""
        return Guess(np.zeros((len(rows), LEVELS[0][0], *self._start.shape[1:])), tuple(frame))

    @cached_property
    def _polar_turn(self) -> tuple[Array, Array]:
        """Eigenvectors and angles of the rotation from one polar factor to the other."""
        return rotation_angles(self._last[0] @ transpose(self._last[1]))

    def _the_other_way(self) -> list[tuple[Array, Guess]]:
        """Return frames with the plane of largest angle turned backwards, where that is wide."""
        vectors, angles = self._polar_turn
        wide = np.max(np.abs(angles), axis=-1) > _WIDE
        # In the plane the other way is longer; for N < 2 it may lead out of GL(n).
        rows = np.nonzero(wide & (self.layout.rank > 2) & (self.layout.depth >= 2))[0]
        if rows.size == 0:
            return []
        angles = angles[rows]
        largest = np.argsort(-np.abs(angles), axis=1)[:, :2]
        chosen = np.take_along_axis(angles, largest, axis=1)
        np.put_along_axis(angles, largest, chosen - 2 * np.pi * np.sign(chosen), axis=1)
        return [(rows, self._straight(rows, _halved(vectors[rows], angles)))]

    @cached_property
    def _coupling(self) -> Array:
        """``E_1^T E_0 + F_1^T F_0``."""
        r = self.layout.rank
        return transpose(self._last[0][:, :r] + self._last[1][:, :r])

    @cached_property
    def _weighted(self) -> Array:
        """The same between the roots of both ends."""
        return self._roots[1] @ self._coupling @ self._roots[0]

    @cached_property
    def _first_turn(self) -> Array:
        """P of the first paths; if a side is as short as the rank, its sign is given."""
        r, sign = self.layout.rank, None
        for end in self._last:
            if end.shape[-2] == r:
                sign = np.linalg.slogdet(end)[0]
        return signed_polar(self._weighted, sign)


def _halved(vectors: Array, angles: Array) -> Facing:
    """Return frames that turn by a rotation, half from each side."""
    # Of the skew matrix itself: where eigenvectors are mixed up, it is not quite the logarithm, but
    # every frame will do that agrees with its own angular velocities.
    skew = skew_of(vectors, 0.5 * angles)
    turn = rotation(skew)
    return Facing(skew, -skew, turn, transpose(turn))
