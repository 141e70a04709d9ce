r"""Coefficients of the metric in the polar chart, as functions of the stretch.

End-to-end matrices of rank r are ``X = E_L (1 + D/N)^N E_R^T`` with a symmetric D, the *stretch*,
and orthonormal columns ``E_L`` and ``E_R``; in the limit of infinite depth ``X = E_L e^D E_R^T``.
With the eigenvalues ``d_i`` of D, roots ``l_i = 1 + d_i / N`` and kappa of
:mod:`dln_manifolds.geometry.coefficients`, the metric ``N g_N`` weighs the change of D by
``alpha_ij = kappa_ij / N`` and opposite turns of both sides by ``beta_ij = mean_ij^2 / alpha_ij``,
``mean_ij = (l_i + l_j) / 2``. All of them have limits at N = infinity: with
``tau(x) = log(tanh(x) / x)`` and ``h = N log(l_i / l_j) / 2``,

.. math:: \log \alpha = \tau(h) - \tau(h / N), \qquad h = (d_i - d_j) / 2 \text{ in the limit}.

(Ours.)
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.coefficients import (
    a,
    a_second_difference,
    index_pairs,
    index_triples,
    unit_of,
)
from dln_manifolds.numerics import functions
from dln_manifolds.numerics.arrays import Array


def per_layer(value: Array, depth: float) -> Array:
    """Return ``value / N``, zero at infinite depth."""
    return value / depth if math.isfinite(depth) else np.zeros_like(value)


def roots_of(stretch: Array, depth: float) -> Array:
    """Return the roots ``l = 1 + d / N``."""
    return 1.0 + per_layer(stretch, depth)


def log_values_of(stretch: Array, depth: float) -> Array:
    """Return ``log f(d) = N log(1 + d / N)``, d at infinite depth."""
    return depth * np.log1p(stretch / depth) if math.isfinite(depth) else stretch


def stretch_of(log_values: Array, depth: float) -> Array:
    """Return d of ``log f(d)``: the inverse of `log_values_of`."""
    return depth * np.expm1(log_values / depth) if math.isfinite(depth) else log_values


def first_differences(stretch: Array, depth: float) -> Array:
    """Return ``(f(d_i) - f(d_j)) / (d_i - d_j)``, the derivative of f where they are equal."""
    return a(_half_values(stretch, depth), depth) / unit_of(depth)


def second_differences(stretch: Array, depth: float) -> Array:
    """Return divided differences ``f[d_i, d_k, d_j]`` of descending d, ``(..., r, r, r)``."""
    triples, place = index_triples(stretch.shape[-1])
    values = a_second_difference(_half_values(stretch, depth), depth, triples)
    return values[..., place] / unit_of(depth) ** 2


def _half_values(stretch: Array, depth: float) -> Array:
    """Return ``f(d)^(1/2)``: singular values for which a is a difference of first order."""
    return np.exp(0.5 * log_values_of(stretch, depth))


# Below this |2 h| the poles of the closed forms cancel digits, and the series are summed.
_SERIES_RANGE = 0.5
# Least ratio of a gap to the roots, below what doubles resolve: nothing is divided by zero.
_NO_GAP = 1e-20
# Largest ratio of two roots of different sign.
_NEARLY_ONE = 1 - 1e-12


class PairWeights(NamedTuple):
    """Matrices ``(..., r, r)`` of pairs of a stretch; derivatives by ``d_i`` at [i, j].

    ``slope = d log(alpha_ij) / d d_i``; ``bend`` and ``mixed`` are its derivatives by ``d_i`` and
    by ``d_j``, None unless asked for.
    """

    alpha: Array
    slope: Array
    bend: Array | None = None
    mixed: Array | None = None


def pair_weights(stretch: Array, depth: float, *, second: bool = False) -> PairWeights:
    """Return the weights of all pairs of eigenvalues, shape ``(..., r)``, real or complex."""
    r = stretch.shape[-1]
    first, later, place, _ = index_pairs(r)
    low, high = stretch.take(first, axis=-1), stretch.take(later, axis=-1)
    h, alpha, shallow = _half_logarithm(high - low, low, depth)
    roots = roots_of(stretch, depth)[..., None]
    packed = np.empty((4 if second else 2, *h.shape[:-1], h.shape[-1] + 1), h.dtype)
    packed[0, ..., :-1], packed[0, ..., -1], packed[1:, ..., -1] = alpha, 1.0, 0.0
    packed[1, ..., :-1] = 0.5 * _tau_slope(h, shallow, depth)
    if second:
        above, below = roots_of(high, depth), roots_of(low, depth)
        product = above * below
        # cosh(2 h / N)
        widening = 0.5 * (above * above + below * below) / product
        curve = 0.25 * _tau_bend(h, shallow * shallow * widening, depth)
        packed[2, ..., :-1], packed[3, ..., :-1] = curve, -curve / product
    matrices = packed.take(place, axis=-1)
    # h is that of the later member of a pair, which stands below the diagonal.
    turned = _lower(r) * matrices[1]
    weights = PairWeights(matrices[0], turned / roots)
    if second:
        bend = (matrices[2] - per_layer(turned, depth)) / roots**2
        weights = PairWeights(*weights[:2], bend, matrices[3])
    if not np.iscomplexobj(stretch) and (roots[..., 0] <= 0).any():
        return _across_zero(stretch, depth, weights)
    return weights


def weights_between(x: Array, y: Array, depth: float) -> tuple[Array, Array]:
    """Return alpha of eigenvalues x and y, and the derivative of its logarithm by x."""
    h, alpha, shallow = _half_logarithm(x - y, y, depth)
    return alpha, 0.5 * _tau_slope(h, shallow, depth) / roots_of(x, depth)


@lru_cache(maxsize=16)
def _lower(r: int) -> Array:
    """Return the sign of i - j."""
    return np.sign(np.arange(r)[:, None] - np.arange(r)).astype(float)


def _across_zero(stretch: Array, depth: float, weights: PairWeights) -> PairWeights:
    """Replace the weights of pairs of which a root is not positive: analytic in ``l_i / l_j``.

    With the ratio q of the root of smaller modulus to the other,
    ``log(N alpha) = 2 artanh(q) - 2 artanh(sign(q) |q|^N)``. Second derivatives are set to zero:
    geodesics have ended there.
    """
    roots = roots_of(stretch, depth)
    row, column = np.broadcast_arrays(roots[..., :, None], roots[..., None, :])
    beyond = (np.minimum(row, column) <= 0) & ~np.eye(roots.shape[-1], dtype=bool)
    inner = np.abs(row) < np.abs(column)
    outer = np.where(inner, column, row)
    q = np.where(inner, row, column) / np.where(outer == 0, 1.0, outer)
    q = np.clip(np.where(beyond, q, 0.0), -_NEARLY_ONE, _NEARLY_ONE)
    power = np.abs(q) ** (depth - 1)
    deep = power * q
    alpha = (1 + q) * (1 - deep) / ((1 - q) * (1 + deep)) / depth
    pull = 2 / (1 - q * q) - 2 * depth * power / (1 - deep * deep)
    slope = np.where(inner, pull, -q * pull) / (depth * np.where(outer == 0, 1.0, outer))
    alpha, slope = np.where(beyond, alpha, weights.alpha), np.where(beyond, slope, weights.slope)
    if weights.bend is None or weights.mixed is None:
        return PairWeights(alpha, slope)
    bend, mixed = (np.where(beyond, 0.0, second) for second in (weights.bend, weights.mixed))
    return PairWeights(alpha, slope, bend, mixed)


def _half_logarithm(gap: Array, other: Array, depth: float) -> tuple[Array, Array, Array]:
    """Return ``h = N log(l_i / l_j) / 2``, alpha and ``1 / (N sinh(2 h / N))``.

    From ``d_i - d_j`` and ``d_j``.
    """
    gap = np.where(np.abs(gap) < _NO_GAP, _NO_GAP, gap)
    if not math.isfinite(depth):
        return 0.5 * gap, 2 * np.tanh(0.5 * gap) / gap, 1 / gap
    excess = gap / (depth + other)
    if not np.iscomplexobj(excess):
        # What lies beyond zero is replaced; see `_across_zero`.
        excess = np.where(excess > -1, excess, _NO_GAP)
    half, wide = 0.5 * depth * _log1p(excess), (2 + excess) * excess
    mean = (2 + excess) / (depth * excess)
    return half, mean * np.tanh(half), (2 + 2 * excess) / (depth * wide)


def _log1p(x: Array) -> Array:
    """Return ``log(1 + x)``, accurate at complex x too, which numpy's is not."""
    if not np.iscomplexobj(x):
        return np.log1p(x)
    square = x.real * (2 + x.real) + x.imag**2
    return 0.5 * np.log1p(square) + 1j * np.arctan2(x.imag, 1 + x.real)


