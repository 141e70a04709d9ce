"""
Straight lines of layers, and where they are geodesics
======================================================

Two positive definite matrices X_0 and X_1 have the same orthogonal polar factor. Two straight lines
of layers join balanced layers of theirs:

- the line of roots, all layers X_0^(1/N) at one end and X_1^(1/N) at the other. It stays balanced,
  so its length bounds the distance of X_0 and X_1 from above;
- the aligned line, to the nearest layers of X_1. It is horizontal: it wastes no length on moving
  along fibres. But it may leave the balanced layers, and then it is no path of theirs.

A line that is both is a geodesic, and its length is the distance. That is so for N = 2, and for
matrices that commute. For N >= 3 and matrices that do not commute neither line is both. Then the
line of roots is longer than the geodesic, and the aligned line, if the nearest layers were found,
shorter. The example compares all three over the depth and over the angle between the eigenvectors.
Distances are those of the numerical geodesic, which knows of neither line.

Run alone, the script takes options::

    python examples/plot_straight_lines.py --n 3 --seed 0 --output straight_lines.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geometry.alignment import align
from dln_manifolds.geometry.straight_lines import StraightLine, straight_line
from dln_manifolds.plotting import COLORS

Array = np.ndarray

DEPTHS = (2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True)
class Comparison:
    """Both lines and the distance, at one depth, for a batch of pairs."""

    depth: int
    distance: Array
    roots: StraightLine
    aligned: StraightLine


def random_positive(n: int, rng: np.random.Generator) -> Array:
    """Draw a positive definite matrix with eigenvalues between 1/5 and 5."""
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (basis * 5 ** rng.uniform(-1, 1, n)) @ basis.T


def root_layers(matrices: Array, depth: int) -> Array:
    """Return balanced layers of positive definite matrices, all of them their N-th roots."""
    values, basis = np.linalg.eigh(matrices)
    root = (basis * values[..., None, :] ** (1 / depth)) @ np.swapaxes(basis, -1, -2)
    return np.repeat(root[..., None, :, :], depth, axis=-3)


def compare(start: Array, end: Array, depth: int) -> Comparison:
    """Compare both lines with the distance."""
    layers = root_layers(start, depth), root_layers(end, depth)
    aligned = align(layers[1], layers[0]).layers
    return Comparison(
        depth=depth,
        distance=DLNObservableManifold(start.shape[-1], depth).metric.dist(start, end),
        roots=straight_line(*layers),
        aligned=straight_line(layers[0], aligned),
    )


def rotated_pairs(angles: Array) -> tuple[Array, Array]:
    """Return 2 x 2 matrices with the eigenvalues 4 and 1/4, eigenvectors turned by the angles."""
    cos, sin = np.cos(angles), np.sin(angles)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    values = np.array([4.0, 0.25])
    end = (turn * values) @ np.swapaxes(turn, -1, -2)
    return np.broadcast_to(np.diag(values), end.shape), end


def table(title: str, comparisons: list[Comparison]) -> str:
    """Format lengths and defects, one row for each depth."""
    lines = [
        title,
        "            lengths                             defects              geodesic?",
        "   N  distance   roots  aligned    roots vertical  aligned unbalanced  roots  aligned",
    ]
    for c in comparisons:
        answers = ["yes" if line.is_geodesic else "no" for line in (c.roots, c.aligned)]
        lines.append(
            f"{c.depth:4d} {c.distance:9.6f} {c.roots.length:9.6f} {c.aligned.length:9.6f}"
            f" {c.roots.vertical_defect:13.1e} {c.aligned.balance_defect:17.1e}"
            f" {answers[0]:>9} {answers[1]:>7}"
        )
    return "\n".join(lines)


def draw(by_depth: list[Comparison], angles: Array, by_angle: list[Comparison]) -> Figure:
    """Draw the lengths of the lines relative to the distance."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    depths = [c.depth for c in by_depth]
    for k, (name, label, marker) in enumerate(
        (
            ("roots", "line of roots: balanced", "o"),
            ("aligned", "aligned line: horizontal", "s"),
        )
    ):
        excess = [100 * (getattr(c, name).length / c.distance - 1) for c in by_depth]
        left.plot(depths, excess, marker=marker, color=COLORS[k], label=label)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(
        xlabel="depth N",
        ylabel="length relative to the distance (% longer)",
        title="Matrices that do not commute",
    )
    left.legend()
    for k, c in enumerate(by_angle):
        style = {"color": COLORS[k], "marker": "os^"[k], "markevery": 4}
        excess = 100 * (c.roots.length / c.distance - 1)
        right.plot(np.degrees(angles), excess, label=f"N = {c.depth}, roots", **style)
        excess = 100 * (c.aligned.length / c.distance - 1)
        right.plot(np.degrees(angles), excess, "--", label=f"N = {c.depth}, aligned", **style)
    right.axhline(0, color="black", linewidth=0.8)
    right.set(xlabel="angle of the eigenvectors (degrees)", title="n = 2, eigenvalues 4 and 1/4")
    right.legend()
    return figure


def run(
    n: int = 3, seed: int = 0, output: Path | None = None, n_angles: int = 25
) -> dict[str, list[Comparison]]:
    """Compute the example, print its tables and draw its figure."""
    rng = np.random.default_rng(seed)
    start, end = random_positive(n, rng), random_positive(n, rng)
    basis = np.linalg.eigh(start)[1]
    commuting = (basis * rng.permutation(np.linalg.eigvalsh(end))) @ basis.T

    general = [compare(start, end, depth) for depth in DEPTHS]
    simple = [compare(start, commuting, depth) for depth in DEPTHS]
    print(table("X_0 and X_1 do not commute:", general))
    print()
    print(table("X_0 and X_1 commute:", simple))
    print()
    c = general[1]
    print(
        f"At N = {c.depth} the line of roots is {100 * (c.roots.length / c.distance - 1):.3f} % "
        f"longer than the geodesic of two matrices that do not commute."
    )

    angles = np.linspace(0, np.pi / 2, n_angles + 1)[1:]  # at 0 the matrices are equal
    by_angle = [compare(*rotated_pairs(angles), depth) for depth in (2, 3, 8)]
    for c in by_angle:
        excess = c.roots.length / c.distance - 1
        worst = int(np.argmax(excess))
        shorter = max(np.max(1 - c.aligned.length / c.distance), 0.0)
        print(
            f"n = 2, N = {c.depth}: the line of roots is up to {100 * excess[worst]:.2f} % longer "
            f"than the geodesic, at {np.degrees(angles[worst]):.0f} degrees; the aligned line is "
            f"up to {100 * shorter:.2f} % shorter."
        )
    figure = draw(general, angles, by_angle)
    if output is not None:
        figure.savefig(output, dpi=120)
        print(f"Figure: {output}")
    return {"general": general, "commuting": simple, "by angle": by_angle}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=3, help="size of the matrices")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random matrices")
    parser.add_argument("--output", type=Path, help="file of the figure")
    arguments = parser.parse_args()
    run(arguments.n, arguments.seed, arguments.output)
    plt.show()
