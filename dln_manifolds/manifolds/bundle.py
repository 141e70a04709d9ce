"""The bundle of balanced layers over end-to-end matrices, and the quotient metric that it gives."""

from collections.abc import Iterable

import numpy as np
from geomstats.geometry.fiber_bundle import FiberBundle
from geomstats.geometry.manifold import Manifold

from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.autodiff.kinds import OF_BUNDLE
from dln_manifolds.autodiff.tables import BUNDLE
from dln_manifolds.checks import At
from dln_manifolds.geometry.alignment import align
from dln_manifolds.geometry.layer_stratum import LayerStratum
from dln_manifolds.geometry.second_fundamental_form import integrability
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray


@every_backend(BUNDLE, OF_BUNDLE, "*point_shape")
class DLNBundle(FiberBundle):
    """Riemannian submersion ``W -> X = W_N ... W_1``; fibres are orbits of all ``O(d_p)``.

    Of those of hidden widths ``d_1, ..., d_{N-1}``: Menon and Yu, arXiv 2509.09088; Chen, arXiv
    2510.07324, Theorem 1.1. Points and vectors of the total space have its ``*point_shape``, those
    of the base ``shape=[..., m, n]``.

    Parameters
    ----------
    total_space : BalancedManifold
        The balanced layers.
    """

    def __init__(self, total_space: Manifold) -> None:
        super().__init__(total_space=total_space)

    def __repr__(self) -> str:
        """Return the call that makes this bundle."""
        return f"{type(self).__name__}({self.total_space!r})"

    def __dir__(self) -> Iterable[str]:
        """List the names of what does not only raise an error."""
        return [name for name in super().__dir__() if name != "integrability_tensor_derivative"]

    @property
    def total_space(self) -> Manifold:
        """The balanced layers."""
        return self._total_space

    @property
    def stratum(self) -> LayerStratum:
        """What the layers are."""
        stratum: LayerStratum = self._total_space.stratum
        return stratum

    def riemannian_submersion(self, point: ArrayLike) -> Array:
        """Return the end-to-end matrix X of layers W, shape ``(..., m, n)``."""
        return self.total_space.end_to_end(point)

    def lift(self, point: ArrayLike) -> Array:
        """Return one balanced factorization of X, shape ``(..., *point_shape)``."""
        return self.total_space.factor(point)

    def tangent_riemannian_submersion(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the differential of the submersion of a vector at W, shape ``(..., m, n)``."""
        return self.total_space.push_forward(tangent_vec, base_point)

    def horizontal_lift(
        self,
        tangent_vec: ArrayLike,
        base_point: OptionalArray = None,
        fiber_point: OptionalArray = None,
    ) -> Array:
        """Return the horizontal vector over a tangent vector at X, ``(..., *point_shape)``.

        Of rank r, over the tangent part of the vector: what is normal at X has no lift.

        Of the same length; to ``fiber_point``, ``(..., *point_shape)``, or if that is not given
        to the `lift` of ``base_point``, ``(..., m, n)``.
        """
        if fiber_point is None:
            if base_point is None:
                raise ValueError("Give either base_point or fiber_point.")
            fiber_point = self.lift(base_point)
        return self.total_space.horizontal_lift(tangent_vec, fiber_point)

    def horizontal_projection(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the horizontal part of a vector at W, shape ``(..., *point_shape)``."""
        return self.total_space.horizontal_projection(tangent_vec, base_point)

    def vertical_projection(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the vertical part of a vector at W, shape ``(..., *point_shape)``."""
        return self.total_space.vertical_projection(tangent_vec, base_point)

    def is_horizontal(
        self, tangent_vec: ArrayLike, base_point: ArrayLike, atol: float = 1e-10
    ) -> Array:
        """Whether vectors are horizontal, up to ``atol`` times their length."""
        part = self.horizontal_projection(tangent_vec, base_point)
        return _is_part(tangent_vec, part, atol, len(self.stratum.point_shape))

    def is_vertical(
        self, tangent_vec: ArrayLike, base_point: ArrayLike, atol: float = 1e-10
    ) -> Array:
        """Whether vectors are vertical, up to ``atol`` times their length."""
        part = self.vertical_projection(tangent_vec, base_point)
        return _is_part(tangent_vec, part, atol, len(self.stratum.point_shape))

    def align(self, point: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the point of the fibre of ``point`` nearest to ``base_point``.

        Both have ``shape=[..., *point_shape]``. Procrustes over the groups ``O(d_p)`` in the
        ambient distance (ours): exact for N = 2, a local minimum for deeper networks.
        ``base_point`` may be any layers.
        """
        at = At(self.stratum, point, "point", base_point=base_point)
        chain, rank = self.stratum.chain, self.stratum.rank
        return at.cast(align(at.point, at.vectors[0], chain, rank).layers)

    def integrability_tensor(
        self, tangent_vec_a: ArrayLike, tangent_vec_b: ArrayLike, base_point: ArrayLike
    ) -> Array:
        """O'Neill's tensor ``A_E F = ver(D_{hor E} hor F) + hor(D_{hor E} ver F)``.

        Of tangent vectors E and F at W, all of ``shape=[..., *point_shape]``; skew in horizontal
        ones.
        """
        at = At(self.stratum, base_point, tangent_vec_a=tangent_vec_a, tangent_vec_b=tangent_vec_b)
        return at.cast(integrability(at.frame, *at.vectors))


def _is_part(vector: ArrayLike, part: Array, atol: float, ndim: int) -> Array:
    """Whether all of a vector is a part of it, up to a share of its length."""
    axes = tuple(range(-ndim, 0))
    array = np.asarray(vector, dtype=np.float64)
    rest = np.sqrt(np.sum((array - part) ** 2, axis=axes))
    return (rest <= atol * np.sqrt(np.sum(array**2, axis=axes)))[()]
