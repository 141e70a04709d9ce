"""Merging trained deep linear networks that never met: their Fréchet mean, and what it is for.

Networks that compute nearly the same map can have completely different weights, so the average of
their weights is of no use. What is a network between them, then? One that has learned what they
have: their singular values, strong and weak, their determinant, the entropy of their fibre. That is
what the geometry is for: its Fréchet mean is the network that all of them reach by the least travel
of their layers. It is not for the least loss: that is convex in the maps, and the entrywise average
of the maps predicts a little better.

Sixty networks of depth 3 learn to predict the lower half of a handwritten digit from its upper
half (the leading principal components of each), every one from its own bootstrap resample of the
images and from its own random layers. Training stops early, so that each network has learned the
strong directions of the data and little of the weak ones, as deep linear networks do.

The end-to-end matrices of all networks are averaged twice: entry by entry, and by geomstats'
``FrechetMean`` in the geometry of the deep linear network. Both means are compared with each other,
with the networks and with the average of their weights. Everything that is printed is computed from
the numbers of the run.

    python examples/frechet_mean.py --networks 60 --seed 0 --output frechet_mean.png
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geomstats.learning.frechet_mean import FrechetMean
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from dln_manifolds import DLNObservableManifold, DLNObservableMetric

Array = np.ndarray


@dataclass(frozen=True)
class Setup:
    """The learning problem, how it is solved, and how exactly the Fréchet mean is computed."""

    width: int = 8
    depth: int = 3
    resample: int = 60
    initial_scale: float = 0.01
    learning_rate: float = 0.01
    steps: int = 1000
    tolerance: float = 1e-8


@dataclass(frozen=True)
class Data:
    """Features of the upper halves (inputs) and the lower halves (targets), one image per row."""

    train_inputs: Array
    train_targets: Array
    test_inputs: Array
    test_targets: Array


@dataclass(frozen=True)
class Description:
    """What is compared: of one matrix, or of a batch of matrices along the first axis."""

    loss: Array
    singular_values: Array
    log_abs_det: Array
    entropy: Array


@dataclass(frozen=True)
class Mean(Description):
    """A mean, with its distances to the networks (infinite if det has another sign)."""

    matrix: Array
    distances: Array
    frobenius_distances: Array
    gradient_norm: float

    @property
    def dispersion(self) -> float:
        """Mean squared distance to the networks."""
        return float(np.mean(self.distances**2))

    @property
    def frobenius_dispersion(self) -> float:
        """Mean squared Frobenius distance to the networks."""
        return float(np.mean(self.frobenius_distances**2))


@dataclass(frozen=True)
class Results:
    """All that the table, the conclusions and the figure are made from."""

    setup: Setup
    matrices: Array
    networks: Description
    euclidean: Mean
    frechet: Mean
    n_dropped: int
    imbalance: float
    gradient_norms: list[float]
    between_means: Description | None
    weights_loss: float
    loss_gap: float
    loss_gap_error: float
    training_seconds: float
    frechet_seconds: float


def load_data(width: int, rng: np.random.Generator) -> Data:
    """Split the digits into two sets of images, and the images into two halves of features."""
    images = rng.permutation(load_digits().images)
    half = len(images) // 2
    upper, lower = (
        # Whitened, so that every component counts the same; fitted on the training images alone.
        PCA(width, whiten=True, svd_solver="full").fit(view[:half]).transform(view)
        for view in (images[:, :4].reshape(-1, 32), images[:, 4:].reshape(-1, 32))
    )
    # The sign of a principal component is arbitrary. This choice puts the best linear map where
    # the networks start: in the component det > 0, which gradient descent does not leave.
    best = np.linalg.lstsq(upper[:half], lower[:half], rcond=None)[0]
    lower[:, -1] *= np.sign(np.linalg.det(best))
    return Data(upper[:half], lower[:half], upper[half:], lower[half:])


def random_layers(n_networks: int, setup: Setup, rng: np.random.Generator) -> Array:
    """Draw small balanced layers, multiples of orthogonal matrices, with det > 0 end to end."""
    shape = (n_networks, setup.depth, setup.width, setup.width)
    layers = np.linalg.qr(rng.standard_normal(shape))[0]
    layers[:, 0, :, 0] *= np.prod(np.linalg.det(layers), axis=1)[:, None]
    return setup.initial_scale ** (1 / setup.depth) * layers


def end_to_end(layers: Array) -> Array:
    """Multiply the layers of each network; the first acts first."""
    product = layers[:, 0]
    for p in range(1, layers.shape[1]):
        product = layers[:, p] @ product
    return product


def loss_gradient(layers: Array, input_moment: Array, cross_moment: Array) -> Array:
    """Differentiate half the mean squared error of all networks by all of their layers."""
    depth, width = layers.shape[1:3]
    before = [np.broadcast_to(np.eye(width), layers[:, 0].shape)]
    for p in range(depth):
        before.append(layers[:, p] @ before[p])
    # Backwards through the layers: the transposed layers behind layer p, times the error.
    error = before[depth] @ input_moment - cross_moment
    gradient = np.empty_like(layers)
    for p in reversed(range(depth)):
        gradient[:, p] = error @ np.swapaxes(before[p], -1, -2)
        error = np.swapaxes(layers[:, p], -1, -2) @ error
    return gradient


def train(n_networks: int, setup: Setup, data: Data, rng: np.random.Generator) -> Array:
    """Train all networks at once, each on its own bootstrap resample; return their layers."""
    draws = rng.integers(len(data.train_inputs), size=(n_networks, setup.resample))
    inputs, targets = data.train_inputs[draws], data.train_targets[draws]
    input_moment = np.swapaxes(inputs, -1, -2) @ inputs / setup.resample
    cross_moment = np.swapaxes(targets, -1, -2) @ inputs / setup.resample
    layers = random_layers(n_networks, setup, rng)
    for _ in range(setup.steps):
        layers -= setup.learning_rate * loss_gradient(layers, input_moment, cross_moment)
    return layers


def imbalance(layers: Array) -> float:
    """Return the largest entry of ``W_{p+1}^T W_{p+1} - W_p W_p^T``, zero for a gradient flow."""
    above = np.swapaxes(layers[:, 1:], -1, -2) @ layers[:, 1:]
    below = layers[:, :-1] @ np.swapaxes(layers[:, :-1], -1, -2)
    return float(np.abs(above - below).max())


def image_errors(matrix: Array, data: Data) -> Array:
    """Return the squared error of every held-out image, in units of the variance of the targets.

    The mean of these is the loss: 1 for a network that always predicts the average image.
    """
    predictions = data.test_inputs @ np.swapaxes(matrix, -1, -2)
    variance = np.mean(np.sum(data.test_targets**2, axis=-1))
    return np.sum((predictions - data.test_targets) ** 2, axis=-1) / variance


def describe(space: DLNObservableManifold, matrix: Array, data: Data) -> Description:
    """Compute what is compared, of one matrix or of a batch."""
    return Description(
        loss=image_errors(matrix, data).mean(axis=-1),
        singular_values=np.linalg.svd(matrix, compute_uv=False),
        log_abs_det=np.linalg.slogdet(matrix)[1],
        entropy=space.entropy(matrix),
    )


def describe_mean(space: DLNObservableManifold, mean: Array, networks: Array, data: Data) -> Mean:
    """Describe a mean and where it lies among the networks."""
    distances, gradient_norm = np.full(len(networks), np.inf), np.inf
    if in_component(mean):
        logs = space.metric.log(networks, mean)
        distances = space.metric.norm(logs, mean)
        # Half the mean squared distance has minus the mean of the logs for its gradient.
        gradient_norm = float(space.metric.norm(logs.mean(axis=0), mean))
    return Mean(
        **vars(describe(space, mean, data)),
        matrix=mean,
        distances=distances,
        frobenius_distances=np.linalg.norm(networks - mean, axis=(-2, -1)),
        gradient_norm=gradient_norm,
    )


def in_component(matrix: Array) -> Array:
    """Whether det > 0. No path joins matrices with determinants of different signs."""
    return np.linalg.slogdet(matrix)[0] > 0


def nearest_in_component(matrix: Array) -> Array:
    """Return the matrix if det > 0, else its mirror image behind the nearest singular matrix."""
    left, singular_values, right_t = np.linalg.svd(matrix)
    if not in_component(matrix):
        singular_values[-1] *= -1
    return (left * singular_values) @ right_t


class WatchedMetric(DLNObservableMetric):
    """The metric of the deep linear network, telling each step that ``FrechetMean`` takes.

    In every step ``FrechetMean`` asks for the squared norm of one single vector: the gradient.
    """

    def __init__(self, space: DLNObservableManifold, watch: Callable[[float], None]) -> None:
        super().__init__(space)
        self.watch = watch

    def squared_norm(self, vector: Array, base_point: Array | None = None) -> Array:
        """Return the squared norm, and report it if it is the one of a gradient."""
        squared_norm = super().squared_norm(vector, base_point)
        if np.ndim(vector) == 2:
            self.watch(float(np.sqrt(squared_norm)))
        return squared_norm


def frechet_mean(setup: Setup, networks: Array, watch: Callable[[float], None]) -> Array:
    """Compute the Fréchet mean by geomstats, telling the norm of the gradient in every step.

    It is a stationary point of the mean squared distance, reached from the Euclidean mean, and may
    not be the only one. Started from single networks instead, seed 0 ended in the same point both
    times it was tried; seed 6 ended in others, with mean squared distances within 0.1 %.
    """
    space = DLNObservableManifold(setup.width, setup.depth)
    # Only to show progress: FrechetMean needs nothing but the space.
    space.equip_with_metric(WatchedMetric, watch=watch)

    estimator = FrechetMean(space).set(
        init_point=nearest_in_component(networks.mean(axis=0)),
        # geomstats stops when the squared norm of the gradient is at most epsilon * dim.
        epsilon=setup.tolerance**2 / space.dim,
        max_iter=100,
        # Squared distances are flatter here than in flat space, where one step of 1 would do.
        init_step_size=1.3,
    )
    return estimator.fit(networks).estimate_


def describe_geodesic(
    space: DLNObservableManifold, start: Mean, end: Mean, data: Data
) -> Description | None:
    """Describe 25 points on the geodesic between two means; None if there is no path."""
    if not in_component(start.matrix):
        return None
    geodesic = space.metric.geodesic(start.matrix, end.matrix)
    return describe(space, geodesic(np.linspace(0, 1, 25)), data)


def compare_losses(euclidean: Mean, frechet: Mean, data: Data) -> tuple[float, float]:
    """Return by how much the Euclidean mean's loss is larger, and the standard error of that.

    Both means see the same images, so the error is that of the differences image by image.
    """
    gap = image_errors(euclidean.matrix, data) - image_errors(frechet.matrix, data)
    return float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap)))


def weights_loss(layers: Array, data: Data) -> float:
    """Return the loss of the network whose layers are the averages of those of all networks."""
    return float(image_errors(end_to_end(layers.mean(axis=0, keepdims=True))[0], data).mean())


def run(
    n_networks: int = 60,
    seed: int = 0,
    output: Path | str = "frechet_mean.png",
    *,
    setup: Setup | None = None,
    progress: bool = True,
) -> Results:
    """Train the networks, average them, draw the figure, and return all numbers.

    Parameters
    ----------
    n_networks : int
        How many networks to train, at least 2.
    seed : int
        Seed of everything random: split, resamples, initial layers.
    output : path
        Where to write the figure.
    setup : Setup, optional
        The learning problem.
    progress : bool
        Whether to tell on standard error how far the work is.
    """
    if n_networks < 2:
        raise ValueError(f"A mean takes at least 2 networks, not {n_networks}.")
    setup = Setup() if setup is None else setup
    tell = progress_line if progress else lambda text: None
    rng = np.random.default_rng(seed)
    data = load_data(setup.width, rng)

    tell(f"Training {n_networks} networks ...")
    started = time.perf_counter()
    layers = train(n_networks, setup, data, rng)
    trained = end_to_end(layers)
    matrices = trained[in_component(trained)]
    training_seconds = time.perf_counter() - started

    gradient_norms: list[float] = []

    def watch(gradient_norm: float) -> None:
        gradient_norms.append(gradient_norm)
        tell(f"Fréchet mean, step {len(gradient_norms) - 1}: gradient norm {gradient_norm:.1e}")

    started = time.perf_counter()
    frechet_matrix = frechet_mean(setup, matrices, watch)
    frechet_seconds = time.perf_counter() - started

    tell("Comparing the means ...")
    space = DLNObservableManifold(setup.width, setup.depth)
    euclidean = describe_mean(space, matrices.mean(axis=0), matrices, data)
    frechet = describe_mean(space, frechet_matrix, matrices, data)
    loss_gap, loss_gap_error = compare_losses(euclidean, frechet, data)
    results = Results(
        setup=setup,
        matrices=matrices,
        networks=describe(space, matrices, data),
        euclidean=euclidean,
        frechet=frechet,
        n_dropped=n_networks - len(matrices),
        imbalance=imbalance(layers),
        gradient_norms=gradient_norms,
        between_means=describe_geodesic(space, euclidean, frechet, data),
        weights_loss=weights_loss(layers[in_component(trained)], data),
        loss_gap=loss_gap,
        loss_gap_error=loss_gap_error,
        training_seconds=training_seconds,
        frechet_seconds=frechet_seconds,
    )
    draw(results).savefig(output, dpi=160)
    tell("")
    return results


def progress_line(text: str) -> None:
    """Write a line on standard error; on a terminal, over the one before."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="" if text else "\r", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def means(results: Results) -> tuple[Mean, Mean]:
    """Return both means, always in the same order."""
    return results.euclidean, results.frechet


