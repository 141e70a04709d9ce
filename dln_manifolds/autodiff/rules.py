"""Derivative rules: how they are made, and those that both manifolds share.

A rule takes what its method takes, as NumPy arrays, and returns the result and the pullback:
gradients by the arguments, in their order, broadcast over the batch. Most methods belong to one
point, their last argument. Their *gradients* are given as functions of the point with its frame, of
the vectors before it and, unless the result is a number, of the gradient c by the result.
"""

import typing
from collections.abc import Callable
from operator import attrgetter

import numpy as np
from geomstats.geometry.manifold import Manifold
from geomstats.geometry.riemannian_metric import RiemannianMetric

from dln_manifolds.autodiff import kinds
from dln_manifolds.autodiff.dispatch import (
    AnyRule,
    Composite,
    Host,
    Pullback,
    Refusal,
    Result,
    Rule,
)
from dln_manifolds.checks import At, cast, spread
from dln_manifolds.geodesics import (
    GeodesicSolution,
    exp_pullback,
    log_pullback,
    squared_length_gradients,
)
from dln_manifolds.numerics.arguments import one_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.precision import dtype_of_results

Gradients = Callable[..., tuple[Array | None, ...]]
# By two vectors and by their point.
Inner = Callable[[At, Array, Array], tuple[Array, Array, Array | None]]
Table = dict[str, AnyRule]


def _half_inverse(root: Array) -> Array:
    """Return the derivative of a root by its square, zero at zero."""
    return np.where(root == 0, 0.0, 0.5 / np.where(root == 0, 1.0, root))


def _at_point(
    name: str,
    kind: str,
    gradients: Gradients,
    rate: Callable[[Array], Array] | None = None,
    anywhere: bool = False,
) -> Rule:
    """Return the rule of a method of vectors at a point, from its gradients.

    Or from those of another function, if the method is a function of its result, with a derivative
    ``rate`` known from its own. ``anywhere``: the point is any array, or missing.
    """

    def rule(owner: Manifold | RiemannianMetric, *arguments: Array | None) -> Result:
        value = getattr(owner, name)(*arguments)
        at = At(owner.stratum, arguments[-1], "point", anywhere)
        vectors = [np.asarray(vector, dtype=np.float64) for vector in arguments[:-1]]
        if not kind.endswith(":s"):
            return value, lambda cotangent: gradients(at, *vectors, cotangent)
        found, ndim = gradients(at, *vectors), len(owner.stratum.point_shape)
        slope = None if rate is None else rate(np.asarray(value, dtype=np.float64))

        def pull(cotangent: Array) -> tuple[Array | None, ...]:
            weight = cotangent if slope is None else cotangent * slope
            return tuple(None if x is None else spread(weight, ndim) * x for x in found)

        return value, pull

    return rule


def rules_at_points(table: dict[str, str], anywhere: bool = False, **gradients: Gradients) -> Table:
    """Return the rules of methods at a point; the table says whose results are numbers."""
    return {
        name: _at_point(name, table[name], found, anywhere=anywhere)
        for name, found in gradients.items()
    }


def exponential(name: str, gradients: Gradients) -> Table:
    """Return the rule of the exponential of a number."""
    return {name: _at_point(name, ":s", gradients, rate=np.asarray)}


def turned(path: str, *order: int) -> Composite:
    """Return the rule of a method that hands its arguments on, in an order, to another method."""
    method = attrgetter(path)
    return Composite(lambda host, owner, *given: method(owner)(*(given[k] for k in order)))


def lengths(inner: Inner, anywhere: bool = False) -> Table:
    """Return the rules of inner products, norms and unit vectors, from gradients of the first."""

    def square(at: At, vector: Array) -> tuple[Array | None, ...]:
        first, _, by_point = inner(at, vector, vector)
        return 2 * first, by_point

    def unit(at: At, vector: Array, cotangent: Array) -> tuple[Array | None, ...]:
        dual, _, by_point = inner(at, vector, vector)
        ndim = len(at.stratum.point_shape)
        axes = tuple(range(-ndim, 0))
        size = np.sqrt(np.sum(vector * dual, axis=axes))
        inverse = 1 / np.where(size == 0, 1.0, size)
        weight = -np.sum(cotangent * vector, axis=axes) * inverse**3
        by_vector = spread(inverse, ndim) * cotangent + spread(weight, ndim) * dual
        return by_vector, None if by_point is None else spread(0.5 * weight, ndim) * by_point

    return rules_at_points(
        kinds.METRIC,
        anywhere,
        inner_product=inner,
        squared_norm=square,
        normalize=unit,
        normal_basis=unit,
    ) | {"norm": _at_point("norm", ":s", square, _half_inverse, anywhere)}


# --- what is solved, on both manifolds


def _of_members(
    solution: GeodesicSolution, gradients: Callable[[Array, Array], tuple[Array, ...]]
) -> Pullback:
    """Return a pullback for the members that were solved; the gradients of others are NaN."""
    batch, shape = solution.length.shape, solution.point_shape
    pick = np.nonzero(solution.success.ravel())[0]

    def pull(cotangent: Array) -> tuple[Array, ...]:
        flat = cotangent.reshape(solution.length.size, *cotangent.shape[len(batch) :])
        whole = np.full((2, len(flat), *shape), np.nan)
        if pick.size:
            whole[:, pick] = gradients(pick, flat[pick])
        return tuple(whole.reshape(2, *batch, *shape))

    return pull


