r"""Derivatives of the point of a fibre that is nearest to given layers.

Layers Y are nearest to R on their fibre, ``{h . Y}``, where no vertical vector
``K_A(Y)_p = A_p Y_p - Y_p A_{p-1}`` (A skew) leads nearer: ``<R, K_A(Y)> = 0`` for all A. As R and
the fibre move, the vertical part ``K_A(Y)`` of the motion of Y follows by the implicit function
theorem, from ``G A = (gradient by A of <R', K_A(Y)> + <R, K_A(Y')>)``, Y' the rest of the motion
and ``<A', G A> = -<R, K_{A'}(K_A(Y))>`` half the second derivative of the squared distance, which
is symmetric there.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import transpose
from dln_manifolds.spectral.jacobi import vertical_vector

# Second derivatives of the distance along the fibre, relative to the largest, that count as zero.
_FLAT = 1e-12


def _moment(covector: Array, vector: Array) -> Array:
    """Return the gradient by a skew A of ``<C, K_A(V)>``, shape ``(..., N-1, n, n)``."""
    low, high = np.s_[..., :-1, :, :], np.s_[..., 1:, :, :]
    product = covector[low] @ transpose(vector[low]) - transpose(vector[high]) @ covector[high]
    return 0.5 * (product - transpose(product))


def aligned_pullback(aligned: Array, reference: Array, cotangent: Array) -> tuple[Array, Array]:
    """Apply the transpose of the differential of ``(R, fibre) -> Y``, Y nearest to R.

    Cost and memory are those of a dense matrix with ``(N-1) n (n-1) / 2`` rows.

    Parameters
    ----------
    aligned, reference : ndarray, shape=[..., N, n, n]
        Layers Y, a stationary point of the distance from R along its fibre, and R.
    cotangent : ndarray, shape=[..., N, n, n]
        Gradient c by Y.

    Returns
    -------
    by_reference, by_motion : ndarray, shape=[..., N, n, n]
        The gradient by R, and that by a motion of the fibre that takes Y along.

    Raises
    ------
    ConjugatePointsError
        If Y is not isolated among the nearest points: R is a focal point of the fibre.
    """
    depth, n = aligned.shape[-3], aligned.shape[-1]
    upper = np.triu_indices(n, 1)
    size = (depth - 1) * len(upper[0])
    if size == 0:
        return np.zeros_like(cotangent), cotangent.copy()

    def entries(skew: Array) -> Array:
        return skew[..., upper[0], upper[1]].reshape(*skew.shape[:-3], size)

    def skew_matrices(coordinates: Array) -> Array:
        skew = np.zeros((*coordinates.shape[:-1], depth - 1, n, n))
        skew[..., upper[0], upper[1]] = coordinates.reshape(*skew.shape[:-2], len(upper[0]))
        return skew - transpose(skew)

    images = vertical_vector(aligned[..., None, :, :, :], skew_matrices(np.eye(size)))
    second = -entries(_moment(reference[..., None, :, :, :], images))
    values, vectors = np.linalg.eigh(0.5 * (second + transpose(second)))
    flat = (np.abs(values) <= _FLAT * np.abs(values).max(axis=-1, keepdims=True)).any(axis=-1)
    if flat.any():
        member = f" (batch member {np.argwhere(flat)[0].tolist()})" if flat.ndim else ""
        raise ConjugatePointsError(
            f"The nearest point of the fibre is not isolated{member}, so it has no derivative. "
            f"Move the layers a little, or detach them."
        )
    inside = transpose(vectors) @ entries(_moment(cotangent, aligned))[..., None]
    multiplier = skew_matrices((vectors @ (inside / values[..., None]))[..., 0])
    # The transpose of K_A is -K_A.
    return vertical_vector(aligned, multiplier), cotangent - vertical_vector(reference, multiplier)
