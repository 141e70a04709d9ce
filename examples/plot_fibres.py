"""
The fibre over a matrix, and the Jacobi basis
=============================================

The balanced factorizations of one matrix X form its fibre, an orbit of ``O(n)^(N-1)``:
``W_p -> h_p W_p h_{p-1}^T`` with ``h_0 = h_N = I``. At every point of it the space of all layers
splits into three: along the fibre (vertical), along the balanced layers but across the fibre
(horizontal), and off the balanced layers (normal). Menon and Yu (arXiv 2509.09088) give an explicit
orthonormal basis of each by Jacobi matrices.
"""

# %%
# For n = 2 and N = 3 the component of the fibre that holds W is a torus, ``SO(2)^2``: h_1 turns
# W_1 in a plane of its own, h_2 turns W_3 in another, and both have the same norm since the
# layers are balanced. The two circles make a Clifford torus on a sphere in four dimensions, which
# stereographic projection shows in three. The vertical vectors at W, two of them, are tangent to
# it.

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import BalancedManifold
from dln_manifolds.plotting import COLORS

total = BalancedManifold(n=2, depth=3)
X = np.array([[1.5, 0.4], [-0.3, 0.6]])
W = total.factor(X)
basis = total.jacobi_basis(W)


def rotation(angle):
    """Return rotations of the plane, shape (..., 2, 2)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


grid = np.linspace(0, 2 * np.pi, 97)
first, second = np.meshgrid(grid, grid, indexing="ij")
torus = total.act(np.stack([rotation(first), rotation(second)], axis=-3), W)
quarter = rotation(np.pi / 2)
planes = [(W[0], quarter @ W[0]), (W[2] @ quarter, W[2])]


def seen(layers):
    """Project the first and last of the layers stereographically to three dimensions."""
    on_sphere = [
        np.einsum("...ij,ij->...", layers[..., p, :, :], e) / np.linalg.norm(e) ** 2
        for p, plane in zip((0, 2), planes, strict=True)
        for e in plane
    ]
    x = np.stack(on_sphere, axis=-1) / np.sqrt(2)
    return x[..., :3] / (1 - x[..., 3:])


figure = plt.figure(figsize=(7, 4.6), layout="constrained")
ax = figure.add_subplot(projection="3d", computed_zorder=False)
ax.plot_surface(
    *np.moveaxis(seen(torus), -1, 0), rcount=96, ccount=96, color="#d9d9d9", alpha=0.6, linewidth=0
)
ax.plot(*seen(torus[:, 0]).T, color=COLORS[0], linewidth=2.5, label="orbit of $h_1$")
ax.plot(*seen(torus[0]).T, "--", color=COLORS[1], linewidth=2.5, label="orbit of $h_2$")
step = 1e-6
for k, vector in enumerate(basis.vertical):
    arrow = (seen(W + step * vector) - seen(W)) / step
    ax.quiver(*seen(W), *arrow, color="black", label=None if k else "vertical vectors")
ax.plot(*seen(W), "o", color="black", label="W")
limits = seen(torus).reshape(-1, 3)
ax.set_box_aspect(np.ptp(limits, axis=0), zoom=1.25)
ax.set_axis_off()
ax.view_init(elev=35, azim=-50)
ax.set_title("The fibre over X")
ax.legend(loc="upper left", bbox_to_anchor=(-0.25, 1))
plt.show()

# %%
# The whole basis as one orthogonal matrix: each row is a vector, its entries those of the three
# layers. Four rows are horizontal (n^2), two vertical and six normal.

rows = np.concatenate([part.reshape(len(part), -1) for part in basis])
figure, ax = plt.subplots(figsize=(7, 5.2), layout="constrained")
image = ax.imshow(rows, cmap="PuOr", vmin=-1, vmax=1)
figure.colorbar(image, label="entry")
edges = np.cumsum([len(part) for part in basis])
for edge in edges[:-1]:
    ax.axhline(edge - 0.5, color="black", linewidth=1)
for edge in (4, 8):
    ax.axvline(edge - 0.5, color="black", linewidth=1)
ax.set_yticks(edges - [2.5, 1.5, 3.5], ["horizontal", "vertical", "normal"])
ax.set_xticks([1.5, 5.5, 9.5], ["$W_1$", "$W_2$", "$W_3$"])
ax.tick_params(length=0)
ax.set_title("The Jacobi basis at W")
plt.show()

# %%
# All points of the fibre have the same end-to-end matrix, vertical vectors do not move it, and
# the basis is orthonormal. The fibre is four such tori (the signs of det h_1 and det h_2). The
# area of one in the space of layers, summed up over the cells of the grid, meets the entropy
# formula to 0.1 %.

products = total.end_to_end(torus)
sides = [np.diff(torus, axis=k)[:96, :96].reshape(96, 96, -1) for k in (0, 1)]
gram = np.stack([[np.einsum("ijk,ijk->ij", a, b) for a in sides] for b in sides])
area = np.sqrt(np.linalg.det(np.moveaxis(gram, (0, 1), (-2, -1)))).sum()
report = {
    "end-to-end": np.abs(products - X).max(),
    "orthonormal": np.abs(rows @ rows.T - np.eye(12)).max(),
    "vertical moves X": max(np.abs(total.push_forward(v, W)).max() for v in basis.vertical),
    "volume": total.volume_density(W),
    "measured": 4 * area,
}
for name, value in report.items():
    print(f"{name}: {value:.6g}")
