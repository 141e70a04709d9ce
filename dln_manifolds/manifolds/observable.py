"""The manifold of invertible end-to-end matrices."""

from __future__ import annotations

import math
import numbers
from typing import Any

import geomstats.backend as gs
import numpy as np
from geomstats.geometry.manifold import Manifold as GeomstatsManifold
from pymanopt.manifolds.manifold import Manifold as PymanoptManifold

from dln_manifolds.checks import (
    as_matrices,
    cast,
    checked_frame,
    common_batch,
    is_invertible,
)
from dln_manifolds.hosts.arrays import every_backend
from dln_manifolds.hosts.pymanopt_observable import ObservableOptimization
from dln_manifolds.manifolds.observable_metric import DLNObservableMetric
from dln_manifolds.spectral import volume
from dln_manifolds.spectral.elementary import Array


@every_backend({})
class DLNObservableManifold(ObservableOptimization, GeomstatsManifold):
    r"""Invertible end-to-end matrices ``X = W_N ... W_1`` of deep linear networks.

    The open set GL(n) of n x n matrices, with two components (the sign of det X), and the metric
    that makes the map from balanced layers a Riemannian submersion. One object serves both hosts:
    geomstats finds its methods here and on ``metric`` (batched), pymanopt finds its own here (one
    point at a time, base point first).

    Parameters
    ----------
    n : int
        Width: matrices are n x n.
    depth : float
        Depth N of the network, any real number >= 1.
    equip : bool
        Whether to equip the space with its metric.

    References
    ----------
    Chen, *Geodesics in the Deep Linear Network*, arXiv 2510.07324. Menon and Yu, *An entropy
    formula for the Deep Linear Network*, arXiv 2509.09088.

    Examples
    --------
    >>> from dln_manifolds import DLNObservableManifold
    >>> space = DLNObservableManifold(n=3, depth=4)
    >>> X, Y = space.random_point(2)
    >>> Z = space.metric.log(Y, X)
    >>> bool(abs(space.metric.exp(Z, X) - Y).max() < 1e-10)
    True
    """

    def __init__(self, n: int, depth: float, equip: bool = True) -> None:
        if not isinstance(n, numbers.Integral) or isinstance(n, bool):
            raise TypeError(f"n must be an integer, not {n!r}.")
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}.")
        if not isinstance(depth, numbers.Real) or isinstance(depth, bool):
            raise TypeError(f"depth must be a real number, not {depth!r}.")
        if not (math.isfinite(depth) and depth >= 1):
            raise ValueError(f"depth must be finite and at least 1, not {depth}.")
        self.n = int(n)
        self.depth = float(depth)
        PymanoptManifold.__init__(
            self,
            f"Observable manifold of the deep linear network, n={n}, depth={depth}",
            int(n * n),
        )
        GeomstatsManifold.__init__(self, dim=int(n * n), shape=(self.n, self.n), equip=equip)

    @property
    def dim(self) -> int:
        """Dimension ``n^2``."""
        return self._dimension

    @dim.setter
    def dim(self, value: int) -> None:
        self._dimension = value

    def __repr__(self) -> str:
        """Return the call that makes this space."""
        return f"{type(self).__name__}(n={self.n}, depth={self.depth!r})"

    def default_metric(self) -> type[DLNObservableMetric]:
        """Return the class of the default metric."""
        return DLNObservableMetric

    def new(self, equip: bool = True) -> DLNObservableManifold:
        """Return a new space with the same width and depth."""
        return type(self)(self.n, self.depth, equip=equip)

    def belongs(self, point: Any, atol: float | None = None) -> Any:
        """Whether points are finite, real and numerically invertible: ``s_min > n eps s_max``.

        Parameters
        ----------
        point : array-like, shape=[..., n, n]
            Points to test.
        atol : float, optional
            If given, additionally ``s_min > atol`` is asked for. The default test is free of scale.

        Returns
        -------
        belongs : array-like, shape=[...,]
            False, and never an error, for anything that is not a point.
        """
        array, usable = self._tentative(point)
        inside = np.array(usable)
        if inside.any():
            values = np.linalg.svd(array[usable].astype(np.float64), compute_uv=False)
            dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
            good = is_invertible(values, dtype)
            inside[usable] = good if atol is None else good & (values[..., -1] > atol)
        return inside[()]

    def is_tangent(self, vector: Any, base_point: Any = None, atol: float | None = None) -> Any:
        """Whether vectors are finite real matrices of the right shape: all of these are tangent.

        Parameters
        ----------
        vector : array-like, shape=[..., n, n]
            Vectors to test.
        base_point : array-like, shape=[..., n, n], optional
            Only its batch shape matters.
        atol : float, optional
            Not used: nothing is compared.

        Returns
        -------
        is_tangent : array-like, shape=[...,]
            False, and never an error, for anything that is not a tangent vector.
        """
        tangent = self._tentative(vector)[1]
        if base_point is not None:
            base, good = self._tentative(base_point)
            if base.shape[-len(self.shape) :] != self.shape:
                return np.zeros(tangent.shape, dtype=bool)[()]
            try:
                batch = np.broadcast_shapes(tangent.shape, good.shape)
            except ValueError:
                return np.asarray(False)[()]
            tangent = np.broadcast_to(tangent, batch).copy()
        return tangent[()]

    def _tentative(self, value: Any) -> tuple[Array, Array]:
        """Return an array and which of its members are finite real matrices, without raising."""
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError):
            return np.empty(0), np.zeros((), dtype=bool)
        batch = array.shape[: -len(self.shape)]
        if array.dtype.kind not in "fiub" or array.shape[-len(self.shape) :] != self.shape:
            return array, np.zeros(batch, dtype=bool)
        return array, np.asarray(np.isfinite(array).all(axis=(-2, -1)))

    def to_tangent(self, vector: Any, base_point: Any = None) -> Array:
        """Return the vector: every matrix is tangent.

        Parameters
        ----------
        vector : array-like, shape=[..., n, n]
            Ambient vector.
        base_point : array-like, shape=[..., n, n], optional
            Base point; its batch shape is taken on.

        Returns
        -------
        tangent_vec : array-like, shape=[..., n, n]
            A copy.
        """
        array, dtype = as_matrices(vector, self.shape, "vector")
        if base_point is not None:
            base, _ = as_matrices(base_point, self.shape, "base_point")
            batch = common_batch(2, vector=array, base_point=base)
            array = np.broadcast_to(array, (*batch, *self.shape))
        return array.astype(dtype, copy=True)

    def projection(self, point: Any, vector: Any = None) -> Array:
        """Project onto the manifold (one argument) or the tangent space (two arguments).

        Parameters
        ----------
        point : array-like, shape=[..., n, n]
            With one argument, any finite matrix: singular values below ``8 n eps s_max`` are
            raised to that, everything else is left as it is.
        vector : array-like, shape=[..., n, n], optional
            With two arguments, an ambient vector, which is tangent already.

        Returns
        -------
        projected : array-like, shape=[..., n, n]
            A point, or a tangent vector.
        """
        if vector is not None:
            return self.to_tangent(vector, point)
        array, dtype = as_matrices(point, self.shape, "point")
        left, values, right_t = np.linalg.svd(array)
        floor = 8 * self.n * np.finfo(dtype).eps * values[..., :1]
        # The zero matrix has no scale of its own.
        floor = np.where(floor == 0, 1.0, floor)
        low = values < floor
        if low.any():
            raised = (left * np.maximum(values, floor)[..., None, :]) @ right_t
            array = np.where(np.expand_dims(low.any(axis=-1), (-2, -1)), raised, array)
        return array.astype(dtype, copy=True)

    def random_point(self, n_samples: int = 1, bound: float = 1.0) -> Array:
        r"""Draw points ``X = U diag(s) V^T`` from the component det X > 0.

        U and V are uniform in SO(n); ``log s_i`` is uniform in ``[-bound, bound]``. Drawn by
        geomstats' ``gs.random``, and by ``numpy.random`` for pymanopt: with geomstats' numpy
        backend both are the same generator.

        Parameters
        ----------
        n_samples : int
            Number of points.
        bound : float
            Half the width of the interval of ``log s``.

        Returns
        -------
        point : array-like, shape=[n, n] or [n_samples, n, n]
            Unbatched for one sample.
        """
        if n_samples < 0:
            raise ValueError(f"n_samples must not be negative, not {n_samples}.")
        log_s = bound * (2 * np.asarray(gs.random.rand(n_samples, self.n)) - 1)
        normal = np.asarray(gs.random.normal(size=(n_samples, 2, self.n, self.n)))
        q, r = np.linalg.qr(normal)
        q = q * np.expand_dims(np.sign(np.diagonal(r, axis1=-2, axis2=-1)), -2)
        sign, _ = np.linalg.slogdet(q)
        q[..., 0] *= np.expand_dims(sign, -1)
        points = (q[:, 0] * np.exp(log_s)[:, None, :]) @ np.swapaxes(q[:, 1], -1, -2)
        return points[0] if n_samples == 1 else points

    def random_tangent_vec(self, base_point: Any = None, n_samples: int = 1) -> Array:
        """Draw tangent vectors with independent standard normal coordinates in the metric.

        Parameters
        ----------
        base_point : array-like, shape=[..., n, n]
            Base point.
        n_samples : int
            Number of vectors, for a single base point.

        Returns
        -------
        tangent_vec : array-like, shape=[..., n, n]
            ``U (sqrt(a) * G) V^T`` with a Gaussian matrix G: ``E |Z|_g^2 = n^2``.
        """
        frame, dtype = checked_frame(base_point, self.shape, self.depth, "base_point")
        batch = frame.values.shape[:-1]
        if n_samples > 1 and batch and batch != (n_samples,):
            raise ValueError(
                f"{n_samples} vectors at base points of batch shape {batch}: the numbers differ."
            )
        shape = batch if batch or n_samples == 1 else (n_samples,)
        normal = np.asarray(gs.random.normal(size=(*shape, *self.shape)))
        return cast(frame.leave(np.sqrt(frame.a) * normal), dtype)

    def regularize(self, point: Any) -> Array:
        """Return a copy: every point has one representation."""
        array, dtype = as_matrices(point, self.shape, "point")
        return array.astype(dtype, copy=True)

    def entropy(self, point: Any) -> Array:
        r"""Boltzmann entropy ``S(X) = log vol(O_X) = (N-1) log c_n + (1/2) sum_{i<j} log a_ij``.

        Menon and Yu, arXiv 2509.09088, Theorem 1.

        Parameters
        ----------
        point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        entropy : array-like, shape=[...,]
            Natural logarithm of the volume of the fibre; dimensionless.
        """
        frame, dtype = checked_frame(point, self.shape, self.depth, "point")
        return cast(volume.entropy(frame.singular_values, self.depth), dtype)

    def volume_density(self, point: Any) -> Array:
        """Volume of the fibre over X, ``exp(S(X))``, shape ``(...)``; overflows where S > 709."""
        frame, dtype = checked_frame(point, self.shape, self.depth, "point")
        return cast(np.exp(volume.entropy(frame.singular_values, self.depth)), dtype)

    def entropy_gradient(self, point: Any) -> Array:
        """Riemannian gradient of the entropy, a tangent vector at X.

        Minus the push-forward of the mean curvature vector of the fibre.

        Parameters
        ----------
        point : array-like, shape=[..., n, n]
            Invertible matrix X.

        Returns
        -------
        gradient : array-like, shape=[..., n, n]
            ``A_X(dS)``.
        """
        frame, dtype = checked_frame(point, self.shape, self.depth, "point")
        return cast(volume.entropy_gradient(frame), dtype)
