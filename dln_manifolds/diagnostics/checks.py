"""Checks of a pymanopt manifold and of a problem on it.

Points and vectors have any layout: arrays, and lists or tuples of them as on a product.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from dln_manifolds.diagnostics.results import STEPS, CheckResult, conclude, explained
from dln_manifolds.numerics.arguments import Seed, whole
from dln_manifolds.numerics.arrays import Array

if TYPE_CHECKING:
    from pymanopt import Problem
    from pymanopt.manifolds.manifold import Manifold

_TINY = float(np.finfo(float).tiny)


class Vector(Protocol):
    """What a tangent vector can do: an array, or pymanopt's list of arrays."""

    def __add__(self, other: Self) -> Self: ...
    def __sub__(self, other: Self) -> Self: ...
    def __mul__(self, factor: float) -> Self: ...
    def __rmul__(self, factor: float) -> Self: ...


def _point(manifold: Manifold, point: object = None) -> object:
    """Return a point, a random one of NumPy's arrays if none is given, whatever the backend."""
    if not hasattr(manifold, "random_tangent_vector"):
        raise TypeError(f"manifold must be a manifold of pymanopt, not {manifold!r}.")
    if point is not None:
        return point
    point = manifold.random_point()
    return point if isinstance(point, list | tuple) else np.asarray(point)


def _at(manifold: Manifold, point: object, tangent_vector: Vector | None) -> tuple[object, Vector]:
    """Return a point and a tangent vector, random where none is given."""
    if point is None and tangent_vector is not None:
        raise ValueError("A tangent vector needs the point where it is attached.")
    point = _point(manifold, point)
    if tangent_vector is None:
        tangent_vector = manifold.random_tangent_vector(point)
    return point, tangent_vector


def _provides(call: Callable[[], object]) -> bool:
    """Whether a manifold implements what is called."""
    try:
        call()
    except NotImplementedError:
        return False
    return True


def _curve_of(manifold: Manifold, x: object, v: Vector, *names: str) -> Callable[[float], object]:
    """Return ``t -> method(x, t v)`` of the first of the methods that is provided."""
    for name in names:
        method = getattr(manifold, name)
        if name == names[-1] or _provides(partial(method, x, STEPS[-1] * v)):
            break
    return lambda t: method(x, t * v)


def _normal_part(manifold: Manifold, x: object, vector: Vector) -> float:
    """Return the relative length of what a projection takes away."""
    size = _size_of(vector)
    return _distance_of(manifold.to_tangent_space(x, vector), vector) / size if size > 0 else 0.0


def _leaves(value: object) -> list[Array]:
    """Return the arrays that a point or vector consists of."""
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _leaves(part)]
    return [np.asarray(value)]


def _flat(value: object) -> Array:
    """Return all entries as one vector."""
    return np.concatenate([leaf.ravel() for leaf in _leaves(value)])


def _size_of(value: object) -> float:
    """Return the Frobenius norm of all entries."""
    return float(np.linalg.norm(_flat(value)))


def _distance_of(first: object, second: object) -> float:
    """Return the Frobenius norm of the difference of all entries."""
    return float(np.linalg.norm(_flat(first) - _flat(second)))


def _same_layout(first: object, second: object) -> bool:
    """Whether two values consist of arrays of the same shapes."""
    return [a.shape for a in _leaves(first)] == [b.shape for b in _leaves(second)]


def _combine(x: object, v: object, t: float) -> list[Array]:
    """Return ``x + t v`` as a list of arrays."""
    return [a + t * b for a, b in zip(_leaves(x), _leaves(v), strict=True)]


def _mixed(v: Vector, w: Vector) -> Vector:
    """Return a combination of vectors by which linearity is tested."""
    return 0.7 * v - 1.3 * w


def _gaussian_like(vector: Vector) -> Vector:
    """Draw an ambient vector with the layout of a tangent vector: arrays, or lists of them."""
    if isinstance(vector, list):
        return type(vector)([_gaussian_like(part) for part in vector])
    if isinstance(vector, tuple):
        raise TypeError(
            "Tangent vectors of this manifold are tuples, which need not be ambient vectors: pass "
            "an ambient vector."
        )
    return np.random.normal(size=np.asarray(vector).shape)


