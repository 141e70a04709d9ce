"""Our exp and log against geomstats' generic solvers, which know the metric by its matrix only.

That is what a user has without this package: a space of vectors of length n * n, a metric with a
``metric_matrix`` that automatic differentiation can differentiate, and geomstats'
``ExpODESolver`` and ``LogODESolver``. Both sides run in one process, with geomstats' autograd
backend, and geomstats gets the options that were fastest for it: Dormand and Prince's method of
order 8 for exp; scipy's collocation without Jacobians for log. (On a Gaussian 2 x 2 pair,
collocation with Jacobians and shooting, with finite or automatic derivatives, took 5 times longer
or more.)

For exp, our tolerance is the loosest power of ten that is at least as accurate as geomstats. For
log, ours is the default, which is far more accurate. Near pairs are a tenth of the norm of the
layers apart. A log of geomstats that takes longer than the budget is stopped; its ratio is then a
lower bound. The ratio in a batch compares with our time per member of a batch of 200; geomstats
works on the members one after another.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
# A log counts as solved below this relative residual.
SOLVED = 1e-6
BATCH = 200
EXP_HEADER = (
    "n",
    "N",
    "geomstats [ms]",
    "ours [ms]",
    "ratio (range)",
    "bar",
    "errors",
    "ratio in a batch",
)
LOG_HEADER = (
    "n",
    "N",
    "pairs",
    "geomstats [ms]",
    "ours [ms]",
    "ratio (range)",
    "bar",
    "geomstats solved",
    "residual of geomstats",
    "ours",
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
            integrator=ScipySolveBVP(tol=tolerance, max_nodes=1000),
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


def exp_row(rng: np.random.Generator, n: int, depth: int, repeats: int) -> list[str]:
    """End points of geodesics between Gaussian pairs."""
    space = DLNObservableManifold(n, depth)
    X, Y = (pair[0] for pair in timing.gaussian_pairs(rng, 1, n))
    velocity = space.metric.log(Y, X)
    generic = generic_metric(n, depth, tolerance=1e-8)
    end_point = np.reshape(generic.exp(velocity.ravel(), X.ravel()), (n, n))
    theirs = float(timing.relative_distance(end_point, Y))
    for exponent in range(4, 15):
        metric = DLNObservableMetric(space, tolerance=10.0**-exponent)
        ours = float(timing.relative_distance(metric.exp(velocity, X), Y))
        if ours <= theirs:
            break
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
        *ratio.cells(at_least=EXP_BAR),
        f"{theirs:.0e}, ours {ours:.0e}",
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


def log_row(
    rng: np.random.Generator, n: int, depth: int, kind: str, n_pairs: int, budget: float
) -> list[str]:
    """Single logs; geomstats' once for each pair, ours before and after it."""
    space = DLNObservableManifold(n, depth)
    lenient = DLNObservableMetric(space, on_failure="nan")
    generic = generic_metric(n, depth, tolerance=1e-6)
    ratios, theirs, ours, in_batch, n_stopped = [], [], [], [], 0
    for _ in range(n_pairs):
        X, Y = draw_pair(rng, space, kind)
        velocity = space.metric.log(Y, X)
        ours.append(timing.relative_distance(space.metric.exp(velocity, X), Y))
        own_log = partial(space.metric.log, Y, X)
        before = timing.seconds(own_log, 5)
        found, elapsed = generic_log(generic, X, Y, budget)
        mine = (before + timing.seconds(own_log, 5)) / 2
        if np.isinf(elapsed):
            n_stopped += 1
            elapsed = budget
        if np.isfinite(found).all():
            end_point = lenient.solve_exp(found, X).end_point
            theirs.append(float(timing.relative_distance(end_point, Y)))
        ratios.append(timing.Ratio(elapsed, mine, *(3 * [elapsed / mine])))
        # geomstats takes the members of a batch one after another.
        many = [np.tile(point, (BATCH, 1, 1)) for point in (Y, X)]
        in_batch.append(elapsed / (timing.seconds(partial(space.metric.log, *many)) / BATCH))
    cells = timing.pooled(ratios).cells(at_least=LOG_BAR)
    solved = [error for error in theirs if error <= SOLVED]
    bound = "> " if n_stopped else ""
    stopped = f", {n_stopped} stopped" if n_stopped else ""
    return [
        str(n),
        str(depth),
        f"{n_pairs} {kind}",
        bound + cells[0],
        cells[1],
        bound + cells[2],
        cells[3],
        f"{len(solved)} of {n_pairs}{stopped}",
        f"{max(solved):.0e}" if solved else "-",
        f"{max(ours):.0e}",
        bound + timing.number(float(np.median(in_batch))),
    ]


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
        exps = [(2, 2, 5), (2, 3, 5), (3, 2, 2), (3, 3, 2)]
        logs = [(2, 2, "Gaussian", 3), (2, 2, "near", 2), (3, 2, "near", 1), (3, 2, "Gaussian", 1)]
    rows = [exp_row(rng, *job) for job in exps]
    timing.print_table("exp: geomstats' generic solver against ours", EXP_HEADER, rows)
    rows = [log_row(rng, *job, budget=options.budget) for job in logs]
    timing.print_table("log: geomstats' generic solver against ours", LOG_HEADER, rows)


if __name__ == "__main__":
    main()
