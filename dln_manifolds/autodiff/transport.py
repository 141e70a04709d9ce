r"""The derivative rule of parallel transport, by its vector, its point and its direction or end.

Let the geodesic with velocity V vary by the Jacobi field J, and let U be parallel along each. As
``nabla_t nabla_J U = R(V, J) U``, for a vector C that is parallel too

.. math::
    \langle C, \nabla_J U \rangle_1 = \langle C, \nabla_J U \rangle_0
    + \int_0^1 \langle R(U, C) V, J \rangle dt.

Every J(t) is a change of ``exp(t Z)``, so that the integral is a sum of pullbacks of exp over Gauss
nodes; at both ends the connection leads from covariant derivatives to those of entries. (Ours.)
"""

from functools import cache

import numpy as np
from geomstats.geometry.riemannian_metric import RiemannianMetric

from dln_manifolds.autodiff.dispatch import Gradient, Result, unbroadcast
from dln_manifolds.autodiff.rules import log
from dln_manifolds.checks import At, spread
from dln_manifolds.geodesics import GeodesicSolution, exp_pullback
from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.connection import christoffel_gradient
from dln_manifolds.geometry.metric import apply_cometric, apply_metric
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.polynomials import gauss, legendre_analysis

# Numbers of nodes that are tried, until the last Legendre coefficients of what is summed are this
# small beside the largest: the rule is exact for twice their degree.
_NODES, _DECAYED = (12, 24, 48, 96), 1e-6


def transport(
    metric: RiemannianMetric,
    tangent_vec: Array,
    base_point: Array,
    direction: Array | None,
    end_point: Array | None,
) -> Result:
    """Return the transported vector and its pullback."""
    value = metric.parallel_transport(tangent_vec, base_point, direction, end_point)
    solved = np.isfinite(value).all(axis=tuple(range(-len(metric.space.shape), 0)), keepdims=True)

    def pull(cotangent: Array) -> tuple[Gradient, ...]:
        if direction is None:
            assert end_point is not None
            along, pull_log = log(metric, end_point, base_point)
        else:
            along = direction
        along = np.asarray(along, dtype=float)
        vector, base = (
            np.broadcast_to(np.asarray(x, dtype=float), value.shape)
            for x in (tangent_vec, base_point)
        )
        # Members that were not solved stay where they are.
        there, weight = (np.where(solved, x, 0.0) for x in (along, cotangent))
        carried = _Carried(metric, vector, base, there, weight)

        @cache
        def others() -> tuple[Array, Array]:
            by_base, by_along = np.where(solved, carried.gradients(), np.nan)
            if direction is not None:
                return by_base, by_along
            by_end, by_first = map(np.asarray, pull_log(unbroadcast(by_along, along)))
            return unbroadcast(by_base, along) + by_first, by_end

        by_base, by_other = (lambda: others()[0]), (lambda: others()[1])
        by_vector = np.where(solved, carried.dual, np.nan)
        if direction is None:
            return by_vector, by_base, None, by_other
        return by_vector, by_base, by_other, None

    return value, pull


class _Carried:
    """Geodesics, vectors there, and gradients by transported ones; all of one batch shape."""

    def __init__(
        self, metric: RiemannianMetric, vector: Array, base: Array, along: Array, cotangent: Array
    ) -> None:
        self.metric, self.vector, self.along, self.cotangent = metric, vector, along, cotangent
        self.start, self.solution = At(metric.stratum, base), metric.solve_exp(along, base)
        self.end = At(metric.stratum, self.solution.end_point)
        self.last, velocity = self.solution.transport(np.stack([vector, along]))
        # Transport is an isometry: its transpose is the way back.
        raised = _raised(self.end, cotangent)
        self.back = metric.parallel_transport(raised, self.end.point, direction=-velocity)
        self.dual = _lowered(self.start, self.back)

    def gradients(self) -> Array:
        """Return gradients by point and direction."""
        turned = -christoffel_gradient(self.end.frame, self.cotangent, self.last)
        found = _pulled(self.solution, turned)
        found[0] += christoffel_gradient(self.start.frame, self.dual, self.vector)
        carried = np.stack([self.vector, self.back, self.along])
        return found + _between(self.metric, self.start.point, self.along, carried)


def _between(metric: RiemannianMetric, base: Array, along: Array, carried: Array) -> Array:
    """Return the gradients of the integral by point and direction, ``(2, *batch, *shape)``."""
    ndim = len(metric.space.shape)
    inner = (..., None, *(slice(None),) * ndim)
    for n_nodes in _NODES:
        rule = gauss(n_nodes)
        times = spread(rule.nodes, ndim)
        solution = metric.solve_exp(times * along[inner], base[inner])
        u, c, v = solution.transport(carried[inner])
        at = At(metric.stratum, solution.end_point)
        force = _lowered(at, metric.curvature(u, c, v, solution.end_point))
        whole = _pulled(solution, force)
        whole[1] *= times
        parts = np.moveaxis(whole, -1 - ndim, 0).reshape(n_nodes, -1)
        sizes = np.abs(legendre_analysis(n_nodes) @ parts).max(axis=1)
        if sizes[-2:].max() <= _DECAYED * sizes.max():
            break
    return np.sum(spread(rule.weights, ndim) * whole, axis=-1 - ndim)


def _pulled(solution: GeodesicSolution, gradient: Array) -> Array:
    """Return gradients by point and velocity of exp, ``(2, *batch, *shape)``."""
    flat = gradient.reshape(-1, *solution.point_shape)
    found = exp_pullback(solution, np.arange(len(flat)), flat)
    return np.stack(found).reshape(2, *gradient.shape)


def _raised(at: At, covector: Array) -> Array:
    """Return the tangent vector of a Euclidean gradient."""
    frame = at.frame
    return (
        sectors.tangent_part(frame, covector) if frame.layered else apply_cometric(frame, covector)
    )


def _lowered(at: At, vector: Array) -> Array:
    """Return the covector of a tangent vector."""
    return vector if at.frame.layered else apply_metric(at.frame, vector)
