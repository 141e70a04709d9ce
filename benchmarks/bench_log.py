"""Logarithms in one batch against single calls, and one log against one exp.

The exp is that of the velocity which the log finds, at the same tolerance. The residual of a log is
the relative distance of the target from where that velocity leads, by a flow that knows nothing of
how the velocity was found.
"""

from __future__ import annotations

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold

BATCH_BAR = 10.0
LOG_BARS = {3: 4.0, 10: 10.0, 20: 15.0}
BATCH_HEADER = (
    "N",
    "single call [ms]",
    "per pair in the batch [ms]",
    "ratio (range)",
    "bar",
    "solved",
    "largest residual",
)
LOG_HEADER = ("n", "N", "log [ms]", "exp [ms]", "ratio (range)", "bar", "largest residual")


def batch_row(
    rng: np.random.Generator, depth: float, n_pairs: int, n_single: int, repeats: int
) -> list[str]:
    """Logs of 3 x 3 Gaussian pairs: all in one call, and some of them one by one."""
    metric = DLNObservableManifold(3, depth).metric
    X, Y = timing.gaussian_pairs(rng, n_pairs, 3)
    picked = rng.choice(n_pairs, n_single, replace=False)
    solution = metric.solve_log(Y, X)
    reached = metric.exp(solution.initial_velocity, X)

    def singles() -> None:
        for k in picked:
            metric.log(Y[k], X[k])

    both = timing.interleaved(singles, lambda: metric.log(Y, X), repeats=repeats, at_least=0)
    ratio = both.per(n_single, n_pairs)
    solved = f"{int(solution.success.sum())} of {n_pairs}"
    return [
        f"{depth:g}",
        *ratio.cells(at_least=BATCH_BAR),
        solved,
        f"{timing.relative_distance(reached, Y).max():.0e}",
    ]


def log_row(
    rng: np.random.Generator, n: int, depth: float, n_pairs: int, repeats: int
) -> list[str]:
    """Single logs against single exps: the median over pairs, and the range over pairs."""
    metric = DLNObservableManifold(n, depth).metric
    ratios, residuals = [], []
    for X, Y in zip(*timing.gaussian_pairs(rng, n_pairs, n), strict=True):
        velocity = metric.log(Y, X)
        residuals.append(timing.relative_distance(metric.exp(velocity, X), Y))
        ratios.append(
            timing.interleaved(
                lambda X=X, Y=Y: metric.log(Y, X),
                lambda X=X, velocity=velocity: metric.exp(velocity, X),
                repeats=repeats,
                at_least=0,
            )
        )
    cells = timing.pooled(ratios).cells(at_most=LOG_BARS[n])
    return [str(n), f"{depth:g}", *cells, f"{max(residuals):.0e}"]


def main() -> None:
    options = timing.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    quick = options.quick
    n_pairs, n_single, repeats = (100, 5, 2) if quick else (1000, 50, 2)
    rows = [batch_row(rng, depth, n_pairs, n_single, repeats) for depth in (2, 3, 4, 8)]
    timing.print_table(f"{n_pairs} logs of 3 x 3 in one batch", BATCH_HEADER, rows)
    sizes = {3: 5} if quick else {3: 15, 10: 7, 20: 3}
    rows = [
        log_row(rng, n, depth, count, repeats) for n, count in sizes.items() for depth in (2, 3, 4)
    ]
    title = "One log against one exp of the same accuracy (median and range over pairs)"
    timing.print_table(title, LOG_HEADER, rows)


if __name__ == "__main__":
    main()
