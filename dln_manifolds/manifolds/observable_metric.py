"""The Riemannian metric on end-to-end matrices, with geomstats' interface."""

from __future__ import annotations

from typing import Any

import numpy as np

from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.autodiff.observable_rules import METRIC_RULES
from dln_manifolds.checks import (
    as_matrices,
    cast,
    check_connected,
    checked_frame,
    common_batch,
    flat_frame,
    flatten,
    invertible_frame,
)
from dln_manifolds.geodesics import GeodesicSolution, ObservableSystem, Points, solve_exp, solve_log
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.manifolds.geodesic_metric import GeodesicMetric
from dln_manifolds.numerics.arrays import Array


@every_backend(METRIC_RULES)
class DLNObservableMetric(GeodesicMetric):
    r"""Metric of the deep linear network on invertible end-to-end matrices.

    .. math::
        g_X(Z, Z') = tr(Z^T A_X^{-1} Z'), \qquad
        A_X(P) = \sum_{p=1}^N (X X^T)^{(N-p)/N} P (X^T X)^{(p-1)/N},

    the quotient of the Frobenius metric on balanced layers by the group of the fibre (Menon and
    Yu, arXiv 2509.09088; Chen, arXiv 2510.07324, section 1), for real depths N >= 1. It is
    normalized without a factor 1/N, so lengths are those of the layers in Frobenius norm. Points
    and vectors have ``shape=[..., n, n]``.

    The order of arguments is geomstats': ``exp(tangent_vec, base_point)`` and
    ``log(point, base_point)``. The methods of the same names on the space are pymanopt's, which
    take the base point first.

    Parameters
    ----------
    space : DLNObservableManifold
        The manifold.
    tolerance : float
        Relative local error of the integrator of geodesics; between 1e-14 and 1e-3.
    on_failure : {"raise", "warn", "nan"}
        What ``exp``, ``log``, ``dist`` and ``geodesic`` do about members of a batch that cannot be
        solved: raise an error for the batch, or return NaN for these members with or without a
        `GeodesicWarning`. Invalid input raises always.
    """

    def _frame(self, point: Any, name: str = "base_point") -> tuple[Frame, np.dtype[Any]]:
        return checked_frame(point, self._space.shape, self._space.depth, name)

    def _vector(self, vector: Any, name: str) -> tuple[Array, np.dtype[Any]]:
        return as_matrices(vector, self._space.shape, name)

    def inner_product(
        self, tangent_vec_a: Any, tangent_vec_b: Any, base_point: Any = None
    ) -> Array:
        r"""Inner product ``g_X(Z, Z') = sum_ij Z~_ij Z~'_ij / a_ij`` with ``Z~ = U^T Z V``.

        Parameters
        ----------
        tangent_vec_a, tangent_vec_b : array-like, shape=[..., n, n]
            Tangent vectors at the base point.
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        inner_product : array-like, shape=[...,]
            Their inner product.

        Raises
        ------
        InvalidPointError
            If an argument has a wrong shape or dtype, is not finite, or X is singular.
        """
        frame, dtype = self._frame(base_point)
        vec_a, dtype_a = self._vector(tangent_vec_a, "tangent_vec_a")
        if tangent_vec_b is tangent_vec_a:
            common_batch(2, tangent_vec=vec_a, base_point=frame.left)
            return cast(observable.inner_product(frame, vec_a, vec_a), dtype, dtype_a)
        vec_b, dtype_b = self._vector(tangent_vec_b, "tangent_vec_b")
        common_batch(2, tangent_vec_a=vec_a, tangent_vec_b=vec_b, base_point=frame.left)
        return cast(observable.inner_product(frame, vec_a, vec_b), dtype, dtype_a, dtype_b)

    def inner_coproduct(
        self, cotangent_vec_a: Any, cotangent_vec_b: Any, base_point: Any = None
    ) -> Array:
        """Inner product ``tr(P^T A_X P')`` of covectors (Euclidean gradients).

        Parameters
        ----------
        cotangent_vec_a, cotangent_vec_b : array-like, shape=[..., n, n]
            Covectors at the base point.
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        inner_coproduct : array-like, shape=[...,]
            Their inner product.
        """
        frame, dtype = self._frame(base_point)
        covec_a, dtype_a = self._vector(cotangent_vec_a, "cotangent_vec_a")
        covec_b, dtype_b = self._vector(cotangent_vec_b, "cotangent_vec_b")
        common_batch(2, cotangent_vec_a=covec_a, cotangent_vec_b=covec_b, base_point=frame.left)
        return cast(observable.inner_coproduct(frame, covec_a, covec_b), dtype, dtype_a, dtype_b)

    def metric_matrix(self, base_point: Any = None) -> Array:
        """Matrix of the metric on the row-major entries of Z.

        Parameters
        ----------
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        matrix : array-like, shape=[..., n * n, n * n]
            Symmetric positive definite; ``vec(Z) @ matrix @ vec(Z')`` is the inner product.
        """
        frame, dtype = self._frame(base_point)
        return cast(observable.operator_matrix(frame, 1 / frame.a), dtype)

    def cometric_matrix(self, base_point: Any = None) -> Array:
        """Matrix of the cometric ``A_X`` on row-major entries, shape ``(..., n * n, n * n)``."""
        frame, dtype = self._frame(base_point)
        return cast(observable.operator_matrix(frame, frame.a), dtype)

    def orthonormal_coordinates(self, tangent_vec: Any, base_point: Any) -> Array:
        """Coordinates ``C = A_X^{-1/2}(Z)`` of tangent vectors in an orthonormal frame.

        The Frobenius inner product of coordinates is the inner product of the vectors. The frame is
        smooth in X and does not depend on a choice of singular vectors.

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., n, n]
            Tangent vectors Z.
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        coordinates : array-like, shape=[..., n, n]
            The matrix C.
        """
        return self._scaled(tangent_vec, "tangent_vec", base_point, -0.5)

    def from_orthonormal_coordinates(self, coordinates: Any, base_point: Any) -> Array:
        """Tangent vectors ``Z = A_X^{1/2}(C)``: the inverse of `orthonormal_coordinates`.

        Parameters
        ----------
        coordinates : array-like, shape=[..., n, n]
            Coordinates C.
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        tangent_vec : array-like, shape=[..., n, n]
            Tangent vectors Z.
        """
        return self._scaled(coordinates, "coordinates", base_point, 0.5)

    def _scaled(self, matrix: Any, name: str, base_point: Any, power: float) -> Array:
        """Apply a power of ``A_X``."""
        frame, dtype = self._frame(base_point)
        array, dtype_b = self._vector(matrix, name)
        common_batch(2, **{name: array, "base_point": frame.left})
        return cast(frame.leave(frame.a**power * frame.enter(array)), dtype, dtype_b)

    def log_volume_density(self, base_point: Any) -> Array:
        r"""Logarithm of the Riemannian density with respect to Lebesgue measure of the entries.

        ``(1/2) log det g_X = -(1/2) sum_i log a_ii - sum_{i<j} log a_ij``.

        Parameters
        ----------
        base_point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        log_density : array-like, shape=[...,]
            Its logarithm; dimensionless.
        """
        frame, dtype = self._frame(base_point)
        return cast(volume.log_riemannian_density(frame.singular_values, frame.depth), dtype)

    def volume_density(self, base_point: Any) -> Array:
        """Riemannian density ``sqrt(det g_X)``, shape ``(...)``; may overflow, its log not."""
        frame, dtype = self._frame(base_point)
        density = np.exp(volume.log_riemannian_density(frame.singular_values, frame.depth))
        return cast(density, dtype)

    def _solve_exp(
        self, tangent_vec: Any, base_point: Any, record: bool
    ) -> tuple[GeodesicSolution, np.dtype[Any]]:
        base, dtype_a = self._vector(base_point, "base_point")
        frame = invertible_frame(base, dtype_a, self._space.depth, "base_point")
        vector, dtype_b = self._vector(tangent_vec, "tangent_vec")
        batch = common_batch(2, tangent_vec=vector, base_point=base)
        solution = solve_exp(
            ObservableSystem(self._space.depth),
            Points(flatten(base, batch, 2), flat_frame(frame, batch)),
            flatten(vector, batch, 2),
            tolerance=self.tolerance,
            record=record,
        )
        return solution.reshape(batch), np.result_type(dtype_a, dtype_b)

    def _solve_log(
        self, point: Any, base_point: Any, record: bool
    ) -> tuple[GeodesicSolution, np.dtype[Any]]:
        base, dtype_a = self._vector(base_point, "base_point")
        end, dtype_b = self._vector(point, "point")
        first = invertible_frame(base, dtype_a, self._space.depth, "base_point")
        last = invertible_frame(end, dtype_b, self._space.depth, "point")
        batch = common_batch(2, point=end, base_point=base)
        apart = check_connected(first, last, tolerate=self.on_failure != "raise")
        if apart.any():
            # Solved to the base point instead, and dropped at the end.
            end = np.where(apart[..., None, None], base, end)
            last = invertible_frame(end, dtype_b, self._space.depth, "point")
        solution = solve_log(
            ObservableSystem(self._space.depth),
            Points(flatten(base, batch, 2), flat_frame(first, batch)),
            Points(flatten(end, batch, 2), flat_frame(last, batch)),
            tolerance=self.tolerance,
            record=record,
        ).without(flatten(apart, batch, 0))
        return solution.reshape(batch), np.result_type(dtype_a, dtype_b)
