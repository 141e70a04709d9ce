"""The same work by this package and by others that can do it, in one run, each with its accuracy.

Positive definite matrices at N = 2 are the Bures-Wasserstein geometry: geomstats, pyRiemann and POT
know its logs, distances and means. For other matrices and depths there are generic solvers:
scipy's ``solve_bvp`` on Hamilton's equations (Chen, arXiv 2510.07324, Theorem 2.1), geomstats'
solvers with the metric by its matrix, and for means pymanopt's optimizers and geomstats' estimator
on the metric of this package. What is not installed is left out.

Accuracies are measured alike for all: for a log the distance from the target of the point where the
velocity leads, for a mean the norm of the gradient of half the variance, by logs of this package,
over the root of the variance; for distances the largest difference from ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import _timing as timing  # before numpy: pins the threads
import bench_generic as generic  # before geomstats: chooses its backend
import numpy as np
from _timing import Array
from geomstats.geometry.spd_matrices import SPDBuresWassersteinMetric, SPDMatrices
from geomstats.learning.frechet_mean import FrechetMean as HostMean
from pymanopt.optimizers import ConjugateGradient, TrustRegions
from scipy.integrate import solve_bvp

from dln_manifolds import DLNObservableManifold, pymanopt_problem
from dln_manifolds.costs import FrechetVariance
from dln_manifolds.statistics import FrechetMean

try:
    from pyriemann.geometry.distance import distance_wasserstein
    from pyriemann.geometry.mean import mean_wasserstein
except ImportError:
    mean_wasserstein = None
try:
    import ot
except ImportError:
    ot = None

# Seconds of one turn at least.
TURN = 0.02
HEADER = ("work", "by", "time [ms]", "times ours", "accuracy")
# Names with calls, and how accurate a result is; ours first.
Calls = dict[str, Callable[[], Any]]


def rows(work: str, calls: Calls, accuracy: Callable[[Any], str], repeats: int) -> list[list[str]]:
    """Run all in turns: medians, and ratios to the first."""
    found = {name: call() for name, call in calls.items()}
    loops = [math.ceil(TURN / max(timing.seconds(call), 1e-6)) for call in calls.values()]
    both = list(zip(calls.values(), loops, strict=True))
    turns = [[timing.seconds(*one) for one in both] for _ in range(repeats)]
    times = np.array(turns)
    ratios = np.median(times / times[:, :1], axis=0)
    return [
        [
            work if place == 0 else "...",
            name,
            timing.number(1e3 * np.median(times[:, place])),
            timing.number(ratios[place]),
            accuracy(found[name]),
        ]
        for place, name in enumerate(calls)
    ]


def missed(space: Any, end: Array, start: Array) -> Callable[[Any], str]:
    """How far from the target velocities lead."""

    def accuracy(velocity: Any) -> str:
        reached = space.metric.exp(np.reshape(velocity, start.shape), start)
        return f"{np.max(timing.relative_distance(reached, end)):.0e}"

    return accuracy


def gradient_norm(space: Any, points: Array) -> Callable[[Any], str]:
    """The gradient of half the variance at a mean, relative to the root of the variance."""

    def accuracy(mean: Any) -> str:
        mean = np.asarray(getattr(mean, "estimate_", getattr(mean, "point", mean)))
        logs = space.metric.log(points, mean)
        variance = np.mean(space.metric.squared_norm(logs, mean))
        return f"{space.metric.norm(np.mean(logs, axis=0), mean) / np.sqrt(variance):.0e}"

    return accuracy


def positive(rng: np.random.Generator, n: int, count: int, repeats: int) -> list[list[str]]:
    """Bures and Wasserstein: logs, distances and means of positive definite matrices."""
    factors = rng.normal(size=(count, n, 2 * n))
    points = factors @ np.swapaxes(factors, 1, 2) / n
    space, plain = DLNObservableManifold(n, 2), SPDMatrices(n, equip=False)
    plain.equip_with_metric(SPDBuresWassersteinMetric)
    base = points.mean(axis=0)
    bases = np.broadcast_to(base, points.shape)
    named = f"{count} of {n} x {n}, positive definite, N = 2"
    logs: Calls = {
        "ours": partial(space.metric.log, points, base),
        "geomstats, Bures-Wasserstein": partial(plain.metric.log, points, base),
    }
    dists: Calls = {
        "ours": partial(space.metric.dist, points, base),
        "geomstats, Bures-Wasserstein": partial(plain.metric.dist, points, base),
    }
    means: Calls = {"ours": lambda: FrechetMean(space).fit(points)}
    if mean_wasserstein is not None:
        dists["pyRiemann"] = partial(distance_wasserstein, points, base)
        means["pyRiemann"] = partial(mean_wasserstein, points, tol=1e-11, maxiter=200)
    if ot is not None:
        dists["POT"] = partial(ot.gaussian.bures_distance, points, base[None])
        means["POT"] = partial(ot.gaussian.bures_barycenter_fixpoint, points, eps=1e-12)
    ours = space.metric.dist(points, base)

    def apart(found: Any) -> str:
        # Others leave out the factor of this geometry: twice the squared length.
        found = np.ravel(found)
        return f"{np.max(np.abs(found * (ours[0] / found[0]) / ours - 1)):.0e}"

    return [
        *rows(f"log, {named}", logs, missed(space, points, bases), repeats),
        *rows(f"dist, {named}", dists, apart, repeats),
        *rows(f"mean, {named}", means, first_of(gradient_norm(space, points)), repeats),
    ]


def first_of(accuracy: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same for results that come with others."""
    return lambda found: accuracy(found[0] if isinstance(found, tuple) else found)


