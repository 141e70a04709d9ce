"""What the integrator follows: the geodesic flow in one representation of phase space.

A state stacks position and rate on its second axis, ``(n_batch, 2, ...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dln_manifolds.spectral.balanced import BalancedFrame, imbalance
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import SingularFrame
from dln_manifolds.spectral.hamiltonian import nodal_state
from dln_manifolds.spectral.jacobi import (
    normal_vector,
    second_fundamental_form,
    solve_jacobi,
    tangent_part,
)
from dln_manifolds.spectral.root_chart import point_of


class Field(Protocol):
    """A geodesic flow."""

    reach: float

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the time derivative of states, and the smallest root singular value."""

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

    def watched(self, position: Array) -> Array:
        """Return T itself."""
        return position

    def settle(self, state: Array) -> Array:
        """Return the state: the chart is open."""
        return state

    def points(self, position: Array, scale: Array) -> Array:
        """Return end-to-end matrices X."""
        return point_of(SingularFrame.of_root(position, self.depth).scaled(scale))


class BalancedField:
    """Geodesic flow of the balanced manifold, ``W'' = II(W', W')``.

    States are (W, V, U, ...): every further vector U is transported parallel along the geodesic,
    ``U' = II(V, U)``.
    """

    reach = 1e-5

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(V, II(V, V), II(V, U), ...)``."""
        layers, vectors = state[:, :1], state[:, 1:]
        frame = BalancedFrame.of_layers(layers)
        bent = second_fundamental_form(frame, layers, vectors[:, :1], vectors)
        return np.concatenate([vectors[:, :1], bent], axis=1), frame.roots[:, 0, -1]

    def watched(self, position: Array) -> Array:
        """Return the first layer: all have the same singular values."""
        return position[:, 0]

    def settle(self, state: Array) -> Array:
        """Take a Newton step onto the manifold, and the tangent parts of the vectors."""
        layers = settle_layers(state[:, :1])
        vectors = tangent_part(BalancedFrame.of_layers(layers), state[:, 1:])
        return np.concatenate([layers, vectors], axis=1)

    def points(self, position: Array, scale: Array) -> Array:
        """Return layers W."""
        return position * scale[:, None, None, None]


def settle_layers(layers: Array) -> Array:
    """Take one Newton step onto the manifold from nearly balanced layers."""
    if layers.shape[-3] == 1:
        return layers
    frame = BalancedFrame.of_layers(layers)
    return layers - 0.5 * normal_vector(layers, solve_jacobi(frame, imbalance(layers)))
