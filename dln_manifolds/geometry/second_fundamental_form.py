r"""How the balanced manifold bends: second fundamental form, Weingarten map, O'Neill's tensor.

And the derivatives by the layers of projections, lifts and push-forwards. All are rational in the
layers, so none is singular where singular values meet. Derivatives by a point of the manifold are
along the manifold: gradients are tangent vectors.

The range of the transpose of ``B = d(W_N ... W_1)`` is the horizontal space, so the horizontal
projection is ``B^T (B B^T)^{-1} B`` and its derivative follows from that of B, the second
derivative of a product of matrices.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geometry.balancing import end_to_end_pullback, moment, partial_products
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_metric
from dln_manifolds.geometry.sectors import (
    horizontal_lift,
    horizontal_part,
    normal_multiplier,
    normal_vector,
    push_forward,
    solve_jacobi,
    tangent_part,
    vertical_multiplier,
    vertical_vector,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


def _symmetrized(matrix: Array) -> Array:
    return matrix + transpose(matrix)


def second_fundamental_form(frame: Frame, layers: Array, vec_a: Array, vec_b: Array) -> Array:
    r"""Return the normal part ``II(V, V')`` of the ambient derivative of tangent fields.

    ``II(V, V')_p = W_p S_{p-1} - S_p W_p`` with the S of `bending`. Geodesics obey
    ``W'' = II(W', W')``.
    """
    return normal_vector(layers, bending(frame, vec_a, vec_b))


def bending(frame: Frame, vec_a: Array, vec_b: Array) -> Array:
    """Return the S of ``II(V, V')``: Jacobi systems with ``sym(V_p V'_p^T - V'_{p+1}^T V_{p+1})``.

    Shape ``(..., N - 1, n, n)``.
    """
    return solve_jacobi(frame, 0.5 * _symmetrized(moment(vec_a, vec_b)))


def bending_derivative(
    frame: Frame,
    layers: Array,
    velocity: Array,
    multiplier: Array,
    layers_dir: Array,
    velocity_dir: Array,
) -> Array:
    r"""Differentiate ``II(V, V)``, S its multiplier, along a variation on the tangent bundle.

    The Jacobi systems ``G_p S_p + S_p G_p - W_{p+1}^T S_{p+1} W_{p+1} - W_p S_{p-1} W_p^T = R_p``,
    ``G_p = W_p W_p^T``, are differentiated as they stand.
    """
    w, u = layers, layers_dir
    low, high = np.s_[..., :-1, :, :], np.s_[..., 1:, :, :]
    right_side = _symmetrized(moment(velocity, velocity_dir))
    gram = _symmetrized(w[low] @ transpose(u[low]))
    moved = _symmetrized(gram @ multiplier)
    # S_0 = S_N = 0: the terms with neighbours exist for inner layers only.
    inner = np.s_[..., 1:-1, :, :]
    moved[low] -= _symmetrized(transpose(u[inner]) @ multiplier[high] @ w[inner])
    moved[high] -= _symmetrized(u[inner] @ multiplier[low] @ transpose(w[inner]))
    change = solve_jacobi(frame, right_side - moved)
    return normal_vector(u, multiplier) + normal_vector(w, change)


def weingarten(frame: Frame, tangent_vec: Array, normal_vec: Array) -> Array:
    r"""Return the Weingarten map ``-P(D N[V])`` of a normal vector along a tangent vector.

    With ``N_p = W_p S_{p-1} - S_p W_p`` it is ``-P(V_p S_{p-1} - S_p V_p)``, so that
    ``Hess f[V] = P(D^2 f[V]) + weingarten(V, (df)^normal)``. Symmetric: its inner product with V'
    is ``<N, II(V, V')>``.
    """
    return -tangent_part(frame, normal_vector(tangent_vec, normal_multiplier(frame, normal_vec)))


def integrability(frame: Frame, layers: Array, vec_a: Array, vec_b: Array) -> Array:
    r"""Return O'Neill's tensor ``A_E F = ver(D_{hor E} hor F) + hor(D_{hor E} ver F)``.

    Vertical fields ``K_A = (A_p W_p - W_p A_{p-1})_p`` are linear in W, so
    ``<A_X Y, K_A> = -<Y, K_A(X)>`` for horizontal X, Y: one Jacobi system gives ``A_X Y``; and
    ``A_X K_A = hor(K_A(X))``.
    """
    x, y = horizontal_part(frame, vec_a), horizontal_part(frame, vec_b)
    product = moment(y, x)
    skew = solve_jacobi(frame, 0.5 * (transpose(product) - product))
    turned = vertical_vector(x, vertical_multiplier(frame, vec_b))
    return vertical_vector(layers, skew) + horizontal_part(frame, turned)


def _second_product_derivative(layers: Array, vector: Array, covector: Array) -> Array:
    """Return the gradient by the layers of ``<M, B V>`` at fixed V and M."""
    n = layers.shape[-1]
    batch = np.broadcast_shapes(layers.shape, vector.shape)
    # Products of dual numbers: [[W, V], [0, W]].
    dual = np.zeros((*batch[:-2], 2 * n, 2 * n))
    dual[..., :n, :n] = dual[..., n:, n:] = layers
    dual[..., :n, n:] = vector
    ahead, behind = partial_products(dual)
    left, left_dir = ahead[..., :n, :n], ahead[..., n:, :n]
    right, right_dir = transpose(behind[..., :n, :n]), transpose(behind[..., :n, n:])
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
    total = _second_product_derivative(layers, vector, cotangent)
    return end_to_end_pullback(layers, cotangent), tangent_part(frame, total)
