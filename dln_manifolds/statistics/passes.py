"""Passes over samples for means, medians and fits: work on them in blocks, sums of logarithms."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    IncompleteGeodesicError,
)
from dln_manifolds.geodesics import FailurePolicy, GeodesicSolution, Points, System, solve_log
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.stratum import Stratum
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.statistics.confirmed import Departures, velocity_of
from dln_manifolds.statistics.workers import shared_out

# Doubles in the end points of a block of samples.
_BLOCK = 2**13
# Rounding of gradients, relative to the size of the layers; distance, relative to it and for N <= 8
# and else times 8/N, up to which no second shortest geodesic was ever seen. A rule, no theorem.
_REACH, _SHALLOW = 0.3, 8.0
ROUNDING = 64 * float(np.finfo(float).eps)

FAILED = ConvergenceError, IncompleteGeodesicError, DisconnectedPointsError
Result = TypeVar("Result")


class Metric(Protocol):
    """What of a metric with solved geodesics is needed."""

    system: System
    tolerance: float

    @property
    def on_failure(self) -> str:
        """What is done where a geodesic is not found."""

    def exp(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Riemannian exponential."""

    def inner_product(
        self, tangent_vec_a: ArrayLike, tangent_vec_b: ArrayLike, base_point: ArrayLike
    ) -> Array:
        """Inner products at a point."""

    def dist(self, point_a: ArrayLike, point_b: ArrayLike) -> Array:
        """Geodesic distances."""

    def solve_log(self, point: ArrayLike, base_point: ArrayLike) -> GeodesicSolution:
        """Solve for geodesics."""


class Space(Protocol):
    """What of a manifold is needed."""

    @property
    def stratum(self) -> Stratum:
        """What its points are."""

    @property
    def metric(self) -> Metric:
        """Its metric."""

    def projection(self, point: ArrayLike) -> Array:
        """Return a point near an array."""


class State(NamedTuple):
    """A point with ``sum_k w_k d_k^(p-2) log_k``, its length, ``sum_k w_k d_k^p`` and the d_k.

    At p = 2 the step is the mean of logarithms. ``pace`` is ``1 / sum_k w_k d_k^(p-2)``.
    """

    point: Array
    frame: Frame
    step: Array
    variance: float
    norm: float
    lengths: Array
    pace: float = 1.0

    @property
    def farthest(self) -> float:
        """The largest distance."""
        return float(self.lengths.max())


class Pair(NamedTuple):
    """A step and by how much the gradient has changed with it."""

    step: Array
    change: Array


def direction(
    space: Space, point: Array, ahead: Array, memory: list[Pair], pace: float = 1.0
) -> Array:
    """Return the quasi-Newton step of limited memory (Nocedal 1980), of one vector or several.

    ``ahead`` is minus the gradient, ``pace`` times which is taken where the step does not go down:
    the inverse of that pace is the first Hessian.
    """

    def product(first: Array, last: Array) -> float:
        return float(np.sum(space.metric.inner_product(first, last, point)))

    step, shares = ahead, []
    for pair in reversed(memory):
        weight = 1 / product(pair.step, pair.change)
        share = weight * product(pair.step, step)
        step = step - share * pair.change
        shares.append((weight, share))
    step = pace * step
    for pair, (weight, share) in zip(memory, reversed(shares), strict=True):
        step = step + (share - weight * product(pair.change, step)) * pair.step
    return step if product(step, ahead) > 0 else pace * ahead


def evaluated(
    space: Space,
    point: Array,
    samples: Points,
    weights: Array,
    tolerance: float,
    n_jobs: int,
    power: int = 2,
) -> State:
    """Solve for the geodesics from a point to the samples, block by block."""
    metric, base = space.metric, at_point(space, point)
    tolerance = max(tolerance, metric.tolerance)

    def block(rows: Array) -> tuple[object, ...]:
        return metric.system, tolerance, base, samples.take(rows), weights[rows], power

    steps, lengths = zip(*passed(_solve_block, block, samples.value.shape, n_jobs), strict=True)
    step, along = np.sum(steps, axis=0), np.concatenate(lengths)
    frame = base.frame.mapped(lambda array: array[0])
    return _state(metric, point, frame, step, along, weights, power)


