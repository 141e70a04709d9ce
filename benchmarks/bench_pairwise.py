"""Distances between all pairs of 300 matrices 3 x 3 (44,850 geodesics), against single calls.

joblib's display of progress goes to standard error. The table has the time of a pair in one call of
``dist_pairwise`` and that of single calls of ``dist``, sampled from the same pairs.
"""

from __future__ import annotations

import argparse

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold

WIDTH = 3
HEADER = (
    "n",
    "N",
    "points",
    "pairs",
    "dist_pairwise [s]",
    "ms a pair",
    "single call [ms]",
    "ratio",
    "largest difference",
)


def pairwise_row(rng: np.random.Generator, depth: float, n_points: int, n_single: int) -> list[str]:
    """Time all pairs once, and single calls of some of them."""
    metric = DLNObservableManifold(WIDTH, depth).metric
    points = rng.normal(size=(n_points, WIDTH, WIDTH))
    points[:, 0] *= np.linalg.slogdet(points)[0][:, None]
    rows, columns = np.triu_indices(n_points, 1)
    sample = rng.choice(len(rows), n_single, replace=False)
    single = np.empty(n_single)
    table = np.empty(0)

    def one_by_one() -> None:
        for k, pair in enumerate(sample):
            single[k] = metric.dist(points[rows[pair]], points[columns[pair]])

    def all_at_once() -> None:
        nonlocal table
        table = metric.dist_pairwise(points, verbose=10)

    metric.dist(points[0], points[1])  # warm-up
    ratio = timing.interleaved(one_by_one, all_at_once, repeats=1, at_least=0)
    ratio = ratio.per(n_single, len(rows))
    apart = np.abs(table[rows, columns][sample] / single - 1).max()
    return [
        str(WIDTH),
        f"{depth:g}",
        str(n_points),
        f"{len(rows):,}",
        timing.number(ratio.second * len(rows)),
        timing.number(1e3 * ratio.second),
        timing.number(1e3 * ratio.first),
        timing.number(ratio.median),
        f"{apart:.0e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=300, help="number of matrices (300)")
    parser.add_argument("--depth", type=float, default=3, help="depth N (3)")
    options = timing.arguments(__doc__, parser)
    rng = np.random.default_rng(options.seed)
    n_points, n_single = (40, 30) if options.quick else (options.points, 200)
    rows = [pairwise_row(rng, options.depth, n_points, n_single)]
    timing.print_table("Pairwise distances, Gaussian matrices, det > 0", HEADER, rows)


if __name__ == "__main__":
    main()
