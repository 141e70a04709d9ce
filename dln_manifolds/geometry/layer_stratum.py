"""Balanced layers of any widths and rank as a stratum: what the points upstairs are."""

from functools import cached_property
from typing import Self

import numpy as np

from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.alignment import nearest_balanced
from dln_manifolds.geometry.balancing import frame_of_product, relative_imbalance
from dln_manifolds.geometry.chain import Chain, chain_of
from dln_manifolds.geometry.frame import Frame, bases_of_layers, svd_of_layers
from dln_manifolds.geometry.rank import has_rank, resolution
from dln_manifolds.geometry.stratum import Draw, MatrixStratum, Stratum, balance_tolerance
from dln_manifolds.numerics.arguments import whole
from dln_manifolds.numerics.arrays import Array, DType
from dln_manifolds.numerics.matrices import orthonormal, rotations
from dln_manifolds.numerics.precision import DOUBLE


class LayerStratum(Stratum):
    """Balanced layers W over them, of widths ``d_0, ..., d_N``; see `Chain` for their arrays."""

    depth: int

    @staticmethod
    def _checked_depth(depth: object) -> float:
        return whole("depth", depth)

    @classmethod
    def of_widths(cls, n: object, depth: object, widths: object, rank: object) -> Self:
        """Return the stratum of layers of width n everywhere, or of given widths."""
        if n is not None and widths is None:
            size, count = whole("n", n), whole("depth", depth)
            return cls.of(widths=(size,) * (count + 1), rank=rank)
        return cls.of(n, depth, None, rank, widths)

    @cached_property
    def matrices(self) -> MatrixStratum:
        """The stratum of end-to-end matrices."""
        return MatrixStratum(self.shape, self.rank, self.depth, self.widths)

    @cached_property
    def chain(self) -> Chain:
        """How layers lie in arrays."""
        widths = self.every_width
        assert widths is not None
        return chain_of(widths)

    @property
    def size(self) -> int:
        """The largest width."""
        return self.chain.width

    @property
    def point_shape(self) -> tuple[int, ...]:
        """``(N, n, n)``, or the number of entries of layers of unequal widths."""
        return self.chain.array_shape

    @property
    def dimension(self) -> int:
        """``sum_p (d_p r - r (r+1) / 2) + r``, over p = 0 .. N."""
        r = self.rank
        return sum(width * r - r * (r + 1) // 2 for width in self.chain.widths) + r

    @property
    def is_open(self) -> bool:
        """Never: even a single layer is not treated as an open set."""
        return False

    def decompose(self, points: Array) -> tuple[Frame, Array]:
        """Read the frames of all layers off W, and their common singular values.

        Where layers may have a higher rank, the largest singular value beyond follows.
        """
        chain, rank = self.chain, self.rank
        left, values, right_t, beyond = svd_of_layers(points, chain, rank)
        frame = Frame.of_bases(*bases_of_layers(left, values, right_t), chain)
        if rank == min(chain.widths) and chain.is_uniform:
            return frame, frame.values
        return frame, np.concatenate([frame.values, beyond[..., None]], axis=-1)

    def _has_rank(self, arrays: Array, dtype: DType) -> Array:
        """Whether all layers have the rank, shape ``(...)``."""
        parts = [np.linalg.svd(part, compute_uv=False) for part in self.chain.parts(arrays)]
        checked = [has_rank(values, self.rank, self.size, dtype).all(axis=-1) for values in parts]
        return np.asarray(np.logical_and.reduce(checked))

    def contains(self, arrays: Array, dtype: DType, atol: float | None = None) -> Array:
        """Whether layers are of rank r, and balanced up to ``atol`` relatively."""
        bound = balance_tolerance(dtype) if atol is None else atol
        balanced = relative_imbalance(arrays, self.chain) <= bound
        return np.asarray(balanced & self._has_rank(arrays, dtype))

    def project(self, arrays: Array, dtype: DType, keep_component: bool = True) -> Array:
        """Return the nearest balanced layers with the same X and signs; refuse lower ranks of X.

        Where X is of a higher rank, with its nearest matrix of this one. Layers that are balanced
        to rounding are left as they are. Without ``keep_component`` signs may change.
        """
        flat = arrays.reshape(-1, *self.point_shape)
        unit = resolution(self.size, DOUBLE)
        exact = (relative_imbalance(flat, self.chain) <= unit) & self._has_rank(flat, dtype)
        result = flat.copy()
        if not exact.all():
            self._check_rank(flat, dtype)
            result[~exact] = nearest_balanced(
                flat[~exact], self.chain, self.rank, keep_component=keep_component
            )
        return result.reshape(arrays.shape)

    def _check_rank(self, layers: Array, dtype: DType) -> None:
        """Raise unless X is of this rank or a higher one."""
        values = frame_of_product(layers, self.chain).values
        least, bound = values[:, self.rank - 1], resolution(self.size, dtype) * values[:, 0]
        if self.rank == self.size:
            # X is invertible if all layers are, whatever their product loses.
            good = self._has_rank(layers, dtype)
        else:
            good = (least > bound) | self.contains(layers, dtype)
        if not good.all():
            k = int(np.argmin(good))
            raise InvalidPointError(
                f"The layers have an end-to-end matrix that is singular where rank {self.rank} is "
                f"wanted{f' (batch member [{k}])' if len(good) > 1 else ''}: its singular value "
                f"{self.rank} is {least[k]:.3g}, where {bound[k]:.3g} counts as zero. Only layers "
                f"with an end-to-end matrix of this rank or of a higher one can be balanced here."
            )

    def tangent_part(self, frame: Frame, vectors: Array) -> Array:
        """Keep the horizontal and the vertical part."""
        return sectors.tangent_part(frame, vectors)

    def isotropic(self, frame: Frame, normal: Array) -> Array:
        """Project: the metric is that of Frobenius."""
        return self.tangent_part(frame, normal)

    def draw(self, n_samples: int, bound: float, uniform: Draw, normal: Draw) -> Array:
        """Draw ``Q_p diag(s^(1/N)) Q_{p-1}^T``: all Q_p uniform in SO(n), or of their shape."""
        chain, rank = self.chain, self.rank
        roots = self._draw_roots(n_samples, bound, uniform, self.depth)
        draws = normal((n_samples, self.depth + 1, chain.width, rank))
        if chain.is_uniform:
            bases = rotations(draws) if rank == chain.width else orthonormal(draws)
        else:
            # Uniform among those that are zero beyond d_p.
            bases = np.zeros_like(draws)
            for width in set(chain.widths):
                places = [place for place, size in enumerate(chain.widths) if size == width]
                part = draws[:, places, :width]
                bases[:, places, :width] = rotations(part) if width == rank else orthonormal(part)
        return Frame.of_bases(bases, roots, chain).compose(roots)
