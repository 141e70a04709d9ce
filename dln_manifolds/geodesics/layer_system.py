"""Balanced layers as a system: geodesics ``W'' = II(W', W')`` of a submanifold, states (W, V)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dln_manifolds.geodesics.submanifold import NodePaths, Submanifold
from dln_manifolds.geodesics.system import Flow, Points, Unit
from dln_manifolds.geometry.balancing import rebalance
from dln_manifolds.geometry.bounds import Bounds, lower_bound
from dln_manifolds.geometry.chain import Chain, chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.layer_paths import facing_path, mean_coupling, polar_path
from dln_manifolds.geometry.reduction import Reduction, beside, reduction
from dln_manifolds.geometry.second_fundamental_form import (
    bending_derivative,
    second_fundamental_form,
    weingarten,
)
from dln_manifolds.geometry.sectors import (
    normal_vector,
    potentials,
    tangent_basis,
    tangent_part,
)
from dln_manifolds.geometry.stratum import component
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose

_GOAL = 1e-10
# Mean coupling of columns below which they may turn the other way.
_LOOSE = 0.35
# Nodes before and after all but the first and the last.
_NEIGHBOURS = np.s_[:-2], np.s_[2:]


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
        """Return the relative residual at which log counts as solved.

        It is 1e-10, or 100 times a looser tolerance of the flow that has to verify it.
        """
        return max(_GOAL, 100 * tolerance)

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(V, II(V, V))``."""
        layers, velocity = state[:, 0], state[:, 1]
        frame = self.frame(layers)
        rate = np.empty_like(state)
        rate[:, 0] = velocity
        rate[:, 1] = second_fundamental_form(frame, velocity, velocity)
        return rate, frame.values[:, 0, -1]

    @property
    def core_rank(self) -> int | None:
        """Rank of layers, None of invertible ones."""
        return None if self.chain.is_uniform and self.rank == self.chain.width else self.rank

    def core(self, position: Array) -> Array:
        """Return the first layer: all have the same singular values."""
        return self.chain.parts(position)[0][..., 0, :, :]

    def narrowed(
        self, start: Points, *, vectors: Array | None = None, end: Points | None = None
    ) -> tuple[LayerSystem, Reduction] | None:
        """Return layers of the widths ``min(d_p, (1 + k) r)`` of k vectors or an end."""
        if self.straight:
            return None
        frame = start.frame
        if end is not None:
            found = reduction(frame, end.frame.bases)
        else:
            assert vectors is not None
            found = reduction(frame, beside(frame, vectors))
        return None if found is None else (LayerSystem(found.narrow.widths, self.rank), found)

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
        """Return horizontal and vertical vectors."""
        return np.concatenate(tangent_basis(frame), axis=frame.values.ndim - 1)

    def shape(self, frame: Frame, vector: Array) -> Array:
        """Return S of the normal part ``W_p S_{p-1} - S_p W_p + N_p`` of ambient vectors.

        ``N_p`` maps from complement to complement. Where there are any, N and ``W_p^{+T}`` follow,
        all padded: shape ``(..., 3 N - 1, D, D)``.
        """
        blocks = frame.blocks(vector)
        core, after, before = frame.split(blocks)
        middle = frame.left[..., :-1, :, :]
        symmetric = middle @ potentials(frame, core)[0] @ transpose(middle)
        if not any(frame.sides):
            return symmetric
        # Beside the cores, N is -+(S_p beside Q_p) L.
        roots = frame.roots[..., None, None, :]
        mixed = 0.5 * (before[..., 1:, :, :] - after[..., :-1, :, :]) / roots @ transpose(middle)
        corner = self.chain.padded(vector - frame.assemble(blocks))
        inverse = (frame.left / roots) @ frame.right_t
        return np.concatenate([symmetric + mixed + transpose(mixed), corner, inverse], axis=-3)

    def bent(self, tangent_vec: Array, shape: Array) -> Array:
        """Return how that normal part moves along tangent vectors, with the same S and N."""
        if shape.shape[-3] < self.depth:
            return normal_vector(tangent_vec, shape)
        symmetric, corner, inverse = np.split(shape, [self.depth - 1, 2 * self.depth - 1], axis=-3)
        layers = self.chain.padded(tangent_vec)
        turned = transpose(layers)
        moved = inverse @ turned @ corner + corner @ turned @ inverse
        return self.chain.unpadded(normal_vector(layers, symmetric) - moved)

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return the Weingarten map of the normal part of a gradient."""
        return weingarten(self.frame(unit.position), rate, gradient)

    def nearest(self, points: Array, like: Array | None = None) -> Array:
        """Return balanced layers near the given ones; signs of det as of ``like``."""
        signs = None if like is None else component(self.frame(like))[:, None]
        return rebalance(points, self.chain, self.rank, orientation=signs)

    def first_path(self, start: Array, end: Array, times: Array) -> Array:
        """Return the path whose bases turn steadily; it stays on the manifold."""
        if self.core_rank is None:
            return polar_path(start, end, times)
        return facing_path(self.frame(start), self.frame(end), times)

    @property
    def _flips(self) -> int:
        """How many columns turn the other way on other paths: two where determinants are to stay.

        Zero where there are no other paths: of invertible layers, or too low a rank.
        """
        flips = 2 if self.rank == min(self.widths) else 1
        return 0 if self.core_rank is None or flips > self.rank else flips

    def other_path(self, start: Array, end: Array, times: Array) -> Array:
        """Return paths of layers whose least coupled columns turn the other way."""
        return facing_path(self.frame(start), self.frame(end), times, self._flips)

    def loose(self, start: Array, end: Array) -> Array:
        """Return where these are coupled loosely."""
        if not self._flips:
            return np.empty(0, dtype=int)
        coupling = mean_coupling(self.frame(start), self.frame(end))
        values = np.linalg.svd(coupling, compute_uv=False)[:, -self._flips :]
        return np.nonzero(values.mean(axis=1) < _LOOSE)[0]

    def families(self, first: Unit, last: Unit) -> list[Array]:
        """Return first or shorter other paths; for what these do not solve, each kind alone.

        And in the end first paths that may jump, as those close to lost rank seem to do.
        """
        numbers = [0] if self.core_rank is None else [0, 3]
        numbers += [1, 2] if self._flips else []
        return [np.full(len(first.position), number) for number in numbers]

    def paths(self, family: int, first: Unit, last: Unit, tolerance: float) -> NodePaths[Frame]:
        """Return polynomial paths through nodes."""
        space = self if family < 3 else _Jumping(self.widths, self.rank)
        return NodePaths(space, first.position, last.position, family == 0, family == 2)

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return bounds as for any submanifold; end-to-end matrices are not farther apart."""
        lower, upper = super().bounds(first, last)
        apart = (component(first.frame) != component(last.frame)).any(axis=-1)
        below = lower_bound(first.frame.ends, last.frame.ends)
        return Bounds(np.maximum(lower, below), np.where(apart, np.inf, upper))

    def jumps(self, frame: Frame, nodes: Array) -> Array:
        """Return where a root changes its sign from node to node; invertible layers never do that.

        Beyond a singular matrix signs are not told apart, and the way over it looks short.
        """
        if self.core_rank is None:
            return np.zeros(len(nodes), dtype=bool)
        signs = [np.linalg.slogdet(frame.enter(nodes[:, part]))[0] for part in _NEIGHBOURS]
        return np.asarray(np.min(signs, axis=(0, 2, 3)) < 0)

    def nearness(self, points: Array) -> Array:
        """Return the smallest singular values at nodes relative to the largest of each path."""
        roots = np.linalg.svd(self.core(points), compute_uv=False)[..., : self.rank]
        return roots[..., -1] / roots[..., 0].max(axis=1, keepdims=True)


class _Jumping(LayerSystem):
    """Layers whose paths may jump over lost rank: whether they have is left to the flow."""

    def jumps(self, frame: Frame, nodes: Array) -> Array:
        """Return none."""
        return np.zeros(len(nodes), dtype=bool)


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
