"""The pymanopt half of `BalancedManifold`."""

from typing import NamedTuple

import numpy as np
from pymanopt.manifolds.manifold import RiemannianSubmanifold

from dln_manifolds.checks import as_matrices, checked_point
from dln_manifolds.geometry.balancing import rebalance
from dln_manifolds.geometry.layer_stratum import LayerStratum
from dln_manifolds.geometry.second_fundamental_form import NormalPart
from dln_manifolds.geometry.stratum import component
from dln_manifolds.geometry.tangent_space import TangentSpace
from dln_manifolds.manifolds.pymanopt_half import NetworkOptimization, keeps_precision, refused
from dln_manifolds.numerics.arguments import Seed
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.cache import PointMemo
from dln_manifolds.numerics.matrices import size_of

# Steps longer than this, relative to |W|, are cut: the result is far beyond any use anyway.
_LONGEST = 1e30


class _Point(NamedTuple):
    """A balanced point, validated and decomposed once for all calls of a solver."""

    layers: Array
    tangent: TangentSpace
    normal_part: PointMemo[NormalPart | None]
    orientation: Array


class BalancedOptimization(NetworkOptimization[_Point], RiemannianSubmanifold):
    """What pymanopt's solvers call, for balanced layers as a submanifold of Euclidean space."""

    stratum: LayerStratum

    def _decompose(self, point: Array) -> _Point:
        layers, frame, _ = checked_point(self.stratum, point, "point")
        self._single(layers)
        tangent = TangentSpace(frame)
        return _Point(layers, tangent, PointMemo(tangent.normal_part, size=1), component(frame))

    def tangent_space(self, point: ArrayLike) -> TangentSpace:
        """Return the tangent space at a point, prepared for many projections."""
        return self._here(point).tangent

    def _inner(self, point: ArrayLike, vec_a: Array, vec_b: Array) -> Array:
        return np.sum(vec_a * vec_b)

    @keeps_precision
    def norm(self, point: ArrayLike, tangent_vector: ArrayLike) -> float:
        """Frobenius norm."""
        return np.float64(np.linalg.norm(self._vector(tangent_vector, "tangent_vector")))

    @keeps_precision
    def retraction(self, point: ArrayLike, tangent_vector: ArrayLike) -> Array:
        """Retraction of second order: balanced, finite and in the component for every step.

        The Taylor polynomial ``W + V + II(V, V) / 2`` of the geodesic, made balanced through its
        polar factors. The last term is bounded by the roots, so that steps far longer than the
        smallest root keep what they do to the large ones: training visits nearly singular points.
        It is bounded entry by entry in the frames of the point, so that terms of fourth order
        depend on the frames where roots are equal.
        """
        here = self._here(point)
        layers, tangent = here.layers, here.tangent
        vector = self._vector(tangent_vector, "tangent_vector")
        size, longest = np.max(np.abs(vector)), np.max(np.abs(layers))
        if size == 0 or refused(vector):
            return layers.copy()
        if size / _LONGEST > longest:
            vector = vector * (longest / (size / _LONGEST))
        bent = tangent.acceleration(tangent.enter(vector))
        # Where roots are small the polynomial holds for short steps only. A correction longer than
        # the roots it belongs to is cut; shorter ones change by a term of fourth order.
        bent /= np.hypot(1.0, bent / tangent.scale)
        # What II(V, V) maps from complement to complement is left to the cut at the rank.
        return rebalance(
            layers + vector + 0.5 * tangent.leave(bent),
            self.stratum.chain,
            self.stratum.rank,
            orientation=here.orientation,
            least=np.finfo(float).eps * np.max(np.abs(layers)),
        )

    @keeps_precision
    def transport(
        self, point_a: ArrayLike, point_b: ArrayLike, tangent_vector_a: ArrayLike
    ) -> Array:
        """Vector transport by tangent projection at ``point_b``; the exact one is the metric's."""
        return self.to_tangent_space(point_b, tangent_vector_a)

    @keeps_precision
    def to_tangent_space(self, point: ArrayLike, vector: ArrayLike) -> Array:
        """Project an ambient vector to the tangent space."""
        return self._here(point).tangent.tangent_part(self._vector(vector, "vector"))

    @keeps_precision
    def random_tangent_vector(self, point: ArrayLike, *, rng: Seed = None) -> Array:
        """Draw a tangent vector of unit length, its direction uniform; by ``rng`` if given."""
        vector = self.to_tangent_space(point, self._drawn(rng))
        return vector / np.linalg.norm(vector)

    def _gradient(self, here: _Point, gradient: Array) -> Array:
        return here.tangent.tangent_part(gradient)

    @keeps_precision
    def weingarten(
        self, point: ArrayLike, tangent_vector: ArrayLike, normal_vector: ArrayLike
    ) -> Array:
        """Return the Weingarten map, with ``<weingarten(V, N), V'> = <N, II(V, V')>``."""
        here = self._here(point)
        vector = self._vector(tangent_vector, "tangent_vector")
        normal = here.normal_part(self._vector(normal_vector, "normal_vector"))
        return here.tangent.hessian(np.zeros(self.shape), vector, normal)

    def _hessian(self, here: _Point, gradient: Array, second: Array, vector: Array) -> Array:
        return here.tangent.hessian(second, vector, here.normal_part(gradient))

    def _chord_log(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        here, end = self._here(point_a), as_matrices(point_b, self.shape, "point_b")[0]
        return here.tangent.tangent_part(end - here.layers)

    def _chord_length(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        first, last = (as_matrices(point, self.shape, "point")[0] for point in (point_a, point_b))
        return np.asarray(size_of(last - first, 0))
