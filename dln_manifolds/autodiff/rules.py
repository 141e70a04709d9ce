"""Derivative rules that both manifolds share.

A rule takes what its method takes, as NumPy arrays, and returns the result and the pullback:
gradients by the arguments, in their order, broadcast over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dln_manifolds.autodiff.dispatch import Composite, Pullback, Refusal, Rule
from dln_manifolds.checks import cast
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.numerics.arrays import Array

# Takes the numbers of some members and their gradients by the result.
Adjoint = Callable[[Array, Array], tuple[Array, ...]]


def float_array(value: Any) -> Array:
    """Return an argument that its method has checked already."""
    return np.asarray(value, dtype=np.float64)


def weigh(cotangent: Array, gradient: Array, point_ndim: int) -> Array:
    """Multiply gradients of scalars, ``(..., *point_shape)``, by numbers of shape ``(...)``."""
    return cotangent.reshape(*cotangent.shape, *(1,) * point_ndim) * gradient


def members_pullback(solution: GeodesicSolution, adjoint: Adjoint) -> Pullback:
    """Return a pullback for the members that were solved; the gradients of others are NaN."""
    batch, shape = solution.length.shape, solution.point_shape
    pick = np.nonzero(solution.success.ravel())[0]

    def pull(cotangent: Array) -> tuple[Array, ...]:
        flat = cotangent.reshape(solution.length.size, *cotangent.shape[len(batch) :])
        whole = np.full((2, len(flat), *shape), np.nan)
        if pick.size:
            whole[:, pick] = adjoint(pick, flat[pick])
        return tuple(whole.reshape(2, *batch, *shape))

    return pull


def square_root(rule: Rule) -> Rule:
    """Return the rule of the square root of a method; its derivative at zero is taken as zero."""

    def root_rule(owner: Any, *arguments: Any) -> tuple[Array, Pullback]:
        square, pull = rule(owner, *arguments)
        value = np.sqrt(square)
        size = float_array(value)
        rate = np.where(size == 0, 0.0, 0.5 / np.where(size == 0, 1.0, size))
        return value, lambda cotangent: pull(cotangent * rate)

    return root_rule


def exponential(rule: Rule) -> Rule:
    """Return the rule of the exponential of a method."""

    def exp_rule(owner: Any, *arguments: Any) -> tuple[Array, Pullback]:
        logarithm, pull = rule(owner, *arguments)
        value = np.exp(logarithm)
        return value, lambda cotangent: pull(cotangent * value)

    return exp_rule


def solved(metric: Any, solution: GeodesicSolution, value: Array, dtype: Any) -> Array:
    """Return a result of a solver as its method does."""
    return cast(metric._resolve(solution, value), dtype)


def squared_norm(inner_product: Rule) -> Rule:
    """Return the rule of the squared norm that belongs to an inner product."""

    def rule(metric: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
        value, pull = inner_product(metric, vector, vector, base_point)

        def pull_both(cotangent: Array) -> tuple[Array | Refusal | None, ...]:
            left, right, by_point = pull(cotangent)
            return float_array(left) + float_array(right), by_point

        return value, pull_both

    return rule


def normalized(norm: Rule) -> Rule:
    """Return the rule of vectors divided by their norm; zero stays zero."""

    def rule(metric: Any, vector: Any, base_point: Any) -> tuple[Array, Pullback]:
        length, pull_length = norm(metric, vector, base_point)
        array, length = float_array(vector), float_array(length)
        ndim = len(metric._space.shape)
        inverse = 1 / np.where(length == 0, 1.0, length)

        def pull(cotangent: Array) -> tuple[Array | Refusal | None, ...]:
            along = np.sum(cotangent * array, axis=tuple(range(-ndim, 0)))
            by_vector, by_point = pull_length(-along * inverse**2)
            return weigh(inverse, cotangent, ndim) + float_array(by_vector), by_point

        return metric.normalize(vector, base_point), pull

    return rule


def pairwise(dist: Rule) -> Rule:
    """Return the rule of all distances of a list of points; each pair is solved once."""

    def rule(metric: Any, points: Any, *_: Any, **__: Any) -> tuple[Array, Pullback]:
        array = np.asarray(points)
        first, second = np.triu_indices(len(array), 1)
        values, pull_pairs = dist(metric, array[first], array[second])
        matrix = np.zeros((len(array), len(array)), dtype=values.dtype)
        matrix[first, second] = matrix[second, first] = values

        def pull(cotangent: Array) -> tuple[Array]:
            gradient = np.zeros(array.shape)
            both = cotangent[first, second] + cotangent[second, first]
            for place, part in zip((first, second), pull_pairs(both), strict=True):
                np.add.at(gradient, place, float_array(part))
            return (gradient,)

        return matrix, pull

    return rule


def regularize(space: Any, point: Any) -> tuple[Array, Pullback]:
    """Rule of a copy."""
    return space.regularize(point), lambda cotangent: (cotangent,)


def _geodesic(
    host: Any, metric: Any, initial_point: Any, end_point: Any, initial_tangent_vec: Any
) -> Callable[[Any], Any]:
    if (end_point is None) == (initial_tangent_vec is None):
        raise ValueError("Give either end_point or initial_tangent_vec, and not both.")
    velocity = initial_tangent_vec
    if end_point is not None:
        velocity = metric.log(end_point, initial_point)
    axes = (slice(None),) * len(metric._space.shape)
    late = (..., None, *axes)

    def path(t: Any) -> Any:
        times = t if host.is_traced(t) else host.from_numpy(float_array(host.to_numpy(t)), ())
        steps = times.reshape(-1, *(1,) * len(axes)) * velocity[late]
        return metric.exp(steps, initial_point[late])

    return path


#: Curves through the exponential map, so that times, points and velocities can be differentiated.
GEODESIC = Composite(_geodesic)


def metric_rules(
    inner_product: Rule, exp: Rule, log: Rule, squared_dist: Rule
) -> dict[str, Rule | Composite | Refusal]:
    """Return the rules of a metric that follow from four of them, with these four."""
    square = squared_norm(inner_product)
    norm, dist = square_root(square), square_root(squared_dist)
    unit = normalized(norm)
    return {
        "inner_product": inner_product,
        "squared_norm": square,
        "norm": norm,
        "normalize": unit,
        "normal_basis": unit,
        "exp": exp,
        "log": log,
        "squared_dist": squared_dist,
        "dist": dist,
        "dist_pairwise": pairwise(dist),
        "geodesic": GEODESIC,
    }


#: pymanopt's names, by the metric's rules: the base point comes first.
POINTWISE = {
    "inner_product": Composite(
        lambda host, space, point, a, b: space.metric.inner_product(a, b, point)
    ),
    "norm": Composite(lambda host, space, point, vector: space.metric.norm(vector, point)),
    "dist": Composite(lambda host, space, a, b: space.metric.dist(a, b)),
    "exp": Composite(lambda host, space, point, vector: space.metric.exp(vector, point)),
    "log": Composite(lambda host, space, a, b: space.metric.log(b, a)),
    "pair_mean": Composite(lambda host, space, a, b: space.metric.geodesic(a, end_point=b)(0.5)[0]),
    "to_tangent_space": Composite(
        lambda host, space, point, vector: space.to_tangent(vector, point)
    ),
}
