r"""The chord of two end-to-end matrices: a distance and its logarithm, cheap and for every pair.

The chord is the straight line of the root chart, ``D = T_1 - T_0``, measured in the metric at its
middle: ``|D|^2 = g_M(D, D)`` with ``M = (T_0 + T_1) / 2``. That is the midpoint rule for the energy
of a geodesic (Marsden and West 2001, *Discrete mechanics and variational integrators*): its length
differs from the distance d by O(d^3), and so does minus the gradient of ``|D|^2 / 2`` from the
logarithm. With the momentum P of D and the Hamiltonian H at M it is the vector of the momentum

.. math:: P_0 = P + \tfrac12 \frac{\partial H}{\partial T}(M, P).

Exact at N = 1 and for equal singular vectors. Nothing is solved: matrices of different components
have a chord too, through singular matrices.

A straight line of T leaves the matrices of a lower rank, and in deep networks it is long where X
rotates. There the chord is a straight line of the factors of ``X = E_L f(D) E_R^T``, aligned by
the rotation that nearly identifies the frames of both ends; the midpoint rule again gives its
length. Its logarithm is the velocity at the first end of a curve that ends at the other one, plus
half its covariant acceleration: to the same order (ours).
"""

import numpy as np

from dln_manifolds.geometry.coefficients import kappa, unit_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.metric import CometricDerivative, root_of
from dln_manifolds.geometry.retraction import acceleration_in_frame, power_differences
from dln_manifolds.geometry.stretch import pair_weights, roots_of, stretch_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    frobenius,
    nearest_orthogonal,
    parity_combine,
    size_of,
    transpose,
)

_TINY = float(np.finfo(float).tiny)
_EPS = float(np.finfo(float).eps)
# From this depth on rotations bend straight lines of the root chart too much.
_DEEP = 10.0


def chord_length(first: Frame, last: Frame) -> Array:
    """Return the lengths of chords, shape ``(...)``, from the frames of both ends."""
    if not _in_root_chart(first):
        return _aligned_length(first, last)
    start, end = root_of(first), root_of(last)
    left, roots, right_t = np.linalg.svd(0.5 * (start + end))
    # Digits of close roots do not matter to kappa, which is even.
    log_roots = np.log(np.maximum(roots, _TINY))
    weight = kappa(0.5 * (log_roots[..., :, None] - log_roots[..., None, :]), first.depth)
    chord = transpose(left) @ (end - start) @ transpose(right_t)
    root = np.sqrt(weight)
    return size_of(parity_combine(root, 1 / root, chord), chord.ndim - 2)


def chord_log(first: Frame, last: Frame) -> Array:
    """Return minus the gradient of half the squared length by the first end, ``(..., n, n)``."""
    if not _in_root_chart(first):
        return _aligned_log(first, last)
    start, end = root_of(first), root_of(last)
    with np.errstate(all="ignore"):  # the middle of a long chord may be singular
        middle = nodal_state(0.5 * (start + end), first.depth, velocity=end - start)
        bend = _cut(0.5 * middle.gradient, middle.momentum)
    momentum = first.enter(middle.leave(middle.momentum + bend))
    # The differential of X -> T is symmetric in the frame.
    return first.leave(first.a * parity_combine(*first.chart_factors, momentum))


def _cut(bend: Array, vector: Array) -> Array:
    """Return a correction cut to the size of the vector that it corrects, zero if not finite."""
    # Where the expansion fails; a change of sixth order elsewhere.
    share = frobenius(bend) / np.maximum(frobenius(vector), _TINY)
    bend = bend / ((1 + share**4) ** 0.25)[..., None, None]
    return np.where(np.isfinite(bend), bend, 0.0)


def _in_root_chart(frame: Frame) -> bool:
    """Whether the chord is straight in the root chart."""
    return not frame.surplus and frame.depth < _DEEP


