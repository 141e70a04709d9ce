r"""The root chart ``X = U diag(s) V^T  ->  T = U diag(s^(1/N)) V^T``.

In this chart the metric has eigenvalues between 1/N and N whatever the singular values are:

.. math::
    g_T(v, v) = \sum_{ij} \kappa_{ij} S_{ij}^2 + K_{ij}^2 / \kappa_{ij},

S and K the symmetric and antisymmetric part of ``U^T v V``. All geodesic computations happen here.
"""

from __future__ import annotations

from dln_manifolds.spectral.coefficients import kappa
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import SingularFrame, parity_combine


def root_of(frame: SingularFrame) -> Array:
    """Return T of a frame."""
    return frame.compose(frame.roots)


def point_of(frame: SingularFrame) -> Array:
    """Return X of a frame."""
    return frame.compose(frame.singular_values)


def push_to_root(frame: SingularFrame, tangent_vec: Array) -> Array:
    """Differential of ``X -> T`` applied to a tangent vector at X."""
    symmetric, antisymmetric = frame.chart_factors
    return frame.leave(parity_combine(symmetric, antisymmetric, frame.enter(tangent_vec)))


def pull_from_root(frame: SingularFrame, root_vec: Array) -> Array:
    """Differential of ``T -> X`` applied to a tangent vector at T."""
    symmetric, antisymmetric = frame.chart_factors
    return frame.leave(parity_combine(1 / symmetric, 1 / antisymmetric, frame.enter(root_vec)))


def lower(frame: SingularFrame, root_vec: Array) -> Array:
    """Return the momentum ``P = g_T(v, .)`` of a velocity in the root chart."""
    weight = kappa(frame.half_log_ratio, frame.depth)
    return frame.leave(parity_combine(weight, 1 / weight, frame.enter(root_vec)))


def raise_(frame: SingularFrame, momentum: Array) -> Array:
    """Return the velocity of a momentum in the root chart: the cometric applied to P."""
    weight = kappa(frame.half_log_ratio, frame.depth)
    return frame.leave(parity_combine(1 / weight, weight, frame.enter(momentum)))
