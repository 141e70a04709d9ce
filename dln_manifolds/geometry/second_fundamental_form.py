r"""How the balanced manifold bends: second fundamental form, Weingarten map, O'Neill's tensor.

And the derivatives by the layers of projections, lifts and push-forwards. All are rational in the
layers, so none is singular where singular values meet. Derivatives by a point of the manifold are
along the manifold: gradients are tangent vectors.

In the frames an ambient vector V has cores ``C_p = Q_p^T V_p Q_{p-1}`` and, beside them,
``E_p = (I - Q_p Q_p^T) V_p Q_{p-1}`` and ``F_p = (I - Q_{p-1} Q_{p-1}^T) V_p^T Q_p``. Of tangent
ones both ``E_p`` and ``F_{p+1}`` are ``(I - Q_p Q_p^T) Q_p' L``. The second fundamental form has
(ours) the cores ``L S_{p-1} - S_p L``, S of one Jacobi system for each pair of roots, beside them
``E_p (C_{p+1} - C_p^T) L^{-1}`` and its opposite, and ``2 E_p L^{-1} F_p^T`` from complement to
complement. The latter is zero along horizontal vectors.

The range of the transpose of ``B = d(W_N ... W_1)`` is the horizontal space, so the horizontal
projection is ``B^T (B B^T)^{-1} B`` and its derivative follows from that of B, the second
derivative of a product of matrices.
"""

from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.balancing import end_to_end_pullback, moment, partial_products
from dln_manifolds.geometry.entropy import EntropyHessian, Widths, entropy_differential
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_metric
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose

_LOW, _HIGH = np.s_[..., :-1, :, :], np.s_[..., 1:, :, :]


def _symmetrized(matrix: Array) -> Array:
    return matrix + transpose(matrix)


def _moment(frame: Frame, covector: Array, vector: Array) -> Array:
    """Return ``Q_p^T (C_p V_p^T - V_{p+1}^T C_{p+1}) Q_p`` from the blocks of both."""
    (core, after, before), (core_v, after_v, before_v) = map(frame.split, (covector, vector))
    product = moment(core, core_v)
    if any(frame.sides):
        product += transpose(before[_LOW]) @ before_v[_LOW]
        product -= transpose(after_v[_HIGH]) @ after[_HIGH]
    return product


def bending(frame: Frame, first: Array, second: Array) -> Array:
    """Return the S of the second fundamental form inside, from the blocks of tangent vectors."""
    # Jacobi systems with sym(V_p V'_p^T - V'_{p+1}^T V_{p+1})
    return sectors.solve_inside(frame, 0.5 * _symmetrized(_moment(frame, first, second)))


def second_fundamental_form(frame: Frame, vec_a: Array, vec_b: Array) -> Array:
    """Return the normal ``II(V, V')``; geodesics obey ``W'' = II(W', W')``."""
    first = frame.blocks(vec_a)
    second = first if vec_b is vec_a else frame.blocks(vec_b)
    inside = bent_blocks(frame, first, second)
    if not any(frame.sides):
        return frame.leave(inside)
    (_, e_a, f_a), (_, e_b, f_b) = map(frame.split, (first, second))
    roots = frame.roots[..., None, None, :]
    left = np.concatenate(np.broadcast_arrays(e_a / roots, e_b / roots), axis=-1)
    right = np.concatenate(np.broadcast_arrays(f_b, f_a), axis=-1)
    return frame.assemble(inside) + frame.outer(left, transpose(right))


def bent_blocks(frame: Frame, first: Array, second: Array) -> Array:
    """Return the blocks of ``II(V, V')`` from those of tangent vectors."""
    core = sectors.normal_inside(frame, bending(frame, first, second))
    if not any(frame.sides):
        return core
    half = 0.5 * _beside(frame, first, second), 0.5 * _beside(frame, second, first)
    after, before = np.zeros((2, *half[0].shape[:-3], *frame.left.shape[-3:]))
    after[_LOW] = half[0] + half[1]
    before[_HIGH] = -after[_LOW]
    return frame.stack(core, after, before)


def _beside(frame: Frame, first: Array, second: Array) -> Array:
    """Return ``E_p (C'_{p+1} - C'_p^T) L^{-1}`` for hidden p, E of the first, C' of the second."""
    _, after, _ = frame.split(first)
    core, _, _ = frame.split(second)
    return after[_LOW] @ (core[_HIGH] - transpose(core[_LOW])) / frame.roots[..., None, None, :]


