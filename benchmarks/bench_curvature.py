"""Curvature against singular value decompositions: of one plane, of many, and how it grows.

Bars: one sectional curvature at an integer depth takes at most 5 decompositions of its 20 x 20
matrix, ten thousand of 3 x 3 matrices less than 100 times their batched one, and the time of a
scalar curvature grows from n = 10 to 60 about like n^3 or slower, as small arrays cost by the call.
The error is the difference from closed forms, which share the decomposition alone.
"""

from __future__ import annotations

import math

import _timing as timing
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geometry.curvature import SmoothCurvature
from dln_manifolds.geometry.frame import Frame

HEADER = ("quantity", "where", "ms", "svd ms", "ratio", "bar", "error")
GROWTH_HEADER = ("N", "n = 10, ms", "n = 60, ms", "exponent", "bar")

Array = np.ndarray


def error_of(space: DLNObservableManifold, X: Array, a: Array, b: Array) -> float:
    """Compare sums over layers with closed forms, which share the frame alone."""
    found = space.metric.sectional_curvature(a, b, X)
    other = SmoothCurvature(Frame.of_point(X, space.depth)).sectional(a, b)
    return float(np.max(np.abs(found - other)) / np.max(np.abs(other)))


def sectional_row(
    rng: np.random.Generator, n: int, batch: tuple[int, ...], depth: int, bar: float, repeats: int
) -> list[str]:
    """Time sectional curvatures of random planes."""
    space = DLNObservableManifold(n=n, depth=depth)
    X, a, b = rng.normal(size=(3, *batch, n, n))
    some = tuple(v[:20] if batch else v for v in (X, a, b))
    ratio = timing.interleaved(
        lambda: space.metric.sectional_curvature(a, b, X), lambda: np.linalg.svd(X), repeats=repeats
    )
    where = f"{math.prod(batch)} of {n} x {n}, N = {depth}"
    error = error_of(space, *some)
    return ["sectional_curvature", where, *ratio.cells(at_most=bar), f"{error:.1e}"]


def growth_row(
    rng: np.random.Generator, depth: float, sizes: tuple[int, int], repeats: int
) -> list[str]:
    """Time scalar curvatures of a small and of a large matrix."""

    def call(n: int) -> timing.Call:
        metric, X = DLNObservableManifold(n=n, depth=depth).metric, rng.normal(size=(n, n))
        return lambda: metric.scalar_curvature(X)

    ratio = timing.interleaved(call(sizes[1]), call(sizes[0]), repeats=repeats)
    exponent = math.log(ratio.median) / math.log(sizes[1] / sizes[0])
    bar = "<= 3.3" if exponent <= 3.3 else "<= 3.3 MISSED"
    cells = (timing.number(1e3 * ratio.second), timing.number(1e3 * ratio.first))
    return [f"{depth:g}", *cells, f"{exponent:.2f}", bar]


def main() -> None:
    options = timing.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    repeats = 5 if options.quick else 25
    rows = [sectional_row(rng, 20, (), depth, 5.0, repeats) for depth in (2, 3, 4, 5, 8)]
    count = 1000 if options.quick else 10_000
    rows += [sectional_row(rng, 3, (count,), depth, 100.0, repeats) for depth in (2, 3, 5)]
    timing.print_table("Sectional curvature", HEADER, rows)
    growth = [growth_row(rng, depth, (10, 60), repeats) for depth in (2, 3, 5)]
    # Closed forms take seconds.
    growth += [growth_row(rng, depth, (10, 60), 3) for depth in (2.5, math.inf)]
    timing.print_table("Scalar curvature", GROWTH_HEADER, growth)


if __name__ == "__main__":
    main()
