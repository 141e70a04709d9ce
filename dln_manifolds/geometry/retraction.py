r"""A retraction of second order that is finite, and keeps the rank, for every finite step.

Write ``X = E_L M E_R^T`` with orthonormal columns ``E_L`` and ``E_R`` and a positive definite
``M = H^N``, or ``M = e^D`` at infinite depth, that starts as ``diag(s)``; at square full rank
``E_R`` stays. The Taylor polynomial of a geodesic gives those of all three. The first two are
continued by the Cayley transform, which is always orthogonal; the last one by a function with the
same Taylor polynomial that is always positive: straight where H grows, as geodesics of the root
chart nearly are.

At square full rank ``T = E_L H E_R^T`` has the same frames. Wide matrices take the Taylor
polynomial of T instead, by differences along the flow of the root chart: no table of triples.
"""

import math

import numpy as np

from dln_manifolds.geometry.coefficients import a, a_second_difference, index_triples, unit_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.metric import CometricDerivative
from dln_manifolds.geometry.rank import resolution
from dln_manifolds.geometry.stretch import log_values_of, per_layer, stretch_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, parity_combine, transpose

# Steps longer than this, relative to |X|, are cut: the result is far beyond any use anyway.
_LONGEST = 1e30
_SMALLEST, _LARGEST = 1e-250, 1e150
# Larger singular values, or ones below the inverse, have powers that may not be doubles.
_ORDINARY = 1e60
_FASTEST = 1e6
# Turns up to this Frobenius norm keep orthogonality also by an inverse, a fifth of the work.
_SLOW = 8.0
# Rank from which matrices are wide, if no ratio of roots, or of the step to them, is beyond _EVEN;
# steps of differences, relative to the least root and its period; their weights of fourth order.
_WIDE, _EVEN, _STEP = 100, 1e6, 3e-3
_DIFFERENCES = ((1, 2 / 3), (2, -1 / 12))
# The smallest singular value stays this factor above what counts as zero.
_MARGIN = 2.0
# From this depth on roots of doubles never differ enough for H to lose the smallest.
_DEEP = 20.0


def acceleration_in_frame(derivative: CometricDerivative, velocity: Array) -> Array:
    """Return the blocks of ``X''(0) = DA[Z](P) - A(d<P, A P>/dX) / 2`` of the geodesic along Z."""
    # The momentum is as badly scaled as A: it must not leave the frame.
    weights = derivative.frame.weights
    momentum = velocity / weights
    force = derivative.gradient_in_frame(momentum, momentum)
    return derivative.along_in_frame(velocity, momentum) - 0.5 * weights * force


def power_differences(frame: Frame) -> tuple[Array, Array]:
    """Return divided differences of ``x^N`` at roots, of ``e^x`` at infinite depth, at log(s).

    First ones by [i, j], second ones by [i, k, j]: the derivatives of ``H -> H^N``.
    """
    # Those of a at square roots of s.
    half = np.sqrt(frame.singular_values)
    triples, place = index_triples(half.shape[-1])
    return a(half, frame.depth), a_second_difference(half, frame.depth, triples)[..., place]


def retract(derivative: CometricDerivative, tangent_vec: Array) -> Array:
    """Return ``exp_X(Z)`` to second order: invertible, in the component of X, for any finite Z."""
    s = derivative.frame.singular_values
    size = np.abs(tangent_vec).max(axis=(-2, -1), keepdims=True)
    longest = _LONGEST * np.minimum(s[..., :1, None], 1e270)
    tangent_vec = tangent_vec * (longest / np.maximum(size, longest))
    largest = float(s.max(initial=0.0))
    if not s.size or 1 / _ORDINARY < largest < _ORDINARY:
        return _retract(derivative, tangent_vec, 1.0, (_SMALLEST, _LARGEST))
    unit = CometricDerivative(derivative.frame.scaled(1 / np.asarray(largest)))
    bounds = min(_SMALLEST, float(s.min())), max(_LARGEST, largest)
    return _retract(unit, tangent_vec / largest, largest, bounds)


def _retract(
    derivative: CometricDerivative, tangent_vec: Array, unit: float, bounds: tuple[float, float]
) -> Array:
    """Return the retraction, with point and step given in a unit of length."""
    frame = derivative.frame
    s, (rows, columns) = frame.singular_values, (frame.left.shape[-2], frame.right_t.shape[-1])
    # Of T and H, or of X and M.
    of_root = _root_derivatives(frame, tangent_vec)
    if of_root is None:
        first, values = frame.blocks(tangent_vec), s
        second = acceleration_in_frame(derivative, first)
    else:
        (first, second), values = of_root, frame.roots
    row, column = values[..., :, None], values[..., None, :]
    core, *sides = frame.split(first)
    # X' = k M + M' in the core, b M beside it, with E_L' = U k + b_L and E_R' = b_R.
    skew_1 = (core - transpose(core)) / (row + column)
    sym_1 = core - skew_1 * column
    turns_1 = [side / column for side in sides]
    core, *sides = frame.split(second)
    core = core - (skew_1 @ skew_1) * column - 2 * skew_1 @ sym_1
    # Beside the core E'' = b' + b k, with k = 0 on the right.
    turns = turns_1
    if any(frame.sides):
        left, right = turns_1
        core = core + transpose(left) @ left * column + row * (transpose(right) @ right)
        left_2 = (sides[0] - 2 * left @ sym_1) / column - left @ skew_1
        right_2 = (sides[1] - 2 * right @ (sym_1 - row * skew_1)) / column
        turns = [left + 0.5 * left_2, right + 0.5 * right_2]
    skew_2 = (core - transpose(core)) / (row + column)
    sym_2 = core - skew_2 * column
    sym_1, sym_2 = (0.5 * (x + transpose(x)) for x in (sym_1, sym_2))
    if of_root is None:
        slope, bend = power_differences(frame)
        sym_1 = sym_1 / slope
        sym_2 = (sym_2 - 2 * np.einsum("...ikj,...ik,...kj->...ij", bend, sym_1, sym_1)) / slope
    axes, log_values = _stretched(frame, sym_1 + 0.5 * sym_2)
    log_values = log_values + math.log(unit)
    values = np.exp(np.clip(log_values, math.log(bounds[0]), math.log(bounds[1])))
    least = _MARGIN * resolution(max(rows, columns), np.dtype(float))
    floor = np.minimum(least, s[..., -1:] / s[..., :1])
    values = np.maximum(values, floor * values.max(axis=-1, keepdims=True))
    skew = skew_1 + 0.5 * skew_2
    left = _turned(frame.left, skew, turns[0])
    right = transpose(frame.right_t)
    if frame.sides[1]:
        right = _turned(right, np.zeros_like(skew), turns[1])
    return ((left @ axes) * values[..., None, :]) @ transpose(right @ axes)


