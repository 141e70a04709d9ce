"""What is feasible: sizes, depths, ranks and numbers of samples, with time, memory and accuracy.

With ``--page docs/feasible.md`` the table and the machine of that page are written anew. Times are
processor time of one thread, and beside them the same in singular value decompositions of the
matrices that the call gets, measured in turns: those carry over to other machines. Memory is what
NumPy has in hand at most during the call.
"""

from __future__ import annotations

import argparse
import math
import re
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _machine import described, versions
from _timing import Array

from dln_manifolds import DLNObservableManifold
from dln_manifolds.dynamics import GibbsMeasure, sample
from dln_manifolds.errors import SamplingWarning
from dln_manifolds.statistics import FrechetMean

HEADER = ("what", "points", "N", "time", "in SVDs", "memory", "accuracy")
MARKED = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
# Seconds from which on a call is timed once.
LONG = 1.0

Row = tuple[str, str, float, Callable[[], Any], Array, Callable[[Any], str]]


def spoken(seconds: float) -> str:
    """A time in its natural unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{timing.number(seconds / size)} {unit}"
    return f"{timing.number(1e6 * seconds)} us"


def depth_name(depth: float) -> str:
    return "infinite" if math.isinf(depth) else f"{depth:g}" if depth < 1e5 else f"{depth:.0e}"


def measured(row: Row) -> list[str]:
    """Run a call and the decompositions of its matrices in turns."""
    what, points, depth, call, matrices, accuracy = row
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    first, unit = timing.seconds(call), partial(np.linalg.svd, matrices)
    if first > LONG:
        ratio = timing.interleaved(lambda: None, unit, repeats=3)
        elapsed, in_units = first, first / ratio.second
    else:
        repeats = max(3, min(9, int(LONG / max(first, 1e-4))))
        ratio = timing.interleaved(call, unit, repeats=repeats)
        elapsed, in_units = ratio.first, ratio.median
    return [
        what,
        points,
        depth_name(depth),
        spoken(elapsed),
        timing.number(in_units),
        f"{peak:.1f} MiB" if peak < 100 else f"{peak:,.0f} MiB",
        accuracy(result),
    ]


def gaussian(rng: np.random.Generator, count: int, n: int) -> Array:
    """Gaussian matrices of positive determinant, of one size for all n."""
    points = rng.normal(size=(count, n, n)) / np.sqrt(n)
    points[:, 0] *= np.linalg.slogdet(points)[0][:, None]
    return points


def residual(solution: Any) -> str:
    return f"residual {np.max(solution.residual):.0e}"


def mixed(draws: Any) -> str:
    return f"R-hat {np.max(draws.r_hat):.3f}"


def gradient(found: FrechetMean) -> str:
    return f"gradient norm {found.gradient_norm_:.0e}"


def geodesics(rng: np.random.Generator, quick: bool, largest: int = 256) -> Iterator[Row]:
    """Exp and log of every size and depth, of low rank and of other shapes."""
    for n in (3, 10) if quick else (3, 10, 30, 64, 128, 256):
        space = DLNObservableManifold(n, 4)
        (X,) = gaussian(rng, 1, n)
        V = rng.normal(size=X.shape)
        V *= 0.1 * np.sqrt(4 * np.sum(np.linalg.svd(X)[1] ** 0.5)) / space.metric.norm(V, X)
        while not space.metric.solve_exp(V, X).success:  # some leave GL(n)
            V = V / 2
        yield "exp", f"1 of {n} x {n}", 4, partial(space.metric.solve_exp, V, X), X, residual
    pairs = [(3, depth) for depth in (1.5, 2, 4, 30, 1e4, 1e6, math.inf)]
    pairs += [(n, 4) for n in (10, 30, 64, 128) if n <= largest]
    for n, depth in pairs[2:4] if quick else pairs:
        call, X = pair(rng, n, depth, 1)
        yield "log", f"1 pair of {n} x {n}", depth, call, X, residual
    count = 20 if quick else 1000
    call, X = pair(rng, 3, 4, count)
    yield "log", f"{count:,} pairs of 3 x 3", 4, call, X, residual
    low = [(40, 20, 2)] if quick else [(10, 64, 10), (200, 200, 4), (200, 200, 16)]
    for m, n, rank in low:
        space = DLNObservableManifold(shape=(m, n), rank=rank, depth=3)
        A, B = space.random_point(2, bound=0.5, rng=rng)
        call = partial(space.metric.solve_log, B, A)
        yield "log", f"1 pair of {m} x {n}, rank {rank}", 3, call, A, residual


def pair(
    rng: np.random.Generator, n: int, depth: float, count: int
) -> tuple[Callable[[], Any], Array]:
    """The log of Gaussian pairs, and the points that they start from."""
    X, Y = gaussian(rng, count, n), gaussian(rng, count, n)
    ends = (Y[0], X[0]) if count == 1 else (Y, X)
    return partial(DLNObservableManifold(n, depth).metric.solve_log, *ends), ends[1]


def at_points(rng: np.random.Generator, quick: bool) -> Iterator[Row]:
    """Transport, curvature and retractions."""
    for n in (3, 10) if quick else (3, 10, 30):
        space = DLNObservableManifold(n, 4)
        metric = space.metric
        X, Y = gaussian(rng, 2, n)
        V, U = rng.normal(size=(2, n, n))

        def kept(moved: Array, m: Any = metric, V: Array = V, X: Array = X, Y: Array = Y) -> str:
            return f"length kept to {abs(m.norm(moved, Y) / m.norm(V, X) - 1):.0e}"

        call = partial(metric.parallel_transport, V, X, end_point=Y)
        yield "transport, log included", f"1 pair of {n} x {n}", 4, call, X, kept
    for n in (3,) if quick else (3, 20, 64):
        metric = DLNObservableManifold(n, 4).metric
        (X,) = gaussian(rng, 1, n)
        V, U = rng.normal(size=(2, n, n))

        def plane(value: Array, m: Any = metric, V: Array = V, U: Array = U, X: Array = X) -> str:
            other = m.sectional_curvature(V + 2 * U, U - V, X)
            return f"of the plane, not its basis, to {abs(other / value - 1):.0e}"

        call = partial(metric.sectional_curvature, V, U, X)
        yield "sectional curvature", f"1 of {n} x {n}", 4, call, X, plane
    for n in (10,) if quick else (10, 64, 256):
        space = DLNObservableManifold(n, 4)
        (X,) = gaussian(rng, 1, n)
        V = rng.normal(size=X.shape)
        size = np.sqrt(4 * np.sum(np.linalg.svd(X)[1] ** 0.5))
        V *= 1e-3 * size / space.metric.norm(V, X)

        def apart(end: Array, s: Any = space, V: Array = V, X: Array = X) -> str:
            error = timing.relative_distance(end, s.metric.exp(V, X))
            return f"{error:.0e} from exp, for a step of 1e-3"

        yield "retraction", f"1 of {n} x {n}", 4, partial(space.retraction, X, V), X, apart


def of_many(rng: np.random.Generator, quick: bool) -> Iterator[Row]:
    """All distances, means and draws."""
    for n, count in ((3, 20),) if quick else ((3, 100), (3, 300), (10, 50)):
        metric = DLNObservableManifold(n, 4).metric
        X = gaussian(rng, count, n)
        rows, _ = np.triu_indices(count, 1)

        def swapped(table: Array, m: Any = metric, X: Array = X) -> str:
            return f"{abs(m.dist(X[0], X[-1]) / table[-1, 0] - 1):.0e} from a single call, swapped"

        call = partial(metric.dist_pairwise, X)
        yield (
            "dist_pairwise",
            f"{count} of {n} x {n}: {len(rows):,} pairs",
            4,
            call,
            X[rows],
            swapped,
        )
    for n, count, depth in (
        ((3, 20, 4),)
        if quick
        else ((5, 100, 4), (5, 100, 2), (3, 1000, 4), (10, 100, 4), (3, 10_000, 4))
    ):
        space = DLNObservableManifold(n, depth)
        X = np.eye(n) + 0.3 / np.sqrt(n) * rng.normal(size=(count, n, n))
        X[:, 0] *= np.linalg.slogdet(X)[0][:, None]
        call = partial(FrechetMean(space).fit, X)
        near = f"{count:,} of {n} x {n}"
        yield "FrechetMean", near, depth, call, X, gradient
    space, target = DLNObservableManifold(3, 3), np.diag([1.4, 1.0, 0.6])
    measure = GibbsMeasure(
        space, lambda X: 0.5 * np.sum((X - target) ** 2, axis=(-2, -1)), lambda X: X - target, 20.0
    )
    n_chains, n_draws = (4, 50) if quick else (16, 500)
    drawn = partial(sample, measure, n_chains, n_draws, 200, rng=1)
    unit = gaussian(rng, n_chains * n_draws, 3)
    yield "sample", f"{n_chains} chains of {n_draws}, 3 x 3", 3, drawn, unit, mixed


def page(rows: list[list[str]]) -> str:
    """The machine and the table, as a page has them."""
    said = {**described(), **versions()}
    lines = ["", f"Measured on {said['processor']}, one thread, {said['system'].split()[0]}, "]
    lines += [f"Python {said['Python']}, numpy {said['numpy']}, scipy {said['scipy']}, "]
    lines += [f"dln_manifolds {said['dln-manifolds']}, by `benchmarks/bench_feasible.py`.", ""]
    table = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join(
        [*(x.rstrip() for x in lines), *(f"| {' | '.join(r)} |" for r in table), "", ""]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", type=Path, help="page whose table is written anew")
    parser.add_argument("--largest", type=int, default=128, help="most rows for a log (128)")
    options = timing.arguments(__doc__, parser)
    rng = np.random.default_rng(options.seed)
    warnings.simplefilter("ignore", SamplingWarning)  # R-hat is in the table
    rows = []
    parts = (partial(geodesics, largest=options.largest), at_points, of_many)
    for part in parts:
        for row in part(rng, options.quick):
            rows.append(measured(row))
            if not options.quick:
                print(*rows[-1], sep=" | ", flush=True)
    timing.print_table("What is feasible", HEADER, rows)
    if options.page:
        text = options.page.read_text(encoding="utf-8")
        options.page.write_text(MARKED.sub(lambda _: page(rows), text), encoding="utf-8")


if __name__ == "__main__":
    main()
