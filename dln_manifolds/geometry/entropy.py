r"""Entropy and volumes: functions of the singular values alone.

The fibre over X of rank r, in a network whose hidden widths are ``d_p``, is an orbit of the groups
``O(d_p)`` with volume

.. math::
    vol(O_X) = \prod_p \frac{c_{d_p}}{c_{d_p - r}} \prod_{i<j} \sqrt{a_{ij}} \prod_j l_j^D, \qquad
    c_n = vol(O(n)) = 2^{n(n-1)/4} \prod_{k=1}^n \frac{2 \pi^{k/2}}{\Gamma(k/2)}, \qquad
    D = \sum_p (d_p - r),

and the entropy is its logarithm: Menon and Yu, arXiv 2509.09088, for square X of full rank, where
the first factor is ``c_n^(N-1)``; ours otherwise. Their van(Sigma^(2/N)) in the denominator of
``a_ij = (s_i^2 - s_j^2) / (l_i^2 - l_j^2)`` is resolved at equal singular values.

Without ``widths`` there are N - 1 hidden widths r, for real N too. At infinite depth, where
``a_ij`` is its limit, the constant diverges and is left out.
"""

import math
from collections.abc import Sequence

import numpy as np

from dln_manifolds.geometry.coefficients import (
    log_a,
    log_a_derivative,
    log_a_of_roots,
    log_a_second_derivative,
    unit_of,
)
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.spectral_functions import SpectralHessian, SpectralJet
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal
from dln_manifolds.numerics.polynomials import gauss

# Hidden widths of a network; None for as wide as the rank.
Widths = Sequence[int] | None


def log_volume_orthogonal_group(n: int) -> float:
    """Return ``log(c_n)``, the volume of O(n) in the Frobenius metric."""
    return n * (n - 1) / 4 * math.log(2) + sum(
        math.log(2) + k / 2 * math.log(math.pi) - math.lgamma(k / 2) for k in range(1, n + 1)
    )


def _log_constant(rank: int, depth: float, widths: Widths) -> float:
    """Return ``sum_p log(c_{d_p} / c_{d_p - r})``."""
    log_c = log_volume_orthogonal_group
    if widths is not None:
        return sum(log_c(width) - log_c(width - rank) for width in widths)
    return (depth - 1) * log_c(rank) if math.isfinite(depth) else 0.0


def _surplus(widths: Widths, rank: int) -> int:
    """Return D, by how much hidden widths exceed the rank in total."""
    return sum(width - rank for width in widths) if widths is not None else 0


def entropy(singular_values: Array, depth: float, widths: Widths = None) -> Array:
    r"""Return ``sum_p log(c_{d_p} / c_{d_p-r}) + (1/2) sum_{i<j} log a_ij + D sum_j log l_j``."""
    return _entropy(log_a(singular_values, depth), singular_values, 1 / depth, depth, widths)


def entropy_of_roots(roots: Array, depth: float, widths: Widths = None) -> Array:
    """Return the entropy from roots ``l = s^(1/N)``, also where s underflows."""
    return _entropy(log_a_of_roots(roots, depth), roots, 1.0, depth, widths)


def _entropy(logarithms: Array, values: Array, power: float, depth: float, widths: Widths) -> Array:
    """Return the entropy from all ``log a_ij`` and from ``l = values ** power``."""
    r = values.shape[-1]
    row, column = np.triu_indices(r, 1)
    total = 0.5 * np.sum(logarithms[..., row, column], axis=-1)
    surplus = _surplus(widths, r)
    if surplus:
        total = total + surplus * power * np.sum(np.log(values), axis=-1)
    return _log_constant(r, depth, widths) + total


