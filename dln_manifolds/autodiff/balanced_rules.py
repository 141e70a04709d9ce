"""Derivative rules of `BalancedManifold`, its metric and its bundle.

Gradients by a point are along the manifold, tangent vectors. Where a tangent vector is an argument
beside its point, the point moves with the vector taken along parallel, which is the same as the
vector staying what it is in the ambient space and being projected.
"""

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
from dln_manifolds.checks import as_matrices, cast, checked_layers
from dln_manifolds.geodesics import exp_pullback, log_pullback, squared_length_gradients
from dln_manifolds.geometry import balancing
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import second_fundamental_form as balanced_derivatives
from dln_manifolds.geometry.alignment import align, aligned_pullback
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_metric
from dln_manifolds.geometry.sectors import horizontal_part, push_forward, tangent_part
from dln_manifolds.numerics.arrays import Array


def _inner_product(metric: Any, a: Any, b: Any, base_point: Any) -> tuple[Array, Pullback]:
    value = metric.inner_product(a, b, base_point)
    vec_a, vec_b = float_array(a), float_array(b)
    return value, lambda cotangent: (weigh(cotangent, vec_b, 3), weigh(cotangent, vec_a, 3), None)


def _inner_coproduct(host: Any, metric: Any, a: Any, b: Any, base_point: Any) -> Any:
    return metric.inner_product(metric._space.to_tangent(a, base_point), b, base_point)


def _metric_matrix(metric: Any, base_point: Any) -> tuple[Array, Pullback]:
    # The identity everywhere.
    return metric.metric_matrix(base_point), lambda cotangent: (None,)


def _cometric_matrix(host: Any, metric: Any, base_point: Any) -> Any:
    shape = metric._space.shape
    size = int(np.prod(shape))
    rows = np.eye(size).reshape(size, *shape)
    images = metric._space.to_tangent(rows, base_point[..., None, :, :, :])
    return images.reshape(*images.shape[:-3], size)


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
        return tuple(weigh(cotangent, x, 3) for x in squared_length_gradients(solution, pick))

    value = np.square(solved(metric, solution, solution.length, dtype))
    return value, members_pullback(solution, adjoint)


def _at(space: Any, point: Any, name: str) -> tuple[Array, Frame]:
    layers, frame, _ = checked_layers(point, space.shape, name)
    return layers, frame


