r"""Jacobi sectors: ambient = normal + vertical + horizontal at a balanced point.

In the frames ``Z~_p = Q_p^T Z_p Q_{p-1}`` every index pair (i, j) is a vector of length N, and

- horizontal vectors are multiples of ``h_p = l_i^(N-p) l_j^(p-1)``, whose square is ``a_ij``;
- the complement is the range of ``(D f)_p = l_i f_{p-1} - l_j f_p``, ``f_0 = f_N = 0``. The matrix
  ``D^T D`` is the Jacobi (tridiagonal Toeplitz) matrix with diagonal ``l_i^2 + l_j^2`` and
  off-diagonal ``-l_i l_j``, diagonal in the sine basis with eigenvalues
  ``sigma_k^2 = l_i^2 + l_j^2 - 2 l_i l_j cos(pi k / N)``. With ``f = S - A``, S symmetric and A
  skew in (i, j), the part of S is normal, ``W_p S_{p-1} - S_p W_p``, and that of A is vertical,
  ``A_p W_p - W_p A_{p-1}``.

So one discrete sine transform splits all pairs at once (Menon and Yu, arXiv 2509.09088).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.fft import dst

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


class Sectors(NamedTuple):
    """The three parts of an ambient vector; each of its shape ``(..., N, n, n)``."""

    normal: Array
    vertical: Array
    horizontal: Array


class JacobiBasis(NamedTuple):
    """Orthonormal bases of the three sectors, each of shape ``(..., k, N, n, n)``."""

    horizontal: Array
    vertical: Array
    normal: Array


def frequencies(roots: Array, depth: int) -> Array:
    """Return the singular values ``sigma_k`` of D for all pairs, shape ``(..., N-1, n, n)``."""
    row, column = roots[..., None, :, None], roots[..., None, None, :]
    k = np.arange(1, depth)[:, None, None]
    return np.sqrt((row - column) ** 2 + 4 * row * column * np.sin(np.pi * k / (2 * depth)) ** 2)


def _sine(sequence: Array) -> Array:
    """Orthonormal discrete sine transform along the layers: its own inverse."""
    return dst(sequence, type=1, axis=-3, norm="ortho")


def sine_matrix(depth: int) -> Array:
    """Return the orthogonal and symmetric matrix of the sine transform, shape ``(N-1, N-1)``."""
    k = np.arange(1, depth)
    return np.sqrt(2 / depth) * np.sin(np.pi / depth * (np.outer(k, k) % (2 * depth)))


def horizontal_direction(roots: Array, depth: int) -> Array:
    """Return the unit vectors ``h_p / |h|`` of all pairs, shape ``(..., N, n, n)``."""
    # Powers of the ratio below one only, so that nothing over- or underflows.
    row, column = roots[..., None, :, None], roots[..., None, None, :]
    p = np.arange(depth)[:, None, None]
    direct = np.where(row >= column, p, depth - 1 - p)
    vector = (np.minimum(row, column) / np.maximum(row, column)) ** direct
    return vector / np.linalg.norm(vector, axis=-3, keepdims=True)


def _difference(sequence: Array, roots: Array) -> Array:
    """Apply D: (..., N-1, n, n) -> (..., N, n, n)."""
    row, column = roots[..., None, :, None], roots[..., None, None, :]
    shape = (*sequence.shape[:-3], 1, *sequence.shape[-2:])
    padded = np.concatenate([np.zeros(shape), sequence, np.zeros(shape)], axis=-3)
    return row * padded[..., :-1, :, :] - column * padded[..., 1:, :, :]


def _adjoint_difference(vector: Array, roots: Array) -> Array:
    """Apply the transpose of D: (..., N, n, n) -> (..., N-1, n, n)."""
    row, column = roots[..., None, :, None], roots[..., None, None, :]
    return row * vector[..., 1:, :, :] - column * vector[..., :-1, :, :]


def _coefficients(frame: Frame, inside: Array) -> tuple[Array, Array]:
    """Coefficients of a vector in the left singular vectors of D, and the singular values."""
    sigma = frequencies(frame.roots, frame.n_layers)
    return _sine(_adjoint_difference(inside, frame.roots)) / sigma, sigma


def split(frame: Frame, vector: Array) -> Sectors:
    """Split an ambient vector at a balanced point into its three orthogonal parts.

    Parameters
    ----------
    frame : Frame
        Frames of the point.
    vector : ndarray, shape=[..., N, n, n]
        Ambient vector.

    Returns
    -------
    sectors : Sectors
        Parts that are orthogonal and sum to the vector.
    """
    inside = frame.enter(vector)
    horizontal = frame.leave(_horizontal_inside(frame, inside))
    if frame.n_layers == 1:
        zero = np.zeros_like(horizontal)
        return Sectors(zero, zero, horizontal)
    # No quotient by a small sigma is taken twice.
    coefficient, sigma = _coefficients(frame, inside)
    swapped = transpose(coefficient)
    normal = _difference(_sine(0.5 * (coefficient + swapped) / sigma), frame.roots)
    vertical = _difference(_sine(0.5 * (coefficient - swapped) / sigma), frame.roots)
    return Sectors(frame.leave(normal), frame.leave(vertical), horizontal)


def _horizontal_inside(frame: Frame, inside: Array) -> Array:
    direction = horizontal_direction(frame.roots, frame.n_layers)
    return direction * np.sum(direction * inside, axis=-3, keepdims=True)


def horizontal_part(frame: Frame, vector: Array) -> Array:
    """Project an ambient vector to the horizontal space, without the other two parts."""
    return frame.leave(_horizontal_inside(frame, frame.enter(vector)))


def tangent_part(frame: Frame, vector: Array) -> Array:
    """Project an ambient vector to the tangent space: vertical plus horizontal."""
    if frame.n_layers == 1:
        batch = np.broadcast_shapes(vector.shape[:-3], frame.roots.shape[:-1])
        return np.broadcast_to(vector, batch + vector.shape[-3:]).copy()
    coefficient, sigma = _coefficients(frame, frame.enter(vector))
    symmetric = _sine(0.5 * (coefficient + transpose(coefficient)) / sigma)
    return vector - frame.leave(_difference(symmetric, frame.roots))


def normal_multiplier(frame: Frame, vector: Array) -> Array:
    """Return S with ``W_p S_{p-1} - S_p W_p`` the normal part of an ambient vector.

    Shape ``(..., N-1, n, n)``, in the chart.
    """
    coefficient, sigma = _coefficients(frame, frame.enter(vector))
    symmetric = _sine(0.5 * (coefficient + transpose(coefficient)) / sigma)
    middle = frame.middle
    return middle @ symmetric @ transpose(middle)


def weingarten(frame: Frame, tangent_vec: Array, normal_vec: Array) -> Array:
    r"""Return the Weingarten map ``-P(D N[V])`` of a normal vector along a tangent vector.

    With ``N_p = W_p S_{p-1} - S_p W_p`` it is ``-P(V_p S_{p-1} - S_p V_p)``, so that
    ``Hess f[V] = P(D^2 f[V]) + weingarten(V, (df)^normal)``. Symmetric: its inner product with V'
    is ``<N, II(V, V')>``.
    """
    if frame.n_layers == 1:
        return np.zeros_like(tangent_vec)
    moved = normal_vector(tangent_vec, normal_multiplier(frame, normal_vec))
    return -tangent_part(frame, moved)


def vertical_multiplier(frame: Frame, vector: Array) -> Array:
    """Return the skew A with ``A_p W_p - W_p A_{p-1}`` the vertical part of an ambient vector.

    Shape ``(..., N-1, n, n)``, in the chart.
    """
    coefficient, sigma = _coefficients(frame, frame.enter(vector))
    skew = -_sine(0.5 * (coefficient - transpose(coefficient)) / sigma)
    middle = frame.middle
    return middle @ skew @ transpose(middle)


def horizontal_lift(frame: Frame, tangent_vec: Array) -> Array:
    r"""Return the horizontal vector over a tangent vector Z at ``X = W_N ... W_1``.

    ``V_p = (W_N ... W_{p+1})^T A_X^{-1}(Z) (W_{p-1} ... W_1)^T``; its Frobenius norm is ``|Z|_g``.
    """
    inside = frame.ends.enter(tangent_vec)
    length = np.sqrt(frame.a)
    direction = horizontal_direction(frame.roots, frame.n_layers)
    return frame.leave(direction * (inside / length)[..., None, :, :])


def push_forward(frame: Frame, vector: Array) -> Array:
    r"""Return the differential ``sum_p W_N ... W_{p+1} V_p W_{p-1} ... W_1`` of ``W -> X``."""
    direction = horizontal_direction(frame.roots, frame.n_layers)
    inside = np.sum(direction * frame.enter(vector), axis=-3)
    return frame.ends.leave(np.sqrt(frame.a) * inside)


def solve_jacobi(frame: Frame, right_side: Array) -> Array:
    r"""Solve the Jacobi systems ``(l_i^2 + l_j^2) S_p - l_i l_j (S_{p+1} + S_{p-1}) = R_p``.

    Parameters
    ----------
    frame : Frame
        Frames of the point.
    right_side : ndarray, shape=[..., N-1, n, n]
        R in the chart: ``Q_p^T R_p Q_p`` enters the systems.

    Returns
    -------
    solution : ndarray, shape=[..., N-1, n, n]
        S in the chart; symmetric or skew as R is.
    """
    middle = frame.middle
    inside = transpose(middle) @ right_side @ middle
    sigma = frequencies(frame.roots, frame.n_layers)
    return middle @ _sine(_sine(inside) / sigma**2) @ transpose(middle)


def vertical_vector(layers: Array, skew: Array) -> Array:
    """Return ``A_p W_p - W_p A_{p-1}`` with ``A_0 = A_N = 0``: the velocity of the group action.

    Parameters
    ----------
    layers : ndarray, shape=[..., N, n, n]
        Layers W.
    skew : ndarray, shape=[..., N-1, n, n]
        ``A_1 .. A_{N-1}``.
    """
    return -normal_vector(layers, skew)


def integrability(frame: Frame, layers: Array, vec_a: Array, vec_b: Array) -> Array:
    r"""Return O'Neill's tensor ``A_E F = ver(D_{hor E} hor F) + hor(D_{hor E} ver F)``.

    Vertical fields ``K_A = (A_p W_p - W_p A_{p-1})_p`` are linear in W, so
    ``<A_X Y, K_A> = -<Y, K_A(X)>`` for horizontal X, Y: one Jacobi system gives ``A_X Y``; and
    ``A_X K_A = hor(K_A(X))``.
    """
    if frame.n_layers == 1:
        return np.zeros(np.broadcast_shapes(vec_a.shape, vec_b.shape))
    x, y = horizontal_part(frame, vec_a), horizontal_part(frame, vec_b)
    product = transpose(x[..., 1:, :, :]) @ y[..., 1:, :, :] - y[..., :-1, :, :] @ transpose(
        x[..., :-1, :, :]
    )
    skew = solve_jacobi(frame, 0.5 * (product - transpose(product)))
    turned = vertical_vector(x, vertical_multiplier(frame, vec_b))
    return vertical_vector(layers, skew) + horizontal_part(frame, turned)


def normal_vector(layers: Array, symmetric: Array) -> Array:
    """Return ``W_p S_{p-1} - S_p W_p`` with ``S_0 = S_N = 0``.

    Parameters
    ----------
    layers : ndarray, shape=[..., N, n, n]
        Balanced point W.
    symmetric : ndarray, shape=[..., N-1, n, n]
        ``S_1 .. S_{N-1}``.
    """
    result = np.zeros(
        np.broadcast_shapes(layers.shape[:-3], symmetric.shape[:-3]) + layers.shape[-3:]
    )
    result[..., 1:, :, :] += layers[..., 1:, :, :] @ symmetric
    result[..., :-1, :, :] -= symmetric @ layers[..., :-1, :, :]
    return result


def second_fundamental_form(frame: Frame, layers: Array, vec_a: Array, vec_b: Array) -> Array:
    r"""Return the normal part ``II(V, V')`` of the ambient derivative of tangent fields.

    ``II(V, V')_p = W_p S_{p-1} - S_p W_p`` where S solves the Jacobi systems with the right-hand
    side ``sym(V_p V'_p^T - V_{p+1}^T V'_{p+1})``. Geodesics obey ``W'' = II(W', W')``.
    """
    if frame.n_layers == 1:
        return np.zeros(np.broadcast_shapes(layers.shape, vec_a.shape, vec_b.shape))
    product = (
        vec_a[..., :-1, :, :] @ transpose(vec_b[..., :-1, :, :])
        - transpose(vec_a[..., 1:, :, :]) @ vec_b[..., 1:, :, :]
    )
    return normal_vector(layers, solve_jacobi(frame, 0.5 * (product + transpose(product))))


def jacobi_basis(frame: Frame) -> JacobiBasis:
    """Return explicit orthonormal bases of the three sectors at balanced points.

    Parameters
    ----------
    frame : Frame
        Frames of points of batch shape ``(...)``.

    Returns
    -------
    basis : JacobiBasis
        ``n^2`` horizontal, ``(N-1) n (n-1) / 2`` vertical and ``(N-1) n (n+1) / 2`` normal vectors,
        shapes ``(..., k, N, n, n)``; memory is that of the result, ``O(N^2 n^4)`` for a point.
    """
    roots, depth = frame.roots, frame.n_layers
    batch, n = roots.shape[:-1], roots.shape[-1]
    each = frame.beside()
    unit = np.eye(n * n).reshape(n * n, 1, n, n)
    horizontal = each.leave(unit * horizontal_direction(each.roots, depth))
    if depth == 1:
        empty = np.zeros((*batch, 0, depth, n, n))
        return JacobiBasis(horizontal, empty, empty)
    sigma = frequencies(roots, depth)[..., None, :, None, :, :]
    sines = _sine(np.eye(depth - 1)[:, :, None, None])
    upper, lower = np.triu_indices(n, 1)
    bases = []
    for sign, (i, j) in ((-1.0, (upper, lower)), (1.0, np.triu_indices(n))):
        pair = np.zeros((len(i), n, n))
        pair[np.arange(len(i)), i, j] = 1.0
        pair[np.arange(len(i)), j, i] = sign
        pair[i == j, i[i == j], j[i == j]] = 1.0
        pair /= np.linalg.norm(pair, axis=(-2, -1), keepdims=True)
        # sequence of pair m and frequency k: sin(pi k p / N) / sigma_k at the pair's two entries
        sequences = pair[:, None, None] * sines / sigma
        vectors = _difference(sequences.reshape(*batch, -1, depth - 1, n, n), each.roots)
        bases.append(each.leave(vectors))
    return JacobiBasis(horizontal, bases[0], bases[1])
