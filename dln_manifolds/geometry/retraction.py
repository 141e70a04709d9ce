r"""A retraction of second order that is finite and invertible for every finite step.

Write ``X = O H^N`` with an orthogonal O and a positive definite ``H = V diag(l) V^T``. The Taylor
polynomial of a geodesic gives those of O and of H; the first is continued by the Cayley transform,
which is always orthogonal, the second by a function with the same Taylor polynomial that is always
positive: straight where H grows, as geodesics of the root chart nearly are.
"""

import math

import numpy as np

from dln_manifolds.geometry.coefficients import a, a_second_difference, index_triples
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose

# Steps longer than this, relative to |X|, are cut: the result is far beyond any use anyway.
_LONGEST = 1e30
_SMALLEST, _LARGEST = 1e-250, 1e150
# Larger singular values, or ones below the inverse, have powers that may not be doubles.
_ORDINARY = 1e60
_FASTEST = 1e6
# The smallest singular value stays this factor above numerical singularity, n eps s_max.
_MARGIN = 8.0


def acceleration_in_frame(derivative: CometricDerivative, velocity: Array) -> Array:
    """Return ``X''(0) = DA[Z](P) - A(d<P, A P>/dX) / 2`` of the geodesic with velocity Z."""
    # The momentum is as badly scaled as A: it must not leave the frame.
    frame = derivative.frame
    momentum = velocity / frame.a
    force = derivative.gradient_in_frame(momentum, momentum)
    return derivative.along_in_frame(velocity, momentum) - 0.5 * frame.a * force


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
    s, n = frame.singular_values, frame.values.shape[-1]
    # Polar decomposition in the frame: U^T X(t) V = Q(t) M(t) with Q(0) = I, M(0) = diag(s).
    row, column = s[..., :, None], s[..., None, :]
    first = frame.enter(tangent_vec)
    skew_1 = (first - transpose(first)) / (row + column)
    sym_1 = first - skew_1 * column
    second = acceleration_in_frame(derivative, first)
    second = second - (skew_1 @ skew_1) * column - 2 * skew_1 @ sym_1
    skew_2 = (second - transpose(second)) / (row + column)
    sym_2 = second - skew_2 * column
    stretched = _stretch(frame, 0.5 * (sym_1 + transpose(sym_1)), 0.5 * (sym_2 + transpose(sym_2)))
    axes, roots, _ = np.linalg.svd(stretched)
    roots = np.maximum(roots, np.finfo(float).tiny)
    log_values = 2 * frame.depth * np.log(roots) + math.log(unit)
    values = np.exp(np.clip(log_values, math.log(bounds[0]), math.log(bounds[1])))
    floor = np.minimum(_MARGIN * n * np.finfo(float).eps, s[..., -1:] / s[..., :1])
    values = np.maximum(values, floor * values[..., :1])
    turned = _cayley(skew_1 + 0.5 * skew_2) @ axes
    return frame.leave((turned * values[..., None, :]) @ transpose(axes))


def _stretch(frame: Frame, first: Array, second: Array) -> Array:
    """Return B with ``B B^T`` the new H, from the derivatives of ``M = H^N`` in the frame."""
    # Divided differences of x^N at the roots l: those of a at square roots of s.
    half = np.sqrt(frame.singular_values)
    triples, place = index_triples(half.shape[-1])
    slope = a(half, frame.depth)
    bend = a_second_difference(half, frame.depth, triples)[..., place]
    root_1 = first / slope
    root_2 = (second - 2 * np.einsum("...ikj,...ik,...kj->...ij", bend, root_1, root_1)) / slope
    scale = np.sqrt(frame.roots)
    relative = (root_1 + 0.5 * root_2) / (scale[..., :, None] * scale[..., None, :])
    x, vectors = np.linalg.eigh(relative)
    # 1 + x + O(x^3), positive for every real x: 1 + x where x >= 0.
    below = np.minimum(x, 0.0)
    positive = np.where(x >= 0, 1 + x, 1 / (1 - below + below * below))
    return scale[..., :, None] * vectors * np.sqrt(positive)[..., None, :]


def _cayley(skew: Array) -> Array:
    """Return ``(I - K/2)^{-1} (I + K/2)`` of a skew-symmetric K, orthogonal whatever its size."""
    size = np.abs(skew).max(axis=(-2, -1), keepdims=True)
    skew = skew * (_FASTEST / np.maximum(size, _FASTEST))
    angles, vectors = np.linalg.eigh(-0.5j * skew)
    phases = (1 + 1j * angles) / (1 - 1j * angles)
    return ((vectors * phases[..., None, :]) @ np.conj(transpose(vectors))).real
