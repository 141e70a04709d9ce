"""Our exp and log against geomstats' generic solvers, which know the metric by its matrix only.

That is what a user has without this package: a space of vectors of length n * n, a metric with a
``metric_matrix`` that automatic differentiation can differentiate, and geomstats'
``ExpODESolver`` and ``LogODESolver``. Both sides run in one process, with geomstats' autograd
backend, and geomstats gets the options that were fastest for it: Dormand and Prince's method of
order 8 for exp; scipy's collocation without Jacobians for log. (On a Gaussian 2 x 2 pair,
collocation with Jacobians and shooting, with finite or automatic derivatives, took 5 times longer
or more.)

Equal residual: a relative error is asked for, and each side runs at the loosest power of ten as
its tolerance with which it gets there, found out beforehand. The error of an exp is the distance
from the end point known from log; the residual of a log is the distance from the target of the
point where the velocity leads, by our flow at its default tolerance. Two errors are asked for, one
that is easy for geomstats and one near our default.

Near pairs are a tenth of the norm of the layers apart. A log of geomstats that takes longer than
the budget is stopped; its ratio is then a lower bound. The ratio in a batch compares with our time
per member of a batch of 200; geomstats works on the members one after another.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import _timing as timing  # before numpy: pins the threads

os.environ["GEOMSTATS_BACKEND"] = "autograd"

import geomstats.backend as gs
import numpy as np
from _timing import Array
from geomstats.geometry.euclidean import Euclidean
from geomstats.geometry.riemannian_metric import RiemannianMetric
from geomstats.numerics.bvp import ScipySolveBVP
from geomstats.numerics.geodesic import ExpODESolver, LogODESolver
from geomstats.numerics.ivp import ScipySolveIVP

from dln_manifolds import DLNObservableManifold, DLNObservableMetric

EXP_BAR, LOG_BAR = 100.0, 1000.0
# Relative errors asked for, and the tolerances that are tried, the loosest first.
GOALS = (1e-6, 1e-10)
TOLERANCES = tuple(10.0**-k for k in range(3, 14))
BATCH = 200
# Calls of ours before and as many after one of geomstats', which takes a thousand times as long.
LOOPS = 100
EXP_HEADER = (
    "n",
    "N",
    "error asked for",
    "geomstats [ms]",
    "ours [ms]",
    "ratio (range)",
    "bar",
    "errors",
    "tolerances",
    "ratio in a batch",
)
LOG_HEADER = (
    "n",
    "N",
    "pairs",
    "residual asked for",
    "geomstats [ms]",
    "ours [ms]",
    "ratio (range)",
    "bar",
    "geomstats solved",
    "largest residuals",
    "ratio in a batch",
)


class MatrixMetric(RiemannianMetric):
    """The same metric as a user would write it down: ``A_X`` summed and inverted."""

    def __init__(self, space: Any, n: int, depth: int, tolerance: float) -> None:
        super().__init__(space=space)
        self.n, self.depth = n, depth
        integrator = ScipySolveIVP(method="DOP853", rtol=tolerance, atol=tolerance)
        self.exp_solver = ExpODESolver(space, integrator=integrator)
        self.log_solver = LogODESolver(
            space,
            n_nodes=10,
            integrator=ScipySolveBVP(tol=tolerance, max_nodes=10_000),
            use_jac=False,
        )

    def _powers(self, square: Any) -> list[Any]:
        values, vectors = gs.linalg.eigh(square)
        transposed = gs.moveaxis(vectors, -1, -2)
        exponents = [k / self.depth for k in range(1, self.depth)]
        roots = [(vectors * (values**e)[..., None, :]) @ transposed for e in exponents]
        return [gs.eye(self.n), *roots]

    def metric_matrix(self, base_point: Any = None) -> Any:
        """Inverse of ``sum_p (X X^T)^((N-p)/N) kron (X^T X)^((p-1)/N)``."""
        batch = base_point.shape[:-1]
        point = gs.reshape(base_point, (*batch, self.n, self.n))
        transposed = gs.moveaxis(point, -1, -2)
        left, right = self._powers(point @ transposed), self._powers(transposed @ point)
        total = sum(
            a[..., :, None, :, None] * b[..., None, :, None, :]
            for a, b in zip(reversed(left), right, strict=True)
        )
        return gs.linalg.inv(gs.reshape(total, (*batch, self.n**2, self.n**2)))


def generic_metric(n: int, depth: int, tolerance: float) -> MatrixMetric:
    """Build a space of flattened matrices with this metric, and return the metric."""
    space = Euclidean(n * n, equip=False)
    space.metric = MatrixMetric(space, n, depth, tolerance)
    return space.metric


@contextmanager
def time_limit(budget: float) -> Iterator[None]:
    """Raise TimeoutError in the block after the given number of seconds of processor time."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, budget)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def loosest(error_at: Callable[[float], float], goal: float) -> tuple[float, float]:
    """Return the loosest tolerance whose error is within the goal, and that error."""
    for tolerance in TOLERANCES:
        error = error_at(tolerance)
        if error <= goal:
            return tolerance, error
    raise RuntimeError(f"No tolerance reaches {goal:.0e}.")


