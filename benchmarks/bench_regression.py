"""geomstats' GeodesicRegression of 20 noisy matrices 3 x 3: intercept, velocity, R^2 and time.

Depth N = 3; targets near a geodesic of length 1, with noise of a size given in the metric. The
extrinsic method minimizes by finite differences; the Riemannian one needs derivatives of exp and of
the squared distance.
"""

from __future__ import annotations

import argparse
import os

import _timing as timing  # before numpy: pins the threads

os.environ["GEOMSTATS_BACKEND"] = "autograd"  # the Riemannian method differentiates

import numpy as np
from geomstats.learning.geodesic_regression import GeodesicRegression

from dln_manifolds import DLNObservableManifold

WIDTH, DEPTH = 3, 3
HEADER = (
    "method",
    "start",
    "noise",
    "time [s]",
    "R^2",
    "intercept, distance",
    "velocity, relative error",
)


def regression_row(seed: int, method: str, start: str, n_points: int, noise: float) -> list[str]:
    """Fit a geodesic and compare it with the one that the targets were made from."""
    space = DLNObservableManifold(WIDTH, DEPTH)
    np.random.seed(seed)
    metric, intercept = space.metric, space.random_point(bound=0.5)
    velocity = metric.random_unit_tangent_vec(intercept)
    times = np.linspace(-0.5, 0.5, n_points)
    exact = metric.exp(np.multiply.outer(times, velocity), intercept)
    targets = metric.exp(noise / 3 * space.random_tangent_vec(exact), exact)
    model = GeodesicRegression(space, method=method, initialization=start)
    elapsed = timing.seconds(lambda: model.fit(times, targets))
    # the fitted velocity at the true intercept, along the geodesic between both
    away = metric.norm(model.coef_, model.intercept_)
    back = metric.parallel_transport(model.coef_, model.intercept_, end_point=intercept)
    error = metric.norm(back - velocity, intercept)
    residual = metric.squared_dist(model.predict(times), targets)
    total = metric.squared_dist(model.mean_estimator.fit(targets).estimate_, targets)
    return [
        method,
        start,
        f"{noise:g}",
        timing.number(elapsed),
        f"{1 - residual.sum() / total.sum():.5f}",
        f"{metric.dist(model.intercept_, intercept):.1e}",
        f"{error:.1e} (length {away:.3f})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--noise", type=float, default=0.02, help="size of the noise (0.02)")
    parser.add_argument("--method", choices=("extrinsic", "riemannian"), help="only one of both")
    options = timing.arguments(__doc__, parser)
    n_points = 5 if options.quick else 20
    rows = []
    for method in ("riemannian", "extrinsic"):
        if options.method not in (None, method):
            continue
        for start in ("frechet",) if method == "extrinsic" else ("frechet", "data"):
            rows.append(regression_row(options.seed, method, start, n_points, options.noise))
    title = f"GeodesicRegression, n = {WIDTH}, N = {DEPTH}, {n_points} points"
    timing.print_table(title, HEADER, rows)


if __name__ == "__main__":
    main()
