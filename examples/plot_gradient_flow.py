"""
Gradient flow of the layers and of their product
================================================

Training the layers, and the Riemannian gradient flow of their product: the same X(t).

A matrix of rank 2 is to be completed from some of its entries by a deep linear network. From
balanced layers, gradient flow of all the layers and the Riemannian gradient flow of the end-to-end
matrix alone, X' = -A_X(dE(X)), are computed one apart from the other and compared. The layers are
turned by random orthogonal matrices first, to show that it does not matter which balanced layers
training starts from. From unbalanced layers with the same X, training goes another way.

Run alone, the script takes options::

    python examples/plot_gradient_flow.py --n 8 --seed 0 --output gradient_flow.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dln_manifolds.dynamics.gradient_flow import GradientFlow, flow_of_layers, flow_of_point
from dln_manifolds.geometry.balancing import act, factor, relative_imbalance
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.plotting import COLORS, DASHES

Array = np.ndarray

DEPTHS = (2, 3, 4)
# How far the unbalanced layers are from balanced ones: factors 1 + LOPSIDED and its inverse.
LOPSIDED = 0.5


@dataclass(frozen=True)
class Completion:
    """The matrix to be found, and which of its entries are seen."""

    target: Array
    seen: Array

    def loss(self, point: Array) -> float:
        """Return half the squared error of the entries that are seen."""
        return 0.5 * float(np.sum((self.seen * (point - self.target)) ** 2))

    def gradient(self, point: Array) -> Array:
        """Differentiate the loss by X."""
        return self.seen * (point - self.target)

    def hidden_error(self, point: Array) -> Array:
        """Return the relative error of the entries that are not seen."""
        hidden = ~self.seen
        error = np.linalg.norm(hidden * (point - self.target), axis=(-2, -1))
        return error / np.linalg.norm(hidden * self.target)


@dataclass(frozen=True)
class Run:
    """The flows from one end-to-end matrix at one depth."""

    depth: int
    upstairs: GradientFlow
    downstairs: GradientFlow
    unbalanced: GradientFlow

    @property
    def disagreement(self) -> Array:
        """Distance of X(t) upstairs from X(t) downstairs, relative to the largest X(t)."""
        return self.apart(self.upstairs)

    def apart(self, flow: GradientFlow) -> Array:
        """Distance of a flow's X(t) from that downstairs, relative to the largest X(t)."""
        difference = np.linalg.norm(flow.points - self.downstairs.points, axis=(-2, -1))
        return difference / np.linalg.norm(self.downstairs.points, axis=(-2, -1)).max()


def random_problem(n: int, rng: np.random.Generator) -> Completion:
    """Draw a matrix of rank 2 and show two thirds of its entries."""
    target = rng.standard_normal((n, 2)) @ rng.standard_normal((2, n))
    return Completion(target, rng.permuted(np.arange(n * n) < 2 * n * n / 3).reshape(n, n))


