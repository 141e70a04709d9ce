"""What the two manifolds of a deep linear network share."""

from __future__ import annotations

import abc
import numbers
from typing import Any, TypeVar

import geomstats.backend as gs
import numpy as np
from geomstats.geometry.manifold import Manifold as GeomstatsManifold
from pymanopt.manifolds.manifold import Manifold as PymanoptManifold

from dln_manifolds.checks import as_matrices, cast
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.manifolds.flattened import FlattenedManifold
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import rotations

Space = TypeVar("Space", bound="NetworkSpace")


class NetworkSpace(GeomstatsManifold, abc.ABC):
    """Manifold whose points belong to networks of a width and a depth, for both hosts.

    Parameters
    ----------
    n : int
        Width of the layers.
    depth : int or float
        Depth N of the network, checked by the class below.
    dim : int
        Dimension.
    shape : tuple of int
        Shape of a point.
    name : str
        What pymanopt prints.
    equip : bool
        Whether to equip the space with its metric.
    """

    def __init__(
        self, n: int, depth: float, *, dim: int, shape: tuple[int, ...], name: str, equip: bool
    ) -> None:
        self.n, self.depth = n, depth
        PymanoptManifold.__init__(self, name, dim)
        GeomstatsManifold.__init__(self, dim=dim, shape=shape, intrinsic=True, equip=equip)

    @property
    def dim(self) -> int:
        """Dimension of the manifold."""
        return self._dimension

    @dim.setter
    def dim(self, value: int) -> None:
        self._dimension = value

    def __repr__(self) -> str:
        """Return the call that makes this space."""
        return f"{type(self).__name__}(n={self.n}, depth={self.depth!r})"

    def new(self: Space, equip: bool = True) -> Space:
        """Return a new space with the same width and depth."""
        return type(self)(self.n, self.depth, equip=equip)  # type: ignore[call-arg]

    def flattened(self, orthonormal: bool = False) -> FlattenedManifold:
        """Return a view of this space whose points are vectors, for algorithms that need them.

        Parameters
        ----------
        orthonormal : bool
            Whether tangent vectors are coordinates in a frame that is orthonormal in the metric,
            instead of row-major entries.

        Returns
        -------
        view : FlattenedManifold
            ``view.flatten(points)`` and ``view.unflatten(vectors)`` go there and back.
        """
        return FlattenedManifold(self, orthonormal)

    def regularize(self, point: Any) -> Array:
        """Return a copy: every point has one representation."""
        array, dtype = as_matrices(point, self.shape, "point")
        return array.astype(dtype, copy=True)

    def is_tangent(self, vector: Any, base_point: Any = None, atol: float | None = None) -> Any:
        """Whether vectors are finite, real and tangent at their base points.

        Parameters
        ----------
        vector, base_point : array-like, shape=[..., *point_shape]
            Vectors and the points where they are attached.
        atol : float, optional
            Relative length allowed of a part that is not tangent; by default half the square root
            of eps. End-to-end matrices have no such part.

        Returns
        -------
        is_tangent : array-like, shape=[...,]
            False, and never an error, for anything that is not a tangent vector.
        """
        vectors, usable = self._tentative(vector)
        bases, good = self._attachable(base_point)
        try:
            batch = np.broadcast_shapes(usable.shape, good.shape)
        except ValueError:
            return np.bool_(False)
        tangent = np.array(np.broadcast_to(usable & good, batch))
        if tangent.any():
            whole = (*batch, *self.shape)
            vectors, bases = (np.broadcast_to(x, whole)[tangent] for x in (vectors, bases))
            tangent[tangent] = self._tangent_members(vectors, bases, atol)
        return tangent[()]

    @abc.abstractmethod
    def _attachable(self, base_point: Any) -> tuple[Array, Array]:
        """Return an array and at which of its members vectors may be attached, without raising."""

    @abc.abstractmethod
    def _tangent_members(self, vectors: Array, bases: Array, atol: float | None) -> Any:
        """Whether finite vectors are tangent at their base points; flat batches of equal length."""

    def _tentative(self, value: Any) -> tuple[Array, Array]:
        """Return an array and which of its members are finite, real and of the shape of points."""
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError):
            return np.empty(0), np.zeros((), dtype=bool)
        axes = tuple(range(-len(self.shape), 0))
        batch = array.shape[: -len(self.shape)]
        if array.dtype.kind not in "fiub" or array.shape[-len(self.shape) :] != self.shape:
            return array, np.zeros(batch, dtype=bool)
        return array, np.asarray(np.isfinite(array).all(axis=axes))

    def _draw(self, n_samples: int, bound: float, n_rotations: int) -> tuple[Array, Array]:
        """Draw ``log s_i`` uniform in ``[-bound, bound]`` and rotations uniform in SO(n)."""
        if n_samples < 0:
            raise ValueError(f"n_samples must not be negative, not {n_samples}.")
        log_s = bound * (2 * np.asarray(gs.random.rand(n_samples, self.n)) - 1)
        normal = gs.random.normal(size=(n_samples, n_rotations, self.n, self.n))
        return log_s, rotations(np.asarray(normal))

    def random_tangent_vec(self, base_point: Any = None, n_samples: int = 1) -> Array:
        """Draw tangent vectors with independent standard normal coordinates in the metric.

        Parameters
        ----------
        base_point : array-like, shape=[..., *point_shape]
            Base point.
        n_samples : int
            Number of vectors, for a single base point.

        Returns
        -------
        tangent_vec : array-like, shape=[..., *point_shape]
            Isotropic Gaussian vectors: ``E |Z|^2`` is the dimension of the manifold.
        """
        base, _ = as_matrices(base_point, self.shape, "base_point")
        batch = base.shape[: -len(self.shape)]
        if n_samples > 1 and batch and batch != (n_samples,):
            raise ValueError(
                f"{n_samples} vectors at base points of batch shape {batch}: the numbers differ."
            )
        shape = batch if batch or n_samples == 1 else (n_samples,)
        normal = np.asarray(gs.random.normal(size=(*shape, *self.shape)))
        return self._isotropic(normal, base_point)

    @abc.abstractmethod
    def _isotropic(self, normal: Array, base_point: Any) -> Array:
        """Turn Gaussian arrays into Gaussian tangent vectors."""

    @abc.abstractmethod
    def _end_frame(self, point: Any, name: str = "point") -> tuple[Frame, np.dtype[Any]]:
        """Validate points; return the frame of their end-to-end matrices, and the dtype."""

    def entropy(self, point: Any) -> Array:
        r"""Boltzmann entropy ``S(X) = log vol(O_X) = (N-1) log c_n + (1/2) sum_{i<j} log a_ij``.

        The entropy formula of Menon and Yu, arXiv 2509.09088. Of layers W, it is that of their
        end-to-end matrix X: constant along the fibre.

        Parameters
        ----------
        point : array-like, shape=[..., *point_shape]
            Point.

        Returns
        -------
        entropy : array-like, shape=[...,]
            Natural logarithm of the volume of the fibre; dimensionless.
        """
        frame, dtype = self._end_frame(point)
        return cast(volume.entropy(frame.singular_values, frame.depth), dtype)

    def volume_density(self, point: Any) -> Array:
        """Volume of the fibre over X, ``exp(S(X))``, shape ``(...)``; overflows where S > 709."""
        frame, dtype = self._end_frame(point)
        return cast(np.exp(volume.entropy(frame.singular_values, frame.depth)), dtype)


def check_whole(name: str, value: Any) -> None:
    """Raise `TypeError` or `ValueError` if an argument of a space is no positive integer."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, not {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}.")
