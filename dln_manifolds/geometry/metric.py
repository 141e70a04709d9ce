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

import numpy as np

from dln_manifolds.geometry.coefficients import a_second_difference, index_triples
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import parity_combine, transpose


def apply_cometric(frame: Frame, covector: Array) -> Array:
    """Return ``A_X(P)``: the tangent vector of a covector (a Euclidean gradient) P at X."""
    return frame.leave(frame.a * frame.enter(covector))


def apply_metric(frame: Frame, tangent_vec: Array) -> Array:
    """Return ``A_X^{-1}(Z)``: the covector of a tangent vector Z at X."""
    return frame.leave(frame.enter(tangent_vec) / frame.a)


def inner_product(frame: Frame, vec_a: Array, vec_b: Array) -> Array:
    """Return ``g_X(Z, Z')``, shape ``(...)``."""
    in_a = frame.enter(vec_a)
    in_b = in_a if vec_b is vec_a else frame.enter(vec_b)
    return np.sum(in_a * in_b / frame.a, axis=(-2, -1))


def inner_coproduct(frame: Frame, covec_a: Array, covec_b: Array) -> Array:
    """Return ``tr(P^T A_X P')``, shape ``(...)``."""
    in_a = frame.enter(covec_a)
    in_b = in_a if covec_b is covec_a else frame.enter(covec_b)
    return np.sum(in_a * in_b * frame.a, axis=(-2, -1))


def operator_matrix(frame: Frame, eigenvalues: Array) -> Array:
    """Matrix of ``Z -> U (eigenvalues * (U^T Z V)) V^T`` on row-major vectors, (..., n^2, n^2)."""
    *batch, n = frame.values.shape
    basis = np.einsum("...ai,...jb->...abij", frame.left, frame.right_t)
    basis = basis.reshape(*batch, n * n, n * n)
    weights = eigenvalues.reshape(*eigenvalues.shape[:-2], 1, n * n)
    return (basis * weights) @ transpose(basis)


class CometricDerivative:
    r"""First derivative of ``A_X`` by X, in every direction, exact at equal singular values.

    In root coordinates ``A`` is a double operator function of ``T T^T`` and ``T^T T`` with the
    symbol ``f[x_i, x_j]``, ``f(x) = x^N``; its derivatives have the symbol ``f[x_i, x_j, x_k]``.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @cached_property
    def _symbol(self) -> Array:
        triples, place = index_triples(self.frame.values.shape[-1])
        values = a_second_difference(self.frame.singular_values, self.frame.depth, triples)
        return values[..., place]

    def along_in_frame(self, direction: Array, p: Array) -> Array:
        """Return ``(D A_X[direction])(p)``, all expressed in the frame."""
        d = parity_combine(*self.frame.chart_factors, direction)
        row, column = self.frame.roots[..., :, None], self.frame.roots[..., None, :]
        # Derivatives of T T^T and T^T T.
        left, right = d * column + row * transpose(d), transpose(d) * column + row * d
        # f[x_i, x_k, x_j] (left_ik p_kj + p_ik right_kj), summed over k
        total = np.einsum("...ikj,...ik,...kj->...ij", self._symbol, left, p)
        return total + np.einsum("...ikj,...ik,...kj->...ij", self._symbol, p, right)

    def gradient_in_frame(self, p: Array, q: Array) -> Array:
        """Return the gradient by X of ``tr(p^T A_X(q))`` at fixed p and q, all in the frame."""
        # Adjoint of the derivative along X: first the derivatives by T T^T and T^T T.
        left = np.einsum("...ikj,...ij,...kj->...ik", self._symbol, p, q)
        right = np.einsum("...ikj,...ik,...ij->...kj", self._symbol, q, p)
        return self._by_point(left, right)

    def _by_point(self, left: Array, right: Array) -> Array:
        """Turn derivatives by ``T T^T`` and ``T^T T`` into that by X, in the frame."""
        row, column = self.frame.roots[..., :, None], self.frame.roots[..., None, :]
        by_root = (left + transpose(left)) * column + row * (right + transpose(right))
        # The differential of X -> T is symmetric in the frame.
        return parity_combine(*self.frame.chart_factors, by_root)

    def root_gradient_in_frame(self, p: Array, q: Array) -> Array:
        """Return the gradient by X of ``tr(P^T A_X^{1/2}(Q))`` at fixed P and Q, in the frame."""
        # A^{1/2} is diagonal where A is: the equation L A^{1/2} + A^{1/2} L = DA of its derivative
        # L is one division for each entry.
        root = np.sqrt(self.frame.a)
        # sqrt(a_ij) + sqrt(a_kj), and sqrt(a_ij) + sqrt(a_ik), by [i, k, j]
        rows = root[..., :, None, :] + root[..., None, :, :]
        columns = root[..., :, None, :] + root[..., :, :, None]
        left = np.einsum("...ikj,...ij,...kj->...ik", self._symbol / rows, p, q)
        right = np.einsum("...ikj,...ik,...ij->...kj", self._symbol / columns, q, p)
        return self._by_point(left, right)

    def along(self, direction: Array, covector: Array) -> Array:
        """Return ``(D A_X[direction])(covector)``."""
        frame = self.frame
        return frame.leave(self.along_in_frame(frame.enter(direction), frame.enter(covector)))

    def gradient(self, covec_a: Array, covec_b: Array) -> Array:
        r"""Return the Euclidean gradient by X of ``tr(P^T A_X(Q))`` at fixed P and Q."""
        frame = self.frame
        return frame.leave(self.gradient_in_frame(frame.enter(covec_a), frame.enter(covec_b)))


def root_of(frame: Frame) -> Array:
    """Return T of a frame."""
    return frame.compose(frame.roots)


def point_of(frame: Frame) -> Array:
    """Return X of a frame."""
    return frame.compose(frame.singular_values)


def push_to_root(frame: Frame, tangent_vec: Array) -> Array:
    """Differential of ``X -> T`` applied to a tangent vector at X."""
    return frame.leave(parity_combine(*frame.chart_factors, frame.enter(tangent_vec)))


def pull_from_root(frame: Frame, root_vec: Array) -> Array:
    """Differential of ``T -> X`` applied to a tangent vector at T."""
    symmetric, antisymmetric = frame.chart_factors
    return frame.leave(parity_combine(1 / symmetric, 1 / antisymmetric, frame.enter(root_vec)))


def raised(cosh: Array, sinh: Array, momentum: Array) -> Array:
    """Apply the cometric of the root chart in the frame, given functions of ``log(kappa)``."""
    return cosh * momentum - sinh * transpose(momentum)


def lowered(cosh: Array, sinh: Array, velocity: Array) -> Array:
    """Apply the metric of the root chart in the frame."""
    return cosh * velocity + sinh * transpose(velocity)


def lower(frame: Frame, root_vec: Array) -> Array:
    """Return the momentum ``P = g_T(v, .)`` of a velocity in the root chart."""
    return frame.leave(lowered(*frame.kappa_factors, frame.enter(root_vec)))


def raise_(frame: Frame, momentum: Array) -> Array:
    """Return the velocity of a momentum in the root chart."""
    return frame.leave(raised(*frame.kappa_factors, frame.enter(momentum)))
