"""The frame of a point: one decomposition, from which all of the geometry is read off."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from dln_manifolds.geometry.chain import Chain, chain_of, uniform
from dln_manifolds.geometry.coefficients import a, a_side, log_ratio
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import damped_sinhc
from dln_manifolds.numerics.matrices import decomposed, prefix_products, transpose


@dataclass(frozen=True, eq=False)
class Frame:
    r"""Singular bases and roots of a batch of points, either of matrices or of all layers.

    Of end-to-end matrices: ``X = U diag(s) V^T``, a thin singular value decomposition, with
    ``left`` U and ``right_t`` ``V^T``, shapes ``(..., m, r)`` and ``(..., r, n)``. Of balanced
    layers: ``W_p = Q_p diag(l) Q_{p-1}^T`` with common roots l (Chen, arXiv 2510.07324, (1.5)),
    all layers along one more axis: ``Q_1 .. Q_N`` and ``Q_0^T .. Q_{N-1}^T``, shapes
    ``(..., N, D, r)`` and ``(..., N, r, D)`` with the largest width D, zeros beyond the others.
    The ``chain`` says how layers lie in arrays. Vectors ``Z``, or ``(Z_1, ..., Z_N)``, enter and
    leave both alike.

    ``values``, shape ``(..., r)``, are the singular values of what was decomposed, descending, and
    ``s = values ** power``: 1 for X, N for its root ``T = U diag(s^(1/N)) V^T`` and layers.
    """

    left: Array
    values: Array
    right_t: Array
    depth: float
    power: float
    chain: Chain | None = None

    @classmethod
    def of_point(cls, point: Array, depth: float, rank: int | None = None) -> Self:
        """Decompose end-to-end matrices X; of given rank, all else is cut off as rounding."""
        left, values, right_t = decomposed(point)
        if rank is not None and rank < values.shape[-1]:
            left, values, right_t = left[..., :rank], values[..., :rank], right_t[..., :rank, :]
        return cls(left, values, right_t, depth, 1.0)

    @classmethod
    def of_root(cls, root: Array, depth: float) -> Self:
        """Decompose points T of the root chart."""
        return cls(*np.linalg.svd(root, full_matrices=False), depth, depth)

    @classmethod
    def of_layers(cls, layers: Array, chain: Chain | None = None, rank: int | None = None) -> Self:
        """Read the frames off balanced layers; of given rank, all else is cut off as rounding.

        Of shape ``(..., N, n, n)``, or as the chain says.
        """
        chain = uniform(layers) if chain is None else chain
        parts = svd_of_layers(layers, chain, min(chain.widths) if rank is None else rank)
        return cls.of_bases(*bases_of_layers(*parts[:3]), chain)

    @classmethod
    def of_bases(cls, bases: Array, roots: Array, chain: Chain | None = None) -> Self:
        """Return the frame of layers with orthonormal ``Q_0 .. Q_N``, ``(..., N+1, D, r)``."""
        left, right_t = bases[..., 1:, :, :], transpose(bases[..., :-1, :, :])
        depth = left.shape[-3]
        chain = chain_of((left.shape[-2],) * (depth + 1)) if chain is None else chain
        return cls(left, roots, right_t, depth, depth, chain)

    @property
    def n_layers(self) -> int:
        """Number of layers of a frame of layers, the depth as an integer."""
        return self.left.shape[-3]

    @property
    def layered(self) -> bool:
        """Whether this is a frame of layers."""
        return self.chain is not None

    @property
    def layout(self) -> Chain:
        """How the layers of a frame of layers lie in arrays."""
        assert self.chain is not None
        return self.chain

    @property
    def ends(self) -> Self:
        """Frame of the end-to-end matrices of layers."""
        columns, *_, rows = self.layout.widths
        left, right_t = self.left[..., -1, :rows, :], self.right_t[..., 0, :, :columns]
        return type(self)(left, self.values, right_t, self.depth, self.power)

    @property
    def bases(self) -> Array:
        """All bases ``Q_0 .. Q_N`` of layers, shape ``(..., N+1, D, r)``."""
        first = transpose(self.right_t[..., :1, :, :])
        return np.concatenate([first, self.left], axis=-3)

    def mapped(self, function: Callable[[Array], Array]) -> Self:
        """Return the frame with a function of its batch axes applied to all its arrays."""
        left, values, right_t = map(function, (self.left, self.values, self.right_t))
        return type(self)(left, values, right_t, self.depth, self.power, self.chain)

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
    def positive(self) -> bool:
        """Whether U = V to the last bit, as of positive definite matrices decomposed as such."""
        return self.sides == (0, 0) and bool((self.left == transpose(self.right_t)).all())

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
        return type(self)(self.left, values, self.right_t, self.depth, self.power, self.chain)

    def times(self, matrix: Array, right: Array) -> Array:
        """Return ``Z R``, or ``Z_p R_p`` of layers."""
        return matrix @ right if self.chain is None else self.chain.times(matrix, right)

    def transposed_times(self, matrix: Array, left: Array) -> Array:
        """Return ``Z^T L``, or ``Z_p^T L_p`` of layers."""
        if self.chain is None:
            return transpose(matrix) @ left
        return self.chain.transposed_times(matrix, left)

    def outer(self, left: Array, right_t: Array) -> Array:
        """Return ``L R^T``, or layers ``L_p R_p^T``."""
        return left @ right_t if self.chain is None else self.chain.outer(left, right_t)

    def enter(self, matrix: Array) -> Array:
        """Express vectors in the frame: ``U^T Z V``, or ``Q_p^T Z_p Q_{p-1}``."""
        if self.chain is None or self.chain.is_uniform:
            return transpose(self.left) @ matrix @ transpose(self.right_t)
        return transpose(self.left) @ self.chain.times(matrix, transpose(self.right_t))

    def leave(self, matrix: Array) -> Array:
        """Return vectors from the frame: ``U Z V^T``, or ``Q_p Z_p Q_{p-1}^T``."""
        return self.outer(self.left @ matrix, self.right_t)

    @property
    def sides(self) -> tuple[int, int]:
        """Numbers of rows of the blocks beside the core, left and right: m and n, or none.

        Of layers D and D.
        """
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
        if not any(self.sides):
            return self.enter(matrix)
        beside = self.times(matrix, transpose(self.right_t))
        core = transpose(self.left) @ beside
        left = beside - self.left @ core
        right = self.transposed_times(matrix, self.left)
        return self.stack(core, left, right - transpose(self.right_t) @ transpose(core))

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
        if not right:
            return self.outer(total, self.right_t)
        swung = transpose(blocks[..., rank + left :, :])
        if self.chain is None:
            return total @ self.right_t + self.left @ swung
        both = np.broadcast_arrays(total, self.left), np.broadcast_arrays(self.right_t, swung)
        return self.outer(np.concatenate(both[0], axis=-1), np.concatenate(both[1], axis=-2))

    def corner(self, matrix: Array, blocks: Array) -> Array:
        """Multiply the part of a matrix that its `blocks` miss by those of a tangent vector.

        That part, ``M22 = (I - U U^T) M (I - V V^T)``, acts on the blocks beside the core: the
        left one of the result is M22 times the right one, and its right one M22^T times the left.
        """
        rank, (left, right) = self.values.shape[-1], self.sides
        if not (left and right):
            return np.zeros_like(blocks)
        down = self.times(matrix, blocks[..., rank + left :, :])
        up = self.transposed_times(matrix, blocks[..., rank : rank + left, :])
        result = np.zeros((*down.shape[:-2], *blocks.shape[-2:]))
        result[..., rank : rank + left, :] = down - self.left @ (transpose(self.left) @ down)
        result[..., rank + left :, :] = up - transpose(self.right_t) @ (self.right_t @ up)
        return result

    def compose(self, values: Array) -> Array:
        """Return the matrix, or the layers, with these bases and the given singular values."""
        rows = values[..., None, None, :] if self.layered else values[..., None, :]
        return self.outer(self.left * rows, self.right_t)


def svd_of_layers(layers: Array, chain: Chain, rank: int) -> tuple[Array, Array, Array, Array]:
    """Return singular value decompositions of all layers, cut at a rank, with padded bases.

    Bases ``(..., N, D, r)`` and ``(..., N, r, D)`` with singular values ``(..., N, r)`` in between,
    and the largest singular value beyond the rank of any layer, ``(...)``.
    """
    parts = [np.linalg.svd(part, full_matrices=False) for part in chain.parts(layers)]
    batch = (*parts[0][1].shape[:-2], chain.count)
    beyond = np.zeros(batch[:-1])
    if chain.is_uniform and rank == chain.width:
        return (*parts[0], beyond)
    left, right_t = np.zeros((*batch, chain.width, rank)), np.zeros((*batch, rank, chain.width))
    values = np.empty((*batch, rank))
    for run, (u, s, vt) in zip(chain.runs, parts, strict=True):
        left[..., run.layers, : run.rows, :] = u[..., :rank]
        right_t[..., run.layers, :, : run.columns] = vt[..., :rank, :]
        values[..., run.layers, :] = s[..., :rank]
        beyond = np.maximum(beyond, s[..., rank:].max(axis=(-2, -1), initial=0.0))
    return left, values, right_t, beyond


def bases_of_layers(left: Array, values: Array, right_t: Array) -> tuple[Array, Array]:
    """Return ``Q_0 .. Q_N`` of layers close to balanced ones by their decompositions, and roots."""
    # Q_p = U_p V_p^T Q_{p-1} is well defined however close the roots are: U_p times a product of
    # orthogonal matrices.
    turns = right_t[..., 1:, :, :] @ left[..., :-1, :, :]
    if turns.shape[-1] < left.shape[-2]:
        # Orthogonal up to the imbalance, of which this leaves the square.
        turns = 1.5 * turns - 0.5 * turns @ (transpose(turns) @ turns)
    bases = np.empty((*left.shape[:-3], left.shape[-3] + 1, *left.shape[-2:]))
    bases[..., 0, :, :] = transpose(right_t[..., 0, :, :])
    bases[..., 1, :, :] = left[..., 0, :, :]
    np.matmul(left[..., 1:, :, :], prefix_products(turns), out=bases[..., 2:, :, :])
    return bases, values.mean(axis=-2)


def full_nodes(chain: Chain, rank: int) -> list[int]:
    """Return the p at which ``Q_p`` is square: ``d_p = r``."""
    return [place for place, width in enumerate(chain.widths) if width == rank]


def orientation_of(bases: Array, chain: Chain) -> Array:
    """Return the signs that tell components of balanced layers apart, from ``Q_0 .. Q_N``.

    Those of ``det(Q_q Q_p^T)`` for each p and the next q with square matrices, shape ``(..., c-1)``
    where there are c; of layers that are all square those of their determinants.
    """
    rank = bases.shape[-1]
    if rank < chain.width or chain.flat:
        bases = bases[..., full_nodes(chain, rank), :rank, :]
    signs = np.linalg.slogdet(bases)[0]
    return np.asarray(signs[..., 1:] * signs[..., :-1])
