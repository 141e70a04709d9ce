r"""Strata: what the points of the two manifolds are, for one shape, rank and depth.

A network of depth N with widths ``d_0, ..., d_N`` reaches end-to-end matrices X of shape (m, n),
``m = d_N`` and ``n = d_0``. Those of one rank r form a manifold, and so do the balanced layers over
them (Menon, arXiv 2411.09004; Chen, arXiv 2510.07324, (1.4)-(1.6)). `Stratum` says which ones;
`MatrixStratum` and `LayerStratum` know dimension, frames, components, random draws, projection and
tangent spaces of the two. Square matrices of full rank are the first value; all others are refused
here and nowhere else.
"""

import abc
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.alignment import nearest_balanced
from dln_manifolds.geometry.balancing import relative_imbalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array, DType
from dln_manifolds.numerics.matrices import rotations

# Logarithms up to here are those of numbers within range, and so are their opposites.
_LONGEST_LOG = 700.0

# Draws an array of a shape.
Draw = Callable[[tuple[int, ...]], Array]


def is_invertible(singular_values: Array, dtype: DType) -> Array:
    """Whether the smallest singular value exceeds ``n eps`` times the largest, shape ``(...)``."""
    n = singular_values.shape[-1]
    smallest, largest = singular_values[..., -1], singular_values[..., 0]
    return np.asarray(smallest > n * np.finfo(dtype).eps * largest)


def balance_tolerance(dtype: DType) -> float:
    """Relative imbalance up to which layers of a dtype count as balanced: ``sqrt(eps) / 2``."""
    return 0.5 * float(np.sqrt(np.finfo(dtype).eps))


def component(frame: Frame) -> Array:
    """Return the signs of det that tell components apart: of X, ``(...)``, or of all layers.

    Of orthogonal polar factors, so that it is exact however small a determinant is.
    """
    return np.asarray(np.linalg.slogdet(frame.polar)[0])


def whole(name: str, value: object) -> int:
    """Return a positive integer, or raise `TypeError` or `ValueError` by its name."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, not {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}.")
    return int(value)


@dataclass(frozen=True)
class Stratum(abc.ABC):
    """End-to-end matrices of one ``shape`` (m, n) and ``rank`` r, or the balanced layers over them.

    The ``depth`` N >= 1 is an integer for layers; ``widths``, ``d_0, ..., d_N``, all equal n if not
    given.
    """

    shape: tuple[int, int]
    rank: int
    depth: float
    widths: tuple[int, ...] | None = None

    @classmethod
    def square(cls, n: object, depth: object) -> Self:
        """Return the stratum of square matrices of full rank: width n everywhere."""
        size = whole("n", n)
        return cls((size, size), size, cls._checked_depth(depth))

    @staticmethod
    @abc.abstractmethod
    def _checked_depth(depth: object) -> float:
        """Return a depth that this kind of stratum allows, or raise."""

    def __post_init__(self) -> None:
        """Check that the numbers belong together, and to what is implemented."""
        m, n = self.shape
        object.__setattr__(self, "depth", self._checked_depth(self.depth))
        widths = (n, m) if self.widths is None else self.widths
        if min(m, n, self.rank) < 1 or self.rank > min(widths):
            raise ValueError(f"A rank of {self.rank} does not go through the widths {widths}.")
        if (widths[0], widths[-1]) != (n, m) or len(widths) not in (2, self.depth + 1):
            raise ValueError(f"Widths {widths} are not those of {self.shape}, depth {self.depth}.")
        if {*widths, self.rank} != {n}:
            raise NotImplementedError("Only square matrices of full rank are implemented.")

    @property
    @abc.abstractmethod
    def point_shape(self) -> tuple[int, ...]:
        """Shape of a point."""

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Dimension of the manifold."""

    @property
    def is_open(self) -> bool:
        """Whether points are an open set in the space of arrays: then every vector is tangent."""
        return self.point_shape == self.shape and self.rank == min(self.shape)

    @abc.abstractmethod
    def frame(self, points: Array) -> Frame:
        """Decompose points, shape ``(..., *point_shape)``."""

    def ends(self, frame: Frame) -> Frame:
        """Return the frame of the end-to-end matrices of points."""
        return frame.ends if frame.layered else frame

    @abc.abstractmethod
    def contains(self, arrays: Array, dtype: DType, atol: float | None = None) -> Array:
        """Whether finite arrays are points up to the rounding of a dtype, free of scale."""

    @abc.abstractmethod
    def project(self, arrays: Array, dtype: DType) -> Array:
        """Return points near finite arrays; points are left as they are."""

    def tangent_part(self, frame: Frame, vectors: Array) -> Array:
        """Project ambient vectors to the tangent space, orthogonally in Frobenius norm."""
        return vectors if self.is_open else sectors.tangent_part(frame, vectors)

    def isotropic(self, frame: Frame, normal: Array) -> Array:
        """Turn standard normal arrays into tangent vectors that are so in the metric."""
        in_metric = frame.leave(frame.root_a * normal) if self.is_open else normal
        return self.tangent_part(frame, in_metric)

    def draw(self, n_samples: int, bound: float, uniform: Draw, normal: Draw) -> Array:
        """Draw points with ``log s_i`` uniform in ``[-bound, bound]`` and bases uniform in SO(n).

        From ``uniform`` numbers between 0 and 1 and standard ``normal`` ones, of the shapes that
        the stratum asks for. X is a single factor, W has N.
        """
        n_factors = math.prod(self.point_shape[:-2])
        if n_samples < 0:
            raise ValueError(f"n_samples must not be negative, not {n_samples}.")
        widest = _LONGEST_LOG
        if self.rank > 1:
            # As far apart as `MatrixStratum.project` leaves singular values, in each factor.
            farthest = -n_factors * np.log(8 * self.rank * np.finfo(float).eps) / 2
            widest = min(farthest, _LONGEST_LOG)
        if not abs(bound) <= widest:
            raise ValueError(
                f"bound must be at most {widest:.4g}, not {bound}: beyond, singular values of rank "
                f"{self.rank} are too far apart to be told from zero in double precision."
            )
        log_s = bound * (2 * uniform((n_samples, self.rank)) - 1)
        bases = rotations(normal((n_samples, n_factors + 1, *self.shape)))
        if self.is_open:
            bases = bases[:, ::-1]  # U is drawn before V
        frame = Frame.of_bases(bases, np.exp(log_s / n_factors))
        return frame.compose(frame.roots).reshape(n_samples, *self.point_shape)


