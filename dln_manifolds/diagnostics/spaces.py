"""Checks of a pymanopt manifold: dimension, projection, retraction, transport, geodesics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dln_manifolds.diagnostics.layout import (
    Vector,
    at,
    combine,
    curve_of,
    distance_of,
    flat,
    gaussian_like,
    leaves,
    normal_part,
    provides,
    random_point,
    same_layout,
    size_of,
)
from dln_manifolds.diagnostics.results import STEPS, CheckResult, conclude

if TYPE_CHECKING:
    from pymanopt.manifolds.manifold import Manifold


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

    Parameters
    ----------
    manifold : pymanopt Manifold
        Without ``exp``, first order is checked by ``x + t v``.
    point, tangent_vector : optional
        Random ones by default.
    order : int
        1 for a retraction, 2 for one of second order.
    distance : callable, optional
        Distance between points; by default the Frobenius norm of the difference, which is more
        accurate than most manifolds' ``dist`` but compares representatives only.
    tolerance : float
        Relative residual allowed.

    Returns
    -------
    result : CheckResult
        Slope 2, or 3 for order 2; infinite if the retraction is the exponential map.
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
    size = max(size_of(x), np.finfo(float).tiny)
    residuals = {"R(x, 0) = x": distance(manifold.retraction(x, manifold.zero_vector(x)), x) / size}
    return conclude(
        "retraction",
        order + 1.0,
        errors,
        np.finfo(float).eps * size,
        residuals,
        tolerance,
        "expand the retraction: x + t v must come first"
        + ("" if order == 1 else ", and the second derivative must be that of exp"),
    )


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

    Parameters
    ----------
    manifold : pymanopt Manifold
        Its ``transport(x, y, v)`` with ``y = R(x, t w)``.
    point, tangent_vector, direction : optional
        x, v and w; random ones by default.
    isometric : bool
        Whether norms have to be preserved too. Whether they are is reported anyway.
    tolerance : float
        Relative residual allowed.

    Returns
    -------
    result : CheckResult
        Slope 1 of ``|transport(x, R(x, t w), v) - v|``, infinite if tangent spaces agree. Its field
        ``isometric`` says whether norms are preserved, ``residuals["isometric"]`` by how much not.
    """
    x, v = at(manifold, point, tangent_vector)
    w = manifold.random_tangent_vector(x) if direction is None else direction
    other = manifold.random_tangent_vector(x)
    curve = curve_of(manifold, x, w, "retraction")
    errors = np.array([distance_of(manifold.transport(x, curve(t), v), v) for t in STEPS])
    y = curve(STEPS[-1])
    moved, moved_other = manifold.transport(x, y, v), manifold.transport(x, y, other)
    both = manifold.transport(x, y, 0.7 * v - 1.3 * other)
    size = max(size_of(moved), size_of(moved_other), np.finfo(float).tiny)
    drift = abs(manifold.norm(y, moved) / manifold.norm(x, v) - 1)
    residuals = {
        "tangent": normal_part(manifold, y, moved),
        "linear": distance_of(both, 0.7 * moved - 1.3 * moved_other) / size,
        "identity at x": distance_of(manifold.transport(x, x, v), v) / size,
    }
    if isometric:
        residuals["isometric"] = drift
    result = conclude(
        "transport",
        1.0,
        errors,
        np.finfo(float).eps * size,
        residuals,
        tolerance,
        "project to the tangent space of the second point, or transport in parallel",
    )
    preserved = bool(drift <= tolerance)
    reading = "Isometric." if preserved else f"Not isometric: a norm changed by {drift:.1e}."
    return replace(
        result,
        isometric=preserved,
        residuals={**result.residuals, "isometric": float(drift)},
        message=f"{result.message} {reading}",
    )


def check_projection(
    manifold: Manifold,
    point: object = None,
    vector: Vector | None = None,
    *,
    tolerance: float = 1e-6,
) -> CheckResult:
    """Check the projection to the tangent space: idempotent, orthogonal, onto true velocities.

    Parameters
    ----------
    manifold : pymanopt Manifold
        Its ``projection(x, vector)`` and ``to_tangent_space``.
    point, vector : optional
        x, and an ambient vector; by default random, of the shape of a tangent vector.
    tolerance : float
        Relative residual allowed; velocities are central differences along retractions.

    Returns
    -------
    result : CheckResult
        Residuals only.
    """
    x, v = at(manifold, point, None)
    z = gaussian_like(v) if vector is None else vector
    image = manifold.projection(x, z)
    size = max(size_of(image), np.finfo(float).tiny)
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
    return conclude(
        "projection",
        None,
        np.empty(0),
        0.0,
        residuals,
        tolerance,
        "its image must be the velocities of curves on the manifold, its kernel their orthogonal "
        "complement",
    )


def check_dimension(manifold: Manifold, point: object = None) -> CheckResult:
    """Check that ``dim`` is the rank of random tangent vectors.

    Parameters
    ----------
    manifold : pymanopt Manifold
        Its ``dim`` and ``random_tangent_vector``; about ``dim`` vectors are drawn.
    point : optional
        Random by default.

    Returns
    -------
    result : CheckResult
        The rank is ``residuals["rank"]``.
    """
    x = random_point(manifold) if point is None else point
    n_vectors = int(manifold.dim) + 5
    vectors = [flat(manifold.random_tangent_vector(x)) for _ in range(n_vectors)]
    rank = int(np.linalg.matrix_rank(np.array(vectors), rtol=1e-10))
    ok = rank == int(manifold.dim)
    reading = "at least " if rank == n_vectors else ""
    message = f"{n_vectors} random tangent vectors have rank {reading}{rank}; dim is {manifold.dim}"
    message += "." if ok else ": correct dim, or what random_tangent_vector draws from."
    return CheckResult("dimension", ok, message, residuals={"rank": float(rank)})


def check_exponential(
    manifold: Manifold,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-7,
) -> CheckResult:
    """Check ``exp`` against ``log`` and ``dist``, and ``exp(x, t v) = x + t v + O(t^2)``.

    Parameters
    ----------
    manifold : pymanopt Manifold
        With ``exp``; ``log`` and ``dist`` are checked where provided.
    point, tangent_vector : optional
        Random ones by default; the vector is tried at a tenth of its length.
    tolerance : float
        Relative residual allowed.

    Returns
    -------
    result : CheckResult
        Slope 2, of the difference from a straight line.
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
    return conclude(
        "exponential",
        2.0,
        errors,
        np.finfo(float).eps * size_of(x),
        residuals,
        tolerance,
        "exp, log and dist must belong to one metric, that of inner_product",
    )


def check_manifold(
    manifold: Manifold, point: object = None, *, order: int = 1
) -> list[CheckResult]:
    """Run every check of a manifold that it provides the methods for.

    Parameters
    ----------
    manifold : pymanopt Manifold
        Points must be arrays, or lists of arrays as on a product.
    point : optional
        Random by default.
    order : int
        Order that the retraction claims.

    Returns
    -------
    results : list of CheckResult
        In the order dimension, projection, retraction, transport, exponential. That of the
        transport tells in its field ``isometric`` whether norms are preserved; nobody demands it.
    """
    x = random_point(manifold) if point is None else point
    checks: list[Callable[..., CheckResult]] = [check_dimension, check_projection]
    checks += [partial(check_retraction, order=order), check_transport, check_exponential]
    results = []
    for check in checks:
        with suppress(NotImplementedError):
            results.append(check(manifold, x))
    return results
