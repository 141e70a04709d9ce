"""A view of a space whose points are vectors, for algorithms that take nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

import geomstats.backend as gs
import numpy as np
from geomstats.geometry.manifold import Manifold
from geomstats.geometry.riemannian_metric import RiemannianMetric

from dln_manifolds.autodiff.docstrings import complete
from dln_manifolds.autodiff.kinds import CURVATURE, METRIC
from dln_manifolds.checks import as_array, tentative
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.manifolds.described import Adjustable, DescribedMetric
from dln_manifolds.numerics.arguments import Seed, one_of
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray
from dln_manifolds.numerics.progress import Progress
from dln_manifolds.statistics.table_file import Destination


class FlattenedManifold(Adjustable, Manifold):
    r"""The same manifold, with the entries of points and vectors in one row-major axis.

    geomstats' nearest neighbors and agglomerative clustering ask for such points, and so does the
    inverse of ``TangentPCA`` where a point has three axes. Every method reshapes and asks the space
    itself, so all results agree.

    Algorithms that treat tangent vectors as plain vectors (principal components, Gaussian
    processes) measure them in Frobenius norm. Upstairs, that is the metric. For end-to-end
    matrices it is not; with ``orthonormal=True`` tangent vectors are given and taken as
    coordinates ``C = A_X^{-1/2}(Z)`` in an orthonormal frame, in which the metric is the dot
    product at every point: components that are orthonormal as vectors are then orthonormal in the
    metric. That frame is smooth in X and the same for every choice of singular vectors. Below full
    rank coordinates are tangent too: there are more of them than dimensions.

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

    def __init__(self, space: Manifold, orthonormal: bool = False, equip: bool = True) -> None:
        self.space = space
        self.orthonormal = bool(orthonormal)
        size = int(np.prod(space.shape))
        super().__init__(dim=space.dim, shape=(size,), intrinsic=True, equip=equip)

    def __repr__(self) -> str:
        """Return the call that makes this view."""
        return f"{self.space!r}.flattened(orthonormal={self.orthonormal})"

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments that make this view, without ``equip``."""
        return {"space": self.space, "orthonormal": self.orthonormal}

    def default_metric(self) -> type[FlattenedMetric]:
        """Return the class of the metric."""
        return FlattenedMetric

    def new(self, equip: bool = True) -> FlattenedManifold:
        """Return a new view of the same space."""
        return FlattenedManifold(self.space, self.orthonormal, equip=equip)

    def flatten(self, value: ArrayLike) -> Array:
        """Join the axes of points or vectors, shape ``(..., *space.shape)``, into one."""
        array, shape = _array(value), self.space.shape
        if tuple(array.shape[-len(shape) :]) != shape:
            raise InvalidPointError(f"The shape is {tuple(array.shape)}; it must end in {shape}.")
        return array.reshape((*array.shape[: -len(shape)], *self.shape))

    def unflatten(self, value: ArrayLike) -> Array:
        """Split the last axis of points or vectors: the inverse of `flatten`."""
        array = _array(value)
        if tuple(array.shape[-1:]) != self.shape:
            raise InvalidPointError(
                f"The shape is {tuple(array.shape)}; the last axis must have {self.shape[0]} "
                f"entries. view.flatten(points) makes it so."
            )
        return array.reshape((*array.shape[:-1], *self.space.shape))

    def belongs(self, point: ArrayLike, atol: float | None = None) -> Array | np.bool_:
        """Whether vectors are points, shape ``(...)``; see the space."""
        try:
            return self.space.belongs(self.unflatten(point), atol)
        except InvalidPointError:
            return tentative(point, self.shape)[1][()]

    def is_tangent(
        self, vector: ArrayLike, base_point: OptionalArray = None, atol: float | None = None
    ) -> Array | np.bool_:
        """Whether vectors are tangent at base points, shape ``(...)``; see the space."""
        try:
            shaped, base = self.unflatten(vector), self.optional(base_point)
        except InvalidPointError:
            return tentative(vector, self.shape)[1][()] & False
        return self.space.is_tangent(shaped, base, atol)

    def to_tangent(self, vector: ArrayLike, base_point: OptionalArray = None) -> Array:
        """Project to the tangent space, shape ``(..., size)``; see the space."""
        projected = self.space.to_tangent(self.unflatten(vector), self.optional(base_point))
        return self.flatten(projected)

    def projection(self, point: ArrayLike) -> Array:
        """Project to the manifold, shape ``(..., size)``; see the space."""
        return self.flatten(self.space.projection(self.unflatten(point)))

    def regularize(self, point: ArrayLike) -> Array:
        """Return a copy, shape ``(..., size)``."""
        return self.flatten(self.space.regularize(self.unflatten(point)))

    def random_point(
        self,
        n_samples: int = 1,
        bound: float = 1.0,
        *,
        rng: Seed = None,
    ) -> Array:
        """Draw points, shape ``(size,)`` or ``(n_samples, size)``; see the space."""
        return self.flatten(self.space.random_point(n_samples, bound, rng=rng))

    def random_tangent_vec(
        self, base_point: OptionalArray = None, n_samples: int = 1, *, rng: Seed = None
    ) -> Array:
        """Draw isotropic Gaussian tangent vectors, shape ``(..., size)``; see the space."""
        base = self.unflatten(base_point)  # type: ignore[arg-type]
        return self.leave("v", self.space.random_tangent_vec(base, n_samples, rng=rng), base)

    def optional(self, base_point: OptionalArray) -> Array | None:
        """Unflatten a point that may be missing."""
        return None if base_point is None else self.unflatten(base_point)

    def enter(self, kind: str, value: ArrayLike, base: Array | None) -> Array | None:
        """Turn an argument of this view into one of the space, by its kind; at a shaped point."""
        if kind == "p" or not self.orthonormal:
            return self.optional(value)
        metric = self.space.metric
        # The dual of A^{1/2} is A^{1/2}: it takes covectors to their coordinates.
        change = {"v": metric.from_orthonormal_coordinates, "c": metric.orthonormal_coordinates}
        return change[kind](self.unflatten(value), base)

    def leave(self, kind: str, value: Array, base: Array | None) -> Array:
        """Turn a result of the space into one of this view, by its kind; at a shaped point."""
        if kind == "m" and self.orthonormal and base is not None and len(self.space.shape) == 2:
            # The identity on coordinates, which are tangent; of full rank, all are.
            return self.flatten(self.space.to_tangent(self.eye(), self.beside(base)))
        if kind == "v" and self.orthonormal:
            value = self.space.metric.orthonormal_coordinates(value, base)
        return self.flatten(value) if kind in "pv" else value

    def eye(self) -> Array:
        """Return unit vectors of the view in the shape of the space."""
        return gs.reshape(gs.eye(self.shape[0]), (self.shape[0], *self.space.shape))

    def beside(self, base: Array) -> Array:
        """Return a shaped point with a new axis after its batch, for several vectors there."""
        return base[(..., None, *(slice(None),) * len(self.space.shape))]

    def units(self, base: Array) -> Array:
        """Return the entries of unit vectors of an orthonormal view, ``(..., size, size)``."""
        metric = self.space.metric
        return self.flatten(metric.from_orthonormal_coordinates(self.eye(), self.beside(base)))


class FlattenedMetric(DescribedMetric, RiemannianMetric):
    """The metric of a space on the points and vectors of its flattened view.

    Its methods are those of the metric of the space, whose arguments are reshaped by their kinds.

    Parameters
    ----------
    space : FlattenedManifold
        The view.
    """

    def _impossible(self) -> frozenset[str]:
        return frozenset() if self._has_coordinates else frozenset(["christoffels"])

    @property
    def _has_coordinates(self) -> bool:
        return not self._space.orthonormal and self._space.dim == self._space.shape[0]

    def geodesic(
        self,
        initial_point: ArrayLike,
        end_point: OptionalArray = None,
        initial_tangent_vec: OptionalArray = None,
    ) -> Callable[[ArrayLike], Array]:
        """Geodesic with a given end point or initial velocity, a function of time."""
        view, base = self._space, self._space.unflatten(initial_point)
        if initial_tangent_vec is not None:
            initial_tangent_vec = view.enter("v", initial_tangent_vec, base)
        path = view.space.metric.geodesic(base, view.optional(end_point), initial_tangent_vec)
        return lambda t: view.flatten(path(t))

    def parallel_transport(
        self,
        tangent_vec: ArrayLike,
        base_point: ArrayLike,
        direction: OptionalArray = None,
        end_point: OptionalArray = None,
    ) -> Array:
        """Parallel transport along a geodesic, shape ``(..., size)``."""
        one_of(direction=direction, end_point=end_point)
        view, metric = self._space, self._space.space.metric
        base = view.unflatten(base_point)
        along = None if direction is None else view.enter("v", direction, base)
        end, vector = view.optional(end_point), view.enter("v", tangent_vec, base)
        transported = metric.parallel_transport(vector, base, direction=along, end_point=end)
        if view.orthonormal and end is None:
            end = metric.exp(along, base)
        return view.leave("v", transported, end)

    def bounds(self, point: ArrayLike, base_point: ArrayLike) -> tuple[Array, Array]:
        """Bounds of geodesic distances, ``(lower, upper)``; see the metric of the space."""
        view = self._space
        return view.space.metric.bounds(view.unflatten(point), view.unflatten(base_point))

    def dist_pairwise(
        self,
        points: ArrayLike,
        n_jobs: int | None = 1,
        completed: bool = False,
        *,
        progress: Progress = False,
        out: Destination = None,
        **joblib_kwargs: object,
    ) -> Array:
        """Geodesic distances between all pairs of points; see the metric of the space."""
        metric, options = self._space.space.metric, {"progress": progress, "out": out}
        given = self._space.unflatten(points), n_jobs, completed
        return metric.dist_pairwise(*given, **options, **joblib_kwargs)

    def closest_neighbor_index(
        self,
        point: ArrayLike,
        neighbors: ArrayLike,
        n_jobs: int | None = 1,
        *,
        progress: Progress = False,
        **joblib_kwargs: object,
    ) -> Array:
        """Index of the nearest neighbor; see the metric of the space."""
        shaped = [self._space.unflatten(value) for value in (point, neighbors)]
        metric, options = self._space.space.metric, {"progress": progress, **joblib_kwargs}
        return metric.closest_neighbor_index(*shaped, n_jobs, **options)

    def christoffels(self, base_point: OptionalArray = None) -> Array:
        """Christoffel symbols, where the entries of a point are coordinates of the manifold."""
        if not self._has_coordinates:
            raise NotImplementedError(
                "Christoffel symbols need coordinates: they exist for end-to-end matrices of full "
                "rank with orthonormal=False. Other points have more entries than degrees of "
                "freedom."
            )
        return self._space.space.metric.christoffels(self._space.optional(base_point))

    def riemann_tensor(self, base_point: OptionalArray = None) -> Array:
        """Riemann tensor on vectors of the view; see the metric of the space."""
        view = self._space
        base = view.optional(base_point)
        tensor = view.space.metric.riemann_tensor(base)
        if not view.orthonormal:
            return tensor
        units = view.units(base)
        tensor = gs.einsum("...ijkl,...ai,...bj->...abkl", tensor, units, units)
        dual = view.flatten(
            view.space.metric.orthonormal_coordinates(view.eye(), view.beside(base))
        )
        return gs.einsum("...abkl,...ck,...ld->...abcd", tensor, units, dual)

    def ricci_tensor(self, base_point: OptionalArray = None) -> Array:
        """Ricci tensor on vectors of the view; see the metric of the space."""
        view = self._space
        base = view.optional(base_point)
        tensor = view.space.metric.ricci_tensor(base)
        if not view.orthonormal:
            return tensor
        units = view.units(base)
        return gs.einsum("...ij,...ai,...bj->...ab", tensor, units, units)


def _viewed(name: str, kind: str) -> Callable[..., Array]:
    """Return a method of the view that reshapes its arguments by their kinds."""
    given, result = kind.split(":")
    general = getattr(RiemannianMetric, name)
    signature = inspect.signature(general)
    parameters = list(signature.parameters)[1:]
    last = parameters[len(given) - 1]

    def method(self: FlattenedMetric, *args: ArrayLike, **kwargs: ArrayLike) -> Array:
        view = self._space
        values: dict[str, object] = {**dict(zip(parameters, args, strict=False)), **kwargs}
        base = view.optional(values.get(last))
        previous: tuple[object, object] = (None, None)
        for parameter, letter in zip(parameters, given, strict=False):
            value = values.get(parameter)
            if parameter == last:
                values[parameter] = base
            elif value is not None:
                # The same vector twice stays the same.
                again = value is previous[0]
                values[parameter] = previous[1] if again else view.enter(letter, value, base)
                previous = (value, values[parameter])
        return view.leave(result, getattr(view.space.metric, name)(**values), base)

    method.__name__, method.__qualname__ = name, f"FlattenedMetric.{name}"
    summary = (inspect.getdoc(general) or "").partition("\n")[0]
    summary += f"\n\nOf vectors: asks ``{name}`` of the metric of the space."
    method.__doc__ = complete(summary, signature, kind, "size")
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


# Methods that geomstats names too.
for _name, _kind in (METRIC | CURVATURE).items():
    if _name not in vars(FlattenedMetric) and hasattr(RiemannianMetric, _name):
        setattr(FlattenedMetric, _name, _viewed(_name, _kind))


def _array(value: object) -> Array:
    """Return an array of any backend as it is, and make one of anything else."""
    if value is None or isinstance(value, np.ndarray) or hasattr(value, "toarray"):
        return as_array(value, "An argument")
    if hasattr(value, "reshape"):
        return cast(Array, value)
    try:
        return gs.array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidPointError("An argument is not a rectangular array of numbers.") from error
