"""Connection and curvature of a metric, under geomstats' names and in its conventions."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import numpy as np
from geomstats.geometry.riemannian_metric import RiemannianMetric

from dln_manifolds.checks import At
from dln_manifolds.geometry.connection import christoffel, christoffel_symbols
from dln_manifolds.geometry.curvature import Curvature, curvature_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.layer_curvature import LayerCurvature
from dln_manifolds.geometry.stratum import Stratum
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray


def _curvature(frame: Frame) -> Curvature:
    """Return the curvature of the manifold that points are on."""
    return LayerCurvature(frame) if frame.layered else curvature_of(frame)


class CurvedMetric(RiemannianMetric):
    """The methods of a metric that differentiate it: Christoffel action and curvature.

    In geomstats' conventions: ``R(x, y) z = nabla_x nabla_y z - nabla_y nabla_x z`` for commuting
    fields, so that spheres are curved positively. Tensors are on row-major entries of points, as
    `metric_matrix` is: where entries are no coordinates, parts of vectors that are normal to the
    manifold drop out. Everything is known in closed form (ours); nothing is differentiated.
    """

    stratum: Stratum

    def _at(self, base_point: OptionalArray, *vectors: ArrayLike) -> At:
        names = ("tangent_vec_a", "tangent_vec_b", "tangent_vec_c")
        return At(self.stratum, base_point, **dict(zip(names, vectors, strict=False))).tangent()

    def connection(
        self, tangent_vec_a: ArrayLike, tangent_vec_b: ArrayLike, base_point: ArrayLike
    ) -> Array:
        r"""Christoffel action Gamma(a, b) of the Levi-Civita connection in the entries of points.

        ``nabla_a Y = D Y[a] + Gamma(a, Y)`` for every field Y that is tangent along the manifold,
        so that geodesics obey ``X'' = -Gamma(X', X')``. At end-to-end matrices

        .. math::
            \Gamma(a, b) = \tfrac12 (A_X \partial_X \langle p, A_X q \rangle - D A_X[a] q
                                     - D A_X[b] p), \quad p = A_X^{-1} a, \; q = A_X^{-1} b

        (ours), exact at equal singular values, O(n^3). Of lower rank and of layers it has a part
        normal to the manifold, minus the second fundamental form; of layers that is all.
        """
        at = self._at(base_point, tangent_vec_a, tangent_vec_b)
        return at.cast(christoffel(at.frame, *at.vectors))

    def christoffels(self, base_point: OptionalArray = None) -> Array:
        """Christoffel symbols of row-major entries, where these are coordinates: at full rank.

        Returns
        -------
        symbols : array-like, shape=[..., M, M, M]
            ``symbols[..., k, i, j]`` is entry k of `connection` of the unit vectors i and j.
        """
        if not self.stratum.is_open:
            raise NotImplementedError(
                "Christoffel symbols need coordinates, and points here have more entries than "
                "degrees of freedom. metric.connection(a, b, base_point) is their action."
            )
        at = At(self.stratum, base_point)
        return at.cast(christoffel_symbols(at.frame))

    def curvature(
        self,
        tangent_vec_a: ArrayLike,
        tangent_vec_b: ArrayLike,
        tangent_vec_c: ArrayLike,
        base_point: OptionalArray = None,
    ) -> Array:
        """Riemann curvature ``R(a, b) c``, a tangent vector.

        At end-to-end matrices by the Jacobi systems of the layers, O(N n^3), for integer depths up
        to 64, else from their closed forms, O(n^4), every rank and shape included; of layers by
        the Gauss equation (ours).
        """
        at = self._at(base_point, tangent_vec_a, tangent_vec_b, tangent_vec_c)
        return at.cast(_curvature(at.frame).tensor(*at.vectors))

    def sectional_curvature(
        self,
        tangent_vec_a: ArrayLike,
        tangent_vec_b: ArrayLike,
        base_point: OptionalArray = None,
    ) -> Array:
        r"""Sectional curvature ``<R(a, b) b, a> / (|a|^2 |b|^2 - <a, b>^2)`` of planes, ``(...)``.

        Of both signs for every N > 1: at the identity the plane of ``diag(1, -1, 0, ...)`` and the
        rotation in its two directions has ``-(N^2 - 1) / (6 N)`` (ours). Dimension: one over the
        square of a length. NaN where vectors are parallel up to rounding, as they span no plane;
        of nearly parallel ones nothing is lost but what their difference has lost.
        """
        at = self._at(base_point, tangent_vec_a, tangent_vec_b)
        return at.cast(_curvature(at.frame).sectional(*at.vectors))

    def riemann_tensor(self, base_point: OptionalArray = None) -> Array:
        """Riemann tensor on the M row-major entries of points, M^4 numbers each.

        Returns
        -------
        tensor : array-like, shape=[..., M, M, M, M]
            ``tensor[..., i, j, k, l]`` is entry l of ``R(e_j, e_k) e_i``, of the tangent parts of
            unit vectors e.
        """
        at = At(self.stratum, base_point)
        return at.cast(_curvature(at.frame).riemann())

    def ricci_tensor(self, base_point: OptionalArray = None) -> Array:
        """Ricci tensor, the trace of ``x -> R(x, a) b``, on row-major entries, a square matrix.

        At end-to-end matrices it is diagonal in the singular frame but for one block, O(n^3)
        (ours); of layers a sum over an orthonormal basis.
        """
        at = At(self.stratum, base_point)
        return at.cast(_curvature(at.frame).ricci())

    def scalar_curvature(self, base_point: OptionalArray = None) -> Array:
        """Scalar curvature, the trace of the Ricci tensor in the metric, shape ``(...)``.

        ``(N^2 - 1) n (n - 1)^2 / (6 N)`` at the identity (ours).
        """
        at = At(self.stratum, base_point)
        # Of degree -2 in the layers, which may be of any size: where their roots are at most one.
        values, size = at.frame.values, at.frame.roots[..., 0]
        unit = replace(at.frame, values=values / values[..., :1])
        scalar = _curvature(unit).scalar()
        with np.errstate(over="ignore"):
            return at.cast(np.where(scalar == 0, 0.0, scalar / size / size))

    def curvature_derivative(
        self,
        tangent_vec_a: ArrayLike,
        tangent_vec_b: ArrayLike,
        tangent_vec_c: ArrayLike,
        tangent_vec_d: ArrayLike,
        base_point: OptionalArray = None,
    ) -> NoReturn:
        """Raise `NotImplementedError`: no closed form of ``(nabla_a R)(b, c) d`` is known."""
        raise NotImplementedError(
            "The covariant derivative of the curvature has no closed form here. Take differences "
            "of metric.curvature between ends of a short geodesic, with metric.parallel_transport "
            "of its arguments there and of its value back."
        )
