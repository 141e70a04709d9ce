"""The manifold of balanced layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from geomstats.geometry.manifold import register_quotient

from dln_manifolds.autodiff.balanced_rules import SPACE_RULES
from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.checks import (
    as_matrices,
    balance_tolerance,
    cast,
    checked_layers,
    common_batch,
    is_invertible,
)
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry import sectors as jacobi
from dln_manifolds.geometry.alignment import nearest_balanced
from dln_manifolds.geometry.balancing import relative_imbalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.manifolds.balanced_metric import BalancedMetric
from dln_manifolds.manifolds.bundle import DLNBundle
from dln_manifolds.manifolds.fibre import FibreGeometry
from dln_manifolds.manifolds.pymanopt_balanced import BalancedOptimization
from dln_manifolds.manifolds.space import check_whole
from dln_manifolds.numerics.arrays import Array

_GROUP_ACTION = "orthogonal"


@every_backend(SPACE_RULES)
class BalancedManifold(FibreGeometry, BalancedOptimization):
    r"""Balanced layers ``W = (W_1, ..., W_N)``, ``W_{p+1}^T W_{p+1} = W_p W_p^T``, invertible.

    A submanifold of the layers with the Frobenius metric, of dimension ``n^2 + (N-1) n (n-1) / 2``
    and with 2^N components (the signs of the layers' determinants). Gradient flow keeps layers
    balanced. One object serves geomstats and pymanopt, as `DLNObservableManifold` does. Points and
    vectors have ``shape=[..., N, n, n]``, for pymanopt's methods ``[N, n, n]``.

    Parameters
    ----------
    n : int
        Width: layers are n x n.
    depth : int
        Number of layers N >= 1. ``W[0]`` acts first: ``X = W[N-1] @ ... @ W[0]``.
    equip : bool
        Whether to equip the space with its metric.

    Notes
    -----
    geomstats' `NFoldManifold` takes this space, its `ProductManifold` factors of one shape only:
    for others it lays points out flat in as many numbers as the space has dimensions, which are
    fewer than the entries of the layers.

    References
    ----------
    Menon, *The geometry of the deep linear network*, arXiv 2411.09004. Menon and Yu, *An entropy
    formula for the Deep Linear Network*, arXiv 2509.09088.

    Examples
    --------
    >>> from dln_manifolds import BalancedManifold
    >>> total = BalancedManifold(n=3, depth=4)
    >>> W = total.random_point()
    >>> V = total.horizontal_projection(total.random_tangent_vec(W), W)
    >>> bool(total.belongs(total.metric.exp(0.1 * V, W)))
    True
    """

    def __init__(self, n: int, depth: int, equip: bool = True) -> None:
        check_whole("n", n)
        check_whole("depth", depth)
        n, depth = int(n), int(depth)
        super().__init__(
            n,
            depth,
            dim=n**2 + (depth - 1) * n * (n - 1) // 2,
            shape=(depth, n, n),
            name=f"Balanced layers, n={n}, depth={depth}",
            equip=equip,
        )
        self.group_action = _GROUP_ACTION
        self.fiber_bundle = DLNBundle(self)

    def default_metric(self) -> type[BalancedMetric]:
        """Return the class of the default metric."""
        return BalancedMetric

    def belongs(self, point: Any, atol: float | None = None) -> Any:
        """Whether layers are finite, balanced and invertible, free of scale.

        Parameters
        ----------
        point : array-like, shape=[..., N, n, n]
            Points to test.
        atol : float, optional
            Relative imbalance allowed; by default half the square root of eps.

        Returns
        -------
        belongs : array-like, shape=[...,]
            False, and never an error, for anything that is not a point.
        """
        array, usable = self._tentative(point)
        inside = np.array(usable)
        if inside.any():
            dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
            layers = array[usable].astype(np.float64)
            bound = balance_tolerance(dtype) if atol is None else atol
            values = np.linalg.svd(layers, compute_uv=False)
            inside[usable] = (relative_imbalance(layers) <= bound) & is_invertible(
                values, dtype
            ).all(axis=-1)
        return inside[()]

    def _attachable(self, base_point: Any) -> tuple[Array, Array]:
        bases, good = self._tentative(base_point)
        if not good.any():
            return np.zeros(self.shape), good
        return bases, good & self.belongs(base_point)

    def _tangent_members(self, vectors: Array, bases: Array, atol: float | None) -> Any:
        loosest = min(
            (x.dtype for x in (vectors, bases) if x.dtype.kind == "f"),
            key=lambda dtype: dtype.itemsize,
            default=np.dtype(np.float64),
        )
        vectors, bases = vectors.astype(np.float64), bases.astype(np.float64)
        normal = vectors - jacobi.tangent_part(Frame.of_layers(bases), vectors)
        sizes = [np.linalg.norm(v.reshape(len(v), -1), axis=-1) for v in (normal, vectors)]
        bound = balance_tolerance(loosest) if atol is None else atol
        return sizes[0] <= bound * sizes[1]

    def to_tangent(self, vector: Any, base_point: Any = None) -> Array:
        """Project ambient vectors to the tangent space.

        Parameters
        ----------
        vector : array-like, shape=[..., N, n, n]
            Ambient vectors.
        base_point : array-like, shape=[..., N, n, n]
            Balanced layers W.

        Returns
        -------
        tangent_vec : array-like, shape=[..., N, n, n]
            Their tangent parts.
        """
        _, frame, dtype = checked_layers(base_point, self.shape, "base_point")
        array, dtype_b = as_matrices(vector, self.shape, "vector")
        common_batch(3, vector=array, base_point=frame.left)
        return cast(jacobi.tangent_part(frame, array), dtype, dtype_b)

    def projection(self, point: Any, vector: Any = None) -> Array:
        """Balance layers (one argument) or project to the tangent space (two arguments).

        Parameters
        ----------
        point : array-like, shape=[..., N, n, n]
            With one argument, any layers with an invertible end-to-end matrix X.
        vector : array-like, shape=[..., N, n, n], optional
            With two arguments, an ambient vector at balanced layers.

        Returns
        -------
        projected : array-like, shape=[..., N, n, n]
            Balanced layers with the same X, (locally) nearest to the given ones within the fibre
            and in their component; or a tangent vector.
        """
        if vector is not None:
            return self.to_tangent(vector, point)
        array, dtype = as_matrices(point, self.shape, "point")
        values = np.linalg.svd(array, compute_uv=False)
        if not is_invertible(values, dtype).all():
            raise InvalidPointError(
                "point has singular layers; only layers with an invertible end-to-end matrix can "
                "be balanced on this manifold."
            )
        return cast(nearest_balanced(array, keep_component=True), dtype)

    def random_point(self, n_samples: int = 1, bound: float = 1.0) -> Array:
        r"""Draw balanced layers, all with positive determinants.

        ``W_p = Q_p diag(s^(1/N)) Q_{p-1}^T`` with uniform Q_p in SO(n) and ``log s_i`` uniform in
        ``[-bound, bound]``.

        Parameters
        ----------
        n_samples : int
            Number of points.
        bound : float
            Half the width of the interval of ``log s``.

        Returns
        -------
        point : array-like, shape=[N, n, n] or [n_samples, N, n, n]
            Unbatched for one sample.
        """
        log_s, turns = self._draw(n_samples, bound, self.depth + 1)
        frame = Frame.of_bases(turns, np.exp(log_s / self.depth))
        points = frame.compose(frame.roots)
        return points[0] if n_samples == 1 else points

    def _isotropic(self, normal: Array, base_point: Any) -> Array:
        _, frame, dtype = checked_layers(base_point, self.shape, "base_point")
        return cast(jacobi.tangent_part(frame, normal), dtype)


register_quotient(
    Space=BalancedManifold,
    Metric=BalancedMetric,
    GroupAction=_GROUP_ACTION,
    FiberBundle=DLNBundle,
)
