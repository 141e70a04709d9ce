"""
Curvature over the plane of singular values
===========================================

Deep linear networks bend the space of matrices both ways: for every N > 1 there are planes of
positive and planes of negative sectional curvature. At 2 x 2 matrices with the singular values s_1
and s_2, three planes say all. With the orthonormal directions *radial* (both roots grow alike),
*diagonal* (one grows at the cost of the other), *stretch* ``[[0, 1], [1, 0]]`` and *turn*
``[[0, -1], [1, 0]]``, planes that contain the radial direction are flat, and the others are

- diagonal and stretch,
- diagonal and turn,
- stretch and turn.

Curvature is one over the square of a length, here in Frobenius norm of the layers. It is shown
times ``x_1 + x_2``, ``x_i = s_i^(2/N)``, which makes it free of scale: a function of ``s_2 / s_1``
alone.
"""

# %%
# At matrices U diag(s) V^T it does not depend on U and V. The curvature of the plane of diagonal
# and turn is -(N^2 - 1)/(3N) at equal singular values, the most negative value met with anywhere.
# Where s_2 vanishes, and N >= 2, all three stay bounded.

import math

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import COLORS, DASHES

DEPTHS = (1.5, 2, 3, 8)
STRETCH, TURN = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, -1.0], [1.0, 0.0]]])


def squares(s, depth):
    """Return ``x_1 + x_2``, two at infinite depth."""
    return np.sum(s ** (2 / depth), axis=-1)


def three_planes(s, depth):
    """Return the curvatures of the three planes, times ``x_1 + x_2``, shape ``(3, ...)``."""
    metric = DLNObservableManifold(n=2, depth=depth).metric
    points = s[..., None] * np.eye(2)
    # ds_i = s_i^(1 - 1/N) dl_i, with dl orthogonal to l
    roots = s ** (1 / depth)
    rates = s / roots * np.stack([-roots[..., 1], roots[..., 0]], axis=-1)
    diagonal = rates[..., None] * np.eye(2)
    pairs = ((diagonal, STRETCH), (diagonal, TURN), (STRETCH, TURN))
    found = np.stack([metric.sectional_curvature(*pair, points) for pair in pairs])
    return found * squares(s, depth)


NAMES = ("diagonal and stretch", "diagonal and turn", "stretch and turn")
ratios = np.geomspace(1e-4, 1, 81)
line = np.stack([np.ones_like(ratios), ratios], axis=-1)
curvatures = {depth: three_planes(line, depth) for depth in (*DEPTHS, math.inf)}

figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for ax, name, k in zip(axes, NAMES, range(3), strict=True):
    for style, (depth, values) in enumerate(curvatures.items()):
        # Comparable over the depth: in the metric N g_N.
        scaled = values[k] / (depth if math.isfinite(depth) else 1.0)
        look = {"color": COLORS[style], "linestyle": DASHES[style % len(DASHES)]}
        ax.semilogx(ratios, scaled, label=f"N = {depth}", **look)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xlabel="$s_2 / s_1$", title=name)
axes[0].set_ylabel("$K\\,(x_1 + x_2) / N$")
axes[0].set_ylim(-0.2, 1.2)
axes[1].set_ylim(-1, 0.2)
axes[0].legend()
plt.show()

# %%
# Over the whole plane of singular values, curvature itself grows towards zero like
# ``s^(-2/N)``: the cone of layers has its apex there. The deeper the network, the less does it feel
# the size of a matrix, and not at all at infinite depth. The colour shows the plane of diagonal and
# turn, symmetric in s_1 and s_2.

grid = np.geomspace(0.1, 10, 81)
plane = np.stack(np.broadcast_arrays(grid[:, None], grid), axis=-1)
shown = (2, 4, math.inf)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", sharey=True)
maps = {}
for ax, depth in zip(axes, shown, strict=True):
    maps[depth] = three_planes(plane, depth)[1] / squares(plane, depth)
    bound = np.abs(maps[depth]).max()
    picture = ax.pcolormesh(grid, grid, maps[depth].T, cmap="RdBu", vmin=-bound, vmax=bound)
    ax.contour(grid, grid, maps[depth].T, levels=8, colors="black", linewidths=0.5)
    ax.set(xscale="log", yscale="log", xlabel="$s_1$", title=f"N = {depth}", aspect="equal")
    figure.colorbar(picture, ax=ax, shrink=0.8)
axes[0].set_ylabel("$s_2$")
plt.show()

# %%
# In larger matrices random planes of either sign are common. With the two smallest of the x_i,
# ``K (x_(n-1) + x_n)`` stayed between -(N^2 - 1)/(3N) and (N^2 - 1)/N for every N >= 2 in all that
# was tried: a conjecture, not a theorem. At infinite depth the bounds are -1/6 and 1/2.

rng = np.random.default_rng(0)
report = {}
for depth in (2, 3, 8, math.inf):
    points, first, second = rng.normal(size=(3, 5000, 3, 3))
    K = DLNObservableManifold(n=3, depth=depth).metric.sectional_curvature(first, second, points)
    s = np.linalg.svd(points, compute_uv=False)
    values = K * squares(s[:, 1:], depth)
    low, high = -1 / 3, 1.0
    if math.isfinite(depth):
        low, high = -(depth**2 - 1) / (3 * depth), (depth**2 - 1) / depth
    report[depth] = {"negative": np.mean(K < 0), "least": values.min() / low}
    report[depth]["largest"] = values.max() / high
    print(
        f"N = {depth}: {100 * report[depth]['negative']:.0f} % of random planes are negative; "
        f"extremes are {report[depth]['least']:.2f} and {report[depth]['largest']:.2f} of the "
        f"conjectured bounds"
    )
for depth, values in curvatures.items():
    print(f"N = {depth}, s_1 = s_2: K (x_1 + x_2) = {np.round(values[:, -1], 6)}")
