"""All distances between 2,000 matrices 3 x 3 (two million geodesics) by a cluster of dask.

The cluster has two workers on this machine. On the way one of them is killed, and the run itself is
interrupted; a second call with the same file solves the rest. The result is compared with that of
one process, bit by bit. Without dask there is nothing to measure.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import tempfile
import time
from pathlib import Path

# Before dask is imported, here and by its workers: these are told what they do otherwise.
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array

from dln_manifolds import DLNObservableManifold, DLNObservableMetric

WIDTH = 3
HEADER = ("what", "pairs", "time [s]", "us a pair", "result")


class InterruptionError(Exception):
    """Ends a run on the way, as a person would."""


class Watch:
    """Counts the pairs as they come, kills a worker after some and ends the run after others."""

    def __init__(self, client: object, kill_after: float, end_after: float) -> None:
        self.client, self.kill_after, self.end_after = client, kill_after, end_after
        self.first = self.done = self.killed = 0

    def __call__(self, done: int, total: int) -> None:
        if not self.done:
            self.first = done
        self.done = done
        if not self.killed and done > self.kill_after * total:
            self.killed = next(iter(self.client.run(os.getpid).values()))
            os.kill(self.killed, signal.SIGKILL)
        if done > self.end_after * total:
            raise InterruptionError


def on_cluster(
    metric: DLNObservableMetric, points: Array, n_workers: int, path: Path
) -> tuple[Array, list[list[str]]]:
    """Return the distances as two calls find them, and a row for each."""
    from distributed import Client, LocalCluster

    kinds = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    rows = []
    with (
        LocalCluster(n_workers=n_workers, silence_logs=logging.CRITICAL, **kinds) as cluster,
        Client(cluster) as client,
    ):
        for part, limits in (("first call", (0.3, 0.6)), ("second call", (2.0, 2.0))):
            watch, table = Watch(client, *limits), np.empty(0)
            start = time.perf_counter()
            try:
                table = metric.dist_pairwise(points, backend="dask", out=path, progress=watch)
                result = f"complete, {watch.first:,} pairs from the file"
            except InterruptionError:
                result = f"worker {'killed' if watch.killed else 'kept'}, then interrupted"
            solved = watch.done - watch.first
            rows.append(row(f"dask, {part}", solved, time.perf_counter() - start, result))
    return table, rows


def row(what: str, n_pairs: int, elapsed: float, result: str) -> list[str]:
    return [what, f"{n_pairs:,}", f"{elapsed:,.1f}", f"{1e6 * elapsed / n_pairs:,.0f}", result]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=2000, help="number of matrices (2000)")
    parser.add_argument("--depth", type=float, default=3, help="depth N (3)")
    parser.add_argument("--spread", type=float, default=0.1, help="size of the noise on I (0.1)")
    parser.add_argument("--positive", action="store_true", help="positive definite, at N = 2")
    parser.add_argument("--workers", type=int, default=2, help="number of workers (2)")
    options = timing.arguments(__doc__, parser)
    try:
        import distributed  # noqa: F401
    except ImportError:
        print("\ndask is not installed: pip install distributed\n")
        return
    rng = np.random.default_rng(options.seed)
    n_points = 100 if options.quick else options.points
    points = np.eye(WIDTH) + options.spread * rng.normal(size=(n_points, WIDTH, WIDTH))
    points[:, 0] *= np.linalg.slogdet(points)[0][:, None]
    depth, kind = options.depth, f"I + {options.spread:g} Gaussian"
    if options.positive:
        points, depth, kind = points @ np.swapaxes(points, 1, 2), 2, "positive definite"
    metric = DLNObservableManifold(WIDTH, depth).metric
    with tempfile.TemporaryDirectory() as folder:
        table, rows = on_cluster(metric, points, options.workers, Path(folder) / "table.npy")
        start = time.perf_counter()
        serial = metric.dist_pairwise(points)
        elapsed = time.perf_counter() - start
        n_pairs = n_points * (n_points - 1) // 2
        same = "the same bits" if np.array_equal(serial, table) else "OTHER BITS"
        rows.append(row("one process", n_pairs, elapsed, same))
    title = f"{n_points:,} matrices {WIDTH} x {WIDTH}, {kind}, N = {depth:g}"
    timing.print_table(title, HEADER, rows)


if __name__ == "__main__":
    main()
