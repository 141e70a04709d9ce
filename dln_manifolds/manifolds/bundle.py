"""The bundle of balanced layers over end-to-end matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from geomstats.geometry.fiber_bundle import FiberBundle

from dln_manifolds.autodiff.balanced_rules import BUNDLE_RULES
from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.checks import as_matrices, cast, checked_layers, common_batch
from dln_manifolds.geometry.alignment import align
from dln_manifolds.geometry.second_fundamental_form import integrability
from dln_manifolds.numerics.arrays import Array


@every_backend(BUNDLE_RULES)
class DLNBundle(FiberBundle):
    """Riemannian submersion ``W -> X = W_N ... W_1`` with the orbits of ``O(n)^(N-1)`` as fibres.

    Menon and Yu, arXiv 2509.09088. Points and vectors of the total space have
    ``shape=[..., N, n, n]``, those of the base ``shape=[..., n, n]``.

    Parameters
    ----------
    total_space : BalancedManifold
        The balanced layers.
    """

    def __init__(self, total_space: Any) -> None:
        super().__init__(total_space=total_space)

    def riemannian_submersion(self, point: Any) -> Array:
        """Return the end-to-end matrix X of layers W."""
        return self._total_space.end_to_end(point)

    def lift(self, point: Any) -> Array:
        """Return one balanced factorization of X."""
        return self._total_space.factor(point)

    def tangent_riemannian_submersion(self, tangent_vec: Any, base_point: Any) -> Array:
        """Return the differential of the submersion of a vector at W."""
        return self._total_space.push_forward(tangent_vec, base_point)

    def horizontal_lift(
        self, tangent_vec: Any, base_point: Any = None, fiber_point: Any = None
    ) -> Array:
        """Return the horizontal vector over a tangent vector at X.

        Parameters
        ----------
        tangent_vec : array-like, shape=[..., n, n]
            Tangent vector at X.
        base_point : array-like, shape=[..., n, n], optional
            X; used, if no point of its fibre is given, through `lift`.
        fiber_point : array-like, shape=[..., N, n, n], optional
            Where to lift to.

        Returns
        -------
        vector : array-like, shape=[..., N, n, n]
            Horizontal lift, of the same length.
        """
        if fiber_point is None:
            if base_point is None:
                raise ValueError("Give either base_point or fiber_point.")
            fiber_point = self.lift(base_point)
        return self._total_space.horizontal_lift(tangent_vec, fiber_point)

    def horizontal_projection(self, tangent_vec: Any, base_point: Any) -> Array:
        """Return the horizontal part of a vector at W."""
        return self._total_space.horizontal_projection(tangent_vec, base_point)

    def vertical_projection(self, tangent_vec: Any, base_point: Any) -> Array:
        """Return the vertical part of a vector at W."""
        return self._total_space.vertical_projection(tangent_vec, base_point)

    def is_horizontal(self, tangent_vec: Any, base_point: Any, atol: float = 1e-10) -> Any:
        """Whether vectors are horizontal, up to ``atol`` times their length."""
        return self._is_part(tangent_vec, self.horizontal_projection(tangent_vec, base_point), atol)

    def is_vertical(self, tangent_vec: Any, base_point: Any, atol: float = 1e-10) -> Any:
        """Whether vectors are vertical, up to ``atol`` times their length."""
        return self._is_part(tangent_vec, self.vertical_projection(tangent_vec, base_point), atol)

    @staticmethod
    def _is_part(vector: Any, part: Array, atol: float) -> Any:
        vector = np.asarray(vector, dtype=np.float64)
        rest = np.sqrt(np.sum((vector - part) ** 2, axis=(-3, -2, -1)))
        return (rest <= atol * np.sqrt(np.sum(vector**2, axis=(-3, -2, -1))))[()]

    def align(self, point: Any, base_point: Any) -> Array:
        """Return the point of the fibre of ``point`` nearest to ``base_point``.

        Procrustes over ``O(n)^(N-1)`` in the ambient distance: exact for N = 2, a local minimum
        for deeper networks.

        Parameters
        ----------
        point, base_point : array-like, shape=[..., N, n, n]
            Balanced layers.

        Returns
        -------
        aligned : array-like, shape=[..., N, n, n]
            ``h . point``.
        """
        shape = self._total_space.shape
        layers, _, dtype_a = checked_layers(point, shape, "point")
        reference, dtype_b = as_matrices(base_point, shape, "base_point")
        common_batch(3, point=layers, base_point=reference)
        return cast(align(layers, reference).layers, dtype_a, dtype_b)

    def integrability_tensor(
        self, tangent_vec_a: Any, tangent_vec_b: Any, base_point: Any
    ) -> Array:
        """O'Neill's tensor ``A_E F = ver(D_{hor E} hor F) + hor(D_{hor E} ver F)``.

        Parameters
        ----------
        tangent_vec_a, tangent_vec_b : array-like, shape=[..., N, n, n]
            Tangent vectors E and F at W.
        base_point : array-like, shape=[..., N, n, n]
            Balanced layers W.

        Returns
        -------
        vector : array-like, shape=[..., N, n, n]
            ``A_E F``; skew in horizontal arguments.
        """
        shape = self._total_space.shape
        layers, frame, dtype = checked_layers(base_point, shape, "base_point")
        vec_a, dtype_a = as_matrices(tangent_vec_a, shape, "tangent_vec_a")
        vec_b, dtype_b = as_matrices(tangent_vec_b, shape, "tangent_vec_b")
        common_batch(3, tangent_vec_a=vec_a, tangent_vec_b=vec_b, base_point=layers)
        return cast(integrability(frame, layers, vec_a, vec_b), dtype, dtype_a, dtype_b)
