"""
Matrix completion without knowing the rank
==========================================

A matrix of low rank is completed from some of its entries, by training a deep linear network from
small layers: nobody tells it the rank. With three layers or more, the singular values split clearly
into those of the matrix and those near zero.

Training happens on the manifold of balanced layers, by pymanopt's trust regions with exact
Hessians. The same solver, started from the same layers, also trains the factors freely: these lose
their balance in the first step.

How well a matrix is completed depends on the length of the steps: short ones follow the gradient
flow, which finds low rank, long ones may land at any other matrix with the same seen entries. Both
kinds of layers therefore get the same trust radius, ``sqrt(N n)``: the norm of layers whose product
is orthogonal. With the default radii, balanced layers need fewer iterations, and both complete less
well.

Run alone, the script takes options::

    python examples/plot_matrix_completion.py --n 20 --seed 0 --output completion.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pymanopt.manifolds import Euclidean
from pymanopt.optimizers import TrustRegions

from dln_manifolds import BalancedManifold, PointRecorder, costs, pymanopt_problem
from dln_manifolds.geometry.balancing import end_to_end, relative_imbalance
from dln_manifolds.plotting import COLORS, DASHES, MARKERS, plot_training

Array = np.ndarray

DEPTHS = (2, 3, 4)
START = 1e-3


@dataclass(frozen=True)
class Problem:
    """The matrix, its entries that are seen (with noise), and the frames of the first layers."""

    target: Array
    seen: Array
    loss: costs.MatrixCompletion
    frames: Array

    def start(self, depth: int) -> Array:
        """Return balanced layers whose product has all singular values equal to START."""
        frames = self.frames[: depth + 1]
        return START ** (1 / depth) * frames[1:] @ np.swapaxes(frames[:-1], 1, 2)

    def hidden_error(self, points: Array) -> Array:
        """Return the relative error of the entries that are not seen."""
        error = np.linalg.norm(~self.seen * (points - self.target), axis=(-2, -1))
        return error / np.linalg.norm(~self.seen * self.target)


@dataclass(frozen=True)
class Run:
    """A training run: the layers after every iteration, and what became of them."""

    depth: int
    balanced: bool
    path: Array
    errors: Array
    gradient_norm: float

    @property
    def label(self) -> str:
        return f"N = {self.depth}, {'balanced' if self.balanced else 'free'}"

    @property
    def spectrum(self) -> Array:
        return np.linalg.svd(end_to_end(self.path[-1]), compute_uv=False)


def make_problem(n: int, rank: int, seed: int) -> Problem:
    """Draw a matrix of a rank, and show 60 % of its entries with noise of 1 %."""
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, n, rank))
    target = left @ right.T / np.sqrt(rank)
    seen = (rng.permutation(n * n) < 0.6 * n * n).reshape(n, n)
    noisy = target + 0.01 * rng.normal(size=(n, n))
    frames = np.linalg.qr(rng.normal(size=(max(DEPTHS) + 1, n, n)))[0]
    return Problem(target, seen, costs.MatrixCompletion(noisy, seen), frames)


def train(problem: Problem, depth: int, balanced: bool) -> Run:
    """Train by trust regions, on the balanced manifold or with free factors."""
    n = len(problem.target)
    manifold = BalancedManifold(n, depth) if balanced else Euclidean(depth, n, n)
    recorder = PointRecorder()
    task = pymanopt_problem(manifold, costs.OfLayers(problem.loss), preconditioner=recorder)
    solver = TrustRegions(verbosity=0, max_iterations=200, min_gradient_norm=1e-6)
    radius = np.sqrt(depth * n)
    result = solver.run(task, initial_point=problem.start(depth), Delta_bar=radius)
    path = recorder.path(result)
    errors = problem.hidden_error(end_to_end(path))
    return Run(depth, balanced, path, errors, float(result.gradient_norm))


def table(runs: list[Run], rank: int) -> str:
    """Format one row for each run."""
    lines = [
        "                           gradient   error of        worst    singular values",
        "               iterations      norm   hidden entries  imbalance  "
        f"number {rank} and {rank + 1}",
    ]
    for run in runs:
        s = run.spectrum
        lines.append(
            f"{run.label:16s} {len(run.path) - 1:8d} {run.gradient_norm:10.1e} "
            f"{run.errors[-1]:10.3f} {relative_imbalance(run.path).max():16.1e} "
            f"{s[rank - 1]:10.3f} {s[rank]:7.3f}"
        )
    return "\n".join(lines)


def draw(problem: Problem, runs: list[Run], rank: int) -> Figure:
    """Draw the runs of balanced layers, and compare with the free ones."""
    figure = plt.figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    training, error_ax, spectrum_ax = axes[:, :2], axes[0, 2], axes[1, 2]
    exact = np.linalg.svd(problem.target, compute_uv=False)[:rank]
    for style, depth in enumerate(DEPTHS):
        for run in (run for run in runs if run.depth == depth):
            look = {"color": COLORS[style], "linestyle": DASHES[0] if run.balanced else ":"}
            if run.balanced:
                cost = costs.OfLayers(problem.loss)
                plot_training(run.path, cost, training, label=f"N = {depth}", style=style)
            else:
                training[0, 1].semilogy(np.maximum(relative_imbalance(run.path), 1e-17), **look)
            error_ax.semilogy(run.errors, **look, label=run.label)
            index = np.arange(1, len(run.spectrum) + 1)
            filled = run.spectrum > 1e-8
            spectrum_ax.semilogy(
                index[filled],
                run.spectrum[filled],
                MARKERS[style],
                color=COLORS[style],
                markersize=5,
                markerfacecolor=COLORS[style] if run.balanced else "none",
            )
    training[0, 0].set(yscale="log", title="loss, balanced layers")
    training[0, 1].set(title="relative imbalance (dotted: free layers)")
    training[1, 0].set(ylim=(1e-5, None), title="singular values of X, balanced layers")
    training[1, 1].set(title="entropy, balanced layers")
    error_ax.set(xlabel="iteration", title="relative error of hidden entries")
    error_ax.legend(fontsize="small")
    spectrum_ax.semilogy(np.arange(1, rank + 1), exact, "k_", markersize=14, label="of the matrix")
    spectrum_ax.axvline(rank + 0.5, color="0.7", linewidth=0.8)
    spectrum_ax.set(
        xlabel="index", title="singular values found (hollow: free)", xlim=(0.5, 2 * rank + 4.5)
    )
    spectrum_ax.set_ylim(1e-4, None)
    spectrum_ax.legend(fontsize="small")
    return figure


def run(
    n: int = 20, rank: int = 3, seed: int = 0, output: Path | None = None, depths=DEPTHS
) -> list[Run]:
    """Compute the example, print its table and draw its figure."""
    problem = make_problem(n, rank, seed)
    runs = [train(problem, depth, balanced) for depth in depths for balanced in (True, False)]
    print(f"{problem.seen.sum()} of {n * n} entries are seen; the matrix has rank {rank}.")
    print(table(runs, rank))
    figure = draw(problem, runs, rank)
    if output is not None:
        figure.savefig(output, dpi=120)
        print(f"Figure: {output}")
    else:
        plt.show()
    return runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=20, help="size of the matrix")
    parser.add_argument("--rank", type=int, default=3, help="its rank, which training never sees")
    parser.add_argument("--seed", type=int, default=0, help="seed of matrix, noise and layers")
    parser.add_argument("--output", type=Path, default=None, help="file; shown if not given")
    arguments = parser.parse_args()
    run(arguments.n, arguments.rank, arguments.seed, arguments.output)
