"""The pymanopt half of `BalancedManifold`: one point at a time, base point first."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pymanopt.manifolds.manifold import RiemannianSubmanifold

from dln_manifolds.checks import checked_layers
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.balancing import rebalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import TangentSpace
from dln_manifolds.manifolds.pymanopt_network import NetworkOptimization, keeps_precision
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.cache import PointMemo

# Steps longer than this, relative to |W|, are cut: the result is far beyond any use anyway.
_LONGEST = 1e30


class _Point(NamedTuple):
    """A point, validated and decomposed once for all the calls that a solver makes there."""

    layers: Array
    frame: Frame
    tangent: TangentSpace
    normal_multiplier: PointMemo[Array | None]


class BalancedOptimization(NetworkOptimization, RiemannianSubmanifold):
    """What pymanopt's solvers call, for balanced layers as a submanifold of Euclidean space.

    The order of arguments is pymanopt's: the base point first.
    """

    @cached_property
    def _points(self) -> PointMemo[_Point]:
        return PointMemo(self._decompose)

    def _decompose(self, point: Array) -> _Point:
        layers, frame, _ = checked_layers(point, self.shape, "point")
        if layers.ndim != len(self.shape):
            raise InvalidPointError(
                f"point has shape {layers.shape}: pymanopt's methods take one point at a time."
            )
        tangent = TangentSpace(frame)
        return _Point(layers, frame, tangent, PointMemo(tangent.normal_multiplier, size=1))

    def _at(self, point: Any) -> _Point:
        return self._points(self._point(point))

    def tangent_space(self, point: Any) -> TangentSpace:
        """Return the tangent space at a point, prepared for many projections."""
        return self._at(point).tangent

    @keeps_precision
    def inner_product(
        self, point: Any, tangent_vector_a: Any, tangent_vector_b: Any
    ) -> np.floating[Any]:
        """Frobenius inner product."""
        vec_a = self._vector(tangent_vector_a, "tangent_vector_a")
        return np.float64(np.sum(vec_a * self._vector(tangent_vector_b, "tangent_vector_b")))

    @keeps_precision
    def norm(self, point: Any, tangent_vector: Any) -> np.floating[Any]:
        """Frobenius norm."""
        return np.float64(np.linalg.norm(self._vector(tangent_vector, "tangent_vector")))

    @keeps_precision
    def retraction(self, point: Any, tangent_vector: Any) -> Array:
        """Retraction of second order: balanced, finite and in the component for every step.

        The Taylor polynomial ``W + V + II(V, V) / 2`` of the geodesic, made balanced through its
        polar factors. The last term is bounded by the roots, so that steps far longer than the
        smallest root keep what they do to the large ones: training visits nearly singular points.
        It is bounded entry by entry in the frames of the point, so that terms of fourth order
        depend on the frames where roots are equal.
        """
        layers, tangent = self._at(point).layers, self.tangent_space(point)
        vector = self._vector(tangent_vector, "tangent_vector")
        size, longest = np.max(np.abs(vector)), _LONGEST * np.max(np.abs(layers))
        if size == 0:
            return layers.copy()
        if size > longest:
            vector = vector * (longest / size)
        bent = tangent.acceleration(tangent.enter(vector))
        # Where roots are small the polynomial holds for short steps only. A correction longer than
        # the roots it belongs to is cut; shorter ones change by a term of fourth order.
        bent /= np.hypot(1.0, bent / np.maximum(tangent.row, tangent.column))
        return rebalance(
            layers + vector + 0.5 * tangent.leave(bent),
            np.linalg.slogdet(layers)[0],
            least=np.finfo(float).eps * np.max(np.abs(layers)),
        )

    @keeps_precision
    def transport(self, point_a: Any, point_b: Any, tangent_vector_a: Any) -> Array:
        """Vector transport by tangent projection at ``point_b``; the exact one is the metric's."""
        return self.to_tangent_space(point_b, tangent_vector_a)

    @keeps_precision
    def to_tangent_space(self, point: Any, vector: Any) -> Array:
        """Project an ambient vector to the tangent space."""
        return self._at(point).tangent.tangent_part(self._vector(vector, "vector"))

    @keeps_precision
    def random_tangent_vector(self, point: Any) -> Array:
        """Draw a tangent vector of unit length, its direction uniform."""
        vector = self.to_tangent_space(point, np.random.normal(size=self.shape))
        return vector / np.linalg.norm(vector)

    @keeps_precision
    def euclidean_to_riemannian_gradient(self, point: Any, euclidean_gradient: Any) -> Array:
        """Return the tangent part of a Euclidean gradient."""
        gradient = self._derivative(euclidean_gradient, "euclidean_gradient")
        return self._at(point).tangent.tangent_part(gradient)

    @keeps_precision
    def weingarten(self, point: Any, tangent_vector: Any, normal_vector: Any) -> Array:
        """Return the Weingarten map, with ``<weingarten(V, N), V'> = <N, II(V, V')>``."""
        at = self._at(point)
        vector = self._vector(tangent_vector, "tangent_vector")
        multiplier = at.normal_multiplier(self._vector(normal_vector, "normal_vector"))
        return at.tangent.hessian(np.zeros(self.shape), vector, multiplier)

    @keeps_precision
    def euclidean_to_riemannian_hessian(
        self, point: Any, euclidean_gradient: Any, euclidean_hessian: Any, tangent_vector: Any
    ) -> Array:
        """Return ``P(D^2 f[V]) + weingarten(V, (df)^normal)``, without finite differences."""
        at = self._at(point)
        gradient = self._derivative(euclidean_gradient, "euclidean_gradient")
        second = self._derivative(euclidean_hessian, "euclidean_hessian")
        vector = self._vector(tangent_vector, "tangent_vector")
        return at.tangent.hessian(second, vector, at.normal_multiplier(gradient))
