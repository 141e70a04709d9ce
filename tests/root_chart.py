"""The root chart by the frame of a point: what tests ask of it."""

from dln_manifolds.geometry.coefficients import kappa
from dln_manifolds.geometry.metric import lowered, raised
from dln_manifolds.numerics.matrices import parity_combine


def kappa_factors(frame):
    """``cosh`` and ``sinh`` of ``log(kappa_ij)``."""
    weight = kappa(frame.half_log_ratio, frame.depth)
    return 0.5 * (weight + 1 / weight), 0.5 * (weight - 1 / weight)


def point_of(frame):
    """Return X of a frame."""
    return frame.compose(frame.singular_values)


def push_to_root(frame, tangent_vec):
    """Differential of ``X -> T`` applied to a tangent vector at X."""
    return frame.leave(parity_combine(*frame.chart_factors, frame.enter(tangent_vec)))


def pull_from_root(frame, root_vec):
    """Differential of ``T -> X`` applied to a tangent vector at T."""
    symmetric, antisymmetric = frame.chart_factors
    return frame.leave(parity_combine(1 / symmetric, 1 / antisymmetric, frame.enter(root_vec)))


def lower(frame, root_vec):
    """Return the momentum ``P = g_T(v, .)`` of a velocity in the root chart."""
    return frame.leave(lowered(*kappa_factors(frame), frame.enter(root_vec)))


def raise_(frame, momentum):
    """Return the velocity of a momentum in the root chart."""
    return frame.leave(raised(*kappa_factors(frame), frame.enter(momentum)))
