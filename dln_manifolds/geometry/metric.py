r"""The metric on end-to-end matrices, and the root chart, in which it is well conditioned.

``g_X(Z, Z') = tr(Z^T A_X^{-1} Z')`` with ``A_X(P) = sum_p (X X^T)^((N-p)/N) P (X^T X)^((p-1)/N)``
(Bah et al. arXiv 1910.05505, without their factor 1/N; section 1 of Chen, arXiv 2510.07324), which
is diagonal in the singular frame with the eigenvalues ``a_ij``, at any real depth.

In the root chart ``X = U diag(s) V^T  ->  T = U diag(s^(1/N)) V^T`` the metric has eigenvalues
between 1/N and N whatever the singular values are:

.. math::
    g_T(v, v) = \sum_{ij} \kappa_{ij} S_{ij}^2 + K_{ij}^2 / \kappa_{ij},

S and K the symmetric and antisymmetric part of ``U^T v V``. All geodesic computations happen here.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.coefficients import (
    a_second_difference,
    a_side,
    a_side_difference,
    index_triples,
)
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


def apply_cometric(frame: Frame, covector: Array) -> Array:
    """Return ``A_X(P)``: the tangent vector of a covector (a Euclidean gradient) P at X."""
    return frame.assemble(frame.weights * frame.blocks(covector))


def apply_metric(frame: Frame, tangent_vec: Array) -> Array:
    """Return ``A_X^{-1}(Z)``, tangent as Z is: the covector of a tangent vector Z at X."""
    return frame.assemble(frame.blocks(tangent_vec) / frame.weights)


def inner_product(frame: Frame, vec_a: Array, vec_b: Array) -> Array:
    """Return ``g_X(Z, Z')``, shape ``(...)``."""
    in_a = frame.blocks(vec_a)
    in_b = in_a if vec_b is vec_a else frame.blocks(vec_b)
    return np.sum(in_a * in_b / frame.weights, axis=(-2, -1))


def inner_coproduct(frame: Frame, covec_a: Array, covec_b: Array) -> Array:
    """Return ``tr(P^T A_X P')``, shape ``(...)``."""
    in_a = frame.blocks(covec_a)
    in_b = in_a if covec_b is covec_a else frame.blocks(covec_b)
    return np.sum(in_a * in_b * frame.weights, axis=(-2, -1))


def operator_matrix(frame: Frame, eigenvalues: Array) -> Array:
    """Matrix of ``Z -> assemble(eigenvalues * blocks(Z))`` on row-major entries, (..., mn, mn).

    Below full rank it is singular: normal vectors are mapped to zero.
    """
    *batch, rank = frame.values.shape
    left, right = frame.left, transpose(frame.right_t)
    rows, columns = left.shape[-2], right.shape[-2]
    basis = np.einsum("...ai,...bj->...abij", left, right)
    basis = basis.reshape(*batch, rows * columns, rank * rank)
    core = eigenvalues[..., :rank, :].reshape(*eigenvalues.shape[:-2], 1, rank * rank)
    matrix = (basis * core) @ transpose(basis)
    if not any(frame.sides):
        return matrix
    # The columns beside the core have one eigenvalue each.
    side = eigenvalues[..., rank, None, :]
    row_space, column_space = (right * side) @ transpose(right), (left * side) @ transpose(left)
    row_normal = np.eye(columns) - right @ transpose(right)
    column_normal = np.eye(rows) - left @ transpose(left)
    matrix = matrix.reshape(*matrix.shape[:-2], rows, columns, rows, columns)
    matrix = matrix + np.einsum("...ac,...bd->...abcd", column_normal, row_space)
    matrix = matrix + np.einsum("...ac,...bd->...abcd", column_space, row_normal)
    return matrix.reshape(*matrix.shape[:-4], rows * columns, rows * columns)


class _Symbol(NamedTuple):
    """Divided differences by which derivatives of ``A_X``, or of its root, weigh products.

    ``left`` and ``right`` by [i, k, j] for turns of the left and right frame within the core;
    ``up`` and ``down`` by [i, j] for those between core and side blocks; ``along`` within those.
    """

    left: Array
    right: Array
    up: Array
    down: Array
    along: Array


class CometricDerivative:
    r"""First derivative of ``A_X`` by X, in every direction, exact at equal singular values.

    ``A`` is a double operator function of ``(X X^T)^(1/N)`` and ``(X^T X)^(1/N)`` with the symbol
    ``f[x_i, x_j]``, ``f(x) = x^N``; its derivatives have the symbol ``f[x_i, x_j, x_k]``. Below
    full rank one more index stands for all directions in which X vanishes, with x = 0 and
    ``f[0, 0] = 0``: along matrices of the same rank (ours). At infinite depth logarithms take the
    place of roots and exp that of f.

    Functions in the frame act on `Frame.blocks`. Others take matrices, whose part beyond the
    blocks matters to derivatives along a curved set, and return tangent ones.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @cached_property
    def _table(self) -> Array:
        triples, place = index_triples(self.frame.values.shape[-1])
        values = a_second_difference(self.frame.singular_values, self.frame.depth, triples)
        return values[..., place]

    @cached_property
    def _side_table(self) -> Array:
        return a_side_difference(self.frame.singular_values, self.frame.depth)

    @property
    def _symbol(self) -> _Symbol:
        side = self._side_table if any(self.frame.sides) else self._table[..., 0]
        return _Symbol(self._table, self._table, side, side, side)

    @property
    def _root_symbol(self) -> _Symbol:
        # A^{1/2} is diagonal where A is: the equation L A^{1/2} + A^{1/2} L = DA of its derivative
        # L is one division for each entry.
        root, table = np.sqrt(self.frame.a), self._table
        # sqrt(a_ij) + sqrt(a_kj), and sqrt(a_ij) + sqrt(a_ik), by [i, k, j]
        left = table / (root[..., :, None, :] + root[..., None, :, :])
        right = table / (root[..., :, None, :] + root[..., :, :, None])
        if not any(self.frame.sides):
            return _Symbol(left, right, root, root, root)
        side = np.sqrt(a_side(self.frame.singular_values, self.frame.depth))
        row, column, values = side[..., :, None], side[..., None, :], self._side_table
        up, down = values / (root + column), values / (root + row)
        return _Symbol(left, right, up, down, values / (row + column))

    @property
    def _side_slope(self) -> Array:
        """``s_j / a_j0``: from blocks beside the core to the turn of the frame that moves them."""
        s = self.frame.singular_values
        return (s / a_side(s, self.frame.depth))[..., None, :]

    @cached_property
    def _corner_weight(self) -> Array:
        """``f[x_j, 0, 0] s_j / a_j0 = s_j / l_j^2``, by which corners enter derivatives."""
        return (self.frame.singular_values / self.frame.roots**2)[..., None, :]

    def along_in_frame(self, direction: Array, p: Array) -> Array:
        """Return ``(D A_X[direction])(p)``, all expressed in the frame."""
        z, z_left, z_right = self.frame.split(direction)
        core, p_left, p_right = self.frame.split(p)
        s, weight = self.frame.singular_values, 1 / self.frame.a
        row, column = s[..., :, None], s[..., None, :]
        # Derivatives of (X X^T)^(1/N) and (X^T X)^(1/N).
        left = (z * column + row * transpose(z)) * weight
        right = (transpose(z) * column + row * z) * weight
        # f[x_i, x_k, x_j] (left_ik p_kj + p_ik right_kj), summed over k
        total = np.einsum("...ikj,...ik,...kj->...ij", self._table, left, core)
        total = total + np.einsum("...ikj,...ik,...kj->...ij", self._table, core, right)
        if not any(self.frame.sides):
            return total
        side = self._side_table
        z_left, z_right = z_left * self._side_slope, z_right * self._side_slope
        total = total + side * (transpose(z_left) @ p_left + transpose(p_right) @ z_right)
        inside = side * core
        down = z_left @ inside + p_left @ (side * right)
        up = z_right @ transpose(inside) + p_right @ (side * left)
        return np.concatenate([total, down, up], axis=-2)

    def gradient_in_frame(self, p: Array, q: Array) -> Array:
        """Return the gradient by X of ``tr(p^T A_X(q))`` at fixed p and q, all in the frame."""
        return self._gradient(p, q, self._symbol)

    def root_gradient_in_frame(self, p: Array, q: Array) -> Array:
        """Return the gradient by X of ``tr(P^T A_X^{1/2}(Q))`` at fixed P and Q, in the frame."""
        return self._gradient(p, q, self._root_symbol)

    def _gradient(self, p: Array, q: Array, symbol: _Symbol) -> Array:
        """Return the adjoint of the derivative along X, of A or of its root."""
        p, p_left, p_right = self.frame.split(p)
        q, q_left, q_right = self.frame.split(q)
        # Derivatives by (X X^T)^(1/N) and (X^T X)^(1/N), then by X.
        left = np.einsum("...ikj,...ij,...kj->...ik", symbol.left, p, q)
        right = np.einsum("...ikj,...ik,...ij->...kj", symbol.right, q, p)
        sides = any(self.frame.sides)
        if sides:
            left = left + symbol.along * (transpose(q_right) @ p_right)
            right = right + symbol.along * (transpose(q_left) @ p_left)
        s = self.frame.singular_values
        row, column = s[..., :, None], s[..., None, :]
        total = (left + transpose(left)) * column + row * (right + transpose(right))
        total = total / self.frame.a
        if not sides:
            return total
        by_left = q_left @ transpose(symbol.up * p) + p_left @ transpose(symbol.up * q)
        by_right = q_right @ (symbol.down * p) + p_right @ (symbol.down * q)
        slope = self._side_slope
        return np.concatenate([total, by_left * slope, by_right * slope], axis=-2)

    def along(self, direction: Array, covector: Array) -> Array:
        """Return the tangent part of ``(D A_X[direction])(covector)``."""
        frame, inside = self.frame, self.frame.blocks(direction)
        result = self.along_in_frame(inside, frame.blocks(covector))
        if all(frame.sides):
            result = result + self._corner_weight * frame.corner(covector, inside)
        return frame.assemble(result)

    def gradient(self, covec_a: Array, covec_b: Array) -> Array:
        r"""Return the Euclidean gradient by X of ``tr(P^T A_X(Q))`` at fixed P and Q."""
        frame = self.frame
        in_a, in_b = frame.blocks(covec_a), frame.blocks(covec_b)
        result = self.gradient_in_frame(in_a, in_b)
        if all(frame.sides):
            corners = frame.corner(covec_a, in_b) + frame.corner(covec_b, in_a)
            result = result + self._corner_weight * corners
        return frame.assemble(result)

    def root_gradient(self, covec_a: Array, covec_b: Array) -> Array:
        r"""Return the Euclidean gradient by X of ``tr(P^T A_X^{1/2}(Q))`` at fixed P and Q."""
        frame = self.frame
        in_a, in_b = frame.blocks(covec_a), frame.blocks(covec_b)
        result = self.root_gradient_in_frame(in_a, in_b)
        if all(frame.sides):
            corners = frame.corner(covec_a, in_b) + frame.corner(covec_b, in_a)
            # s_j / l_j^2 over sqrt(a_j0)
            result = result + corners / frame.roots[..., None, :]
        return frame.assemble(result)


def riemannian_hessian(
    derivative: CometricDerivative, gradient: Array, second: Array, vector: Array
) -> Array:
    r"""Return the Riemannian Hessian of a function along a tangent vector Z.

    With the Euclidean gradient p, its derivative along Z and the covector ``xi = A_X^{-1}(Z)``,

    .. math:: A_X(D p[Z]) + \tfrac12 (D A_X[Z] p + A_X (\partial_X \langle p, A_X \xi \rangle)
              - D A_X[A_X p] \xi).

    The parts of the middle and the last derivative that are not tangent cancel (ours).
    """
    frame = derivative.frame
    momentum, along = apply_metric(frame, vector), apply_cometric(frame, gradient)
    turned = derivative.along(vector, gradient) - derivative.along(along, momentum)
    second = second + 0.5 * derivative.gradient(gradient, momentum)
    return apply_cometric(frame, second) + 0.5 * turned


def root_of(frame: Frame) -> Array:
    """Return T of a frame."""
    return frame.compose(frame.roots)


def raised(cosh: Array, sinh: Array, momentum: Array) -> Array:
    """Apply the cometric of the root chart in the frame, given functions of ``log(kappa)``."""
    return cosh * momentum - sinh * transpose(momentum)


def lowered(cosh: Array, sinh: Array, velocity: Array) -> Array:
    """Apply the metric of the root chart in the frame."""
    return cosh * velocity + sinh * transpose(velocity)
