"""How time and memory grow: with size, depth, rank, shape and samples, as fitted powers.

Each row is one series of calls whose inputs grow in one way. The powers are slopes of straight
lines through the logarithms, fitted to all and to the upper half of the series, where what does not
grow counts less. ``--figure growth.png`` draws the series.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array

from dln_manifolds import DLNObservableManifold
from dln_manifolds.statistics import FrechetMean

HEADER = ("what", "with", "from", "to", "time there [ms]", "power", "upper half", "memory, power")


class Series(NamedTuple):
    """Calls whose inputs grow in one way."""

    what: str
    by: str
    sizes: Sequence[float]
    call: Callable[[float], Callable[[], Any]]


def power(sizes: Array, values: Array) -> float:
    """Slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def near(rng: np.random.Generator, count: int, n: int) -> Array:
    """The identity and a little noise, whose spectrum does not grow with n."""
    return np.eye(n) + 0.2 / np.sqrt(n) * rng.normal(size=(count, n, n))


def pointwise(rng: np.random.Generator, name: str) -> Callable[[float], Callable[[], Any]]:
    """A call at one or two matrices of a size."""

    def made(n: float) -> Callable[[], Any]:
        space = DLNObservableManifold(int(n), 4)
        X, Y = near(rng, 2, int(n))
        V = 0.1 * rng.normal(size=X.shape) / n
        calls = {
            "inner product": partial(space.metric.squared_norm, V, X),
            "exp": partial(space.metric.exp, V, X),
            "log": partial(space.metric.log, Y, X),
            "retraction": partial(space.retraction, X, V),
            "sectional curvature": partial(space.metric.sectional_curvature, V, V.T, X),
        }
        return calls[name]

    return made


def every(rng: np.random.Generator, quick: bool) -> Iterator[Series]:
    """All series."""
    sizes = (10, 20) if quick else (10, 16, 32, 64, 128, 256)
    for name in ("inner product", "sectional curvature", "retraction", "exp", "log"):
        yield Series(name, "n", sizes if name != "log" else sizes[:5], pointwise(rng, name))
    X, Y = rng.normal(size=(2, 20, 3, 3))
    Y[np.linalg.slogdet(X)[0] != np.linalg.slogdet(Y)[0], 0] *= -1

    def of_depth(depth: float) -> Callable[[], Any]:
        return partial(DLNObservableManifold(3, depth).metric.log, Y, X)

    yield Series("log, 20 of 3 x 3", "N", (2, 30) if quick else (2, 4, 30, 1e3, 1e6), of_depth)

    def of_rank(rank: float, m: float = 64, n: float = 64) -> Callable[[], Any]:
        space = DLNObservableManifold(shape=(int(m), int(n)), rank=int(rank), depth=3)
        A, B = space.random_point(2, bound=0.5, rng=rng)
        return partial(space.metric.log, B, A)

    yield Series("log, 64 x 64", "r", (2, 4) if quick else (2, 4, 8, 16, 32), of_rank)
    sums = (64, 128) if quick else (128, 256, 512, 1024, 2048)
    yield Series("log, rank 4", "m + n", sums, lambda s: of_rank(4, s // 2, s - s // 2))
    many = near(rng, 10_000, 3)

    def of_samples(count: float) -> Callable[[], Any]:
        return partial(FrechetMean(DLNObservableManifold(3, 4)).fit, many[: int(count)])

    counts = (20, 40) if quick else (100, 300, 1000, 3000, 10_000)
    yield Series("FrechetMean, 3 x 3", "samples", counts, of_samples)

    def of_pairs(n_pairs: float) -> Callable[[], Any]:
        count = round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)
        return partial(DLNObservableManifold(3, 4).metric.dist_pairwise, many[:count])

    counts = (45, 190) if quick else (190, 780, 3160, 12_720, 44_850)
    yield Series("dist_pairwise, 3 x 3", "pairs", counts, of_pairs)


def measured(series: Series, repeats: int) -> tuple[Array, Array]:
    """The least times of some turns through the series, and the most memory."""
    calls = [series.call(size) for size in series.sizes]
    peaks = []
    for call in calls:
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    times = [[timing.seconds(call) for call in calls] for _ in range(repeats)]
    return np.min(times, axis=0), np.array(peaks)


def row(series: Series, times: Array, peaks: Array) -> list[str]:
    sizes, upper = np.array(series.sizes, dtype=float), slice(len(series.sizes) // 2, None)
    upper = slice(-2, None) if len(sizes) < 4 else upper
    return [
        series.what,
        series.by,
        f"{sizes[0]:,g}",
        f"{sizes[-1]:,g}",
        timing.number(1e3 * times[-1]),
        f"{power(sizes, times):.2f}",
        f"{power(sizes[upper], times[upper]):.2f}",
        f"{power(sizes, peaks):.2f}",
    ]


def draw(path: Path, found: list[tuple[Series, Array]]) -> None:
    """One panel for each way to grow, times in seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ways = list(dict.fromkeys(series.by for series, _ in found))
    figure, axes = plt.subplots(1, len(ways), figsize=(3 * len(ways), 3.2), layout="constrained")
    for axis, way in zip(np.atleast_1d(axes), ways, strict=True):
        for series, times in found:
            if series.by == way:
                axis.loglog(series.sizes, times, "o-", label=series.what, markersize=3)
        axis.set(xlabel=way)
        axis.legend(fontsize=6)
    np.atleast_1d(axes)[0].set(ylabel="time [s]")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure", type=Path, help="file that the series are drawn to")
    options = timing.arguments(__doc__, parser)
    rng = np.random.default_rng(options.seed)
    table, found = [], []
    for series in every(rng, options.quick):
        times, peaks = measured(series, 1 if options.quick else 3)
        table.append(row(series, times, peaks))
        found.append((series, times))
    timing.print_table("Growth", HEADER, table)
    if options.figure:
        draw(options.figure, found)


if __name__ == "__main__":
    main()
