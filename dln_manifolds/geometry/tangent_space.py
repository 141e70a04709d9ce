r"""The tangent space at a balanced point, prepared for many projections.

The same splitting as in `jacobi`, at a single point: solvers project hundreds of vectors there.
Everything that depends on the point alone is computed once, and the sine transform is a product
with its matrix, which is faster than a fast transform for the depths that are trained.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import frequencies, sine_matrix
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


class TangentSpace:
    """Projections and the Weingarten map at balanced layers.

    Parameters
    ----------
    frame : Frame
        Frames of a single point.

    Attributes
    ----------
    roots : ndarray, shape=[n,]
        Root singular values.
    depth : int
        Number of layers N.
    """

    def __init__(self, frame: Frame) -> None:
        self.roots, self.depth = frame.roots, frame.n_layers
        # Copies, so that all products are of contiguous matrices.
        self._after, self._before = frame.left.copy(), transpose(frame.right_t).copy()
        self._after_t = transpose(self._after).copy()
        self._before_t = transpose(self._before).copy()
        # Written out, as broadcasting along rows of small matrices is slow: l_i and l_j, and their
        # powers 0 .. N-1.
        shape = (self.depth, *2 * self.roots.shape)
        powers = self.roots ** np.arange(self.depth)[:, None]
        self.row = np.broadcast_to(self.roots[:, None], shape[1:]).copy()
        self.column = transpose(self.row).copy()
        self._rows = np.broadcast_to(self.row, (self.depth - 1, *shape[1:])).copy()
        self._columns = np.broadcast_to(self.column, (self.depth - 1, *shape[1:])).copy()
        self.row_powers = np.broadcast_to(powers[:, :, None], shape).copy()
        self.column_powers = transpose(self.row_powers).copy()
        self._sines = sine_matrix(self.depth)
        # With the half of the symmetric part.
        self._weights = 0.5 / frequencies(self.roots, self.depth) ** 2

    def enter(self, vector: Array) -> Array:
        """Express an ambient vector in the frames: ``Q_p^T Z_p Q_{p-1}``."""
        return self._after_t @ vector @ self._before

    def leave(self, inside: Array) -> Array:
        """Return from the frames."""
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
        if self.depth == 2:
            symmetric *= self._weights
            return symmetric
        shape = symmetric.shape
        waves = (self._sines @ symmetric.reshape(len(symmetric), -1)).reshape(shape)
        waves *= self._weights
        return (self._sines @ waves.reshape(len(symmetric), -1)).reshape(shape)

    def _normal(self, symmetric: Array) -> Array:
        """Return ``W_p S_{p-1} - S_p W_p``, all in the frames; S is overwritten."""
        normal = np.empty((self.depth, *self.row.shape))
        normal[0] = 0.0
        np.multiply(self._rows, symmetric, out=normal[1:])
        symmetric *= self._columns
        normal[:-1] -= symmetric
        return normal

    def acceleration(self, inside: Array) -> Array:
        r"""Return ``II(V, V)`` of a tangent vector, all in the frames."""
        if self.depth == 1:
            return np.zeros_like(inside)
        # V_p V_p^T - V_{p+1}^T V_{p+1}
        first, last = inside[:-1], inside[1:]
        return self._normal(self._solve(first @ transpose(first) - transpose(last) @ last))

    def project(self, inside: Array) -> Array:
        """Return the tangent part of a vector, all in the frames."""
        if self.depth == 1:
            return inside
        return inside - self._normal(self.multiplier(inside))

    def tangent_part(self, vector: Array) -> Array:
        """Project an ambient vector to the tangent space."""
        if self.depth == 1:
            return vector.copy()
        # Not by `project`: a vector that is tangent already keeps its digits.
        return vector - self.leave(self._normal(self.multiplier(self.enter(vector))))

    def normal_multiplier(self, gradient: Array) -> Array | None:
        """Return S of the normal part of a vector in the frames, None if that is rounding.

        The gradient of every function of the end-to-end matrix is horizontal, for instance.
        """
        if self.depth == 1:
            return None
        symmetric = self.multiplier(self.enter(gradient))
        size = np.sqrt(np.vdot(gradient, gradient))
        rounding = 8 * np.finfo(float).eps * len(self.roots) * size
        # The normal part is a difference of terms l_i S_ij.
        return None if np.abs(self.row * symmetric).max() <= rounding else symmetric

    def hessian(self, second: Array, tangent_vec: Array, multiplier: Array | None) -> Array:
        """Return ``P(D^2 f[V]) + weingarten(V, N)``, with N given by its `normal_multiplier`."""
        if multiplier is None:
            return self.tangent_part(second)
        inside, moving = self.enter(second), self.enter(tangent_vec)
        inside[1:] -= moving[1:] @ multiplier
        inside[:-1] += multiplier @ moving[:-1]
        return self.leave(self.project(inside))
