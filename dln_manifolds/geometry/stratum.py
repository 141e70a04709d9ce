r"""Strata: what the points of the two manifolds are, for one shape, rank and depth.

A network of depth N with widths ``d_0, ..., d_N`` reaches end-to-end matrices X of shape (m, n),
``m = d_N`` and ``n = d_0``. Those of one rank r form a manifold, and so do the balanced layers over
them (Menon, arXiv 2411.09004; Chen, arXiv 2510.07324, (1.4)-(1.6); Bah et al., arXiv 1910.05505,
for rank r). `Stratum` says which ones; `MatrixStratum` and `LayerStratum` know dimension, frames,
components, random draws, projection and tangent spaces of the two.
"""

import abc
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from dln_manifolds.geometry.frame import Frame, orientation_of
from dln_manifolds.geometry.rank import has_rank, nearest_of_rank, resolution
from dln_manifolds.numerics.arguments import real, whole, whole_sizes
from dln_manifolds.numerics.arrays import Array, DType
from dln_manifolds.numerics.matrices import orthonormal, rotations, transpose
from dln_manifolds.numerics.precision import DOUBLE, eps_of

# Logarithms up to here are those of numbers within range, and so are their opposites.
_LONGEST_LOG = 700.0

# Draws an array of a shape.
Draw = Callable[[tuple[int, ...]], Array]


def balance_tolerance(dtype: DType) -> float:
    """Relative imbalance up to which layers of a dtype count as balanced: ``sqrt(eps) / 2``."""
    return 0.5 * float(np.sqrt(eps_of(dtype)))


def component(frame: Frame) -> Array:
    """Return the signs of det that tell components apart: of X, ``(...)``, or of layers.

    Of layers see `orientation_of`; of X of orthogonal polar factors, so that they are exact however
    small a determinant is. All ones where there is one component: matrices that are not square, or
    not of full rank.
    """
    if frame.layered:
        return orientation_of(frame.bases, frame.layout)
    if frame.sides != (0, 0) or frame.positive:
        return np.ones(frame.values.shape[:-1])
    return np.asarray(np.linalg.slogdet(frame.polar)[0])