def hamilton(depth: int, n: int) -> Callable[[Array, Array], Array]:
    """Chen's equations ``X' = A_X(P)``, ``P' = -(G X + X G')`` at many times, for integer N."""

    def loewner(square: Array, exponent: float) -> Array:
        a, b = square[:, :, None], square[:, None, :]
        same = np.abs(a - b) < 1e-9 * a
        gap = np.where(same, 1.0, a - b)
        return np.where(same, exponent * a ** (exponent - 1), (a**exponent - b**exponent) / gap)

    def rate(_: Array, state: Array) -> Array:
        X, P = np.moveaxis(state.reshape(2, n, n, -1), -1, 1)
        U, s, Vt = np.linalg.svd(X)
        V, square = np.swapaxes(Vt, 1, 2), s**2
        M = np.swapaxes(U, 1, 2) @ P @ V
        velocity, outer, inner = np.zeros((3, *M.shape))
        for p in range(1, depth + 1):
            up, down = (depth - p) / depth, (p - 1) / depth
            high, low = square[:, :, None] ** up, square[:, None, :] ** down
            velocity += high * M * low
            outer += loewner(square, up) * ((M * low) @ np.swapaxes(M, 1, 2))
            inner += loewner(square, down) * (np.swapaxes(M, 1, 2) @ (high * M))
        force = -(outer * s[:, None, :] + s[:, :, None] * inner)
        both = np.stack([U @ velocity @ Vt, U @ force @ Vt])
        return np.moveaxis(both, 1, -1).reshape(2 * n * n, -1)

    return rate


def collocated(X: Array, Y: Array, depth: int, tolerance: float) -> Array:
    """The log by scipy's ``solve_bvp``, from the straight line; NaN where it fails."""
    n = len(X)
    rate, times = hamilton(depth, n), np.linspace(0, 1, 10)
    basis = np.stack([np.concatenate([X.ravel(), e]) for e in np.eye(n * n)], axis=1)
    cometric = rate(times, basis)[: n * n]
    covector = np.linalg.solve(cometric, (Y - X).ravel())
    line = X.ravel()[:, None] + times * (Y - X).ravel()[:, None]
    guess = np.concatenate([line, np.repeat(covector[:, None], len(times), axis=1)])

    def ends(first: Array, last: Array) -> Array:
        return np.concatenate([first[: n * n] - X.ravel(), last[: n * n] - Y.ravel()])

    found = solve_bvp(rate, ends, times, guess, tol=tolerance, max_nodes=5000)
    if not found.success:
        return np.full_like(X, np.nan)
    return rate(times[:1], found.y[:, :1])[: n * n].reshape(n, n)


def general(rng: np.random.Generator, n: int, depth: int, budget: float) -> list[list[str]]:
    """A log of a near pair by generic solvers."""
    space = DLNObservableManifold(n, depth)
    X, Y = generic.draw_pair(rng, space, "near")
    calls: Calls = {"ours": partial(space.metric.log, Y, X)}
    for tolerance in (1e-4, 1e-8):
        calls[f"scipy's solve_bvp, tol {tolerance:.0e}"] = partial(
            collocated, X, Y, depth, tolerance
        )
    matrix = generic.generic_metric(n, depth, 1e-3)
    calls["geomstats, generic"] = lambda: generic.generic_log(matrix, X, Y, budget)[0]
    return rows(f"log, 1 near pair of {n} x {n}, N = {depth}", calls, missed(space, Y, X), 1)


def generic_means(rng: np.random.Generator, n: int, count: int) -> list[list[str]]:
    """A mean by optimizers that know the metric or the cost, and no more."""
    space = DLNObservableManifold(n, 4)
    points = np.eye(n) + 0.1 * rng.normal(size=(count, n, n))
    problem = pymanopt_problem(space, FrechetVariance(points, 4))
    options = {"verbosity": 0, "min_gradient_norm": 1e-9, "max_iterations": 50}
    calls: Calls = {
        "ours": lambda: FrechetMean(space).fit(points),
        "geomstats' FrechetMean": lambda: HostMean(space).set(epsilon=1e-20).fit(points),
    }
    for kind in (TrustRegions, ConjugateGradient):
        calls[f"pymanopt's {kind.__name__}"] = partial(
            kind(**options).run, problem, initial_point=points[0]
        )
    named = f"mean, {count} of {n} x {n}, near, N = 4"
    return rows(named, calls, gradient_norm(space, points), 1)


def main() -> None:
    options = timing.arguments(__doc__)
    logging.getLogger().setLevel(logging.ERROR)  # what is not reached shows in the table
    rng = np.random.default_rng(options.seed)
    count, repeats, sizes = (10, 2, (5,)) if options.quick else (100, 7, (5, 10, 30))
    table = [row for n in sizes for row in positive(rng, n, count, repeats)]
    for n, depth in ((2, 3),) if options.quick else ((2, 2), (2, 3), (3, 3)):
        table += general(rng, n, depth, 10.0 if options.quick else 60.0)
    table += generic_means(rng, 3 if options.quick else 5, count)
    timing.print_table("Ours and others", HEADER, table)


if __name__ == "__main__":
    main()
