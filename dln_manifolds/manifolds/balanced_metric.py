"""The Frobenius metric on balanced layers, with geomstats' interface."""

from __future__ import annotations

from typing import Any

import numpy as np

from dln_manifolds.autodiff.balanced_rules import METRIC_RULES
from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.checks import (
    as_matrices,
    cast,
    check_layers_connected,
    checked_layers,
    checked_tangent,
    common_batch,
    flatten,
)
from dln_manifolds.geodesics import (
    GeodesicSolution,
    LayerSystem,
    Points,
    parallel_transport,
    solve_exp,
    solve_log,
)
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import tangent_part
from dln_manifolds.manifolds.geodesic_metric import GeodesicMetric
from dln_manifolds.numerics.arrays import Array


@every_backend(METRIC_RULES)
class BalancedMetric(GeodesicMetric):
    r"""Metric of the layers: ``<V, V'> = sum_p tr(V_p^T V'_p)``, restricted to balanced layers.

    The balanced layers are a submanifold of Euclidean space; geodesics obey ``W'' = II(W', W')``
    with the second fundamental form II, one tridiagonal (Jacobi) system per pair of singular
    values (Menon and Yu, arXiv 2509.09088). The order of arguments is geomstats'. Points and
    vectors have ``shape=[..., N, n, n]``.

    Parameters
    ----------
    space : BalancedManifold
        The manifold.
    tolerance : float
        Relative local error of the integrator of geodesics; between 1e-14 and 1e-3.
    on_failure : {"raise", "warn", "nan"}
        What ``exp``, ``log``, ``dist``, ``geodesic`` and ``parallel_transport`` do about members of
        a batch that cannot be solved: raise an error for the batch, or return NaN for these members
        with or without a `GeodesicWarning`. Invalid input raises always.
    """

    def _frame(self, point: Any, name: str = "base_point") -> tuple[Frame, np.dtype[Any]]:
        return checked_layers(point, self._space.shape, name)[1:]

    def inner_product(
        self, tangent_vec_a: Any, tangent_vec_b: Any, base_point: Any = None
    ) -> Array:
        """Frobenius inner product of tangent vectors; the base point does not matter.

        Parameters
        ----------
        tangent_vec_a, tangent_vec_b : array-like, shape=[..., N, n, n]
            Tangent vectors.
        base_point : array-like, shape=[..., N, n, n], optional
            Only its batch shape matters.

        Returns
        -------
        inner_product : array-like, shape=[...,]
            Their inner product.
        """
        vec_a, dtype_a = as_matrices(tangent_vec_a, self._space.shape, "tangent_vec_a")
        vec_b, dtype_b = as_matrices(tangent_vec_b, self._space.shape, "tangent_vec_b")
        common_batch(3, tangent_vec_a=vec_a, tangent_vec_b=vec_b)
        value = np.einsum("...pij,...pij->...", vec_a, vec_b)
        if base_point is not None:
            base, _ = as_matrices(base_point, self._space.shape, "base_point")
            common_batch(3, tangent_vec_a=vec_a, tangent_vec_b=vec_b, base_point=base)
            batch = base.shape[:-3]
            value = np.broadcast_to(value, np.broadcast_shapes(value.shape, batch)).copy()
        return cast(value, dtype_a, dtype_b)

    def inner_coproduct(
        self, cotangent_vec_a: Any, cotangent_vec_b: Any, base_point: Any = None
    ) -> Array:
        """Inner product of covectors (Euclidean gradients): that of their tangent parts.

        Parameters
        ----------
        cotangent_vec_a, cotangent_vec_b : array-like, shape=[..., N, n, n]
            Covectors at the base point; their normal parts do not matter.
        base_point : array-like, shape=[..., N, n, n]
            Balanced layers W.

        Returns
        -------
        inner_coproduct : array-like, shape=[...,]
            Their inner product.
        """
        frame, dtype = self._frame(base_point)
        covec_a, dtype_a = as_matrices(cotangent_vec_a, self._space.shape, "cotangent_vec_a")
        covec_b, dtype_b = as_matrices(cotangent_vec_b, self._space.shape, "cotangent_vec_b")
        common_batch(3, cotangent_vec_a=covec_a, cotangent_vec_b=covec_b, base_point=frame.left)
        value = np.sum(tangent_part(frame, covec_a) * covec_b, axis=(-3, -2, -1))
        return cast(value, dtype, dtype_a, dtype_b)

    def metric_matrix(self, base_point: Any = None) -> Array:
        """Matrix of the metric on the row-major entries of V: the identity.

        The entries are Cartesian coordinates of the ambient space. Tangent vectors have fewer
        degrees of freedom (``space.dim``) than entries; an orthonormal basis of them is in
        ``space.jacobi_basis(base_point)``.

        Parameters
        ----------
        base_point : array-like, shape=[..., N, n, n]
            Balanced layers W.

        Returns
        -------
        matrix : array-like, shape=[..., N * n * n, N * n * n]
            ``vec(V) @ matrix @ vec(V')`` is the inner product of tangent vectors.
        """
        layers, dtype = as_matrices(base_point, self._space.shape, "base_point")
        identity = np.eye(int(np.prod(self._space.shape)))
        return cast(np.broadcast_to(identity, (*layers.shape[:-3], *identity.shape)).copy(), dtype)

    def cometric_matrix(self, base_point: Any = None) -> Array:
        """Matrix of the cometric on row-major entries: the orthogonal tangent projection.

        The tangent space is a part of the ambient space, so this is no inverse of `metric_matrix`:
        it drops the normal part of a covector (a Euclidean gradient).

        Parameters
        ----------
        base_point : array-like, shape=[..., N, n, n]
            Balanced layers W.

        Returns
        -------
        matrix : array-like, shape=[..., N * n * n, N * n * n]
            Symmetric, of rank ``space.dim``; ``vec(P) @ matrix @ vec(P')`` is `inner_coproduct`.
        """
        shape = self._space.shape
        base, _ = as_matrices(base_point, shape, "base_point")
        frame, dtype = self._frame(np.asarray(base_point).reshape(*base.shape[:-3], 1, *shape))
        size = int(np.prod(shape))
        columns = tangent_part(frame, np.eye(size).reshape(size, *shape))
        return cast(columns.reshape(*base.shape[:-3], size, size), dtype)

    def orthonormal_coordinates(self, tangent_vec: Any, base_point: Any) -> Array:
        """Coordinates of tangent vectors in an orthonormal frame: their entries.

        The metric is the Frobenius inner product of the entries; the layers' tangent vectors are a
        subspace of these. For as many coordinates as dimensions, take inner products with
        ``space.jacobi_basis(base_point)``.

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., N, n, n]
            Tangent vectors.
        base_point : array-like, shape=[..., N, n, n]
            Balanced layers W.

        Returns
        -------
        coordinates : array-like, shape=[..., N, n, n]
            Their tangent parts.
        """
        return self._space.to_tangent(tangent_vec, base_point)

    def from_orthonormal_coordinates(self, coordinates: Any, base_point: Any) -> Array:
        """Return tangent vectors of coordinates, the inverse of `orthonormal_coordinates`."""
        return self._space.to_tangent(coordinates, base_point)

    def _solve_exp(
        self, tangent_vec: Any, base_point: Any, record: bool
    ) -> tuple[GeodesicSolution, np.dtype[Any]]:
        shape = self._space.shape
        layers, frame, dtype_a = checked_layers(base_point, shape, "base_point")
        vector, dtype_b = checked_tangent(frame, tangent_vec, shape, "tangent_vec", dtype_a)
        batch = common_batch(3, tangent_vec=vector, base_point=layers)
        solution = solve_exp(
            LayerSystem(self._space.depth),
            Points(flatten(layers, batch, 3), frame),
            flatten(vector, batch, 3),
            tolerance=self.tolerance,
            record=record,
        )
        return solution.reshape(batch), np.result_type(dtype_a, dtype_b)

    def _solve_log(
        self, point: Any, base_point: Any, record: bool
    ) -> tuple[GeodesicSolution, np.dtype[Any]]:
        shape = self._space.shape
        first, frame, dtype_a = checked_layers(base_point, shape, "base_point")
        last, _, dtype_b = checked_layers(point, shape, "point")
        batch = common_batch(3, point=last, base_point=first)
        apart = check_layers_connected(first, last, tolerate=self.on_failure != "raise")
        if apart.any():
            # Solved to the base point instead, and dropped at the end.
            last = np.where(apart[..., None, None, None], first, last)
        solution = solve_log(
            LayerSystem(self._space.depth),
            Points(flatten(first, batch, 3), frame),
            Points(flatten(last, batch, 3), frame),
            tolerance=self.tolerance,
            record=record,
        ).without(flatten(apart, batch, 0))
        return solution.reshape(batch), np.result_type(dtype_a, dtype_b)

    def parallel_transport(
        self, tangent_vec: Any, base_point: Any, direction: Any = None, end_point: Any = None
    ) -> Array:
        """Parallel transport along a geodesic: ``U' = II(W', U)``, integrated with it.

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., N, n, n]
            Vector to transport, at the base point.
        base_point : array-like, shape=[..., N, n, n]
            Where it starts.
        direction, end_point : array-like, shape=[..., N, n, n]
            Initial velocity of the geodesic, or its end point; one of the two.

        Returns
        -------
        transported : array-like, shape=[..., N, n, n]
            Tangent vector at the end point; lengths and angles are kept.

        Raises
        ------
        InvalidPointError
            If an argument is not valid.
        IncompleteGeodesicError, ConvergenceError
            If a geodesic meets a singular matrix, or could not be found or followed to its end.
        """
        if (direction is None) == (end_point is None):
            raise ValueError("Give either direction or end_point, and not both.")
        shape = self._space.shape
        layers, frame, dtype_a = checked_layers(base_point, shape, "base_point")
        vector, dtype_b = checked_tangent(frame, tangent_vec, shape, "tangent_vec", dtype_a)
        reached = np.ones((), dtype=bool)
        if direction is None:
            found, dtype_c = self._solve_log(end_point, base_point, record=False)
            reached = np.isfinite(self._resolve(found, found.length))
            # Members without a geodesic stay where they are until the end.
            along = np.where(reached[..., None, None, None], found.initial_velocity, 0.0)
        else:
            along, dtype_c = checked_tangent(frame, direction, shape, "direction", dtype_a)
        batch = common_batch(3, tangent_vec=vector, base_point=layers, direction=along)
        moved, solution = parallel_transport(
            LayerSystem(self._space.depth),
            Points(flatten(layers, batch, 3), frame),
            flatten(along, batch, 3),
            flatten(vector, batch, 3)[:, None],
            tolerance=self.tolerance,
        )
        moved = self._resolve(solution.reshape(batch), moved.reshape(*batch, *shape))
        moved = np.where(reached[..., None, None, None], moved, np.nan)
        return cast(moved, dtype_a, dtype_b, dtype_c)