def _root_derivatives(frame: Frame, tangent_vec: Array) -> tuple[Array, Array] | None:
    """Return T' and T'' of geodesics in the frame if T is square, wide and not too uneven."""
    depth, roots = frame.depth, frame.roots
    if roots.shape[-1] < _WIDE or any(frame.sides) or not math.isfinite(depth):
        return None
    first, least = parity_combine(*frame.chart_factors, frame.enter(tangent_vec)), roots[..., -1]
    size = frobenius(first)
    if (_EVEN * least < np.maximum(size, roots[..., 0])).any():
        return None
    point = roots[..., :, None] * np.eye(roots.shape[-1])
    here = nodal_state(point, depth, velocity=first)
    momentum, force = here.leave(here.momentum), -here.leave(here.gradient)
    period = min(1.0, math.pi / (2 * depth))
    h = (_STEP * period * least / np.maximum(size, least / _EVEN))[..., None, None]
    second = np.zeros_like(first)
    for multiple, weight in _DIFFERENCES:
        for way in (multiple * h, -multiple * h):
            there = nodal_state(point + way * first, depth, momentum=momentum + way * force)
            second += weight * multiple / way * there.leave(there.velocity)
    return first, second


def _stretched(frame: Frame, change: Array) -> tuple[Array, Array]:
    """Return axes and ``log(M)`` of the new M, from the Taylor polynomial of H in the frame."""
    s, depth = frame.singular_values, frame.depth
    scale = np.sqrt(frame.roots)
    relative = change / (scale[..., :, None] * scale[..., None, :])
    x, vectors = np.linalg.eigh(relative)
    # 1 + x + O(x^3), positive for every real x: 1 + x where x >= 0.
    vectors = scale[..., :, None] * vectors
    if depth < _DEEP:
        below = np.minimum(x, 0.0)
        positive = np.where(x >= 0, 1 + x, 1 / (1 - below + below * below))
        axes, roots, _ = np.linalg.svd(vectors * np.sqrt(positive)[..., None, :])
        return axes, 2 * depth * np.log(np.maximum(roots, np.finfo(float).tiny))
    # The same for D, H = 1 + D / N, of which H at great depth keeps few digits.
    x = unit_of(depth) * x
    below = -per_layer(np.minimum(x, 0.0), depth)
    change = x * (1 + below) / (1 + below + below * below)
    stretch = (vectors * change[..., None, :]) @ transpose(vectors)
    old = stretch_of(np.log(s), depth)
    values, axes = np.linalg.eigh(stretch + old[..., :, None] * np.eye(s.shape[-1]))
    return axes, log_values_of(np.maximum(values, -depth * (1 - np.finfo(float).eps)), depth)


def _turned(frame: Array, skew: Array, side: Array) -> Array:
    """Turn orthonormal columns E by the Cayley transform of ``E k E^T + b E^T - E b^T``."""
    rank = skew.shape[-1]
    if not side.shape[-2]:
        return frame @ _cayley(skew)
    # In the span of E and b, at most 2r-dimensional.
    normal, lengths, right_t = np.linalg.svd(side, full_matrices=False)
    lower = lengths[..., :, None] * right_t
    count = lower.shape[-2]
    above = np.concatenate([skew, -transpose(lower)], axis=-1)
    below = np.concatenate([lower, np.zeros((*lower.shape[:-1], count))], axis=-1)
    turn = _cayley(np.concatenate([above, below], axis=-2))[..., :rank]
    return frame @ turn[..., :rank, :] + normal @ turn[..., rank:, :]


def _cayley(skew: Array) -> Array:
    """Return ``(I - K/2)^{-1} (I + K/2)`` of a skew-symmetric K, orthogonal whatever its size."""
    if skew.size and frobenius(skew).max() <= _SLOW:
        identity = np.eye(skew.shape[-1])
        return 2 * np.linalg.inv(identity - 0.5 * skew) - identity
    size = np.abs(skew).max(axis=(-2, -1), keepdims=True)
    skew = skew * (_FASTEST / np.maximum(size, _FASTEST))
    angles, vectors = np.linalg.eigh(-0.5j * skew)
    phases = (1 + 1j * angles) / (1 - 1j * angles)
    return ((vectors * phases[..., None, :]) @ np.conj(transpose(vectors))).real
