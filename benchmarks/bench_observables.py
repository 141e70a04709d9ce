"""Every shape, rank and depth: how many logs are solved and how well, and what they cost.

Four parts, ``--part sweep``, ``growth``, ``depths`` or ``variations`` for one of them. The sweep
solves Gaussian pairs of every shape, rank and depth in both directions. A pair ends well if it says
so; its residual is measured by exp, which knows the velocity only. The length is compared with the
length backwards and with the bounds. The growth is that of time and memory with the number of rows
and columns at a fixed rank. The depths are one sample of pairs at N = 10 to infinity. The
variations are Jacobi fields and conjugate times along single geodesics, beside their exp.
"""

from __future__ import annotations

import argparse
import math
import time
import tracemalloc
from dataclasses import dataclass
from functools import partial

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array

from dln_manifolds import DLNObservableManifold, DLNObservableMetric

LOWER = (
    (3, 3, 1),
    (3, 3, 2),
    (4, 4, 2),
    (6, 6, 2),
    (6, 6, 3),
    (10, 10, 3),
    (20, 20, 5),
    (8, 5, 3),
    (6, 3, 3),
    (5, 3, 2),
    (4, 5, 3),
    (30, 10, 10),
)
FULL = tuple((n, n, n) for n in (2, 3, 5, 8, 10, 20))
DEPTHS = (1.5, 2, 3, 4, 8, 30, 300)
# 24 pairs in each of 18 x 7 cells: 3,024.
PAIRS, QUICK_PAIRS = 24, 2
HEADER = (
    "N",
    "solved",
    "met a singular matrix",
    "not converged",
    "largest residual",
    "asymmetry",
    "bounds kept",
    "evaluations (most)",
    "time per log [ms]",
)
GROWTH_HEADER = (
    "shape",
    "log [ms]",
    "SVDs of its ends [ms]",
    "rest / (m + n) [us]",
    "peak [MB]",
    "peak / m n doubles",
    "rest / (m + n) r doubles",
)
DEPTHS_HEADER = (
    "n",
    "N",
    "solved",
    "largest residual",
    "evaluations",
    "to those at N = 10",
    "time of a single log [ms]",
    "to that at N = 10 (range)",
    "bar",
)
VARIATIONS_HEADER = (
    "n",
    "N",
    "exp [ms]",
    "one direction, to exp",
    "all directions, to exp",
    "inverse of d exp, to exp",
    "conjugate time, to exp",
    "error of the Gauss lemma",
)
# What logs may cost at any depth beside N = 10.
BAR = 1.5
# What rounding may add to either side of an inequality between lengths, relative.
_SLACK = 1e-12


def gaussian_pairs(
    rng: np.random.Generator, n_pairs: int, m: int, n: int, rank: int
) -> tuple[Array, Array]:
    """Pairs of Gaussian matrices, products of Gaussian factors if of lower rank.

    Determinants of square matrices of full rank get the same sign.
    """
    if m == n == rank:
        return timing.gaussian_pairs(rng, n_pairs, n)
    if rank == min(m, n):
        first, last = rng.normal(size=(2, n_pairs, m, n))
        return first, last
    left, right = rng.normal(size=(2, n_pairs, m, rank)), rng.normal(size=(2, n_pairs, rank, n))
    first, last = left @ right / math.sqrt(rank)
    return first, last


@dataclass
class Tally:
    """What became of all pairs so far."""

    pairs: int = 0
    solved: int = 0
    worst: float = 0.0
    asymmetry: float = 0.0
    kept: int = 0