def random_orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw orthogonal matrices."""
    return np.linalg.qr(rng.standard_normal(shape))[0]


def train(
    problem: Completion, start: Array, depth: int, times: Array, rng: np.random.Generator
) -> Run:
    """Follow the flow of the layers, from balanced and from other ones, and that of X."""
    n = len(start)
    layers = factor(Frame.of_point(start, depth), chain_of((len(start),) * (depth + 1)))
    layers = act(random_orthogonal((depth - 1, n, n), rng), layers)
    other = layers.copy()
    other[0] *= 1 + LOPSIDED
    other[-1] /= 1 + LOPSIDED
    given = (problem.gradient, times)
    return Run(
        depth,
        flow_of_layers(layers, *given, energy=problem.loss),
        flow_of_point(start, depth, *given, energy=problem.loss),
        flow_of_layers(other, *given, energy=problem.loss),
    )


def table(problem: Completion, runs: list[Run]) -> str:
    """Format the agreement and what is conserved, one row for each depth."""
    lines = [
        "            upstairs and  balanced start:     unbalanced start:      error of",
        "            downstairs    imbalance           imbalance  X(t)        hidden",
        "  N     loss    X(t) apart  first  largest       drift     apart      entries",
    ]
    for run in runs:
        imbalances = relative_imbalance(run.upstairs.layers)
        lines.append(
            f"{run.depth:3d} {run.upstairs.energy[-1]:8.1e} {run.disagreement.max():10.1e}"
            f" {imbalances[0]:9.1e} {imbalances.max():8.1e}"
            f" {run.unbalanced.drift.max():11.1e} {run.apart(run.unbalanced).max():9.1e}"
            f" {problem.hidden_error(run.upstairs.points[-1]):10.2f}"
        )
    return "\n".join(lines)


def draw(runs: list[Run]) -> Figure:
    """Draw loss, singular values, agreement and imbalance over time."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    (loss, values), (agreement, balance) = axes
    smallest = np.finfo(float).eps / 10  # so that exact zeros stay on the logarithmic axes
    for k, run in enumerate(runs):
        look = {"color": COLORS[k], "linestyle": DASHES[k]}
        up, down = run.upstairs, run.downstairs
        loss.semilogy(up.times, up.energy, label=f"N = {run.depth}", **look)
        marks = {"color": COLORS[k], "linestyle": "", "marker": "os^"[k % 3], "markersize": 5}
        loss.semilogy(down.times[::8], down.energy[::8], **marks)
        spectra = np.linalg.svd(up.points, compute_uv=False)[:, :3]
        values.semilogy(up.times, spectra, **look)
        for axes_of, balanced, other in (
            (agreement, run.disagreement, run.apart(run.unbalanced)),
            (balance, relative_imbalance(up.layers), relative_imbalance(run.unbalanced.layers)),
        ):
            axes_of.semilogy(up.times, np.maximum(balanced, smallest), linewidth=1, **look)
            axes_of.semilogy(up.times, np.maximum(other, smallest), linewidth=2.5, **look)
    loss.set(title="Loss (lines: layers, marks: X alone)")
    values.set(title="The three largest singular values of X(t)")
    agreement.set(title="Distance of X(t) from the flow of X alone")
    balance.set(title="Relative imbalance")
    for ax in (agreement, balance):
        ax.set_ylim(smallest / 3, 1e2)
        ax.legend(
            handles=[
                Line2D([], [], color="black", linewidth=2.5, label="unbalanced start"),
                Line2D([], [], color="black", linewidth=1, label="balanced start"),
            ],
            loc="center right",
        )
    for ax in axes.flat:
        ax.set_xlabel("time")
    loss.legend()
    return figure


def run(
    n: int = 8,
    seed: int = 0,
    output: Path | None = None,
    depths: tuple[int, ...] = DEPTHS,
    end: float = 30.0,
) -> list[Run]:
    """Compute the example, print its table and draw its figure."""
    rng = np.random.default_rng(seed)
    problem = random_problem(n, rng)
    start = 0.05 * random_orthogonal((n, n), rng) * 2 ** rng.uniform(-1, 1, n)
    times = np.linspace(0, end, 121)
    runs = [train(problem, start, depth, times, rng) for depth in depths]
    print(f"A matrix of shape {n} x {n} and rank 2 is completed from {problem.seen.sum()} entries.")
    print(table(problem, runs))
    for r in runs:
        print(
            f"N = {r.depth}: {r.upstairs.n_evaluations} evaluations upstairs, "
            f"{r.downstairs.n_evaluations} downstairs; downstairs, the loss and the squared speed "
            f"balance to {r.downstairs.drift.max():.1e}."
        )
    figure = draw(runs)
    if output is not None:
        figure.savefig(output, dpi=120)
        print(f"Figure: {output}")
    return runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=8, help="size of the matrix")
    parser.add_argument("--seed", type=int, default=0, help="seed of the problem and the layers")
    parser.add_argument("--output", type=Path, help="file of the figure")
    arguments = parser.parse_args()
    run(arguments.n, arguments.seed, arguments.output)
    plt.show()
