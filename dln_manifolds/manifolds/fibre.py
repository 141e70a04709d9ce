"""Geometry of balanced layers as a bundle of orbits: sectors, lifts, group, entropy."""

from __future__ import annotations

from typing import Any

import numpy as np

from dln_manifolds.checks import (
    as_matrices,
    balance_tolerance,
    cast,
    checked_frame,
    checked_layers,
    common_batch,
)
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry import balancing
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import sectors as jacobi
from dln_manifolds.geometry.balancing import end_to_end
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.manifolds.space import NetworkSpace
from dln_manifolds.numerics.arrays import Array


class FibreGeometry(NetworkSpace):
    """What `BalancedManifold` says of fibres and of the splitting of vectors along them."""

    depth: int

    def end_to_end(self, point: Any) -> Array:
        """Return ``X = W_N ... W_1`` of any layers, shape ``(..., n, n)``."""
        array, dtype = as_matrices(point, self.shape, "point")
        return cast(end_to_end(array), dtype)

    def factor(self, point: Any) -> Array:
        """Return one balanced factorization ``W_p = Q_p diag(s^(1/N)) Q_{p-1}^T`` of X.

        Parameters
        ----------
        point : array-like, shape=[..., n, n]
            Invertible end-to-end matrix X.

        Returns
        -------
        layers : array-like, shape=[..., N, n, n]
            All layers but the first and the last are ``diag(s^(1/N))``.
        """
        frame, dtype = checked_frame(point, (self.n, self.n), self.depth, "point")
        return cast(balancing.factor(frame, self.depth), dtype)

    def act(self, group_elem: Any, point: Any) -> Array:
        """Let the group of the fibre act: ``h_p W_p h_{p-1}^T`` with ``h_0 = h_N = I``.

        Parameters
        ----------
        group_elem : array-like, shape=[..., N - 1, n, n]
            Orthogonal ``h_1 .. h_{N-1}``.
        point : array-like, shape=[..., N, n, n]
            Layers W.

        Returns
        -------
        layers : array-like, shape=[..., N, n, n]
            Layers with the same end-to-end matrix.
        """
        shape = (self.depth - 1, self.n, self.n)
        group, dtype_a = as_matrices(group_elem, shape, "group_elem")
        defect = np.abs(group @ np.swapaxes(group, -1, -2) - np.eye(self.n))
        if (defect > balance_tolerance(dtype_a)).any():
            raise InvalidPointError(
                f"group_elem is not orthogonal: h h^T differs from the identity by up to "
                f"{defect.max():.3g}."
            )
        layers, dtype_b = as_matrices(point, self.shape, "point")
        return cast(balancing.act(group, layers), dtype_a, dtype_b)

    def _sectors(self, vector: Any, base_point: Any) -> tuple[jacobi.Sectors, list[np.dtype[Any]]]:
        _, frame, dtype = checked_layers(base_point, self.shape, "base_point")
        array, dtype_b = as_matrices(vector, self.shape, "vector")
        common_batch(3, vector=array, base_point=frame.left)
        return jacobi.split(frame, array), [dtype, dtype_b]

    def horizontal_projection(self, vector: Any, base_point: Any) -> Array:
        """Return the horizontal part of ambient vectors, shape ``(..., N, n, n)``.

        Horizontal vectors are orthogonal to the fibre within the tangent space: in the frames
        ``V_p = L^(N-p) C L^(p-1)``, spanned by the horizontal Jacobi basis.
        """
        _, frame, dtype = checked_layers(base_point, self.shape, "base_point")
        array, dtype_b = as_matrices(vector, self.shape, "vector")
        common_batch(3, vector=array, base_point=frame.left)
        return cast(jacobi.horizontal_part(frame, array), dtype, dtype_b)

    def vertical_projection(self, vector: Any, base_point: Any) -> Array:
        """Return the part of ambient vectors along the fibre: ``A_p W_p - W_p A_{p-1}``, A skew."""
        sectors, dtypes = self._sectors(vector, base_point)
        return cast(sectors.vertical, *dtypes)

    def normal_projection(self, vector: Any, base_point: Any) -> Array:
        """Return the normal part of ambient vectors: ``W_p S_{p-1} - S_p W_p``, S symmetric."""
        sectors, dtypes = self._sectors(vector, base_point)
        return cast(sectors.normal, *dtypes)

    def jacobi_basis(self, base_point: Any) -> jacobi.JacobiBasis:
        """Return orthonormal bases of the ambient space at W, by sectors.

        Parameters
        ----------
        base_point : array-like, shape=[N, n, n]
            Balanced layers, a single point.

        Returns
        -------
        basis : JacobiBasis
            ``.horizontal``, ``.vertical`` and ``.normal``, of shapes ``(k, N, n, n)`` with
            ``k = n^2``, ``(N-1) n (n-1) / 2`` and ``(N-1) n (n+1) / 2``.
        """
        layers, frame, dtype = checked_layers(base_point, self.shape, "base_point")
        if layers.ndim != 3:
            raise InvalidPointError(
                f"jacobi_basis takes a single point, not a batch of shape {layers.shape[:-3]}."
            )
        return jacobi.JacobiBasis(*(cast(part, dtype) for part in jacobi.jacobi_basis(frame)))

    def horizontal_lift(self, tangent_vec: Any, fiber_point: Any) -> Array:
        """Return the horizontal vector at W over a tangent vector at X, of the same length.

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., n, n]
            Tangent vector at the end-to-end matrix of ``fiber_point``.
        fiber_point : array-like, shape=[..., N, n, n]
            Balanced layers W.

        Returns
        -------
        vector : array-like, shape=[..., N, n, n]
            ``V_p = (W_N ... W_{p+1})^T A_X^{-1}(Z) (W_{p-1} ... W_1)^T``.
        """
        _, frame, dtype = checked_layers(fiber_point, self.shape, "fiber_point")
        array, dtype_b = as_matrices(tangent_vec, (self.n, self.n), "tangent_vec")
        return cast(jacobi.horizontal_lift(frame, array), dtype, dtype_b)

    def push_forward(self, vector: Any, base_point: Any) -> Array:
        """Return the differential of ``W -> X``: ``sum_p W_N .. W_{p+1} V_p W_{p-1} .. W_1``."""
        _, frame, dtype = checked_layers(base_point, self.shape, "base_point")
        array, dtype_b = as_matrices(vector, self.shape, "vector")
        common_batch(3, vector=array, base_point=frame.left)
        return cast(jacobi.push_forward(frame, array), dtype, dtype_b)

    def _end_frame(self, point: Any, name: str = "point") -> tuple[Frame, np.dtype[Any]]:
        _, frame, dtype = checked_layers(point, self.shape, name)
        return frame.ends, dtype

    def entropy_gradient(self, point: Any) -> Array:
        """Riemannian gradient of the entropy at W: horizontal, minus the mean curvature."""
        _, frame, dtype = checked_layers(point, self.shape, "point")
        return cast(jacobi.horizontal_lift(frame, volume.entropy_gradient(frame.ends)), dtype)

    def mean_curvature(self, point: Any) -> Array:
        """Mean curvature vector of the fibre: trace of its second fundamental form in the manifold.

        Menon and Yu, arXiv 2509.09088: it is minus the lift of the gradient of the entropy.
        """
        return -self.entropy_gradient(point)
