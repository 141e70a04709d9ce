"""What the benchmarks share: pinned threads, interleaved timing, random pairs, tables.

Import this module before numpy: the number of threads is read when numpy loads its linear algebra.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Call = Callable[[], Any]


@dataclass(frozen=True)
class Ratio:
    """Two calls timed in turns: median seconds of each, and paired ratios first / second."""

    first: float
    second: float
    median: float
    low: float
    high: float

    def per(self, first: int, second: int) -> Ratio:
        """The same for one of several that each call computes."""
        scale = second / first
        return Ratio(
            self.first / first,
            self.second / second,
            self.median * scale,
            self.low * scale,
            self.high * scale,
        )

    def cells(self, *, at_most: float | None = None, at_least: float | None = None) -> list[str]:
        """Both times in milliseconds, the ratio with its range, the bar and whether it is met."""
        bar, met = "none", True
        if at_most is not None:
            bar, met = f"<= {at_most:g}", self.median <= at_most
        if at_least is not None:
            bar, met = f">= {at_least:,g}", self.median >= at_least
        return [
            number(1e3 * self.first),
            number(1e3 * self.second),
            f"{number(self.median)} ({number(self.low)} to {number(self.high)})",
            bar if met else f"{bar} MISSED",
        ]


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def seconds(call: Call, loops: int = 1) -> float:
    """Processor time of one call, averaged over some.

    With one thread that is the time on an idle machine: what else runs does not count.
    """
    start = time.process_time()
    for _ in range(loops):
        call()
    return (time.process_time() - start) / loops


def interleaved(
    first: Call,
    second: Call,
    *,
    repeats: int = 15,
    at_least: float = 0.02,
) -> Ratio:
    """Time two calls in turns, first second first second ..., and compare them pair by pair.

    What slows the machine then slows both alike. Each turn repeats its call until it takes about
    ``at_least`` seconds; 0 means one call, without a warm-up before.
    """
    calls = (first, second)
    loops = [1, 1]
    if at_least > 0:
        # This is the warm-up too.
        loops = [max(1, math.ceil(at_least / seconds(call))) for call in calls]
    collecting = gc.isenabled()
    gc.disable()
    try:
        pairs = np.array(
            [
                [seconds(call, count) for call, count in zip(calls, loops, strict=True)]
                for _ in range(repeats)
            ]
        )
    finally:
        if collecting:
            gc.enable()
    ratios = pairs[:, 0] / pairs[:, 1]
    middle = np.median(pairs, axis=0)
    return Ratio(*map(float, (*middle, np.median(ratios), ratios.min(), ratios.max())))


def pooled(ratios: Sequence[Ratio]) -> Ratio:
    """Median over several comparisons, with the range of their medians."""
    medians = [ratio.median for ratio in ratios]
    return Ratio(
        float(np.median([ratio.first for ratio in ratios])),
        float(np.median([ratio.second for ratio in ratios])),
        float(np.median(medians)),
        min(medians),
        max(medians),
    )


def gaussian_pairs(rng: np.random.Generator, n_pairs: int, n: int) -> tuple[Array, Array]:
    """Pairs of Gaussian matrices whose determinants have the same sign."""
    first, last = rng.normal(size=(2, n_pairs, n, n))
    apart = np.linalg.slogdet(first)[0] != np.linalg.slogdet(last)[0]
    last[apart, 0] *= -1
    return first, last


def balanced_layers(rng: np.random.Generator, X: Array, depth: int) -> Array:
    """Write X as a product of balanced layers, with random frames between them."""
    n = len(X)
    U, s, Vt = np.linalg.svd(X)
    frames = [Vt.T, *np.linalg.qr(rng.normal(size=(depth - 1, n, n)))[0], U]
    return np.array([(b * s ** (1 / depth)) @ a.T for a, b in itertools.pairwise(frames)])


def horizontal_image(rng: np.random.Generator, X: Array, depth: int) -> tuple[Array, Array, float]:
    """Write X as a product of balanced layers and push a horizontal vector of them down.

    Returns the product, which is X up to rounding, the tangent vector there, and its squared length
    in the metric: by definition the squared Frobenius norm of the horizontal vector.
    """
    n = len(X)
    layers = balanced_layers(rng, X, depth)
    before, after = [np.eye(n)], [np.eye(n)]
    for layer in layers:
        before.append(layer @ before[-1])
    for layer in reversed(layers):
        after.append(after[-1] @ layer)
    after.reverse()
    covector = rng.normal(size=(n, n))
    vectors = [after[p + 1].T @ covector @ before[p].T for p in range(depth)]
    image = sum(after[p + 1] @ vectors[p] @ before[p] for p in range(depth))
    return before[-1], image, sum(float(np.sum(vector**2)) for vector in vectors)


def relative_distance(result: Array, target: Array) -> Array:
    """Frobenius distance of matrices, relative to the target."""
    return np.linalg.norm(result - target, axis=(-2, -1)) / np.linalg.norm(target, axis=(-2, -1))


def arguments(description: str | None, parser: argparse.ArgumentParser | None = None) -> Any:
    """Parse the command line: every script knows ``--quick`` and ``--seed``."""
    if parser is None:
        parser = argparse.ArgumentParser()
    parser.description = (description or "").split("\n")[0]
    parser.add_argument("--quick", action="store_true", help="smaller samples, noisier numbers")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random matrices")
    return parser.parse_args()


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table that can be pasted into a README."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for row in cells:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
    print(flush=True)
