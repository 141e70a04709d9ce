r"""Rigorous bounds of distances: no geodesic is solved, all costs a few decompositions.

**Lower bound**, for every real N >= 1, shape and rank (ours). With sorted root singular values l,
``A = U_1^T U_0``, ``B = V_1^T V_0``, ``|.|_*`` the nuclear norm and ``L = diag(l)``,

.. math::
    d^2 \ge N |l_0 - l_1|^2 + 2 c_1 (2 l_0 \cdot l_1 - |L_1 (A + B) L_0|_*)
            + 2 c_2 (2 l_0 \cdot l_1 - |L_1 A L_0|_* - |L_1 B L_0|_*),

``c_1 = N/2, c_2 = 0`` for N <= 2; ``c_1 = 2/N, c_2 = min(1 - 2/N, (N^2 - 4) / (6 N))`` beyond. The
last two terms are not negative, by von Neumann's trace inequality. They are the squared distance at
N = 2, or a bound of it, of best aligned factors, and those of Bures and Wasserstein of ``T T^T``
and ``T^T T``; each is that of a metric of the root chart, and the metric is at least the same
combination of them. That holds sector by sector if, for all u > 0,

.. math::
    \tanh N u \ge (c_1 + c_2) \tanh 2 u, \qquad \coth N u \ge c_1 \coth 2 u + c_2 \tanh 2 u,

and ``c_1 + c_2 <= 1`` beside the core. The proof is complete. N <= 2: tanh is concave, and
``coth(N u) / N`` decreases with N. N >= 4: by ``coth a - tanh b = cosh(a - b) / (sinh a cosh b)``
the second one is ``(M - 1) tanh y >= tanh((M - 1) y)`` with ``M = N/2, y = 2u``. Between,
``(M coth(M y) - coth y) / (M^2 - 1)`` decreases with M, term by term in its partial fractions, to
``tanh(y) / 3`` at M = 2.

**Upper bound**: the length of a path that exists. After alignment, ``P`` the orthogonal polar
factor of ``L_1 (A + B) L_0``, both frames turn with constant velocities from ``U_0`` to ``U_1 P``
and ``V_0`` to ``V_1 P``, in at most 2r dimensions (or their spaces go straight and they turn inside
these, if that is shorter), while the stretch of the polar chart
(:mod:`dln_manifolds.geometry.stretch`) goes straight. Of that path the angle as seen from the tip
is measured, and the cone law of :mod:`dln_manifolds.geometry.scaling` gives the shortest path with
that angle. The speed is exact, the integral is that of Gauss' rule, rounded up by its difference
from a smaller rule.

At infinite depth both are limits of ``sqrt(N)`` times the bounds, of the metric ``N g_N``.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.facing import (
    common_bases,
    completed,
    signed_polar,
    skew_logarithm,
)
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.stretch import pair_weights, per_layer, roots_of, stretch_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import log_quotient
from dln_manifolds.numerics.matrices import diagonal, rotation, size_of, transpose, weigh
from dln_manifolds.numerics.polynomials import combine, gauss, slopes_at_gauss

_EPS = float(np.finfo(float).eps)
# Nodes of the quadrature and of the one that it is compared with.
_NODES, _FEWER_NODES = 24, 17
# Relative errors of what is computed, in units of the rounding, for each singular value.
_ROUNDINGS = 4 * _EPS
# Relative error of velocities of turns, the square of that of angles of rotations.
_TURNED = 1e-11
# Rounding of angles.
_ANGLE_ROUNDING = 1e-14


class Bounds(NamedTuple):
    """What distances are at least and at most."""

    lower: Array
    upper: Array


class _Sizes(NamedTuple):
    """Points of size one, ``sum l_i^2 = r``: their stretch, and N times the log of the size.

    The size is relative to the largest root; ``rounding`` is what that of the matrix does to
    lengths in the metric ``N g_N``.
    """

    stretch: Array
    log_size: Array
    rounding: Array


def lower_bound(first: Frame, last: Frame) -> Array:
    """Return rigorous lower bounds of distances, shape ``(...)``, rounded down; see above.

    Never below ``sqrt(N) |l_0 - l_1|`` but for rounding, which includes that of the matrices: a
    singular value of X is known to a few eps times the largest.
    """
    depth, rank = first.depth, first.values.shape[-1]
    start, end = _sizes(first), _sizes(last)
    roots_0, roots_1 = roots_of(start.stretch, depth), roots_of(end.stretch, depth)
    left, right = couplings(first, last)
    product = roots_1[..., :, None] * roots_0[..., None, :]
    most = 2 * np.sum(roots_0 * roots_1, axis=-1)
    uncertain = _ROUNDINGS * (rank + 1) * most
    square = np.sum((start.stretch - end.stretch) ** 2, axis=-1)
    weight, weight_apart = _weights(depth)
    together = _nuclear(product * (left + right))
    square = square + 2 * weight * np.maximum(most - together - uncertain, 0.0)
    if weight_apart:
        apart = _nuclear(product * left) + _nuclear(product * right)
        square = square + 2 * weight_apart * np.maximum(most - apart - uncertain, 0.0)
    chord = np.sqrt(square) - start.rounding - end.rounding
    return _at_sizes(first, last, start, end, np.maximum(chord, 0.0), -_ROUNDINGS * rank)


def upper_bound(first: Frame, last: Frame) -> Array:
    """Return lengths of paths between points, shape ``(...)``, rounded up; see above.

    Infinite where no path exists: between components of square matrices of full rank.
    """
    depth, rank = first.depth, first.values.shape[-1]
    start, end = _sizes(first), _sizes(last)
    turn, connected = _alignment(first, last, start, end)
    frames = (
        (first.left, last.left @ turn),
        (transpose(first.right_t), transpose(last.right_t) @ turn),
    )
    ways = [[_steady_turn(*pair) for pair in frames]]
    if any(first.sides):
        ways.append([_least_turn(*pair) for pair in frames])
    there = transpose(turn) @ (end.stretch[..., :, None] * turn)
    ends = start.stretch[..., :, None] * np.eye(rank), 0.5 * (there + transpose(there))
    angles = ([_angle(*ends, way, depth, n) for n in (_NODES, _FEWER_NODES)] for way in ways)
    chord = np.min([angle + np.abs(angle - other) for angle, other in angles], axis=0)
    if math.isfinite(depth):
        # No angle as seen from the tip is larger than pi: a straight line leads through there.
        whole = 2 * depth * math.sqrt(rank)
        chord = whole * np.sin(np.minimum(chord / whole, math.pi / 2))
    chord = chord * (1 + _TURNED) + start.rounding + end.rounding
    length = _at_sizes(first, last, start, end, chord, _ROUNDINGS * rank)
    return np.where(connected, length, np.inf)


def couplings(first: Frame, last: Frame) -> tuple[Array, Array]:
    """Return ``U_1^T U_0`` and ``V_1^T V_0``, shape ``(..., r, r)``."""
    return transpose(last.left) @ first.left, last.right_t @ transpose(first.right_t)


def _weights(depth: float) -> tuple[float, float]:
    """Return ``N c_1`` and ``N c_2``; at infinite depth what the latter weighs has gone."""
    if not math.isfinite(depth):
        return 2.0, 0.0
    if depth <= 2:
        return depth * depth / 2, 0.0
    return 2.0, min(depth - 2, (depth * depth - 4) / 6)


def _nuclear(matrix: Array) -> Array:
    """Return sums of singular values."""
    return np.asarray(np.linalg.svd(matrix, compute_uv=False).sum(axis=-1))


def _sizes(frame: Frame) -> _Sizes:
    """Return the stretch of a point of size one, and its size."""
    depth = frame.depth
    below = frame.power * log_quotient(frame.values, frame.values[..., :1])
    if math.isfinite(depth):
        mean = np.expm1(2 * below / depth).mean(axis=-1, keepdims=True)
        middle = 0.5 * depth * np.log1p(mean)
    else:
        middle = below.mean(axis=-1, keepdims=True)
    stretch = stretch_of(below - middle, depth)
    # delta d_i = l_i (delta s_i) / s_i, with singular values known relative to the largest
    uncertain = roots_of(stretch, depth) * np.exp(-below / frame.power)
    rounding = _ROUNDINGS * np.sqrt(np.sum(uncertain**2 + stretch**2, axis=-1))
    return _Sizes(stretch, middle[..., 0], rounding)


def _at_sizes(
    first: Frame, last: Frame, start: _Sizes, end: _Sizes, chord: Array, rounding: float
) -> Array:
    """Return distances of points from those of the same points of size one, in ``N g_N``."""
    depth, rank = first.depth, first.values.shape[-1]
    growth = first.power * log_quotient(last.values[..., 0], first.values[..., 0])
    growth = growth + end.log_size - start.log_size
    # The radial part is uncertain by the rounding of the largest singular value.
    radial = math.sqrt(rank) * np.abs(stretch_of(-np.abs(growth), depth))
    radial = np.maximum(radial + rounding, 0.0)
    length = np.hypot(radial, np.exp(-0.5 * per_layer(np.abs(growth), depth)) * chord)
    if math.isfinite(depth):
        larger = np.where(growth > 0, last.values[..., 0], first.values[..., 0])
        middle = np.where(growth > 0, end.log_size, start.log_size)
        size = larger ** (first.power / depth) * np.exp(middle / depth)
        length = length * size / math.sqrt(depth)
    return np.asarray(length * (1 + rounding))


def _alignment(first: Frame, last: Frame, start: _Sizes, end: _Sizes) -> tuple[Array, Array]:
    """Return P, and whether both frames can turn to it: square frames need rotations."""
    depth, rank = first.depth, first.values.shape[-1]
    both = left, right = couplings(first, last)
    roots_0, roots_1 = roots_of(start.stretch, depth), roots_of(end.stretch, depth)
    matrix = roots_1[..., :, None] * (left + right) * roots_0[..., None, :]
    square = (first.left.shape[-2] == rank, first.right_t.shape[-1] == rank)
    signs = [np.linalg.slogdet(c)[0] for c, flag in zip(both, square, strict=True) if flag]
    if not signs:
        return signed_polar(matrix, None), np.ones(matrix.shape[:-2], dtype=bool)
    return signed_polar(matrix, signs[0]), np.asarray(signs[0] * signs[-1] > 0)


class _Turn(NamedTuple):
    """How columns turn, as velocities in their own frame, shape ``(..., k, r)``.

    ``velocity + t change``, and beside that with the angular velocity ``inside`` of r x r rotations
    from the right.
    """

    velocity: Array
    change: Array
    inside: Array | None = None

    def at(self, t: Array) -> tuple[Array, Array]:
        """Return velocities among the columns and out of their space, ``(..., n_times, *, r)``."""
        rank = self.velocity.shape[-1]
        body = self.velocity[..., None, :, :] + t * self.change[..., None, :, :]
        core, side = body[..., :rank, :], body[..., rank:, :]
        if self.inside is None:
            return core, side
        gauge = rotation(t * self.inside[..., None, :, :])
        return transpose(gauge) @ core @ gauge + self.inside[..., None, :, :], side @ gauge


def _steady_turn(start: Array, end: Array) -> _Turn:
    """Return how orthonormal columns, ``(..., m, r)``, turn to others in ``min(m, 2r)`` dimensions.

    In an orthonormal basis that begins with ``start``, by ``exp(t Omega) C(t K)``: angles of
    rotations are known to 1e-6 only, and the Cayley transform C does the rest.
    """
    start, end = np.broadcast_arrays(start, end)
    rank = start.shape[-1]
    turn = completed(transpose(common_bases(start, end)) @ end)
    omega = skew_logarithm(turn)
    rest = transpose(rotation(omega)) @ turn
    rest = 0.5 * (rest - transpose(rest))
    return _Turn((omega + rest)[..., :rank], (omega @ rest - rest @ omega)[..., :rank])


def _least_turn(start: Array, end: Array) -> _Turn:
    """Return how columns turn if their space goes straight, which is what is dear in deep networks.

    On a geodesic of spaces, by their principal angles, while the columns turn inside.
    """
    start, end = np.broadcast_arrays(start, end)
    overlap = transpose(start) @ end
    inside = skew_logarithm(signed_polar(overlap, np.ones(overlap.shape[:-2])))
    return _steady_turn(start, end @ transpose(rotation(inside)))._replace(inside=inside)


def _angle(stretch: Array, aim: Array, turns: list[_Turn], depth: float, n_nodes: int) -> Array:
    """Return the angle of the path as seen from the tip, times the distance from there.

    ``(n_batch...)``; lengths in ``N g_N``, at size one, of the part of the motion that keeps the
    size, by Gauss' rule.
    """
    rank, rule = stretch.shape[-1], gauss(n_nodes)
    t = rule.nodes[:, None, None]
    rate = (aim - stretch)[..., None, :, :]
    here = stretch[..., None, :, :] + t * rate
    values, basis = np.linalg.eigh(here)
    cores, sides = zip(*(turn.at(t) for turn in turns), strict=True)
    middle = 0.5 * (cores[0] + cores[1])
    moved = transpose(basis) @ (rate + middle @ here - here @ middle) @ basis
    opposite = transpose(basis) @ (cores[0] - cores[1]) @ basis
    roots = roots_of(values, depth)
    mean = 0.5 * (roots[..., :, None] + roots[..., None, :])
    alpha = pair_weights(values, depth).alpha
    square = np.sum(alpha * moved**2 + (mean * opposite) ** 2 / alpha, axis=(-2, -1))
    if math.isfinite(depth):
        for side in sides:
            beside = (side @ basis) * roots[..., None, :]
            square = square + depth * np.sum(beside**2, axis=(-2, -1))
    size = np.sum(roots**2, axis=-1)
    square = square - np.sum(roots * diagonal(moved), axis=-1) ** 2 / size
    speed = np.sqrt(np.maximum(square, 0.0) * rank / size)
    return np.asarray(speed @ rule.weights)


def largest_angle(path: Callable[[Array], Array], end: Array) -> Array:
    """Return at most by what angle curves lead to their ends, seen from the tip of the cone.

    ``path`` gives points at times, ``(n_batch, n_times, *shape)``. By Gauss' rule, rounded up by
    the difference from a smaller rule, and by what the path misses its end of size one.
    """
    angle, other = (_seen_angle(path, n_nodes) for n_nodes in (_NODES, _FEWER_NODES))
    missed = size_of(path(np.ones(1))[:, 0] - end)
    return np.minimum(angle + np.abs(angle - other) + 2 * missed + _ANGLE_ROUNDING, np.pi)


def _seen_angle(path: Callable[[Array], Array], n_nodes: int) -> Array:
    """Return the length of curves divided by their sizes."""
    rule = gauss(n_nodes)
    points = path(rule.nodes)
    axes = tuple(range(2, points.ndim))
    points = weigh(1 / np.sqrt(np.sum(points**2, axis=axes)), points)
    slopes = combine(slopes_at_gauss(n_nodes), points)
    return np.asarray(np.sqrt(np.sum(slopes**2, axis=axes)) @ rule.weights)
