"""Passes over samples for their Fréchet mean: sums of logarithms, solved in blocks."""

from typing import NamedTuple, Protocol

import joblib
import numpy as np

from dln_manifolds.geodesics import FailurePolicy, GeodesicSolution, Points, System, solve_log
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.stratum import Stratum
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.statistics.confirmed import Departures, velocity_of

# Doubles in the end points of a block of samples.
_BLOCK = 2**13
# Rounding of gradients, relative to the size of the layers; distance, relative to it and for N <= 8
# and else times 8/N, up to which no second shortest geodesic was ever seen. A rule, no theorem.
_REACH, _SHALLOW = 0.3, 8.0
ROUNDING = 64 * float(np.finfo(float).eps)


class Metric(Protocol):
    """What of a metric with solved geodesics is needed."""

    system: System
    tolerance: float

    def exp(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Riemannian exponential."""

    def inner_product(
        self, tangent_vec_a: ArrayLike, tangent_vec_b: ArrayLike, base_point: ArrayLike
    ) -> Array:
        """Inner products at a point."""

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
    """A point with the mean of logs, the mean squared distance and the largest distance."""

    point: Array
    frame: Frame
    step: Array
    variance: float
    norm: float
    farthest: float


class Pair(NamedTuple):
    """A step and by how much the gradient has changed with it."""

    step: Array
    change: Array


def direction(space: Space, state: State, memory: list[Pair]) -> Array:
    """Return the quasi-Newton step of limited memory (Nocedal 1980)."""
    product, at = space.metric.inner_product, state.point
    step, shares = state.step, []
    for pair in reversed(memory):
        weight = 1 / product(pair.step, pair.change, at)
        share = weight * product(pair.step, step, at)
        step = step - share * pair.change
        shares.append((weight, share))
    for pair, (weight, share) in zip(memory, reversed(shares), strict=True):
        step = step + (share - weight * product(pair.change, step, at)) * pair.step
    ahead = product(step, state.step, at) > 0
    return step if ahead else state.step


def evaluated(
    space: Space,
    point: Array,
    samples: Points,
    weights: Array,
    tolerance: float,
    n_jobs: int,
) -> State:
    """Solve for the geodesics from a point to the samples, block by block."""
    metric, frame = space.metric, space.stratum.frame(point)
    base = Points(point[None], frame.mapped(lambda array: array[None]))
    block = max(32, _BLOCK // int(np.prod(point.shape)))
    task, tolerance = joblib.delayed(_solve_block), max(tolerance, metric.tolerance)
    tasks = (
        task(metric.system, tolerance, base, _some(samples, rows), weights[rows])
        for low in range(0, len(weights), block)
        for rows in [slice(low, low + block)]
    )
    steps, squares, farthest = zip(*joblib.Parallel(n_jobs=n_jobs)(tasks), strict=True)
    step, variance = np.sum(steps, axis=0), float(sum(squares))
    return _state(metric, point, frame, step, variance, max(farthest))


def confirmed(
    space: Space, found: Departures, samples: Points, weights: Array, n_jobs: int
) -> State:
    """Return what paths tell of a mean; geodesics for which these are not confirmed are solved."""
    metric, frame = space.metric, found.frame
    point, known = (
        frame.compose(frame.values),
        found.residual <= metric.system.goal(metric.tolerance),
    )
    share = np.where(known, weights, 0.0)
    step = velocity_of(frame, np.tensordot(share, found.momentum, 1))
    variance, farthest = float(share @ found.length**2), float(found.length.max())
    if not known.all():
        rows = np.flatnonzero(~known)
        some = Points(samples.value[rows], samples.frame.take(rows))
        rest = evaluated(space, point, some, weights[rows], metric.tolerance, n_jobs)
        step, variance = step + rest.step, variance + rest.variance
        farthest = max(farthest, rest.farthest)
    return _state(metric, point, frame, step, variance, farthest)


def _state(
    metric: Metric, point: Array, frame: Frame, step: Array, variance: float, farthest: float
) -> State:
    square = float(metric.inner_product(step, step, point))
    norm = float(np.sqrt(max(square, 0.0)))
    return State(point, frame, step, variance, norm, farthest)


def _solve_block(
    system: System, tolerance: float, base: Points, samples: Points, weights: Array
) -> tuple[Array, float, float]:
    """Return sums over a block: of weighted logs and squares, and the largest distance."""
    start = Points(
        np.repeat(base.value, len(weights), axis=0),
        base.frame.take(np.zeros(len(weights), dtype=int)),
    )
    solution = solve_log(system, start, samples, tolerance=tolerance, record=False)
    velocity = FailurePolicy("raise").resolve(solution, solution.initial_velocity)
    length = solution.length
    step = np.tensordot(weights, velocity, 1)
    return step, float(weights @ length**2), float(length.max())


def _some(points: Points, rows: slice) -> Points:
    return Points(points.value[rows], points.frame.take(np.arange(len(points.value))[rows]))


def size_at(frame: Frame) -> float:
    """Return the norm of the layers of a point; at infinite depth, of N g, without its factor."""
    size = float(np.linalg.norm(frame.roots))
    return size if np.isinf(frame.depth) else float(np.sqrt(frame.depth)) * size


def reach(frame: Frame) -> float:
    """Return how far from a point shortest geodesics are known to be unique."""
    deep = _SHALLOW if np.isinf(frame.depth) else min(1.0, _SHALLOW / frame.depth)
    return _REACH * deep * size_at(frame)


def goal_of(state: State, tolerance: float) -> float:
    """Return the length of the mean of logs that counts as none."""
    return tolerance * float(np.sqrt(state.variance)) + ROUNDING * size_at(state.frame)
