"""Balanced layers as a system: geodesics ``W'' = II(W', W')`` of a submanifold, states (W, V)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dln_manifolds.geodesics.submanifold import Submanifold
from dln_manifolds.geodesics.system import Flow, Points, Unit
from dln_manifolds.geometry.balancing import rebalance
from dln_manifolds.geometry.bounds import Bounds, lower_bound
from dln_manifolds.geometry.chain import Chain, chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import (
    bending_derivative,
    second_fundamental_form,
    weingarten,
)
from dln_manifolds.geometry.sectors import (
    jacobi_basis,
    normal_vector,
    potentials,
    tangent_part,
)
from dln_manifolds.geometry.stratum import component
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    identity_before,
    nearest_orthogonal,
    prefix_products,
    rotation_angles,
    transpose,
)

_GOAL = 1e-10


@dataclass(frozen=True)
class LayerSystem(Submanifold[Frame]):
    """Geodesics of balanced layers of any ``widths`` and rank r: states (W, V)."""

    widths: tuple[int, ...]
    rank: int
    reach = 1e-5

    @cached_property
    def chain(self) -> Chain:
        """How layers lie in arrays."""
        return chain_of(self.widths)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self.chain.count

    @property
    def straight(self) -> bool:
        """A single layer of full rank moves on a straight line."""
        return self.depth == 1 and self.rank == min(self.widths)

    def goal(self, tolerance: float) -> float:
        """Return 1e-10, the relative residual at which log counts as solved."""
        return _GOAL

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(V, II(V, V))``."""
        layers, velocity = state[:, 0], state[:, 1]
        frame = self.frame(layers)
        rate = np.empty_like(state)
        rate[:, 0] = velocity
        rate[:, 1] = second_fundamental_form(frame, velocity, velocity)
        return rate, frame.values[:, 0, -1]

    def core(self, position: Array) -> Array:
        """Return the first layer: all have the same singular values."""
        return position[..., 0, :, :]

    def project(self, state: Array) -> Array:
        """Take a Newton step onto the manifold, and the tangent part of the velocity."""
        layers = self.settled(state[:, 0])
        settled = np.empty_like(state)
        settled[:, 0] = layers
        settled[:, 1] = tangent_part(self.frame(layers), state[:, 1])
        return settled

    @property
    def linearized(self) -> Flow:
        """Geodesics with variations (dW, dV)."""
        return _Linearized(self.widths, self.rank)

    @property
    def parallel(self) -> Flow:
        """Geodesics with pairs of vectors that are transported: ``U' = II(V, U)``."""
        return _Parallel(self.widths, self.rank)

    def frame(self, points: Array) -> Frame:
        """Decompose points."""
        return Frame.of_layers(points, self.chain, self.rank)

    def settled(self, layers: Array) -> Array:
        """Take one Newton step onto the manifold from layers that are nearly on it.

        The manifold is a cone: layers are tangent vectors at themselves. In their frames, where the
        imbalance of a small singular value is not drowned by the rounding of the large ones, the
        normal part is what they are off by.
        """
        return tangent_part(self.frame(layers), layers)

    def tangent_part(self, frame: Frame, vector: Array) -> Array:
        """Project ambient vectors at nodes."""
        return tangent_part(frame, vector)

    def tangent_basis(self, frame: Frame) -> Array:
        """Return the horizontal and vertical vectors of the Jacobi basis."""
        sectors = jacobi_basis(frame)
        return np.concatenate([sectors.horizontal, sectors.vertical], axis=frame.values.ndim - 1)

    def shape(self, frame: Frame, vector: Array) -> Array:
        """Return S of the normal part ``W_p S_{p-1} - S_p W_p`` of ambient vectors."""
        symmetric, _ = potentials(frame, frame.enter(vector))
        middle = frame.left[..., :-1, :, :]
        return middle @ symmetric @ transpose(middle)

    def bent(self, tangent_vec: Array, shape: Array) -> Array:
        """Return how that normal part moves along tangent vectors, with the same S."""
        return normal_vector(tangent_vec, shape)

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return the Weingarten map of the normal part of a gradient."""
        return weingarten(self.frame(unit.position), rate, gradient)

    def nearest(self, points: Array, like: Array | None = None) -> Array:
        """Return balanced layers near the given ones; signs of det as of ``like``."""
        signs = None if like is None else component(self.frame(like))[:, None]
        return rebalance(points, self.chain, self.rank, orientation=signs)

    def first_path(self, start: Array, end: Array, times: Array) -> Array:
        """Return the path whose layers turn by their polar factors; it stays on the manifold.

        ``W_p = O_p H_{p-1}``, ``H_p = O_p H_{p-1} O_p^T``, with ``H_0`` on a straight line of
        positive matrices and ``O_p`` turning from one polar factor to the other.
        """
        turn_0, turn_1 = nearest_orthogonal(start), nearest_orthogonal(end)
        turn = transpose(turn_0) @ turn_1
        eigenvectors, angles = rotation_angles(turn)
        t = np.append(times, 1.0)[:, None, None]
        phases = np.exp(1j * t * angles[:, None])
        vectors = eigenvectors[:, None]
        rotation = ((vectors * phases[..., None, :]) @ np.conj(transpose(vectors))).real
        # Angles are known to 1e-6 only: what is left at the end turns steadily, too.
        t, rotation, reached = t[:-1], rotation[:, :-1], rotation[:, -1]
        rest = transpose(reached) @ turn
        rest = 0.5 * t[..., None] * (rest - transpose(rest))[:, None]
        rotation = rotation + rotation @ (rest + 0.5 * rest @ rest)
        turns = turn_0[:, None] @ rotation
        first = [
            (transpose(right_t) * s[:, None, :]) @ right_t
            for _, s, right_t in (np.linalg.svd(start[:, 0]), np.linalg.svd(end[:, 0]))
        ]
        positive = (1 - t) * first[0][:, None] + t * first[1][:, None]
        # W_p = (O_p ... O_1) H_0 (O_{p-1} ... O_1)^T
        products = prefix_products(turns)
        return products @ positive[:, :, None] @ transpose(identity_before(products))

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return bounds as for any submanifold; end-to-end matrices are not farther apart."""
        lower, upper = super().bounds(first, last)
        apart = (component(first.frame) != component(last.frame)).any(axis=-1)
        below = lower_bound(first.frame.ends, last.frame.ends)
        return Bounds(np.maximum(lower, below), np.where(apart, np.inf, upper))

    def nearness(self, points: Array) -> Array:
        """Return the smallest singular values at nodes relative to the largest of each path."""
        roots = np.linalg.svd(points[:, :, 0], compute_uv=False)
        return roots[..., -1] / roots[..., 0].max(axis=1, keepdims=True)


