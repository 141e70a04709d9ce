"""
Geodesics of rank 1 and 2, and of full rank beside them
=======================================================

A hidden layer of width r keeps the end-to-end matrix at rank r. Such matrices are a manifold of
their own, with the geometry of the layers as at full rank: ``DLNObservableManifold(n=3, rank=2,
depth=3)``, or by widths, ``DLNObservableManifold(widths=(3, 2, 2, 3))``. Is it the edge of the
manifold of full rank, at the same distances? For N >= 2 that is what the numbers say, without a
proof; for N < 2 it is not so.
"""

# %%
# Matrices of rank 1 are products of a column and a row. Along their geodesic both turn, and the
# image of the unit circle stays a segment. Raise the singular value that is zero such that its N-th
# root is ``eps``, the singular value of each layer: the ellipses are thin, and their geodesic
# follows that of the segments.

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import COLORS, DASHES, plot_geodesic, plot_singular_values


def raised(X, eps, depth):
    """Return X with the roots of its zero singular values raised to eps, and det > 0.

    What X maps to zero and what it does not reach have bases by Gram and Schmidt from unit vectors.
    """
    left, values, right_t = np.linalg.svd(X)
    right, zero = right_t.T, values < 1e-12 * values[0]
    for basis in (left, right):
        rank = np.count_nonzero(~zero)
        basis[:, rank:] = np.linalg.qr(np.hstack([basis[:, :rank], np.eye(len(X))]))[0][:, rank:]
    left[:, -1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    eps = np.asarray(eps)[..., None]
    return (left * np.where(zero, eps**depth, values)[..., None, :]) @ right.T


depth = 3
X, Y = np.outer([1.2, 0.2], [1.0, 0.3]), np.outer([-0.3, 0.9], [0.5, 0.8])
segments = DLNObservableManifold(n=2, rank=1, depth=depth).metric.solve_log(Y, X)
full = DLNObservableManifold(n=2, depth=depth)
figure, axes = plt.subplots(3, 1, figsize=(9, 4.6), layout="constrained", sharex=True)
plot_geodesic(segments, axes[0], n_ellipses=7)
axes[0].set(title="Rank 1", xlabel="")
for ax, eps in zip(axes[1:], (0.3, 0.6), strict=True):
    plot_geodesic(
        full.metric.solve_log(raised(Y, eps, depth), raised(X, eps, depth)), ax, n_ellipses=7
    )
    ax.set(title=f"Full rank, least root {eps}", xlabel="time t" if eps == 0.6 else "")
for ax in axes:
    ax.spines[["right", "top"]].set_visible(False)
plt.show()

# %%
# The same of 3 x 3 matrices of rank 2. The two singular values of their geodesic, drawn thick, are
# those that remain as the third one of full rank goes to zero. Along a geodesic that one does not
# fall below what it is at the ends.

rng = np.random.default_rng(8)
X2, Y2 = rng.normal(size=(2, 3, 2)) @ rng.normal(size=(2, 2, 3))
flat = DLNObservableManifold(n=3, rank=2, depth=depth).metric.solve_log(Y2, X2)
full = DLNObservableManifold(n=3, depth=depth)
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
plot_singular_values(flat, ax, label="rank 2")
for line in ax.lines:
    line.set_linewidth(4)
smallest = {}
for style, eps in enumerate((0.5, 0.25, 0.1), start=1):
    path = full.metric.geodesic(raised(X2, eps, depth), end_point=raised(Y2, eps, depth))
    plot_singular_values(path, ax, label=f"full rank, least root {eps}", style=style)
    spectrum = np.linalg.svd(path(np.linspace(0, 1, 51)), compute_uv=False)
    smallest[eps] = spectrum[:, 2].min() ** (1 / depth)
ax.set(title=f"Singular values along geodesics, N = {depth}")
plt.show()

# %%
# Distances. For N >= 2 those of full rank tend to those of rank r like ``eps^2``. Of rank 1 the
# limit is known in closed form, with the angles ``t_u``, ``t_v`` between the columns and between
# the rows (of the two joint signs, that with the smaller result):
#
# .. math:: d^2 = N \big(l_0^2 + l_1^2 - 2 l_0 l_1 \cos \sqrt{(t_u^2 + t_v^2) / N}\big).


def rank_one_distance(X, Y, depth):
    """Return the distance of two matrices of rank 1."""
    (u, s, v), (other_u, other_s, other_v) = np.linalg.svd(X), np.linalg.svd(Y)
    angles = np.arccos([u[:, 0] @ other_u[:, 0], v[0] @ other_v[0]])
    turn = min(np.hypot(*angles), np.hypot(*(np.pi - angles))) / np.sqrt(depth)
    roots = s[0] ** (1 / depth), other_s[0] ** (1 / depth)
    return np.sqrt(depth * (roots[0] ** 2 + roots[1] ** 2 - 2 * np.prod(roots) * np.cos(turn)))


depths, sizes = (2, 3, 4), 0.4 * 2.0 ** -np.arange(9)
pairs = {1: (np.outer(X2[0], X2[:, 0]), np.outer(Y2[0], Y2[:, 0])), 2: (X2, Y2)}
limits, excess = {}, {}
for rank, (start, end) in pairs.items():
    for depth in depths:
        low = DLNObservableManifold(n=3, rank=rank, depth=depth).metric
        limits[rank, depth] = low.dist(start, end)
        metric = DLNObservableManifold(n=3, depth=depth).metric
        near = metric.dist(raised(start, sizes, depth), raised(end, sizes, depth))
        excess[rank, depth] = near - limits[rank, depth]

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for (rank, depth), difference in excess.items():
    style = {"color": COLORS[depths.index(depth)], "linestyle": DASHES[rank - 1]}
    label = f"rank {rank}, N = {depth}"
    ax.loglog(sizes, np.abs(difference), marker="os"[rank - 1], label=label, **style)
ax.set(xlabel="least root eps of the matrices of full rank", ylabel="difference of distances")
ax.minorticks_off()
ax.set_xticks(sizes, [f"{eps:g}" for eps in sizes])
ax.legend()
plt.show()

# %%
# In numbers. Halving ``eps`` divides the difference by 4, and what the last two distances tend to
# is that of rank r. Below N = 2 the way through full rank is shorter, however thin its ends.

for eps, least in smallest.items():
    print(f"rank 3, N = 3: least root {eps} at the ends, at least {least:.6f} along the geodesic")
orders = {key: np.log2(value[:-1] / value[1:])[-1] for key, value in excess.items()}
extrapolated = {key: (4 * value[-1] - value[-2]) / 3 for key, value in excess.items()}
closed = {depth: rank_one_distance(*pairs[1], depth) for depth in depths}
for depth in depths:
    print(
        f"N = {depth}, rank 1: distance {limits[1, depth]:.9f}, closed form {closed[depth]:.9f}, "
        f"full rank tends to {limits[1, depth] + extrapolated[1, depth]:.7f}"
    )
    print(
        f"N = {depth}, rank 2: distance {limits[2, depth]:.9f}, "
        f"full rank tends to {limits[2, depth] + extrapolated[2, depth]:.7f}"
    )
print(
    f"order of the differences: between {min(orders.values()):.3f} and {max(orders.values()):.3f}"
)
shallow = DLNObservableManifold(n=3, rank=1, depth=1.5).metric.dist(*pairs[1])
thin = [raised(point, 0.01, 1.5) for point in pairs[1]]
saved = 1 - DLNObservableManifold(n=3, depth=1.5).metric.dist(*thin) / shallow
print(f"N = 1.5: from least root 0.01, full rank is {100 * saved:.1f} % shorter than rank 1")
