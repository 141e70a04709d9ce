r"""How the balanced manifold bends: second fundamental form, Weingarten map, O'Neill's tensor.

And the derivatives by the layers of projections, lifts and push-forwards. All are rational in the
layers, so none is singular where singular values meet. Derivatives by a point of the manifold are
along the manifold: gradients are tangent vectors.

The range of the transpose of ``B = d(W_N ... W_1)`` is the horizontal space, so the horizontal
projection is ``B^T (B B^T)^{-1} B`` and its derivative follows from that of B, the second
derivative of a product of matrices.
"""

import numpy as np

from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.balancing import end_to_end_pullback, moment, partial_products
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_metric
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


def _symmetrized(matrix: Array) -> Array:
    return matrix + transpose(matrix)


def second_fundamental_form(frame: Frame, layers: Array, vec_a: Array, vec_b: Array) -> Array:
    """Return the normal ``II(V, V')``; geodesics obey ``W'' = II(W', W')``."""
    return sectors.normal_vector(layers, bending(frame, vec_a, vec_b))


def bending(frame: Frame, vec_a: Array, vec_b: Array) -> Array:
    """Return the S of ``II(V, V')_p = W_p S_{p-1} - S_p W_p``, shape ``(..., N-1, n, n)``."""
    # Jacobi systems with sym(V_p V'_p^T - V'_{p+1}^T V_{p+1})
    return sectors.solve_jacobi(frame, 0.5 * _symmetrized(moment(vec_a, vec_b)))


def bending_derivative(
    frame: Frame,
    layers: Array,
    velocity: Array,
    multiplier: Array,
    layers_dir: Array,
    velocity_dir: Array,
) -> Array:
    """Differentiate ``II(V, V)``, S its multiplier, along a variation on the tangent bundle."""
    # The Jacobi systems G_p S_p + S_p G_p - W_{p+1}^T S_{p+1} W_{p+1} - W_p S_{p-1} W_p^T = R_p,
    # G_p = W_p W_p^T, are differentiated as they stand.
    w, u = layers, layers_dir
    low, high = np.s_[..., :-1, :, :], np.s_[..., 1:, :, :]
    right_side = _symmetrized(moment(velocity, velocity_dir))
    gram = _symmetrized(w[low] @ transpose(u[low]))
    moved = _symmetrized(gram @ multiplier)
    # S_0 = S_N = 0: the terms with neighbours exist for inner layers only.
    inner = np.s_[..., 1:-1, :, :]
    moved[low] -= _symmetrized(transpose(u[inner]) @ multiplier[high] @ w[inner])
    moved[high] -= _symmetrized(u[inner] @ multiplier[low] @ transpose(w[inner]))
    change = sectors.solve_jacobi(frame, right_side - moved)
    return sectors.normal_vector(u, multiplier) + sectors.normal_vector(w, change)


def weingarten(frame: Frame, tangent_vec: Array, normal_vec: Array) -> Array:
    """Return ``-P(D N[V]) = -P(V_p S_{p-1} - S_p V_p)`` of a normal ``W_p S_{p-1} - S_p W_p``."""
    multiplier = sectors.normal_multiplier(frame, normal_vec)
    return -sectors.tangent_part(frame, sectors.normal_vector(tangent_vec, multiplier))


def integrability(frame: Frame, layers: Array, vec_a: Array, vec_b: Array) -> Array:
    """Return O'Neill's tensor ``A_E F = ver(D_{hor E} hor F) + hor(D_{hor E} ver F)``."""
    # Vertical fields K_A = (A_p W_p - W_p A_{p-1})_p are linear in W, so
    # <A_X Y, K_A> = -<Y, K_A(X)> for horizontal X, Y: one Jacobi system gives A_X Y; and
    # A_X K_A = hor(K_A(X)).
    x, y = sectors.horizontal_part(frame, vec_a), sectors.horizontal_part(frame, vec_b)
    product = moment(y, x)
    skew = sectors.solve_jacobi(frame, 0.5 * (transpose(product) - product))
    turned = sectors.vertical_vector(x, sectors.vertical_multiplier(frame, vec_b))
    return sectors.vertical_vector(layers, skew) + sectors.horizontal_part(frame, turned)


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
    return apply_metric(frame.ends, sectors.push_forward(frame, vector))


def tangent_part_gradient(frame: Frame, vector: Array, cotangent: Array) -> Array:
    """Return the gradient by W of ``<c, P_W V>``, P_W the tangent projection."""
    smooth, covector = sectors.tangent_part(frame, vector), sectors.tangent_part(frame, cotangent)
    first = weingarten(frame, smooth, cotangent - covector)
    return first + weingarten(frame, covector, vector - smooth)


def horizontal_part_gradient(frame: Frame, layers: Array, vector: Array, cotangent: Array) -> Array:
    """Return the gradient by W of ``<c, H_W V>``, H_W the horizontal projection."""
    rest_a, rest_b = (v - sectors.horizontal_part(frame, v) for v in (vector, cotangent))
    total = _second_product_derivative(layers, rest_a, _covector(frame, cotangent))
    total = total + _second_product_derivative(layers, rest_b, _covector(frame, vector))
    return sectors.tangent_part(frame, total)


def horizontal_lift_pullback(
    frame: Frame, layers: Array, tangent_vec: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by Z and by W of ``<c, L>``, L the horizontal lift of Z to W."""
    lift = sectors.horizontal_lift(frame, tangent_vec)
    rest = cotangent - sectors.horizontal_part(frame, cotangent)
    by_vector = _covector(frame, cotangent)
    total = _second_product_derivative(layers, rest, _covector(frame, lift))
    total -= _second_product_derivative(layers, lift, by_vector)
    return by_vector, sectors.tangent_part(frame, total)


def push_forward_pullback(
    frame: Frame, layers: Array, vector: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by V and by W of ``<c, B V>``."""
    total = _second_product_derivative(layers, vector, cotangent)
    return end_to_end_pullback(layers, cotangent), sectors.tangent_part(frame, total)
