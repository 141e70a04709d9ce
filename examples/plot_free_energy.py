"""
Training the layers at several temperatures
===========================================

A deep linear network of depth 3 learns a linear map of rank 3 from noisy samples, by minimizing the
free energy F = E - S / beta of its layers: E is the mean squared error, S the Boltzmann entropy of
the end-to-end matrix, 1 / beta the temperature. The layers stay balanced exactly, at every
temperature.

The loss alone would make one singular value cross zero, which balanced layers cannot do: without
temperature, training ends at a singular matrix. The entropy grows with the singular values, most
with the small ones, and keeps them away from zero, so that every positive temperature has a
minimizer inside the manifold. What it costs is seen on the right: the truth is of rank 3 here.

Run alone, the script takes options::

    python examples/plot_free_energy.py --n 8 --seed 0 --output free_energy.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pymanopt.optimizers import TrustRegions

from dln_manifolds import BalancedManifold, PointRecorder, costs, pymanopt_problem
from dln_manifolds.geometry.balancing import end_to_end, relative_imbalance
from dln_manifolds.plotting import COLORS, plot_training

Array = np.ndarray

DEPTH = 3
TEMPERATURES = (0.0, 0.001, 0.01, 0.1)
START = 0.01


@dataclass(frozen=True)
class Run:
    """Training at one temperature."""

    temperature: float
    path: Array
    loss: float
    entropy: float
    test_error: float
    gradient_norm: float


def make_losses(n: int, seed: int) -> tuple[costs.LinearRegression, costs.LinearRegression]:
    """Draw a map of rank 3, and samples of it: with noise to train on, without to test."""
    rng = np.random.default_rng(seed)
    left, right = np.linalg.qr(rng.normal(size=(2, n, 3)))[0]
    truth = (left * [3.0, 2.0, 1.0]) @ right.T
    inputs = rng.normal(size=(5 * n, n))
    targets = inputs @ truth.T + 0.5 * rng.normal(size=inputs.shape)
    fresh = rng.normal(size=(1000, n))
    return costs.LinearRegression(inputs, targets), costs.LinearRegression(fresh, fresh @ truth.T)


def train(
    n: int, temperature: float, losses: tuple[costs.LinearRegression, costs.LinearRegression]
) -> Run:
    """Minimize the free energy by trust regions, from small balanced layers."""
    loss, test = losses
    total, recorder = BalancedManifold(n, DEPTH), PointRecorder()
    beta = np.inf if temperature == 0 else 1 / temperature
    cost = costs.OfLayers(costs.free_energy(loss, beta, DEPTH))
    problem = pymanopt_problem(total, cost, preconditioner=recorder)
    solver = TrustRegions(verbosity=0, max_iterations=300, min_gradient_norm=1e-9)
    result = solver.run(problem, initial_point=total.factor(START * np.eye(n)))
    X = end_to_end(result.point)
    return Run(
        temperature,
        recorder.path(result),
        float(loss(X)),
        float(total.entropy(result.point)),
        float(test(X)),
        float(result.gradient_norm),
    )


def table(runs: list[Run]) -> str:
    """Format one row for each temperature."""
    lines = [
        "             itera-  gradient     worst                         test   singular values",
        "temperature   tions      norm  imbalance     loss   entropy    error   largest  smallest",
    ]
    for run in runs:
        values = np.linalg.svd(end_to_end(run.path[-1]), compute_uv=False)
        lines.append(
            f"{run.temperature:11g} {len(run.path) - 1:7d} {run.gradient_norm:9.1e} "
            f"{relative_imbalance(run.path).max():10.1e} {run.loss:8.4f} {run.entropy:9.3f} "
            f"{run.test_error:8.4f} {values[0]:9.3f} {values[-1]:9.4f}"
        )
    return "\n".join(lines)


def draw(runs: list[Run], losses: tuple[costs.LinearRegression, costs.LinearRegression]) -> Figure:
    """Draw every run, and what is paid for entropy."""
    figure = plt.figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    for style, run in enumerate(runs):
        label = f"temperature {run.temperature:g}"
        plot_training(run.path, costs.OfLayers(losses[0]), axes[:, :2], label=label, style=style)
        axes[0, 2].plot(run.entropy, run.loss, "o", color=COLORS[style])
        axes[1, 2].plot(run.entropy, run.test_error, "o", color=COLORS[style])
    axes[0, 0].set(yscale="log", title="loss E on the training samples")
    axes[0, 1].set(ylim=(1e-17, 1e-12))
    axes[0, 2].set(xlabel="entropy S", title="loss E at the end")
    axes[1, 2].set(xlabel="entropy S", title="error on fresh samples at the end")
    return figure


def run(n: int = 8, seed: int = 0, output: Path | None = None) -> list[Run]:
    """Compute the example, print its table and draw its figure."""
    losses = make_losses(n, seed)
    runs = [train(n, temperature, losses) for temperature in TEMPERATURES]
    print(table(runs))
    figure = draw(runs, losses)
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
    parser.add_argument("--n", type=int, default=8, help="width of the layers")
    parser.add_argument("--seed", type=int, default=0, help="seed of the map and the samples")
    parser.add_argument("--output", type=Path, default=None, help="file; shown if not given")
    arguments = parser.parse_args()
    run(arguments.n, arguments.seed, arguments.output)
