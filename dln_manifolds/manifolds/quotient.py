"""End-to-end matrices through geomstats' quotient machinery."""

from geomstats.geometry.quotient_metric import QuotientMetric

from dln_manifolds.manifolds.balanced import BalancedManifold
from dln_manifolds.manifolds.described import DescribedMetric
from dln_manifolds.manifolds.observable import DLNObservableManifold, DLNObservableMetric
from dln_manifolds.numerics.arrays import Array, ArrayLike

# What geomstats derives from a matrix of the metric, which quotients do not have, or leaves open.
_MISSING = frozenset(
    {
        *("metric_matrix", "cometric_matrix", "inner_coproduct", "christoffels", "normal_basis"),
        *("riemann_tensor", "covariant_riemann_tensor", "ricci_tensor", "scalar_curvature"),
        *("injectivity_radius", "parallel_transport"),
    }
)


class DLNQuotientMetric(DescribedMetric, QuotientMetric):
    """The metric of end-to-end matrices computed through the layers by geomstats' machinery.

    ``g_X(Z, Z') = <V, V'>`` with the horizontal lifts V of Z to any layers over X (Menon and Yu,
    arXiv 2509.09088); ``shape=[..., m, n]``. It agrees with `DLNObservableMetric`, which needs no
    layers and is much faster; this one is the second witness.

    Parameters
    ----------
    space : DLNObservableManifold
        The quotient, of integer depth.
    total_space : BalancedManifold, optional
        The layers; made if not given.
    """

    def __init__(
        self, space: DLNObservableManifold, total_space: BalancedManifold | None = None
    ) -> None:
        if not float(space.depth).is_integer():
            raise ValueError(f"depth must be an integer to have layers, not {space.depth}.")
        if total_space is None:
            total_space = BalancedManifold(widths=space.widths, rank=space.rank)
        super().__init__(space=space, total_space=total_space)
        self._solver = DLNObservableMetric(space)

    def _impossible(self) -> frozenset[str]:
        return _MISSING

    def log(self, point: ArrayLike, base_point: ArrayLike) -> Array:
        """Riemannian logarithm by the path solver, shape ``(..., m, n)``.

        geomstats' machinery would align the end points by their chord in the layers, which is not
        the geodesic for N >= 3.
        """
        return self._solver.log(point, base_point)

    def dist(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Geodesic distance by the path solver, shape ``(...)``."""
        return self._solver.dist(point_a, point_b)

    def squared_dist(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Square of the geodesic distance, shape ``(...)``."""
        return self._solver.squared_dist(point_a, point_b)