def _aligned(first: Frame, last: Frame) -> tuple[Array, Array, Array, Array, Array]:
    """Return frames and stretches of the last end in the basis of the first, and the size.

    Left and right frame, diagonal stretch of the first end, stretch of the last one: all in units
    of the largest root of the first end, which is the size.
    """
    depth, scale = first.depth, np.log(first.singular_values[..., :1])
    left = transpose(last.left) @ first.left
    right = last.right_t @ transpose(first.right_t)
    stretches = [stretch_of(np.log(x.singular_values) - scale, depth) for x in (first, last)]
    weights = [roots_of(stretch, depth) for stretch in stretches]
    cross = weights[1][..., :, None] * (left + right) * weights[0][..., None, :]
    gauge = nearest_orthogonal(cross)
    turned = transpose(gauge) @ (stretches[1][..., :, None] * gauge)
    size = np.exp(scale[..., 0] / depth)
    return last.left @ gauge, transpose(last.right_t) @ gauge, stretches[0], turned, size


def _halfway(start: Array, end: Array) -> tuple[Array, Array]:
    """Return turn and motion across of a frame with orthonormal columns, in the middle."""
    left, _, right_t = np.linalg.svd(start + end, full_matrices=False)
    middle, change = left @ right_t, end - start
    core = transpose(middle) @ change
    return 0.5 * (core - transpose(core)), change - middle @ core


def _aligned_length(first: Frame, last: Frame) -> Array:
    """Return the length of the straight line of aligned factors, by the rule of the midpoint."""
    left, right, old, new, size = _aligned(first, last)
    start, depth = old[..., :, None] * np.eye(old.shape[-1]), first.depth
    turn_l, across_l = _halfway(first.left, left)
    turn_r, across_r = _halfway(transpose(first.right_t), right)
    middle, common = 0.5 * (start + new), 0.5 * (turn_l + turn_r)
    change = new - start + common @ middle - middle @ common
    stretch, axes = np.linalg.eigh(middle)
    stretch = np.maximum(stretch, -depth * (1 - _EPS))
    roots, alpha = roots_of(stretch, depth), pair_weights(stretch, depth).alpha
    change, turn = transpose(axes) @ change @ axes, transpose(axes) @ (turn_l - turn_r) @ axes
    turn = turn * (0.5 * (roots[..., :, None] + roots[..., None, :]))
    # The metric N g_N in the polar chart.
    unit = unit_of(depth)
    square = np.sum(alpha * change**2 + turn**2 / alpha, axis=(-2, -1))
    for across in (across_l, across_r):
        square = square + unit * np.sum((across @ axes * roots[..., None, :]) ** 2, axis=(-2, -1))
    return size * np.sqrt(square / unit)


def _aligned_log(first: Frame, last: Frame) -> Array:
    """Return velocity plus half the covariant acceleration of a curve from one end to the other."""
    left, right, old, new, size = _aligned(first, last)
    s, identity = first.singular_values, np.eye(old.shape[-1])
    column = s[..., None, :]
    # Frames move by the Cayley transform of [[k, -b^T], [b, 0]], M = f(D) along a straight line.
    turns, sides = [], []
    for start, end in ((first.left, left), (transpose(first.right_t), right)):
        core = transpose(start) @ end
        turns.append(0.5 * (core - transpose(core)))
        sides.append((end - start @ core) @ (identity - 0.5 * turns[-1]))
    (k_l, k_r), (b_l, b_r) = turns, sides
    change = (new - old[..., :, None] * identity) / unit_of(first.depth)
    change = change * size[..., None, None]
    slope, bend = power_differences(first)
    grown = slope * change
    curved = 2 * np.einsum("...ikj,...ik,...kj->...ij", bend, change, change)
    velocity = k_l * column - s[..., :, None] * k_r + grown
    curved = curved + 2 * (k_l @ grown - grown @ k_r - k_l * column @ k_r)
    curved = curved + (k_l @ k_l - transpose(b_l) @ b_l) * column
    curved = curved + s[..., :, None] * (k_r @ k_r - transpose(b_r) @ b_r)
    down = b_l @ (k_l * column + 2 * (grown - s[..., :, None] * k_r))
    up = b_r @ (k_r * column + 2 * (grown - s[..., :, None] * k_l))
    velocity = first.stack(velocity, b_l * column, b_r * column)
    curved = first.stack(curved, down, up)
    curved = curved - acceleration_in_frame(CometricDerivative(first), velocity)
    velocity, curved = velocity / first.root_weights, curved / first.root_weights
    return first.assemble((velocity + _cut(0.5 * curved, velocity)) * first.root_weights)
