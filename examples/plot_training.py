"""
Training on real data: one half of a digit from the other
=========================================================

Deep linear networks predict the lower half of a handwritten digit (scikit-learn's data) from its
upper half, from few images: twelve principal components of each, so layers are 12 x 12. All
networks start from small balanced layers and are trained by steepest descent on the manifold of
balanced layers; the points in between are kept.

The strong directions of the data are learned first and the weak ones, which carry the noise of a
small sample, much later: the test error falls below that of the least squares map (grey), where
training ends, and rises again. The deeper the network, the longer directions wait for each other,
as the singular values at the step of least test error show. That alone is no gain: on these data
one layer, stopped after its first step, predicts other images best.

Run alone, the script takes options::

    python examples/plot_training.py --images 40 --seed 0 --output training.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pymanopt.optimizers import SteepestDescent
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from dln_manifolds import BalancedManifold, costs, pymanopt_problem
from dln_manifolds.geometry.balancing import end_to_end, relative_imbalance
from dln_manifolds.plotting import COLORS, DASHES, plot_training

Array = np.ndarray

WIDTH = 12
DEPTHS = (1, 2, 3)
START = 0.01
# Standard deviation of the first component, about.
SCALE = 15.0


@dataclass(frozen=True)
class Data:
    """Losses on the images to train on and on all the others, and the least squares map."""

    train: costs.LinearRegression
    test: costs.LinearRegression
    least_squares: Array


@dataclass(frozen=True)
class Run:
    """Training at one depth: layers and errors after every step."""

    depth: int
    path: Array
    train_errors: Array
    test_errors: Array

    @property
    def best(self) -> int:
        """Step of least test error."""
        return int(np.argmin(self.test_errors))


def load_data(n_images: int, seed: int) -> Data:
    """Split the images, and reduce both halves of each to principal components."""
    rng = np.random.default_rng(seed)
    images = rng.permutation(load_digits().images)
    halves = images[:, :4].reshape(-1, 32), images[:, 4:].reshape(-1, 32)
    inputs, targets = (PCA(WIDTH, svd_solver="full").fit_transform(half) / SCALE for half in halves)
    fit = np.linalg.lstsq(inputs[:n_images], targets[:n_images], rcond=None)[0].T
    if np.linalg.det(fit) < 0:
        # Principal components have no sign; training cannot change that of the determinant.
        targets[:, 0] *= -1
        fit[0] *= -1
    return Data(
        costs.LinearRegression(inputs[:n_images], targets[:n_images]),
        costs.LinearRegression(inputs[n_images:], targets[n_images:]),
        fit,
    )


def train(data: Data, depth: int, max_iterations: int) -> Run:
    """Train by steepest descent from small balanced layers."""
    total = BalancedManifold(WIDTH, depth)
    problem = pymanopt_problem(total, costs.OfLayers(data.train))
    solver = SteepestDescent(
        verbosity=0, log_verbosity=1, max_iterations=max_iterations, min_gradient_norm=1e-5
    )
    result = solver.run(problem, initial_point=total.factor(START * np.eye(WIDTH)))
    path = np.stack(result.log["iterations"]["point"])
    points = end_to_end(path)
    return Run(depth, path, data.train(points), data.test(points))


def table(data: Data, runs: list[Run]) -> str:
    """Format errors at the best step and at the end."""
    fit = data.least_squares
    lines = [
        "         steps  error:   at best step      error:       at the end     worst",
        "  N   to best    train      test           train      test         imbalance",
    ]
    for run in runs:
        lines.append(
            f"{run.depth:3d} {run.best:8d} {run.train_errors[run.best]:10.4f} "
            f"{run.test_errors[run.best]:9.4f} {run.train_errors[-1]:15.4f} "
            f"{run.test_errors[-1]:9.4f} {relative_imbalance(run.path).max():16.1e}"
        )
    lines.append(f"least squares {'':23s} {data.train(fit):12.4f} {data.test(fit):9.4f}")
    return "\n".join(lines)


def draw(data: Data, runs: list[Run]) -> Figure:
    """Draw every run, its test error, and the singular values at the best step."""
    figure = plt.figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    test_ax, spectrum_ax = axes[:, 2]
    for style, run in enumerate(runs):
        cost = costs.OfLayers(data.train)
        plot_training(run.path, cost, axes[:, :2], label=f"N = {run.depth}", style=style)
        look = {"color": COLORS[style], "linestyle": DASHES[style]}
        test_ax.plot(run.test_errors, **look)
        test_ax.plot(run.best, run.test_errors[run.best], "o", color=COLORS[style])
        values = np.linalg.svd(end_to_end(run.path[run.best]), compute_uv=False)
        spectrum_ax.semilogy(np.arange(1, WIDTH + 1), values, **look)
    exact = np.linalg.svd(data.least_squares, compute_uv=False)
    spectrum_ax.semilogy(np.arange(1, WIDTH + 1), exact, "k_", label="least squares")
    spectrum_ax.legend()
    test_ax.axhline(data.test(data.least_squares), color="0.5", linewidth=0.8)
    test_ax.set(xlabel="iteration", title="error on other images")
    spectrum_ax.set(xlabel="index", title="singular values at the best step")
    axes[0, 0].set(yscale="log", title="error on the training images")
    axes[0, 1].set(ylim=(1e-17, 1e-12))
    for ax in (*axes[:, :2].ravel(), test_ax):
        ax.set_xscale("symlog", linthresh=10)
        ax.set_xlim(left=0)
    return figure


def run(
    n_images: int = 40, seed: int = 0, output: Path | None = None, max_iterations: int = 500
) -> list[Run]:
    """Compute the example, print its table and draw its figure."""
    data = load_data(n_images, seed)
    runs = [train(data, depth, max_iterations) for depth in DEPTHS]
    print(table(data, runs))
    figure = draw(data, runs)
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
    parser.add_argument("--images", type=int, default=40, help="number of images to train on")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of images")
    parser.add_argument("--output", type=Path, default=None, help="file; shown if not given")
    arguments = parser.parse_args()
    run(arguments.images, arguments.seed, arguments.output)
