"""Points and vectors of any layout: arrays, and lists or tuples of them as on a product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dln_manifolds.diagnostics.results import STEPS
from dln_manifolds.numerics.arrays import Array


def at(manifold: Any, point: Any, tangent_vector: Any) -> tuple[Any, Any]:
    """Return a point and a tangent vector, random where none is given."""
    if point is None:
        if tangent_vector is not None:
            raise ValueError("A tangent vector needs the point where it is attached.")
        point = manifold.random_point()
    if tangent_vector is None:
        tangent_vector = manifold.random_tangent_vector(point)
    return point, tangent_vector


def provides(call: Callable[[], Any]) -> bool:
    """Whether a manifold implements what is called."""
    try:
        call()
    except NotImplementedError:
        return False
    return True


def curve_of(manifold: Any, x: Any, v: Any, *names: str) -> Callable[[float], Any]:
    """Return ``t -> method(x, t v)`` of the first of the methods that is provided."""
    for name in names:
        method = getattr(manifold, name)
        if name == names[-1] or provides(partial(method, x, STEPS[-1] * v)):
            break
    return lambda t: method(x, t * v)


def normal_part(manifold: Any, x: Any, vector: Any) -> float:
    """Return the relative length of what a projection takes away."""
    size = size_of(vector)
    return distance_of(manifold.to_tangent_space(x, vector), vector) / size if size > 0 else 0.0


def leaves(value: Any) -> list[Array]:
    """Return the arrays that a point or vector consists of."""
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [np.asarray(value)]


def flat(value: Any) -> Array:
    """Return all entries as one vector."""
    return np.concatenate([leaf.ravel() for leaf in leaves(value)])


def size_of(value: Any) -> float:
    """Return the Frobenius norm of all entries."""
    return float(np.linalg.norm(flat(value)))


def distance_of(first: Any, second: Any) -> float:
    """Return the Frobenius norm of the difference of all entries."""
    return float(np.linalg.norm(flat(first) - flat(second)))


def same_layout(first: Any, second: Any) -> bool:
    """Whether two values consist of arrays of the same shapes."""
    return [a.shape for a in leaves(first)] == [b.shape for b in leaves(second)]


def combine(x: Any, v: Any, t: float) -> list[Array]:
    """Return ``x + t v`` as a list of arrays."""
    return [a + t * b for a, b in zip(leaves(x), leaves(v), strict=True)]


def gaussian_like(vector: Any) -> Any:
    """Draw an ambient vector with the layout of a tangent vector: arrays, or lists of them."""
    if isinstance(vector, list):
        return type(vector)([gaussian_like(part) for part in vector])
    if isinstance(vector, tuple):
        raise TypeError(
            "Tangent vectors of this manifold are tuples, which need not be ambient vectors: pass "
            "an ambient vector."
        )
    return np.random.normal(size=np.shape(vector))
