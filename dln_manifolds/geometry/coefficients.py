r"""Coefficients of the metric as functions of singular values, free of cancellation.

Notation: singular values ``s``, their roots ``l = s^(1/N)``, logarithmic ratios
``tau_ij = log(s_i / s_j)`` and ``u_ij = tau_ij / (2N) = log(l_i / l_j) / 2``. Then

.. math::
    a_{ij} = \frac{s_i^2 - s_j^2}{l_i^2 - l_j^2}
           = \frac{s_i s_j}{l_i l_j} \frac{\sinh \tau_{ij}}{\sinh(\tau_{ij} / N)}, \qquad
    \kappa_{ij} = \frac{\tanh N u_{ij}}{\tanh u_{ij}},

the spectrum of the metric of Chen (arXiv 2510.07324) in the end-to-end matrix X and in the root
chart. Every formula holds for real depths N >= 1, for equal singular values, and for ratios up to
the range of a double. ``depth = math.inf`` means the limit of the metric ``N g_N``: then
``a_ij = (s_i^2 - s_j^2) / (2 tau_ij)`` and ``a_ii = s_i^2`` (Cohen, Menon and Veraszto, arXiv
2210.12497).

At rank r the perpendicular directions are one more index 0 with root zero: ``a_i0 = s_i^2 / l_i^2``
and, within the stratum of that rank, ``a_00 = 0``.
"""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dln_manifolds.numerics import functions
from dln_manifolds.numerics.arrays import Array

# Least ``s_i / s_j - 1``, below what doubles resolve: nothing is divided by zero.
NO_EXCESS = 1e-20


class IndexPairs(NamedTuple):
    """Index pairs i < j; functions of pairs are evaluated once for each."""

    first: Array
    second: Array
    # values.take(place, axis=-1) arranges them, followed by a value for the diagonal, as symmetric
    # matrices, antisymmetric after multiplication by the sign.
    place: Array
    sign: Array


@lru_cache(maxsize=16)
def index_pairs(n: int) -> IndexPairs:
    """Return the index pairs of n singular values."""
    first, second = np.triu_indices(n, 1)
    place = np.full((n, n), first.size)
    place[first, second] = place[second, first] = np.arange(first.size)
    sign = np.sign(np.arange(n) - np.arange(n)[:, None]).astype(float)
    return IndexPairs(first, second, place, sign)


@lru_cache(maxsize=8)
def index_triples(n: int) -> tuple[Array, Array]:
    """All index triples i <= j <= k, and the place of every sorted triple in that list."""
    triples = np.array(list(itertools.combinations_with_replacement(range(n), 3)))
    place = np.empty((n, n, n), dtype=int)
    for order in itertools.permutations(range(3)):
        i, j, k = triples[:, order].T
        place[i, j, k] = np.arange(len(triples))
    return triples, place


def symmetric_matrix(values: Array, n: int, diagonal: float = 0.0) -> Array:
    """Arrange values of index pairs as symmetric matrices with a constant diagonal."""
    padded = np.empty((*values.shape[:-1], values.shape[-1] + 1), values.dtype)
    padded[..., :-1], padded[..., -1] = values, diagonal
    return padded.take(index_pairs(n).place, axis=-1)


def log_ratio(values: Array) -> Array:
    """Return ``log(values_i / values_j)``, shape ``(..., r, r)``, exactly antisymmetric."""
    row, column = values[..., :, None], values[..., None, :]
    large, small = np.maximum(row, column), np.minimum(row, column)
    with np.errstate(over="ignore"):
        # The difference of neighbouring doubles is exact.
        excess = (large - small) / small
    # Past the range of a quotient the difference of logarithms loses nothing.
    far = ~np.isfinite(excess)
    magnitude = np.where(far, np.log(large) - np.log(small), np.log1p(np.where(far, 0.0, excess)))
    return np.where(row >= column, magnitude, -magnitude)


def kappa(u: Array, depth: float) -> Array:
    """Return ``kappa = tanh(N u) / tanh(u)``, N at u = 0; between 1 and N."""
    x = np.maximum(np.abs(u), _LINEAR)
    return np.tanh(depth * x) / np.tanh(x)


