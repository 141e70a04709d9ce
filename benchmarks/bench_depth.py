"""Depth 64 against depth 2, n = 30: the metric and exp.

The exponential is timed at Gaussian X and at X with log s uniform in [-1, 1], for two lengths of a
Gaussian velocity Z: the same Z at both depths, or |Z|_g a tenth of the norm |W| of the layers at
each depth, with which the end-to-end matrix of the deeper network moves much farther. Each time is
also given per evaluation of the field, because the number of steps depends on the geodesic.
"""

from __future__ import annotations

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array

from dln_manifolds import DLNObservableManifold, DLNObservableMetric

WIDTH, DEPTHS, BAR = 30, (64, 2), 1.3
HEADER = (
    "call",
    *(f"N = {depth} [ms]" for depth in DEPTHS),
    "ratio (range)",
    "bar",
    "evaluations",
    "accuracy",
)


def metric_row(rng: np.random.Generator, n: int, repeats: int) -> list[str]:
    """Inner products at one point."""
    X, A, B = rng.normal(size=(3, n, n))
    metrics = [DLNObservableManifold(n, depth).metric for depth in DEPTHS]
    errors = []
    for metric, depth in zip(metrics, DEPTHS, strict=True):
        point, vector, exact = timing.horizontal_image(rng, X, depth)
        errors.append(abs(float(metric.squared_norm(vector, point)) / exact - 1))
    ratio = timing.interleaved(
        *(lambda m=metric: m.inner_product(A, B, X) for metric in metrics), repeats=repeats
    )
    accuracy = f"{max(errors):.0e} from the norm of a horizontal lift"
    return ["inner_product", *ratio.cells(at_most=BAR), "1 / 1", accuracy]


def draw(rng: np.random.Generator, n: int, kind: str) -> tuple[Array, Array]:
    """Draw X, Gaussian or with log s uniform in [-1, 1], and Gaussian Z with |Z| = 0.1 |X|."""
    X, Z = rng.normal(size=(2, n, n))
    if kind == "even":
        U, _, Vt = np.linalg.svd(X)
        X = (U * np.exp(rng.uniform(-1, 1, n))) @ Vt
    return X, 0.1 * np.linalg.norm(X) / np.linalg.norm(Z) * Z


def with_length(X: Array, Z: Array, depth: float) -> Array:
    """Scale Z so that |Z|_g is a tenth of the norm |W| of the layers."""
    layers = np.sqrt(depth * np.sum(np.linalg.svd(X)[1] ** (2 / depth)))
    return 0.1 * layers / DLNObservableManifold(len(X), depth).metric.norm(Z, X) * Z


def exp_rows(
    rng: np.random.Generator, n: int, kind: str, same: bool, n_samples: int, repeats: int
) -> list[list[str]]:
    """Time end points of geodesics: whole calls, and per evaluation of the field."""
    spaces = [DLNObservableManifold(n, depth) for depth in DEPTHS]
    ratios, per_evaluation, counts, drift, change, n_left_out = [], [], [], 0.0, 0.0, 0
    while len(ratios) < n_samples:
        X, Z = draw(rng, n, kind)
        velocities = [Z if same else with_length(X, Z, depth) for depth in DEPTHS]
        jobs = list(zip(spaces, velocities, strict=True))
        solutions = [space.metric.solve_exp(vector, X) for space, vector in jobs]
        if not all(solution.success for solution in solutions):
            n_left_out += 1
            continue
        for (space, vector), solution in zip(jobs, solutions, strict=True):
            finer = DLNObservableMetric(space, tolerance=space.metric.tolerance / 10)
            end_point = finer.solve_exp(vector, X).end_point
            drift = max(drift, float(solution.residual))
            change = max(change, float(timing.relative_distance(solution.end_point, end_point)))
        ratios.append(
            timing.interleaved(
                *(lambda s=s, v=v, X=X: s.metric.exp(v, X) for s, v in jobs),
                repeats=repeats,
                at_least=0,
            )
        )
        counts.append([int(solution.n_evaluations) for solution in solutions])
        per_evaluation.append(ratios[-1].per(*counts[-1]))
    length = "|Z| = 0.1 |X|" if same else "|Z|_g = 0.1 |W|"
    evaluations = " / ".join(f"{value:.0f}" for value in np.median(counts, axis=0))
    accuracy = f"energy {drift:.0e}; end point {change:.0e} from ten times finer"
    if n_left_out:
        accuracy += f"; {n_left_out} more left GL(n)"
    bar = BAR if same else None
    name = f"exp, {kind} X, {length}"
    return [
        [name, *timing.pooled(ratios).cells(at_most=bar), evaluations, accuracy],
        ["... per evaluation", *timing.pooled(per_evaluation).cells(at_most=BAR), "1 / 1", ""],
    ]


def main() -> None:
    options = timing.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    n, n_samples, repeats = (8, 2, 3) if options.quick else (WIDTH, 25, 5)
    rows = [metric_row(rng, n, 10 * repeats)]
    for kind, same in (("Gaussian", True), ("even", True), ("even", False)):
        rows += exp_rows(rng, n, kind, same, n_samples if same else 2, repeats)
    timing.print_table(f"Depth, n = {n} (median and range over velocities)", HEADER, rows)


if __name__ == "__main__":
    main()
