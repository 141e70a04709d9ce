"""Orthonormal bases of the tangent spaces of balanced layers of any widths and rank."""

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import jacobi_basis
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


def tangent_basis(frame: Frame) -> Array:
    """Return horizontal and vertical vectors, shape ``(..., dim, *shape)``.

    Those of the cores of `jacobi_basis`, and those that turn one column of one ``Q_p`` into its
    complement: the unit entries of ``E_p`` and ``F_{p+1}``, alike at hidden p.
    """
    cores = jacobi_basis(frame)
    axis = frame.values.ndim - 1
    parts = [cores.horizontal, cores.vertical]
    if any(frame.sides):
        each, rank = frame.beside(), frame.values.shape[-1]
        depth = frame.n_layers
        for place, width in enumerate(frame.layout.widths):
            if width > rank:
                turns = _turns(frame.bases[..., place, :, :], width)
                shape = (*turns.shape[:-2], depth)
                sides = np.zeros((2, *shape, *turns.shape[-2:]))
                hidden = 0 < place < depth
                weight = np.sqrt(0.5) if hidden else 1.0
                if place > 0:
                    sides[0][..., place - 1, :, :] = weight * turns
                if place < depth:
                    sides[1][..., place, :, :] = weight * turns
                blocks = each.stack(np.zeros((*shape, rank, rank)), *sides)
                parts.append(each.assemble(blocks))
    return np.concatenate(parts, axis=axis)


def _turns(basis: Array, width: int) -> Array:
    """Return ``k e_j^T`` for all k of a basis of the complement of ``(..., D, r)`` columns."""
    size, rank = basis.shape[-2:]
    complement = np.linalg.qr(basis[..., :width, :], mode="complete")[0][..., rank:]
    rows = transpose(complement)[..., :, None, :, None] * np.eye(rank)[:, None, :]
    count = (width - rank) * rank
    turns = np.zeros((*basis.shape[:-2], count, size, rank))
    turns[..., :width, :] = rows.reshape(*basis.shape[:-2], count, width, rank)
    return turns