# Below this |u| the hyperbolic functions agree with their linear parts to the last bit.
_LINEAR = 1e-200
# Below this |2 N u| the poles of the closed forms cancel digits, and the series are summed.
_SERIES_RANGE = 0.5


@lru_cache(maxsize=64)
def _log_kappa_series(depth: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Taylor coefficients in u^2 of ``(d log kappa/du) / u`` and of ``d^2 log kappa/du^2``."""
    series = enumerate(functions.CSCH_SERIES)
    first = [2 ** (2 * k + 2) * (depth ** (2 * k + 2) - 1) * value for k, value in series]
    return tuple(first), tuple((2 * k + 1) * value for k, value in enumerate(first))


def pair_coefficients(excess: Array, depth: float) -> tuple[Array, Array, Array]:
    """Return ``u``, ``kappa`` and ``d log(kappa) / du`` of pairs ``l_i > l_j``.

    From ``q = l_i / l_j - 1 > 0`` alone, and ``s_i / s_j - 1 = (1 + q)^N - 1`` for ``N u``:
    ``coth(u) = 1 + 2/q``, ``1 / sinh(2u) = 1/q + 1/(q + 2)``.
    """
    double = np.log1p(excess)
    both = np.empty((2, *excess.shape))
    both[0] = excess
    np.expm1(np.minimum(depth * double, functions.HUGE), out=both[1])
    inverse = 1 / both
    coth = 1 + 2 * inverse
    inverse += 1 / (both + 2)
    slope = 2 * depth * inverse[1] - 2 * inverse[0]
    u = 0.5 * double
    near = double < _SERIES_RANGE / depth
    if near.any():
        small = u[near]
        slope[near] = small * functions.horner(_log_kappa_series(depth)[0], small * small)
    return u, coth[0] / coth[1], slope


def log_kappa_second_derivative(u: Array, depth: float) -> Array:
    """Return ``d^2 log(kappa) / du^2 = 4 cosh(2u)/sinh(2u)^2 - 4N^2 cosh(2Nu)/sinh(2Nu)^2``."""
    near = np.abs(u) < _SERIES_RANGE / (2 * depth)
    both = np.multiply.outer([2.0, 2.0 * depth], np.where(near, 1.0, u))
    shallow, deep = functions.csch(both) / np.tanh(both)
    value = 4 * (shallow - depth**2 * deep)
    if near.any():
        value[near] = functions.horner(_log_kappa_series(depth)[1], u[near] ** 2)
    return value


def cometric_slopes(outer: Array, inner: Array, gap: Array, depth: float) -> tuple[Array, Array]:
    """Divided differences by ``|u|`` of ``(1/kappa + kappa)/2`` and ``(1/kappa - kappa)/2``."""
    # The gap is known more accurately than outer - inner, and may be zero. Arguments are stacked:
    # few pairs cost by the call.
    n = depth
    both = np.stack([outer, inner])
    sums, doubles, gaps = (n + 1) * both, 2 * inner, np.stack([n * gap, gap])
    doubles = np.stack([n * doubles, doubles])
    quotients = functions.damped_sinhc(np.concatenate([sums, (n - 1) * both, doubles, gaps]))
    sum_a, sum_b, difference_a, difference_b, deep, shallow, gap_n, gap_1 = quotients
    decay, fade = np.exp(-2 * both), np.exp(-2 * (n - 1) * inner)
    langevin, tail = functions.coth_minus_reciprocal(gaps), functions.damped_sinhc_tail(doubles)
    # The divided difference of rho. The addition theorem for sinh turns it into a sum of terms of
    # one sign; each sinh is damped by its own exponential, so nothing overflows.
    braces = gap * (
        2 * (n * n - 1) * inner * sum_b * difference_b
        + 2 * n * langevin[0] * deep
        - 2 * langevin[1] * shallow * fade
    ) + 2 * (tail[0] - tail[1] * fade)
    scale = (n + 1) * sums[0] * sum_a * sum_b
    coincident = scale == 0
    quotient = braces / np.where(coincident, 1.0, scale)
    slope = np.where(coincident, 0.0, -n * gap_n * gap_1 * decay[1] * quotient)
    ratio = (n - 1) / (n + 1)
    rho_a, rho_b = ratio * decay[0] * difference_a / sum_a, ratio * decay[1] * difference_b / sum_b
    # 1 / (1 - rho^2) = (1 + kappa)^2 / (4 kappa)
    kappas = kappa(both, depth)
    slope = 2 * slope * np.prod((1 + kappas) ** 2 / (4 * kappas), axis=0)
    return slope * (rho_a + rho_b), -slope * (1 + rho_a * rho_b)


def log_a(s: Array, depth: float) -> Array:
    """Return ``log(a_ij)`` for all pairs, shape ``(..., r, r)``."""
    tau = log_ratio(s)
    log_s = np.log(s)
    mean = (1 - 1 / depth) * (log_s[..., :, None] + log_s[..., None, :])
    x = np.abs(tau)
    # sinh(x) / sinh(x/N) = exp(x - x/N) N dsinhc(x) / dsinhc(x/N) with the damped quotients
    quotient = functions.damped_sinhc(x) / functions.damped_sinhc(x / depth)
    return mean + (x - x / depth) + np.log(unit_of(depth) * quotient)


def log_a_of_roots(roots: Array, depth: float) -> Array:
    """Return ``log(a_ij)`` from roots l, whose powers s may underflow; zero roots included.

    ``2 (N - 1) log(max(l_i, l_j)) + log((1 - q^(2N)) / (1 - q^2))``, q the smaller over the larger.
    """
    within = np.maximum(roots, np.finfo(float).tiny)
    x, log_l = np.abs(log_ratio(within)), np.log(within)
    top = np.maximum(log_l[..., :, None], log_l[..., None, :])
    quotient = functions.damped_sinhc(depth * x) / functions.damped_sinhc(x)
    return 2 * (depth - 1) * top + np.log(depth * quotient)


def unit_of(depth: float) -> float:
    """Return N, one at infinite depth: ``a_ii = unit_of(N) s_i^2 / l_i^2``."""
    return depth if math.isfinite(depth) else 1.0


def a(s: Array, depth: float) -> Array:
    """Return ``a_ij = (s_i^2 - s_j^2) / (l_i^2 - l_j^2)``, ``N s_i^(2 - 2/N)`` on the diagonal."""
    n = s.shape[-1]
    first, second, _, _ = index_pairs(n)
    larger, smaller = s.take(first, axis=-1), s.take(second, axis=-1)
    excess = np.maximum((larger - smaller) / smaller, NO_EXCESS)
    logarithm = np.log1p(excess)
    # 2 sinh(tau) = q (1 + 1 / (1 + q)) for tau = log(1 + q)
    quotient = excess * (1 + 1 / (1 + excess))
    if math.isfinite(depth):
        root_excess = np.expm1(logarithm / depth)
        quotient /= root_excess * (1 + 1 / (1 + root_excess))
    else:
        quotient /= 2 * logarithm
    power = s / s ** (1 / depth)
    matrix = symmetric_matrix(quotient, n, unit_of(depth))
    return matrix * (power[..., :, None] * power[..., None, :])


def a_side(s: Array, depth: float) -> Array:
    """Return ``a_i0 = s_i^(2 - 2/N)`` of the blocks beside the core, shape ``(..., r)``."""
    return (s / s ** (1 / depth)) ** 2


def log_a_derivative(tau: Array, depth: float) -> Array:
    """Return ``d log(a_ij) / d log(s_i) = 1 - 1/N + coth(tau) - coth(tau/N) / N``."""
    langevin = functions.coth_minus_reciprocal
    near = 1 - 1 / depth + langevin(tau) - langevin(tau / depth) / depth
    # Where s_i is far below s_j the terms above cancel; their exponential tails do not.
    x = np.where(tau < -1, -tau, 1.0)
    pole = np.exp(-x / depth) * functions.csch(x / depth) / depth if math.isfinite(depth) else 1 / x
    return np.where(tau < -1, pole - np.exp(-x) * functions.csch(x), near)


def log_a_second_derivative(tau: Array, depth: float) -> Array:
    """Return ``d^2 log(a_ij) / d log(s_i)^2 = sinh(tau/N)^-2 / N^2 - sinh(tau)^-2``."""
    if not math.isfinite(depth):
        return functions.coth_minus_reciprocal_derivative(tau)
    # Near zero without the common pole; beyond, without what hides exponentially small terms.
    near = np.abs(tau) < depth
    small = np.where(near, tau, 0.0)
    shallow = functions.coth_minus_reciprocal_derivative(small / depth) / depth**2
    large = np.where(near, depth, tau)
    far = (functions.csch(large / depth) / depth) ** 2 - functions.csch(large) ** 2
    return np.where(near, functions.coth_minus_reciprocal_derivative(small) - shallow, far)


def a_second_difference(s: Array, depth: float, triples: Array) -> Array:
    """Second divided differences of ``x^N`` at ``x = l^2``: ``(a_ij - a_kj) / (x_i - x_k)``.

    Of index triples i <= j <= k, shape (m, 3), of singular values in descending order. At infinite
    depth those of ``exp(x)`` at ``x = 2 log(s)``.
    """
    first, middle, last = triples.T
    tau = log_ratio(s)
    # Both non-negative
    above, below = tau[..., first, middle], tau[..., middle, last]
    if not math.isfinite(depth):
        return s[..., middle] ** 2 * _mean_rise(_exponential_rise, 2 * above, 2 * below, 0.5)
    root = s ** (1 / depth)
    p, q = above / depth, below / depth
    k = 2 * depth - 1

    def rise(x: Array) -> Array:
        # ((exp(K x) - cosh x)/sinh x - K) / x, finite at zero
        nonzero = np.where(x == 0, 1.0 / k, x)
        numerator = functions.exp_minus_linear(k * nonzero) - 2 * np.sinh(nonzero / 2) ** 2
        numerator -= k * functions.sinh_minus_identity(nonzero)
        return np.where(x == 0, (k * k - 1) / 2, numerator / (nonzero * np.sinh(nonzero)))

    mean = _mean_rise(rise, p, q, (k * k - 1) / 2)
    power = (s / root)[..., middle] ** 2 / (root[..., first] * root[..., last])
    return power * mean / (4 * functions.sinhc(p + q))


def _mean_rise(rise: Callable[[Array], Array], p: Array, q: Array, at_zero: float) -> Array:
    """Return the mean of ``rise(p)`` and ``rise(-q)`` weighed by p and q."""
    total = np.where(p + q == 0, 1.0, p + q)
    return np.where(p + q == 0, at_zero, (p * rise(p) + q * rise(-q)) / total)


def _exponential_rise(x: Array) -> Array:
    """Return ``(exp(x) - 1 - x) / x^2``, 1/2 at zero."""
    nonzero = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 0.5, functions.exp_minus_linear(nonzero) / (nonzero * nonzero))


def a_side_difference(s: Array, depth: float) -> Array:
    """Second divided differences of ``x^N`` at ``l_i^2``, ``l_j^2`` and zero, ``(..., r, r)``.

    Those with one argument zero are ``(a_i0 - a_j0) / (l_i^2 - l_j^2)``, the first divided
    differences of ``x^(N-1)``. At finite depths; not negative.
    """
    n = s.shape[-1]
    first, second, _, _ = index_pairs(n)
    larger, smaller = s.take(first, axis=-1), s.take(second, axis=-1)
    gap = 2 / depth * np.log1p(np.maximum((larger - smaller) / smaller, NO_EXCESS))
    # sinh((N-1) t) / sinh(t) for t = log(l_i / l_j) = gap / 2, by exponentials that decay
    quotient = np.exp((depth - 2) * gap / 2) * np.expm1((1 - depth) * gap) / np.expm1(-gap)
    power = s ** (1 - 2 / depth)
    matrix = symmetric_matrix(quotient, n, depth - 1)
    return matrix * (power[..., :, None] * power[..., None, :])
