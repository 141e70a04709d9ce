"""Draw the figure of the README: a geodesic, and the entropy landscape with its singular values.

python docs/overview_figure.py docs/images/overview.png
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import COLORS, plot_entropy_landscape, plot_geodesic

X = np.array([[1.5, 0.3], [0.0, 0.9]])
Y = np.array([[-0.6, -1.1], [0.4, -0.6]])


def draw() -> Figure:
    """Return the figure."""
    space = DLNObservableManifold(n=2, depth=4)
    geodesic = space.metric.solve_log(Y, X)

    def straight(t):
        return X + np.asarray(t)[..., None, None] * (Y - X)

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.75, 1])
    upper, lower = left.subplots(2, 1)
    plot_geodesic(geodesic, upper, n_ellipses=5)
    plot_geodesic(straight, lower, n_ellipses=5)
    upper.set(title="Geodesic of the deep linear network, depth 4", xlabel="")
    lower.set(title="Straight line: the matrix shrinks on the way")
    for ax in (upper, lower):
        ax.set_yticks([])
        ax.spines[["left", "right", "top"]].set_visible(False)

    ax = right.subplots()
    plot_entropy_landscape(space, ax, limits=(0.1, 4))
    casing = [withStroke(linewidth=4, foreground="white")]
    for path, name, color, dashes in (
        (straight, "straight line", "black", "--"),
        (geodesic, "geodesic", COLORS[1], "-"),
    ):
        values = np.linalg.svd(path(np.linspace(0, 1, 2001)), compute_uv=False)
        look = {"color": color, "linestyle": dashes, "linewidth": 2, "path_effects": casing}
        ax.plot(*values.T, label=name, **look)
    for matrix, name in ((X, "X"), (Y, "Y")):
        at = np.linalg.svd(matrix, compute_uv=False)
        ax.plot(*at, "o", color="black", markeredgecolor="white", markersize=7)
        ax.annotate(name, at, (8, -3), textcoords="offset points", weight="bold")
    ax.legend(loc="upper left")
    ax.set_title("Entropy, and both paths")
    return figure


if __name__ == "__main__":
    draw().savefig(sys.argv[1], dpi=110, bbox_inches="tight")
