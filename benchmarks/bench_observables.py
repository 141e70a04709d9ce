"""Every shape, rank and depth: how many logs are solved and how well, and what they cost.

Three parts, ``--part sweep``, ``growth`` or ``depths`` for one of them. The sweep solves Gaussian
pairs of every shape, rank and depth in both directions. A pair ends well if it says so; its
residual is measured by exp, which knows the velocity only. The length is compared with the length
backwards and with the bounds. The growth is that of time and memory with the number of rows and
columns at a fixed rank. The depths are one sample of pairs at N = 10 to infinity.
"""

from __future__ import annotations

import argparse
import math
import time
import tracemalloc

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array

from dln_manifolds import DLNObservableManifold

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
DEPTHS_HEADER = ("n", "N", "solved", "evaluations", "of N = 10", "time [ms]", "of N = 10")
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


class Tally:
    """Pairs so far, and how many of them were solved."""

    def __init__(self) -> None:
        self.pairs, self.solved, self.worst, self.asymmetry, self.kept = 0, 0, 0.0, 0.0, 0

    def row(self, rng: np.random.Generator, case: tuple[int, int, int], depth: float, n: int):
        """Solve the pairs of one shape, rank and depth."""
        shape, rank = case[:2], case[2]
        metric = DLNObservableManifold(shape=shape, rank=rank, depth=depth).metric
        X, Y = gaussian_pairs(rng, n, *case)
        began = time.process_time()
        there, back = metric.solve_log(Y, X), metric.solve_log(X, Y)
        elapsed = (time.process_time() - began) / (2 * n)
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
        self.pairs, self.solved = self.pairs + n, self.solved + int(good.sum())
        self.worst, self.asymmetry = max(self.worst, worst), max(self.asymmetry, asymmetry)
        self.kept += int(kept.sum())
        evaluations = there.n_evaluations
        return [
            f"{depth:g}",
            f"{int(good.sum())} of {n}",
            str(int(((there.status == 1) | (back.status == 1)).sum())),
            str(int(((there.status == 2) | (back.status == 2)).sum())),
            f"{worst:.1e}",
            f"{asymmetry:.0e}",
            f"{int(kept.sum())} of {int(good.sum())}",
            f"{np.median(evaluations):.0f} ({evaluations.max()})",
            timing.number(1e3 * elapsed),
        ]


def sweep(rng: np.random.Generator, n_pairs: int) -> None:
    """Solve Gaussian pairs of every shape, rank and depth."""
    everything = Tally()
    for m, n, rank in LOWER + FULL:
        rows = [everything.row(rng, (m, n, rank), depth, n_pairs) for depth in DEPTHS]
        timing.print_table(f"log of Gaussian pairs, {m} x {n} of rank {rank}", HEADER, rows)
    print(
        f"{everything.solved} of {everything.pairs} pairs solved in both directions "
        f"({everything.solved / everything.pairs:.2%}), largest residual {everything.worst:.1e}, "
        f"asymmetry {everything.asymmetry:.0e}, bounds kept by {everything.kept}",
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


def depths(rng: np.random.Generator, quick: bool) -> None:
    """Solve one sample of pairs at every depth."""
    rows = []
    for n in (3, 8):
        X, Y = timing.gaussian_pairs(rng, 10 if quick else 100, n)
        metrics = [
            DLNObservableManifold(n, depth).metric for depth in (10, 100, 1e3, 1e4, 1e6, math.inf)
        ]
        few = slice(0, 10)
        first = metrics[0].solve_log(Y, X).n_evaluations.mean()
        for metric in metrics:
            solution = metric.solve_log(Y, X)
            ratio = timing.interleaved(
                lambda m=metric, X=X, Y=Y: [m.log(y, x) for x, y in zip(X[few], Y[few])],
                lambda X=X, Y=Y: [metrics[0].log(y, x) for x, y in zip(X[few], Y[few])],
                repeats=3 if quick else 7,
                at_least=0,
            )
            rows.append(
                [
                    str(n),
                    f"{metric.space.depth:g}",
                    f"{int(solution.success.sum())} of {len(X)}",
                    f"{solution.n_evaluations.mean():.0f}",
                    timing.number(solution.n_evaluations.mean() / first),
                    timing.number(100 * ratio.first),
                    f"{timing.number(ratio.median)} ({timing.number(ratio.low)} to "
                    f"{timing.number(ratio.high)})",
                ]
            )
    timing.print_table("Single logs of one sample of Gaussian pairs", DEPTHS_HEADER, rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("sweep", "growth", "depths"), help="only this part")
    options = timing.arguments(__doc__, parser)
    rng = np.random.default_rng(options.seed)
    if options.part in (None, "sweep"):
        sweep(rng, QUICK_PAIRS if options.quick else PAIRS)
    if options.part in (None, "growth"):
        growth(rng, options.quick)
    if options.part in (None, "depths"):
        depths(rng, options.quick)


if __name__ == "__main__":
    main()
