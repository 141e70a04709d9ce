"""geomstats' FrechetMean of 100 matrices 5 x 5 at N = 4, to a Riemannian gradient norm of 1e-9.

The gradient of half the mean squared distance is minus the mean of the logs; its norm at the answer
is computed again here. The time is compared with the same iterations made of single calls. Gaussian
matrices are farther apart than a mean is unique: geomstats' gradient descent jumps there, and its
32 iterations do not reach the goal. Then the package's own estimator, and matrices that are
positive definite at N = 2, beside geomstats' Bures-Wasserstein metric and pyRiemann's mean, if that
is there. Among the points are the 60 networks of ``examples/frechet_mean.py``. ``--many 100000``
takes the mean of so many matrices 3 x 3 instead, and tells the memory that took.
"""

from __future__ import annotations

import argparse
import logging
import math
import resource
import sys
from pathlib import Path

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array
from geomstats.geometry.spd_matrices import SPDBuresWassersteinMetric, SPDMatrices
from geomstats.learning.frechet_mean import FrechetMean

from dln_manifolds import DLNObservableManifold, DLNObservableMetric
from dln_manifolds.statistics import FrechetMean as MeanEstimator

try:
    from pyriemann.geometry.mean import mean_wasserstein
except ImportError:
    mean_wasserstein = None

WIDTH, DEPTH, GOAL = 5, 4, 1e-9
HEADER = (
    "points",
    "spread / |W|",
    "time [s]",
    "exps",
    "logs",
    "gradient norm",
    "goal",
    "as single calls [s]",
    "ratio",
)
OWN_HEADER = (
    "points",
    "time [s]",
    "batches of cold logs",
    "gradient norm",
    "geomstats, times as long",
    "its gradient norm",
    "variance / its own - 1",
)
MANY_HEADER = (
    "samples 3 x 3, N = 4",
    "processor time [s]",
    "gradient norm / distance",
    "steps",
    "peak memory [GiB]",
    "before the fit",
)
POSITIVE_HEADER = (
    "n",
    "logs [s]",
    "times geomstats'",
    "single, times geomstats'",
    "mean [s]",
    "times pyRiemann's",
)


class CountingMetric(DLNObservableMetric):
    """Counts calls: a batch of logs, or an exp, is one."""

    n_logs = n_exps = 0

    def log(self, point: Array, base_point: Array) -> Array:
        self.n_logs += 1
        return super().log(point, base_point)

    def exp(self, tangent_vec: Array, base_point: Array) -> Array:
        self.n_exps += 1
        return super().exp(tangent_vec, base_point)


def draw(rng: np.random.Generator, kind: str, n_points: int) -> Array:
    """Points with positive determinant.

    ``near``: the identity plus a tenth of a Gaussian matrix. ``ball``: at distance 0.3 |W| from a
    Gaussian matrix. ``Gaussian``: Gaussian matrices, too far apart for a mean that is unique.
    """
    points = rng.normal(size=(n_points, WIDTH, WIDTH))
    if kind == "near":
        return np.eye(WIDTH) + 0.1 * points
    points[np.linalg.det(points) < 0, 0] *= -1
    if kind == "Gaussian":
        return points
    metric = DLNObservableManifold(WIDTH, DEPTH).metric
    metric.on_failure = "nan"
    center, found = points[0], np.empty((0, WIDTH, WIDTH))
    s = np.linalg.svd(center, compute_uv=False)
    radius = 0.3 * np.sqrt(DEPTH * np.sum(s ** (2 / DEPTH)))
    while len(found) < n_points:
        vectors = rng.normal(size=points.shape)
        vectors *= (radius / metric.norm(vectors, center))[:, None, None]
        ends = metric.exp(vectors, center)
        # Those whose geodesics leave GL(n) on the way are NaN.
        found = np.concatenate([found, ends[np.isfinite(ends).all(axis=(1, 2))]])
    return found[:n_points]


def mean_row(
    rng: np.random.Generator, kind: str, n_points: int, n_single: int, max_iter: int
) -> list[str]:
    """Compute one mean."""
    points = draw(rng, kind, n_points)
    space = DLNObservableManifold(WIDTH, DEPTH, equip=False)
    space.equip_with_metric(CountingMetric)
    metric = space.metric
    mean = FrechetMean(space)
    # geomstats compares the squared norm with epsilon times the dimension.
    mean.set(epsilon=(0.5 * GOAL) ** 2 / space.dim, max_iter=max_iter)
    elapsed = timing.seconds(lambda: mean.fit(points))
    n_exps, n_logs = metric.n_exps, metric.n_logs
    center = mean.estimate_
    logs = metric.log(points, center)
    gradient = float(metric.norm(np.mean(logs, axis=0), center))
    roots = np.linalg.svd(center, compute_uv=False) ** (1 / DEPTH)
    spread = np.sqrt(np.mean(metric.squared_norm(logs, center)) / (DEPTH * np.sum(roots**2)))

    def single_calls() -> None:
        for point in points[:n_single]:
            metric.log(point, center)

    loop = timing.seconds(single_calls) / n_single * n_points * n_logs
    return [
        f"{n_points} {kind}",
        f"{spread:.2f}",
        timing.number(elapsed),
        str(n_exps),
        str(n_logs),
        f"{gradient:.1e}",
        f"<= {GOAL:g}" + ("" if gradient <= GOAL else " not reached"),
        timing.number(loop),
        timing.number(loop / elapsed),
    ]


