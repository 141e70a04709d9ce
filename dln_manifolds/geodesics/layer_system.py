"""Balanced layers as a system: geodesics ``W'' = II(W', W')`` of a submanifold, states (W, V)."""

from dataclasses import dataclass, replace

import numpy as np

from dln_manifolds.geodesics.submanifold import Submanifold
from dln_manifolds.geodesics.system import Flow, Points
from dln_manifolds.geometry.balancing import imbalance, rebalance
from dln_manifolds.geometry.bounds import Bounds, lower_bound
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import (
    bending,
    bending_derivative,
    second_fundamental_form,
)
from dln_manifolds.geometry.sectors import (
    jacobi_basis,
    normal_multiplier,
    normal_vector,
    solve_jacobi,
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
    """Geodesics of balanced layers of depth N: states (W, V)."""

    depth: int
    reach = 1e-5

    @property
    def straight(self) -> bool:
        """A single layer moves on a straight line."""
        return self.depth == 1

    def goal(self, tolerance: float) -> float:
        """Return 1e-10, the relative residual at which log counts as solved."""
        return _GOAL

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(V, II(V, V))``."""
        layers, velocity = state[:, 0], state[:, 1]
        frame = Frame.of_layers(layers)
        rate = np.empty_like(state)
        rate[:, 0] = velocity
        rate[:, 1] = second_fundamental_form(frame, layers, velocity, velocity)
        return rate, frame.values[:, 0, -1]

    def core(self, position: Array) -> Array:
        """Return the first layer: all have the same singular values."""
        return position[..., 0, :, :]

    def project(self, state: Array) -> Array:
        """Take a Newton step onto the manifold, and the tangent part of the velocity."""
        layers = settled_layers(state[:, 0])
        settled = np.empty_like(state)
        settled[:, 0] = layers
        settled[:, 1] = tangent_part(Frame.of_layers(layers), state[:, 1])
        return settled

    @property
    def linearized(self) -> Flow:
        """Geodesics with variations (dW, dV)."""
        return _Linearized(self.depth)

    @property
    def parallel(self) -> Flow:
        """Geodesics with pairs of vectors that are transported: ``U' = II(V, U)``."""
        return _Parallel(self.depth)

    def frame(self, points: Array) -> Frame:
        """Decompose nodes, shape ``(..., N, n, n)``."""
        return Frame.of_layers(points)

    def tangent_part(self, frame: Frame, vector: Array) -> Array:
        """Project ambient vectors at nodes."""
        return tangent_part(frame, vector)

    def tangent_basis(self, frame: Frame) -> Array:
        """Return the horizontal and vertical vectors of the Jacobi basis."""
        sectors = jacobi_basis(frame)
        return np.concatenate([sectors.horizontal, sectors.vertical], axis=-4)

    def shape(self, frame: Frame, vector: Array) -> Array:
        """Return S of the normal part ``W_p S_{p-1} - S_p W_p`` of ambient vectors."""
        if frame.n_layers == 1:
            return np.zeros((*vector.shape[:-3], 0, *vector.shape[-2:]))
        return normal_multiplier(frame, vector)

    def bent(self, tangent_vec: Array, shape: Array) -> Array:
        """Return how that normal part moves along tangent vectors, with the same S."""
        return normal_vector(tangent_vec, shape)

    def nearest(self, points: Array, like: Array | None = None) -> Array:
        """Return balanced layers near the given ones; signs of det as of ``like``."""
        signs = None if like is None else np.linalg.slogdet(like)[0][:, None]
        return rebalance(points, signs)

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
        layers, velocity = state[:, 0, :1], state[:, 1, :1]
        frame = Frame.of_layers(layers)
        multiplier = bending(frame, velocity, velocity)
        rate = np.empty_like(state)
        rate[:, 0], rate[:, 1, :1] = state[:, 1], normal_vector(layers, multiplier)
        rate[:, 1, 1:] = bending_derivative(
            frame, layers, velocity, multiplier, state[:, 0, 1:], state[:, 1, 1:]
        )
        return rate, frame.roots[:, 0, -1]

    def project(self, state: Array) -> Array:
        """Take the variations along: dW is tangent, dV has the normal part ``II(V, dW)``."""
        settled = _projected(state)
        layers, velocity = settled[:, 0, :1], settled[:, 1, :1]
        settled[:, 1, 1:] += second_fundamental_form(
            Frame.of_layers(layers), layers, velocity, settled[:, 0, 1:]
        )
        return settled


class _Parallel(LayerSystem):
    """Geodesics with vectors in both rows, every one transported parallel."""

    def project(self, state: Array) -> Array:
        """Take the tangent parts of all vectors."""
        return _projected(state)

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``((V, II(V, U), ...), (II(V, V), II(V, U), ...))``."""
        layers, velocity = state[:, :1, :1], state[:, 1:, :1]
        frame = Frame.of_layers(layers)
        rate = second_fundamental_form(frame, layers, velocity, state)
        rate[:, 0, 0] = state[:, 1, 0]
        return rate, frame.roots[:, 0, 0, -1]


def _projected(state: Array) -> Array:
    """Take a Newton step onto the manifold, and the tangent parts of all vectors there."""
    layers = settled_layers(state[:, 0, :1])
    tangent = tangent_part(Frame.of_layers(layers).beside(), state)
    tangent[:, 0, :1] = layers
    return tangent


def settled_layers(layers: Array) -> Array:
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
