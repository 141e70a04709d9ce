"""The rank of matrices: which one it is, the nearest ones of a given rank, and how those curve.

There is one threshold, `resolution`: the rank of an m x n matrix in a dtype with unit eps is the
number of its singular values above ``4 max(m, n) eps s_1``. What is there beyond may be left of
sums and products of factors. A matrix of a lower rank becomes one of rank r with singular values a
quarter above it, so that rounding does not take them back.
"""

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array, DType
from dln_manifolds.numerics.matrices import decomposed, transpose
from dln_manifolds.numerics.precision import eps_of

# The threshold in units of max(m, n) eps, and the factor above it of singular values that are
# raised.
THRESHOLD, MARGIN = 4.0, 1.25


def resolution(size: int, dtype: DType) -> float:
    """Singular values up to this part of the largest count as zero: ``4 max(m, n) eps``."""
    return THRESHOLD * size * eps_of(dtype)


def has_rank(values: Array, rank: int, size: int, dtype: DType, atol: float = 0.0) -> Array:
    """Whether singular values ``(..., k)`` are those of rank r, for ``size = max(m, n)``.

    As the top of this module says; those up to ``atol`` count as zero too. Shape ``(...)``.
    """
    zero = np.maximum(resolution(size, dtype) * values[..., 0], atol)
    good = np.asarray(values[..., rank - 1] > zero)
    if values.shape[-1] > rank:
        good = good & (values[..., rank] <= zero)
    return good


def nearest_of_rank(matrices: Array, rank: int, dtype: DType) -> Array:
    """Return the nearest matrices of rank r, singular values that count as zero raised.

    To a quarter above the threshold. Matrices that are so already are left as they are. Of square
    matrices of lower rank, the left singular vectors of raised singular values follow the right
    ones: positive semidefinite matrices stay so, and at r = n raised determinants are positive, not
    of the sign of a rounding (ours).
    """
    left, values, right_t = decomposed(matrices)
    m, n = matrices.shape[-2:]
    unit = resolution(max(m, n), dtype) * values[..., :1]
    kept, right_t = values[..., :rank], right_t[..., :rank, :]
    null = kept <= unit
    changed = null.any(axis=-1) | (values[..., rank:] > unit).any(axis=-1)
    if not changed.any():
        return matrices
    follows = m == n and bool(null.any())
    columns = _following(left, right_t, null) if follows else left[..., :rank]
    # The zero matrix has no scale of its own.
    raised = np.where(null, np.where(unit == 0, 1.0, MARGIN * unit), kept)
    nearest = (columns * raised[..., None, :]) @ right_t
    if m == n:
        # What is symmetric stays so, to the last bit: its polar factor is known then.
        even = (matrices == transpose(matrices)).all(axis=(-2, -1), keepdims=True)
        nearest = np.where(even, 0.5 * (nearest + transpose(nearest)), nearest)
    return np.where(np.expand_dims(changed, (-2, -1)), nearest, matrices)


def is_raised(matrices: Array, rank: int, dtype: DType) -> Array:
    """Whether `nearest_of_rank` raises a singular value, shape ``(...)``."""
    values = np.linalg.svd(matrices, compute_uv=False)
    unit = resolution(max(matrices.shape[-2:]), dtype)
    return np.asarray(values[..., rank - 1] <= unit * values[..., 0])


def _following(left: Array, right_t: Array, null: Array) -> Array:
    """Return left singular vectors of square matrices, those that are ``null`` near right ones.

    ``left`` has all n columns, ``right_t`` the r rows that are kept, ``null`` says which of them
    belong to no singular value. Where r = n the product with ``right_t`` is a rotation, if any of
    them do.
    """
    n, r = left.shape[-1], right_t.shape[-2]
    # Twice the identity where the vectors are known, so that the least singular values are those
    # of null vectors; among these, the nearest orthonormal columns.
    known = np.concatenate([~null, np.zeros((*null.shape[:-1], n - r), dtype=bool)], axis=-1)
    overlap = transpose(left) @ transpose(right_t)
    overlap = np.where(known[..., :, None] | ~null[..., None, :], 2 * np.eye(n, r), overlap)
    p, _, q = np.linalg.svd(overlap, full_matrices=False)
    if r == n:
        turned = null.any(axis=-1) & (np.linalg.slogdet(left @ p @ q @ right_t)[0] < 0)
        p = p.copy()
        p[..., -1] *= np.where(turned, -1.0, 1.0)[..., None]
    return left @ p @ q


def weingarten(frame: Frame, tangent: Array, matrix: Array) -> Array:
    r"""Weingarten map of matrices of rank r at a tangent vector v, along the normal part of Z.

    ``W = eta v^T U S^{-1} V^T + U S^{-1} V^T v^T eta`` with the normal part ``eta``: the gradient
    by v' of ``<eta, II(v, v')>``, ``II(v, v') = v X^+ v' + v' X^+ v`` beside the tangent space
    (Absil, Mahony and Trumpf 2013, *An extrinsic look at the Riemannian Hessian*).
    """
    corner = frame.corner(matrix, frame.blocks(tangent))
    return frame.assemble(corner / frame.singular_values[..., None, :])


def truncation_pullback(matrices: Array, rank: int, cotangent: Array) -> Array:
    r"""Transpose of the derivative of `nearest_of_rank`, where no singular value is raised.

    Of singular values ``s_i`` that stay and ``s_j`` that go it is, in the singular frame,
    ``(s_i^2 c_ij + s_i s_j c_ji) / (s_i^2 - s_j^2)``, the identity among those that stay and zero
    among the others: the projection to the tangent space at matrices of that rank.
    """
    left, values, right_t = np.linalg.svd(matrices, full_matrices=False)
    kept = Frame(left[..., :rank], values[..., :rank], right_t[..., :rank, :], 1.0, 1.0)
    inside = transpose(left) @ cotangent @ transpose(right_t)
    stays, goes = values[..., :rank, None], values[..., None, rank:]
    row, column = inside[..., :rank, rank:], transpose(inside[..., rank:, :rank])
    share = goes / (stays**2 - goes**2)
    more = np.zeros_like(inside)
    more[..., :rank, rank:] = share * (goes * row + stays * column)
    more[..., rank:, :rank] = transpose(share * (goes * column + stays * row))
    return kept.assemble(kept.blocks(cotangent)) + left @ more @ right_t