@explained
def check_retraction(
    manifold: Manifold,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    order: int = 1,
    distance: Callable[[object, object], float] = _distance_of,
    tolerance: float = 1e-8,
    rng: Seed = None,
) -> CheckResult:
    """Check that ``R(x, t v)`` agrees with ``exp(x, t v)`` up to ``O(t^(order + 1))``.

    The ``order`` is 1 for a retraction, 2 for one of second order; the slope is 2 or 3, infinite
    if the retraction is the exponential map. Without ``exp``, first order is checked by
    ``x + t v``. The ``distance`` of points is by default the Frobenius norm of the difference,
    which is more accurate than most manifolds' ``dist`` but compares representatives only.
    """
    x, v = _at(manifold, point, tangent_vector)
    order = whole("order", order)
    if _provides(lambda: manifold.exp(x, v * STEPS[-1])):
        reference: Callable[[float], object] = _curve_of(manifold, x, v, "exp")
    elif order > 1:
        raise ValueError(f"{manifold} has no exp to tell a retraction of second order by.")
    else:
        reference = partial(_combine, x, v)
    curve = _curve_of(manifold, x, v, "retraction")
    errors = np.array([distance(curve(t), reference(t)) for t in STEPS])
    size = max(_size_of(x), _TINY)
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
    rng: Seed = None,
) -> CheckResult:
    """Check a vector transport: tangent, linear, the identity at zero distance, continuous.

    The slope is 1, of ``|transport(x, y, v) - v|`` at ``y = R(x, t w)`` with w the ``direction``;
    it is infinite if tangent spaces agree. The field ``isometric`` of the result says whether norms
    are preserved, ``residuals["isometric"]`` by how much not; ``isometric=True`` demands it.
    """
    x, v = _at(manifold, point, tangent_vector)
    w = manifold.random_tangent_vector(x) if direction is None else direction
    other = manifold.random_tangent_vector(x)
    curve = _curve_of(manifold, x, w, "retraction")
    errors = np.array([_distance_of(manifold.transport(x, curve(t), v), v) for t in STEPS])
    y = curve(STEPS[-1])
    moved, moved_other = manifold.transport(x, y, v), manifold.transport(x, y, other)
    both = manifold.transport(x, y, _mixed(v, other))
    size = max(_size_of(moved), _size_of(moved_other), _TINY)
    drift = abs(manifold.norm(y, moved) / manifold.norm(x, v) - 1)
    residuals = {
        "tangent": _normal_part(manifold, y, moved),
        "linear": _distance_of(both, _mixed(moved, moved_other)) / size,
        "identity at x": _distance_of(manifold.transport(x, x, v), v) / size,
    }
    if isometric:
        residuals["isometric"] = drift
    advice = "project to the tangent space of the second point, or transport in parallel"
    result = conclude("transport", 1.0, errors, size, residuals, tolerance, advice)
    preserved = bool(drift <= tolerance)
    reading = "Isometric." if preserved else f"Not isometric: a norm changed by {drift:.1e}."
    residuals, message = {**result.residuals, "isometric": float(drift)}, result.message
    message = f"{message} {reading}"
    return replace(result, isometric=preserved, residuals=residuals, message=message)


@explained
def check_projection(
    manifold: Manifold,
    point: object = None,
    vector: Vector | None = None,
    *,
    tolerance: float = 1e-6,
    rng: Seed = None,
) -> CheckResult:
    """Check the projection to the tangent space: idempotent, orthogonal, onto true velocities.

    Residuals only. The ``vector`` that ``projection(x, vector)`` takes is an ambient one, of the
    shape of a tangent vector by default; velocities are central differences along retractions.
    """
    x, v = _at(manifold, point, None)
    z = _gaussian_like(v) if vector is None else vector
    image = manifold.projection(x, z)
    size = max(_size_of(image), _TINY)
    residuals = {
        "idempotent": _distance_of(manifold.to_tangent_space(x, image), image) / size,
        "keeps tangent vectors": _distance_of(manifold.to_tangent_space(x, v), v) / _size_of(v),
    }
    if _same_layout(z, image):
        normal = z - image
        # The metric of an ambient vector, guessed from that of its tangent part.
        scale = _size_of(z) / size * manifold.norm(x, image) * manifold.norm(x, v)
        residuals["orthogonal"] = abs(manifold.inner_product(x, normal, v)) / scale
    if _same_layout(x, image):
        h = 1e-5 * max(_size_of(x), 1e-300) / size
        ends = [manifold.retraction(x, sign * h * image) for sign in (1.0, -1.0)]
        velocity = (_flat(ends[0]) - _flat(ends[1])) / (2 * h)
        residuals["velocity of curves"] = _distance_of(velocity, image) / size
    advice = "its image must be the velocities of curves on the manifold, its kernel their "
    advice += "orthogonal complement"
    return conclude("projection", np.nan, np.empty(0), 0.0, residuals, tolerance, advice)


