r"""Geodesics known in closed form, of end-to-end matrices of any shape, rank and depth.

With the factors of ``X = U diag(s) V^T``, ``A = U_1^T U_0``, ``B = V_1^T V_0`` and roots
``l = s^(1/N)``, vectors at X_0 by their blocks in its frame:

- N = 1 and rank ``min(m, n)``: the straight line.
- Same singular vectors, any N: a straight line in the root chart; ``X_0^(1-t) X_1^t`` in the limit
  of infinite depth. Radial geodesics, at any N: ``(1 + a t) T``, ``a = c / N`` for ``X' = c X``;
  they end in the tip of the cone at ``t = -1 / a``.
- N = 2: factors ``X = L R^T`` that move on straight lines, where these stay
  balanced (`_lines_of_factors`): equal polar factors, which is the geometry of Bures and
  Wasserstein (Bhatia, Jain and Lim 2019) at any rank and shape, and more (ours). For N >= 3 the
  corresponding line (Theorem 2.3 of Chen, arXiv 2510.07324) is not horizontal unless the polar
  factors commute, so it is not used.
- Rank 1, any N: a straight line in a plane sector, see `rank_one_velocity` (ours).

Detection allows for the rounding of singular vectors; solvers verify what they take from here.
"""

import math
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.bounds import couplings
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.stretch import per_layer, roots_of, stretch_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import log_quotient
from dln_manifolds.numerics.matrices import (
    diagonal,
    frobenius,
    nearest_orthogonal,
    transpose,
)

# Departure from a hypothesis that may be rounding, relative to how far points are apart: of near
# points a velocity is wanted, too. And what is rounding however near they are.
_CLOSE, _ROUNDING = 1e-12, 8 * float(np.finfo(float).eps)
# Products of singular values of both ends below which others could underflow, and so above; moves
# of factors below which these hardly move.
_SMALLEST, _NEAR = 1e-140, 0.1


def closed_form_velocity(first: Frame, last: Frame) -> tuple[Array, Array]:
    """Return blocks of initial velocities ``X'(0)``, and for which members a closed form holds.

    Of a flat batch of points of any sizes and one component; blocks as of `Frame.blocks`, zero
    where nothing is known.
    """
    n_batch, rank = first.values.shape
    shape = first.left.shape[-2], first.right_t.shape[-1]
    velocity = np.zeros((n_batch, rank + sum(first.sides), rank))
    known = np.ones(n_batch, dtype=bool)
    if rank == 1 and math.isfinite(first.depth):
        velocity = rank_one_velocity(first, last)
    elif first.depth == 1 and rank == min(shape):
        velocity = _straight_line(first, last)
    else:
        known = _share_frames(first, last)
        pick = np.nonzero(known)[0]
        if pick.size:
            velocity[pick, :rank] = _along_frames(first.take(pick), last.take(pick))
        pick = np.nonzero(~known)[0]
        if first.depth == 2 and pick.size:
            velocity[pick], known[pick] = _lines_of_factors(first.take(pick), last.take(pick))
    if known.any():
        velocity[_same(first, last)] = 0.0
    return velocity, known


class StraightFactors(NamedTuple):
    """Velocities at N = 2 that verify themselves: with lengths, ends and relative residuals."""

    initial_velocity: Array
    length: Array
    end_point: Array
    residual: Array


