"""Geodesics of the metric completion of square invertible matrices, by what kind of pair it is.

Singular matrices belong to the completion, by T with roots that vanish, and join both components.
Which solver does what, with r the lesser rank of both ends:

- n = 1 or N = 1: straight lines of T, known in closed form.
- Both of full rank, one sign of det: the geodesic that does not cross. For N >= 2 no path through
  det = 0 was ever shorter (matrices with det >= 0 seem to be convex: not proved); for N < 2 paths
  that flip two directions are tried too.
- Both of full rank, opposite signs, or one of full rank: :mod:`dln_manifolds.completion.crossing`.
- Both of rank n - 1: for N >= 2 the geodesic of the manifold of that rank. For N < 2 that is up to
  some per cent longer than those that leave it, which are found as between other signs.
- Else: not solved.

What counts as rank is decided by :func:`dln_manifolds.geometry.rank.resolution` once, on the
singular values of X, before roots are taken: smaller ones are zero from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from dln_manifolds.completion.crossing import MOST, CrossingCurves, solve_crossing
from dln_manifolds.completion.solution import CompletedSolution, Curves
from dln_manifolds.completion.starts import (
    Flips,
    opposite_starts,
    same_starts,
    singular_starts,
    with_near_null,
)
from dln_manifolds.geodesics.observable_system import system_of_matrices
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geodesics.solve import solve_log
from dln_manifolds.geodesics.system import Points, Status
from dln_manifolds.geometry.bounds import Bounds, lower_bound, upper_bound
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.rank import MARGIN, resolution
from dln_manifolds.numerics.arrays import Array, DType
from dln_manifolds.numerics.matrices import size_of

# Depth from which geodesics between points of one sign, or of rank n - 1, do not cross.
CONVEX = 2
# Least part of a rival's length by which it must be shorter.
_SHORTER = 1e-9
# Roots of X(t*) below this part of the size there vanish.
_VANISHED = 1e-5


def cut_frame(points: Array, depth: float, dtype: DType) -> Frame:
    """Decompose square matrices, singular values that the rank does not count set to zero."""
    frame = Frame.of_point(points, depth)
    least = resolution(points.shape[-1], dtype) * frame.values[..., :1]
    return replace(frame, values=np.where(frame.values > least, frame.values, 0.0))


def completed_bounds(first: Frame, last: Frame, dtype: DType) -> Bounds:
    """Return bounds of distances in the completion, shape ``(n_batch,)``.

    Of vanishing singular values raised to what is told from zero, and by how far that is more.
    """
    if not np.isfinite(first.depth):
        return Bounds(lower_bound(first, last), upper_bound(first, last))
    raised, apart = [], np.zeros(len(first.values))
    for frame in (first, last):
        floor = MARGIN * resolution(frame.values.shape[-1], dtype) * frame.values[:, :1]
        moved = replace(frame, values=np.where(frame.values == 0, floor, frame.values))
        raised.append(moved)
        apart += np.sqrt(frame.depth) * np.linalg.norm(moved.roots - frame.roots, axis=-1)
    least = np.sqrt(first.depth) * np.linalg.norm(first.roots - last.roots, axis=-1)
    rounding = 1e-14 * np.linalg.norm(first.roots + last.roots, axis=-1)
    lower = np.maximum(lower_bound(*raised) - apart, least - rounding - apart)
    straight, ways = upper_bound(*raised), []
    for place in range(2):
        flipped = list(raised)
        left = flipped[place].left.copy()
        left[..., -1] *= -1
        flipped[place] = replace(flipped[place], left=left)
        through = 2 * np.sqrt(first.depth) * raised[place].roots[:, -1]
        ways.append(through + upper_bound(*flipped))
    return Bounds(np.maximum(lower, 0.0), np.minimum(straight, np.minimum(*ways)) + apart)


@dataclass(frozen=True, eq=False)
class _StraightCurves:
    """Straight lines in the root chart."""

    first: Array
    last: Array
    depth: float

    def evaluate(self, times: Array) -> Array:
        t = times[..., None, None]
        line = (1 - t) * self.first[:, None] + t * self.last[:, None]
        if self.depth == 1:
            return line
        frame = Frame.of_root(line, self.depth)
        return frame.compose(frame.singular_values)


@dataclass(frozen=True, eq=False)
class _LogCurves:
    """Geodesics of a log."""

    solution: GeodesicSolution

    def evaluate(self, times: Array) -> Array:
        return self.solution.evaluate(times[0])[0]


@dataclass(frozen=True, eq=False)
class _Backwards:
    """Geodesics from their ends."""

    curves: Curves

    def evaluate(self, times: Array) -> Array:
        return self.curves.evaluate(1 - times)


class _Batch:
    """Pairs that are solved group by group, and what is known of each."""

    def __init__(
        self, first: Points, last: Points, depth: float, tolerance: float, record: bool
    ) -> None:
        self.first, self.last, self.depth = first, last, depth
        self.tolerance, self.record = tolerance, record
        n_batch, self.n = first.frame.values.shape
        self.system = system_of_matrices(depth, (self.n, self.n), self.n)
        self.length, self.residual = np.full(n_batch, np.nan), np.full(n_batch, np.inf)
        self.time, self.solved = np.full(n_batch, np.inf), np.zeros(n_batch, dtype=bool)
        self.count, self.rank = np.zeros(n_batch, dtype=int), np.full(n_batch, self.n)
        self.curves: list[tuple[Array, Curves]] = []
        self.goal = self.system.goal(tolerance)
        self.ranks = [(frame.values > 0).sum(axis=-1) for frame in (first.frame, last.frame)]
        signs = [np.linalg.slogdet(frame.polar)[0] for frame in (first.frame, last.frame)]
        self.opposite = signs[0] * signs[1] < 0

    def solve(self) -> None:
        """Solve all pairs."""
        n, (here, there) = self.n, self.ranks
        full, low = np.minimum(here, there) == n, np.maximum(here, there) < n
        if (n == 1 and np.isfinite(self.depth)) or self.depth == 1:
            self._straight()
            return
        same = np.flatnonzero(full & ~self.opposite)
        if same.size:
            self._by_log(same, n)
            if self.depth < CONVEX:
                self._contest(same)
        across = np.flatnonzero(full & self.opposite)
        if across.size:
            self._cross(across)
        lowest = np.minimum(here, there)
        edge = np.flatnonzero(low & (lowest == n - 1))
        if edge.size:
            if self.depth >= CONVEX:
                self._by_log(edge, n - 1)
            else:
                self._cross(edge)
            self.time[edge], self.rank[edge] = 0.0, n - 1
        for backwards, blunt in product((False, True), repeat=2):
            kind = ((here < n) == backwards) & ((lowest < n - 1) == blunt)
            rows = np.flatnonzero(~full & ~low & kind)
            if rows.size:
                self._to_singular(rows, backwards)

    def _straight(self) -> None:
        """Join all by straight lines of T: sqrt(N) times their length."""
        ends = [frame.compose(frame.roots) for frame in (self.first.frame, self.last.frame)]
        if self.depth == 1:
            ends = [self.first.value, self.last.value]
        self.length = np.sqrt(self.depth) * size_of(ends[1] - ends[0])
        self.residual, self.solved = np.zeros(len(self.length)), np.ones(len(self.length), bool)
        here, there = (rank < self.n for rank in self.ranks)
        origin = np.where(here[:, None, None], np.eye(self.n), ends[0])
        values = np.linalg.eigvals(np.linalg.solve(origin, ends[1]))
        # (1 - t) + t mu = 0
        real = (np.abs(values.imag) <= 1e-14 * np.abs(values)) & (values.real < 0)
        met = np.where(real, 1 / (1 - np.where(real, values.real, 0.0)), np.inf).min(axis=-1)
        self.time = np.where(here, 0.0, np.where(there, np.minimum(met, 1.0), met))
        curves, rows = _StraightCurves(ends[0], ends[1], self.depth), np.arange(len(self.length))
        self.curves = [(rows, curves)]
        times = np.where(np.isfinite(self.time), self.time, 0.5)[:, None, None]
        first, last = ((1 - times) * ends[0], times * ends[1])
        size = size_of(first) + size_of(last)
        roots = np.linalg.svd(first + last, compute_uv=False)
        self._note(rows, self.time, roots / size[:, None])

    def _by_log(self, rows: Array, rank: int) -> None:
        """Join some pairs by geodesics of matrices of a rank."""
        ends, system = [], system_of_matrices(self.depth, (self.n, self.n), rank)
        for points in (self.first, self.last):
            frame, value = points.frame.take(rows), points.value[rows]
            if rank < self.n:
                kept = (
                    frame.left[..., :rank],
                    frame.values[..., :rank],
                    frame.right_t[..., :rank, :],
                )
                frame = Frame(*kept, frame.depth, frame.power)
                value = frame.compose(frame.values)
            ends.append(Points(value, frame))
        found = solve_log(system, *ends, tolerance=self.tolerance, record=self.record)
        self._keep(rows, found.length, found.residual, found.success, found.n_evaluations)
        self.curves.append((rows, _LogCurves(found)))

    def _keep(
        self, rows: Array, length: Array, residual: Array, solved: Array, count: Array
    ) -> None:
        self.length[rows], self.residual[rows], self.solved[rows] = length, residual, solved
        self.count[rows] += count

    def _note(self, rows: Array, time: Array, roots: Array) -> None:
        """Note where geodesics cross, and the rank there, from all roots beside the size there."""
        self.time[rows] = time
        vanished = (roots <= _VANISHED).sum(axis=-1)
        self.rank[rows] = np.where(np.isfinite(time), self.n - vanished, self.n)

    def _crossing(
        self,
        rows: Array,
        starts: list[Flips] | None = None,
        backwards: bool = False,
        most: int = MOST,
    ) -> CrossingCurves:
        first, last = (points.frame.take(rows) for points in (self.first, self.last))
        if backwards:
            first, last = last, first
        if starts is None and (last.values > 0).all():
            starts = opposite_starts(rows.size, self.n)
        elif starts is None:
            last = with_near_null(first, last)
            starts = singular_starts(first, last)
        given = self.goal, self.tolerance, self.record
        return solve_crossing(first, last, starts, *given, most=most)

    def _cross(self, rows: Array) -> None:
        """Join pairs of opposite signs, or both of rank n - 1; what fails is tried backwards."""
        for backwards in (False, True):
            found = self._crossing(rows, backwards=backwards)
            self._keep(rows, found.length, found.residual, found.solved, found.n_evaluations)
            time = 1 - found.crossing if backwards else found.crossing
            self._note(rows, np.abs(time), found.crossing_roots())
            self.curves.append((rows, _Backwards(found) if backwards else found))
            rows = rows[~found.solved]
            if rows.size == 0:
                break

    def _contest(self, rows: Array) -> None:
        """Look for geodesics that are shorter than those of log, or are there where those end."""
        # From one end only, so with more work: some geodesics turn far near det = 0. Larger
        # matrices take longer for it.
        found = self._crossing(rows, same_starts(rows.size, self.n), most=8 * MOST // self.n)
        self.count[rows] += found.n_evaluations
        shorter = found.length < (1 - _SHORTER) * self.length[rows]
        better = found.solved & (shorter | ~self.solved[rows])
        chosen = rows[better]
        self.length[chosen], self.residual[chosen] = found.length[better], found.residual[better]
        self.solved[chosen] = True
        self._note(chosen, found.crossing[better], found.crossing_roots()[better])
        if chosen.size:
            self.curves[-1] = rows, _Some(self.curves[-1][1], found, better)

    def _to_singular(self, rows: Array, backwards: bool) -> None:
        """Join pairs of which one end is singular, from the other one."""
        found = self._crossing(rows, backwards=backwards)
        self._keep(rows, found.length, found.residual, found.solved, found.n_evaluations)
        self._note(rows, found.crossing, found.crossing_roots())
        # A singular end comes first, or last.
        edge = rows if backwards else rows[np.isinf(found.crossing)]
        self.time[edge] = 0.0 if backwards else 1.0
        self.rank[edge] = self.ranks[0 if backwards else 1][edge]
        self.curves.append((rows, _Backwards(found) if backwards else found))


@dataclass(frozen=True, eq=False)
class _Some:
    """Geodesics of which some are replaced by others."""

    curves: Curves
    others: Curves
    which: Array

    def evaluate(self, times: Array) -> Array:
        mask = self.which[:, None, None, None]
        return np.where(mask, self.others.evaluate(times), self.curves.evaluate(times))


def solve_completed(
    first: Points,
    last: Points,
    *,
    depth: float,
    dtype: DType,
    tolerance: float,
    record: bool = True,
) -> CompletedSolution:
    """Find geodesics of the completion between square matrices, frames by `cut_frame`.

    ``record`` says whether the solution has to be callable and to know bounds and ranks.
    """
    batch = _Batch(first, last, depth, tolerance, record)
    batch.solve()
    unknown = np.full(len(batch.length), np.nan)
    bounds = completed_bounds(first.frame, last.frame, dtype) if record else (unknown, unknown)
    n_solved = np.count_nonzero(batch.solved)
    possible = (bounds[0] <= batch.length) & (batch.length <= bounds[1])
    return CompletedSolution(
        np.where(batch.solved | possible, batch.length, np.nan),
        bounds[0],
        bounds[1],
        batch.residual,
        batch.time,
        batch.rank,
        batch.count,
        np.where(batch.solved, int(Status.CONVERGED), int(Status.STALLED)),
        f"{n_solved} of {len(batch.length)} geodesics of the completion solved to a relative "
        f"residual of {batch.goal:.1e}, {len(batch.length) - n_solved} "
        f"{Status.STALLED.message}.",
        batch.curves,
        (batch.n, batch.n),
    )