class NormalPart(NamedTuple):
    """The normal part of an ambient vector in the frames, as its Weingarten map needs it.

    ``W_p S_{p-1} - S_p W_p`` with S the ``multiplier`` in the core, ``+-T_p`` beside it, of which
    ``T_p L^{-1}`` are kept, and from complement to complement the ``vector`` itself.
    """

    multiplier: Array
    beside: Array
    vector: Array


def normal_part(frame: Frame, vector: Array) -> NormalPart:
    """Return the normal part of an ambient vector."""
    core, after, before = frame.split(frame.blocks(vector))
    multiplier, _ = sectors.potentials(frame, core)
    beside = after[_LOW]
    if any(frame.sides):
        beside = 0.5 * (after[_LOW] - before[_HIGH]) / frame.roots[..., None, None, :]
    return NormalPart(multiplier, beside, vector)


def turned_normal(frame: Frame, inside: Array, normal: NormalPart) -> Array:
    """Return blocks of ``-D N[V]`` along a tangent vector V, up to a normal part of it."""
    core, after, before = frame.split(inside)
    # -(V_p S_{p-1} - S_p V_p)
    turned = -sectors.normal_vector(core, normal.multiplier)
    if not any(frame.sides):
        return turned
    roots = frame.roots[..., None, None, :]
    corner = frame.split(frame.corner(normal.vector, inside / roots))
    after_n, before_n = corner[1].copy(), corner[2].copy()
    after_n[_HIGH] -= after[_HIGH] @ normal.multiplier
    before_n[_LOW] += before[_LOW] @ normal.multiplier
    product = transpose(after[_LOW]) @ normal.beside
    turned[_HIGH] += product
    turned[_LOW] -= transpose(product)
    after_n[_LOW] += normal.beside @ (transpose(core[_HIGH]) - core[_LOW])
    return frame.stack(turned, after_n, before_n)


def weingarten(frame: Frame, tangent_vec: Array, normal_vec: Array) -> Array:
    """Return ``-P(D N[V])``, with ``<weingarten(V, N), V'> = <N, II(V, V')>``.

    Of an ambient vector, the normal part N counts.
    """
    normal = normal_part(frame, normal_vec)
    turned = turned_normal(frame, frame.blocks(tangent_vec), normal)
    return frame.assemble(sectors.tangent_blocks(frame, turned))


def bending_derivative(
    frame: Frame, velocity: Array, layers_dir: Array, velocity_dir: Array
) -> Array:
    """Differentiate ``II(V, V)`` along a variation on the tangent bundle."""
    # The Jacobi systems G_p S_p + S_p G_p - W_{p+1}^T S_{p+1} W_{p+1} - W_p S_{p-1} W_p^T = R_p,
    # G_p = W_p W_p^T, are differentiated as they stand.
    chain = frame.layout
    v, u, v_dir = map(chain.padded, (velocity, layers_dir, velocity_dir))
    w = (frame.left * frame.roots[..., None, None, :]) @ frame.right_t
    multiplier = _whole_multiplier(frame, velocity)
    right_side = _symmetrized(moment(v, v_dir))
    gram = _symmetrized(w[_LOW] @ transpose(u[_LOW]))
    moved = _symmetrized(gram @ multiplier)
    # S_0 = S_N = 0: the terms with neighbours exist for inner layers only.
    inner = np.s_[..., 1:-1, :, :]
    moved[_LOW] -= _symmetrized(transpose(u[inner]) @ multiplier[_HIGH] @ w[inner])
    moved[_HIGH] -= _symmetrized(u[inner] @ multiplier[_LOW] @ transpose(w[inner]))
    change = _solve_whole(frame, right_side - moved, multiplier, u)
    result = sectors.normal_vector(u, multiplier) + sectors.normal_vector(w, change)
    if any(frame.sides):
        result = result + _corner_derivative(frame, v, u, v_dir)
    return chain.unpadded(result)


def _whole_multiplier(frame: Frame, velocity: Array) -> Array:
    """Return the S of ``II(V, V)``, zero on the complement of ``Q_p``, padded ``(..., N-1, D, D)``.

    Without the part of II from complement to complement it is ``W_p S_{p-1} - S_p W_p``.
    """
    blocks = frame.blocks(velocity)
    middle = frame.left[_LOW]
    whole = middle @ bending(frame, blocks, blocks) @ transpose(middle)
    if any(frame.sides):
        # Beside the core of II stands -(S_p beside Q_p) L.
        beside = -_beside(frame, blocks, blocks) / frame.roots[..., None, None, :]
        whole += _symmetrized(beside @ transpose(middle))
    return whole


