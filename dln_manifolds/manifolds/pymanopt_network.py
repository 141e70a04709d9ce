"""What the pymanopt halves of both manifolds share: the names that only turn the order around."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import isfinite
from typing import Any, TypeVar

import numpy as np
from pymanopt.manifolds.manifold import Manifold

from dln_manifolds.checks import as_matrices
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.numerics.arrays import Array

Method = TypeVar("Method", bound=Callable[..., Any])


def keeps_precision(method: Method) -> Method:
    """Let a method return single precision where every array given has it."""

    @wraps(method)
    def in_kind(self: Any, *arrays: Any) -> Any:
        result = method(self, *arrays)
        single = all(getattr(array, "dtype", None) == np.float32 for array in arrays)
        return result.astype(np.float32) if single else result

    return in_kind  # type: ignore[return-value]


class NetworkOptimization(Manifold):
    """Geodesics in pymanopt's order of arguments, the base point first; one point at a time.

    The space below supplies ``n``, ``depth``, ``shape`` and ``metric``.
    """

    n: int
    depth: Any
    shape: tuple[int, ...]
    metric: Any

    def _vector(self, vector: Any, name: str) -> Array:
        # The usual case, which solvers meet thousands of times: a sum of squares is finite only if
        # all entries are. Others, very long vectors among them, are looked at closely.
        if (
            isinstance(vector, np.ndarray)
            and vector.dtype == np.float64
            and vector.shape == self.shape
            and isfinite(np.vdot(vector, vector))
        ):
            return vector
        return as_matrices(vector, self.shape, name)[0]

    def _point(self, point: Any) -> Array:
        """Return an array as it is given; what it holds is validated where it is decomposed."""
        try:
            return np.asarray(point)
        except ValueError as error:
            raise InvalidPointError("point is not a rectangular array of numbers.") from error

    def _derivative(self, value: Any, name: str) -> Array:
        """Return a derivative of a cost; solvers themselves do not notice NaN."""
        try:
            return self._vector(value, name)
        except InvalidPointError as error:
            if "not finite" not in str(error):
                raise
            raise InvalidPointError(
                f"{str(error).partition('. ')[0]}. The cost is not smooth at this point, or the "
                f"solver has left its domain: let the cost grow towards the border of its domain, "
                f"or begin with shorter steps. dln_manifolds.diagnostics.check_gradient tests a "
                f"gradient."
            ) from error

    @property
    def typical_dist(self) -> float:
        """Scale of trust regions: n, the root of the dimension of the end-to-end matrices.

        As for pymanopt's ``Euclidean(n, n)``, which depth 1 is: the root mean square length of
        tangent vectors at X with standard normal coordinates. Layers have the same scale as their
        end-to-end matrices, since a step to X and its horizontal lift are equally long.
        """
        return float(self.n)

    def dist(self, point_a: Any, point_b: Any) -> np.floating[Any]:
        """Geodesic distance; raises as ``metric.dist``."""
        length: Any = self.metric.dist(point_a, point_b)
        return length[()]

    def exp(self, point: Any, tangent_vector: Any) -> Array:
        """Riemannian exponential with pymanopt's order of arguments: the base point first."""
        return self.metric.exp(tangent_vector, point)

    def log(self, point_a: Any, point_b: Any) -> Array:
        """Tangent vector at ``point_a`` that points to ``point_b``: the base point comes first."""
        return self.metric.log(point_b, point_a)

    def pair_mean(self, point_a: Any, point_b: Any) -> Array:
        """Midpoint of the geodesic between two points."""
        return self.metric.geodesic(point_a, end_point=point_b)(0.5)[0]

    @keeps_precision
    def zero_vector(self, point: Any) -> Array:
        """Return the zero tangent vector."""
        return np.zeros(self.shape)