class MatrixStratum(Stratum):
    """End-to-end matrices X, at any real depth."""

    @staticmethod
    def _checked_depth(depth: object) -> float:
        if not isinstance(depth, numbers.Real) or isinstance(depth, bool):
            raise TypeError(f"depth must be a real number, not {depth!r}.")
        value = float(depth)
        if not (math.isfinite(value) and value >= 1):
            raise ValueError(f"depth must be finite and at least 1, not {depth}.")
        return value

    @property
    def point_shape(self) -> tuple[int, ...]:
        """``(m, n)``."""
        return self.shape

    @property
    def dimension(self) -> int:
        """``(m + n - r) r``."""
        return (sum(self.shape) - self.rank) * self.rank

    def frame(self, points: Array) -> Frame:
        """Decompose X."""
        return Frame.of_point(points, self.depth)

    def contains(self, arrays: Array, dtype: DType, atol: float | None = None) -> Array:
        """Whether the rank is r; with ``atol``, the smallest singular value also exceeds that."""
        values = np.linalg.svd(arrays, compute_uv=False)
        good = is_invertible(values, dtype)
        return good if atol is None else good & (values[..., -1] > atol)

    def project(self, arrays: Array, dtype: DType) -> Array:
        """Raise singular values below ``8 n eps`` times the largest."""
        left, values, right_t = np.linalg.svd(arrays)
        floor = 8 * values.shape[-1] * np.finfo(dtype).eps * values[..., :1]
        # The zero matrix has no scale of its own.
        floor = np.where(floor == 0, 1.0, floor)
        low = values < floor
        if not low.any():
            return arrays
        raised = (left * np.maximum(values, floor)[..., None, :]) @ right_t
        return np.where(np.expand_dims(low.any(axis=-1), (-2, -1)), raised, arrays)


class LayerStratum(Stratum):
    """Balanced layers W over them, along one more axis."""

    depth: int

    @staticmethod
    def _checked_depth(depth: object) -> float:
        return whole("depth", depth)

    @property
    def point_shape(self) -> tuple[int, ...]:
        """``(N, n, n)``."""
        return (self.depth, *self.shape)

    @property
    def dimension(self) -> int:
        """``sum_p (d_p r - r (r+1) / 2) + r``, over p = 0 .. N."""
        n, r = self.shape[1], self.rank
        return (self.depth + 1) * (n * r - r * (r + 1) // 2) + r

    def frame(self, points: Array) -> Frame:
        """Read the frames of all layers off W."""
        return Frame.of_layers(points)

    def contains(self, arrays: Array, dtype: DType, atol: float | None = None) -> Array:
        """Whether layers are invertible, and balanced up to ``atol`` relatively."""
        values = np.linalg.svd(arrays, compute_uv=False)
        bound = balance_tolerance(dtype) if atol is None else atol
        balanced = relative_imbalance(arrays) <= bound
        return np.asarray(balanced & is_invertible(values, dtype).all(axis=-1))

    def project(self, arrays: Array, dtype: DType) -> Array:
        """Return the nearest balanced layers with the same X and signs; refuse singular ones."""
        if not is_invertible(np.linalg.svd(arrays, compute_uv=False), dtype).all():
            raise InvalidPointError(
                "point has singular layers; only layers with an invertible end-to-end matrix can "
                "be balanced on this manifold."
            )
        return nearest_balanced(arrays, keep_component=True)