def log_riemannian_density(singular_values: Array, depth: float, surplus: int = 0) -> Array:
    r"""Return the logarithm of the Riemannian density by Hausdorff measure, shape ``(...)``.

    ``(1/2) log det g = -(1/2) sum_i log a_ii - sum_{i<j} log a_ij`` for the core, Lebesgue measure
    at square full rank; blocks beside it add ``-(1 - 1/N) (m + n - 2r) sum_i log s_i``, with
    ``surplus = m + n - 2r``.
    """
    core = -0.5 * np.sum(log_a(singular_values, depth), axis=(-2, -1))
    if not surplus:
        return core
    return core - (1 - 1 / depth) * surplus * np.sum(np.log(singular_values), axis=-1)


def log_riemannian_density_differential(frame: Frame) -> Array:
    """Return the Euclidean gradient by X of `log_riemannian_density`, ``(..., m, n)``."""
    rates = -np.sum(log_a_derivative(frame.log_ratio, frame.depth), axis=-1)
    rates -= (1 - 1 / frame.depth) * frame.surplus
    return frame.compose(rates / frame.singular_values)


def entropy_rates(frame: Frame, widths: Widths) -> Array:
    """Return ``dS/d log(s_i) = (1/2) sum_{j != i} d log a_ij / d log s_i + D / N``."""
    rates = log_a_derivative(frame.log_ratio, frame.depth)
    # The diagonal holds the value at tau = 0, which does not belong to the sum over j != i.
    diagonal(rates)[...] = 0.0
    return 0.5 * np.sum(rates, axis=-1) + _surplus(widths, rates.shape[-1]) / frame.depth


def entropy_gradient(frame: Frame, widths: Widths = None) -> Array:
    """Return the Riemannian gradient ``U diag(a_ii dS/ds_i) V^T`` of the entropy, ``(..., m, n)``.

    It equals minus the push-forward of the mean curvature vector of the fibre.
    """
    rates = entropy_rates(frame, widths)
    # One root after the other: their squares may be out of range.
    sizes = frame.singular_values / frame.roots / frame.roots
    return frame.compose(unit_of(frame.depth) * sizes * rates)


def entropy_differential(frame: Frame, widths: Widths = None) -> Array:
    r"""Return the Euclidean gradient ``U diag(dS/ds_i) V^T`` of the entropy, ``(..., m, n)``."""
    return frame.compose(entropy_rates(frame, widths) / frame.singular_values)


# Divided differences are means of derivatives over intervals of length below _NEAR, with poles at
# a distance of pi: 8 Gauss nodes leave an error below rounding.
_NODES, _WEIGHTS = gauss(8)
_NEAR = 1.0


def entropy_jet(frame: Frame, widths: Widths = None) -> SpectralJet:
    """Return the first and second derivatives of the entropy by ``log(s)``."""
    tau = frame.log_ratio
    rates = entropy_rates(frame, widths)
    bend = 0.5 * log_a_second_derivative(tau, frame.depth)
    diagonal(bend)[...] = 0.0
    seconds = -bend
    diagonal(seconds)[...] = bend.sum(axis=-1)
    # (g_i - g_j) / tau_ij of the rates g, with limits at tau = 0.
    far = np.abs(tau) >= _NEAR
    difference = rates[..., :, None] - rates[..., None, :]
    quotients = np.where(far, difference, 0.0) / np.where(far, tau, 1.0)
    *member, i, j = np.nonzero(~far)
    if len(i):
        # g_i - g_j sums differences of one function at tau_ik and tau_jk, over all k.
        start, gap = tau[(*member, j)], tau[(*member, i, j)]
        nodes = start[:, None, :] + gap[:, None, None] * _NODES[:, None]
        bends = log_a_second_derivative(nodes, frame.depth)
        quotients[(*member, i, j)] = 0.5 * np.einsum("q,pqk->p", _WEIGHTS, bends)
    return SpectralJet(rates, seconds, quotients)


class EntropyHessian(SpectralHessian):
    """Euclidean second derivative of the entropy along tangent vectors, to apply often."""

    def __init__(self, frame: Frame, widths: Widths = None) -> None:
        super().__init__(frame, entropy_jet(frame, widths))
