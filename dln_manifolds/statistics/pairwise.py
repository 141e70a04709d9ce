"""Distances of many pairs of points: solved in tiles of the table, shared out by joblib."""

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import NamedTuple

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
from dln_manifolds.statistics.table_file import UNSOLVED, Destination, opened
from dln_manifolds.statistics.workers import check_options, check_workers, shared_out

# Doubles in one array of end points of a tile: enough pairs for the solver to be fast, few enough
# to be told of progress and to share the work out.
_BLOCK = 2**14


class _Tile(NamedTuple):
    """Pairs of a group of points with another one, or among themselves: then each pair once."""

    rows: slice
    columns: slice
    within: bool

    def pairs(self) -> tuple[Array, Array]:
        """Return the places of the pairs, counted from the corner of the tile."""
        shape = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        if self.within:
            return np.triu_indices(shape[0], 1)
        rows, columns = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
        return rows, columns

    def known(self, table: Array, symmetric: bool) -> Array:
        """Return what a table has of the pairs; the less of both if it is symmetric."""
        rows, columns = self.pairs()
        found = table[self.rows, self.columns][rows, columns]
        if not symmetric:
            return found
        return np.minimum(found, table[self.columns, self.rows][columns, rows])

    def write(self, table: Array, lengths: Array, symmetric: bool) -> None:
        """Enter the lengths of the pairs into a table."""
        rows, columns = self.pairs()
        table[self.rows, self.columns][rows, columns] = lengths
        if symmetric:
            table[self.columns, self.rows][columns, rows] = lengths

    def named(self, row: int, column: int) -> str:
        """Say which points a pair joins."""
        return f"({self.rows.start + row}, {self.columns.start + column})"


# Lengths of the pairs of a tile, NaN where they are not found, from its two groups of points.
_Solve = Callable[[_Tile, Points, Points], Array]


