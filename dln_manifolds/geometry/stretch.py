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

import numpy as np

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
