r"""Geodesics known in closed form, and the rigorous lower bound on the distance.

- Same singular vectors, any N: a straight line in the root chart, ``l(t) = (1-t) l_0 + t l_1``.
  At N = 1 every geodesic is one. Radial geodesics, at any N: ``(1 + a t) T``, ``a = c / N`` for
  ``X' = c X``; they end in the tip of the cone at ``t = -1 / a``.
- N = 2 and the same orthogonal polar factor: the geodesic of the Bures-Wasserstein metric
  (Bhatia, Jain and Lim 2019), ``X(t) = W(t) W(t)^T O`` with a straight line W(t). For N >= 3 the
  corresponding line (Theorem 2.3 of Chen, arXiv 2510.07324) is not horizontal unless the polar
  factors commute, so it is not used.
"""

import math

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import push_to_root, root_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, nearest_orthogonal, transpose

# Relative departure from the hypothesis at which a closed form is still exact to round-off.
_EXACT = 4 * np.finfo(np.float64).eps


def closed_form_velocity(start: Frame, end: Frame) -> tuple[Array, Array]:
    """Return initial velocities at ``T_0``, and for which batch members a closed form holds."""
    root_0, root_1 = root_of(start), root_of(end)
    velocity = root_1 - root_0
    if start.depth == 1:
        return velocity, np.ones(len(root_0), dtype=bool)
    known = _share_frames(root_0, root_1)
    if start.depth == 2:
        aligned = transpose(start.polar) @ end.compose(end.singular_values)
        skew = frobenius(aligned - transpose(aligned))
        candidate = ~known & (skew <= _EXACT * aligned.shape[-1] * frobenius(aligned))
        pick = np.nonzero(candidate)[0]
        if pick.size:
            pick = pick[(np.linalg.eigvalsh(aligned[pick]) > 0).all(axis=-1)]
            velocity[pick] = _bures_wasserstein(start.take(pick), end.take(pick))
            known[pick] = True
    return velocity, known


def _share_frames(root_0: Array, root_1: Array) -> Array:
    """Whether ``T_0^T T_1`` and ``T_0 T_1^T`` are symmetric and positive definite."""
    inner = transpose(root_0) @ root_1
    bound = _EXACT * root_0.shape[-1] * frobenius(root_0) * frobenius(root_1)
    skew = frobenius(inner - transpose(inner))
    shared = np.asarray(skew <= bound)
    pick = np.nonzero(shared)[0]
    if pick.size:
        # Of few: most pairs have failed by now.
        outer = root_0[pick] @ transpose(root_1[pick])
        shared[pick] = skew[pick] + frobenius(outer - transpose(outer)) <= bound[pick]
        pick = pick[shared[pick]]
        shared[pick] = (np.linalg.eigvalsh(inner[pick]) > 0).all(axis=-1)
    return shared


def _bures_wasserstein(start: Frame, end: Frame) -> Array:
    """Return the initial velocity at T_0 for N = 2 and equal polar factors."""
    # X = S O with S = W W^T. W(t) = (1-t) W_0 + t W_1 with W_1^T W_0 symmetric is horizontal.
    factor_0 = (start.left * start.roots[:, None, :]) @ transpose(start.left)
    factor_1 = (end.left * end.roots[:, None, :]) @ transpose(end.left)
    chord = factor_1 @ nearest_orthogonal(factor_1 @ factor_0) - factor_0
    tangent = chord @ transpose(factor_0)
    return push_to_root(start, (tangent + transpose(tangent)) @ start.polar)


def lower_bound(start: Frame, end: Frame) -> Array:
    """Largest rigorous lower bound on distances of X_0 and X_1 in closed form, shape ``(...)``.

    ``sqrt(N) |l_0 - l_1|`` with the root singular values sorted, by von Neumann's trace inequality
    on every layer; at N = 2 also the distance of a balanced factorization of X_0 from the fibre
    over X_1, by one singular value decomposition. Rounded down by the round-off of the roots.
    """
    bound = np.sqrt(start.depth) * np.linalg.norm(start.roots - end.roots, axis=-1)
    size = np.sqrt(start.depth) * np.linalg.norm(start.roots + end.roots, axis=-1)
    rounding = 16 * np.finfo(float).eps * start.roots.shape[-1] * size
    if start.depth != 2:
        return np.maximum(bound - rounding, 0.0)
    first_0, first_1 = (frame.roots[..., :, None] * frame.right_t for frame in (start, end))
    last_0, last_1 = (frame.left * frame.roots[..., None, :] for frame in (start, end))
    coupling = first_1 @ transpose(first_0) + transpose(last_1) @ last_0
    turn = transpose(nearest_orthogonal(coupling))
    rest = frobenius(first_0 - turn @ first_1), frobenius(last_0 - last_1 @ transpose(turn))
    apart = np.hypot(*rest)
    return np.maximum(np.maximum(bound, apart) - rounding, 0.0)


def radial_rate(position: Array, velocity: Array) -> tuple[Array, Array]:
    """Return a with the velocities nearest to ``a x``, and which are that to rounding."""
    x, v = (array.reshape(len(array), math.prod(array.shape[1:])) for array in (position, velocity))
    # Free of squares that over- or underflow; a vector of zero is radial, too.
    size, speed = (np.abs(array).max(axis=1, keepdims=True) for array in (x, v))
    x, v = x / size, v / np.where(speed == 0, 1.0, speed)
    pace = np.einsum("bi,bi->b", x, v) / np.einsum("bi,bi->b", x, x)
    rest = np.abs(v - pace[:, None] * x).max(axis=1)
    return pace * (speed / size)[:, 0], rest <= 8 * np.finfo(float).eps
