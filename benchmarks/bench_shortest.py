"""Is the default log the shortest geodesic that is found? Hard pairs against a thorough search.

Pairs whose polar factors are apart by an angle near pi in one plane, and whose last singular values
are scaled by 0.1 or 1e-3, of one end or of both. And how the ends' order, transposing and rotating
change the distance.
"""

from __future__ import annotations

import time

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold

DEPTHS = (2, 3, 8, 30)
PAIRS = {3: 150, 4: 40, 5: 10}
QUICK_PAIRS = {3: 8}
LARGEST_ANGLE, FACTORS, LONGER = 2.9, (0.1, 1e-3), 1e-9
HEADER = (
    "n",
    "N",
    "pairs",
    "not solved",
    "longer than thorough",
    "at most by",
    "change by isometries",
    "time, thorough / default",
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
        timing.number(ratio),
    ]


def main() -> None:
    options = timing.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    sizes = QUICK_PAIRS if options.quick else PAIRS
    rows = [shortest_row(rng, n, depth, sizes[n]) for n in sizes for depth in DEPTHS]
    timing.print_table("hard pairs", HEADER, rows)


if __name__ == "__main__":
    main()
