"""The pymanopt halves of both manifolds: one point at a time, the base point first.

No solver of pymanopt ends in an error of ours. A step without a finite entry, which is what their
0/0 makes of a vector, is refused: the retraction stays where it is. NelderMead and ParticleSwarm
ask for ``log``, ``dist`` and ``pair_mean`` of arbitrary pairs, hundreds of times: they get those of
a chord, see `NetworkOptimization.log`.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from pymanopt.manifolds.manifold import Manifold

from dln_manifolds.autodiff.dispatch import asked_by
from dln_manifolds.checks import as_array, as_matrices
from dln_manifolds.errors import (
    ConvergenceError,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.geometry.stratum import Stratum, component
from dln_manifolds.numerics.arguments import Seed, generator
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.cache import PointMemo
from dln_manifolds.numerics.precision import dtype_of_results

if TYPE_CHECKING:
    from dln_manifolds.manifolds.metric import GeodesicMetric

Method = TypeVar("Method", bound=Callable[..., object])
Answer = TypeVar("Answer")
Here = TypeVar("Here")


def keeps_precision(method: Method) -> Method:
    """Let a method return half or single precision where every array given has it."""

    @wraps(method)
    def in_kind(self: object, *given: ArrayLike, **named: ArrayLike) -> object:
        result = method(self, *given, **named)
        arrays = (*given, *(value for name, value in named.items() if name != "rng"))
        dtypes = [getattr(array, "dtype", None) for array in arrays]
        if not all(isinstance(x, np.dtype) and dtype_of_results(x).itemsize < 8 for x in dtypes):
            return result
        return np.asarray(result).astype(np.result_type(*dtypes))[()]

    return in_kind  # type: ignore[return-value]


def refused(vector: Array) -> bool:
    """Whether a vector that passed the checks stands for one without a finite entry."""
    return math.isnan(vector.item(0))


class NetworkOptimization(Manifold, Generic[Here]):
    """What both halves share: geodesics, the chord in their place, and checks of vectors.

    The space below supplies ``stratum``, ``shape``, ``metric``; a half, what it needs at a point.
    ``chord_count`` says how often a chord has answered ``log``, ``dist`` and ``pair_mean``.
    """

    stratum: Stratum
    shape: tuple[int, ...]
    metric: GeodesicMetric
    chord_count = 0
    _told = False

    @cached_property
    def _points(self) -> PointMemo[Here]:
        return PointMemo(self._decompose)

    @abstractmethod
    def _decompose(self, point: Array) -> Here:
        """Validate and decompose a point, once for all calls of a solver there."""

    def _here(self, point: ArrayLike) -> Here:
        return self._points(as_array(point, "point"))

    def _vector(self, vector: ArrayLike, name: str) -> Array:
        """Return a vector, all of it NaN if no entry is finite: a step that solvers refuse."""
        try:
            return as_matrices(vector, self.shape, name)[0]
        except InvalidPointError:
            array = as_array(vector, name)
            if array.shape != self.shape or array.dtype.kind != "f" or np.isfinite(array).any():
                raise
            return np.full(self.shape, np.nan)

    def _derivative(self, value: ArrayLike, name: str) -> Array:
        """Return a derivative of a cost, all of it finite; solvers do not notice NaN themselves."""
        try:
            return as_matrices(value, self.shape, name)[0]
        except InvalidPointError as error:
            if "not finite" not in str(error):
                raise
            raise InvalidPointError(
                f"{str(error).partition('. ')[0]}. The cost is not smooth at this point, or the "
                f"solver has left its domain: let the cost grow towards the border of its domain, "
                f"or begin with shorter steps. dln_manifolds.diagnostics.check_gradient tests a "
                f"gradient."
            ) from error

    def _drawn(self, rng: Seed) -> Array:
        """Return standard normal entries; from numpy's global state, as pymanopt's, or a seed."""
        source = np.random if rng is None else generator(rng)
        return np.asarray(source.normal(size=self.shape))

    def _single(self, point: Array) -> None:
        if point.ndim != len(self.shape):
            shape = f"point has shape {point.shape}"
            raise InvalidPointError(f"{shape}: pymanopt's methods take one point at a time.")

    @property
    def typical_dist(self) -> float:
        """Scale of trust regions: ``sqrt((m + n - r) r)``, n at square matrices of full rank.

        The root mean square length of normal tangent vectors at X, or of their horizontal lifts: as
        for pymanopt's ``Euclidean(m, n)``, which full rank at depth 1 is.
        """
        return math.sqrt(self.stratum.ends_dimension)

    def exp(self, point: ArrayLike, tangent_vector: ArrayLike) -> Array:
        """Riemannian exponential with pymanopt's order of arguments: the base point first."""
        return self.metric.exp(tangent_vector, point)

    @keeps_precision
    def dist(self, point_a: ArrayLike, point_b: ArrayLike) -> float:
        """Distance of two points: that of ``metric.dist``, or the length of a chord as for `log`.

        In Frobenius norm of the layers; raises `DisconnectedPointsError` as `log`.
        """
        return self._total(
            lambda: np.float64(self.metric.dist(point_a, point_b)),
            lambda: np.float64(self._chord_length(point_a, point_b)),
        )

    @keeps_precision
    def log(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Tangent vector at ``point_a`` that points to ``point_b``: the base point comes first.

        The initial velocity of the geodesic, as ``metric.log`` returns. It is not solved for where
        pymanopt's solvers ask, nor returned where no geodesic was found: then that of a *chord*,
        which costs as much as a retraction and exists for every pair. Of layers it is the projected
        chord ``P_W(W' - W)``, the inverse of the orthographic retraction (Absil and Malick 2012,
        *Projection-like retractions on matrix manifolds*); of end-to-end matrices see
        `dln_manifolds.geometry.chord`. It is of second order: it and the length of the chord differ
        from log and distance d by O(d^3), and half the squared length has minus it as its gradient.
        ``chord_count`` counts chords. A `GeodesicWarning` tells, once, that one stands for a
        geodesic that does not exist or was not found.

        Raises `DisconnectedPointsError` if the points lie in different components; not inside
        pymanopt's solvers.
        """
        return self._total(
            lambda: self.metric.log(point_b, point_a),
            lambda: self._chord_log(point_a, point_b),
            point_a,
            point_b,
        )

    @keeps_precision
    def pair_mean(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Midpoint of the geodesic between two points, or half the way of a chord as for `log`.

        The latter is the retraction of half the chord at ``point_a``, in its component. Raises
        `DisconnectedPointsError` as `log`.
        """
        return self._total(
            lambda: self.metric.geodesic(point_a, end_point=point_b)(0.5)[0],
            lambda: self.retraction(point_a, 0.5 * self._chord_log(point_a, point_b)),
            point_a,
            point_b,
        )

    def _total(
        self, geodesic: Callable[[], Answer], chord: Callable[[], Answer], *pair: ArrayLike
    ) -> Answer:
        """Return the answer of the geodesic between two points, or else of the chord."""
        reason = ""
        # Products of manifolds ask on behalf of a solver.
        if not asked_by("pymanopt.optimizers", beyond="pymanopt.manifolds"):
            try:
                return geodesic()
            except (ConvergenceError, IncompleteGeodesicError) as error:
                reason = str(error)
        answer = chord()
        self.chord_count += 1
        if self._told:
            return answer
        frames = [self.stratum.frame(np.asarray(point, dtype=float)) for point in pair]
        if pair and np.any(component(frames[0]) != component(frames[1])):
            reason = "A solver compares points of different components, which no path joins."
        if reason:
            self._told = True
            reason += " A chord stands for the geodesic here; chord_count of the manifold counts "
            reason += "further ones, of which nothing is said."
            warnings.warn(reason, GeodesicWarning, stacklevel=5)
        return answer

    @abstractmethod
    def _chord_log(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Return the logarithm of the chord."""

    @abstractmethod
    def _chord_length(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Return the length of the chord."""

    @keeps_precision
    def inner_product(
        self, point: ArrayLike, tangent_vector_a: ArrayLike, tangent_vector_b: ArrayLike
    ) -> float:
        """Inner product at the point: ``g_X(Z, Z')`` of matrices, that of Frobenius of layers."""
        vec_a = self._vector(tangent_vector_a, "tangent_vector_a")
        vec_b = self._vector(tangent_vector_b, "tangent_vector_b")
        return np.float64(self._inner(point, vec_a, vec_b))

    @keeps_precision
    def euclidean_to_riemannian_gradient(
        self, point: ArrayLike, euclidean_gradient: ArrayLike
    ) -> Array:
        """Return the gradient in the metric: ``A_X(df)`` of X, the tangent part of layers."""
        gradient = self._derivative(euclidean_gradient, "euclidean_gradient")
        return self._gradient(self._here(point), gradient)

    @keeps_precision
    def euclidean_to_riemannian_hessian(
        self,
        point: ArrayLike,
        euclidean_gradient: ArrayLike,
        euclidean_hessian: ArrayLike,
        tangent_vector: ArrayLike,
    ) -> Array:
        r"""Return the Riemannian Hessian ``nabla_V grad f``, without finite differences.

        Of layers it is ``P(D^2 f[V]) + weingarten(V, (df)^normal)``. Of matrices, with ``P = df``,
        ``xi = A(P)`` and ``Q = A^{-1}(V)``, the Koszul formula gives
        ``A(D^2 f[V]) + (DA[V](P) - DA[xi](Q) + A(d tr(P^T A_X Q) / dX)) / 2``.
        """
        vector = self._vector(tangent_vector, "tangent_vector")
        if refused(vector):
            return vector
        here = self._here(point)
        gradient = self._derivative(euclidean_gradient, "euclidean_gradient")
        second = self._derivative(euclidean_hessian, "euclidean_hessian")
        return self._hessian(here, gradient, second, vector)

    @abstractmethod
    def _inner(self, point: ArrayLike, vec_a: Array, vec_b: Array) -> Array:
        """Return the inner product of vectors that have been checked."""

    @abstractmethod
    def _gradient(self, here: Here, gradient: Array) -> Array:
        """Return the Riemannian gradient of a Euclidean one."""

    @abstractmethod
    def _hessian(self, here: Here, gradient: Array, second: Array, vector: Array) -> Array:
        """Return the Riemannian Hessian along a vector, from Euclidean derivatives."""

    @keeps_precision
    def zero_vector(self, point: ArrayLike) -> Array:
        """Return the zero tangent vector."""
        return np.zeros(self.shape)
