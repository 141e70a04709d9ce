"""The manifold of balanced layers."""

from __future__ import annotations

import numbers
from typing import Any

import geomstats.backend as gs
import numpy as np
from geomstats.geometry.manifold import Manifold as GeomstatsManifold
from geomstats.geometry.manifold import register_quotient
from pymanopt.manifolds.manifold import Manifold as PymanoptManifold

from dln_manifolds.checks import (
    as_matrices,
    balance_tolerance,
    cast,
    checked_layers,
    common_batch,
    is_invertible,
)
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geodesics.alignment import nearest_balanced
from dln_manifolds.hosts.arrays import every_backend
from dln_manifolds.hosts.pymanopt_balanced import BalancedOptimization
from dln_manifolds.manifolds.balanced_metric import BalancedMetric
from dln_manifolds.manifolds.bundle import DLNBundle
from dln_manifolds.manifolds.fibre import FibreGeometry
from dln_manifolds.spectral import jacobi
from dln_manifolds.spectral.balanced import BalancedFrame, relative_imbalance
from dln_manifolds.spectral.elementary import Array

_GROUP_ACTION = "orthogonal"


@every_backend({})
class BalancedManifold(FibreGeometry, BalancedOptimization, GeomstatsManifold):
    r"""Balanced layers ``W = (W_1, ..., W_N)``, ``W_{p+1}^T W_{p+1} = W_p W_p^T``, invertible.

    A submanifold of the layers with the Frobenius metric, of dimension ``n^2 + (N-1) n (n-1) / 2``
    and with 2^N components (the signs of the layers' determinants). Gradient flow keeps layers
    balanced. One object serves geomstats and pymanopt, as `DLNObservableManifold` does.

    Parameters
    ----------
    n : int
        Width: layers are n x n.
    depth : int
        Number of layers N >= 1. ``W[0]`` acts first: ``X = W[N-1] @ ... @ W[0]``.
    equip : bool
        Whether to equip the space with its metric.

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
        for name, value in (("n", n), ("depth", depth)):
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise TypeError(f"{name} must be an integer, not {value!r}.")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        self.n, self.depth = int(n), int(depth)
        dim = self.n**2 + (self.depth - 1) * self.n * (self.n - 1) // 2
        PymanoptManifold.__init__(self, f"Balanced layers, n={self.n}, depth={self.depth}", dim)
        shape = (self.depth, self.n, self.n)
        GeomstatsManifold.__init__(self, dim=dim, shape=shape, intrinsic=True, equip=equip)
        self.group_action = _GROUP_ACTION
        self.fiber_bundle = DLNBundle(self)

    @property
    def dim(self) -> int:
        """Dimension ``n^2 + (N-1) n (n-1) / 2``."""
        return self._dimension

    @dim.setter
    def dim(self, value: int) -> None:
        self._dimension = value

    def __repr__(self) -> str:
        """Return the call that makes this space."""
        return f"{type(self).__name__}(n={self.n}, depth={self.depth})"

    def default_metric(self) -> type[BalancedMetric]:
        """Return the class of the default metric."""
        return BalancedMetric

    def new(self, equip: bool = True) -> BalancedManifold:
        """Return a new space with the same width and depth."""
        return type(self)(self.n, self.depth, equip=equip)

    def _tentative(self, value: Any) -> tuple[Array, Array]:
        """Return an array and which of its members are finite real layers, without raising."""
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError):
            return np.empty(0), np.zeros((), dtype=bool)
        batch = array.shape[:-3]
        if array.dtype.kind not in "fiub" or array.shape[-3:] != self.shape:
            return array, np.zeros(batch, dtype=bool)
        return array, np.asarray(np.isfinite(array).all(axis=(-3, -2, -1)))

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

    def is_tangent(self, vector: Any, base_point: Any = None, atol: float | None = None) -> Any:
        """Whether vectors have no normal part at balanced layers, relative to their length.

        Parameters
        ----------
        vector, base_point : array-like, shape=[..., N, n, n]
            Vectors and the points where they are attached.
        atol : float, optional
            Relative length of the normal part allowed; by default half the square root of eps.

        Returns
        -------
        is_tangent : array-like, shape=[...,]
            False, and never an error, for anything that is not a tangent vector.
        """
        array, usable = self._tentative(vector)
        base, good = self._tentative(base_point)
        good = good & self.belongs(base_point)
        try:
            batch = np.broadcast_shapes(usable.shape, good.shape)
        except ValueError:
            return np.bool_(False)
        both = np.broadcast_to(usable, batch) & np.broadcast_to(good, batch)
        inside = np.array(both)
        if inside.any():
            layers = np.broadcast_to(base, (*batch, *self.shape))[both].astype(np.float64)
            vectors = np.broadcast_to(array, (*batch, *self.shape))[both].astype(np.float64)
            normal = vectors - jacobi.tangent_part(BalancedFrame.of_layers(layers), vectors)
            loosest = min(
                (x.dtype for x in (array, base) if x.dtype.kind == "f"),
                key=lambda dtype: dtype.itemsize,
                default=np.dtype(np.float64),
            )
            bound = balance_tolerance(loosest) if atol is None else atol
            sizes = [np.linalg.norm(v.reshape(len(v), -1), axis=-1) for v in (normal, vectors)]
            inside[both] = sizes[0] <= bound * sizes[1]
        return inside[()]

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
        common_batch(3, vector=array, base_point=frame.bases)
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
        if n_samples < 0:
            raise ValueError(f"n_samples must not be negative, not {n_samples}.")
        log_s = bound * (2 * np.asarray(gs.random.rand(n_samples, self.n)) - 1)
        normal = np.asarray(gs.random.normal(size=(n_samples, self.depth + 1, self.n, self.n)))
        q, r = np.linalg.qr(normal)
        q = q * np.expand_dims(np.sign(np.diagonal(r, axis1=-2, axis2=-1)), -2)
        sign, _ = np.linalg.slogdet(q)
        q[..., 0] *= np.expand_dims(sign, -1)
        points = BalancedFrame(q, np.exp(log_s / self.depth)).layers()
        return points[0] if n_samples == 1 else points

    def random_tangent_vec(self, base_point: Any = None, n_samples: int = 1) -> Array:
        """Draw tangent vectors with independent standard normal coordinates.

        Parameters
        ----------
        base_point : array-like, shape=[..., N, n, n]
            Balanced layers.
        n_samples : int
            Number of vectors, for a single base point.

        Returns
        -------
        tangent_vec : array-like, shape=[..., N, n, n]
            Projections of Gaussian layers.
        """
        base, dtype = as_matrices(base_point, self.shape, "base_point")
        batch = base.shape[:-3]
        if n_samples > 1 and batch and batch != (n_samples,):
            raise ValueError(
                f"{n_samples} vectors at base points of batch shape {batch}: the numbers differ."
            )
        shape = batch if batch or n_samples == 1 else (n_samples,)
        normal = np.asarray(gs.random.normal(size=(*shape, *self.shape)))
        return cast(self.to_tangent(normal, base_point), dtype)

    def regularize(self, point: Any) -> Array:
        """Return a copy: every point has one representation."""
        array, dtype = as_matrices(point, self.shape, "point")
        return array.astype(dtype, copy=True)


register_quotient(
    Space=BalancedManifold,
    Metric=BalancedMetric,
    GroupAction=_GROUP_ACTION,
    FiberBundle=DLNBundle,
)