def _resolved(
    metric: RiemannianMetric, solution: GeodesicSolution, value: Array, *given: Array
) -> Array:
    """Return a result of a solver as its method does."""
    dtypes = (dtype_of_results(np.asarray(array).dtype) for array in given)
    return cast(metric.policy.resolve(solution, value), *dtypes)


def _exp(
    metric: RiemannianMetric, tangent_vec: Array, base_point: Array, through_singular: bool = False
) -> Result:
    if through_singular:
        raise NotImplementedError(
            "exp through singular matrices has no derivative rule: leave through_singular out."
        )
    solution = metric.solve_exp(tangent_vec, base_point)
    value = _resolved(metric, solution, solution.end_point, tangent_vec, base_point)
    return value, _of_members(solution, lambda k, c: exp_pullback(solution, k, c)[::-1])


def log(
    metric: RiemannianMetric, point: Array, base_point: Array, search: str = "default"
) -> Result:
    """Return the logarithm and its pullback."""
    solution = metric.solve_log(point, base_point, search=search)
    value = _resolved(metric, solution, solution.initial_velocity, point, base_point)
    return value, _of_members(solution, lambda k, c: log_pullback(solution, k, c)[::-1])


def _dist(
    metric: RiemannianMetric,
    point_a: Array,
    point_b: Array,
    search: str = "default",
    squared: bool = False,
) -> Result:
    solution = metric.solve_log(point_b, point_a, search=search)
    length = _resolved(metric, solution, solution.length, point_a, point_b)

    def gradients(members: Array, cotangent: Array) -> tuple[Array, ...]:
        both = squared_length_gradients(solution, members)
        weight = spread(cotangent, len(solution.point_shape))
        return both[0] * weight, both[1] * weight

    pull = _of_members(solution, gradients)
    if squared:
        return np.square(length), pull
    rate = _half_inverse(length.astype(float))
    return length, lambda cotangent: pull(cotangent * rate)


def _dist_pairwise(
    metric: RiemannianMetric,
    points: Array,
    n_jobs: int,
    completed: bool,
    progress: object = False,
    out: object = None,
    *_: object,
) -> Result:
    """Solve each pair once."""
    if completed or out is not None:
        raise NotImplementedError("completed=True and out= have no derivative. Detach the points.")
    array = np.asarray(points)
    first, second = np.triu_indices(len(array), 1)
    values, pull_pairs = _dist(metric, array[first], array[second])
    matrix = np.zeros((len(array), len(array)), dtype=values.dtype)
    matrix[first, second] = matrix[second, first] = values

    def pull(cotangent: Array) -> tuple[Array]:
        gradient = np.zeros(array.shape)
        both = cotangent[first, second] + cotangent[second, first]
        for place, part in zip((first, second), pull_pairs(both), strict=True):
            np.add.at(gradient, place, np.asarray(part))
        return (gradient,)

    return matrix, pull


def _geodesic(
    host: Host,
    metric: RiemannianMetric,
    initial_point: Array,
    end_point: Array | None,
    initial_tangent_vec: Array | None,
    search: str = "default",
) -> Callable[[Array], Array]:
    """Through the exponential map, so that times, points and velocities can be differentiated."""
    one_of(end_point=end_point, initial_tangent_vec=initial_tangent_vec)
    velocity = initial_tangent_vec
    if velocity is None:
        velocity = metric.log(end_point, initial_point, search=search)
    axes = (slice(None),) * len(metric.stratum.point_shape)
    late = (..., None, *axes)

    def path(t: Array) -> Array:
        times = t
        if not (host.is_traced(t) or host.is_transformed([t])):
            times = typing.cast(Array, host.from_numpy(np.asarray(host.to_numpy(t), float), ()))
        steps = times.reshape(-1, *(1,) * len(axes)) * velocity[late]
        return metric.exp(steps, initial_point[late])

    return path


_NO_CURVATURE = Refusal(
    "Curvature and connection are derivatives of the metric already; theirs are not known in "
    "closed form. Detach the arguments, or take differences."
)

METRIC: Table = {
    **dict.fromkeys([*kinds.CURVATURE, "riemann_tensor", "christoffels"], _NO_CURVATURE),
    "exp": _exp,
    "log": log,
    "dist": _dist,
    "squared_dist": lambda metric, a, b: _dist(metric, a, b, squared=True),
    "dist_pairwise": _dist_pairwise,
    "geodesic": Composite(_geodesic),
    "bounds": Refusal("They bound a function that has one: differentiate dist."),
    **dict.fromkeys(
        ("completed_dist", "completed_geodesic", "solve_completed"),
        Refusal(
            "Differentiate dist between points of one sign of det; detach them across det = 0."
        ),
    ),
}

SPACE: Table = {
    # pymanopt's names turn the order around; distances have none.
    **{
        name: turned(f"metric.{name}", *range(1, len(kind) - 2), 0)
        for name, kind in kinds.POINT_FIRST.items()
        if name in kinds.METRIC
    },
    "dist": turned("metric.dist", 0, 1),
    "to_tangent_space": turned("to_tangent", 1, 0),
    "pair_mean": Composite(
        lambda host, space, first, last: space.metric.geodesic(first, end_point=last)(0.5)[0]
    ),
    **rules_at_points(kinds.SPACE, anywhere=True, regularize=lambda at, c: (c,)),
}
