"""Distances of many pairs of points: solved in blocks, the blocks shared out by joblib."""

from collections.abc import Callable
from functools import partial

import joblib
import numpy as np

from dln_manifolds.checks import At
from dln_manifolds.completion import solve_completed
from dln_manifolds.completion.ends import check_reachable, completed_point, require_square
from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.geodesics import FailurePolicy, Points, System, solve_log
from dln_manifolds.geometry.stratum import Stratum, component
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType
from dln_manifolds.numerics.progress import Progress, told

# Doubles in one array of end points of a block: enough pairs for the solver to be fast, few enough
# to be told of progress and to share the work out.
_BLOCK = 2**13
_FEWEST_PAIRS = 32


class PairwiseDistances:
    """What a metric with solved geodesics says of many points at once."""

    stratum: Stratum
    system: System
    policy: FailurePolicy
    tolerance: float

    def dist_pairwise(
        self,
        points: ArrayLike,
        n_jobs: int = 1,
        completed: bool = False,
        *,
        progress: Progress = False,
        **joblib_kwargs: object,
    ) -> Array:
        """Geodesic distances between all pairs of points.

        Each pair ``i < j`` is solved once, in blocks of many pairs. The blocks go to the workers
        of joblib, whose backends reach from threads (``backend="threading"``) and processes
        ("loky", the default) to several machines ("dask", "ray").

        Parameters
        ----------
        points : array-like, shape=[n_samples, *point_shape]
            Points, of one component unless ``on_failure`` is "warn" or "nan".
        n_jobs, **joblib_kwargs
            Number of workers, -1 for all processors, and other arguments of ``joblib.Parallel``.
        completed : bool
            Whether distances are those of ``completed_dist``, of square matrices across det = 0.
        progress : bool or callable
            Whether to show on standard error how many pairs are solved; a function is called with
            how many are, and of how many, after each block.

        Returns
        -------
        dist : array-like, shape=[n_samples, n_samples]
            Symmetric, zero on the diagonal; in Frobenius norm of the layers. If ``on_failure`` is
            "warn" or "nan": NaN for pairs that were not solved or lie in different components.

        Raises
        ------
        DisconnectedPointsError, IncompleteGeodesicError, ConvergenceError
            As `dist`, for ``on_failure="raise"``; a note names the first pair that failed.
        """
        if completed:
            return self._completed_table(points, n_jobs, progress, joblib_kwargs)
        at = self._many(points, "points")
        every, n_points = Points(at.point, at.frame), len(at.point)
        self._check_one_component(every, every, "points")
        pairs = np.triu_indices(n_points, 1)
        table = np.zeros((n_points, n_points))
        task = partial(_solve_block, self.system, self.policy, self.tolerance, every, every)
        table[pairs] = self._lengths(task, *pairs, n_jobs, progress, joblib_kwargs)
        return at.cast(table + table.T)

    def _completed_table(
        self,
        points: ArrayLike,
        n_jobs: int,
        progress: Progress,
        joblib_kwargs: dict[str, object],
    ) -> Array:
        """Return the distances of all pairs in the metric completion."""
        require_square(self.stratum)
        every, dtype = completed_point(self.stratum, points, "points")
        if every.value.ndim != 3:
            raise InvalidPointError(
                f"points has shape {every.value.shape}; one axis of points is needed before the "
                f"last 2."
            )
        rows, columns = np.triu_indices(len(every.value), 1)
        ends, depth = (_some(every, rows), _some(every, columns)), self.stratum.depth
        check_reachable(*ends, depth=depth, batch=rows.shape)
        table = np.zeros((len(every.value),) * 2)
        task = partial(_completed_block, depth, dtype, self.policy, self.tolerance, every)
        lengths = self._lengths(task, rows, columns, n_jobs, progress, joblib_kwargs)
        table[rows, columns] = lengths
        return (table + table.T).astype(dtype, copy=False)

    def closest_neighbor_index(
        self,
        point: ArrayLike,
        neighbors: ArrayLike,
        n_jobs: int = 1,
        *,
        progress: Progress = False,
        **joblib_kwargs: object,
    ) -> Array:
        """Index of the neighbor at the smallest geodesic distance.

        Solved in blocks, like `dist_pairwise`.

        Parameters
        ----------
        point, neighbors : array-like, ``[..., *point_shape]`` and ``[n_neighbors, *point_shape]``
            Points and candidates, of one component unless ``on_failure`` is "warn" or "nan".
        n_jobs, progress, **joblib_kwargs
            As for `dist_pairwise`.

        Returns
        -------
        index : int or array-like of int, shape=[...,]
            The first of several that are equally near. Neighbors at a distance of NaN (see
            `dist_pairwise`) do not count; a point with no others has no index.

        Raises
        ------
        DisconnectedPointsError, ConvergenceError
            As `dist_pairwise`, and whatever ``on_failure`` says if no neighbor is in the component
            of a point, or not one of its distances could be found: no integer could stand for it.
        """
        others = self._many(neighbors, "neighbors")
        if len(others.point) == 0:
            raise InvalidPointError("neighbors is empty; there is no closest one.")
        at = At(self.stratum, point, "point")
        all_points, candidates = Points(*at.flat_point()), Points(others.point, others.frame)
        self._check_one_component(candidates, candidates, "neighbors")
        self._check_one_component(all_points, candidates, "point")
        shape = len(all_points.value), len(others.point)
        pairs = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
        given = self.system, self.policy, self.tolerance, all_points, candidates
        task = partial(_solve_block, *given)
        lengths = self._lengths(task, *pairs, n_jobs, progress, joblib_kwargs)
        table = np.where(np.isnan(lengths), np.inf, lengths).reshape(shape)
        lost = np.flatnonzero(np.isinf(table).all(axis=1))
        if lost.size:
            first = int(lost[0])
            if _apart(candidates, _some(all_points, lost[:1])).all():
                raise DisconnectedPointsError(
                    f"point: number {first} lies in another component than every neighbor: the "
                    f"signs of det differ, so none is the closest."
                )
            raise ConvergenceError(
                f"No distance between point {first} and a neighbor could be found, so none is the "
                f"closest."
            )
        return table.argmin(axis=1).reshape(at.batch)[()]

    def _many(self, points: ArrayLike, name: str) -> At:
        """Validate a batch of points with one batch axis."""
        at = At(self.stratum, points, name)
        if len(at.batch) != 1:
            raise InvalidPointError(
                f"{name} has shape {at.point.shape}; one axis of points is needed before the last "
                f"{len(self.stratum.point_shape)}."
            )
        return at

    def _check_one_component(self, points: Points, others: Points, name: str) -> None:
        """Raise for the first point in another component than the first other, if errors shall."""
        if not (self.policy.raises and len(others.value)):
            return
        apart = np.flatnonzero(_apart(points, _some(others, np.arange(1))))
        if apart.size:
            raise DisconnectedPointsError(
                f"{name}: number {int(apart[0])} lies in another component than the first "
                f"{'neighbor' if name == 'point' else 'one'}: the signs of det differ, and no path "
                f'joins them. Make the metric with on_failure="nan" to have NaN for such pairs.'
            )

    def _lengths(
        self,
        task: Callable[[Array, Array], Array],
        rows: Array,
        columns: Array,
        n_jobs: int,
        progress: Progress,
        joblib_kwargs: dict[str, object],
    ) -> Array:
        """Return the distances of pairs in their order, NaN where they are not solved.

        The task solves those of a block, by their rows and columns.
        """
        size, n_pairs = int(np.prod(self.stratum.point_shape)), len(rows)
        workers = joblib.effective_n_jobs(n_jobs)
        # Whoever waits for large matrices wants to hear of few of them.
        fewest = _FEWEST_PAIRS if progress is False else 1
        step = min(max(fewest, _BLOCK // size), max(1, -(-n_pairs // workers)))
        tasks = [
            joblib.delayed(task)(rows[low : low + step], columns[low : low + step])
            for low in range(0, n_pairs, step)
        ]
        # Handed over at once, so that joblib can tell how long the rest takes; blocks come back one
        # by one where that is to be told.
        options: dict[str, object] = {"pre_dispatch": "all"}
        if progress is not False:
            options["return_as"] = "generator"
        found = []
        with told(progress, n_pairs, "pairs") as advance:
            for block in joblib.Parallel(n_jobs=n_jobs, **(options | joblib_kwargs))(tasks):
                found.append(block)
                advance(len(block))
        lengths = np.concatenate(found) if found else np.empty(0)
        n_failed = int(np.isnan(lengths).sum())
        if n_failed:
            self.policy.warn(
                f"{n_failed} of {n_pairs} distances could not be found; they are NaN.", stacklevel=4
            )
        return lengths


def _solve_block(
    system: System,
    policy: FailurePolicy,
    tolerance: float,
    points: Points,
    others: Points,
    rows: Array,
    columns: Array,
) -> Array:
    """Solve the pairs of a block; of module level, so that a worker can import it."""
    start, end = _some(points, rows), _some(others, columns)
    joined = np.flatnonzero(~_apart(end, start))
    lengths = np.full(len(rows), np.nan)
    if joined.size == 0:
        return lengths
    start, end = _some(start, joined), _some(end, joined)
    solution = solve_log(system, start, end, tolerance=tolerance, record=False)
    if policy.raises:
        try:
            policy.resolve(solution, solution.length)
        except (IncompleteGeodesicError, ConvergenceError) as error:
            failed = int(joined[np.flatnonzero(~solution.success)[0]])
            error.add_note(
                f"Batch members are pairs of points; the first that failed is "
                f"({int(rows[failed])}, {int(columns[failed])})."
            )
            raise
    lengths[joined] = np.where(solution.success, solution.length, np.nan)
    return lengths


def _completed_block(
    depth: float,
    dtype: DType,
    policy: FailurePolicy,
    tolerance: float,
    points: Points,
    rows: Array,
    columns: Array,
) -> Array:
    """Solve the pairs of a block in the metric completion."""
    ends = _some(points, rows), _some(points, columns)
    solution = solve_completed(*ends, depth=depth, dtype=dtype, tolerance=tolerance, record=False)
    if policy.raises and not solution.success.all():
        error, failed = solution.failure(), int(np.flatnonzero(~solution.success)[0])
        error.add_note(f"The first pair that failed is ({rows[failed]}, {columns[failed]}).")
        raise error
    return np.where(solution.success, solution.length, np.nan)


def _some(points: Points, members: Array) -> Points:
    return Points(points.value[members], points.frame.take(members))


def _apart(points: Points, others: Points) -> Array:
    """Which points lie in another component than one other, or than each its own, ``(n,)``."""
    differ = component(points.frame) != component(others.frame)
    return np.asarray(differ.any(axis=tuple(range(1, differ.ndim))))
