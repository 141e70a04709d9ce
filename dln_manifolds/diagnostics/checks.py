"""Checks of a pymanopt manifold and of a problem on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dln_manifolds.diagnostics.layout import (
    TINY,
    Vector,
    at,
    combine,
    curve_of,
    distance_of,
    flat,
    gaussian_like,
    leaves,
    mixed,
    normal_part,
    provides,
    random_point,
    same_layout,
    size_of,
)
from dln_manifolds.diagnostics.results import STEPS, CheckResult, conclude, explained
from dln_manifolds.numerics.arrays import Array

if TYPE_CHECKING:
    from pymanopt import Problem
    from pymanopt.manifolds.manifold import Manifold


@explained
def check_retraction(
    manifold: Manifold,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    order: int = 1,
    distance: Callable[[object, object], float] = distance_of,
    tolerance: float = 1e-8,
) -> CheckResult:
    """Check that ``R(x, t v)`` agrees with ``exp(x, t v)`` up to ``O(t^(order + 1))``.

    The ``order`` is 1 for a retraction, 2 for one of second order; the slope is 2 or 3, infinite
    if the retraction is the exponential map. Without ``exp``, first order is checked by
    ``x + t v``. The ``distance`` of points is by default the Frobenius norm of the difference,
    which is more accurate than most manifolds' ``dist`` but compares representatives only.
    """
    x, v = at(manifold, point, tangent_vector)
    if provides(lambda: manifold.exp(x, v * STEPS[-1])):
        reference: Callable[[float], object] = curve_of(manifold, x, v, "exp")
    elif order > 1:
        raise ValueError(f"{manifold} has no exp to tell a retraction of second order by.")
    else:
        reference = partial(combine, x, v)
    curve = curve_of(manifold, x, v, "retraction")
    errors = np.array([distance(curve(t), reference(t)) for t in STEPS])
    size = max(size_of(x), TINY)
    residuals = {"R(x, 0) = x": distance(manifold.retraction(x, manifold.zero_vector(x)), x) / size}
    advice = "expand the retraction: x + t v must come first"
    if order != 1:
        advice += ", and the second derivative must be that of exp"
    return conclude("retraction", order + 1.0, errors, size, residuals, tolerance, advice)


@explained
def check_transport(
    manifold: Manifold,
    point: object = None,
    tangent_vector: Vector | None = None,
    direction: Vector | None = None,
    *,
    isometric: bool = False,
    tolerance: float = 1e-8,
) -> CheckResult:
    """Check a vector transport: tangent, linear, the identity at zero distance, continuous.

    The slope is 1, of ``|transport(x, y, v) - v|`` at ``y = R(x, t w)`` with w the ``direction``;
    it is infinite if tangent spaces agree. The field ``isometric`` of the result says whether norms
    are preserved, ``residuals["isometric"]`` by how much not; ``isometric=True`` demands it.
    """
    x, v = at(manifold, point, tangent_vector)
    w = manifold.random_tangent_vector(x) if direction is None else direction
    other = manifold.random_tangent_vector(x)
    curve = curve_of(manifold, x, w, "retraction")
    errors = np.array([distance_of(manifold.transport(x, curve(t), v), v) for t in STEPS])
    y = curve(STEPS[-1])
    moved, moved_other = manifold.transport(x, y, v), manifold.transport(x, y, other)
    both = manifold.transport(x, y, mixed(v, other))
    size = max(size_of(moved), size_of(moved_other), TINY)
    drift = abs(manifold.norm(y, moved) / manifold.norm(x, v) - 1)
    residuals = {
        "tangent": normal_part(manifold, y, moved),
        "linear": distance_of(both, mixed(moved, moved_other)) / size,
        "identity at x": distance_of(manifold.transport(x, x, v), v) / size,
    }
    if isometric:
        residuals["isometric"] = drift
    advice = "project to the tangent space of the second point, or transport in parallel"
    result = conclude("transport", 1.0, errors, size, residuals, tolerance, advice)
    preserved = bool(drift <= tolerance)
    reading = "Isometric." if preserved else f"Not isometric: a norm changed by {drift:.1e}."
    return replace(
        result,
        isometric=preserved,
        residuals={**result.residuals, "isometric": float(drift)},
        message=f"{result.message} {reading}",
    )


@explained
def check_projection(
    manifold: Manifold,
    point: object = None,
    vector: Vector | None = None,
    *,
    tolerance: float = 1e-6,
) -> CheckResult:
    """Check the projection to the tangent space: idempotent, orthogonal, onto true velocities.

    Residuals only. The ``vector`` that ``projection(x, vector)`` takes is an ambient one, of the
    shape of a tangent vector by default; velocities are central differences along retractions.
    """
    x, v = at(manifold, point, None)
    z = gaussian_like(v) if vector is None else vector
    image = manifold.projection(x, z)
    size = max(size_of(image), TINY)
    again = manifold.to_tangent_space(x, image)
    residuals = {
        "idempotent": distance_of(again, image) / size,
        "keeps tangent vectors": distance_of(manifold.to_tangent_space(x, v), v) / size_of(v),
    }
    if same_layout(z, image):
        normal = z - image
        # The metric of an ambient vector, guessed from that of its tangent part.
        scale = size_of(z) / size * manifold.norm(x, image) * manifold.norm(x, v)
        residuals["orthogonal"] = abs(manifold.inner_product(x, normal, v)) / scale
    if same_layout(x, image):
        h = 1e-5 * max(size_of(x), 1e-300) / size
        ends = [manifold.retraction(x, sign * h * image) for sign in (1.0, -1.0)]
        velocity = [(a - b) / (2 * h) for a, b in zip(*map(leaves, ends), strict=True)]
        residuals["velocity of curves"] = distance_of(velocity, image) / size
    advice = (
        "its image must be the velocities of curves on the manifold, its kernel their orthogonal "
        "complement"
    )
    return conclude("projection", None, np.empty(0), 0.0, residuals, tolerance, advice)


@explained
def check_dimension(manifold: Manifold, point: object = None) -> CheckResult:
    """Check that ``dim`` is the rank, ``residuals["rank"]``, of about as many tangent vectors."""
    x = random_point(manifold) if point is None else point
    n_vectors = int(manifold.dim) + 5
    vectors = [flat(manifold.random_tangent_vector(x)) for _ in range(n_vectors)]
    rank = int(np.linalg.matrix_rank(np.array(vectors), rtol=1e-10))
    ok = rank == int(manifold.dim)
    reading = "at least " if rank == n_vectors else ""
    message = f"{n_vectors} random tangent vectors have rank {reading}{rank}; dim is {manifold.dim}"
    message += "." if ok else ": correct dim, or what random_tangent_vector draws from."
    return CheckResult("dimension", ok, message, residuals={"rank": float(rank)})


@explained
def check_exponential(
    manifold: Manifold,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-7,
) -> CheckResult:
    """Check ``exp`` against ``log`` and ``dist``, and ``exp(x, t v) = x + t v + O(t^2)``.

    The first two where they are provided, at a tenth of the vector. The slope is 2, of the
    difference from a straight line.
    """
    x, v = at(manifold, point, tangent_vector)
    curve = curve_of(manifold, x, v, "exp")
    errors = np.array([distance_of(curve(t), combine(x, v, t)) for t in STEPS])
    short = STEPS[-1] * v
    y = manifold.exp(x, short)
    length = manifold.norm(x, short)
    residuals = {}
    if provides(lambda: manifold.dist(x, y)):
        residuals["dist(x, exp(x, v)) = |v|"] = abs(manifold.dist(x, y) - length) / length
    if provides(lambda: manifold.log(x, y)):
        residuals["log(x, exp(x, v)) = v"] = manifold.norm(x, manifold.log(x, y) - short) / length
    advice = "exp, log and dist must belong to one metric, that of inner_product"
    return conclude("exponential", 2.0, errors, size_of(x), residuals, tolerance, advice)


def check_manifold(
    manifold: Manifold, point: object = None, *, order: int = 1
) -> list[CheckResult]:
    """Run every check of a manifold that it provides the methods for.

    In the order dimension, projection, retraction (of the ``order`` that it claims), transport,
    exponential. The result of the transport tells in its field ``isometric`` whether norms are
    preserved; nobody demands it. Points must be arrays, or lists of arrays as on a product; random
    by default.
    """
    x = random_point(manifold) if point is None else point
    checks: list[Callable[..., CheckResult]] = [check_dimension, check_projection]
    checks += [partial(check_retraction, order=order), check_transport, check_exponential]
    results = []
    for check in checks:
        with suppress(NotImplementedError):
            results.append(check(manifold, x))
    return results


def _remainders(
    problem: Problem, curve: Callable[[float], object], value: float, slope: float, bend: float
) -> Array:
    """Return what Taylor's formula of second order leaves of the cost along a curve."""
    return np.array(
        [abs(problem.cost(curve(t)) - value - t * slope - t**2 / 2 * bend) for t in STEPS]
    )


