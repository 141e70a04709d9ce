r"""Entropy and volumes: functions of the singular values alone.

The fibre over X is an orbit of ``O(n)^(N-1)`` with volume

.. math::
    vol(O_X) = c_n^{N-1} \prod_{i<j} \sqrt{a_{ij}}, \qquad
    c_n = vol(O(n)) = 2^{n(n-1)/4} \prod_{k=1}^n \frac{2 \pi^{k/2}}{\Gamma(k/2)},

and the entropy is its logarithm (Menon and Yu, arXiv 2509.09088). Their van(Sigma^(2/N)) in the
denominator of ``a_ij = (s_i^2 - s_j^2) / (l_i^2 - l_j^2)`` is resolved at equal singular values.
"""

from __future__ import annotations

import math

import numpy as np

from dln_manifolds.spectral.coefficients import log_a, log_a_derivative
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import SingularFrame


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
    values = log_a(singular_values, depth)
    return -0.5 * np.sum(values, axis=(-2, -1))


def entropy_gradient(frame: SingularFrame) -> Array:
    r"""Return the Riemannian gradient of the entropy at X, shape ``(..., n, n)``.

    ``U diag(a_ii dS/ds_i) V^T`` with ``dS/ds_i = (1 / 2 s_i) sum_{j != i} d log a_ij / d log s_i``
    and ``a_ii / s_i = N s_i^(1 - 2/N)``. It equals minus the push-forward of the mean curvature
    vector of the fibre.
    """
    depth, n = frame.depth, frame.values.shape[-1]
    rates = log_a_derivative(2 * depth * frame.half_log_ratio, depth)
    # The diagonal holds the value at tau = 0, which does not belong to the sum over j != i.
    total = np.sum(np.where(np.eye(n, dtype=bool), 0.0, rates), axis=-1)
    return frame.compose(0.5 * depth * frame.singular_values / frame.roots**2 * total)