def networks(seed: int) -> Array:
    """Train the networks of the example; return those with a positive determinant."""
    sys.path.append(str(Path(__file__).parents[1] / "examples"))
    import frechet_mean as example

    rng, setup = np.random.default_rng(seed), example.Setup()
    data = example.load_data(setup.width, rng)
    matrices = example.end_to_end(example.train(60, setup, data, rng))
    return matrices[example.in_component(matrices)]


def own_row(points: Array, depth: int, name: str, step_size: float = 1.0) -> list[str]:
    """Compute one mean by the estimator of the package, beside geomstats' on the same metric."""
    space = DLNObservableManifold(points.shape[-1], depth)
    metric, own = space.metric, MeanEstimator(space)
    rounds = []
    for _ in range(5):
        fit = timing.seconds(lambda: own.fit(points))
        rounds.append([fit, timing.seconds(lambda: metric.log(points, own.estimate_))])
    elapsed, batch = np.median(rounds, axis=0)
    peer = FrechetMean(space).set(
        epsilon=(0.5 * GOAL) ** 2 / space.dim,
        max_iter=60,
        init_step_size=step_size,
        init_point=points.mean(axis=0),
    )
    other = timing.seconds(lambda: peer.fit(points))
    logs = [metric.log(points, x) for x in (own.estimate_, peer.estimate_)]
    gradients = [
        float(metric.norm(np.mean(found, axis=0), x))
        for found, x in zip(logs, (own.estimate_, peer.estimate_), strict=True)
    ]
    variance = float(np.mean(metric.squared_norm(logs[1], peer.estimate_)))
    return [
        f"{len(points)} {name}",
        timing.number(elapsed),
        timing.number(elapsed / batch),
        f"{gradients[0]:.1e}",
        timing.number(other / elapsed),
        f"{gradients[1]:.1e}",
        f"{own.variance_ / variance - 1:.1e}",
    ]


def many_row(rng: np.random.Generator, n_points: int) -> list[str]:
    """Compute the mean of many samples, the identity plus 0.3 of Gaussian matrices."""

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    points = np.eye(3) + 0.3 * rng.normal(size=(n_points, 3, 3))
    points[np.linalg.det(points) < 0, 0] *= -1
    own, before = MeanEstimator(DLNObservableManifold(3, DEPTH)), peak()
    elapsed = timing.seconds(lambda: own.fit(points))
    return [
        f"{n_points:,}",
        timing.number(elapsed),
        f"{own.gradient_norm_ / math.sqrt(own.variance_):.1e}",
        str(own.n_iter_),
        f"{peak():.2f}",
        f"{before:.2f}",
    ]


def positive_row(rng: np.random.Generator, width: int, n_points: int) -> list[str]:
    """Means and logarithms of positive definite matrices at N = 2, beside those of peers."""
    factors = rng.normal(size=(n_points, width, 2 * width))
    points = factors @ np.swapaxes(factors, 1, 2)
    space = DLNObservableManifold(width, 2)
    plain = SPDMatrices(width, equip=False)
    plain.equip_with_metric(SPDBuresWassersteinMetric)
    center = MeanEstimator(space).fit(points).estimate_
    logs, single = (
        timing.interleaved(
            lambda some=some: space.metric.log(some, center),
            lambda some=some: plain.metric.log(some, center),
        )
        for some in (points, points[0])
    )

    def mean() -> object:
        return MeanEstimator(space).fit(points)

    ratio = math.nan
    if mean_wasserstein is not None:
        ratio = timing.interleaved(mean, lambda: mean_wasserstein(points, tol=1e-11)).median
    return [
        f"{width}",
        timing.number(logs.first),
        timing.number(logs.median),
        timing.number(single.median),
        timing.number(timing.seconds(mean)),
        timing.number(ratio),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--many", type=int, default=0, help="the mean of so many matrices 3 x 3")
    options = timing.arguments(__doc__, parser)
    rng = np.random.default_rng(options.seed)
    if options.many:
        rows = [many_row(rng, options.many)]
        timing.print_table("The package's FrechetMean of many samples", MANY_HEADER, rows)
        return
    n_points, n_single = (10, 3) if options.quick else (100, 20)
    logging.getLogger().setLevel(logging.ERROR)  # a mean that is not reached shows in the table
    kinds = ("near", "ball") if options.quick else ("near", "ball", "Gaussian")
    rows = [mean_row(rng, kind, n_points, n_single, max_iter=32) for kind in kinds]
    timing.print_table(f"geomstats' FrechetMean, n = {WIDTH}, N = {DEPTH}", HEADER, rows)
    rows = [own_row(draw(rng, kind, n_points), DEPTH, kind) for kind in ("near", "ball")]
    if not options.quick:
        # Squared distances are flatter there than in flat space: its step size is the example's.
        rows.append(own_row(networks(options.seed), 3, "networks 8 x 8, N = 3", 1.3))
    title = f"The package's FrechetMean, n = {WIDTH}, N = {DEPTH}, and of networks"
    timing.print_table(title, OWN_HEADER, rows)
    rows = [
        positive_row(rng, width, n_points) for width in ((5,) if options.quick else (5, 10, 30))
    ]
    timing.print_table("Positive definite matrices, N = 2", POSITIVE_HEADER, rows)


if __name__ == "__main__":
    main()