def _solve_whole(frame: Frame, right_side: Array, multiplier: Array, layers_dir: Array) -> Array:
    """Solve the Jacobi systems for the change of S, which stays zero on moving complements."""
    middle = frame.left[_LOW]
    across = right_side @ middle
    core = transpose(middle) @ across
    inside = middle @ sectors.solve_inside(frame, core)
    if not any(frame.sides):
        return inside @ transpose(middle)
    roots = frame.roots[..., None, None, :]
    beside = (across - middle @ core) / roots**2
    # The complement moves by -(B Q^T + Q B^T).
    behind = transpose(frame.right_t[_LOW])
    turn = layers_dir[_LOW] @ behind
    turn = (turn - middle @ (transpose(middle) @ turn)) / roots
    mixed = multiplier @ middle
    mixed = mixed - middle @ (transpose(middle) @ mixed)
    half = (inside + beside) @ transpose(middle) + turn @ transpose(mixed)
    return half + (middle @ transpose(beside) + mixed @ transpose(turn))


def _corner_derivative(frame: Frame, v: Array, u: Array, v_dir: Array) -> Array:
    """Differentiate ``2 (I - Q_p Q_p^T) V_p W_p^+ V_p (I - Q_{p-1} Q_{p-1}^T)``, all padded."""
    left, right_t, roots = frame.left, frame.right_t, frame.roots[..., None, None, :]
    identity = np.eye(left.shape[-2])
    after, before = identity - left @ transpose(left), identity - transpose(right_t) @ right_t
    inverse = transpose(right_t) @ transpose(left / roots)
    squares = inverse @ transpose(inverse), transpose(inverse) @ inverse
    # Of constant rank (Golub and Pereyra 1973).
    u_t = transpose(u)
    inverse_dir = squares[0] @ u_t @ after + before @ u_t @ squares[1] - inverse @ u @ inverse
    middle = v @ inverse @ v
    middle_dir = v_dir @ inverse @ v + v @ inverse_dir @ v + v @ inverse @ v_dir
    turn_l, turn_r = after @ u @ inverse, inverse @ u @ before
    result = after @ middle_dir @ before
    result -= _symmetrized(turn_l) @ middle @ before + after @ middle @ _symmetrized(turn_r)
    return 2 * result


def integrability(frame: Frame, vec_a: Array, vec_b: Array) -> Array:
    """Return O'Neill's tensor ``A_E F = ver(D_{hor E} hor F) + hor(D_{hor E} ver F)``."""
    # Vertical fields K_A are linear in W, so <A_X Y, K_A> = -<Y, K_A(X)> for horizontal X, Y: one
    # Jacobi system gives A_X Y; and A_X K_A = hor(K_A(X)). Only the cores of A matter.
    other = frame.blocks(vec_b)
    x, y = (sectors.horizontal_blocks(frame, b) for b in (frame.blocks(vec_a), other))
    product = _moment(frame, y, x)
    skew = sectors.solve_inside(frame, 0.5 * (transpose(product) - product))
    vertical = -sectors.potentials(frame, frame.split(other)[0])[1]
    core, after, before = frame.split(x)
    turned = sectors.vertical_vector(core, vertical)
    straight = -sectors.normal_inside(frame, skew)
    if not any(frame.sides):
        horizontal = sectors.horizontal_blocks(frame, turned)
        return frame.leave(straight + horizontal)
    shape = np.broadcast_shapes(after.shape, turned.shape[:-2] + after.shape[-2:])
    after_h, before_h = np.zeros((2, *shape))
    if frame.n_layers > 1:
        after_h[..., -1, :, :] = -after[..., -1, :, :] @ vertical[..., -1, :, :]
        before_h[..., 0, :, :] = -before[..., 0, :, :] @ vertical[..., 0, :, :]
    blocks = sectors.horizontal_blocks(frame, frame.stack(turned, after_h, before_h))
    core_h, after_h, before_h = frame.split(blocks)
    return frame.assemble(frame.stack(core_h + straight, after_h, before_h))


