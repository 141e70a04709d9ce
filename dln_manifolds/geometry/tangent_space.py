"""The tangent space at a single balanced point, prepared for the many calls of a solver."""

from itertools import pairwise

import numpy as np

from dln_manifolds.geometry.balancing import moment
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import (
    NormalPart,
    bent_blocks,
    normal_part,
    turned_normal,
)
from dln_manifolds.geometry.sectors import sine_matrix, squared_frequencies, tangent_blocks
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


class TangentSpace:
    """The splitting at a single balanced point, prepared for hundreds of projections.

    Vectors that have entered are `Frame.blocks`: where layers are square and of full rank, cores
    alone.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame, self.roots, self.depth = frame, frame.roots, frame.n_layers
        self._has_sides = any(frame.sides)
        # Copies, so that all products are of contiguous matrices.
        self._after, self._before = frame.left.copy(), transpose(frame.right_t).copy()
        self._after_t, self._before_t = transpose(frame.left).copy(), frame.right_t.copy()
        widths = frame.layout.widths
        self._bases = [frame.bases[place, :width].copy() for place, width in enumerate(widths)]
        # l_i and l_j, and their powers 0 .. N-1, written out: broadcasting along rows is slow.
        powers = self.roots ** np.arange(self.depth)[:, None]
        self.row = np.repeat(self.roots[:, None], self.roots.size, axis=1)
        self.column = transpose(self.row).copy()
        self._rows = np.repeat(self.row[None], self.depth - 1, axis=0)
        self._columns = transpose(self._rows).copy()
        self.row_powers = np.repeat(powers[:, :, None], self.roots.size, axis=2)
        self.column_powers = transpose(self.row_powers).copy()
        self._sines = sine_matrix(self.depth)
        largest = np.maximum(self.row, self.column)
        if self._has_sides:
            beside = np.broadcast_to(self.roots, (sum(frame.sides), self.roots.size))
            largest = np.concatenate([largest, beside])
        #: The larger root of each pair of the core, and those of columns beside it.
        self.scale = largest
        # With the half of the symmetric part.
        self._weights = 0.5 / squared_frequencies(self.roots, self.depth)

    def enter(self, vector: Array) -> Array:
        """Express an ambient vector in the frames: ``Q_p^T Z_p Q_{p-1}``, and what is beside."""
        if self._has_sides:
            return self.frame.blocks(vector)
        return self._after_t @ vector @ self._before

    def leave(self, inside: Array) -> Array:
        """Return from the frames."""
        if self._has_sides:
            return self.frame.assemble(inside)
        return self._after @ inside @ self._before_t

    def enter_end(self, matrix: Array) -> Array:
        """Express a matrix of the shape of X in the frames: ``Q_N^T Z Q_0``."""
        return self._after_t[-1] @ matrix @ self._before[0]

    def leave_end(self, inside: Array) -> Array:
        """Return from the frames of X."""
        return self._after[-1] @ inside @ self._before_t[0]

    def multiplier(self, inside: Array) -> Array:
        """Return the symmetric S of the normal part of a vector, all in the frames."""
        right_side = self._rows * inside[1:]
        right_side -= self._columns * inside[:-1]
        return self._solve(right_side)

    def _solve(self, right_side: Array) -> Array:
        """Solve the Jacobi systems for the symmetric part of a right-hand side, in the frames."""
        symmetric = right_side + transpose(right_side)
        if self.depth <= 2:
            return symmetric * self._weights
        # As `_sine`, which costs by the call.
        shape, flat = symmetric.shape, (len(symmetric), -1)
        waves = (self._sines @ symmetric.reshape(flat)).reshape(shape) * self._weights
        return (self._sines @ waves.reshape(flat)).reshape(shape)

    def _normal(self, symmetric: Array) -> Array:
        """Return ``W_p S_{p-1} - S_p W_p``, all in the frames; S is overwritten."""
        normal = np.zeros((self.depth, *self.row.shape))
        np.multiply(self._rows, symmetric, out=normal[1:])
        symmetric *= self._columns
        normal[:-1] -= symmetric
        return normal

    def acceleration(self, inside: Array) -> Array:
        """Return ``II(V, V)`` of a tangent vector, all in the frames.

        Without what it maps from complement to complement.
        """
        if self._has_sides:
            return bent_blocks(self.frame, inside, inside)
        return self._normal(self._solve(moment(inside, inside)))

    def project(self, inside: Array) -> Array:
        """Return the tangent part of a vector, all in the frames."""
        if self._has_sides:
            return tangent_blocks(self.frame, inside)
        return inside - self._normal(self.multiplier(inside))

    def _part_by_layers(self, vector: Array) -> Array:
        """Project a vector of layers of unequal shapes, one by one: without padding."""
        chain, bases = self.frame.layout, self._bases
        core, sides = np.empty((self.depth, *self.row.shape)), []
        for place, matrix in enumerate(chain.layers(vector)):
            before, after = bases[place], bases[place + 1]
            left, right = matrix @ before, matrix.T @ after
            inside = core[place] = after.T @ left
            sides.append((right - before @ inside.T, left - after @ inside))
        core = core - self._normal(self.multiplier(core))
        # Both are dQ_p L beside a hidden Q_p.
        joint = [0.5 * (low[1] + high[0]) for low, high in pairwise(sides)]
        joint = [sides[0][0], *joint, sides[-1][1]]
        result = np.empty_like(vector)
        for place, matrix in enumerate(chain.layers(result)):
            before, after = bases[place], bases[place + 1]
            left = np.hstack([after @ core[place] + joint[place + 1], after])
            np.matmul(left, np.hstack([before, joint[place]]).T, out=matrix)
        return result

    def tangent_part(self, vector: Array) -> Array:
        """Project an ambient vector to the tangent space."""
        if self._has_sides and self.frame.layout.flat:
            return self._part_by_layers(vector)
        if self._has_sides:
            return self.leave(self.project(self.enter(vector)))
        # Not by `project`: a vector that is tangent already keeps its digits.
        return vector - self.leave(self._normal(self.multiplier(self.enter(vector))))

    def normal_part(self, gradient: Array) -> NormalPart | None:
        """Return the normal part of a vector in the frames, None if that is rounding."""
        # The gradient of every function of the end-to-end matrix is horizontal, for instance.
        size = np.sqrt(np.vdot(gradient, gradient))
        rounding = 8 * np.finfo(float).eps * len(self.roots) * size
        if self._has_sides:
            rest = gradient - self.tangent_part(gradient)
            small = np.abs(rest).max(initial=0.0) <= rounding
            return None if small else normal_part(self.frame, gradient)
        symmetric = self.multiplier(self.enter(gradient))
        # The normal part is a difference of terms l_i S_ij.
        small = np.abs(self.row * symmetric).max(initial=0.0) <= rounding
        return None if small else NormalPart(symmetric, symmetric[..., :0, :], gradient)

    def hessian(self, second: Array, tangent_vec: Array, normal: NormalPart | None) -> Array:
        """Return ``P(D^2 f[V]) + weingarten(V, N)``, with N given by `normal_part`."""
        if normal is None:
            return self.tangent_part(second)
        inside = self.enter(second) + turned_normal(self.frame, self.enter(tangent_vec), normal)
        return self.leave(self.project(inside))
