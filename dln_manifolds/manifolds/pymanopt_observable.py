"""The pymanopt half of `DLNObservableManifold`."""

import numpy as np

from dln_manifolds.checks import checked_point
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry.chord import chord_length, chord_log
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative
from dln_manifolds.geometry.rank import weingarten
from dln_manifolds.geometry.retraction import retract
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.manifolds.pymanopt_half import NetworkOptimization, keeps_precision, refused
from dln_manifolds.numerics.arguments import Seed
from dln_manifolds.numerics.arrays import Array, ArrayLike


class ObservableOptimization(NetworkOptimization[CometricDerivative]):
    """What pymanopt's solvers call, for the metric of the deep linear network on matrices X."""

    stratum: MatrixStratum

    def _decompose(self, point: Array) -> CometricDerivative:
        return CometricDerivative(self._frame_of(point))

    def _frame_of(self, point: ArrayLike) -> Frame:
        _, frame, _ = checked_point(self.stratum, point, "point")
        self._single(frame.left)
        return frame

    def _inner(self, point: ArrayLike, vec_a: Array, vec_b: Array) -> Array:
        return observable.inner_product(self._here(point).frame, vec_a, vec_b)

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
        """Vector transport: the projection to the tangent space at ``point_b``, see there."""
        return self._tangent(point_b, self._vector(tangent_vector_a, "tangent_vector_a"))

    @keeps_precision
    def to_tangent_space(self, point: ArrayLike, vector: ArrayLike) -> Array:
        """Project to the tangent space, in Frobenius norm: at full rank every matrix is tangent."""
        return self._tangent(point, self._vector(vector, "vector"))

    def _tangent(self, point: ArrayLike, vector: Array) -> Array:
        if self.stratum.is_open:
            return vector.copy()
        return self.stratum.tangent_part(self._here(point).frame, vector)

    @keeps_precision
    def random_tangent_vector(self, point: ArrayLike, *, rng: Seed = None) -> Array:
        """Draw a tangent vector of unit length, its direction uniform in the metric.

        From numpy's global state, or by ``rng``, a generator of NumPy or a seed.
        """
        frame = self._here(point).frame
        blocks = self.stratum.normal_blocks(frame, self._drawn(rng))
        return frame.assemble(frame.root_weights * blocks) / np.linalg.norm(blocks)

    def _gradient(self, here: CometricDerivative, gradient: Array) -> Array:
        return observable.apply_cometric(here.frame, gradient)

    @keeps_precision
    def weingarten(
        self, point: ArrayLike, tangent_vector: ArrayLike, normal_vector: ArrayLike
    ) -> Array:
        r"""Weingarten map of the matrices of rank r among all matrices, with Frobenius norms.

        ``eta v^T U S^{-1} V^T + U S^{-1} V^T v^T eta`` of tangent v and normal eta (Absil, Mahony
        and Trumpf 2013, *An extrinsic look at the Riemannian Hessian*); zero at full rank, where
        nothing is normal.
        """
        vector = self._vector(tangent_vector, "tangent_vector")
        normal = self._vector(normal_vector, "normal_vector")
        return weingarten(self._here(point).frame, vector, normal)

    def _hessian(
        self, here: CometricDerivative, gradient: Array, second: Array, vector: Array
    ) -> Array:
        return observable.riemannian_hessian(here, gradient, second, vector)

    def _chord_log(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        return chord_log(self._here(point_a).frame, self._frame_of(point_b))

    def _chord_length(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        return chord_length(self._here(point_a).frame, self._frame_of(point_b))
