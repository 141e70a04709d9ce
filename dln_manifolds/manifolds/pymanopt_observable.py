"""The pymanopt half of `DLNObservableManifold`."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dln_manifolds.checks import as_array, checked_frame
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry.chord import chord_length, chord_log
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.retraction import retract
from dln_manifolds.manifolds.pymanopt_half import NetworkOptimization, keeps_precision, refused
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.cache import PointMemo


class ObservableOptimization(NetworkOptimization):
    """What pymanopt's solvers call, for the metric of the deep linear network on GL(n)."""

    depth: float

    @cached_property
    def _points(self) -> PointMemo[observable.CometricDerivative]:
        return PointMemo(lambda point: observable.CometricDerivative(self._frame_of(point)))

    def _frame_of(self, point: ArrayLike) -> Frame:
        frame, _ = checked_frame(point, self.shape, self.depth, "point")
        self._single(frame.left)
        return frame

    def _here(self, point: ArrayLike) -> observable.CometricDerivative:
        """Return the frame of a point and what hangs on it, computed once for all calls there."""
        return self._points(as_array(point, "point"))

    @keeps_precision
    def inner_product(
        self, point: ArrayLike, tangent_vector_a: ArrayLike, tangent_vector_b: ArrayLike
    ) -> float:
        """Inner product ``g_X(Z, Z')`` at the point."""
        vec_a = self._vector(tangent_vector_a, "tangent_vector_a")
        vec_b = self._vector(tangent_vector_b, "tangent_vector_b")
        return np.float64(observable.inner_product(self._here(point).frame, vec_a, vec_b))

    @keeps_precision
    def norm(self, point: ArrayLike, tangent_vector: ArrayLike) -> float:
        """Length of a tangent vector at the point."""
        return np.sqrt(self.inner_product(point, tangent_vector, tangent_vector))

    @keeps_precision
    def retraction(self, point: ArrayLike, tangent_vector: ArrayLike) -> Array:
        """Retraction of second order; finite and in the component of the point for every step."""
        here, vector = self._here(point), self._vector(tangent_vector, "tangent_vector")
        return np.array(point, dtype=float) if refused(vector) else retract(here, vector)

    @keeps_precision
    def transport(
        self, point_a: ArrayLike, point_b: ArrayLike, tangent_vector_a: ArrayLike
    ) -> Array:
        """Vector transport: the identity, as all tangent spaces are the space of matrices."""
        return self._vector(tangent_vector_a, "tangent_vector_a").copy()

    @keeps_precision
    def to_tangent_space(self, point: ArrayLike, vector: ArrayLike) -> Array:
        """Return the vector: every matrix is tangent."""
        return self._vector(vector, "vector").copy()

    @keeps_precision
    def random_tangent_vector(self, point: ArrayLike) -> Array:
        """Draw a tangent vector of unit length, its direction uniform in the metric."""
        frame = self._here(point).frame
        normal = np.random.normal(size=self.shape)
        return frame.leave(np.sqrt(frame.a) * normal) / np.linalg.norm(normal)

    @keeps_precision
    def euclidean_to_riemannian_gradient(
        self, point: ArrayLike, euclidean_gradient: ArrayLike
    ) -> Array:
        """Return ``grad f = A_X(df)`` of a Euclidean gradient df."""
        covector = self._derivative(euclidean_gradient, "euclidean_gradient")
        return observable.apply_cometric(self._here(point).frame, covector)

    @keeps_precision
    def weingarten(
        self, point: ArrayLike, tangent_vector: ArrayLike, normal_vector: ArrayLike
    ) -> Array:
        """Return zero: the manifold is open in the space of matrices, and nothing is normal."""
        return np.zeros(self.shape)

    @keeps_precision
    def euclidean_to_riemannian_hessian(
        self,
        point: ArrayLike,
        euclidean_gradient: ArrayLike,
        euclidean_hessian: ArrayLike,
        tangent_vector: ArrayLike,
    ) -> Array:
        r"""Return the Riemannian Hessian ``nabla_Z grad f``, without finite differences.

        With ``P = df``, ``xi = A(P)`` and ``Q = A^{-1}(Z)``, the Koszul formula gives
        ``A(D^2 f[Z]) + (DA[Z](P) - DA[xi](Q) + A(d tr(P^T A_X Q) / dX)) / 2``.
        """
        vector = self._vector(tangent_vector, "tangent_vector")
        if refused(vector):
            return vector
        covector = self._derivative(euclidean_gradient, "euclidean_gradient")
        second = self._derivative(euclidean_hessian, "euclidean_hessian")
        derivative = self._here(point)
        frame = derivative.frame
        gradient = observable.apply_cometric(frame, covector)
        momentum = observable.apply_metric(frame, vector)
        return observable.apply_cometric(
            frame, second + 0.5 * derivative.gradient(covector, momentum)
        ) + 0.5 * (derivative.along(vector, covector) - derivative.along(gradient, momentum))

    def _chord_log(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        return chord_log(self._here(point_a).frame, self._frame_of(point_b))

    def _chord_length(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        return chord_length(self._here(point_a).frame, self._frame_of(point_b))