def confirmed(
    space: Space, found: Departures, samples: Points, weights: Array, n_jobs: int
) -> State:
    """Return what paths tell of a mean; geodesics for which these are not confirmed are solved."""
    metric, frame = space.metric, found.frame
    point = frame.compose(frame.values)
    known = found.residual <= metric.system.goal(metric.tolerance)
    step = velocity_of(frame, np.tensordot(weights * known, found.momentum, 1))
    lengths = found.length
    if not known.all():
        rows = np.flatnonzero(~known)
        some = samples.take(rows)
        rest = evaluated(space, point, some, weights[rows], metric.tolerance, n_jobs)
        step, lengths[rows] = step + rest.step, rest.lengths
    return _state(metric, point, frame, step, lengths, weights)


def shares_of(weights: Array, lengths: Array, power: int) -> Array:
    """Return ``w_k d_k^(p-2)``, zero where a distance is."""
    apart = lengths > 0
    return np.where(apart, weights * np.where(apart, lengths, 1.0) ** (power - 2.0), 0.0)


def _state(
    metric: Metric,
    point: Array,
    frame: Frame,
    step: Array,
    lengths: Array,
    weights: Array,
    power: int = 2,
) -> State:
    square = float(metric.inner_product(step, step, point))
    norm = float(np.sqrt(max(square, 0.0)))
    total = float(shares_of(weights, lengths, power).sum()) if power != 2 else 1.0
    pace = 1 / total if total else 1.0
    return State(point, frame, step, float(weights @ lengths**power), norm, lengths, pace)


def at_point(space: Space, point: Array) -> Points:
    """Return a batch of one point."""
    return Points(point[None], space.stratum.frame(point[None]))


def passed(
    work: Callable[..., Result],
    block: Callable[[Array], tuple[object, ...]],
    shape: tuple[int, ...],
    n_jobs: int,
) -> list[Result]:
    """Do work on samples, of a shape in all, in blocks: with what ``block`` gives for its rows."""
    size = max(32, _BLOCK // int(np.prod(shape[1:])))
    blocks = np.split(np.arange(shape[0]), range(size, shape[0], size))
    done = dict(shared_out(work, lambda k: block(blocks[k]), range(len(blocks)), n_jobs, {}))
    return [done[k] for k in range(len(blocks))]


def solved_log(system: System, start: Points, end: Points, tolerance: float) -> GeodesicSolution:
    """Return geodesics between pairs of points, all of them solved, or raise."""
    solution = solve_log(system, start, end, tolerance=tolerance, record=False)
    FailurePolicy("raise").resolve(solution, solution.length)
    return solution


def _solve_block(
    system: System, tolerance: float, base: Points, samples: Points, weights: Array, power: int
) -> tuple[Array, Array]:
    """Return the sum of weighted logarithms over a block, and the distances."""
    start = base.take(np.zeros(len(weights), dtype=int))
    solution = solved_log(system, start, samples, tolerance)
    if power != 2:
        weights = shares_of(weights, solution.length, power)
    return np.tensordot(weights, solution.initial_velocity, 1), solution.length


def size_at(frame: Frame) -> float:
    """Return the norm of the layers of a point; at infinite depth, of N g, without its factor."""
    size = float(np.linalg.norm(frame.roots))
    return size if np.isinf(frame.depth) else float(np.sqrt(frame.depth)) * size


def reach(frame: Frame) -> float:
    """Return how far from a point shortest geodesics are known to be unique."""
    deep = _SHALLOW if np.isinf(frame.depth) else min(1.0, _SHALLOW / frame.depth)
    return _REACH * deep * size_at(frame)


def goal_of(state: State, tolerance: float, power: int = 2) -> float:
    """Return the length of the step that counts as none."""
    typical = state.variance ** (1 - 1 / power)
    return float(tolerance * typical + ROUNDING * size_at(state.frame) / state.pace)
