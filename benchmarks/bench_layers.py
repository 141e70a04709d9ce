"""Balanced layers of any widths and rank: how many logs are solved, and what exp and log cost.

Two parts, ``--part sweep`` or ``growth`` for one of them. The sweep solves logs of exps and of
random pairs in both directions, for networks of unequal widths; residuals are those of the
verifying flow, and distances are compared with those of the end-to-end matrices, which are never
larger. The growth is that of one exp and one log with the widths at a fixed rank: both are solved
in widths of twice the rank.
"""

from __future__ import annotations

import argparse
import time

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array

from dln_manifolds import BalancedManifold, DLNObservableManifold

NETWORKS = (
    ((4, 3, 5), 3),
    ((4, 3, 5), 2),
    ((3, 5, 3), 3),
    ((5, 2, 4), 2),
    ((4, 3, 5, 4), 3),
    ((3, 3, 3, 3), 2),
    ((6, 6, 6), 2),
    ((2, 4, 3, 5, 2), 2),
    ((20, 12, 16, 10), 3),
    ((64, 32, 10), 10),
)
HEADER = (
    "widths",
    "rank",
    "log of exp",
    "error",
    "log of pairs",
    "largest residual",
    "asymmetry",
    "at least downstairs",
    "one exp [ms]",
    "one log [ms]",
)
GROWTH_HEADER = ("widths", "rank", "one exp [ms]", "one log [ms]", "entries of a point")
# Share of the size of the layers that velocities are long.
_LENGTH = 0.3
_SLACK = 1e-10


def lengths(vectors: Array) -> Array:
    """Frobenius norms of vectors of layers, with their axes kept."""
    axes = tuple(range(1, vectors.ndim))
    return np.sqrt(np.sum(vectors**2, axis=axes, keepdims=True))


def sweep_row(widths: tuple[int, ...], rank: int, n_pairs: int) -> list[str]:
    """Solve geodesics of one network."""
    total = BalancedManifold(widths=widths, rank=rank)
    below = DLNObservableManifold(widths=widths, rank=rank).metric
    W, Y = total.random_point(n_pairs), total.random_point(n_pairs)
    V = total.random_tangent_vec(W)
    V *= _LENGTH * lengths(W) / lengths(V)
    began = time.process_time()
    end = total.metric.exp(V, W)
    middle = time.process_time()
    back = total.metric.solve_log(end, W)
    last = time.process_time()
    error = lengths(back.initial_velocity - V)[back.success] / lengths(V)[back.success]
    there, again = total.metric.solve_log(Y, W), total.metric.solve_log(W, Y)
    good = there.success & again.success
    X, Z = total.end_to_end(W), total.end_to_end(Y)
    down = below.solve_log(Z, X)
    checked = good & down.success
    kept = down.length[checked] <= there.length[checked] * (1 + _SLACK)
    return [
        "-".join(map(str, widths)),
        str(rank),
        f"{int(back.success.sum())} of {n_pairs}",
        f"{np.median(error):.0e} ({error.max():.0e})",
        f"{int(good.sum())} of {n_pairs}",
        f"{there.residual[good].max(initial=0):.0e}",
        f"{np.abs(again.length[good] / there.length[good] - 1).max(initial=0):.0e}",
        f"{int(kept.sum())} of {int(checked.sum())}",
        timing.number(1e3 * (middle - began) / n_pairs),
        timing.number(1e3 * (last - middle) / n_pairs),
    ]


def growth_row(width: int, rank: int, repeats: int) -> list[str]:
    """Time geodesics of three layers of one width and rank."""
    widths = (width, width, width + 1, width)
    total = BalancedManifold(widths=widths, rank=rank)
    W = total.random_point()
    V = total.random_tangent_vec(W)
    V *= _LENGTH * np.linalg.norm(W) / np.linalg.norm(V)
    end = total.metric.exp(V, W)
    ratio = timing.interleaved(
        lambda: total.metric.exp(V, W),
        lambda: total.metric.log(end, W),
        repeats=repeats,
        at_least=0,
    )
    return [
        "-".join(map(str, widths)),
        str(rank),
        timing.number(1e3 * ratio.first),
        timing.number(1e3 * ratio.second),
        str(W.size),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("sweep", "growth"), help="only this part")
    options = timing.arguments(__doc__, parser)
    np.random.seed(options.seed)
    if options.part in (None, "sweep"):
        n_pairs = 3 if options.quick else 50
        networks = NETWORKS[:3] if options.quick else NETWORKS
        rows = [sweep_row(widths, rank, n_pairs) for widths, rank in networks]
        timing.print_table("Geodesics of balanced layers", HEADER, rows)
    if options.part in (None, "growth"):
        sizes = (10, 20) if options.quick else (10, 20, 40, 80, 160, 320)
        rows = [growth_row(width, 3, 3) for width in sizes]
        timing.print_table("Growth with the widths at rank 3", GROWTH_HEADER, rows)


if __name__ == "__main__":
    main()