def _to_tangent(space: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
    value = space.to_tangent(vector, base_point)
    _, frame = _at(space, base_point, "base_point")
    ambient = float_array(vector)
    return value, lambda cotangent: (
        tangent_part(frame, cotangent),
        balanced_derivatives.tangent_part_gradient(frame, ambient, cotangent),
    )


def _horizontal_projection(space: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
    value = space.horizontal_projection(vector, base_point)
    layers, frame = _at(space, base_point, "base_point")
    ambient = float_array(vector)
    return value, lambda cotangent: (
        horizontal_part(frame, cotangent),
        balanced_derivatives.horizontal_part_gradient(frame, layers, ambient, cotangent),
    )


def _vertical_projection(space: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
    # What is tangent and not horizontal.
    _, tangent = _to_tangent(space, vector, base_point)
    _, horizontal = _horizontal_projection(space, vector, base_point)

    def pull(cotangent: Array) -> tuple[Array, ...]:
        pairs = zip(tangent(cotangent), horizontal(cotangent), strict=True)
        return tuple(float_array(whole) - float_array(part) for whole, part in pairs)

    return space.vertical_projection(vector, base_point), pull


def _normal_projection(space: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
    _, tangent = _to_tangent(space, vector, base_point)

    def pull(cotangent: Array) -> tuple[Array, Array]:
        by_vector, by_point = (float_array(part) for part in tangent(cotangent))
        return cotangent - by_vector, -by_point

    return space.normal_projection(vector, base_point), pull


def _projection(space: Any, point: Any, vector: Any) -> tuple[Array, Pullback]:
    if vector is not None:
        value, pull_both = _to_tangent(space, vector, point)
        return value, lambda cotangent: tuple(reversed(pull_both(cotangent)))
    layers, dtype = as_matrices(point, space.shape, "point")
    balanced = space.projection(layers)
    frame = Frame.of_layers(balanced)

    def pull(cotangent: Array) -> tuple[Array]:
        # Layers move along their fibre, and across it as their end-to-end matrix does.
        by_layers, by_motion = aligned_pullback(balanced, layers, cotangent)
        covector = apply_metric(frame.ends, push_forward(frame, by_motion))
        return (by_layers + balanced_derivatives.product_derivative(layers, covector),)

    return cast(balanced, dtype), pull


def _horizontal_lift(space: Any, tangent_vec: Any, fiber_point: Any) -> tuple[Array, Pullback]:
    value = space.horizontal_lift(tangent_vec, fiber_point)
    layers, frame = _at(space, fiber_point, "fiber_point")
    vector = float_array(tangent_vec)
    return value, lambda cotangent: balanced_derivatives.horizontal_lift_pullback(
        frame, layers, vector, cotangent
    )


def _push_forward(space: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
    value = space.push_forward(vector, base_point)
    layers, frame = _at(space, base_point, "base_point")
    ambient = float_array(vector)
    return value, lambda cotangent: balanced_derivatives.push_forward_pullback(
        frame, layers, ambient, cotangent
    )


def _end_to_end(space: Any, point: Any) -> tuple[Array, Pullback]:
    layers = float_array(point)
    # Any layers will do, so that this gradient is not restricted to the manifold.
    return space.end_to_end(point), lambda cotangent: (
        balanced_derivatives.product_derivative(layers, cotangent),
    )


def _act(space: Any, group_elem: Any, point: Any) -> tuple[Array, Pullback]:
    group, layers = float_array(group_elem), float_array(point)
    return space.act(group_elem, point), lambda cotangent: balancing.act_pullback(
        group, layers, cotangent
    )


def _entropy(space: Any, point: Any) -> tuple[Array, Pullback]:
    gradient = float_array(space.entropy_gradient(point))
    return space.entropy(point), lambda cotangent: (weigh(cotangent, gradient, 3),)


def _entropy_gradient(space: Any, point: Any) -> tuple[Array, Pullback]:
    layers = float_array(point)
    _, frame = _at(space, point, "point")
    slope = volume.entropy_differential(frame.ends)

    def pull(cotangent: Array) -> tuple[Array]:
        # The gradient by W of <c, B^T dS(X)>: B moves with W, and X does.
        _, by_point = balanced_derivatives.push_forward_pullback(frame, layers, cotangent, slope)
        bent = volume.EntropyHessian(frame.ends).apply(push_forward(frame, cotangent))
        return (by_point + balanced_derivatives.product_derivative(layers, bent),)

    return space.entropy_gradient(point), pull


def _parallel_transport(
    metric: Any, tangent_vec: Any, base_point: Any, direction: Any, end_point: Any
) -> tuple[Array, Pullback]:
    value = metric.parallel_transport(tangent_vec, base_point, direction, end_point)
    reason = (
        "BalancedMetric.parallel_transport has a derivative by tangent_vec only. Detach the other "
        "arguments, or differentiate metric.ladder_parallel_transport."
    )

    def pull(cotangent: Array) -> tuple[Array | Refusal, ...]:
        # An isometry: its transpose is the way back.
        solved = np.isfinite(value).all(axis=(-3, -2, -1))[..., None, None, None]
        base = np.broadcast_to(float_array(base_point), value.shape)
        along = metric.log(end_point, base_point) if direction is None else direction
        along = np.where(solved, float_array(along), 0.0)
        end = metric.exp(along, base)
        back = -metric.parallel_transport(along, base, direction=along)
        tangent = metric._space.to_tangent(np.where(solved, cotangent, 0.0), end)
        moved = metric.parallel_transport(tangent, end, direction=back)
        return (np.where(solved, moved, np.nan), *[Refusal(reason)] * 3)

    return value, pull


def _align(bundle: Any, point: Any, base_point: Any) -> tuple[Array, Pullback]:
    value = bundle.align(point, base_point)
    layers, frame = _at(bundle._total_space, point, "point")
    reference = float_array(base_point)
    group, aligned = align(layers, reference)

    def pull(cotangent: Array) -> tuple[Array, Array]:
        by_reference, by_motion = aligned_pullback(aligned, reference, cotangent)
        _, by_layers = balancing.act_pullback(group, layers, by_motion)
        return tangent_part(frame, by_layers), by_reference

    return value, pull


def _bundle_lift(
    host: Any, bundle: Any, tangent_vec: Any, base_point: Any, fiber_point: Any
) -> Any:
    if fiber_point is None:
        fiber_point = bundle.lift(base_point)
    return bundle._total_space.horizontal_lift(tangent_vec, fiber_point)


# Singular vectors may change their signs, and turn where singular values meet.
_NO_FACTOR = Refusal(
    "The factorization follows singular vectors, which are no smooth function of X. Differentiate "
    "functions of X itself, or move fixed layers with horizontal_lift and metric.exp."
)

_TANGENT_COORDINATES = Composite(
    lambda host, metric, vector, point: metric._space.to_tangent(vector, point)
)

METRIC_RULES: dict[str, Rule | Composite | Refusal] = {
    **metric_rules(_inner_product, _exp, _log, _squared_dist),
    "inner_coproduct": Composite(_inner_coproduct),
    "metric_matrix": _metric_matrix,
    "cometric_matrix": Composite(_cometric_matrix),
    "orthonormal_coordinates": _TANGENT_COORDINATES,
    "from_orthonormal_coordinates": _TANGENT_COORDINATES,
    "parallel_transport": _parallel_transport,
}

SPACE_RULES: dict[str, Rule | Composite | Refusal] = {
    **POINTWISE,
    "to_tangent": _to_tangent,
    "projection": _projection,
    "horizontal_projection": _horizontal_projection,
    "vertical_projection": _vertical_projection,
    "normal_projection": _normal_projection,
    "horizontal_lift": _horizontal_lift,
    "push_forward": _push_forward,
    "end_to_end": _end_to_end,
    "act": _act,
    "factor": _NO_FACTOR,
    "entropy": _entropy,
    "entropy_gradient": _entropy_gradient,
    "mean_curvature": Composite(lambda host, space, point: -space.entropy_gradient(point)),
    "volume_density": exponential(_entropy),
    "regularize": regularize,
}

BUNDLE_RULES: dict[str, Rule | Composite | Refusal] = {
    "riemannian_submersion": Composite(
        lambda host, bundle, point: bundle._total_space.end_to_end(point)
    ),
    "tangent_riemannian_submersion": Composite(
        lambda host, bundle, vector, point: bundle._total_space.push_forward(vector, point)
    ),
    "horizontal_projection": Composite(
        lambda host, bundle, vector, point: bundle._total_space.horizontal_projection(vector, point)
    ),
    "vertical_projection": Composite(
        lambda host, bundle, vector, point: bundle._total_space.vertical_projection(vector, point)
    ),
    "horizontal_lift": Composite(_bundle_lift),
    "lift": _NO_FACTOR,
    "align": _align,
}