@np.errstate(all="ignore")
def straight_factors(
    first: Frame, last: Frame, point: Array, target: Array
) -> StraightFactors | None:
    r"""Return geodesics at N = 2 between square matrices with equal polar factors, verified.

    In the frame of ``X = U s V^T`` the end is the positive ``B = U^T Y V``, the factor moves by
    ``D = s^{-1/2} (s^{1/2} B s^{1/2})^{1/2} s^{-1/2} - 1``, and the velocity is ``U (D s + s D)
    V^T``. From that alone D follows again, and ``(1 + D) s (1 + D)`` is the end: no flow is needed.
    No matrix on the way is singular, as ``1 + D > 0``. Batches broadcast. The residuals of other
    pairs are infinite or NaN; None if all are such.
    """
    s, positive = first.singular_values, first.positive and last.positive
    left, left_t, right_t = first.left, transpose(first.left), first.right_t
    right = left if positive else transpose(right_t)
    row, column = s[..., :, None], s[..., None, :]
    sums, size = row + column, frobenius(target)
    apart = left_t @ (target - point) @ right
    turned, alike = transpose(apart), None
    if not positive:
        allowed = _CLOSE * frobenius(apart) + _ROUNDING * s.shape[-1] * size
        alike = np.asarray(frobenius(apart - turned) <= allowed)
        if not alike.any():
            return None
    even, half = 0.5 * (apart + turned), np.sqrt(s)
    weights = half[..., :, None] * half[..., None, :]
    end = even * weights
    diagonal(end)[...] += s * s
    if not np.vdot(end, end) < _SMALLEST**-2:
        return None
    squares, turn = np.linalg.eigh(end)
    if not squares.min() > _SMALLEST:
        enough = squares[..., 0] > _SMALLEST
        alike = enough if alike is None else enough & alike
        squares = np.maximum(squares, _SMALLEST)
    turn /= half[..., :, None]
    move = (turn * np.sqrt(squares)[..., None, :]) @ transpose(turn)
    diagonal(move)[...] -= 1
    near = (move * move).sum(axis=(-2, -1)) < _NEAR**2
    if near.any():
        # Of near points, all digits of the difference.
        move += near[..., None, None] * ((even - _grown(move, column)) / sums)
        move[(apart == 0).all(axis=(-2, -1))] = 0.0
    inside = move * sums
    velocity = left @ inside @ right_t
    again = _grown((left_t @ velocity @ right) / sums, column)
    end_point = point + left @ again @ right_t
    residual, length = frobenius(end_point - target) / size, np.sqrt((move * inside).sum((-2, -1)))
    if alike is not None:
        residual = np.where(alike, residual, np.inf)
    return StraightFactors(velocity, length, end_point, residual)


def _grown(move: Array, column: Array) -> Array:
    """Return ``(1 + D) s (1 + D)^T - s``, the values s in a row."""
    product = move * column
    return product + transpose(product) + product @ transpose(move)


def _same(first: Frame, last: Frame) -> Array:
    """Whether points are the same to the last bit: their distance is zero, without rounding."""
    same = np.asarray((first.values == last.values).all(axis=-1))
    for start, end in ((first.left, last.left), (first.right_t, last.right_t)):
        same = same & (start == end).all(axis=(-2, -1))
    return same


def _stacked(first: Frame, last: Frame, core: Array, left: Array, right: Array) -> Array:
    """Return blocks: of ``(1 - U_0 U_0^T) U_1 left`` and ``(1 - V_0 V_0^T) V_1 right``."""
    parts, (coupling_left, coupling_right) = [core], couplings(first, last)
    if first.sides[0]:
        parts.append((last.left - first.left @ transpose(coupling_left)) @ left)
    if first.sides[1]:
        columns = transpose(last.right_t) - transpose(first.right_t) @ transpose(coupling_right)
        parts.append(columns @ right)
    return np.concatenate(parts, axis=-2)


def _straight_line(first: Frame, last: Frame) -> Array:
    """Return the blocks of ``X_1 - X_0``."""
    left, right = couplings(first, last)
    values = last.singular_values[:, :, None]
    core = transpose(left) @ (values * right)
    diagonal = np.einsum("...ii->...i", core)
    diagonal -= first.singular_values
    return _stacked(first, last, core, values * right, values * left)


