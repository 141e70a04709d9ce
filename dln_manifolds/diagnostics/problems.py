"""Checks of a pymanopt problem: its gradient and its Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dln_manifolds.diagnostics.layout import (
    Vector,
    at,
    curve_of,
    distance_of,
    normal_part,
    size_of,
)
from dln_manifolds.diagnostics.results import STEPS, CheckResult, conclude

if TYPE_CHECKING:
    from pymanopt import Problem


def check_gradient(
    problem: Problem,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-8,
) -> CheckResult:
    """Check ``f(R(x, t v)) = f(x) + t <grad f, v> + O(t^2)``, and that the gradient is tangent.

    Parameters
    ----------
    problem : pymanopt.Problem
        Cost and gradient.
    point, tangent_vector : optional
        Random ones of the manifold by default.
    tolerance : float
        Relative residual allowed.

    Returns
    -------
    result : CheckResult
        Slope 2, or steeper where the second derivative vanishes.
    """
    manifold = problem.manifold
    x, v = at(manifold, point, tangent_vector)
    gradient = problem.riemannian_gradient(x)
    value, slope = problem.cost(x), manifold.inner_product(x, gradient, v)
    curve = curve_of(manifold, x, v, "retraction")
    errors = np.array([abs(problem.cost(curve(t)) - value - t * slope) for t in STEPS])
    residuals = {"tangent": normal_part(manifold, x, gradient)}
    return conclude(
        "gradient",
        2.0,
        errors,
        np.finfo(float).eps * abs(value),
        residuals,
        tolerance,
        "compare euclidean_gradient with the partial derivatives of the cost",
    )


def check_hessian(
    problem: Problem,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-8,
) -> CheckResult:
    """Check ``f(c(t)) = f(x) + t <grad f, v> + t^2/2 <Hess f[v], v> + O(t^3)`` along geodesics.

    Along retractions where the manifold has no ``exp``; that is right only if they are of second
    order (`check_retraction`). Also: the Hessian is tangent, linear and symmetric.

    Parameters
    ----------
    problem : pymanopt.Problem
        Cost, gradient and Hessian.
    point, tangent_vector : optional
        Random ones of the manifold by default.
    tolerance : float
        Relative residual allowed.

    Returns
    -------
    result : CheckResult
        Slope 3, or steeper where the third derivative vanishes.
    """
    manifold = problem.manifold
    x, v = at(manifold, point, tangent_vector)
    inner = manifold.inner_product
    image = problem.riemannian_hessian(x, v)
    value, slope = problem.cost(x), inner(x, problem.riemannian_gradient(x), v)
    bend = inner(x, image, v)
    curve = curve_of(manifold, x, v, "exp", "retraction")
    errors = np.array(
        [abs(problem.cost(curve(t)) - value - t * slope - t**2 / 2 * bend) for t in STEPS]
    )
    other = manifold.random_tangent_vector(x)
    image_other = problem.riemannian_hessian(x, other)
    # Round-off need not be tangent, so it is measured in the ambient norm.
    tiny = np.finfo(float).tiny
    size = max(size_of(image), size_of(image_other), tiny)
    length = max(manifold.norm(x, v), manifold.norm(x, other))
    scale = length * max(manifold.norm(x, image), manifold.norm(x, image_other), tiny)
    both = problem.riemannian_hessian(x, 0.7 * v - 1.3 * other)
    residuals = {
        "tangent": normal_part(manifold, x, image),
        "linear": distance_of(both, 0.7 * image - 1.3 * image_other) / size,
        "symmetric": abs(inner(x, image, other) - inner(x, v, image_other)) / scale,
    }
    return conclude(
        "Hessian",
        3.0,
        errors,
        np.finfo(float).eps * abs(value),
        residuals,
        tolerance,
        "pass check_gradient first, then compare euclidean_hessian with differences of "
        "euclidean_gradient, and the manifold's euclidean_to_riemannian_hessian",
    )