def _second_product_derivative(
    frame: Frame, layers: Array, vector: Array, covector: Array
) -> Array:
    """Return the gradient by the layers of ``<M, B V>`` at fixed V and M."""
    chain = frame.layout
    layers, vector = chain.padded(layers), chain.padded(vector)
    n = chain.width
    batch = np.broadcast_shapes(layers.shape, vector.shape)
    # Products of dual numbers: [[W, V], [0, W]].
    dual = np.zeros((*batch[:-2], 2 * n, 2 * n))
    dual[..., :n, :n] = dual[..., n:, n:] = layers
    dual[..., :n, n:] = vector
    ahead, behind = partial_products(dual)
    left, left_dir = ahead[..., :n, :n], ahead[..., n:, :n]
    right, right_dir = transpose(behind[..., :n, :n]), transpose(behind[..., :n, n:])
    m = np.zeros((*covector.shape[:-2], 1, n, n))
    m[..., 0, : covector.shape[-2], : covector.shape[-1]] = covector
    return chain.unpadded(left_dir @ m @ right + left @ m @ right_dir)


def _covector(frame: Frame, vector: Array) -> Array:
    """Return ``(B B^T)^{-1} B V``: the M whose ``B^T M`` is the horizontal part of V."""
    return apply_metric(frame.ends, sectors.push_forward(frame, vector))


def tangent_part_gradient(frame: Frame, vector: Array, cotangent: Array) -> Array:
    """Return the gradient by W of ``<c, P_W V>``, P_W the tangent projection."""
    smooth, covector = sectors.tangent_part(frame, vector), sectors.tangent_part(frame, cotangent)
    return weingarten(frame, smooth, cotangent) + weingarten(frame, covector, vector)


def horizontal_part_gradient(frame: Frame, layers: Array, vector: Array, cotangent: Array) -> Array:
    """Return the gradient by W of ``<c, H_W V>``, H_W the horizontal projection."""
    if frame.n_layers == 1:
        return tangent_part_gradient(frame, vector, cotangent)
    rest_a, rest_b = (v - sectors.horizontal_part(frame, v) for v in (vector, cotangent))
    total = _second_product_derivative(frame, layers, rest_a, _covector(frame, cotangent))
    total = total + _second_product_derivative(frame, layers, rest_b, _covector(frame, vector))
    return sectors.tangent_part(frame, total)


def horizontal_lift_pullback(
    frame: Frame, layers: Array, tangent_vec: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by Z and by W of ``<c, L>``, L the horizontal lift of Z to W."""
    lift, by_vector = sectors.horizontal_lift(frame, tangent_vec), _covector(frame, cotangent)
    if frame.n_layers == 1:
        layer = frame.layout.joined([tangent_vec[..., None, :, :]])
        return by_vector, tangent_part_gradient(frame, layer, cotangent)
    rest = cotangent - sectors.horizontal_part(frame, cotangent)
    total = _second_product_derivative(frame, layers, rest, _covector(frame, lift))
    total = total - _second_product_derivative(frame, layers, lift, by_vector)
    if any(frame.sides):
        # What of Z is not tangent becomes so as X moves.
        normal = tangent_vec - frame.ends.assemble(frame.ends.blocks(tangent_vec))
        along = sectors.horizontal_lift(frame, by_vector)
        total = total + _second_product_derivative(frame, layers, along, normal)
    return by_vector, sectors.tangent_part(frame, total)


def push_forward_pullback(
    frame: Frame, layers: Array, vector: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by V and by W of ``<c, B V>``."""
    total = _second_product_derivative(frame, layers, vector, cotangent)
    by_vector = end_to_end_pullback(layers, cotangent, frame.layout)
    return by_vector, sectors.tangent_part(frame, total)


def lifted_entropy_hessian(
    frame: Frame, layers: Array, tangent_vec: Array, widths: Widths
) -> Array:
    """Return the Riemannian Hessian of the entropy of X as a function of W, along V."""
    # Its gradient B^T dS(X) is horizontal, so that the Hessian is the tangent part of the
    # derivative: B moves with W, and X does.
    slope = entropy_differential(frame.ends, widths)
    _, by_map = push_forward_pullback(frame, layers, tangent_vec, slope)
    bent = EntropyHessian(frame.ends, widths).apply(sectors.push_forward(frame, tangent_vec))
    return by_map + sectors.tangent_part(frame, end_to_end_pullback(layers, bent, frame.layout))