def sweep_row(
    rng: np.random.Generator, case: tuple[int, int, int], depth: float, n_pairs: int, tally: Tally
) -> list[str]:
    """Solve the pairs of one shape, rank and depth, and add them to the tally."""
    m, n, rank = case
    metric = DLNObservableManifold(shape=(m, n), rank=rank, depth=depth).metric
    X, Y = gaussian_pairs(rng, n_pairs, m, n, rank)
    began = time.process_time()
    there, back = metric.solve_log(Y, X), metric.solve_log(X, Y)
    elapsed = (time.process_time() - began) / (2 * n_pairs)
    good = there.success & back.success
    worst = 0.0
    for solution, start, end in ((there, X, Y), (back, Y, X)):
        well = solution.success
        reached = metric.exp(solution.initial_velocity[well], start[well])
        worst = max(worst, timing.relative_distance(reached, end[well]).max(initial=0))
    length = there.length[good]
    asymmetry = np.abs(back.length[good] / length - 1).max(initial=0)
    kept = there.lower_bound[good] <= length * (1 + _SLACK)
    kept &= length <= there.upper_bound[good] * (1 + _SLACK)
    tally.pairs, tally.solved = tally.pairs + n_pairs, tally.solved + int(good.sum())
    tally.worst, tally.asymmetry = max(tally.worst, worst), max(tally.asymmetry, asymmetry)
    tally.kept += int(kept.sum())
    counts = there.n_evaluations
    return [
        f"{depth:g}",
        f"{int(good.sum())} of {n_pairs}",
        str(int(((there.status == 1) | (back.status == 1)).sum())),
        str(int(((there.status == 2) | (back.status == 2)).sum())),
        f"{worst:.1e}",
        f"{asymmetry:.0e}",
        f"{int(kept.sum())} of {int(good.sum())}",
        f"{np.median(counts):.0f} ({counts.max()})",
        timing.number(1e3 * elapsed),
    ]


def sweep(rng: np.random.Generator, n_pairs: int) -> None:
    """Solve Gaussian pairs of every shape, rank and depth."""
    tally = Tally()
    for m, n, rank in LOWER + FULL:
        rows = [sweep_row(rng, (m, n, rank), depth, n_pairs, tally) for depth in DEPTHS]
        timing.print_table(f"log of Gaussian pairs, {m} x {n} of rank {rank}", HEADER, rows)
    print(
        f"{tally.solved} of {tally.pairs} pairs solved in both directions "
        f"({tally.solved / tally.pairs:.2%}), largest residual {tally.worst:.1e}, "
        f"asymmetry {tally.asymmetry:.0e}, bounds kept by {tally.kept}",
        flush=True,
    )


