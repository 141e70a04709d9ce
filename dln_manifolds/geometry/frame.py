"""The frame of a point: one decomposition, from which all of the geometry is read off."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from dln_manifolds.geometry.coefficients import a, a_side, log_ratio
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import damped_sinhc
from dln_manifolds.numerics.matrices import prefix_products, transpose


@dataclass(frozen=True, eq=False)
class Frame:
    r"""Singular bases and roots of a batch of points, either of matrices or of all layers.

    Of end-to-end matrices: ``X = U diag(s) V^T``, a thin singular value decomposition, with
    ``left`` U and ``right_t`` ``V^T``, shapes ``(..., m, r)`` and ``(..., r, n)``. Of balanced
    layers: ``W_p = Q_p diag(l) Q_{p-1}^T`` with common roots l (Chen, arXiv 2510.07324, (1.5)),
    all layers along one more axis: ``Q_1 .. Q_N`` and ``Q_0^T .. Q_{N-1}^T``. Vectors ``Z``, or
    ``(Z_1, ..., Z_N)``, enter and leave both alike.

    ``values``, shape ``(..., r)``, are the singular values of what was decomposed, descending, and
    ``s = values ** power``: 1 for X, N for its root ``T = U diag(s^(1/N)) V^T`` and layers.
    """

    left: Array
    values: Array
    right_t: Array
    depth: float
    power: float

    @classmethod
    def of_point(cls, point: Array, depth: float, rank: int | None = None) -> Self:
        """Decompose end-to-end matrices X; of given rank, all else is cut off as rounding."""
        left, values, right_t = np.linalg.svd(point, full_matrices=False)
        if rank is not None and rank < values.shape[-1]:
            left, values, right_t = left[..., :rank], values[..., :rank], right_t[..., :rank, :]
        return cls(left, values, right_t, depth, 1.0)

    @classmethod
    def of_root(cls, root: Array, depth: float) -> Self:
        """Decompose points T of the root chart."""
        return cls(*np.linalg.svd(root, full_matrices=False), depth, depth)

    @classmethod
    def of_layers(cls, layers: Array) -> Self:
        """Read the frames off balanced layers, shape ``(..., N, n, n)``."""
        # Q_p = O_p Q_{p-1} with the polar factors O_p, well defined however close the roots are.
        left, values, right_t = np.linalg.svd(layers)
        first = transpose(right_t[..., 0, :, :])[..., None, :, :]
        bases = prefix_products(np.concatenate([first, left @ right_t], axis=-3))
        return cls.of_bases(bases, values.mean(axis=-2))

    @classmethod
    def of_bases(cls, bases: Array, roots: Array) -> Self:
        """Return the frame of layers with orthogonal ``Q_0 .. Q_N``, ``(..., N+1, n, n)``."""
        left, right_t = bases[..., 1:, :, :], transpose(bases[..., :-1, :, :])
        return cls(left, roots, right_t, left.shape[-3], left.shape[-3])

    @property
    def n_layers(self) -> int:
        """Number of layers of a frame of layers, the depth as an integer."""
        return self.left.shape[-3]

    @property
    def layered(self) -> bool:
        """Whether this is a frame of layers."""
        return self.left.ndim > self.values.ndim + 1

    @property
    def ends(self) -> Self:
        """Frame of the end-to-end matrices of layers."""
        left, right_t = self.left[..., -1, :, :], self.right_t[..., 0, :, :]
        return type(self)(left, self.values, right_t, self.depth, self.power)

    @property
    def middle(self) -> Array:
        """The bases ``Q_1 .. Q_{N-1}`` between layers, shape ``(..., N-1, n, n)``."""
        return self.left[..., :-1, :, :]

    def mapped(self, function: Callable[[Array], Array]) -> Self:
        """Return the frame with a function of its batch axes applied to all its arrays."""
        left, values, right_t = map(function, (self.left, self.values, self.right_t))
        return type(self)(left, values, right_t, self.depth, self.power)

    def take(self, members: Array) -> Self:
        """Return the frame of some members, along the first axis."""
        return self.mapped(lambda array: array[members])

    def beside(self) -> Self:
        """Return the frame with a new axis after its batch: for several vectors at each point."""
        batch = self.values.ndim - 1
        return self.mapped(lambda array: np.expand_dims(array, batch))

    @cached_property
    def singular_values(self) -> Array:
        """Singular values s of X, shape ``(..., r)``."""
        return self.values if self.power == 1 else self.values**self.power

    @cached_property
    def roots(self) -> Array:
        """Root singular values ``l = s^(1/N)``, shape ``(..., r)``."""
        return self.values if self.power == self.depth else self.values ** (self.power / self.depth)

    @cached_property
    def polar(self) -> Array:
        """Orthogonal polar factor ``U V^T`` of square matrices."""
        return self.left @ self.right_t

    @cached_property
    def log_ratio(self) -> Array:
        """``tau_ij = log(s_i / s_j)``, shape ``(..., r, r)``."""
        return self.power * log_ratio(self.values)

    @property
    def half_log_ratio(self) -> Array:
        """``u_ij = log(l_i / l_j) / 2``, shape ``(..., r, r)``; zero at infinite depth."""
        return (0.5 / self.depth) * self.log_ratio

    @cached_property
    def a(self) -> Array:
        """Eigenvalues ``a_ij`` of the cometric ``A_X``, shape ``(..., r, r)``."""
        return a(self.singular_values, self.depth)

    @cached_property
    def weights(self) -> Array:
        """Eigenvalues of the cometric on `blocks`: ``a_ij`` and, beside them, ``s_j^(2 - 2/N)``."""
        return self._beside(self.a, a_side(self.singular_values, self.depth))

    @cached_property
    def root_weights(self) -> Array:
        """Square roots of `weights`, within range also where they are not."""
        return self._beside(self.root_a, self.singular_values ** (1 - 1 / self.depth))

    def _beside(self, core: Array, side: Array) -> Array:
        """Arrange weights of the core and of the columns beside it as `blocks` are."""
        rows = sum(self.sides)
        if not rows:
            return core
        shape = (*side.shape[:-1], rows, side.shape[-1])
        return np.concatenate([core, np.broadcast_to(side[..., None, :], shape)], axis=-2)

    @cached_property
    def root_a(self) -> Array:
        """``sqrt(a_ij)``, within range also where ``a_ij`` is not; shape ``(..., r, r)``."""
        largest = self.singular_values[..., :1]
        scale = largest[..., None] ** (1 - 1 / self.depth)
        return scale * np.sqrt(a(self.singular_values / largest, self.depth))

    @cached_property
    def chart_factors(self) -> tuple[Array, Array]:
        """``(l_i - l_j)/(s_i - s_j)``, ``(l_i + l_j)/(s_i + s_j)``: the differential of X -> T."""
        # On symmetric and on antisymmetric parts, in the frame; the second has no limit at N = inf.
        x = np.abs(self.half_log_ratio)
        slope = self.roots / self.singular_values
        # l/s decreases with s, so the pair takes that of its larger member.
        scale = np.minimum(slope[..., :, None], slope[..., None, :])
        symmetric = scale * damped_sinhc(x) / (self.depth * damped_sinhc(self.depth * x))
        antisymmetric = scale * (1 + np.exp(-2 * x)) / (1 + np.exp(-2 * self.depth * x))
        return symmetric, antisymmetric

    def scaled(self, factor: Array) -> Self:
        """Return the frame of the matrix times a positive factor, shape ``(...)``."""
        values = self.values * factor[..., None]
        return type(self)(self.left, values, self.right_t, self.depth, self.power)

    def enter(self, matrix: Array) -> Array:
        """Express vectors in the frame: ``U^T Z V``, or ``Q_p^T Z_p Q_{p-1}``."""
        return transpose(self.left) @ matrix @ transpose(self.right_t)

    def leave(self, matrix: Array) -> Array:
        """Return vectors from the frame: ``U Z V^T``, or ``Q_p Z_p Q_{p-1}^T``."""
        return self.left @ matrix @ self.right_t

    @property
    def sides(self) -> tuple[int, int]:
        """Numbers of rows of the blocks beside the core, left and right: m and n, or none."""
        rank, rows, columns = self.values.shape[-1], self.left.shape[-2], self.right_t.shape[-1]
        return rows if rows > rank else 0, columns if columns > rank else 0

    @property
    def surplus(self) -> int:
        """``m + n - 2r``: how many dimensions beside the core there are for each of its columns."""
        return self.left.shape[-2] + self.right_t.shape[-1] - 2 * self.values.shape[-1]

    def blocks(self, matrix: Array) -> Array:
        """Split matrices: core ``C = U^T Z V``, ``Z V - U C`` and ``Z^T U - V C^T``, stacked.

        Shape ``(..., r + rows, r)``, rows those of `sides`: of square matrices of full rank the
        core alone. What is neither in the column space nor in the row space of X drops out.
        """
        core = self.enter(matrix)
        if not any(self.sides):
            return core
        left = matrix @ transpose(self.right_t) - self.left @ core
        right = transpose(matrix) @ self.left - transpose(self.right_t) @ transpose(core)
        return self.stack(core, left, right)

    def stack(self, core: Array, left: Array, right: Array) -> Array:
        """Return `blocks` from core, left and right; without those that are always zero."""
        parts = [core, *(x for x, rows in zip((left, right), self.sides, strict=True) if rows)]
        return np.concatenate(parts, axis=-2) if len(parts) > 1 else core

    def split(self, blocks: Array) -> tuple[Array, Array, Array]:
        """Return core, left and right of `blocks`, those beside the core without rows if empty."""
        rank, (left, _) = self.values.shape[-1], self.sides
        core, beside = blocks[..., :rank, :], blocks[..., rank:, :]
        return core, beside[..., :left, :], beside[..., left:, :]

    def assemble(self, blocks: Array) -> Array:
        """Return tangent vectors from their `blocks`."""
        rank, (left, right) = self.values.shape[-1], self.sides
        total = self.left @ blocks[..., :rank, :]
        if left:
            total = total + blocks[..., rank : rank + left, :]
        total = total @ self.right_t
        if right:
            total = total + self.left @ transpose(blocks[..., rank + left :, :])
        return total

    def corner(self, matrix: Array, blocks: Array) -> Array:
        """Multiply the part of a matrix that its `blocks` miss by those of a tangent vector.

        That part, ``M22 = (I - U U^T) M (I - V V^T)``, acts on the blocks beside the core: the
        left one of the result is M22 times the right one, and its right one M22^T times the left.
        """
        rank, (left, right) = self.values.shape[-1], self.sides
        result = np.zeros(
            np.broadcast_shapes(matrix.shape[:-2], blocks.shape[:-2]) + blocks.shape[-2:]
        )
        if left and right:
            down = matrix @ blocks[..., rank + left :, :]
            up = transpose(matrix) @ blocks[..., rank : rank + left, :]
            result[..., rank : rank + left, :] = down - self.left @ (transpose(self.left) @ down)
            result[..., rank + left :, :] = up - transpose(self.right_t) @ (self.right_t @ up)
        return result

    def compose(self, values: Array) -> Array:
        """Return the matrix, or the layers, with these bases and the given singular values."""
        rows = values[..., None, None, :] if self.layered else values[..., None, :]
        return (self.left * rows) @ self.right_t
