"""Derivative rules of `DLNObservableManifold` and its metric."""

from __future__ import annotations

from typing import Any

import numpy as np

from dln_manifolds.autodiff.dispatch import Composite, Pullback, Refusal, Rule
from dln_manifolds.autodiff.rules import (
    POINTWISE,
    exponential,
    float_array,
    members_pullback,
    metric_rules,
    regularize,
    solved,
    weigh,
)
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geodesics import exp_pullback, log_pullback, squared_length_gradients
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array


def _derivative(point: Any, depth: float) -> observable.CometricDerivative:
    return observable.CometricDerivative(Frame.of_point(float_array(point), depth))


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
    frame = Frame.of_point(float_array(point)[..., None, :, :], depth)
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


def _orthonormal_coordinates(
    metric: Any, tangent_vec: Any, base_point: Any
) -> tuple[Array, Pullback]:
    derivative = _derivative(base_point, metric._space.depth)
    frame = derivative.frame
    root = np.sqrt(frame.a)
    inside = frame.enter(float_array(tangent_vec)) / root

    def pull(cotangent: Array) -> tuple[Array, Array]:
        scaled = frame.enter(cotangent) / root
        by_point = -frame.leave(derivative.root_gradient_in_frame(scaled, inside))
        return frame.leave(scaled), by_point

    return metric.orthonormal_coordinates(tangent_vec, base_point), pull


def _from_orthonormal_coordinates(
    metric: Any, coordinates: Any, base_point: Any
) -> tuple[Array, Pullback]:
    derivative = _derivative(base_point, metric._space.depth)
    frame = derivative.frame
    inside = frame.enter(float_array(coordinates))

    def pull(cotangent: Array) -> tuple[Array, Array]:
        entered = frame.enter(cotangent)
        by_point = frame.leave(derivative.root_gradient_in_frame(entered, inside))
        return frame.leave(np.sqrt(frame.a) * entered), by_point

    return metric.from_orthonormal_coordinates(coordinates, base_point), pull


def _log_volume_density(metric: Any, base_point: Any) -> tuple[Array, Pullback]:
    frame = Frame.of_point(float_array(base_point), metric._space.depth)
    gradient = volume.log_riemannian_density_differential(frame)
    return metric.log_volume_density(base_point), lambda cotangent: (weigh(cotangent, gradient, 2),)


def _exp(metric: Any, tangent_vec: Any, base_point: Any) -> tuple[Array, Pullback]:
    solution, dtype = metric._solve_exp(tangent_vec, base_point, record=True)

    def adjoint(pick: Array, cotangent: Array) -> tuple[Array, Array]:
        by_point, by_vector = exp_pullback(solution, pick, cotangent)
        return by_vector, by_point

    value = solved(metric, solution, solution.end_point, dtype)
    return value, members_pullback(solution, adjoint)


def _log(metric: Any, point: Any, base_point: Any) -> tuple[Array, Pullback]:
    solution, dtype = metric._solve_log(point, base_point, record=True)

    def adjoint(pick: Array, cotangent: Array) -> tuple[Array, Array]:
        by_point, by_end = log_pullback(solution, pick, cotangent)
        return by_end, by_point

    value = solved(metric, solution, solution.initial_velocity, dtype)
    return value, members_pullback(solution, adjoint)


def _squared_dist(metric: Any, point_a: Any, point_b: Any) -> tuple[Array, Pullback]:
    solution, dtype = metric._solve_log(point_b, point_a, record=True)

    def adjoint(pick: Array, cotangent: Array) -> tuple[Array, ...]:
        return tuple(weigh(cotangent, x, 2) for x in squared_length_gradients(solution, pick))

    value = np.square(solved(metric, solution, solution.length, dtype))
    return value, members_pullback(solution, adjoint)


def _entropy(space: Any, point: Any) -> tuple[Array, Pullback]:
    frame = Frame.of_point(float_array(point), space.depth)
    gradient = volume.entropy_differential(frame)
    return space.entropy(point), lambda cotangent: (weigh(cotangent, gradient, 2),)


def _entropy_gradient(space: Any, point: Any) -> tuple[Array, Pullback]:
    derivative = _derivative(point, space.depth)
    frame = derivative.frame
    slope = frame.enter(volume.entropy_differential(frame))

    def pull(cotangent: Array) -> tuple[Array]:
        # The gradient by X of <C, A_X(dS)>: A_X moves, and dS does.
        inside = frame.enter(cotangent)
        bent = volume.EntropyHessian(frame).apply(frame.leave(frame.a * inside))
        return (frame.leave(derivative.gradient_in_frame(inside, slope)) + bent,)

    return space.entropy_gradient(point), pull


def _to_tangent(space: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
    return space.to_tangent(vector, base_point), lambda cotangent: (cotangent,)


def _projection(space: Any, point: Any, vector: Any) -> tuple[Array, Pullback]:
    if vector is not None:
        return space.projection(point, vector), lambda cotangent: (None, cotangent)
    value = space.projection(point)
    raised = np.argwhere((value != point).any(axis=(-2, -1)))

    def pull(cotangent: Array) -> tuple[Array]:
        # The identity, but where singular values were raised: there it has kinks.
        if len(raised):
            member = f" (batch member {raised[0].tolist()})" if raised.size else ""
            raise InvalidPointError(
                f"point is numerically singular{member}: its projection to the invertible matrices "
                f"has no derivative."
            )
        return (cotangent,)

    return value, pull


def _parallel_transport(
    host: Any, metric: Any, tangent_vec: Any, base_point: Any, direction: Any, end_point: Any
) -> Any:
    # The method's ladder, on the arrays of the host: its exps and logs have rules.
    if (direction is None) == (end_point is None):
        raise ValueError("Give either direction or end_point, and not both.")
    along = metric.log(end_point, base_point) if direction is None else direction
    ladder = metric.ladder_parallel_transport(
        tangent_vec, base_point, along, n_rungs=4, scheme="pole", alpha=2
    )
    return ladder["transported_tangent_vec"]


METRIC_RULES: dict[str, Rule | Composite | Refusal] = {
    **metric_rules(_inner_product, _exp, _log, _squared_dist),
    "inner_coproduct": _inner_coproduct,
    "metric_matrix": _metric_matrix,
    "cometric_matrix": _cometric_matrix,
    "orthonormal_coordinates": _orthonormal_coordinates,
    "from_orthonormal_coordinates": _from_orthonormal_coordinates,
    "log_volume_density": _log_volume_density,
    "volume_density": exponential(_log_volume_density),
    "parallel_transport": Composite(_parallel_transport),
}

SPACE_RULES: dict[str, Rule | Composite | Refusal] = {
    **POINTWISE,
    "entropy": _entropy,
    "entropy_gradient": _entropy_gradient,
    "volume_density": exponential(_entropy),
    "to_tangent": _to_tangent,
    "projection": _projection,
    "regularize": regularize,
}