def growth_row(rng: np.random.Generator, m: int, n: int, rank: int, repeats: int) -> list[str]:
    """Time and memory of one log, and what of it the decomposition of its ends takes."""
    metric = DLNObservableManifold(shape=(m, n), rank=rank, depth=4).metric
    # The same small pair in orthonormal frames: the same geodesic at every size.
    core = np.random.default_rng(0).normal(size=(2, 2 * rank, rank))
    core = core @ np.random.default_rng(1).normal(size=(2, rank, 2 * rank))
    frames = (np.linalg.qr(rng.normal(size=(k, 2 * rank)))[0] for k in (m, n))
    left, right = frames
    X, Y = left @ core @ right.T
    ratio = timing.interleaved(
        lambda: metric.log(Y, X),
        lambda: [np.linalg.svd(matrix, full_matrices=False) for matrix in (X, Y)],
        repeats=repeats,
        at_least=0,
    )
    tracemalloc.start()
    metric.log(Y, X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    svd = tracemalloc_of_svd(X, Y)
    rest = max(0.0, ratio.first - ratio.second)
    return [
        f"{m} x {n}, rank {rank}",
        timing.number(1e3 * ratio.first),
        timing.number(1e3 * ratio.second),
        timing.number(1e6 * rest / (m + n)),
        timing.number(peak / 2**20),
        timing.number(peak / (8 * m * n)),
        timing.number((peak - svd) / (8 * (m + n) * rank)),
    ]


def tracemalloc_of_svd(X: Array, Y: Array) -> int:
    """Peak memory of decomposing both ends."""
    tracemalloc.start()
    np.linalg.svd(np.stack([X, Y]), full_matrices=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def growth(rng: np.random.Generator, quick: bool) -> None:
    """Tall matrices of more and more rows, and square ones, of one rank."""
    sizes = (50, 100, 200) if quick else (50, 100, 200, 400, 800, 1600, 3200)
    rows = [growth_row(rng, m, 20, 5, 3) for m in sizes]
    rows += [growth_row(rng, m, m, 5, 3) for m in sizes[: len(sizes) - 2]]
    timing.print_table("One log at N = 4, the same geodesic at every size", GROWTH_HEADER, rows)


def single_logs(metric: DLNObservableMetric, X: Array, Y: Array) -> None:
    """Solve pairs one by one."""
    for start, end in zip(X, Y, strict=True):
        metric.log(end, start)


def depth_rows(X: Array, Y: Array, n_single: int, repeats: int) -> list[list[str]]:
    """Solve one sample of pairs at every depth, in a batch, and some of it in single calls."""
    n, rows, few = X.shape[-1], [], (X[:n_single], Y[:n_single])
    metrics = [
        DLNObservableManifold(n, depth).metric for depth in (10, 100, 1e3, 1e4, 1e6, math.inf)
    ]
    solutions = [metric.solve_log(Y, X) for metric in metrics]
    counts = [solution.n_evaluations.mean() for solution in solutions]
    for metric, solution, count in zip(metrics, solutions, counts, strict=True):
        ratio = timing.interleaved(
            partial(single_logs, metric, *few),
            partial(single_logs, metrics[0], *few),
            repeats=repeats,
            at_least=0,
        )
        rows.append(
            [
                str(n),
                f"{solution.depth:g}",
                f"{int(solution.success.sum())} of {len(X)}",
                f"{solution.residual.max():.1e}",
                f"{count:.0f}",
                timing.number(count / counts[0]),
                timing.number(1e3 * ratio.first / n_single),
                *ratio.cells(at_most=BAR)[2:],
            ]
        )
    return rows


def depths(rng: np.random.Generator, quick: bool) -> None:
    """Solve samples of 3 x 3 and 8 x 8 pairs at every depth."""
    n_pairs, n_single, repeats = (10, 2, 2) if quick else (100, 10, 5)
    rows = []
    for n in (3, 8):
        rows += depth_rows(*timing.gaussian_pairs(rng, n_pairs, n), n_single, repeats)
    timing.print_table("Logs of one sample of Gaussian pairs", DEPTHS_HEADER, rows)


def variations_row(rng: np.random.Generator, n: int, depth: float, repeats: int) -> list[str]:
    """Vary a geodesic of a third of the size of its first point."""
    metric = DLNObservableManifold(n, depth).metric
    X = np.eye(n) + 0.1 * rng.normal(size=(n, n))
    E = rng.normal(size=(n * n, n, n))
    size = 1.0 if depth == math.inf else depth * metric.norm(X, X)
    Z = 0.3 * size * metric.normalize(E[0], X)
    exp = partial(metric.exp, Z, X)
    calls = (
        partial(metric.jacobi_field, E[1], Z, X),
        partial(metric.jacobi_field, E, Z, X),
        partial(metric.exp_inverse, E, Z, X),
        partial(metric.conjugate_time, Z, X),
    )
    ratios = [timing.interleaved(call, exp, repeats=repeats, at_least=0) for call in calls]
    before = metric.inner_product(E, Z, X)
    after = metric.inner_product(*(metric.jacobi_field(e, Z, X) for e in (E, Z)), exp())
    error = np.max(np.abs(after - before)) / (metric.norm(Z, X) * metric.norm(E, X).max())
    return [
        str(n),
        f"{depth:g}",
        timing.number(1e3 * ratios[0].second),
        *(timing.number(ratio.median) for ratio in ratios),
        f"{error:.1e}",
    ]


def variations(rng: np.random.Generator, quick: bool) -> None:
    """Small and larger matrices, shallow and deep."""
    sizes = (2, 3) if quick else (2, 3, 5, 8)
    rows = [variations_row(rng, n, depth, 3) for n in sizes for depth in (3, 8, math.inf)]
    timing.print_table("Along one geodesic", VARIATIONS_HEADER, rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = ("sweep", "growth", "depths", "variations")
    parser.add_argument("--part", choices=parts, help="only this part")
    options = timing.arguments(__doc__, parser)
    rng = np.random.default_rng(options.seed)
    if options.part in (None, "sweep"):
        sweep(rng, QUICK_PAIRS if options.quick else PAIRS)
    if options.part in (None, "growth"):
        growth(rng, options.quick)
    if options.part in (None, "depths"):
        depths(rng, options.quick)
    if options.part in (None, "variations"):
        variations(rng, options.quick)


if __name__ == "__main__":
    main()
