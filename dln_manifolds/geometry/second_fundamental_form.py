r"""Derivatives of the geometry of balanced layers by the layers: projections, lifts, acceleration.

All are rational in the layers, so none is singular where singular values meet. Derivatives by a
point of the manifold are along the manifold: gradients are tangent vectors.

The range of the transpose of ``B = d(W_N ... W_1)`` is the horizontal space, so the horizontal
projection is ``B^T (B B^T)^{-1} B`` and its derivative follows from that of B, the second
derivative of a product of matrices.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_metric
from dln_manifolds.geometry.sectors import (
    horizontal_lift,
    horizontal_part,
    normal_vector,
    push_forward,
    solve_jacobi,
    tangent_part,
    weingarten,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import prefix_products, transpose


def _symmetrized(matrix: Array) -> Array:
    return matrix + transpose(matrix)


def bending(frame: Frame, layers: Array, velocity: Array) -> tuple[Array, Array]:
    """Return ``II(V, V)`` and the S with ``II(V, V)_p = W_p S_{p-1} - S_p W_p``."""
    if frame.n_layers == 1:
        return np.zeros_like(velocity), np.zeros((*velocity.shape[:-3], 0, *velocity.shape[-2:]))
    v = velocity
    right_side = v[..., :-1, :, :] @ transpose(v[..., :-1, :, :])
    right_side = right_side - transpose(v[..., 1:, :, :]) @ v[..., 1:, :, :]
    multiplier = solve_jacobi(frame, right_side)
    return normal_vector(layers, multiplier), multiplier


def bending_derivative(
    frame: Frame,
    layers: Array,
    velocity: Array,
    multiplier: Array,
    layers_dir: Array,
    velocity_dir: Array,
) -> Array:
    r"""Differentiate ``II(V, V)`` along a variation of (W, V) that stays on the tangent bundle.

    The Jacobi systems ``G_p S_p + S_p G_p - W_{p+1}^T S_{p+1} W_{p+1} - W_p S_{p-1} W_p^T = R_p``,
    ``G_p = W_p W_p^T``, are differentiated as they stand.

    Parameters
    ----------
    frame : Frame
        Frames of the layers.
    layers, velocity : ndarray, shape=[..., N, n, n]
        W and V.
    multiplier : ndarray, shape=[..., N - 1, n, n]
        S at (W, V), from `bending`.
    layers_dir, velocity_dir : ndarray, shape=[..., N, n, n]
        Derivatives of W and V.
    """
    if frame.n_layers == 1:
        return np.zeros_like(layers_dir)
    w, u = layers, layers_dir
    low, high = np.s_[..., :-1, :, :], np.s_[..., 1:, :, :]
    right_side = _symmetrized(
        velocity[low] @ transpose(velocity_dir[low])
        - transpose(velocity[high]) @ velocity_dir[high]
    )
    gram = _symmetrized(w[low] @ transpose(u[low]))
    moved = _symmetrized(gram @ multiplier)
    # S_0 = S_N = 0: the terms with neighbours exist for inner layers only.
    inner = np.s_[..., 1:-1, :, :]
    moved[low] -= _symmetrized(transpose(u[inner]) @ multiplier[high] @ w[inner])
    moved[high] -= _symmetrized(u[inner] @ multiplier[low] @ transpose(w[inner]))
    change = solve_jacobi(frame, right_side - moved)
    return normal_vector(u, multiplier) + normal_vector(w, change)


def product_derivative(layers: Array, covector: Array) -> Array:
    """Return the gradient by the layers of ``<M, W_N ... W_1>``: ``B^T M``.

    Parameters
    ----------
    layers : ndarray, shape=[..., N, n, n]
        Any layers.
    covector : ndarray, shape=[..., n, n]
        M.
    """
    after, before = _partial_products(layers)
    return transpose(after) @ covector[..., None, :, :] @ transpose(before)


def _partial_products(layers: Array) -> tuple[Array, Array]:
    """Return ``W_N ... W_{p+1}`` and ``W_{p-1} ... W_1`` for every p."""
    identity = np.broadcast_to(np.eye(layers.shape[-1]), layers[..., :1, :, :].shape)
    before = np.concatenate([identity, prefix_products(layers[..., :-1, :, :])], axis=-3)
    turned = transpose(layers[..., :0:-1, :, :])
    after = np.concatenate([identity, prefix_products(turned)], axis=-3)
    return transpose(after[..., ::-1, :, :]), before


def _second_product_derivative(layers: Array, vector: Array, covector: Array) -> Array:
    """Return the gradient by the layers of ``<M, B V>`` at fixed V and M."""
    n = layers.shape[-1]
    batch = np.broadcast_shapes(layers.shape, vector.shape)
    # Products of dual numbers: [[W, V], [0, W]].
    dual = np.zeros((*batch[:-2], 2 * n, 2 * n))
    dual[..., :n, :n] = dual[..., n:, n:] = layers
    dual[..., :n, n:] = vector
    after, before = _partial_products(dual)
    left, left_dir = transpose(after[..., :n, :n]), transpose(after[..., :n, n:])
    right, right_dir = transpose(before[..., :n, :n]), transpose(before[..., :n, n:])
    m = covector[..., None, :, :]
    return left_dir @ m @ right + left @ m @ right_dir


def _covector(frame: Frame, vector: Array) -> Array:
    """Return ``(B B^T)^{-1} B V``: the M whose ``B^T M`` is the horizontal part of V."""
    return apply_metric(frame.ends, push_forward(frame, vector))


def tangent_part_gradient(frame: Frame, vector: Array, cotangent: Array) -> Array:
    """Return the gradient by W of ``<c, P_W V>``, P_W the tangent projection."""
    smooth, covector = tangent_part(frame, vector), tangent_part(frame, cotangent)
    return weingarten(frame, smooth, cotangent - covector) + weingarten(
        frame, covector, vector - smooth
    )


def horizontal_part_gradient(frame: Frame, layers: Array, vector: Array, cotangent: Array) -> Array:
    """Return the gradient by W of ``<c, H_W V>``, H_W the horizontal projection."""
    total = _second_product_derivative(
        layers, cotangent - horizontal_part(frame, cotangent), _covector(frame, vector)
    ) + _second_product_derivative(
        layers, vector - horizontal_part(frame, vector), _covector(frame, cotangent)
    )
    return tangent_part(frame, total)


def horizontal_lift_pullback(
    frame: Frame, layers: Array, tangent_vec: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by Z and by W of ``<c, L>``, L the horizontal lift of Z to W."""
    lift = horizontal_lift(frame, tangent_vec)
    rest = cotangent - horizontal_part(frame, cotangent)
    by_vector = _covector(frame, cotangent)
    total = _second_product_derivative(
        layers, rest, _covector(frame, lift)
    ) - _second_product_derivative(layers, lift, by_vector)
    return by_vector, tangent_part(frame, total)


def push_forward_pullback(
    frame: Frame, layers: Array, vector: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by V and by W of ``<c, B V>``."""
    by_vector = product_derivative(layers, cotangent)
    total = _second_product_derivative(layers, vector, cotangent)
    return by_vector, tangent_part(frame, total)