def table(results: Results) -> str:
    """Lay out the numbers of the networks and of both means side by side."""
    rows = [("", "networks: median (10 % to 90 %)", "Euclidean mean", "Fréchet mean")]

    def add(label: str, form: str, networks: Array | None, *means: float) -> None:
        spread = ""
        if networks is not None:
            low, middle, high = (format(q, form) for q in np.quantile(networks, [0.1, 0.5, 0.9]))
            spread = f"{middle} ({low} to {high})"
        rows.append((label, spread, *(format(float(value), form) for value in means)))

    both = means(results)
    three = (results.networks, *both)
    add("held-out loss", ".4f", *(d.loss for d in three))
    add("|det|", ".1e", *(np.exp(d.log_abs_det) for d in three))
    add("entropy", ".2f", *(d.entropy for d in three))
    for i in range(results.setup.width):
        add(f"singular value {i + 1}", ".4f", *(d.singular_values[..., i] for d in three))
    add("mean squared DLN distance", ".4f", None, *(m.dispersion for m in both))
    add("mean squared Frobenius dist.", ".4f", None, *(m.frobenius_dispersion for m in both))
    add("Riemannian gradient norm", ".1e", None, *(m.gradient_norm for m in both))

    rule = "-" * 94
    lines = [f"{a:<29}{b:>33}{c:>16}{d:>16}".rstrip() for a, b, c, d in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def conclusions(results: Results) -> list[str]:
    """Say what the geometry is for, then which mean predicts better, as the numbers have it."""
    euclidean, frechet, networks = results.euclidean, results.frechet, results.networks
    count = len(results.matrices)
    lines = []
    if frechet.gradient_norm > results.setup.tolerance:
        lines.append(
            f"The Fréchet mean did not converge: its gradient norm is {frechet.gradient_norm:.1e}, "
            f"not {results.setup.tolerance:.1e}. What follows is about an approximation."
        )

    lines.append(
        f"Merging: the average of the weights has a held-out loss of {results.weights_loss:.3f}, "
        f"where 1 is that of no answer; a network has {networks.loss.mean():.3f} on average, the "
        f"Fréchet mean {frechet.loss:.3f}. These networks never met: their weights are turned "
        f"against each other."
    )

    logarithms = np.log(networks.singular_values).mean(axis=0)
    off = [
        np.sqrt(np.mean((np.log(mean.singular_values) - logarithms) ** 2))
        for mean in (euclidean, frechet)
    ]
    lines.append(
        f"Spectrum: the Euclidean mean misses the networks' singular values by a factor of "
        f"{np.exp(off[0]):.2f}, the Fréchet mean by {np.exp(off[1]):.2f}, root mean square of "
        f"logarithms. The {nearer(*off)} mean is more like the networks."
    )

    typical = networks.log_abs_det.mean()
    off = [abs(mean.log_abs_det - typical) for mean in (euclidean, frechet)]
    lines.append(
        f"Determinant: the geometric mean of the networks' is {np.exp(typical):.1e}. The Euclidean "
        f"mean misses it by a factor of {np.exp(off[0]):.2g}, the Fréchet mean by "
        f"{np.exp(off[1]):.2g}. The {nearer(*off)} mean is more like the networks."
    )

    typical = networks.entropy.mean()
    off = [mean.entropy - typical for mean in (euclidean, frechet)]
    lines.append(
        f"Entropy: the networks have {typical:.2f} on average (standard deviation "
        f"{networks.entropy.std(ddof=1):.2f}). The Euclidean mean is off by {off[0]:+.2f}, the "
        f"Fréchet mean by {off[1]:+.2f}. The {nearer(*np.abs(off))} mean is more like the networks."
    )

    lines.append(distances_line(results))
    gap, error = results.loss_gap, results.loss_gap_error
    verdict = f"the {'Fréchet' if gap > 0 else 'Euclidean'} mean predicts better"
    if abs(gap) <= 2 * error:
        verdict = "both means predict equally well"
    advice = "" if gap > 0 else " Where the loss is the goal, average the maps."
    lines.append(
        f"Loss: {verdict} on held-out images; the losses differ by "
        f"{abs(gap):.4f} (standard error {error:.4f}). The Euclidean mean beats "
        f"{np.sum(euclidean.loss < networks.loss)} and the Fréchet mean "
        f"{np.sum(frechet.loss < networks.loss)} of the {count} networks.{advice}"
    )
    return lines


def distances_line(results: Results) -> str:
    """Say how far the networks are from both means."""
    euclidean, frechet = results.euclidean, results.frechet
    if not np.isfinite(euclidean.dispersion):
        return (
            "Distances: the networks have det > 0, their Euclidean mean has det < 0. No path of "
            "invertible matrices leads there."
        )
    change = frechet.dispersion / euclidean.dispersion - 1
    frobenius = frechet.frobenius_dispersion / euclidean.frobenius_dispersion - 1
    return (
        f"Distances: in the geometry of the networks, the mean squared distance to the Fréchet "
        f"mean is {abs(change):.1%} {'smaller' if change < 0 else 'larger'} than to the Euclidean "
        f"mean, and {np.sum(frechet.distances < euclidean.distances)} of {len(results.matrices)} "
        f"networks are nearer to it. In the Frobenius norm, which the Euclidean mean minimizes, it "
        f"is {frobenius:.1%} larger."
    )


def nearer(euclidean: float, frechet: float) -> str:
    """Name the mean with the smaller deviation."""
    return "Fréchet" if frechet < euclidean else "Euclidean"


def summary(results: Results) -> str:
    """Write the report that the script prints."""
    setup = results.setup
    start = "Euclidean mean"
    if not in_component(results.euclidean.matrix):
        start = "mirror image of the Euclidean mean that has det > 0"
    head = (
        f"{len(results.matrices)} networks of depth {setup.depth} with {setup.width} x "
        f"{setup.width} end-to-end matrices, trained on {setup.resample} images each in "
        f"{results.training_seconds:.1f} s; layers balanced to {results.imbalance:.0e}; "
        f"{results.n_dropped} dropped for det < 0. Fréchet mean in "
        f"{len(results.gradient_norms) - 1} steps and {results.frechet_seconds:.1f} s, from the "
        f"{start}; it is a stationary point and may not be the only one."
    )
    points = (
        textwrap.fill(f"* {line}", 94, subsequent_indent="  ") for line in conclusions(results)
    )
    return "\n".join([textwrap.fill(head, 94), table(results), *points])


NETWORK, EUCLIDEAN, FRECHET = "0.6", "#D55E00", "#0072B2"  # grey; vermilion and blue of Okabe, Ito


def draw(results: Results) -> Figure:
    """Draw the comparison in four panels."""
    setup = results.setup
    figure = Figure(figsize=(10.5, 8.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    figure.suptitle(
        f"Two means of {len(results.matrices)} deep linear networks "
        f"({setup.width} x {setup.width}, depth {setup.depth}) trained on digits",
        fontsize=15,
    )
    painters = (draw_singular_values, draw_loss_and_entropy, draw_distances, draw_convergence)
    for axes, painter in zip(figure.subplots(2, 2).flat, painters, strict=True):
        painter(axes, results)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def set_titles(axes: Axes, title: str, message: str) -> None:
    """Write a title, and below it the numbers that the panel is about."""
    axes.set_title(f"{title}\n", loc="left", fontweight="bold")
    axes.text(0, 1.02, message, transform=axes.transAxes, fontsize=9.5, color="0.25")


def plot_means(axes: Axes, results: Results, x: Callable, y: Callable, **options: Any) -> None:
    """Plot something of both means, told apart by colour and by marker."""
    for label, mean, colour, marker in (
        ("Euclidean mean", results.euclidean, EUCLIDEAN, "s"),
        ("Fréchet mean", results.frechet, FRECHET, "o"),
    ):
        style = {"color": colour, "marker": marker, "ms": 8, "mec": "white", "label": label}
        axes.plot(x(mean), y(mean), **style, **options)


def draw_singular_values(axes: Axes, results: Results) -> None:
    """Show the singular values of all networks and of both means."""
    index = np.arange(1, results.setup.width + 1)
    lines = axes.plot(index, results.networks.singular_values.T, color=NETWORK, lw=0.6, alpha=0.6)
    lines[0].set_label("networks")
    plot_means(axes, results, lambda mean: index, lambda mean: mean.singular_values, lw=2)
    axes.axhline(results.setup.initial_scale, color="black", ls=":", lw=1, label="before training")
    axes.set(yscale="log", xlabel="index", ylabel="singular value", xticks=index)
    axes.legend(frameon=False, loc="lower left")
    dets = (np.exp(d.log_abs_det.mean()) for d in (results.networks, *means(results)))
    set_titles(
        axes,
        "Singular values",
        "|det|: typical network {:.0e}, Euclidean {:.0e}, Fréchet {:.0e}".format(*dets),
    )


def draw_loss_and_entropy(axes: Axes, results: Results) -> None:
    """Show all networks, both means, and the geodesic between these, in two coordinates."""
    networks = results.networks
    axes.axhline(
        networks.entropy.mean(), color=NETWORK, ls="--", lw=1, label="average of the networks"
    )
    axes.scatter(networks.loss, networks.entropy, s=18, color=NETWORK)
    if results.between_means is not None:
        way = results.between_means
        axes.plot(way.loss, way.entropy, color="black", lw=1, label="geodesic between the means")
    axes.legend(frameon=False, fontsize=9)
    plot_means(axes, results, lambda mean: mean.loss, lambda mean: mean.entropy, ls="", zorder=4)
    axes.set(
        xlabel="held-out loss (1: always predicts the average image)",
        ylabel="entropy (log volume of the fibre)",
    )
    losses = (np.mean(d.loss) for d in (networks, *means(results)))
    set_titles(
        axes,
        "Loss and entropy",
        "loss: average network {:.3f}, Euclidean {:.3f}, Fréchet {:.3f}".format(*losses),
    )


def draw_distances(axes: Axes, results: Results) -> None:
    """Compare how far each network is from either mean."""
    to_euclidean, to_frechet = (mean.distances for mean in means(results))
    axes.set(
        xlabel="geodesic distance to the Fréchet mean",
        ylabel="geodesic distance to the Euclidean mean",
    )
    dispersions = (mean.dispersion for mean in means(results))
    set_titles(
        axes,
        "Distance of each network to both means",
        "mean square: Euclidean {:.3f}, Fréchet {:.3f}".format(*dispersions),
    )
    if not np.isfinite(to_euclidean).all():
        note = "The Euclidean mean has det < 0:\nno path leads there."
        axes.text(0.5, 0.5, note, ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    both = np.concatenate([to_euclidean, to_frechet])
    limits = (0.95 * both.min(), 1.05 * both.max())
    axes.plot(limits, limits, color="black", lw=1)
    axes.scatter(to_frechet, to_euclidean, s=18, color=NETWORK)
    axes.set(xlim=limits, ylim=limits)
    count = np.sum(to_frechet < to_euclidean)
    label = {"transform": axes.transAxes, "fontsize": 10.5}
    axes.text(0.04, 0.93, f"{count} nearer to the Fréchet mean", color=FRECHET, **label)
    text = f"{len(to_frechet) - count} nearer to the\nEuclidean mean"
    axes.text(0.96, 0.06, text, color=EUCLIDEAN, ha="right", **label)


def draw_convergence(axes: Axes, results: Results) -> None:
    """Show that the Fréchet mean is one: its gradient vanishes."""
    norms = results.gradient_norms
    axes.plot(norms, color=FRECHET, marker="o", ms=4)
    axes.axhline(results.setup.tolerance, color="black", ls=":", lw=1, label="asked for")
    axes.set(
        yscale="log",
        xlabel="step of geomstats' FrechetMean",
        ylabel="Riemannian gradient norm",
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    set_titles(
        axes,
        "Convergence to the Fréchet mean",
        f"gradient norm {norms[-1]:.0e} after {len(norms) - 1} steps",
    )


def main() -> None:
    """Run the example from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=60, help="networks to train (60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (0)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_suffix(".png"),
        help="file of the figure (beside this script)",
    )
    options = parser.parse_args()
    results = run(options.networks, options.seed, options.output)
    print(summary(results))
    print(f"Figure: {options.output}")


if __name__ == "__main__":
    main()
