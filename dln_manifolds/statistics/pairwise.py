"""Distances of many pairs of points: solved in blocks, the blocks shared out by joblib."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np

from dln_manifolds.checks import as_matrices, cast
from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    GeodesicWarning,
    InvalidPointError,
)
from dln_manifolds.geodesics.solution import GeodesicSolution, failure
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array

# Doubles in one array of end points of a block: enough pairs for the solver to be fast, few enough
# to be told of progress and to share the work out.
_BLOCK = 2**13
_FEWEST_PAIRS = 32

Pairs = Callable[[int, int], tuple[Array, Array]]


class PairwiseDistances(abc.ABC):
    """What a metric with solved geodesics says of many points at once."""

    _space: Any
    on_failure: str

    @abc.abstractmethod
    def _solve_log(
        self, point: Any, base_point: Any, record: bool
    ) -> tuple[GeodesicSolution, np.dtype[Any]]:
        """Solve the boundary-value problem; also return the dtype of results."""

    @abc.abstractmethod
    def _frame(self, point: Any, name: str = "base_point") -> tuple[Frame | Frame, np.dtype[Any]]:
        """Validate points and return their frames; also the dtype of results."""

    def dist_pairwise(self, points: Any, n_jobs: int = 1, **joblib_kwargs: Any) -> Array:
        """Geodesic distances between all pairs of points.

        Each pair ``i < j`` is solved once, in blocks of many pairs. The blocks go to the workers
        of joblib, whose backends reach from threads (``backend="threading"``) and processes
        ("loky", the default) to several machines ("dask", "ray"). ``verbose=10`` reports on
        standard error how many blocks are done and, with several workers, the time left.

        Parameters
        ----------
        points : array-like, shape=[n_samples, *point_shape]
            Points, of one component unless ``on_failure`` is "warn" or "nan".
        n_jobs : int
            Number of workers; -1 for all processors.
        **joblib_kwargs : dict
            Further arguments of ``joblib.Parallel``.

        Returns
        -------
        dist : array-like, shape=[n_samples, n_samples]
            Symmetric, zero on the diagonal; in Frobenius norm of the layers. If ``on_failure`` is
            "warn" or "nan": NaN for pairs that were not solved or lie in different components.

        Raises
        ------
        InvalidPointError
            If an argument is not a batch of points.
        DisconnectedPointsError
            If two of the points lie in different components, for ``on_failure="raise"``.
        IncompleteGeodesicError, ConvergenceError
            As `dist`, for ``on_failure="raise"``; a note names the first pair that failed.
        """
        array, dtype = self._many(points, "points")
        n_points = len(array)
        # Number of pairs before each row of the upper triangle.
        before = np.arange(n_points) * (2 * n_points - np.arange(n_points) - 1) // 2

        def pairs(low: int, high: int) -> tuple[Array, Array]:
            flat = np.arange(low, high)
            rows = np.searchsorted(before, flat, side="right") - 1
            return rows, flat - before[rows] + rows + 1

        n_pairs = n_points * (n_points - 1) // 2
        self._check_one_component(array, array[:1], "points")
        lengths = self._lengths(array, array, pairs, n_pairs, n_jobs, joblib_kwargs)
        table = np.zeros((n_points, n_points))
        table[np.triu_indices(n_points, 1)] = lengths
        return cast(table + table.T, dtype)

    def closest_neighbor_index(
        self, point: Any, neighbors: Any, n_jobs: int = 1, **joblib_kwargs: Any
    ) -> Any:
        """Index of the neighbor at the smallest geodesic distance.

        Solved in blocks, like `dist_pairwise`.

        Parameters
        ----------
        point : array-like, shape=[..., *point_shape]
            Points.
        neighbors : array-like, shape=[n_neighbors, *point_shape]
            Candidates, in the component of the points unless ``on_failure`` is "warn" or "nan".
        n_jobs : int
            Number of workers; -1 for all processors.
        **joblib_kwargs : dict
            Further arguments of ``joblib.Parallel``.

        Returns
        -------
        index : int or array-like of int, shape=[...,]
            The first of several that are equally near. Neighbors at a distance of NaN (see
            `dist_pairwise`) do not count; a point with no others has no index, whatever
            ``on_failure`` says, since no integer could stand for it.

        Raises
        ------
        DisconnectedPointsError
            Besides the errors of `dist_pairwise`: if no neighbor is in the component of a point.
        ConvergenceError
            If not one distance of a point could be found, though there is one.
        """
        array, _ = self._many(neighbors, "neighbors")
        if len(array) == 0:
            raise InvalidPointError("neighbors is empty; there is no closest one.")
        given = np.asarray(point)
        _, dtype = self._frame(given, "point")
        given = given.astype(dtype, copy=False)
        batch = given.shape[: given.ndim - len(self._space.shape)]
        flat = given.reshape(-1, *self._space.shape)
        self._check_one_component(array, array[:1], "neighbors")
        self._check_one_component(flat, array[:1], "point")

        def pairs(low: int, high: int) -> tuple[Array, Array]:
            rows, columns = np.divmod(np.arange(low, high), len(array))
            return rows, columns

        n_pairs = len(flat) * len(array)
        lengths = self._lengths(flat, array, pairs, n_pairs, n_jobs, joblib_kwargs)
        table = np.where(np.isnan(lengths), np.inf, lengths).reshape(len(flat), len(array))
        lost = np.flatnonzero(np.isinf(table).all(axis=1))
        if lost.size:
            first = int(lost[0])
            if _apart(array, flat[first : first + 1]).all():
                raise DisconnectedPointsError(
                    f"point: number {first} lies in another component than every neighbor: the "
                    f"signs of det differ, so none is the closest."
                )
            raise ConvergenceError(
                f"No distance between point {first} and a neighbor could be found, so none is the "
                f"closest."
            )
        return table.argmin(axis=1).reshape(batch)[()]

    def _check_one_component(self, points: Array, reference: Array, name: str) -> None:
        """Raise for the first point in another component than reference, if failures shall."""
        if self.on_failure != "raise":
            return
        apart = np.flatnonzero(_apart(points, reference))
        if apart.size:
            raise DisconnectedPointsError(
                f"{name}: number {int(apart[0])} lies in another component than the first "
                f"{'neighbor' if name == 'point' else 'one'}: the signs of det differ, and no path "
                f'joins them. Make the metric with on_failure="nan" to have NaN for such pairs.'
            )

    def _many(self, points: Any, name: str) -> tuple[Array, np.dtype[Any]]:
        """Validate a batch of points with one batch axis; results have the dtype returned."""
        shape = self._space.shape
        array, _ = as_matrices(points, shape, name)
        if array.ndim != len(shape) + 1:
            raise InvalidPointError(
                f"{name} has shape {array.shape}; one axis of points is needed before the last "
                f"{len(shape)}."
            )
        _, dtype = self._frame(points, name)
        # Single precision stays, so that blocks are checked against its round-off.
        return array.astype(dtype, copy=False), dtype

    def _lengths(
        self,
        points: Array,
        others: Array,
        pairs: Pairs,
        n_pairs: int,
        n_jobs: int,
        joblib_kwargs: dict[str, Any],
    ) -> Array:
        """Return the distances of pairs in their order, NaN where they are not solved."""
        size = int(np.prod(self._space.shape))
        workers = joblib.effective_n_jobs(n_jobs)
        step = min(max(_FEWEST_PAIRS, _BLOCK // size), max(1, -(-n_pairs // workers)))
        tasks = [
            joblib.delayed(_solve_block)(
                self, points, others, *pairs(low, min(low + step, n_pairs))
            )
            for low in range(0, n_pairs, step)
        ]
        # Handed over at once, so that joblib can tell how long the rest takes.
        options = {"pre_dispatch": "all"} | joblib_kwargs
        found = joblib.Parallel(n_jobs=n_jobs, **options)(tasks)
        lengths = np.concatenate(found) if found else np.empty(0)
        n_failed = int(np.isnan(lengths).sum())
        if n_failed and self.on_failure == "warn":
            warnings.warn(
                f"{n_failed} of {n_pairs} distances could not be found; they are NaN.",
                GeodesicWarning,
                stacklevel=4,
            )
        return lengths


def _solve_block(
    metric: PairwiseDistances, points: Array, others: Array, rows: Array, columns: Array
) -> Array:
    """Solve the pairs of a block; of module level, so that a worker can import it."""
    solution, _ = metric._solve_log(others[columns], points[rows], record=False)
    failed = np.flatnonzero(~solution.success)
    if failed.size and metric.on_failure == "raise":
        error = failure(solution)
        error.add_note(
            f"Batch members are pairs of points; the first that failed is "
            f"({int(rows[failed[0]])}, {int(columns[failed[0]])})."
        )
        raise error
    return np.where(solution.success, solution.length, np.nan)


def _apart(points: Array, reference: Array) -> Array:
    """Which points lie in another component than the one of reference, shape ``(n_points,)``."""
    signs, first = (np.linalg.slogdet(array.astype(float))[0] for array in (points, reference))
    return np.asarray((signs != first).any(axis=tuple(range(1, signs.ndim))))
