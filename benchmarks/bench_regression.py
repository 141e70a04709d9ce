"""Geodesic regression of 20 noisy matrices 3 x 3, ours and geomstats': loss, error and time.

Depth N = 3; targets near a geodesic of length 1, with noise of a size given in the metric. Every
method from every start, for several samples. The extrinsic method takes finite differences of the
loss, or with ``set(autodiff_jac=True)`` our derivatives; the Riemannian one needs derivatives. Of
ours a start is where the first logs are taken, and it is run before and after every other fit: the
ratio of times is that to the mean of both.
"""

from __future__ import annotations

import argparse
import collections
import logging
import os
from dataclasses import dataclass
from typing import Any

import _timing as timing  # before numpy: pins the threads

os.environ["GEOMSTATS_BACKEND"] = "autograd"  # the Riemannian method differentiates

import numpy as np
from geomstats.learning.geodesic_regression import GeodesicRegression

from dln_manifolds import DLNError, DLNObservableManifold
from dln_manifolds.statistics import FrechetMean
from dln_manifolds.statistics import GeodesicRegression as OurRegression

WIDTH, DEPTH = 3, 3
OURS = "dln_manifolds"
METHODS = {
    OURS: ({}, {}),
    "riemannian": ({"method": "riemannian"}, {}),
    "extrinsic": ({"method": "extrinsic"}, {}),
    "extrinsic, exact derivatives": ({"method": "extrinsic"}, {"autodiff_jac": True}),
}
STARTS = ("frechet", "data", "random", "warm_start")
HEADER = (
    "method",
    "start",
    "R^2 >= 0.99",
    "lowest R^2",
    "loss above ours",
    "intercept, distance",
    "velocity, relative error",
    "time [s]",
    "time / ours",
    "otherwise",
)


@dataclass(frozen=True)
class Sample:
    """A geodesic of length 1 and targets near it."""

    space: DLNObservableManifold
    intercept: timing.Array
    velocity: timing.Array
    times: timing.Array
    targets: timing.Array

    @classmethod
    def draw(cls, seed: int, n_points: int, noise: float) -> Sample:
        space = DLNObservableManifold(WIDTH, DEPTH)
        np.random.seed(seed)
        metric, intercept = space.metric, space.random_point(bound=0.5)
        velocity = metric.random_unit_tangent_vec(intercept)
        times = np.linspace(-0.5, 0.5, n_points)
        exact = metric.exp(np.multiply.outer(times, velocity), intercept)
        targets = metric.exp(noise / 3 * space.random_tangent_vec(exact), exact)
        return cls(space, intercept, velocity, times, targets)


@dataclass(frozen=True)
class Fit:
    """What a fit has found; largest errors are those of the worst sample.

    ``excess`` is the loss above that of our fit, relative to it; ``ratio`` compares the times.
    """

    score: float
    excess: float
    intercept_error: float
    velocity_error: float
    seconds: float
    ratio: float


def start_of(name: str, sample: Sample, seed: int) -> Any:
    """Return a start as geomstats draws it, but from a seed, which its own draw ignores."""
    rng = np.random.default_rng(seed)
    if name == "data":
        return rng.choice(sample.targets), rng.normal(size=sample.intercept.shape)
    if name == "random":
        point, velocity = rng.normal(size=(2, *sample.intercept.shape))
        # half of all draws have det < 0: no path joins them to the targets
        point[0] *= np.sign(np.linalg.det(point))
        return np.stack([point, velocity])
    return name


def our_model(sample: Sample, start: str, seed: int) -> OurRegression:
    """Return our estimator, with the point of a start alone; warm from every second target."""
    given = start_of(start, sample, seed)
    model = OurRegression(sample.space, init_point=None if isinstance(given, str) else given[0])
    if start == "warm_start":
        model.fit(sample.times[::2], sample.targets[::2]).set_params(warm_start=True)
    return model


