"""Checks of a pymanopt problem: its gradient and its Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dln_manifolds.diagnostics.layout import (
    TINY,
    Vector,
    at,
    curve_of,
    distance_of,
    mixed,
    normal_part,
    size_of,
)
from dln_manifolds.diagnostics.results import STEPS, CheckResult, conclude, explained
from dln_manifolds.numerics.arrays import Array

if TYPE_CHECKING:
    from pymanopt import Problem


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
