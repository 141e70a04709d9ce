"""A view of a space whose points are vectors, for algorithms that take nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import geomstats.backend as gs
import numpy as np
from geomstats.geometry.manifold import Manifold
from geomstats.geometry.riemannian_metric import RiemannianMetric

from dln_manifolds.errors import InvalidPointError


class FlattenedManifold(Manifold):
    r"""The same manifold, with the entries of points and vectors in one row-major axis.

    geomstats' nearest neighbors and agglomerative clustering ask for such points, and so does the
    inverse of ``TangentPCA`` where a point has three axes. Every method reshapes and asks the space
    itself, so all results agree.

    Algorithms that treat tangent vectors as plain vectors (principal components, Gaussian
    processes) measure them in Frobenius norm. Upstairs, that is the metric. For end-to-end
    matrices it is not; with ``orthonormal=True`` tangent vectors are given and taken as
    coordinates ``C = A_X^{-1/2}(Z)`` in an orthonormal frame, in which the metric is the dot
    product at every point: components that are orthonormal as vectors are then orthonormal in the
    metric. That frame is smooth in X and the same for every choice of singular vectors.

    Parameters
    ----------
    space : DLNObservableManifold or BalancedManifold
        The space to look at, with its metric.
    orthonormal : bool
        Whether vectors are coordinates in an orthonormal frame instead of entries.
    equip : bool
        Whether to equip the view with its metric, that of the space.

    Examples
    --------
    Principal components that are orthonormal in the metric, and back in matrices:

    >>> import numpy as np
    >>> from dln_manifolds import DLNObservableManifold
    >>> from geomstats.learning.pca import TangentPCA
    >>> space = DLNObservableManifold(n=2, depth=3)
    >>> view = space.flattened(orthonormal=True)
    >>> X = np.diag([2.0, 0.5])
    >>> points = space.metric.exp(0.1 * space.random_tangent_vec(X, 8), X)
    >>> pca = TangentPCA(view).fit(view.flatten(points), base_point=view.flatten(X))
    >>> components = space.metric.from_orthonormal_coordinates(
    ...     view.unflatten(pca.components_), X
    ... )
    >>> gram = space.metric.inner_product(components[:, None], components, X)
    >>> bool(np.allclose(gram, np.eye(4)))
    True
    """

    def __init__(self, space: Any, orthonormal: bool = False, equip: bool = True) -> None:
        self.space = space
        self.orthonormal = bool(orthonormal)
        size = int(np.prod(space.shape))
        super().__init__(dim=space.dim, shape=(size,), intrinsic=True, equip=equip)

    def __repr__(self) -> str:
        """Return the call that makes this view."""
        return f"{self.space!r}.flattened(orthonormal={self.orthonormal})"

    def default_metric(self) -> type[FlattenedMetric]:
        """Return the class of the metric."""
        return FlattenedMetric

    def new(self, equip: bool = True) -> FlattenedManifold:
        """Return a new view of the same space."""
        return FlattenedManifold(self.space, self.orthonormal, equip=equip)

    def flatten(self, value: Any) -> Any:
        """Join the axes of points or vectors, shape ``(..., *space.shape)``, into one."""
        array, shape = _array(value), self.space.shape
        if tuple(array.shape[-len(shape) :]) != shape:
            raise InvalidPointError(f"The shape is {tuple(array.shape)}; it must end in {shape}.")
        return array.reshape((*array.shape[: -len(shape)], *self.shape))

    def unflatten(self, value: Any) -> Any:
        """Split the last axis of points or vectors: the inverse of `flatten`."""
        array = _array(value)
        if tuple(array.shape[-1:]) != self.shape:
            raise InvalidPointError(
                f"The shape is {tuple(array.shape)}; the last axis must have {self.shape[0]} "
                f"entries. view.flatten(points) makes it so."
            )
        return array.reshape((*array.shape[:-1], *self.space.shape))

    def belongs(self, point: Any, atol: float | None = None) -> Any:
        """Whether vectors are points, shape ``(...)``; see the space."""
        if np.shape(point)[-1:] != self.shape:
            return np.zeros(np.shape(point)[:-1], dtype=bool)[()]
        return self.space.belongs(self.unflatten(point), atol)

    def is_tangent(self, vector: Any, base_point: Any = None, atol: float | None = None) -> Any:
        """Whether vectors are tangent at base points, shape ``(...)``; see the space."""
        if np.shape(vector)[-1:] != self.shape:
            return np.zeros(np.shape(vector)[:-1], dtype=bool)[()]
        return self.space.is_tangent(self.unflatten(vector), self._optional(base_point), atol)

    def to_tangent(self, vector: Any, base_point: Any = None) -> Any:
        """Project to the tangent space, shape ``(..., size)``; see the space."""
        projected = self.space.to_tangent(self.unflatten(vector), self._optional(base_point))
        return self.flatten(projected)

    def projection(self, point: Any) -> Any:
        """Project to the manifold, shape ``(..., size)``; see the space."""
        return self.flatten(self.space.projection(self.unflatten(point)))

    def regularize(self, point: Any) -> Any:
        """Return a copy, shape ``(..., size)``."""
        return self.flatten(self.space.regularize(self.unflatten(point)))

    def random_point(self, n_samples: int = 1, bound: float = 1.0) -> Any:
        """Draw points, shape ``(size,)`` or ``(n_samples, size)``; see the space."""
        return self.flatten(self.space.random_point(n_samples, bound))

    def random_tangent_vec(self, base_point: Any = None, n_samples: int = 1) -> Any:
        """Draw isotropic Gaussian tangent vectors, shape ``(..., size)``; see the space."""
        vectors = self.space.random_tangent_vec(self.unflatten(base_point), n_samples)
        return self._leave(vectors, base_point)

    def _optional(self, base_point: Any) -> Any:
        return None if base_point is None else self.unflatten(base_point)

    def _enter(self, vector: Any, base_point: Any) -> Any:
        """Turn vectors of this view into tangent vectors of the space."""
        shaped = self.unflatten(vector)
        if not self.orthonormal:
            return shaped
        return self.space.metric.from_orthonormal_coordinates(shaped, self.unflatten(base_point))

    def _leave(self, vector: Any, base_point: Any) -> Any:
        """Turn tangent vectors of the space into vectors of this view."""
        if self.orthonormal:
            base = self.unflatten(base_point)
            vector = self.space.metric.orthonormal_coordinates(vector, base)
        return self.flatten(vector)


class FlattenedMetric(RiemannianMetric):
    """The metric of a space on the points and vectors of its flattened view.

    Parameters
    ----------
    space : FlattenedManifold
        The view.
    """

    @property
    def _metric(self) -> Any:
        return self._space.space.metric

    def inner_product(self, tangent_vec_a: Any, tangent_vec_b: Any, base_point: Any = None) -> Any:
        """Inner product of tangent vectors, shape ``(...)``."""
        view = self._space
        vec_a = view._enter(tangent_vec_a, base_point)
        same = tangent_vec_b is tangent_vec_a
        vec_b = vec_a if same else view._enter(tangent_vec_b, base_point)
        return self._metric.inner_product(vec_a, vec_b, view._optional(base_point))

    def inner_coproduct(
        self, cotangent_vec_a: Any, cotangent_vec_b: Any, base_point: Any = None
    ) -> Any:
        """Inner product of covectors, shape ``(...)``: coordinates in the dual frame."""
        view, metric = self._space, self._metric
        base = view._optional(base_point)
        covectors = [view.unflatten(covector) for covector in (cotangent_vec_a, cotangent_vec_b)]
        if view.orthonormal:
            # The dual of A^{1/2} is A^{1/2}: it takes covectors to their coordinates.
            covectors = [metric.orthonormal_coordinates(covector, base) for covector in covectors]
        return metric.inner_coproduct(*covectors, base)

    def squared_norm(self, vector: Any, base_point: Any = None) -> Any:
        """Square of the length of tangent vectors, shape ``(...)``."""
        view = self._space
        return self._metric.squared_norm(
            view._enter(vector, base_point), view._optional(base_point)
        )

    def norm(self, vector: Any, base_point: Any = None) -> Any:
        """Length of tangent vectors, shape ``(...)``."""
        view = self._space
        return self._metric.norm(view._enter(vector, base_point), view._optional(base_point))

    def normalize(self, vector: Any, base_point: Any = None) -> Any:
        """Scale tangent vectors to unit length; zero stays zero."""
        view = self._space
        unit = self._metric.normalize(view._enter(vector, base_point), view._optional(base_point))
        return view._leave(unit, base_point)

    def normal_basis(self, basis: Any, base_point: Any = None) -> Any:
        """Scale every vector of a basis, shape ``(k, size)``, to unit length."""
        return self.normalize(basis, base_point)

    def random_unit_tangent_vec(self, base_point: Any, n_vectors: int = 1) -> Any:
        """Draw tangent vectors of unit length, their direction uniform in the metric."""
        view = self._space
        unit = self._metric.random_unit_tangent_vec(view.unflatten(base_point), n_vectors)
        return view._leave(unit, base_point)

    def exp(self, tangent_vec: Any, base_point: Any) -> Any:
        """Riemannian exponential, shape ``(..., size)``."""
        view = self._space
        vector = view._enter(tangent_vec, base_point)
        return view.flatten(self._metric.exp(vector, view.unflatten(base_point)))

    def log(self, point: Any, base_point: Any) -> Any:
        """Riemannian logarithm, shape ``(..., size)``."""
        view = self._space
        vector = self._metric.log(view.unflatten(point), view.unflatten(base_point))
        return view._leave(vector, base_point)

    def dist(self, point_a: Any, point_b: Any) -> Any:
        """Geodesic distance, shape ``(...)``."""
        return self._metric.dist(self._space.unflatten(point_a), self._space.unflatten(point_b))

    def squared_dist(self, point_a: Any, point_b: Any) -> Any:
        """Square of the geodesic distance, shape ``(...)``."""
        view = self._space
        return self._metric.squared_dist(view.unflatten(point_a), view.unflatten(point_b))

    def dist_pairwise(self, points: Any, n_jobs: int = 1, **joblib_kwargs: Any) -> Any:
        """Geodesic distances between all pairs of points; see the metric of the space."""
        shaped = self._space.unflatten(points)
        return self._metric.dist_pairwise(shaped, n_jobs, **joblib_kwargs)

    def closest_neighbor_index(
        self, point: Any, neighbors: Any, n_jobs: int = 1, **joblib_kwargs: Any
    ) -> Any:
        """Index of the nearest neighbor; see the metric of the space."""
        shaped = [self._space.unflatten(value) for value in (point, neighbors)]
        return self._metric.closest_neighbor_index(*shaped, n_jobs, **joblib_kwargs)

    def geodesic(
        self, initial_point: Any, end_point: Any = None, initial_tangent_vec: Any = None
    ) -> Callable[[Any], Any]:
        """Geodesic with a given end point or initial velocity, a function of time."""
        view = self._space
        if initial_tangent_vec is not None:
            initial_tangent_vec = view._enter(initial_tangent_vec, initial_point)
        path = self._metric.geodesic(
            view.unflatten(initial_point), view._optional(end_point), initial_tangent_vec
        )
        return lambda t: view.flatten(path(t))

    def parallel_transport(
        self, tangent_vec: Any, base_point: Any, direction: Any = None, end_point: Any = None
    ) -> Any:
        """Parallel transport along a geodesic, shape ``(..., size)``."""
        view = self._space
        if (direction is None) == (end_point is None):
            raise ValueError("Give either direction or end_point, and not both.")
        along = None if direction is None else view._enter(direction, base_point)
        transported = self._metric.parallel_transport(
            view._enter(tangent_vec, base_point),
            view.unflatten(base_point),
            direction=along,
            end_point=view._optional(end_point),
        )
        if view.orthonormal and end_point is None:
            end_point = self.exp(direction, base_point)
        return view._leave(transported, end_point)

    def injectivity_radius(self, base_point: Any = None) -> Any:
        """Upper bound of the injectivity radius, shape ``(...)``; see the metric of the space."""
        return self._metric.injectivity_radius(self._space.unflatten(base_point))

    def metric_matrix(self, base_point: Any = None) -> Any:
        """Matrix of the metric on vectors of this view, shape ``(..., size, size)``."""
        matrix = self._metric.metric_matrix(self._space.unflatten(base_point))
        return self._orthonormal_matrix(matrix)

    def cometric_matrix(self, base_point: Any = None) -> Any:
        """Matrix of the cometric on covectors of this view, shape ``(..., size, size)``."""
        matrix = self._metric.cometric_matrix(self._space.unflatten(base_point))
        return self._orthonormal_matrix(matrix)

    def _orthonormal_matrix(self, matrix: Any) -> Any:
        if not (self._space.orthonormal and self._space.dim == self._space.shape[0]):
            return matrix
        return gs.broadcast_to(gs.eye(self._space.dim), matrix.shape) + 0.0

    def christoffels(self, base_point: Any = None) -> Any:
        """Christoffel symbols, where the entries of a point are coordinates of the manifold."""
        if self._space.orthonormal or self._space.dim != self._space.shape[0]:
            raise NotImplementedError(
                "Christoffel symbols need coordinates: they exist for end-to-end matrices with "
                "orthonormal=False. Layers have more entries than degrees of freedom."
            )
        return super().christoffels(base_point)


def _array(value: Any) -> Any:
    """Return an array of any backend as it is, and make one of anything else."""
    return value if hasattr(value, "reshape") else gs.array(value)
