"""Derivative rules of `DLNObservableManifold` and its metric."""

from __future__ import annotations

from typing import Any

import numpy as np

from dln_manifolds.geodesics.variation import exp_pullback, log_pullback, squared_dist_gradients
from dln_manifolds.hosts.arrays import Composite, Pullback, Rule
from dln_manifolds.hosts.rules import (
    GEODESIC,
    POINTWISE,
    exponential,
    float_array,
    members_pullback,
    normalized,
    pairwise,
    solved,
    square_root,
    squared_norm,
    weigh,
)
from dln_manifolds.spectral import observable, volume
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import SingularFrame


def _derivative(point: Any, depth: float) -> observable.CometricDerivative:
    return observable.CometricDerivative(SingularFrame.of_point(float_array(point), depth))


def _inner_product(metric: Any, a: Any, b: Any, base_point: Any) -> tuple[Array, Pullback]:
    value = metric.inner_product(a, b, base_point)
    derivative = _derivative(base_point, metric._space.depth)
    frame = derivative.frame
    # Momenta are as badly scaled as the metric: they stay in the frame.
    p, q = (frame.enter(float_array(vector)) / frame.a for vector in (a, b))

    def pull(cotangent: Array) -> tuple[Array, ...]:
        by_point = -frame.leave(derivative.gradient_in_frame(p, q))
        return tuple(weigh(cotangent, x, 2) for x in (frame.leave(q), frame.leave(p), by_point))

    return value, pull


def _inner_coproduct(metric: Any, a: Any, b: Any, base_point: Any) -> tuple[Array, Pullback]:
    value = metric.inner_coproduct(a, b, base_point)
    derivative = _derivative(base_point, metric._space.depth)
    frame = derivative.frame
    p, q = (frame.enter(float_array(covector)) for covector in (a, b))

    def pull(cotangent: Array) -> tuple[Array, ...]:
        by_point = frame.leave(derivative.gradient_in_frame(p, q))
        by_a, by_b = frame.leave(frame.a * q), frame.leave(frame.a * p)
        return tuple(weigh(cotangent, x, 2) for x in (by_a, by_b, by_point))

    return value, pull


def _operator_pullback(point: Any, depth: float, cotangent: Array, inverse: bool) -> Array:
    """Gradient by X of ``<C, matrix of A_X or of its inverse>``: one direction per row of C."""
    frame = SingularFrame.of_point(float_array(point)[..., None, :, :], depth)
    n = frame.values.shape[-1]
    rows = cotangent.reshape(*cotangent.shape[:-1], n, n)
    p, q = frame.enter(np.eye(n * n).reshape(n * n, n, n)), frame.enter(rows)
    if inverse:
        p, q = p / frame.a, -q / frame.a
    gradient = observable.CometricDerivative(frame).gradient_in_frame(p, q)
    return np.sum(frame.leave(gradient), axis=-3)


def _metric_matrix(metric: Any, base_point: Any) -> tuple[Array, Pullback]:
    depth = metric._space.depth
    return metric.metric_matrix(base_point), lambda cotangent: (
        _operator_pullback(base_point, depth, cotangent, True),
    )


def _cometric_matrix(metric: Any, base_point: Any) -> tuple[Array, Pullback]:
    depth = metric._space.depth
    return metric.cometric_matrix(base_point), lambda cotangent: (
        _operator_pullback(base_point, depth, cotangent, False),
    )


def _log_volume_density(metric: Any, base_point: Any) -> tuple[Array, Pullback]:
    frame = SingularFrame.of_point(float_array(base_point), metric._space.depth)
    gradient = volume.log_riemannian_density_differential(frame)
    return metric.log_volume_density(base_point), lambda cotangent: (weigh(cotangent, gradient, 2),)


def _exp(metric: Any, tangent_vec: Any, base_point: Any) -> tuple[Array, Pullback]:
    solution, dtype = metric._solve_exp(tangent_vec, base_point, record=True)
    depth, tolerance = metric._space.depth, metric.tolerance

    def adjoint(pick: Array, cotangent: Array) -> tuple[Array, Array]:
        start, end = (state[pick] for state in solution.ends)
        # Point and vector are both divided by the same factor: it drops out.
        by_point, by_vector = exp_pullback(start, end, cotangent, depth, tolerance)
        return by_vector, by_point

    value = solved(metric, solution, solution.end_point, dtype)
    return value, members_pullback(solution, adjoint)


def _log(metric: Any, point: Any, base_point: Any) -> tuple[Array, Pullback]:
    solution, dtype = metric._solve_log(point, base_point, record=True)
    depth, tolerance = metric._space.depth, metric.tolerance

    def adjoint(pick: Array, cotangent: Array) -> tuple[Array, Array]:
        start, end = (state[pick] for state in solution.ends)
        by_point, by_end = log_pullback(start, end, cotangent, depth, tolerance)
        return by_end, by_point

    value = solved(metric, solution, solution.initial_velocity, dtype)
    return value, members_pullback(solution, adjoint)


def _squared_dist(metric: Any, point_a: Any, point_b: Any) -> tuple[Array, Pullback]:
    solution, dtype = metric._solve_log(point_b, point_a, record=True)
    depth = metric._space.depth

    def adjoint(pick: Array, cotangent: Array) -> tuple[Array, ...]:
        start, end = (state[pick] for state in solution.ends)
        # Squared lengths scale as T^2, points as T^N.
        factor = cotangent * solution.scale[pick] ** (2 - depth)
        return tuple(weigh(factor, x, 2) for x in squared_dist_gradients(start, end, depth))

    value = np.square(solved(metric, solution, solution.length, dtype))
    return value, members_pullback(solution, adjoint)


def _entropy(space: Any, point: Any) -> tuple[Array, Pullback]:
    frame = SingularFrame.of_point(float_array(point), space.depth)
    gradient = volume.entropy_differential(frame)
    return space.entropy(point), lambda cotangent: (weigh(cotangent, gradient, 2),)


def _to_tangent(space: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
    return space.to_tangent(vector, base_point), lambda cotangent: (cotangent,)


def _projection(space: Any, point: Any, vector: Any) -> tuple[Array, Pullback]:
    if vector is not None:
        return space.projection(point, vector), lambda cotangent: (None, cotangent)
    # The identity, but for matrices that are numerically singular.
    return space.projection(point), lambda cotangent: (cotangent,)


def _regularize(space: Any, point: Any) -> tuple[Array, Pullback]:
    return space.regularize(point), lambda cotangent: (cotangent,)


_SQUARED_NORM = squared_norm(_inner_product)
_NORM, _DIST = square_root(_SQUARED_NORM), square_root(_squared_dist)

METRIC_RULES: dict[str, Rule | Composite] = {
    "inner_product": _inner_product,
    "inner_coproduct": _inner_coproduct,
    "squared_norm": _SQUARED_NORM,
    "norm": _NORM,
    "normalize": normalized(_NORM),
    "metric_matrix": _metric_matrix,
    "cometric_matrix": _cometric_matrix,
    "log_volume_density": _log_volume_density,
    "volume_density": exponential(_log_volume_density),
    "exp": _exp,
    "log": _log,
    "dist": _DIST,
    "dist_pairwise": pairwise(_DIST),
    "squared_dist": _squared_dist,
    "geodesic": GEODESIC,
}

SPACE_RULES: dict[str, Rule | Composite] = {
    **POINTWISE,
    "entropy": _entropy,
    "volume_density": exponential(_entropy),
    "to_tangent": _to_tangent,
    "projection": _projection,
    "regularize": _regularize,
}