@explained
def check_gradient(
    problem: Problem,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-8,
) -> CheckResult:
    """Check ``f(R(x, t v)) = f(x) + t <grad f, v> + O(t^2)``, and that the gradient is tangent.

    The slope is 2, or steeper where the second derivative vanishes.
    """
    manifold = problem.manifold
    x, v = at(manifold, point, tangent_vector)
    gradient = problem.riemannian_gradient(x)
    value, slope = problem.cost(x), manifold.inner_product(x, gradient, v)
    errors = _remainders(problem, curve_of(manifold, x, v, "retraction"), value, slope, 0.0)
    residuals = {"tangent": normal_part(manifold, x, gradient)}
    advice = "compare euclidean_gradient with the partial derivatives of the cost"
    return conclude("gradient", 2.0, errors, abs(value), residuals, tolerance, advice)


@explained
def check_hessian(
    problem: Problem,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-8,
) -> CheckResult:
    """Check ``f(c(t)) = f(x) + t <grad f, v> + t^2/2 <Hess f[v], v> + O(t^3)`` along geodesics.

    Along retractions where the manifold has no ``exp``; that is right only if they are of second
    order (`check_retraction`). Also: the Hessian is tangent, linear and symmetric. The slope is 3,
    or steeper where the third derivative vanishes.
    """
    manifold = problem.manifold
    x, v = at(manifold, point, tangent_vector)
    inner = manifold.inner_product
    image = problem.riemannian_hessian(x, v)
    value, slope = problem.cost(x), inner(x, problem.riemannian_gradient(x), v)
    curve = curve_of(manifold, x, v, "exp", "retraction")
    errors = _remainders(problem, curve, value, slope, inner(x, image, v))
    other = manifold.random_tangent_vector(x)
    image_other = problem.riemannian_hessian(x, other)
    # Round-off need not be tangent, so it is measured in the ambient norm.
    size = max(size_of(image), size_of(image_other), TINY)
    length = max(manifold.norm(x, v), manifold.norm(x, other))
    scale = length * max(manifold.norm(x, image), manifold.norm(x, image_other), TINY)
    both = problem.riemannian_hessian(x, mixed(v, other))
    residuals = {
        "tangent": normal_part(manifold, x, image),
        "linear": distance_of(both, mixed(image, image_other)) / size,
        "symmetric": abs(inner(x, image, other) - inner(x, v, image_other)) / scale,
    }
    advice = (
        "pass check_gradient first, then compare euclidean_hessian with differences of "
        "euclidean_gradient, and the manifold's euclidean_to_riemannian_hessian"
    )
    return conclude("Hessian", 3.0, errors, abs(value), residuals, tolerance, advice)
