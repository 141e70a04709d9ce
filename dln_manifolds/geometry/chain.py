r"""How the layers of a network of given widths lie in one array, and products with them.

Layers ``W_p`` of shape ``(d_p, d_{p-1})``, p = 1..N, lie along one axis of an array
``(..., N, n, n)`` if all widths are n, and otherwise row by row, one layer after the other, in a
vector of ``sum_p d_p d_{p-1}`` entries. Consecutive layers of one shape are a *run*, and runs are
what is looped over. *Padded* arrays hold one matrix for each layer, with zeros below its rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


class Run(NamedTuple):
    """Consecutive layers of one shape: places among the layers, and among the entries of a vector.

    ``first`` and ``last`` count layers from zero, ``last`` excluded.
    """

    first: int
    last: int
    rows: int
    columns: int
    start: int
    stop: int

    @property
    def layers(self) -> slice:
        """Places among the layers."""
        return slice(self.first, self.last)


@dataclass(frozen=True)
class Matrices:
    """Layout of several matrices of given ``shapes`` in one array.

    In a vector if ``flat``, otherwise, where all are n x n, along one more axis.
    """

    shapes: tuple[tuple[int, int], ...]
    flat: bool

    @cached_property
    def width(self) -> int:
        """The largest number D of rows or columns."""
        return max(max(shape) for shape in self.shapes)

    @property
    def count(self) -> int:
        """Number of matrices."""
        return len(self.shapes)

    @cached_property
    def array_shape(self) -> tuple[int, ...]:
        """``(N, n, n)``, or the number of entries of all matrices."""
        if self.flat:
            return (sum(rows * columns for rows, columns in self.shapes),)
        return (self.count, self.width, self.width)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Runs of layers of one shape."""
        runs: list[Run] = []
        start = first = 0
        for place, (rows, columns) in enumerate(self.shapes, 1):
            if place == self.count or self.shapes[place] != (rows, columns):
                stop = start + (place - first) * rows * columns
                runs.append(Run(first, place, rows, columns, start, stop))
                start, first = stop, place
        return tuple(runs)

    def parts(self, array: Array) -> list[Array]:
        """Return views of the layers, one array ``(..., count, rows, columns)`` for each run."""
        if not self.flat:
            return [array]
        batch = array.shape[:-1]
        return [
            array[..., run.start : run.stop].reshape(
                *batch, run.last - run.first, run.rows, run.columns
            )
            for run in self.runs
        ]

    def joined(self, parts: Sequence[Array]) -> Array:
        """Return layers from those of all runs."""
        if not self.flat:
            return parts[0]
        # Not by -1: the batch may be empty.
        flat = [part.reshape(*part.shape[:-3], math.prod(part.shape[-3:])) for part in parts]
        return np.concatenate(flat, axis=-1)

    def layers(self, array: Array) -> list[Array]:
        """Return views of single layers, the first one first."""
        return [
            part[..., place, :, :] for part in self.parts(array) for place in range(part.shape[-3])
        ]

    def gathered(self, layers: Sequence[Array]) -> Array:
        """Return the array of single layers, the first one first: the inverse of `layers`."""
        if not self.flat:
            return np.stack(layers, axis=-3)
        flat = [x.reshape(*x.shape[:-2], math.prod(x.shape[-2:])) for x in layers]
        return np.concatenate(flat, axis=-1)

    def padded(self, array: Array, width: int | None = None) -> Array:
        """Return layers with zeros around them, shape ``(..., N, D, D)``."""
        if not self.flat:
            return array
        width = self.width if width is None else width
        shape = (*array.shape[:-1], self.count, width, width)
        result = np.zeros(shape)
        for run, part in zip(self.runs, self.parts(array), strict=True):
            result[..., run.layers, : run.rows, : run.columns] = part
        return result

    def unpadded(self, array: Array) -> Array:
        """Return layers from an array ``(..., N, D, D)``, the inverse of `padded`."""
        if not self.flat:
            return array
        return self.joined([array[..., run.layers, : run.rows, : run.columns] for run in self.runs])

    def times(self, array: Array, right: Array) -> Array:
        """Return ``W_p R_p``, padded; R has shape ``(..., N, D, k)``."""
        if not self.flat:
            return array @ right
        return self._product(array, right, False)

    def transposed_times(self, array: Array, left: Array) -> Array:
        """Return ``W_p^T L_p``, padded; L has shape ``(..., N, D, k)``."""
        if not self.flat:
            return transpose(array) @ left
        return self._product(array, left, True)

    def _product(self, array: Array, factor: Array, transposed: bool) -> Array:
        batch = np.broadcast_shapes(array.shape[:-1], factor.shape[:-3])
        result = np.zeros((*batch, *factor.shape[-3:]))
        for run, part in zip(self.runs, self.parts(array), strict=True):
            out_size, in_size = run.rows, run.columns
            if transposed:
                part, out_size, in_size = transpose(part), in_size, out_size
            product = part @ factor[..., run.layers, :in_size, :]
            result[..., run.layers, :out_size, :] = product
        return result

    def outer(self, left: Array, right_t: Array) -> Array:
        """Return layers ``L_p R_p^T`` from padded ``(..., N, D, k)`` and ``(..., N, k, D)``."""
        if not self.flat:
            return left @ right_t
        return self.joined(
            [
                left[..., run.layers, : run.rows, :] @ right_t[..., run.layers, :, : run.columns]
                for run in self.runs
            ]
        )


@dataclass(frozen=True)
class Chain(Matrices):
    """Layout of the layers of a network of ``widths`` ``d_0, ..., d_N``."""

    widths: tuple[int, ...]

    @property
    def is_uniform(self) -> bool:
        """Whether all widths are the same."""
        return not self.flat

    @property
    def group_shape(self) -> tuple[int, ...]:
        """Shape of one group element: ``(N - 1, n, n)``, or a number of entries."""
        if self.is_uniform:
            return (self.count - 1, self.width, self.width)
        return self.group.array_shape

    @cached_property
    def group(self) -> Matrices:
        """Layout of elements ``h_1, ..., h_{N-1}`` of the group of the fibre, h_p of ``O(d_p)``."""
        return Matrices(tuple((width, width) for width in self.widths[1:-1]), self.flat)

    def padded_group(self, group: Array) -> Array:
        """Return group elements with zeros around each matrix, shape ``(..., N-1, D, D)``."""
        if self.flat and self.count == 1:
            return np.empty((*group.shape[:-1], 0, self.width, self.width))
        return self.group.padded(group, self.width)

    def unpadded_group(self, array: Array) -> Array:
        """Return group elements from an array ``(..., N-1, D, D)``."""
        if self.flat and self.count == 1:
            return np.empty((*array.shape[:-3], 0))
        return self.group.unpadded(array)


@lru_cache(maxsize=256)
def chain_of(widths: tuple[int, ...]) -> Chain:
    """Return the layout of layers of these widths."""
    shapes = tuple(zip(widths[1:], widths[:-1], strict=True))
    return Chain(shapes, min(widths) != max(widths), widths)


def uniform(array: Array) -> Chain:
    """Return the layout of an array of layers ``(..., N, n, n)``."""
    return chain_of((array.shape[-1],) * (array.shape[-3] + 1))
