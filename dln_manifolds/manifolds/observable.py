"""The manifold of invertible end-to-end matrices."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.autodiff.observable_rules import SPACE_RULES
from dln_manifolds.checks import as_matrices, cast, checked_frame, common_batch, is_invertible
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.manifolds.observable_metric import DLNObservableMetric
from dln_manifolds.manifolds.pymanopt_observable import ObservableOptimization
from dln_manifolds.manifolds.space import NetworkSpace, check_whole
from dln_manifolds.numerics.arrays import Array


@every_backend(SPACE_RULES)
class DLNObservableManifold(NetworkSpace, ObservableOptimization):
    r"""Invertible end-to-end matrices ``X = W_N ... W_1`` of deep linear networks.

    The open set GL(n) of n x n matrices, with two components (the sign of det X), and the metric
    that makes the map from balanced layers a Riemannian submersion. One object serves both hosts:
    geomstats finds its methods here and on ``metric`` (batched), pymanopt finds its own here (one
    point at a time, base point first). Points and vectors have ``shape=[..., n, n]``, for
    pymanopt's methods ``[n, n]``.

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
        check_whole("n", n)
        if not isinstance(depth, numbers.Real) or isinstance(depth, bool):
            raise TypeError(f"depth must be a real number, not {depth!r}.")
        if not (math.isfinite(depth) and depth >= 1):
            raise ValueError(f"depth must be finite and at least 1, not {depth}.")
        super().__init__(
            int(n),
            float(depth),
            dim=int(n * n),
            shape=(int(n), int(n)),
            name=f"Observable manifold of the deep linear network, n={n}, depth={depth}",
            equip=equip,
        )

    def default_metric(self) -> type[DLNObservableMetric]:
        """Return the class of the default metric."""
        return DLNObservableMetric

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

    def _attachable(self, base_point: Any) -> tuple[Array, Array]:
        if base_point is None:
            return np.zeros(self.shape), np.ones((), dtype=bool)
        bases, good = self._tentative(base_point)
        if bases.shape[-len(self.shape) :] != self.shape:
            return np.zeros(self.shape), np.zeros((), dtype=bool)
        return bases, np.ones_like(good)

    def _tangent_members(self, vectors: Array, bases: Array, atol: float | None) -> Any:
        return True

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
        log_s, turns = self._draw(n_samples, bound, 2)
        points = (turns[:, 0] * np.exp(log_s)[:, None, :]) @ np.swapaxes(turns[:, 1], -1, -2)
        return points[0] if n_samples == 1 else points

    def _isotropic(self, normal: Array, base_point: Any) -> Array:
        frame, dtype = self._end_frame(base_point, "base_point")
        return cast(frame.leave(np.sqrt(frame.a) * normal), dtype)

    def _end_frame(self, point: Any, name: str = "point") -> tuple[Frame, np.dtype[Any]]:
        return checked_frame(point, self.shape, self.depth, name)

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
        frame, dtype = self._end_frame(point)
        return cast(volume.entropy_gradient(frame), dtype)