def peer_model(sample: Sample, method: str, start: str, seed: int) -> GeodesicRegression:
    """Return geomstats' estimator, ready to start."""
    options, optimizer = METHODS[method]
    model = GeodesicRegression(sample.space, **options).set(**optimizer)
    model.initialization = start_of(start, sample, seed)
    if start == "warm_start":
        model.initialization = "frechet"
        model.fit(sample.times[::2], sample.targets[::2])
        model.initialization = "warm_start"
    return model


def fit(sample: Sample, method: str, start: str, seed: int) -> Fit:
    """Fit a geodesic and compare it with ours and with the one that the targets were made from."""
    metric, times, targets = sample.space.metric, sample.times, sample.targets
    ours = OurRegression(sample.space)
    if method == OURS:
        model = our_model(sample, start, seed)
    else:
        model = peer_model(sample, method, start, seed)
    before = timing.seconds(lambda: ours.fit(times, targets))
    elapsed = timing.seconds(lambda: model.fit(times, targets))
    after = timing.seconds(lambda: ours.fit(times, targets))
    residual = metric.squared_dist(model.predict(times), targets)
    total = metric.squared_dist(FrechetMean(sample.space).fit(targets).estimate_, targets)
    # the fitted velocity at the true intercept, along the geodesic between both
    back = metric.parallel_transport(model.coef_, model.intercept_, end_point=sample.intercept)
    return Fit(
        score=float(1 - residual.sum() / total.sum()),
        excess=float(residual.mean() / ours.variance_ - 1),
        intercept_error=float(metric.dist(model.intercept_, sample.intercept)),
        velocity_error=float(metric.norm(back - sample.velocity, sample.intercept)),
        seconds=elapsed,
        ratio=2 * elapsed / (before + after),
    )


def regression_row(samples: list[Sample], method: str, start: str, seed: int) -> list[str]:
    """Fit all samples; the numbers are the worst of those that were recovered."""
    found: list[Fit] = []
    otherwise: collections.Counter[str] = collections.Counter()
    for number, sample in enumerate(samples):
        try:
            one = fit(sample, method, start, seed + number)
        except DLNError as error:
            otherwise[type(error).__name__] += 1
            continue
        if one.score >= 0.99:
            found.append(one)
        else:
            otherwise[f"R^2 = {one.score:.2g}"] += 1
    worst = ["-"] * 6
    if found:
        ratios = [one.ratio for one in found]
        worst = [
            f"{min(one.score for one in found):.5f}",
            f"{max(one.excess for one in found):.0e}",
            f"{max(one.intercept_error for one in found):.1e}",
            f"{max(one.velocity_error for one in found):.1e}",
            timing.number(max(one.seconds for one in found)),
            f"{np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        ]
    rest = ", ".join(f"{count} {name}" for name, count in otherwise.items())
    return [method, start, f"{len(found)} of {len(samples)}", *worst, rest]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--noise", type=float, default=0.02, help="size of the noise (0.02)")
    parser.add_argument("--samples", type=int, default=5, help="number of samples (5)")
    parser.add_argument("--method", choices=METHODS, help="only one of them")
    parser.add_argument("--start", choices=STARTS, help="only one of them")
    options = timing.arguments(__doc__, parser)
    logging.disable()
    n_points, n_samples = (5, 2) if options.quick else (20, options.samples)
    seeds = range(options.seed, options.seed + n_samples)
    samples = [Sample.draw(seed, n_points, options.noise) for seed in seeds]
    rows = []
    for method in METHODS if options.method is None else [options.method]:
        for start in STARTS if options.start is None else [options.start]:
            rows.append(regression_row(samples, method, start, options.seed))
    title = (
        f"GeodesicRegression, n = {WIDTH}, N = {DEPTH}, {n_points} points, noise {options.noise}"
    )
    timing.print_table(title, HEADER, rows)


if __name__ == "__main__":
    main()