def _share_frames(first: Frame, last: Frame) -> Array:
    """Whether ``X_0`` and ``X_1`` have singular vectors in common, all of them."""
    (left, right), rank = couplings(first, last), first.values.shape[-1]
    roots_0, roots_1 = (frame.roots / frame.roots[:, :1] for frame in (first, last))
    stretch_0, stretch_1 = (_stretch(frame, frame) for frame in (first, last))
    there = transpose(left) @ (stretch_1[:, :, None] * left)
    apart = frobenius(there - stretch_0[:, :, None] * np.eye(rank))
    allowed = _CLOSE * apart + _ROUNDING * rank
    # With T_1 = U_0 R V_0^T up to what lies outside: R is symmetric, and commutes with l_0.
    root = transpose(left) @ (roots_1[:, :, None] * right)
    skew = (root - transpose(root)) * (roots_0[:, :, None] + roots_0[:, None, :])
    shared = np.asarray(frobenius(skew) <= allowed)
    if not shared.any():
        return shared  # as for most batches
    # In deep networks roots are all alike, stretches not.
    turned = there * (stretch_0[:, :, None] - stretch_0[:, None, :])
    scale = (1 + frobenius(stretch_0[..., None])) * (1 + frobenius(stretch_1[..., None]))
    shared &= frobenius(turned) <= scale * allowed
    weighed = roots_1[:, :, None] * np.stack([right, left])
    outside = _stacked(first, last, root, *weighed)[:, rank:]
    shared &= frobenius(outside) <= allowed
    pick = np.nonzero(shared)[0]
    shared[pick] = (np.linalg.eigvalsh(root[pick]) > 0).all(axis=-1)
    return shared


def _stretch(frame: Frame, reference: Frame) -> Array:
    """Return the stretch relative to the largest singular value of another frame."""
    logs = frame.power * log_quotient(frame.values, reference.values[:, :1])
    return stretch_of(logs, frame.depth)


def _along_frames(first: Frame, last: Frame) -> Array:
    """Return the cores of velocities between points with the same singular vectors."""
    turn = couplings(first, last)[0]
    start, end = _stretch(first, first), _stretch(last, first)
    growth = transpose(turn) @ (end[:, :, None] * turn)
    # N (l_1 / l_0 - 1) X_0, in one frame
    slope = (first.singular_values / roots_of(start, first.depth))[:, :, None]
    return np.asarray(slope * (growth - start[:, :, None] * np.eye(start.shape[-1])))


def _lines_of_factors(first: Frame, last: Frame) -> tuple[Array, Array]:
    r"""Return blocks at N = 2 of velocities with factors on straight lines, and where these are.

    ``L_0 = U_0 l_0, L_1 = U_1 l_1 Q`` and R alike, Q the polar factor of ``l_1 (A + B) l_0``, are
    nearest to each other in their fibres, so that their distance bounds that of X_0 and X_1. Lines
    between them are horizontal and, where ``L_0^T L_1`` and ``R_0^T R_1`` have equal symmetric
    parts, balanced: then they are the shortest. Their rank stays, as that part is half of the
    symmetric ``L_0^T L_1 + R_0^T R_1 >= 0``.
    """
    left, right = couplings(first, last)
    roots_0, roots_1 = first.roots[:, None, :], last.roots[:, :, None]
    turn = nearest_orthogonal(roots_1 * (left + right) * roots_0)
    aligned = roots_1 * turn
    # L_1^T U_0 and R_1^T V_0
    of_left, of_right = transpose(aligned) @ left, transpose(aligned) @ right
    unlike = (of_left - of_right) * roots_0
    size = [frobenius(frame.roots[..., None]) for frame in (first, last)]
    here = transpose(roots_0) * np.eye(unlike.shape[-1])
    apart = frobenius(of_left - here) + frobenius(of_right - here)
    allowed = _CLOSE * size[0] * apart + _ROUNDING * unlike.shape[-1] * size[0] * size[1]
    known = np.asarray(frobenius(unlike + transpose(unlike)) <= allowed)
    core = transpose(roots_0) * of_right + transpose(of_left) * roots_0
    core -= 2 * first.singular_values[:, :, None] * np.eye(core.shape[-1])
    blocks = _stacked(first, last, core, aligned * roots_0, aligned * roots_0)
    return np.where(known[:, None, None], blocks, 0.0), known


