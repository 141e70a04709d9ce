"""What the integrator follows: the geodesic flow in one representation of phase space.

A state stacks position and rate on its second axis, ``(n_batch, 2, ...)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from dln_manifolds.geometry.balancing import imbalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.metric import point_of
from dln_manifolds.geometry.sectors import (
    normal_vector,
    second_fundamental_form,
    solve_jacobi,
    tangent_part,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import angular_velocities, rotation, transpose, turned

# Below this depth a turning frame saves fewer steps than it costs.
_SHALLOW = 2


class MovingFrame(Protocol):
    """A frame that moves with a batch of geodesics by isometries, for the time of one step."""

    def seen(self, state: Array, rate: Array) -> Array:
        """Return a rate as seen from the frame."""

    def leave(self, time: Array, *states: Array) -> list[Array]:
        """Return what was seen from the frame, at a time since its start, as it is at rest."""

    def take(self, members: Array) -> MovingFrame:
        """Return the frame of some members."""


class Rest:
    """The frame that does not move."""

    def seen(self, state: Array, rate: Array) -> Array:
        """Return the rate."""
        return rate

    def leave(self, time: Array, *states: Array) -> list[Array]:
        """Return the states."""
        return list(states)

    def take(self, members: Array) -> Rest:
        """Return itself."""
        return self


@dataclass(frozen=True, eq=False)
class Turning:
    """A frame of the root chart that turns from both sides.

    Attributes
    ----------
    velocities : ndarray, shape=[n_batch, 2, n, n]
        Angular velocities ``Omega_L`` and ``Omega_R``: ``T = exp(t Omega_L) T~ exp(-t Omega_R)``,
        and P likewise.
    at_one : ndarray, shape=[n_batch, 2, n, n], optional
        Their exponentials, as :func:`rotation` gives them, if they are known.
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


def turning_with(root: Array, velocity: Array, depth: float) -> MovingFrame:
    """Return a frame that turns with points T, or the one at rest where the chart is nearly flat.

    Parameters
    ----------
    root, velocity : ndarray, shape=[n_batch, n, n]
        T and T'.
    depth : float
        Depth N >= 1.
    """
    return Rest() if depth < _SHALLOW else Turning(angular_velocities(root, velocity, depth))


class Field(Protocol):
    """A geodesic flow."""

    reach: float

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the time derivative of states, and the smallest root singular value."""

    def frame(self, state: Array, rate: Array) -> MovingFrame:
        """Return a frame from which these states hardly move."""

    def watched(self, position: Array) -> Array:
        """Return the matrices, linear in the position, that are singular where the flow ends."""

    def settle(self, state: Array) -> Array:
        """Remove what round-off and the integrator have moved off the manifold."""

    def points(self, position: Array, scale: Array) -> Array:
        """Return the points of the manifold at positions that were divided by ``scale``."""


@dataclass(frozen=True)
class RootField:
    """Hamiltonian flow of the root chart: states are (T, P)."""

    depth: float
    reach = 0.0

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(dH/dP, -dH/dT)``."""
        nodal = nodal_state(state[:, 0], self.depth, momentum=state[:, 1])
        rate = np.empty_like(state)
        rate[:, 0] = nodal.velocity
        np.negative(nodal.gradient, out=rate[:, 1])
        return nodal.left[:, None] @ rate @ nodal.right_t[:, None], nodal.roots[:, -1]

    def frame(self, state: Array, rate: Array) -> MovingFrame:
        """Return a frame that turns with T."""
        return turning_with(state[:, 0], rate[:, 0], self.depth)

    def watched(self, position: Array) -> Array:
        """Return T itself."""
        return position

    def settle(self, state: Array) -> Array:
        """Return the state: the chart is open."""
        return state

    def points(self, position: Array, scale: Array) -> Array:
        """Return end-to-end matrices X."""
        return point_of(Frame.of_root(position, self.depth).scaled(scale))


class BalancedField:
    """Geodesic flow of the balanced manifold, ``W'' = II(W', W')``.

    States are (W, V, U, ...): every further vector U is transported parallel along the geodesic,
    ``U' = II(V, U)``.
    """

    reach = 1e-5

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(V, II(V, V), II(V, U), ...)``."""
        layers, vectors = state[:, :1], state[:, 1:]
        frame = Frame.of_layers(layers)
        bent = second_fundamental_form(frame, layers, vectors[:, :1], vectors)
        return np.concatenate([vectors[:, :1], bent], axis=1), frame.roots[:, 0, -1]

    def frame(self, state: Array, rate: Array) -> MovingFrame:
        """Return the frame at rest."""
        return Rest()

    def watched(self, position: Array) -> Array:
        """Return the first layer: all have the same singular values."""
        return position[:, 0]

    def settle(self, state: Array) -> Array:
        """Take a Newton step onto the manifold, and the tangent parts of the vectors."""
        layers = settle_layers(state[:, :1])
        vectors = tangent_part(Frame.of_layers(layers), state[:, 1:])
        return np.concatenate([layers, vectors], axis=1)

    def points(self, position: Array, scale: Array) -> Array:
        """Return layers W."""
        return position * scale[:, None, None, None]


def settle_layers(layers: Array) -> Array:
    """Take one Newton step onto the manifold from nearly balanced layers."""
    if layers.shape[-3] == 1:
        return layers
    frame = Frame.of_layers(layers)
    # In the frames, where the imbalance of a small singular value is not drowned by the rounding of
    # the large ones.
    inside = frame.enter(layers)
    identity = np.broadcast_to(np.eye(layers.shape[-1]), frame.left.shape)
    still = replace(frame, left=identity, right_t=identity)
    multiplier = solve_jacobi(still, imbalance(inside))
    return layers - 0.5 * frame.leave(normal_vector(inside, multiplier))
