"""
Depth melts the rank
====================

A deep linear network of width 2 is trained with noise towards matrices whose singular values are
both 3/2: the loss is ``E = sum (s_i - 3/2)^2 / 2``. In equilibrium at the inverse temperature b the
root singular values ``l = s^(1/N)`` have the density

.. math:: (l_1^2 - l_2^2) \\sqrt{a_{12}} \\, e^{-b E}, \\qquad
          a_{12} = \\frac{l_1^{2N} - l_2^{2N}}{l_1^2 - l_2^2}.

At depth N = 1 a small second singular value is rare. The deeper the network, the more room there is
at small s: ``ds = N l^(N-1) dl``. Deep networks lose rank by entropy alone, though the loss has no
preference for low rank.
"""

# %%
# The probability of ``s_2 < 0.2`` over depth, at b = 4, by quadrature, and by chains of the
# Langevin equation, whose steps are accepted or rejected so that they keep the measure exactly.

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.dynamics import GibbsMeasure, langevin
from dln_manifolds.plotting import COLORS, DASHES

x, w = np.polynomial.legendre.leggauss(100)
x, w = (x + 1) / 2, w / 2


def law(depth, beta, split=0.0):
    """Return singular values ``s_1 >= s_2`` at nodes, and the weights of the equilibrium.

    Panels of the nodes end where ``s_2 = split``.
    """
    top = (1.5 + 9 / np.sqrt(beta)) ** (1 / depth)
    cut = split ** (1 / depth)
    low = np.concatenate([cut * x, cut + (top - cut) * x])
    weight = np.concatenate([cut * w, (top - cut) * w])
    # l_1 between l_2 and the top.
    second, first = low[:, None], low[:, None] + (top - low[:, None]) * x
    measure = weight[:, None] * (top - low[:, None]) * w
    a = sum(first ** (2 * (depth - p)) * second ** (2 * p - 2) for p in range(1, depth + 1))
    values = np.stack(np.broadcast_arrays(first, second), axis=-1) ** depth
    density = (first**2 - second**2) * np.sqrt(a)
    density = density * np.exp(-0.5 * beta * np.sum((values - 1.5) ** 2, axis=-1))
    total = measure * density
    return values, total / total.sum()


def melted(depth, beta):
    """Probability of ``s_2 < 0.2``."""
    values, weights = law(depth, beta, 0.2)
    return weights[values[..., 1] < 0.2].sum()


def loss(X):
    return 0.5 * np.sum((np.linalg.svd(X, compute_uv=False) - 1.5) ** 2, axis=-1)


def gradient(X):
    u, s, vt = np.linalg.svd(X)
    return (u * (s - 1.5)[..., None, :]) @ vt


depths = (1, 2, 3, 5, 10, 30)
exact = {depth: melted(depth, 4.0) for depth in depths}
sampled = {}
for depth, step in {1: 0.15, 3: 0.06, 5: 0.04}.items():
    measure = GibbsMeasure(DLNObservableManifold(2, depth), loss, gradient, 4.0)
    start = np.stack([np.eye(2)] * 300)
    run = langevin(measure, start, step, 500, adjust=True, thin=10, rng=depth)
    share = (run.singular_values[15:, :, 1] < 0.2).mean(axis=0)
    sampled[depth] = share.mean(), share.std() / np.sqrt(len(share))
for depth in depths:
    found = "   chains {:.3f} +- {:.3f}".format(*sampled[depth]) if depth in sampled else ""
    print(f"N = {depth:2d}: P(s_2 < 0.2) = {exact[depth]:.3f}{found}")

# %%
# Over depth and temperature this is a phase picture: below the line of probability 1/2 matrices of
# rank 2 prevail, above it those of rank 1 do, up to 0.2. On the right the law of ``s_2``: of deep
# networks a large part lies at zero, all but exactly.

grid, inverse = np.unique(np.geomspace(1, 60, 25).round().astype(int)), np.geomspace(1, 64, 25)
picture = np.array([[melted(int(depth), beta) for depth in grid] for beta in inverse])

figure, (phase_ax, law_ax) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
mesh = phase_ax.pcolormesh(grid, 1 / inverse, picture, cmap="cividis", vmin=0, vmax=1)
phase_ax.contour(grid, 1 / inverse, picture, [0.5], colors="w")
phase_ax.set(xscale="log", yscale="log", xlabel="depth N", ylabel="temperature 1 / b")
phase_ax.set_title("probability of $s_2 < 0.2$ (white: one half)")
figure.colorbar(mesh, ax=phase_ax)
for k, depth in enumerate((1, 3, 10, 30)):
    values, weights = law(depth, 4.0, 0.2)
    below = np.cumsum(weights.sum(axis=1))
    law_ax.plot(values[:, 0, 1], below, color=COLORS[k], linestyle=DASHES[k], label=f"N = {depth}")
law_ax.axvline(0.2, color="0.5", linewidth=0.8)
law_ax.set(xlabel="c", xlim=(0, 2.5), ylim=(0, 1), title="probability of $s_2 < c$ at b = 4")
law_ax.legend()
plt.show()