class PairwiseDistances:
    """What a metric with solved geodesics says of many points at once."""

    stratum: Stratum
    system: System
    policy: FailurePolicy
    tolerance: float

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
        """Geodesic distances between all pairs of points.

        Each pair ``i < j`` is solved once, in tiles of the table that depend on the points alone:
        however the work is shared out, results are the same to the bit on processors of one kind.
        A tile takes only its own points along. The tiles go to the workers of joblib, whose
        backends reach from threads (``backend="threading"``) and processes ("loky", the default) to
        several machines ("dask", "ray"). What was in hand when a worker died is solved again.

        Parameters
        ----------
        points : array-like, shape=[n_samples, *point_shape]
            Points, of one component unless ``on_failure`` is "warn" or "nan".
        n_jobs, **joblib_kwargs
            Number of workers, -1 for all processors, None for what ``joblib.parallel_config`` says,
            and other arguments of ``joblib.Parallel``. Dask takes all workers that it has.
        completed : bool
            Whether distances are those of ``completed_dist``, of square matrices across det = 0.
        progress : bool or callable
            Whether to show on standard error how many pairs are solved; a function is called with
            how many are, and of how many, after each tile.
        out : str, path or array, shape=[n_samples, n_samples], optional
            Where the distances go. A path is that of an ``.npy`` file, which is filled as they come
            and returned as a read-only map. Until then minus infinity stands for what is not solved
            yet: after an interruption, the same call with the same path solves the rest. A hash
            in a file beside it, ``.digest``, tells whether it belongs to these points, this metric
            and its tolerance. An array is filled, from the start.

        Returns
        -------
        dist : array-like, shape=[n_samples, n_samples]
            Symmetric, zero on the diagonal; in Frobenius norm of the layers. If ``on_failure`` is
            "warn" or "nan": NaN for pairs that were not solved or lie in different components.

        Raises
        ------
        DisconnectedPointsError, IncompleteGeodesicError, ConvergenceError
            As `dist`, for ``on_failure="raise"``; a note names a pair that failed.
        WorkerError
            If workers died again and again.
        InvalidFileError, DiskFullError
            If the file belongs to something else, or there is no room for it.
        """
        check_workers(n_jobs)
        every, dtype, solve = self._every(points, completed)
        n_points = len(every.value)
        said = f"{self.stratum!r} {self.tolerance!r} {completed} {every.value.shape}"
        digest = hashlib.sha256(said.encode())
        digest.update(every.value.tobytes())
        table = opened(out, (n_points, n_points), dtype, digest.hexdigest())
        np.fill_diagonal(table, 0.0)
        groups = _groups(n_points, math.isqrt(self._pairs_at_once))
        tiles = [
            _Tile(rows, columns, within=rows is columns)
            for rows, columns in itertools.combinations_with_replacement(groups, 2)
        ]
        self._fill(table, tiles, solve, (every, every), n_jobs, progress, joblib_kwargs)
        if isinstance(table, np.memmap) and table is not out:
            table.flush()
            table.flags.writeable = False
        return table

    @property
    def _pairs_at_once(self) -> int:
        return max(1, _BLOCK // math.prod(self.stratum.point_shape))

    def _every(self, points: ArrayLike, completed: bool) -> tuple[Points, DType, _Solve]:
        """Validate points; also return the dtype of their distances and how to solve for them."""
        if not completed:
            at = self._many(points, "points")
            every = Points(at.point, at.frame)
            self._check_one_component(every, every, "points")
            return every, at.dtype, partial(_solve_tile, self.system, self.policy, self.tolerance)
        require_square(self.stratum)
        every, dtype = completed_point(self.stratum, points, "points")
        if every.value.ndim != 3:
            raise InvalidPointError(
                f"points has shape {every.value.shape}; one axis of points is needed before the "
                f"last 2."
            )
        rows, columns = np.triu_indices(len(every.value), 1)
        depth = self.stratum.depth
        ends = _some(every, rows), _some(every, columns)
        check_reachable(*ends, depth=depth, batch=rows.shape)
        return every, dtype, partial(_completed_tile, depth, dtype, self.policy, self.tolerance)

    def closest_neighbor_index(
        self,
        point: ArrayLike,
        neighbors: ArrayLike,
        n_jobs: int | None = 1,
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
        shape, n_pairs = (len(all_points.value), len(others.point)), self._pairs_at_once
        # Where there are few of one kind, more of the other make a tile.
        wide = n_pairs // max(1, min(shape[0], math.isqrt(n_pairs)))
        high = n_pairs // min(shape[1], wide)
        tiles = [
            _Tile(rows, columns, within=False)
            for rows, columns in itertools.product(_groups(shape[0], high), _groups(shape[1], wide))
        ]
        solve = partial(_solve_tile, self.system, self.policy, self.tolerance)
        lengths = np.full(shape, UNSOLVED)
        both = all_points, candidates
        self._fill(lengths, tiles, solve, both, n_jobs, progress, joblib_kwargs)
        table = np.where(np.isnan(lengths), np.inf, lengths)
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

    def _fill(
        self,
        table: Array,
        tiles: list[_Tile],
        solve: _Solve,
        ends: tuple[Points, Points],
        n_jobs: int | None,
        progress: Progress,
        options: Mapping[str, object],
    ) -> None:
        """Solve for what a table does not have yet, NaN where nothing is found.

        Ends that are the same are those of a symmetric table.
        """
        check_options(options)
        symmetric, pending, n_failed, n_done = ends[0] is ends[1], [], 0, 0
        for number, tile in enumerate(tiles):
            known = tile.known(table, symmetric)
            lost = int(np.isnan(known).sum())
            if (known == UNSOLVED).any() or (lost and self.policy.raises):
                pending.append(number)
            else:
                n_done, n_failed = n_done + len(known), n_failed + lost

        def arguments(number: int) -> tuple[_Tile, Points, Points]:
            tile = tiles[number]
            return tile, _some(ends[0], tile.rows), _some(ends[1], tile.columns)

        n_pairs = table.size if not symmetric else len(table) * (len(table) - 1) // 2
        results = shared_out(solve, arguments, pending, n_jobs, options)
        with told(progress, n_pairs, "pairs") as advance, closing(results):
            if n_done:
                advance(n_done)
            for number, lengths in results:
                tiles[number].write(table, lengths, symmetric)
                n_failed += int(np.isnan(lengths).sum())
                advance(len(lengths))
        if n_failed:
            self.policy.warn(
                f"{n_failed} of {n_pairs} distances could not be found; they are NaN.", stacklevel=4
            )


def _groups(count: int, most: int) -> list[slice]:
    """Divide points into groups of nearly one size."""
    bounds = np.linspace(0, count, -(-count // most) + 1).astype(int).tolist()
    return [slice(*ends) for ends in itertools.pairwise(bounds)]


def _solve_tile(
    system: System,
    policy: FailurePolicy,
    tolerance: float,
    tile: _Tile,
    points: Points,
    others: Points,
) -> Array:
    """Solve the pairs of a tile; of module level, so that a worker can import it."""
    rows, columns = tile.pairs()
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
            failed = joined[np.flatnonzero(~solution.success)[0]]
            error.add_note(
                f"Batch members are pairs of points; the first that failed is "
                f"{tile.named(rows[failed], columns[failed])}."
            )
            raise
    lengths[joined] = np.where(solution.success, solution.length, np.nan)
    return lengths


def _completed_tile(
    depth: float,
    dtype: DType,
    policy: FailurePolicy,
    tolerance: float,
    tile: _Tile,
    points: Points,
    others: Points,
) -> Array:
    """Solve the pairs of a tile in the metric completion."""
    rows, columns = tile.pairs()
    ends = _some(points, rows), _some(others, columns)
    solution = solve_completed(*ends, depth=depth, dtype=dtype, tolerance=tolerance, record=False)
    if policy.raises and not solution.success.all():
        error, failed = solution.failure(), int(np.flatnonzero(~solution.success)[0])
        error.add_note(
            f"The first pair that failed is {tile.named(rows[failed], columns[failed])}."
        )
        raise error
    return np.where(solution.success, solution.length, np.nan)


def _some(points: Points, members: Array | slice) -> Points:
    return Points(points.value[members], points.frame.mapped(lambda array: array[members]))


def _apart(points: Points, others: Points) -> Array:
    """Which points lie in another component than one other, or than each its own, ``(n,)``."""
    differ = component(points.frame) != component(others.frame)
    return np.asarray(differ.any(axis=tuple(range(1, differ.ndim))))
