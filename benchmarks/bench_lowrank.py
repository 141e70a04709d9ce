"""Large matrices of low rank from factors: growth with their size, logs and means through the core.

Three parts, ``--part growth``, ``log`` or ``mean`` for one of them. The growth is that of time and
memory of ``common_core`` and ``expand`` with the number of rows and columns, at fixed rank and
number of matrices. Logs of 4096 x 4096 matrices of rank 16, from factors to factors, run against
logs of random 32 x 32 matrices of rank 16. Means are those of ten matrices in one call of
geomstats' ``FrechetMean``, against the same call on dense matrices where these can be had.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable
from functools import partial

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array
from geomstats.learning.frechet_mean import FrechetMean

from dln_manifolds import DLNObservableManifold
from dln_manifolds.lowrank import CommonCore, common_core

GROWTH_HEADER = (
    "shape",
    "core and expansion [ms]",
    "per row and column [us]",
    "to that of the smallest, per row and column (range)",
    "peak [MB]",
    "peak / (m + n) k r doubles",
    "largest error of entries",
)
LOG_HEADER = (
    "N",
    "factors",
    "core, expansion [ms]",
    "log from factors [ms]",
    "log of random 32 x 32 [ms]",
    "ratio (range)",
    "bar",
    "largest residual",
    "error of the end point",
)
MEAN_HEADER = (
    "shape",
    "N",
    "core",
    "from factors [ms]",
    "dense [ms]",
    "ratio dense / factors (range)",
    "gradient / size",
    "from that of dense",
)
# What a log from factors may cost beside one of random small matrices.
BAR = 3
Factors = tuple[Array, Array]
Make = Callable[[np.random.Generator, int, int, int], Factors]


def gaussian_factors(rng: np.random.Generator, k: int, size: int, rank: int) -> Factors:
    """Gaussian factors of k square matrices, whose spans are nearly orthogonal if they are few."""
    scale = size**-0.25
    return scale * rng.normal(size=(k, size, rank)), scale * rng.normal(size=(k, rank, size))


def factors_around_one(rng: np.random.Generator, k: int, size: int, rank: int) -> Factors:
    """Factors that differ from common ones by half as much, as fine-tuned ones of one start."""
    (B, A), (dB, dA) = (gaussian_factors(rng, count, size, rank) for count in (1, k))
    return B + 0.5 * dB, A + 0.5 * dA


def entries_error(rng: np.random.Generator, factors: Factors, expanded: Factors) -> float:
    """Largest relative error of a thousand entries of every matrix."""
    sizes = factors[0].shape[1], factors[1].shape[2]
    rows, columns = (rng.integers(size, size=1000) for size in sizes)
    exact, ours = (
        np.einsum("ker,kre->ke", B[:, rows], A[:, :, columns]) for B, A in (factors, expanded)
    )
    return float(np.abs(ours - exact).max() / np.abs(exact).max())


def there_and_back(factors: Factors) -> Factors:
    """Make the core of factors, and expand its points."""
    core = common_core(factors)
    return core.expand(core.points)


def growth_row(
    rng: np.random.Generator, size: int, smallest: int, k: int, rank: int, repeats: int
) -> list[str]:
    """Time and memory of common core and expansion, beside those of the smallest size."""
    factors = gaussian_factors(rng, k, size, rank)
    small = gaussian_factors(rng, k, smallest, rank)
    ratio = timing.interleaved(
        lambda: there_and_back(factors), lambda: there_and_back(small), repeats=repeats
    ).per(2 * size, 2 * smallest)
    tracemalloc.start()
    expanded = there_and_back(factors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [
        f"{size:,} x {size:,}",
        timing.number(2e3 * size * ratio.first),
        timing.number(1e6 * ratio.first),
        ratio.cells()[2],
        timing.number(peak / 2**20),
        timing.number(peak / (8 * 2 * size * k * rank)),
        f"{entries_error(rng, factors, expanded):.0e}",
    ]


def growth(rng: np.random.Generator, quick: bool) -> None:
    """Larger and larger matrices of rank 16."""
    sizes = [1024 * 4**p for p in range(3 if quick else 5)]
    for k in (2,) if quick else (2, 10):
        rows = [growth_row(rng, size, sizes[0], k, 16, 3 if quick else 7) for size in sizes]
        timing.print_table(f"Core of {k} matrices of rank 16", GROWTH_HEADER, rows)


def log_row(
    rng: np.random.Generator,
    make: Make,
    name: str,
    *,
    depth: float,
    size: int,
    rank: int,
    n_pairs: int,
    repeats: int,
) -> list[str]:
    """Logs of pairs from factors to factors, against logs of random small matrices."""
    metric = DLNObservableManifold(shape=(2 * rank, 2 * rank), rank=rank, depth=depth).metric
    logs, parts, residual, error = [], [], 0.0, 0.0
    for _ in range(n_pairs):
        factors = make(rng, 2, size, rank)
        left, right = rng.normal(size=(2, 2 * rank, rank)), rng.normal(size=(2, rank, 2 * rank))
        X, Y = left @ right

        def from_factors(factors: Factors = factors) -> Factors:
            core = common_core(factors)
            first, last = core.points
            return core.expand_vector(core.space(depth).metric.log(last, first))

        def random_one(X: Array = X, Y: Array = Y) -> Array:
            return metric.log(Y, X)

        logs.append(timing.interleaved(from_factors, random_one, repeats=repeats, at_least=0.01))
        parts.append(
            np.median([timing.seconds(partial(there_and_back, factors)) for _ in range(5)])
        )
        core = common_core(factors)
        solution = core.space(depth).metric.solve_log(core.points[1], core.points[0])
        residual = max(residual, float(solution.residual))
        error = max(error, end_point_error(rng, core, factors, solution.initial_velocity, depth))
    cells = timing.pooled(logs).cells(at_most=BAR)
    return [
        f"{depth:g}",
        name,
        timing.number(1e3 * float(np.median(parts))),
        *cells,
        f"{residual:.0e}",
        f"{error:.0e}",
    ]


def end_point_error(
    rng: np.random.Generator, core: CommonCore, factors: Factors, velocity: Array, depth: float
) -> float:
    """Largest error of entries of the large matrix where a velocity of the core leads."""
    end = core.space(depth).metric.exp(velocity, core.points[0])
    last = factors[0][1:], factors[1][1:]
    return entries_error(rng, last, core.expand(end[None]))


def logs(rng: np.random.Generator, quick: bool) -> None:
    """Pairs of 4096 x 4096 matrices of rank 16."""
    makers = (("Gaussian", gaussian_factors), ("around one", factors_around_one))
    sizes = {"size": 4096, "rank": 16}
    counts = {"n_pairs": 2 if quick else 5, "repeats": 1 if quick else 3}
    rows = [
        log_row(rng, make, name, depth=depth, **sizes, **counts)
        for depth in (2, 3, 4)
        for name, make in makers
    ]
    timing.print_table("Logs of 4096 x 4096 matrices of rank 16", LOG_HEADER, rows)


def mean_row(
    rng: np.random.Generator, size: int, rank: int, depth: float, repeats: int, dense: bool
) -> list[str]:
    """Mean of ten matrices from factors to factors, against that of dense ones if it can be had."""
    B, A = factors = factors_around_one(rng, 10, size, rank)
    core = common_core(factors)

    def fitted(space: DLNObservableManifold, points: Array) -> Array:
        return FrechetMean(space).set(epsilon=1e-20, max_iter=60).fit(points).estimate_

    def from_factors() -> Factors:
        core = common_core(factors)
        return core.expand(fitted(core.space(depth), core.points))

    large = DLNObservableManifold(shape=(size, size), rank=rank, depth=depth)
    result = [np.empty(0)]

    def from_dense() -> None:
        result[0] = fitted(large, B @ A)

    if dense:
        ratio = timing.interleaved(from_dense, from_factors, repeats=repeats, at_least=0)
        times = [timing.number(1e3 * ratio.second), *ratio.cells()[:1], ratio.cells()[2]]
        ours, other = np.matmul(*from_factors()), result[0]
        apart = f"{float(timing.relative_distance(ours, other)):.0e}"
    else:
        seconds = np.median([timing.seconds(from_factors) for _ in range(repeats)])
        times, apart = [timing.number(1e3 * float(seconds)), "", ""], ""
    mean, metric = fitted(core.space(depth), core.points), core.space(depth).metric
    gradient = metric.norm(metric.log(core.points, mean).mean(axis=0), mean)
    roots = np.linalg.svd(mean, compute_uv=False)[:rank] ** (1 / depth)
    return [
        f"{size:,} x {size:,}, rank {rank}",
        f"{depth:g}",
        " x ".join(map(str, mean.shape)),
        *times,
        f"{float(gradient) / np.sqrt(depth * (roots @ roots)):.0e}",
        apart,
    ]


def means(rng: np.random.Generator, quick: bool) -> None:
    """Ten matrices around one."""
    repeats = 1 if quick else 3
    rows = [mean_row(rng, 200, 4, depth, repeats, True) for depth in (2, 3)]
    rows += [
        mean_row(rng, 4096, 16, depth, repeats, False) for depth in ((2,) if quick else (2, 3))
    ]
    timing.print_table("Mean of ten matrices in one call", MEAN_HEADER, rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("growth", "log", "mean"), help="only this part")
    options = timing.arguments(__doc__, parser)
    rng = np.random.default_rng(options.seed)
    if options.part in (None, "growth"):
        growth(rng, options.quick)
    if options.part in (None, "log"):
        logs(rng, options.quick)
    if options.part in (None, "mean"):
        means(rng, options.quick)


if __name__ == "__main__":
    main()