@lru_cache(maxsize=64)
def _tau_series(depth: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Taylor coefficients in h^2 of the first derivative of log(alpha) by h, over h; the second."""
    series = enumerate(functions.CSCH_SERIES)
    first = [2.0 ** (2 * k + 2) * (1 - depth ** -(2.0 * k + 2)) * value for k, value in series]
    return tuple(first), tuple((2 * k + 1) * value for k, value in enumerate(first))


def _tau_slope(h: Array, shallow: Array, depth: float) -> Array:
    """Return ``tau'(h) - tau'(h/N) / N``, given ``1 / (N sinh(2 h / N))``."""
    near = 2 * np.abs(h) < _SERIES_RANGE
    small, large = np.where(near, h, 0.0), np.where(near, 1.0, h)
    value = 2 * (_csch(2 * large) - shallow)
    return np.where(near, small * functions.horner(_tau_series(depth)[0], small * small), value)


def _tau_bend(h: Array, shallow: Array, depth: float) -> Array:
    """Return ``tau''(h) - tau''(h/N) / N^2``, given ``cosh(2 h / N) / (N sinh(2 h / N))^2``."""
    near = 2 * np.abs(h) < _SERIES_RANGE
    small, large = np.where(near, h, 0.0), np.where(near, 1.0, h)
    value = 4 * (shallow - _csch(2 * large) / np.tanh(2 * large))
    return np.where(near, functions.horner(_tau_series(depth)[1], small * small), value)


def _csch(x: Array) -> Array:
    """Return ``1 / sinh(x)`` of numbers of both signs, or complex ones of any size that occurs."""
    if np.iscomplexobj(x):
        return functions.csch(x)
    return 1 / np.sinh(np.clip(x, -functions.HUGE, functions.HUGE))
