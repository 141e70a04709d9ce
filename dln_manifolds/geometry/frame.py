"""The singular frame: one SVD, from which every quantity of the geometry is read off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dln_manifolds.geometry.coefficients import a, log_ratio
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import damped_sinhc
from dln_manifolds.numerics.matrices import transpose


@dataclass(frozen=True)
class SingularFrame:
    r"""Thin singular value decomposition ``X = U diag(s) V^T`` of a batch of matrices at depth N.

    Attributes
    ----------
    left : ndarray, shape=[..., m, r]
        Left singular vectors U.
    values : ndarray, shape=[..., r]
        Singular values of the matrix that was decomposed, in descending order.
    right_t : ndarray, shape=[..., r, n]
        Right singular vectors, transposed: V^T.
    depth : float
        Depth N >= 1.
    power : float
        ``s = values ** power``: 1 for the frame of an end-to-end matrix X, N for the frame of its
        root ``T = U diag(s^(1/N)) V^T``. Kept so that close singular values lose no digits.
    """

    left: Array
    values: Array
    right_t: Array
    depth: float
    power: float

    @classmethod
    def of_point(cls, point: Array, depth: float) -> SingularFrame:
        """Decompose end-to-end matrices X."""
        return cls(*np.linalg.svd(point, full_matrices=False), depth, 1.0)

    @classmethod
    def of_root(cls, root: Array, depth: float) -> SingularFrame:
        """Decompose points T of the root chart."""
        return cls(*np.linalg.svd(root, full_matrices=False), depth, depth)

    @cached_property
    def singular_values(self) -> Array:
        """Singular values s of X, shape ``(..., r)``."""
        return self.values if self.power == 1 else self.values**self.power

    @cached_property
    def roots(self) -> Array:
        """Root singular values ``l = s^(1/N)``, shape ``(..., r)``."""
        return self.values ** (self.power / self.depth)

    @cached_property
    def polar(self) -> Array:
        """Orthogonal polar factor ``U V^T`` of square matrices."""
        return self.left @ self.right_t

    @cached_property
    def half_log_ratio(self) -> Array:
        """``u_ij = log(l_i / l_j) / 2``, shape ``(..., r, r)``."""
        return (0.5 * self.power / self.depth) * log_ratio(self.values)

    @cached_property
    def a(self) -> Array:
        """Eigenvalues ``a_ij`` of the cometric ``A_X``, shape ``(..., r, r)``."""
        return a(self.singular_values, self.depth)

    @cached_property
    def chart_factors(self) -> tuple[Array, Array]:
        r"""Differential of ``X -> T`` in the frame, on symmetric and antisymmetric parts.

        ``(l_i - l_j)/(s_i - s_j)`` and ``(l_i + l_j)/(s_i + s_j)``, each of shape ``(..., r, r)``.
        """
        x = np.abs(self.half_log_ratio)
        slope = self.roots / self.singular_values
        # l/s decreases with s, so the pair takes that of its larger member.
        scale = np.minimum(slope[..., :, None], slope[..., None, :])
        symmetric = scale * damped_sinhc(x) / (self.depth * damped_sinhc(self.depth * x))
        antisymmetric = scale * (1 + np.exp(-2 * x)) / (1 + np.exp(-2 * self.depth * x))
        return symmetric, antisymmetric

    def scaled(self, factor: Array) -> SingularFrame:
        """Return the frame of the matrix times a positive factor, shape ``(...)``."""
        values = self.values * factor[..., None]
        return SingularFrame(self.left, values, self.right_t, self.depth, self.power)

    def enter(self, matrix: Array) -> Array:
        """Express a matrix in the frame: ``U^T Z V``."""
        return transpose(self.left) @ matrix @ transpose(self.right_t)

    def leave(self, matrix: Array) -> Array:
        """Return from the frame: ``U Z V^T``."""
        return self.left @ matrix @ self.right_t

    def compose(self, values: Array) -> Array:
        """Return the matrix with these singular vectors and the given singular values."""
        return (self.left * values[..., None, :]) @ self.right_t
