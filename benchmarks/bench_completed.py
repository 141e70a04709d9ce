"""How many geodesics through det = 0 are found, how well, and at what cost: Gaussian pairs.

Their determinants have opposite signs. Each pair is solved in both directions; it ends well if the
flow from one end, which goes on through det = 0, meets the other, and what fails must say so by its
status. The length is compared with both bounds and with the length backwards, the time with that of
logs of pairs of one sign.
"""

from __future__ import annotations

import time

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold

DEPTHS = (1.2, 1.5, 2, 3, 4, 8, 20)
# 500 pairs; of the depths that are hard, a fifth.
PAIRS = {2: 160, 3: 140, 4: 100, 5: 60, 6: 40}
HARD, FEWER = (1.2, 20), 5
QUICK_PAIRS = {2: 20, 3: 10}
HEADER = (
    "n",
    "N",
    "solved",
    "largest residual of these",
    "asymmetry",
    "bounds kept",
    "upper bound / length",
    "time per pair [ms]",
    "in logs",
)
_SLACK = 1e-12


def completed_row(rng: np.random.Generator, n: int, depth: float, n_pairs: int) -> list[str]:
    """Solve the pairs of one width and depth."""
    metric = DLNObservableManifold(n, depth).metric
    X, Y = timing.gaussian_pairs(rng, n_pairs, n)
    opposite = Y * np.where(np.arange(n) == 0, -1.0, 1.0)[:, None]
    metric.on_failure = "nan"
    begun = time.process_time()
    there = metric.solve_completed(opposite, X)
    seconds = (time.process_time() - begun) / n_pairs
    back = metric.completed_dist(X, opposite)
    log = timing.seconds(lambda: metric.solve_log(Y, X)) / n_pairs
    good = there.success & np.isfinite(back)
    length = there.length[good]
    kept = there.lower_bound[good] <= length * (1 + _SLACK)
    kept &= length <= there.upper_bound[good] * (1 + _SLACK)
    asymmetry = np.abs(back[good] / length - 1)
    return [
        str(n),
        f"{depth:g}",
        f"{int(there.success.sum())} of {n_pairs}",
        f"{there.residual[there.success].max(initial=0):.1e}",
        f"{asymmetry.max(initial=0):.0e}",
        f"{int(kept.sum())} of {len(length)}",
        f"{np.median(there.upper_bound[good] / length):.2f}" if length.size else "-",
        timing.number(1e3 * seconds),
        timing.number(seconds / log),
    ]


def main() -> None:
    options = timing.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    for n, n_pairs in (QUICK_PAIRS if options.quick else PAIRS).items():
        rows = (
            completed_row(rng, n, depth, n_pairs // (FEWER if depth in HARD else 1))
            for depth in DEPTHS
        )
        timing.print_table(f"opposite Gaussian pairs, n = {n}", HEADER, rows)


if __name__ == "__main__":
    main()
