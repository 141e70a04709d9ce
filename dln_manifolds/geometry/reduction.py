r"""Layers of low rank in narrower ones, between which all the same geodesics run.

Reflections of ``R^(d_p)`` that fix the column spaces ``Q_p`` of balanced layers, and what vectors
or other layers add to them, are isometries. What these determine, geodesics among others, is fixed
too: it stays in the spans, with orthonormal bases ``K_p``, as ``W_p = K_p W^_p K_{p-1}^T``. (Ours.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dln_manifolds.geometry.chain import Chain, chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


@dataclass(frozen=True, eq=False)
class Reduction:
    """A batch of layers of one chain in those of a narrower one.

    ``bases`` are ``K_0 .. K_N``, shape ``(n_batch, N+1, D, k)`` with the largest widths of both,
    zeros beyond the others.
    """

    chain: Chain
    narrow: Chain
    rank: int
    bases: Array

    @cached_property
    def _sides(self) -> tuple[Array, Array]:
        """Return ``K_p`` and ``K_{p-1}`` for p = 1 .. N."""
        return self.bases[:, 1:], self.bases[:, :-1]

    def _sides_of(self, array: Array, chain: Chain) -> list[Array]:
        """Return them with as many axes between batch and layers as an array has."""
        between = tuple(range(1, array.ndim - len(chain.array_shape)))
        return [np.expand_dims(side, between) for side in self._sides]

    def shrunk(self, array: Array) -> Array:
        """Return the layers ``K_p^T W_p K_{p-1}``, of shape ``(n_batch, ..., *shape)``."""
        after, before = self._sides_of(array, self.chain)
        return self.narrow.unpadded(transpose(after) @ self.chain.times(array, before))

    def expanded(self, array: Array) -> Array:
        """Return the layers ``K_p W_p K_{p-1}^T``, of shape ``(n_batch, ..., *shape)``."""
        after, before = self._sides_of(array, self.narrow)
        return self.chain.outer(after @ self.narrow.padded(array), transpose(before))

    def frame(self, layers: Array) -> Frame:
        """Decompose narrow layers."""
        return Frame.of_layers(layers, self.narrow, self.rank)


def beside(frame: Frame, vectors: Array) -> Array:
    """Return what tangent vectors add to the spans of ``Q_0 .. Q_N``.

    Of vectors ``(n_batch, k, *shape)``; the result has the shape ``(n_batch, N+1, D, k r)``.
    """
    each = frame.beside()
    _, after, before = each.split(each.blocks(vectors))
    if not any(frame.sides):
        return np.empty((*frame.bases.shape[:-1], 0))
    added = np.moveaxis(np.concatenate([before[..., :1, :, :], after], axis=-3), 1, -2)
    return added.reshape(*added.shape[:-2], added.shape[-2] * added.shape[-1])


def reduction(frame: Frame, others: Array) -> Reduction | None:
    """Return the reduction to the spans of ``Q_p`` and other columns; None if none is narrower.

    ``others`` have the shape ``(n_batch, N+1, D, k)``. Spaces of no more than r + k dimensions are
    kept as they are.
    """
    chain, rank = frame.layout, frame.values.shape[-1]
    most = rank + others.shape[-1]
    widths = tuple(min(width, most) for width in chain.widths)
    if widths == chain.widths:
        return None
    columns = np.concatenate([frame.bases, others], axis=-1)
    bases = np.zeros((*columns.shape[:-1], max(widths)))
    for width in set(chain.widths):
        places = [place for place, size in enumerate(chain.widths) if size == width]
        if width <= most:
            bases[:, places, :width, :width] = np.eye(width)
        else:
            bases[:, places, :width, :most] = np.linalg.qr(columns[:, places, :width])[0]
    return Reduction(chain, chain_of(widths), rank, bases)