@dataclass(frozen=True)
class Stratum(abc.ABC):
    """End-to-end matrices of one ``shape`` (m, n) and ``rank`` r, or the balanced layers over them.

    The ``depth`` N >= 1 is an integer for layers. The ``widths`` ``d_0, ..., d_N`` may be given
    where it is one; if they are not, hidden layers are as narrow as the rank allows.
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

    @classmethod
    def of(
        cls,
        n: object = None,
        depth: object = None,
        shape: object = None,
        rank: object = None,
        widths: object = None,
    ) -> Self:
        """Return the stratum of one of width n, shape and widths, with depth and rank."""
        named = {"n": n, "shape": shape, "widths": widths}
        given = [name for name, value in named.items() if value is not None]
        if not given:
            raise TypeError("n must be an integer, or shape or widths be given in its place.")
        if len(given) > 1:
            raise TypeError(f"Give one of n, shape and widths, not {' and '.join(given)}.")
        if isinstance(n, tuple | list):
            raise TypeError(f"n must be an integer, not {n!r}: give a shape by name, shape={n!r}.")
        if widths is not None:
            sizes = whole_sizes("widths", widths, 2)
            if depth is not None and cls._checked_depth(depth) != len(sizes) - 1:
                raise ValueError(
                    f"depth={depth} contradicts widths={sizes}, of depth {len(sizes) - 1}. Leave "
                    f"depth out."
                )
            depth, ends = len(sizes) - 1, (sizes[-1], sizes[0])
            equal = set(sizes) == {ends[0]} and rank in (None, ends[0])
            hidden = None if equal else sizes
        else:
            sizes = whole_sizes("shape", shape, 2) if n is None else (whole("n", n),) * 2
            if len(sizes) != 2:
                raise ValueError(f"shape must be two integers (m, n), not {shape!r}.")
            ends, hidden = (sizes[0], sizes[1]), None
        chosen = min(sizes) if rank is None else whole("rank", rank)
        return cls(ends, chosen, cls._checked_depth(depth), hidden)

    @staticmethod
    @abc.abstractmethod
    def _checked_depth(depth: object) -> float:
        """Return a depth that this kind of stratum allows, or raise."""

    def __post_init__(self) -> None:
        """Check that the numbers belong together."""
        m, n = self.shape
        object.__setattr__(self, "depth", self._checked_depth(self.depth))
        widths = (n, m) if self.widths is None else self.widths
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}.")
        if self.rank > min(widths):
            raise ValueError(
                f"rank={self.rank} is above the least width: matrices of widths {widths} have "
                f"ranks up to {min(widths)}."
            )
        if self.widths is not None and (
            (widths[0], widths[-1]) != (n, m) or len(widths) != self.depth + 1
        ):
            raise ValueError(
                f"Widths {widths} are not those of shape {self.shape} and depth {self.depth}: they "
                f"are d_0 = n, ..., d_N = m."
            )

    @property
    def size(self) -> int:
        """The largest number of rows or columns of a matrix, which bounds rounding."""
        return max(self.shape)

    @property
    def is_square(self) -> bool:
        """Whether X is square and of full rank."""
        return self.shape == (self.rank, self.rank)

    @property
    def arguments(self) -> dict[str, object]:
        """The call that makes this stratum: arguments by name, as few as possible."""
        (m, n), least = self.shape, min(self.widths or self.shape)
        depth = int(self.depth) if float(self.depth).is_integer() else self.depth
        found: dict[str, object] = {"n": n} if m == n else {"shape": self.shape}
        if self.widths is not None:
            found = {"widths": self.widths}
        if self.rank != least:
            found["rank"] = self.rank
        return found if self.widths is not None else {**found, "depth": depth}

    @property
    def every_width(self) -> tuple[int, ...] | None:
        """Widths ``d_0, ..., d_N``, None if the depth is no integer."""
        if self.widths is not None or not float(self.depth).is_integer():
            return self.widths
        return (self.shape[1], *[self.rank] * (int(self.depth) - 1), self.shape[0])

    @property
    def hidden_widths(self) -> tuple[int, ...] | None:
        """Widths ``d_1, ..., d_{N-1}``, None for as narrow as the rank allows."""
        return None if self.widths is None else self.widths[1:-1]

    @property
    def ends_dimension(self) -> int:
        """Dimension ``(m + n - r) r`` of the end-to-end matrices."""
        return (sum(self.shape) - self.rank) * self.rank

    @property
    @abc.abstractmethod
    def point_shape(self) -> tuple[int, ...]:
        """Shape of a point."""

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Dimension of the manifold."""

    @property
    @abc.abstractmethod
    def is_open(self) -> bool:
        """Whether points are an open set in the space of arrays: then every vector is tangent."""

    @abc.abstractmethod
    def decompose(self, points: Array) -> tuple[Frame, Array]:
        """Return the frame of points ``(..., *point_shape)``, and all their singular values."""

    def frame(self, points: Array) -> Frame:
        """Decompose points, shape ``(..., *point_shape)``."""
        return self.decompose(points)[0]

    def ends(self, frame: Frame) -> Frame:
        """Return the frame of the end-to-end matrices of points."""
        return frame.ends if frame.layered else frame

    @abc.abstractmethod
    def contains(self, arrays: Array, dtype: DType, atol: float | None = None) -> Array:
        """Whether finite arrays are points up to the rounding of a dtype, free of scale."""

    @abc.abstractmethod
    def project(self, arrays: Array, dtype: DType) -> Array:
        """Return points near finite arrays; points are left as they are."""

    @abc.abstractmethod
    def tangent_part(self, frame: Frame, vectors: Array) -> Array:
        """Project ambient vectors to the tangent space, orthogonally in Frobenius norm."""

    @abc.abstractmethod
    def isotropic(self, frame: Frame, normal: Array) -> Array:
        """Turn standard normal arrays into tangent vectors that are so in the metric."""

    @abc.abstractmethod
    def draw(self, n_samples: int, bound: float, uniform: Draw, normal: Draw) -> Array:
        """Draw points with ``log s_i`` uniform in ``[-bound, bound]`` and uniform bases.

        From ``uniform`` numbers between 0 and 1 and standard ``normal`` ones, of the shapes that
        the stratum asks for.
        """

    def _draw_roots(self, n_samples: int, bound: float, uniform: Draw, n_factors: int) -> Array:
        """Draw ``s^(1/N)``, or s of a single factor, shape ``(n_samples, r)``."""
        n_samples, bound = whole("n_samples", n_samples, least=0), real("bound", bound)
        widest = _LONGEST_LOG
        if self.rank > 1:
            # Twice what counts as zero, in each factor.
            farthest = -n_factors * np.log(2 * resolution(max(self.shape), DOUBLE)) / 2
            widest = min(farthest, _LONGEST_LOG)
        if not abs(bound) <= widest:
            raise ValueError(
                f"bound must be at most {widest:.4g}, not {bound}: beyond, singular values of rank "
                f"{self.rank} are too far apart to be told from zero in double precision."
            )
        log_s = bound * (2 * uniform((n_samples, self.rank)) - 1)
        return np.exp(log_s / n_factors)