class _Linearized(LayerSystem):
    """Geodesics with variations; all share the norm that bounds the error of a step."""

    reach = 0.0

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``((V, dV, ...), (II(V, V), d II(V, V), ...))``."""
        frame = self.frame(state[:, 0, :1])
        rate = np.empty_like(state)
        rate[:, 0] = state[:, 1]
        rate[:, 1, :1] = second_fundamental_form(frame, state[:, 1, :1], state[:, 1, :1])
        rate[:, 1, 1:] = bending_derivative(
            frame, state[:, 1, :1], state[:, 0, 1:], state[:, 1, 1:]
        )
        return rate, frame.roots[:, 0, -1]

    def project(self, state: Array) -> Array:
        """Take the variations along: dW is tangent, dV has the normal part ``II(V, dW)``."""
        settled = _projected(self, state)
        frame, velocity = self.frame(settled[:, 0, :1]), settled[:, 1, :1]
        settled[:, 1, 1:] += second_fundamental_form(frame, velocity, settled[:, 0, 1:])
        return settled


class _Parallel(LayerSystem):
    """Geodesics with vectors in both rows, every one transported parallel."""

    def project(self, state: Array) -> Array:
        """Take the tangent parts of all vectors."""
        return _projected(self, state)

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``((V, II(V, U), ...), (II(V, V), II(V, U), ...))``."""
        frame = self.frame(state[:, :1, :1])
        rate = second_fundamental_form(frame, state[:, 1:, :1], state)
        rate[:, 0, 0] = state[:, 1, 0]
        return rate, frame.roots[:, 0, 0, -1]


def _projected(system: LayerSystem, state: Array) -> Array:
    """Take a Newton step onto the manifold, and the tangent parts of all vectors there."""
    layers = system.settled(state[:, 0, :1])
    tangent = tangent_part(system.frame(layers).beside(), state)
    tangent[:, 0, :1] = layers
    return tangent
