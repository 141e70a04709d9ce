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

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dln_manifolds.geodesics.system import TIP, Chart, FlowResult, Guess, never
from dln_manifolds.geometry.facing import AlignedPairs, Earlier, Facing
from dln_manifolds.geometry.flow_frames import flow_states
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.graph_chart import (
    GraphPoints,
    GraphVariation,
    SquarePoints,
    SquareVariation,
    with_corner,
)
from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.polar_flow import Layout, rates_along
from dln_manifolds.geometry.polar_frame import PolarFrame
from dln_manifolds.geometry.scaling import rescaled
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, rotation, transpose, weigh
from dln_manifolds.numerics.polynomials import (
    SINGLE_FROM,
    ModalBasis,
    combine,
    modal_basis,
    modes_through,
    single,
)

# Modes and quadrature nodes, from the first rough minimization to the last resort.
LEVELS = ((6, 8), (14, 17), (24, 32), (40, 54), (64, 86), (104, 140))
# Depth below which the root chart is nearly flat: geodesics are followed there at once.
SHALLOW = 2
# Least number of nodes where a path could jump through lower rank between them.
_FEWEST_NODES = 14


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
        self.n_nodes, layout = basis.nodes.shape[-1], ends.layout
        t, turns = basis.nodes[..., None, None], (ends.frame.left, ends.frame.right)
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
        np.multiply(weights[..., None, None], momentum, out=self._momentum)
        np.multiply(weights[..., None, None], force, out=self._force)
        self.energy: Array = (self.points.energy[:, None] @ weights[..., None])[:, 0, 0]
        self.gradient: Array = combine(transpose(basis.functions), pull)

    def take(self, members: Array) -> PathState:
        """Return some members, nothing computed again."""
        part = object.__new__(PathState)
        part.basis, part.n_nodes = self.basis.take(members), self.n_nodes
        part.ends, part.points = self.ends.take(members), self.points.take(members)
        part.unknowns, part.energy = self.unknowns[members], self.energy[members]
        part.gradient, part._force = self.gradient[members], self._force[members]
        part._momentum = self._momentum[members]
        return part

    def moved(self, step: Array) -> PathState:
        """Return the paths after a step of the coefficients."""
        return PathState(self.ends, self.unknowns + step, self.basis)

    def guess(self, members: Array) -> Guess:
        """Return some members to start again from."""
        return Guess(self.unknowns[members], tuple(value[members] for value in self.ends.frame))

    def momentum_at_start(self) -> Array:
        """Return minus the derivative of the energy by the start, in the chart of paths."""
        t = self.basis.nodes[..., None, None]
        return np.asarray(np.sum(self._momentum - (1 - t) * self._force, axis=1))

    def rate_at_start(self) -> Array:
        """Return the initial momentum: minus the derivative of the energy by the start."""
        momentum = self.momentum_at_start()
        layout, (left, right) = self.ends.layout, self.ends.bases
        r, depth = layout.rank, layout.depth
        # in the chart: by dx = dD / N, by equal and opposite turns K H + H K, by [0; y] H
        roots, inside = self.ends.start[:, :r, :r], momentum[:, :r, :r]
        skew = 0.5 * (inside - transpose(inside))
        core = 0.5 * (inside + transpose(inside)) / depth + skew @ roots + roots @ skew
        beside = momentum[:, r:, :r] @ roots, transpose(momentum[:, :r, r:]) @ roots
        return layout.stacked(core, left[..., r:] @ beside[0], right[..., r:] @ beside[1])

    def states(self) -> Array:
        """Return positions and momenta at the nodes, ``(n_batch, n_nodes, 2, 1, rows, r)``."""
        ends, at = self.ends, self.points.singular_frame()
        turns = ends.frame.left, ends.frame.right
        return flow_states(at, turns, self.basis.nodes, ends.bases, ends.layout)[:, :, :, None]

    def rates(self) -> Array:
        """Return the rates of the flow at those states, or of (T, P) in the root chart at rest."""
        points = self.points
        if not isinstance(points, SquarePoints) or self.ends.layout.depth >= SHALLOW:
            return rates_along(self.states(), self.ends.layout)
        nodal, t = points.nodal, self.basis.nodes[:, None, None]
        left, right = (
            basis[:, None] @ rotation(t * turn[:, None])
            for basis, turn in zip(self.ends.bases, points.turns, strict=True)
        )
        both = np.stack([nodal.leave(nodal.velocity), -nodal.leave(nodal.gradient)], axis=2)
        return (left[:, :, None] @ both @ transpose(right)[:, :, None])[:, :, :, None]

    def quadratic_model(self) -> QuadraticModel:
        """Prepare Hessian products at this path."""
        depth, points, variation = (
            self.ends.layout.depth,
            self.points,
            self.points.second_variation(),
        )
        if isinstance(points, GraphPoints) or self.ends.layout.rank < SINGLE_FROM:
            return QuadraticModel(self.basis, depth, points, variation)
        assert isinstance(variation, SquareVariation)
        basis, rounded = self.basis.single, variation.mapped(single)
        return QuadraticModel(basis, depth, points.mapped(single), rounded)

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`QuadraticModel`."""
        return apply_nodal_cometric(self.basis, self.ends.layout.depth, self.points, residual)


@dataclass(frozen=True, eq=False)
class QuadraticModel:
    """Hessian of the energy of a batch of paths, and a preconditioner for it.

    Both in the precision of the basis: single is enough for steps, which the gradient corrects.
    """

    basis: ModalBasis
    depth: float
    points: SquarePoints | GraphPoints
    variation: SquareVariation | GraphVariation

    def take(self, members: Array) -> QuadraticModel:
        """Return the model of some members."""
        points, variation = self.points.take(members), self.variation.take(members)
        return QuadraticModel(self.basis.take(members), self.depth, points, variation)

    def product(self, direction: Array) -> Array:
        """Hessian applied to a direction of the coefficients."""
        basis, n_nodes = self.basis, self.basis.nodes.shape[-1]
        values = combine(basis.functions, basis.rounded(direction))
        momentum, force = self.variation.apply(values[:, :n_nodes], values[:, n_nodes:])
        analysis = self.depth * transpose(basis.weighted_functions)
        return combine(analysis, np.concatenate([force, momentum], axis=1))

    def precondition(self, residual: Array) -> Array:
        """Apply the cometric at the nodes: the inverse of the leading part of the Hessian."""
        rounded = self.basis.rounded(residual)
        return apply_nodal_cometric(self.basis, self.depth, self.points, rounded)


def apply_nodal_cometric(
    basis: ModalBasis, depth: float, points: SquarePoints | GraphPoints, residual: Array
) -> Array:
    """Raise residuals of coefficients by the cometric at the nodes."""
    raised = points.raise_(combine(basis.slopes, residual))
    return combine(transpose(basis.weighted_slopes) / depth, raised)


class ModalPaths:
    """Modal paths between positions ``[D; E_L; E_R]`` of size one, ``(n_batch, r + m + n, r)``.

    More modes change nothing where the last unknowns are relatively below ``decayed``, beside the
    largest of them and the ``way`` between the ends.
    """

    #: Modes and quadrature nodes, from the first rough minimization to the last resort.
    levels: ClassVar[tuple[tuple[int, int], ...]]
    chart: Chart | None = None
    slope_share = 1.0
    way: Array

    def __init__(
        self, start: Array, end: Array, *, shape: tuple[int, int], depth: float, decayed: float
    ) -> None:
        self.layout, self.decayed = Layout(shape, start.shape[-1], depth), decayed
        self.pairs = AlignedPairs(start, end, self.layout)

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""
        return len(self.levels)

    def extend(self, guess: Guess, rows: Array, level: int) -> Guess:
        """Append modes with coefficient zero."""
        unknowns = guess.unknowns
        missing = self.levels[level][0] - unknowns.shape[1]
        blank = np.zeros((len(unknowns), missing, *unknowns.shape[2:]))
        return replace(guess, unknowns=np.concatenate([unknowns, blank], axis=1))

    def has_decayed(self, guess: Guess, rows: Array, level: int) -> Array:
        """Whether the last two modes are small beside the largest and the way."""
        unknowns = guess.unknowns
        flat = unknowns.reshape(*unknowns.shape[:2], math.prod(unknowns.shape[2:]))
        sizes = np.sqrt(np.einsum("bmi,bmi->bm", flat, flat))
        whole = np.maximum(self.way[rows], sizes.max(axis=1))
        return np.asarray(sizes[:, -2:].max(axis=1) <= self.decayed * whole)

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return infinity: paths cross singular matrices, where the flow sees that, or do not."""
        return never(len(guess.unknowns))

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum."""
        return aim + defect


class RootPaths(ModalPaths):
    """Family of modal paths in the root chart."""

    levels = LEVELS

    def __init__(
        self, start: Array, end: Array, *, shape: tuple[int, int], depth: float, decayed: float
    ) -> None:
        super().__init__(start, end, shape=shape, depth=depth, decayed=decayed)
        r, chart = self.layout.rank, [basis.shape[-1] for basis in self.pairs.bases]
        self._interior = min(chart) > r
        first, last = (self._root(stretch) for stretch in self.pairs.stretches)
        self._start = np.zeros((len(start), *chart))
        self._start[:, :r, :r] = first
        left, right = self.pairs.last
        if self.layout.full and depth < SHALLOW:
            self.chart = RootChart(self.layout)
        self.way = frobenius(left @ last @ transpose(right) - self._start)

    def initial(self) -> Guess:
        """Return straight lines in frames that turn with the bases of the ends."""
        return self._straight(self.pairs.facing())

    def rivals(self, thorough: bool = False) -> list[tuple[Array, Guess]]:
        """Return straight lines in frames that turn otherwise, where these may be shorter.

        Only the first of the other ways to align, unless the search is ``thorough``: in this chart
        a second was never shorter.
        """
        frames = self.pairs.rivals(thorough) if thorough else self.pairs.likely()[:1]
        return [(rows, self._straight(frame)) for rows, frame in frames]

    def resumed(self, earlier: Earlier, rows: Array) -> tuple[Array, Guess]:
        """Return paths of the second level of some rows that bend as earlier ones; of which."""
        near, frame, half, stretch = self.pairs.resumed(earlier, rows)
        seen = half @ self._root(stretch) @ half
        modes = modes_through(earlier.times[near], seen, self.levels[1][0])
        return rows[near], Guess(modes, tuple(frame))

    def path(self, guess: Guess, rows: Array, aim: Array, level: int) -> PathState:
        """Return paths of some members with their energy."""
        frame = Facing(*guess.frames)
        stretch, left, right = self.layout.split(aim)
        left, right = self.pairs.reduced(left, right, rows)
        seen = transpose(frame.left_turn) @ left @ self._root(stretch)
        seen = seen @ transpose(transpose(frame.right_turn) @ right)
        if self._interior:
            seen = with_corner(seen, self.layout.rank, 0.0)
        bases = self.pairs.bases[0][rows], self.pairs.bases[1][rows]
        ends = Ends(self.layout, self._start[rows], seen, frame, bases)
        n_modes, n_nodes = self.levels[level]
        n_nodes = max(n_nodes, _FEWEST_NODES) if self._interior else n_nodes
        return PathState(ends, guess.unknowns, modal_basis(n_modes, n_nodes))

    def _root(self, stretch: Array) -> Array:
        """Return ``1 + D / N``."""
        return np.asarray(np.eye(self.layout.rank) + stretch / self.layout.depth)

    def _straight(self, frame: Facing) -> Guess:
        """Return straight lines in given frames."""
        shape = len(frame.left), self.levels[0][0], *self._start.shape[1:]
        return Guess(np.zeros(shape), tuple(frame))


@dataclass(frozen=True)
class RootChart:
    """The flow of square matrices of full rank in the root chart: states (T, P), metric g_N."""

    layout: Layout
    reach = 0.0
    core_rank = None
    tip = TIP

    def entered(self, state: Array) -> Array:
        """Return ``T = E_L (1 + D/N) E_R^T`` with its momentum."""
        depth, layout = self.layout.depth, self.layout
        frame = PolarFrame.of_positions(state[:, 0, 0], layout)
        core = transpose(frame.axes) @ layout.split(state[:, 1, 0])[0] @ frame.axes
        turned, roots = transpose(core), frame.roots
        odd = 0.5 * (core - turned) / (depth * (roots[:, :, None] + roots[:, None, :]))
        inside = frame.frame.leave(0.5 * (core + turned) + odd)
        return np.stack([frame.frame.compose(roots), inside], axis=1)[:, :, None]

    def left(self, result: FlowResult) -> FlowResult:
        """Return states ``[D; E_L; E_R]`` with their momenta."""
        steps = replace(result.trajectory, states=[self._back(x) for x in result.trajectory.states])
        return replace(result, state=self._back(result.state), trajectory=steps)

    def _back(self, states: Array) -> Array:
        unit, scale = self.unit_states(states)
        return rescaled(unit, scale, self.layout)

    def unit_states(self, states: Array) -> tuple[Array, Array]:
        """Return ``[D; E_L; E_R]`` of size one with momenta in ``N g_N``, and mu."""
        depth = self.layout.depth
        root = Frame.of_root(states[:, 0, 0], depth)
        frame, scale = PolarFrame.of_matrices(root, self.layout)
        inside = weigh(np.exp(-scale / depth), root.enter(states[:, 1, 0]))
        turned = transpose(inside)
        mean = 0.5 * (frame.roots[:, :, None] + frame.roots[:, None, :])
        rate = np.zeros_like(frame.position)
        core = self.layout.split(rate)[0]
        core[...] = 0.5 * (inside + turned) + depth * mean * (inside - turned)
        return np.stack([frame.position, rate], axis=1)[:, :, None], scale

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(dH/dP, -dH/dT)``."""
        nodal = nodal_state(state[:, 0, 0], self.layout.depth, momentum=state[:, 1, 0])
        rate = np.stack([nodal.leave(nodal.velocity), -nodal.leave(nodal.gradient)], axis=1)
        return rate[:, :, None], nodal.roots[:, -1]

    def core(self, position: Array) -> Array:
        """Return T."""
        return position

    def project(self, state: Array) -> Array:
        """Return the state: the chart is open."""
        return state

    def chart(self, state: Array, rate: Array) -> tuple[Array, Array]:
        """Return T and its velocity."""
        return state[:, 0, 0], rate[:, 0, 0]

    def lines(self, state: Array, span: Array) -> None:
        """Return None: none is known."""

    def grown(self, position: Array, growth: Array) -> Array:
        """Return multiples."""
        return weigh(growth, position)