def exp_row(X: Array, Y: Array, depth: int, goal: float, repeats: int) -> list[str]:
    """End point Y of a geodesic from X."""
    n = len(X)
    space = DLNObservableManifold(n, depth)
    velocity = space.metric.log(Y, X)

    def generic_exp(tolerance: float) -> Array:
        end_point = generic_metric(n, depth, tolerance).exp(velocity.ravel(), X.ravel())
        return np.reshape(end_point, (n, n))

    def own_exp(tolerance: float) -> Array:
        return DLNObservableMetric(space, tolerance=tolerance).exp(velocity, X)

    loose, theirs = loosest(lambda t: float(timing.relative_distance(generic_exp(t), Y)), goal)
    own, ours = loosest(lambda t: float(timing.relative_distance(own_exp(t), Y)), goal)
    generic = generic_metric(n, depth, tolerance=loose)
    metric = DLNObservableMetric(space, tolerance=own)
    ratio = timing.interleaved(
        lambda: generic.exp(velocity.ravel(), X.ravel()),
        lambda: metric.exp(velocity, X),
        repeats=repeats,
    )
    # geomstats integrates the members of a batch one after another.
    vectors, points = np.tile(velocity, (BATCH, 1, 1)), np.tile(X, (BATCH, 1, 1))
    batch = timing.seconds(lambda: metric.exp(vectors, points)) / BATCH
    return [
        str(n),
        str(depth),
        f"{goal:.0e}",
        *ratio.cells(at_least=EXP_BAR),
        f"{theirs:.0e}, ours {ours:.0e}",
        f"{loose:.0e}, ours {own:.0e}",
        timing.number(ratio.first / batch),
    ]


def draw_pair(rng: np.random.Generator, space: Any, kind: str) -> tuple[Array, Array]:
    """Draw a Gaussian pair, or a Gaussian matrix and a point a tenth of |W| from it."""
    X, Y = (pair[0] for pair in timing.gaussian_pairs(rng, 1, space.n))
    if kind == "near":
        roots = np.linalg.svd(X, compute_uv=False) ** (1 / space.depth)
        layers = np.sqrt(space.depth * np.sum(roots**2))
        velocity = rng.normal(size=X.shape)
        Y = space.metric.exp(0.1 * layers / space.metric.norm(velocity, X) * velocity, X)
    return X, Y


def generic_log(metric: MatrixMetric, X: Array, Y: Array, budget: float) -> tuple[Array, float]:
    """Return geomstats' log and its time; NaN where it fails, TimeoutError as NaN and infinity."""
    start = time.process_time()
    try:
        with time_limit(budget):
            found = np.reshape(metric.log(Y.ravel(), X.ravel()), X.shape)
    except TimeoutError:
        return np.full_like(X, np.nan), np.inf
    except (ValueError, np.linalg.LinAlgError):
        found = np.full_like(X, np.nan)
    return found, time.process_time() - start


