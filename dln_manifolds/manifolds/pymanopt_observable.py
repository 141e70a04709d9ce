"""The pymanopt half of `DLNObservableManifold`: one point at a time, base point first."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from dln_manifolds.checks import checked_frame
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry.retraction import retract
from dln_manifolds.manifolds.pymanopt_network import NetworkOptimization, keeps_precision
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.cache import PointMemo


class ObservableOptimization(NetworkOptimization):
    """What pymanopt's solvers call, for the metric of the deep linear network on GL(n).

    The order of arguments is pymanopt's: the base point first.
    """

    @cached_property
    def _points(self) -> PointMemo[observable.CometricDerivative]:
        return PointMemo(self._decompose)

    def _decompose(self, point: Array) -> observable.CometricDerivative:
        frame, _ = checked_frame(point, self.shape, self.depth, "point")
        if frame.values.ndim != 1:
            raise InvalidPointError(
                f"point has shape {point.shape}: pymanopt's methods take one point at a time."
            )
        return observable.CometricDerivative(frame)

    def _at(self, point: Any) -> observable.CometricDerivative:
        return self._points(self._point(point))

    @keeps_precision
    def inner_product(
        self, point: Any, tangent_vector_a: Any, tangent_vector_b: Any
    ) -> np.floating[Any]:
        """Inner product ``g_X(Z, Z')`` at the point."""
        vec_a = self._vector(tangent_vector_a, "tangent_vector_a")
        vec_b = self._vector(tangent_vector_b, "tangent_vector_b")
        return np.float64(observable.inner_product(self._at(point).frame, vec_a, vec_b))

    @keeps_precision
    def norm(self, point: Any, tangent_vector: Any) -> np.floating[Any]:
        """Length of a tangent vector at the point."""
        return np.sqrt(self.inner_product(point, tangent_vector, tangent_vector))

    @keeps_precision
    def retraction(self, point: Any, tangent_vector: Any) -> Array:
        """Retraction of second order; finite and in the component of the point for every step."""
        return retract(self._at(point), self._vector(tangent_vector, "tangent_vector"))

    @keeps_precision
    def transport(self, point_a: Any, point_b: Any, tangent_vector_a: Any) -> Array:
        """Vector transport: the identity, as all tangent spaces are the space of matrices."""
        return self._vector(tangent_vector_a, "tangent_vector_a").copy()

    @keeps_precision
    def to_tangent_space(self, point: Any, vector: Any) -> Array:
        """Return the vector: every matrix is tangent."""
        return self._vector(vector, "vector").copy()

    @keeps_precision
    def random_tangent_vector(self, point: Any) -> Array:
        """Draw a tangent vector of unit length, its direction uniform in the metric."""
        frame = self._at(point).frame
        normal = np.random.normal(size=self.shape)
        return frame.leave(np.sqrt(frame.a) * normal) / np.linalg.norm(normal)

    @keeps_precision
    def euclidean_to_riemannian_gradient(self, point: Any, euclidean_gradient: Any) -> Array:
        """Return ``grad f = A_X(df)`` of a Euclidean gradient df."""
        covector = self._derivative(euclidean_gradient, "euclidean_gradient")
        return observable.apply_cometric(self._at(point).frame, covector)

    @keeps_precision
    def weingarten(self, point: Any, tangent_vector: Any, normal_vector: Any) -> Array:
        """Return zero: the manifold is open in the space of matrices, and nothing is normal."""
        return np.zeros(self.shape)

    @keeps_precision
    def euclidean_to_riemannian_hessian(
        self, point: Any, euclidean_gradient: Any, euclidean_hessian: Any, tangent_vector: Any
    ) -> Array:
        r"""Return the Riemannian Hessian ``nabla_Z grad f``, without finite differences.

        With ``P = df``, ``xi = A(P)`` and ``Q = A^{-1}(Z)``, the Koszul formula gives
        ``A(D^2 f[Z]) + (DA[Z](P) - DA[xi](Q) + A(d tr(P^T A_X Q) / dX)) / 2``.
        """
        covector = self._derivative(euclidean_gradient, "euclidean_gradient")
        second = self._derivative(euclidean_hessian, "euclidean_hessian")
        vector = self._vector(tangent_vector, "tangent_vector")
        derivative = self._at(point)
        frame = derivative.frame
        gradient = observable.apply_cometric(frame, covector)
        momentum = observable.apply_metric(frame, vector)
        return observable.apply_cometric(
            frame, second + 0.5 * derivative.gradient(covector, momentum)
        ) + 0.5 * (derivative.along(vector, covector) - derivative.along(gradient, momentum))