def rank_one_velocity(first: Frame, last: Frame) -> Array:
    r"""Return blocks of initial velocities of shortest geodesics of matrices ``s u v^T``.

    The metric is that of a cone, ``N (dl^2 + l^2 dpsi^2)`` with ``N dpsi^2 = |du|^2 + |dv|^2``: at
    angles ``t_u`` and ``t_v`` between the u and the v, after the change of the joint sign that
    makes their squares least,

    .. math::
        d^2 = N (l_0^2 + l_1^2 - 2 l_0 l_1 \cos\psi), \quad \psi^2 = (t_u^2 + t_v^2) / N.

    ``psi`` is at most ``pi / sqrt(N)``, so that the tip of the cone is out of the way; but for
    ``psi = pi`` at N = 1, where the line of length ``l_0 + l_1`` leads through it. A u that has to
    turn by pi may do so in any direction; it takes one.
    """
    depth = first.depth
    u_0, u_1 = first.left[..., 0], last.left[..., 0]
    v_0, v_1 = first.right_t[..., 0, :], last.right_t[..., 0, :]
    cosines = [np.sum(pair[0] * pair[1], axis=-1) for pair in ((u_0, u_1), (v_0, v_1))]
    angles = [_angle(u_0, u_1), _angle(v_0, v_1)]
    flip = angles[0] + angles[1] > math.pi
    # A single entry cannot turn.
    for vector, cosine in zip((u_0, v_0), cosines, strict=True):
        flip = cosine < 0 if vector.shape[-1] == 1 else flip
    sign = np.where(flip, -1.0, 1.0)[..., None]
    turn_u, turn_v = _turn(u_0, sign * u_1), _turn(v_0, sign * v_1)
    square = np.sum(turn_u**2, axis=-1) + np.sum(turn_v**2, axis=-1)
    psi = np.sqrt(per_layer(square, depth))
    values = first.singular_values[..., 0]
    power = last.power * log_quotient(last.values[..., 0], first.values[..., 0])
    growth = stretch_of(power, depth)
    # s_0 times N (l_1 cos(psi) / l_0 - 1), and times l_1 sin(psi) / (l_0 psi)
    core = growth * np.cos(psi) - 0.5 * square * np.sinc(psi / (2 * math.pi)) ** 2
    slope = (values * roots_of(growth, depth) * np.sinc(psi / math.pi))[..., None]
    parts = [(values * core)[..., None]]
    parts += [slope * turn for turn in (turn_u, turn_v) if turn.shape[-1] > 1]
    return np.concatenate(parts, axis=-1)[..., None]


def _angle(first: Array, last: Array) -> Array:
    """Return angles between unit vectors, with all digits near 0 and pi."""
    apart, along = (np.linalg.norm(x, axis=-1) for x in (last - first, last + first))
    return np.asarray(2 * np.arctan2(apart, along))


def _turn(first: Array, last: Array) -> Array:
    """Return tangent vectors of spheres, ``log`` of unit vectors; any one for an angle of pi."""
    angle = _angle(first, last)[..., None]
    # The difference to the nearer one of both poles, freed of what is not tangent.
    rest = np.where(angle < math.pi / 2, last - first, last + first)
    rest = rest - np.sum(rest * first, axis=-1, keepdims=True) * first
    size = np.linalg.norm(rest, axis=-1, keepdims=True)
    axis = np.zeros_like(first)
    smallest = np.abs(first).argmin(axis=-1)[..., None]
    np.put_along_axis(axis, smallest, 1.0, axis=-1)
    axis = axis - np.sum(axis * first, axis=-1, keepdims=True) * first
    axis /= np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), _CLOSE)
    straight = size <= np.finfo(float).tiny
    return np.asarray(angle * np.where(straight, axis, rest / np.where(straight, 1.0, size)))


def radial_rate(position: Array, velocity: Array) -> tuple[Array, Array]:
    """Return a with the velocities nearest to ``a x``, and which are that to rounding."""
    x, v = (array.reshape(len(array), math.prod(array.shape[1:])) for array in (position, velocity))
    # Free of squares that over- or underflow; a vector of zero is radial, too.
    size, speed = (np.abs(array).max(axis=1, keepdims=True) for array in (x, v))
    x, v = x / size, v / np.where(speed == 0, 1.0, speed)
    pace = np.einsum("bi,bi->b", x, v) / np.einsum("bi,bi->b", x, x)
    rest = np.abs(v - pace[:, None] * x).max(axis=1)
    return pace * (speed / size)[:, 0], rest <= 8 * np.finfo(float).eps
