r"""Paths between two points of the root chart and their energy.

.. math::
    T(t) = \exp(t \Omega_L) M(t) \exp(-t \Omega_R), \qquad
    M(t) = (1-t) M_0 + t M_1 + \sum_m c_m \phi_m(t),

with integrated Legendre polynomials ``phi_m``, whose derivatives are orthonormal on [0, 1], and
the energy ``int_0^1 g_T(T', T') / 2 dt`` by Gauss quadrature. Rotations are isometries, so the
energy is that of M with the velocity ``M' + Omega_L M - M Omega_R``. The frame turns at a constant
rate from the orthogonal polar factor of one end to that of the other, half from each side: seen
from it, a geodesic hardly moves, and the metric hardly changes along it, however deep the network.

The momentum at an end is the derivative of the minimal energy by that end; since the energy is
stationary, its error is the square of that of the path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dln_manifolds.geodesics.system import Guess, never
from dln_manifolds.geometry.hamiltonian import NodalState, SecondVariation, nodal_state
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, rotation, rotation_angles, transpose, turned
from dln_manifolds.numerics.polynomials import ModalBasis, combine, modal_basis

# Modes and quadrature nodes, from the first rough minimization to the last resort.
LEVELS = ((6, 8), (14, 18), (24, 32), (40, 54), (64, 86), (104, 140))
# Largest polar angle from which turning by 2 pi less is tried too. Of some thousand Gaussian pairs
# where that is shorter (one to nine in a hundred for n = 3 to 8), the smallest angle was 2.69.
_WIDE = 2.5


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
        return np.asarray(rate - turned(self.velocities, state))

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


class PathState:
    """Energy of a batch of paths with its derivatives by the coefficients.

    ``start`` and ``end`` are M_0 and M_1, as seen from the frame, and ``coefficients`` the c of all
    modes, shape ``(n_batch, n_modes, n, n)``.
    """

    def __init__(
        self,
        start: Array,
        end: Array,
        coefficients: Array,
        frame: Turning,
        basis: ModalBasis,
        depth: float,
    ) -> None:
        self.start, self.end, self.unknowns, self.frame = start, end, coefficients, frame
        self.basis, self.depth, self.n_nodes = basis, depth, basis.nodes.size
        t, turns = basis.nodes[:, None, None], frame.velocities
        first, last = start[:, None], end[:, None]
        values = combine(basis.functions, coefficients)
        roots = (1 - t) * first + t * last + values[:, : self.n_nodes]
        self._moving = (last - first) + values[:, self.n_nodes :]
        velocity = self._moving + turned(turns, roots)
        self.nodal: NodalState = nodal_state(roots, depth, velocity=velocity)
        weights = basis.weights[:, None, None]
        pull = np.empty_like(values)
        self._force, self._momentum = pull[:, : self.n_nodes], pull[:, self.n_nodes :]
        np.multiply(weights, self.nodal.leave(self.nodal.momentum), out=self._momentum)
        np.multiply(-weights, self.nodal.leave(self.nodal.gradient), out=self._force)
        self._force -= turned(turns, self._momentum)
        self.energy: Array = self.nodal.energy @ basis.weights
        self.gradient: Array = combine(basis.functions.T, pull)

    def take(self, members: Array) -> PathState:
        """Return some members."""
        start, end, unknowns = (x[members] for x in (self.start, self.end, self.unknowns))
        frame = self.frame.take(members)
        return PathState(start, end, unknowns, frame, self.basis, self.depth)

    def moved(self, step: Array) -> PathState:
        """Return the paths after a step of the coefficients."""
        unknowns = self.unknowns + step
        return PathState(self.start, self.end, unknowns, self.frame, self.basis, self.depth)

    def rate_at_start(self) -> Array:
        """Return the initial momentum: minus the derivative of the energy by T_0."""
        t = self.basis.nodes[:, None, None]
        return np.sum(self._momentum - (1 - t) * self._force, axis=1)

    def rates(self) -> Array:
        """Return ``M'`` and the force at the nodes: the rates of T and P as the frame sees them."""
        weights = self.basis.weights[:, None, None]
        return np.stack([self._moving, self._force / weights], axis=2)[:, :, :, None]

    def quadratic_model(self) -> QuadraticModel:
        """Prepare Hessian products at this path."""
        variation = SecondVariation(self.nodal, self.depth)
        return QuadraticModel(self.basis, self.frame.velocities, self.nodal, variation)

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`QuadraticModel`."""
        return _apply_nodal_cometric(self.basis, self.nodal, residual)


@dataclass(frozen=True, eq=False)
class QuadraticModel:
    """Hessian of the energy of a batch of paths, and a preconditioner for it."""

    basis: ModalBasis
    turns: Array
    nodal: NodalState
    variation: SecondVariation

    def take(self, members: Array) -> QuadraticModel:
        """Return the model of some members."""
        nodal = NodalState(*(value[members] for value in self.nodal))
        variation = self.variation.take(members)
        return QuadraticModel(self.basis, self.turns[members], nodal, variation)

    def product(self, direction: Array) -> Array:
        """Hessian applied to a direction of the coefficients."""
        basis, n_nodes = self.basis, self.basis.nodes.size
        values = combine(basis.functions, direction)
        root, velocity = values[:, :n_nodes], values[:, n_nodes:]
        velocity += turned(self.turns, root)
        momentum, force = self.variation.apply(root, velocity)
        force -= turned(self.turns, momentum)
        return combine(basis.weighted_functions.T, np.concatenate([force, momentum], axis=1))

    def precondition(self, residual: Array) -> Array:
        """Apply the cometric at the nodes: the inverse of the leading part of the Hessian."""
        return _apply_nodal_cometric(self.basis, self.nodal, residual)


def _apply_nodal_cometric(basis: ModalBasis, nodal: NodalState, residual: Array) -> Array:
    return combine(basis.weighted_slopes.T, nodal.raise_(combine(basis.slopes, residual)))


@dataclass(frozen=True)
class PolarTurn:
    """The rotation ``O_0^T O_1`` from the polar factor of one end to that of the other.

    ``first`` is ``O_0``; eigenvectors and angles are those of the rotation. At an angle of exactly
    pi the plane of rotation is not determined by the ends; one is picked.
    """

    first: Array
    eigenvectors: Array
    angles: Array

    @classmethod
    def between(cls, first: Array, last: Array) -> PolarTurn:
        """Return the rotation between polar factors whose determinants have the same sign."""
        return cls(first, *rotation_angles(transpose(first) @ last))

    def the_other_way(self, pick: Array) -> PolarTurn:
        """Return the turns of some members with the plane of largest angle turned backwards."""
        angles = self.angles[pick]
        largest = np.argsort(-np.abs(angles), axis=1)[:, :2]
        turned = np.take_along_axis(angles, largest, axis=1)
        np.put_along_axis(angles, largest, turned - 2 * np.pi * np.sign(turned), axis=1)
        return PolarTurn(self.first[pick], self.eigenvectors[pick], angles)

    def frames(self) -> Array:
        r"""Return frames that turn along, half from each side, shape ``(n_batch, 4, n, n)``.

        Angular velocities ``Omega_L = O_0 L O_0^T / 2``, ``Omega_R = -L / 2``, with the logarithm L
        of the rotation, and the rotations ``exp(Omega_L)``, ``exp(Omega_R)`` at the end.
        """
        adjoint = np.conj(transpose(self.eigenvectors))
        skew = ((self.eigenvectors * (0.5j * self.angles)[:, None, :]) @ adjoint).real
        # Of the matrix itself: where eigenvectors are mixed up, it is not quite the logarithm, but
        # every frame will do that agrees with its own angular velocities.
        turn = rotation(skew)
        first, last = self.first, transpose(self.first)
        return np.stack([first @ skew @ last, -skew, first @ turn @ last, transpose(turn)], axis=1)


@dataclass(frozen=True, eq=False)
class RootPaths:
    """Family of modal paths in the root chart at one depth.

    More modes would change nothing where the last coefficients are relatively below ``decayed``;
    ``first_polar`` and ``last_polar`` are the polar factors of the ends of `initial`.
    """

    depth: float
    decayed: float
    first_polar: Array
    last_polar: Array

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""
        return len(LEVELS)

    def initial(self, start: Array, end: Array) -> tuple[Guess, Array, Guess | None]:
        """Return straight lines in frames that turn with the polar factors.

        Where they turn by nearly pi, those that turn the other way round are rivals.
        """
        turn = PolarTurn.between(self.first_polar, self.last_polar)
        wide = np.max(np.abs(turn.angles), axis=-1) > _WIDE
        # In the plane the other way is longer; for N < 2 it may lead out of GL(n).
        rows = np.nonzero(wide & (start.shape[-1] > 2) & (self.depth >= 2))[0]
        unknowns = np.zeros((len(start), LEVELS[0][0], *start.shape[1:]))
        guess = Guess(unknowns, turn.frames())
        if rows.size == 0:
            return guess, rows, None
        return guess, rows, Guess(unknowns[rows], turn.the_other_way(rows).frames())

    def extend(self, guess: Guess, start: Array, end: Array, level: int) -> Guess:
        """Append modes with coefficient zero."""
        unknowns = guess.unknowns
        shape = (len(unknowns), LEVELS[level][0] - unknowns.shape[1], *unknowns.shape[2:])
        return replace(guess, unknowns=np.concatenate([unknowns, np.zeros(shape)], axis=1))

    def path(self, guess: Guess, start: Array, end: Array, level: int) -> PathState:
        """Return paths with their energy."""
        turns, rotations = guess.frames[:, :2], guess.frames[:, 2:]
        seen = transpose(rotations[:, 0]) @ end @ rotations[:, 1]
        basis = modal_basis(*LEVELS[level])
        return PathState(start, seen, guess.unknowns, Turning(turns, rotations), basis, self.depth)

    def has_decayed(self, guess: Guess, start: Array, end: Array, level: int) -> Array:
        """Whether the last two coefficients are small beside chord and largest coefficient."""
        sizes = frobenius(guess.unknowns)
        whole = np.maximum(frobenius(end - start), sizes.max(axis=1))
        return sizes[:, -2:].max(axis=1) <= self.decayed * whole

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return infinity: these paths cross singular matrices, and the flow sees that."""
        return never(len(guess.unknowns))

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum: the chart is linear."""
        return aim + defect
