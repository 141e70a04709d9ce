"""Is the default log the shortest geodesic that is found? Hard pairs against a thorough search.

Pairs whose polar factors are apart by an angle near pi in one plane, and whose last singular values
are scaled by 0.1 or 1e-3, of one end or of both. And how the ends' order, transposing and rotating
change the distance. Then what these contests cost logs of Gaussian pairs, and what they gain there.
"""

from __future__ import annotations

import time
from unittest import mock

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import ObservableSystem
from dln_manifolds.geometry.facing import AlignedPairs

DEPTHS = (2, 3, 8, 30)
PAIRS = {2: 40, 3: 110, 4: 40, 5: 10}
GAUSSIAN = {2: 200, 3: 200, 5: 100, 8: 40}
LARGEST_ANGLE, FACTORS, LONGER = 2.9, (0.1, 1e-3), 1e-9
HARD = (
    "n",
    "N",
    "pairs",
    "not solved",
    "longer than thorough",
    "at most by",
    "change by isometries",
    "ms per pair",
    "thorough / default",
)
COST = (
    "n",
    "N",
    "ms per pair",
    "without starts of steep pairs",
    "ratio",
    "bar",
    "ratio to no contest",
    "shorter than without any",
)


def hard_pairs(rng: np.random.Generator, n: int, n_pairs: int) -> tuple[timing.Array, timing.Array]:
    """Draw pairs of positive determinant until enough have a wide angle; scale them."""
    pairs: list[timing.Array] = []
    while len(pairs) < n_pairs:
        points = rng.standard_normal((2, n, n))
        points[np.linalg.det(points) < 0, 0] *= -1
        u, s, vt = np.linalg.svd(points)
        angles = np.angle(np.linalg.eigvals(u[0] @ vt[0] @ (u[1] @ vt[1]).T))
        if np.abs(angles).max() >= LARGEST_ANGLE:
            s[: 1 + len(pairs) // 2 % 2, -1] *= FACTORS[len(pairs) % 2]
            pairs.append((u * s[:, None, :]) @ vt)
    X, Y = np.moveaxis(np.array(pairs), 1, 0)
    return X, Y


def shortest_row(rng: np.random.Generator, n: int, depth: float, n_pairs: int) -> list[str]:
    """Solve the pairs of one width and depth in both ways."""
    metric = DLNObservableManifold(n, depth).metric
    metric.on_failure = "nan"
    X, Y = hard_pairs(rng, n, n_pairs)
    start = time.process_time()
    found = metric.dist(X, Y)
    middle = time.process_time()
    thorough = metric.dist(X, Y, search="thorough")
    ratio = (time.process_time() - middle) / (middle - start)
    good = np.isfinite(found) & np.isfinite(thorough)
    excess = (found / thorough - 1)[good]
    Q, R = np.linalg.qr(rng.standard_normal((2, n, n)))[0]
    alike = ((Y, X), (X.swapaxes(1, 2), Y.swapaxes(1, 2)), (Q @ X @ R, Q @ Y @ R))
    changes = [np.abs(metric.dist(*pair) / found - 1)[good].max() for pair in alike]
    return [
        str(n),
        f"{depth:g}",
        str(n_pairs),
        str(n_pairs - int(good.sum())),
        str(int((excess > LONGER).sum())),
        f"{max(excess.max(), 0):.0e}",
        f"{max(changes):.0e}",
        timing.number(1e3 * (middle - start) / n_pairs),
        timing.number(ratio),
    ]


def cost_row(rng: np.random.Generator, n: int, depth: float, n_pairs: int) -> list[str]:
    """Time logs of Gaussian pairs with all contests, with that of two turns, and without."""
    metric = DLNObservableManifold(n, depth).metric
    metric.on_failure = "nan"
    X, Y = timing.gaussian_pairs(rng, n_pairs, n)
    lengths = {}

    def contested() -> None:
        lengths["with"] = metric.dist(X, Y)

    def rough() -> None:
        none = np.zeros(n_pairs, dtype=bool)
        with mock.patch.object(ObservableSystem, "steep", return_value=none):
            lengths["rough"] = metric.dist(X, Y)

    def plain() -> None:
        with mock.patch.object(AlignedPairs, "rivals", return_value=[]):
            rough()

    all_against_none = timing.interleaved(contested, plain, repeats=5)
    shorter = lengths["with"] < lengths["rough"] * (1 - LONGER)
    ratio = timing.interleaved(contested, rough, repeats=9).per(n_pairs, n_pairs)
    return [
        str(n),
        f"{depth:g}",
        *ratio.cells(at_most=1.1),
        timing.number(all_against_none.median),
        f"{np.count_nonzero(shorter)} of {n_pairs}",
    ]


def main() -> None:
    options = timing.arguments(__doc__)
    rng, share = np.random.default_rng(options.seed), 8 if options.quick else 1
    for title, header, row, sizes in (
        ("hard pairs", HARD, shortest_row, PAIRS),
        ("logs of Gaussian pairs", COST, cost_row, GAUSSIAN),
    ):
        for n, n_pairs in sizes.items():
            rows = (row(rng, n, depth, max(n_pairs // share, 2)) for depth in DEPTHS)
            timing.print_table(f"{title}, n = {n}", header, rows)


if __name__ == "__main__":
    main()