class MatrixStratum(Stratum):
    """End-to-end matrices X of any shape and rank, at real depths and, square of full rank, inf."""

    @staticmethod
    def _checked_depth(depth: object) -> float:
        if not isinstance(depth, numbers.Real) or isinstance(depth, bool):
            raise TypeError(f"depth must be a real number, not {depth!r}.")
        value = float(depth)
        if not value >= 1:
            raise ValueError(f"depth must be at least 1, or math.inf, not {depth}.")
        return value

    def __post_init__(self) -> None:
        """Refuse an infinite depth where the limit of the metric is infinite."""
        super().__post_init__()
        if math.isinf(self.depth) and not self.is_square:
            raise ValueError(
                f"depth=inf needs square matrices of full rank, not shape {self.shape} and rank "
                f"{self.rank}: beside the r x r core the weights N s_j^(2/N - 2) of the metric "
                f"N g_N diverge with N. Take a finite depth, however large."
            )

    @property
    def point_shape(self) -> tuple[int, ...]:
        """``(m, n)``."""
        return self.shape

    @property
    def dimension(self) -> int:
        """``(m + n - r) r``."""
        return self.ends_dimension

    @property
    def is_open(self) -> bool:
        """Whether the rank is full."""
        return self.rank == min(self.shape)

    def decompose(self, points: Array) -> tuple[Frame, Array]:
        """Decompose X, cut at rank r; return all singular values too."""
        every, r = Frame.of_point(points, self.depth), self.rank
        if r == every.values.shape[-1]:
            return every, every.values
        left, right_t = every.left[..., :r], every.right_t[..., :r, :]
        return Frame(left, every.values[..., :r], right_t, every.depth, every.power), every.values

    def contains(self, arrays: Array, dtype: DType, atol: float | None = None) -> Array:
        """Whether the rank is r; with ``atol``, singular values up to it count as zero."""
        values = np.linalg.svd(arrays, compute_uv=False)
        return has_rank(values, self.rank, max(self.shape), dtype, 0.0 if atol is None else atol)

    def project(self, arrays: Array, dtype: DType) -> Array:
        """Return the nearest matrices of rank r, none of it close to a lower one."""
        return nearest_of_rank(arrays, self.rank, dtype)

    def tangent_part(self, frame: Frame, vectors: Array) -> Array:
        """Return ``v - (I - U U^T) v (I - V V^T)``."""
        return vectors if self.is_open else frame.assemble(frame.blocks(vectors))

    def normal_blocks(self, frame: Frame, normal: Array) -> Array:
        """Turn standard normal matrices into blocks of tangent vectors that are so."""
        # A normal matrix is as normal in any frame.
        return normal if self.is_square else frame.blocks(normal)

    def isotropic(self, frame: Frame, normal: Array) -> Array:
        """Weigh the blocks of standard normal matrices."""
        return frame.assemble(frame.root_weights * self.normal_blocks(frame, normal))

    def draw(self, n_samples: int, bound: float, uniform: Draw, normal: Draw) -> Array:
        """Draw ``U diag(s) V^T``: U, V uniform in SO(n), or among orthonormal columns."""
        values, m = self._draw_roots(n_samples, bound, uniform, 1), self.shape[0]
        both = normal((n_samples, sum(self.shape), self.rank))
        uniformly = rotations if self.is_square else orthonormal
        left, right = uniformly(both[:, :m]), uniformly(both[:, m:])
        return (left * values[:, None, :]) @ transpose(right)
