"""Points and vectors of any layout: arrays, and lists or tuples of them as on a product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from dln_manifolds.diagnostics.results import STEPS
from dln_manifolds.numerics.arrays import Array

if TYPE_CHECKING:
    from pymanopt.manifolds.manifold import Manifold

TINY = float(np.finfo(float).tiny)


class Vector(Protocol):
    """What a tangent vector can do: an array, or pymanopt's list of arrays."""

    def __add__(self, other: Self) -> Self: ...
    def __sub__(self, other: Self) -> Self: ...
    def __mul__(self, factor: float) -> Self: ...
    def __rmul__(self, factor: float) -> Self: ...


def random_point(manifold: Manifold) -> object:
    """Return a random point of NumPy's arrays, whatever the backend of geomstats."""
    point = manifold.random_point()
    return point if isinstance(point, list | tuple) else np.asarray(point)


def at(manifold: Manifold, point: object, tangent_vector: Vector | None) -> tuple[object, Vector]:
    """Return a point and a tangent vector, random where none is given."""
    if point is None:
        if tangent_vector is not None:
            raise ValueError("A tangent vector needs the point where it is attached.")
        point = random_point(manifold)
    if tangent_vector is None:
        tangent_vector = manifold.random_tangent_vector(point)
    return point, tangent_vector


def provides(call: Callable[[], object]) -> bool:
    """Whether a manifold implements what is called."""
    try:
        call()
    except NotImplementedError:
        return False
    return True


def curve_of(manifold: Manifold, x: object, v: Vector, *names: str) -> Callable[[float], object]:
    """Return ``t -> method(x, t v)`` of the first of the methods that is provided."""
    for name in names:
        method = getattr(manifold, name)
        if name == names[-1] or provides(partial(method, x, STEPS[-1] * v)):
            break
    return lambda t: method(x, t * v)


def normal_part(manifold: Manifold, x: object, vector: Vector) -> float:
    """Return the relative length of what a projection takes away."""
    size = size_of(vector)
    return distance_of(manifold.to_tangent_space(x, vector), vector) / size if size > 0 else 0.0


def leaves(value: object) -> list[Array]:
    """Return the arrays that a point or vector consists of."""
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [np.asarray(value)]


def flat(value: object) -> Array:
    """Return all entries as one vector."""
    return np.concatenate([leaf.ravel() for leaf in leaves(value)])


def size_of(value: object) -> float:
    """Return the Frobenius norm of all entries."""
    return float(np.linalg.norm(flat(value)))


def distance_of(first: object, second: object) -> float:
    """Return the Frobenius norm of the difference of all entries."""
    return float(np.linalg.norm(flat(first) - flat(second)))


def same_layout(first: object, second: object) -> bool:
    """Whether two values consist of arrays of the same shapes."""
    return [a.shape for a in leaves(first)] == [b.shape for b in leaves(second)]


def combine(x: object, v: object, t: float) -> list[Array]:
    """Return ``x + t v`` as a list of arrays."""
    return [a + t * b for a, b in zip(leaves(x), leaves(v), strict=True)]


def mixed(v: Vector, w: Vector) -> Vector:
    """Return a combination of vectors by which linearity is tested."""
    return 0.7 * v - 1.3 * w


def gaussian_like(vector: Vector) -> Vector:
    """Draw an ambient vector with the layout of a tangent vector: arrays, or lists of them."""
    if isinstance(vector, list):
        return type(vector)([gaussian_like(part) for part in vector])
    if isinstance(vector, tuple):
        raise TypeError(
            "Tangent vectors of this manifold are tuples, which need not be ambient vectors: pass "
            "an ambient vector."
        )
    return np.random.normal(size=np.asarray(vector).shape)
