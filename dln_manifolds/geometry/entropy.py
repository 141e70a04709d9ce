r"""Entropy and volumes: functions of the singular values alone.

The fibre over X is an orbit of ``O(n)^(N-1)`` with volume

.. math::
    vol(O_X) = c_n^{N-1} \prod_{i<j} \sqrt{a_{ij}}, \qquad
    c_n = vol(O(n)) = 2^{n(n-1)/4} \prod_{k=1}^n \frac{2 \pi^{k/2}}{\Gamma(k/2)},

and the entropy is its logarithm (Menon and Yu, arXiv 2509.09088). Their van(Sigma^(2/N)) in the
denominator of ``a_ij = (s_i^2 - s_j^2) / (l_i^2 - l_j^2)`` is resolved at equal singular values.
"""

import math

import numpy as np

from dln_manifolds.geometry.coefficients import log_a, log_a_derivative, log_a_second_derivative
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import sinhc
from dln_manifolds.numerics.matrices import diagonal, parity_combine
from dln_manifolds.numerics.polynomials import gauss


def log_volume_orthogonal_group(n: int) -> float:
    """Return ``log(c_n)``, the volume of O(n) in the Frobenius metric."""
    return n * (n - 1) / 4 * math.log(2) + sum(
        math.log(2) + k / 2 * math.log(math.pi) - math.lgamma(k / 2) for k in range(1, n + 1)
    )


def entropy(singular_values: Array, depth: float) -> Array:
    r"""Return ``S = (N-1) log c_n + (1/2) sum_{i<j} log a_ij``, shape ``(...)``."""
    n = singular_values.shape[-1]
    row, column = np.triu_indices(n, 1)
    pairs = log_a(singular_values, depth)[..., row, column]
    return (depth - 1) * log_volume_orthogonal_group(n) + 0.5 * np.sum(pairs, axis=-1)


def log_riemannian_density(singular_values: Array, depth: float) -> Array:
    r"""Return ``(1/2) log det g = -(1/2) sum_i log a_ii - sum_{i<j} log a_ij``, shape ``(...)``."""
    return -0.5 * np.sum(log_a(singular_values, depth), axis=(-2, -1))


def _entropy_rates(frame: Frame) -> Array:
    """Return ``dS/d log(s_i) = (1/2) sum_{j != i} d log a_ij / d log s_i``, shape ``(..., n)``."""
    rates = log_a_derivative(2 * frame.depth * frame.half_log_ratio, frame.depth)
    # The diagonal holds the value at tau = 0, which does not belong to the sum over j != i.
    diagonal(rates)[...] = 0.0
    return 0.5 * np.sum(rates, axis=-1)


def log_riemannian_density_differential(frame: Frame) -> Array:
    """Return the Euclidean gradient by X of `log_riemannian_density`, ``(..., n, n)``."""
    rates = log_a_derivative(2 * frame.depth * frame.half_log_ratio, frame.depth)
    return frame.compose(-np.sum(rates, axis=-1) / frame.singular_values)


def entropy_gradient(frame: Frame) -> Array:
    """Return the Riemannian gradient ``U diag(a_ii dS/ds_i) V^T`` of the entropy, ``(..., n, n)``.

    It equals minus the push-forward of the mean curvature vector of the fibre.
    """
    rates = _entropy_rates(frame)
    return frame.compose(frame.depth * frame.singular_values / frame.roots**2 * rates)


def entropy_differential(frame: Frame) -> Array:
    r"""Return the Euclidean gradient ``U diag(dS/ds_i) V^T`` of the entropy, ``(..., n, n)``."""
    return frame.compose(_entropy_rates(frame) / frame.singular_values)


# Divided differences are means of derivatives over intervals of length below _NEAR, with poles at
# a distance of pi: 8 Gauss nodes leave an error below rounding.
_NODES, _WEIGHTS = gauss(8)
_NEAR = 1.0


class EntropyHessian:
    r"""Euclidean second derivative of the entropy at square matrices X, for repeated application.

    With ``f_i = dS/ds_i`` the derivative of ``U diag(f) V^T`` along Z is, in the frame,
    ``sum_j (df_i/ds_j) Z~_jj`` on the diagonal; beside it ``(f_i - f_j)/(s_i - s_j)`` times the
    symmetric part of Z~ plus ``(f_i + f_j)/(s_i + s_j)`` times the antisymmetric one.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        s = frame.singular_values
        tau = 2 * frame.depth * frame.half_log_ratio
        rates = _entropy_rates(frame)
        slopes = rates / s
        row, column = s[..., :, None], s[..., None, :]
        bend = 0.5 * log_a_second_derivative(tau, frame.depth)
        diagonal(bend)[...] = 0.0
        self._diagonal = -bend / (row * column)
        diagonal(self._diagonal)[...] = (bend.sum(axis=-1) - rates) / s**2

        # By the larger s_i: ((g_i - g_j)/(s_i - s_j) - g_j/s_j) / s_i with g_i = s_i f_i.
        spacing = np.sqrt(row) * np.sqrt(column) * sinhc(0.5 * tau)
        quotient = _rate_differences(tau, rates, frame.depth) / spacing
        slope_of_smaller = np.where(row >= column, slopes[..., None, :], slopes[..., :, None])
        self._symmetric = (quotient - slope_of_smaller) / np.maximum(row, column)
        self._antisymmetric = (slopes[..., :, None] + slopes[..., None, :]) / (row + column)

    def apply(self, vector: Array) -> Array:
        """Return the derivative of the Euclidean gradient along Z, shape ``(..., n, n)``."""
        inside = self.frame.enter(vector)
        image = parity_combine(self._symmetric, self._antisymmetric, inside)
        diagonal(image)[...] = (self._diagonal @ diagonal(inside)[..., None])[..., 0]
        return self.frame.leave(image)


def _rate_differences(tau: Array, rates: Array, depth: float) -> Array:
    """Return ``(g_i - g_j) / tau_ij`` of the rates ``g = dS / d log(s)``, limits at tau = 0."""
    far = np.abs(tau) >= _NEAR
    difference = rates[..., :, None] - rates[..., None, :]
    quotient = np.where(far, difference, 0.0) / np.where(far, tau, 1.0)
    *member, i, j = np.nonzero(~far)
    if len(i):
        # g_i - g_j sums differences of one function at tau_ik and tau_jk, over all k.
        start = tau[(*member, j)]
        gap = tau[(*member, i, j)]
        nodes = start[:, None, :] + gap[:, None, None] * _NODES[:, None]
        mean = np.einsum("q,pqk->p", _WEIGHTS, log_a_second_derivative(nodes, depth))
        quotient[(*member, i, j)] = 0.5 * mean
    return quotient
