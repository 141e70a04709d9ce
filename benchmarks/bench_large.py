"""Logs, exps and retractions of matrices of many sizes, in SVDs of matrices of the same size.

The SVDs are numpy's, all in one call where logs are, and take turns with what is measured. Beside
every ratio stands what it bought: residuals of logs by a flow that knows nothing of how they were
found, the drift of the energy along an exp, the distance of a retraction from exp.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold

# Sizes with numbers of pairs and bars of the least depth; how much more greater depths may take.
BATCHES = {3: (400, 700), 5: (200, 900), 10: (60, 1200), 30: (8, 2000), 60: (3, 2000)}
DEPTHS, DEEPER = (4, 30, 300, 1e4), 1.3
SINGLES, LARGE = {3: (40, 400)}, {64: 2500, 128: 3000, 256: 3000}
EXPS, RETRACTIONS = (60, 128, 256), (64, 128, 256)
EVALUATION, RETRACTION = 3, 30
GIB = 2**30
HEADER = ("what", "SVDs (range)", "bar", "accuracy", "memory [MB]")


def measured(call: timing.Call, X: timing.Array, repeats: int, count: int) -> timing.Ratio:
    """Time a call in turns with SVDs of X; ``count`` is what both are divided by."""
    n_loops = max(1, round(0.05 / timing.seconds(lambda: np.linalg.svd(X))))

    def svds() -> None:
        for _ in range(n_loops):
            np.linalg.svd(X)

    return timing.interleaved(call, svds, repeats=repeats, at_least=0).per(count, n_loops)


def row(
    name: str, ratio: timing.Ratio, bar: float, accuracy: str, memory: float | None = None
) -> list[str]:
    """One line of the table."""
    cells = ratio.cells(at_most=bar)[2:]
    return [name, *cells, accuracy, "" if memory is None else f"{memory / 2**20:,.0f}"]


def peak(call: timing.Call) -> float:
    """Most bytes that arrays take during a call."""
    tracemalloc.start()
    call()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


def logs(
    rng: np.random.Generator, n: int, depth: float, count: int, bar: float, single: bool = False
) -> list[str]:
    """Logs of Gaussian pairs, in one call or one by one."""
    metric = DLNObservableManifold(n, depth).metric
    X, Y = timing.gaussian_pairs(rng, count, n)
    solution = metric.solve_log(Y, X)
    if single:
        ratios = [
            measured(lambda x=x, y=y: metric.log(y, x), x, 3, 1) for x, y in zip(X, Y, strict=True)
        ]
        ratio = timing.pooled(ratios)
    else:
        ratio = measured(lambda: metric.log(Y, X), X, 3 if n < 30 else 1, 1)
    solved = f"residual {solution.residual.max():.0e}, {solution.success.sum()} of {count}"
    name = f"{'single log' if single else f'{count} logs'}, n = {n}, N = {depth:g}"
    return row(name, ratio, bar, solved)


def large_log(rng: np.random.Generator, n: int, depth: float, bar: float) -> list[str]:
    """One Gaussian pair of large matrices, with the memory that its log takes."""
    metric = DLNObservableManifold(n, depth).metric
    X, Y = (values[0] for values in timing.gaussian_pairs(rng, 1, n))
    found: list[Any] = []
    # Tracing costs nothing beside the work of large arrays.
    tracemalloc.start()
    ratio = measured(lambda: found.append(metric.solve_log(Y, X)), X, 1, 1)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return row(
        f"log, n = {n}, N = {depth:g}", ratio, bar, f"residual {found[0].residual:.0e}", memory
    )


def velocity(rng: np.random.Generator, n: int, depth: float) -> tuple[timing.Array, timing.Array]:
    """A Gaussian point and a velocity a twentieth as long."""
    X, V = rng.normal(size=(2, n, n))
    metric = DLNObservableManifold(n, depth).metric
    root = np.linalg.svd(X, compute_uv=False) ** (1 / depth)
    return X, 0.05 * np.sqrt(depth) * np.linalg.norm(root) / metric.norm(V, X) * V


def exp(rng: np.random.Generator, n: int, depth: float) -> list[str]:
    """One exp, by evaluations of the field."""
    metric = DLNObservableManifold(n, depth).metric
    X, V = velocity(rng, n, depth)
    solution = metric.solve_exp(V, X)
    ratio = measured(lambda: metric.solve_exp(V, X), X, 3, int(solution.n_evaluations))
    name = f"exp, an evaluation, n = {n}, N = {depth:g}"
    return row(name, ratio, EVALUATION, f"energy {solution.residual:.0e}")


def retraction(rng: np.random.Generator, n: int, depth: float) -> list[str]:
    """A retraction, with the memory that it takes."""
    space = DLNObservableManifold(n, depth)
    X, V = velocity(rng, n, depth)
    memory = peak(lambda: space.retraction(X, V))
    ratio = measured(lambda: space.retraction(X, V), X, 5, 1)
    near, end = space.retraction(X, 0.01 * V), space.metric.exp(0.01 * V, X)
    apart = timing.relative_distance(near, end)
    return row(
        f"retraction, n = {n}, N = {depth:g}", ratio, RETRACTION, f"{apart:.0e} from exp", memory
    )


def rows(options: Any) -> Iterator[list[str]]:
    """All lines, small matrices first."""
    rng = np.random.default_rng(options.seed)
    quick, least = options.quick, DEPTHS[0]
    for n, (count, bar) in BATCHES.items():
        for depth in DEPTHS[:2] if quick else DEPTHS:
            some = max(1, count // 4) if quick else count
            yield logs(rng, n, depth, some, bar if depth == least else DEEPER * bar)
    for n, (count, bar) in SINGLES.items():
        yield logs(rng, n, least, count // 4 if quick else count, bar, single=True)
    for n, bar in LARGE.items():
        if n == 64 or not quick:
            yield large_log(rng, n, least, bar)
    for n in EXPS[:1] if quick else EXPS:
        yield exp(rng, n, least)
    for n in RETRACTIONS[:1] if quick else RETRACTIONS:
        yield retraction(rng, n, least)


def main() -> None:
    options = timing.arguments(__doc__)
    timing.print_table("In SVDs of the same size", HEADER, rows(options))


if __name__ == "__main__":
    main()