@dataclass
class Solved:
    """How pairs were solved at one goal: ratios, residuals of both sides, ratios in a batch."""

    ratios: list[timing.Ratio] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    in_batch: list[float] = field(default_factory=list)

    def row(self, name: list[str], goal: float) -> list[str]:
        """Summarize as a row of the table."""
        cells = timing.pooled(self.ratios).cells(at_least=LOG_BAR)
        n_pairs, reached = len(self.ratios), [error for error in self.theirs if error <= goal]
        bound = "" if len(reached) == n_pairs else "> "
        return [
            *name,
            f"{goal:.0e}",
            bound + cells[0],
            cells[1],
            bound + cells[2],
            cells[3],
            f"{len(reached)} of {n_pairs}",
            f"{max(reached, default=np.nan):.0e}, ours {max(self.ours):.0e}",
            bound + timing.number(float(np.median(self.in_batch))),
        ]


def log_rows(
    rng: np.random.Generator, n: int, depth: int, kind: str, n_pairs: int, budget: float
) -> list[list[str]]:
    """Single logs, one row for each goal."""
    space = DLNObservableManifold(n, depth)
    lenient = DLNObservableMetric(space, on_failure="nan")
    results = {goal: Solved() for goal in GOALS}
    for _ in range(n_pairs):
        X, Y = draw_pair(rng, space, kind)

        def residual(velocity: Array, X: Array = X, Y: Array = Y) -> float:
            if not np.isfinite(velocity).all():
                return np.inf
            end_point = lenient.solve_exp(velocity, X).end_point
            return float(np.nan_to_num(timing.relative_distance(end_point, Y), nan=np.inf))

        def own_log(tolerance: float, X: Array = X, Y: Array = Y) -> Array:
            return DLNObservableMetric(space, tolerance=tolerance).log(Y, X)

        elapsed, error, tolerances = 0.0, np.inf, iter(TOLERANCES)
        for goal, result in results.items():
            own, ours = loosest(lambda t: residual(own_log(t)), goal)
            metric = DLNObservableMetric(space, tolerance=own)
            call = partial(metric.log, Y, X)
            mine = timing.seconds(call, LOOPS)
            # A tolerance that was too loose for one goal is too loose for the next.
            while error > goal and elapsed < np.inf:
                generic = generic_metric(n, depth, next(tolerances))
                found, elapsed = generic_log(generic, X, Y, budget)
                error = residual(found)
            mine = (mine + timing.seconds(call, LOOPS)) / 2
            seconds = min(elapsed, budget)
            result.ratios.append(timing.Ratio(seconds, mine, *(3 * [seconds / mine])))
            result.theirs.append(error)
            result.ours.append(ours)
            # geomstats takes the members of a batch one after another.
            many = [np.tile(point, (BATCH, 1, 1)) for point in (Y, X)]
            each = timing.seconds(partial(metric.log, *many)) / BATCH
            result.in_batch.append(seconds / each)
    name = [str(n), str(depth), f"{n_pairs} {kind}"]
    return [result.row(name, goal) for goal, result in results.items()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--budget", type=float, default=60, help="processor seconds for a log of geomstats"
    )
    options = timing.arguments(__doc__, parser)
    # Their warnings about hard pairs are reported as unsolved pairs.
    warnings.simplefilter("ignore", RuntimeWarning)
    logging.getLogger().setLevel(logging.ERROR)
    rng = np.random.default_rng(options.seed)
    if options.quick:
        exps, logs = [(2, 2, 1)], [(2, 2, "near", 1)]
    else:
        exps = [(2, 2, 5), (2, 3, 5), (3, 2, 1), (3, 3, 1)]
        logs = [(2, 2, "Gaussian", 3), (2, 2, "near", 2), (3, 2, "near", 1), (3, 2, "Gaussian", 1)]
    rows = []
    for n, depth, repeats in exps:
        X, Y = (pair[0] for pair in timing.gaussian_pairs(rng, 1, n))
        rows += [exp_row(X, Y, depth, goal, repeats) for goal in GOALS]
    timing.print_table("exp: geomstats' generic solver against ours", EXP_HEADER, rows)
    rows = [row for job in logs for row in log_rows(rng, *job, budget=options.budget)]
    timing.print_table("log: geomstats' generic solver against ours", LOG_HEADER, rows)


if __name__ == "__main__":
    main()