@explained
def check_dimension(manifold: Manifold, point: object = None, *, rng: Seed = None) -> CheckResult:
    """Check that ``dim`` is the rank, ``residuals["rank"]``, of about as many tangent vectors."""
    x = _point(manifold, point)
    n_vectors = int(manifold.dim) + 5
    vectors = [_flat(manifold.random_tangent_vector(x)) for _ in range(n_vectors)]
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
    rng: Seed = None,
) -> CheckResult:
    """Check ``exp`` against ``log`` and ``dist``, and ``exp(x, t v) = x + t v + O(t^2)``.

    The first two where they are provided, at a tenth of the vector. The slope is 2, of the
    difference from a straight line.
    """
    x, v = _at(manifold, point, tangent_vector)
    curve = _curve_of(manifold, x, v, "exp")
    errors = np.array([_distance_of(curve(t), _combine(x, v, t)) for t in STEPS])
    short = STEPS[-1] * v
    y, length = manifold.exp(x, short), manifold.norm(x, short)
    residuals = {}
    if _provides(lambda: manifold.dist(x, y)):
        residuals["dist(x, exp(x, v)) = |v|"] = abs(manifold.dist(x, y) - length) / length
    if _provides(lambda: manifold.log(x, y)):
        residuals["log(x, exp(x, v)) = v"] = manifold.norm(x, manifold.log(x, y) - short) / length
    advice = "exp, log and dist must belong to one metric, that of inner_product"
    return conclude("exponential", 2.0, errors, _size_of(x), residuals, tolerance, advice)


@explained
def check_manifold(
    manifold: Manifold, point: object = None, *, order: int = 1, rng: Seed = None
) -> list[CheckResult]:
    """Run every check of a manifold that it provides the methods for.

    In the order dimension, projection, retraction (of the ``order`` that it claims), transport,
    exponential. The result of the transport tells in its field ``isometric`` whether norms are
    preserved; nobody demands it.
    """
    x = _point(manifold, point)
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


def _manifold_of(problem: Problem) -> Manifold:
    """Return the manifold of a problem, or refuse what is none."""
    if not hasattr(problem, "riemannian_gradient"):
        raise TypeError(f"problem must be a problem of pymanopt, not {problem!r}.")
    return problem.manifold


@explained
def check_gradient(
    problem: Problem,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-8,
    rng: Seed = None,
) -> CheckResult:
    """Check ``f(R(x, t v)) = f(x) + t <grad f, v> + O(t^2)``, and that the gradient is tangent.

    The slope is 2, or steeper where the second derivative vanishes.
    """
    manifold = _manifold_of(problem)
    x, v = _at(manifold, point, tangent_vector)
    gradient = problem.riemannian_gradient(x)
    value, slope = problem.cost(x), manifold.inner_product(x, gradient, v)
    errors = _remainders(problem, _curve_of(manifold, x, v, "retraction"), value, slope, 0.0)
    residuals = {"tangent": _normal_part(manifold, x, gradient)}
    advice = "compare euclidean_gradient with the partial derivatives of the cost"
    return conclude("gradient", 2.0, errors, abs(value), residuals, tolerance, advice)


@explained
def check_hessian(
    problem: Problem,
    point: object = None,
    tangent_vector: Vector | None = None,
    *,
    tolerance: float = 1e-8,
    rng: Seed = None,
) -> CheckResult:
    """Check ``f(c(t)) = f(x) + t <grad f, v> + t^2/2 <Hess f[v], v> + O(t^3)`` along geodesics.

    Along retractions where the manifold has no ``exp``; that is right only if they are of second
    order (`check_retraction`). Also: the Hessian is tangent, linear and symmetric. The slope is 3,
    or steeper where the third derivative vanishes.
    """
    manifold = _manifold_of(problem)
    x, v = _at(manifold, point, tangent_vector)
    inner = manifold.inner_product
    image = problem.riemannian_hessian(x, v)
    value, slope = problem.cost(x), inner(x, problem.riemannian_gradient(x), v)
    curve = _curve_of(manifold, x, v, "exp", "retraction")
    errors = _remainders(problem, curve, value, slope, inner(x, image, v))
    other = manifold.random_tangent_vector(x)
    image_other = problem.riemannian_hessian(x, other)
    # Round-off need not be tangent, so it is measured in the ambient norm.
    size = max(_size_of(image), _size_of(image_other), _TINY)
    length = max(manifold.norm(x, v), manifold.norm(x, other))
    scale = length * max(manifold.norm(x, image), manifold.norm(x, image_other), _TINY)
    both = problem.riemannian_hessian(x, _mixed(v, other))
    residuals = {
        "tangent": _normal_part(manifold, x, image),
        "linear": _distance_of(both, _mixed(image, image_other)) / size,
        "symmetric": abs(inner(x, image, other) - inner(x, v, image_other)) / scale,
    }
    advice = "pass check_gradient first, then compare euclidean_hessian with differences of "
    advice += "euclidean_gradient, and the manifold's euclidean_to_riemannian_hessian"
    return conclude("Hessian", 3.0, errors, abs(value), residuals, tolerance, advice)
