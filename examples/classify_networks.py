"""Which task has a network been trained on? Its end-to-end matrix tells, in a good distance.

Deep linear networks of depth 3 learn to predict the lower half of a handwritten digit from its
upper half (the leading principal components of each). Every network sees a small resample of the
images of one digit only, and starts from its own random layers; which digit it was is its label.
The labels are then to be recovered from the trained end-to-end matrices alone:

- the nearest other network has the same label (leave-one-out accuracy), and
- clusters found without any label (average linkage) are the tasks (adjusted Rand index; 1 is
  perfect, 0 is chance),

by three distances: that of the deep linear network, the Frobenius norm of the difference, and the
affine-invariant distance of the Gram matrices ``X^T X``. What is printed is computed in the run,
whichever distance wins.

    python examples/classify_networks.py --networks 12 --seed 0 --output classify_networks.png

The networks are made and trained by ``frechet_mean.py``, which has to stand beside this script.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from frechet_mean import end_to_end, loss_gradient, progress_line, random_layers
from matplotlib.figure import Figure
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from dln_manifolds import DLNObservableManifold

Array = np.ndarray


@dataclass(frozen=True)
class Setup:
    """The learning problem and how it is solved."""

    digits: tuple[int, ...] = (0, 3, 4, 7)
    width: int = 5
    depth: int = 3
    resample: int = 40
    initial_scale: float = 0.05
    learning_rate: float = 0.02
    steps: int = 600


@dataclass(frozen=True)
class Outcome:
    """How well one distance tells the tasks apart."""

    name: str
    distances: Array
    accuracy: float
    rand_index: float
    separation: float
    seconds: float


@dataclass(frozen=True)
class Results:
    """All that the table and the figure are made from."""

    setup: Setup
    matrices: Array
    labels: Array
    outcomes: list[Outcome]


def load_tasks(setup: Setup) -> list[tuple[Array, Array]]:
    """Return features of the upper and the lower halves of the images of each digit."""
    data = load_digits()
    upper, lower = (
        PCA(setup.width, whiten=True, svd_solver="full").fit_transform(view)
        for view in (data.images[:, :4].reshape(-1, 32), data.images[:, 4:].reshape(-1, 32))
    )
    return [(upper[data.target == digit], lower[data.target == digit]) for digit in setup.digits]


def train(inputs: Array, targets: Array, setup: Setup, rng: np.random.Generator) -> Array:
    """Train networks side by side, each on its own images; return their end-to-end matrices."""
    layers = random_layers(len(inputs), setup, rng)
    moments = [np.swapaxes(side, -1, -2) @ inputs / inputs.shape[1] for side in (inputs, targets)]
    for _ in range(setup.steps):
        layers -= setup.learning_rate * loss_gradient(layers, *moments)
    return end_to_end(layers)


def frobenius(matrices: Array) -> Array:
    """Frobenius distances between all pairs."""
    return np.linalg.norm(matrices[:, None] - matrices, axis=(-2, -1))


def affine_invariant(matrices: Array) -> Array:
    """Affine-invariant distances of the Gram matrices: ``|log(A^{-1/2} B A^{-1/2})|``.

    The eigenvalues are the squared singular values of ``X Y^{-1}``.
    """
    ratios = matrices[:, None] @ np.linalg.inv(matrices)
    logs = 2 * np.log(np.linalg.svd(ratios, compute_uv=False))
    distances = np.linalg.norm(logs, axis=-1)
    return 0.5 * (distances + distances.T)


def evaluate(name: str, distances: Array, labels: Array, seconds: float) -> Outcome:
    """Recover the labels by a table of distances."""
    others = distances + np.diag(np.full(len(labels), np.inf))
    clusters = AgglomerativeClustering(
        n_clusters=len(set(labels.tolist())), metric="precomputed", linkage="average"
    ).fit_predict(distances)
    same = labels[:, None] == labels
    np.fill_diagonal(same, False)
    return Outcome(
        name=name,
        distances=distances,
        accuracy=float(np.mean(labels[others.argmin(axis=1)] == labels)),
        rand_index=float(adjusted_rand_score(labels, clusters)),
        separation=float(distances[labels[:, None] != labels].mean() / distances[same].mean()),
        seconds=seconds,
    )


def run(
    n_networks: int = 12,
    seed: int = 0,
    output: Path | str = "classify_networks.png",
    *,
    setup: Setup | None = None,
    progress: bool = True,
) -> Results:
    """Train ``n_networks`` for every task, recover the tasks, draw the figure.

    Parameters
    ----------
    n_networks : int
        Networks per task, at least 2.
    seed : int
        Seed of everything random: resamples and initial layers.
    output : path
        Where to write the figure.
    setup : Setup, optional
        The learning problem.
    progress : bool
        Whether to tell on standard error how far the work is.
    """
    if n_networks < 2:
        raise ValueError(f"A nearest neighbor takes at least 2 networks, not {n_networks}.")
    setup = Setup() if setup is None else setup
    rng = np.random.default_rng(seed)
    found, labels = [], []
    for digit, (inputs, targets) in zip(setup.digits, load_tasks(setup), strict=True):
        if progress:
            progress_line(f"Training {n_networks} networks on the digit {digit} ...")
        draws = rng.integers(len(inputs), size=(n_networks, setup.resample))
        trained = train(inputs[draws], targets[draws], setup, rng)
        found.append(trained)
        labels += [digit] * n_networks
    if progress:
        progress_line("")
    matrices, label = np.concatenate(found), np.array(labels)
    metric = DLNObservableManifold(setup.width, setup.depth).metric
    outcomes = []
    for name, function in (
        ("deep linear network", lambda X: metric.dist_pairwise(X, progress=progress)),
        ("Frobenius", frobenius),
        ("affine-invariant, X^T X", affine_invariant),
    ):
        started = time.perf_counter()
        table = function(matrices)
        outcomes.append(evaluate(name, table, label, time.perf_counter() - started))
    results = Results(setup, matrices, label, outcomes)
    draw(results).savefig(output, dpi=160)
    return results


def summary(results: Results) -> str:
    """Lay out the numbers."""
    lines = [
        f"{len(results.labels)} networks, {len(results.setup.digits)} tasks (digits "
        f"{', '.join(map(str, results.setup.digits))}), {results.setup.width} x "
        f"{results.setup.width}, depth {results.setup.depth}",
        "",
        f"{'distance':<26}{'nearest neighbor':>18}{'clusters':>10}{'between / within':>18}"
        f"{'time':>9}",
    ]
    for one in results.outcomes:
        lines.append(
            f"{one.name:<26}{100 * one.accuracy:>16.1f} %{one.rand_index:>10.3f}"
            f"{one.separation:>18.2f}{one.seconds:>7.1f} s"
        )
    best = max(one.rand_index for one in results.outcomes)
    winners = [one.name for one in results.outcomes if one.rand_index == best]
    lines += ["", f"Best clusters (adjusted Rand index {best:.3f}): {', '.join(winners)}."]
    return "\n".join(lines)


def embed(distances: Array) -> Array:
    """Place points in the plane by classical multidimensional scaling."""
    squares = distances**2
    centred = squares - squares.mean(axis=0) - squares.mean(axis=1)[:, None] + squares.mean()
    values, vectors = np.linalg.eigh(-0.5 * centred)
    return vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))


def draw(results: Results) -> Figure:
    """Show the networks in the plane, one panel for each distance, one colour for each task."""
    figure = Figure(figsize=(4.2 * len(results.outcomes), 4.4), layout="constrained")
    panels = figure.subplots(1, len(results.outcomes))
    for axes, one in zip(panels, results.outcomes, strict=True):
        places = embed(one.distances)
        for digit, marker in zip(results.setup.digits, "os^Dvp*X", strict=False):
            chosen = results.labels == digit
            axes.scatter(*places[chosen].T, s=26, marker=marker, label=f"digit {digit}")
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.set_title(
            f"{one.name}\nneighbor {100 * one.accuracy:.0f} %, Rand index {one.rand_index:.2f}",
            fontsize=10.5,
        )
    panels[0].legend(frameon=False, fontsize=9)
    return figure


def main() -> None:
    """Run the example from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=12, help="networks for each task (12)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (0)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_suffix(".png"),
        help="file of the figure (beside this script)",
    )
    options = parser.parse_args()
    print(summary(run(options.networks, options.seed, options.output)))
    print(f"Figure: {options.output}")


if __name__ == "__main__":
    main()
