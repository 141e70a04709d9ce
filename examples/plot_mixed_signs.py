"""
Networks with determinants of mixed signs
=========================================

Square networks that start from ordinary random layers end with det > 0 or det < 0, half and half,
whatever they have learned. In GL(n) no path joins the two kinds. In the metric completion one does,
through a matrix of rank n - 1, and the distances of all pairs are defined: enough for mean
distances, clusters and a map.
"""

# %%
# Networks of depth 3 predict the lower half of a handwritten digit (scikit-learn's) from its upper
# half, the three leading principal components of each. Each sees 40 images of one digit, 0, 4 or 7,
# and starts from layers as PyTorch draws them, uniform up to ``1 / sqrt(width)``.

import matplotlib.pyplot as plt
import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import COLORS

width, depth, n_each, digits = 3, 3, 8, (0, 4, 7)
rng = np.random.default_rng(0)
images, labels = load_digits(return_X_y=True)
upper, lower = (
    PCA(width, whiten=True, svd_solver="full").fit_transform(half)
    for half in np.split(images, 2, axis=1)
)
tasks = np.repeat(np.arange(len(digits)), n_each)
drawn = np.stack([rng.choice(np.flatnonzero(labels == digits[k]), 40) for k in tasks])
xx = np.swapaxes(upper[drawn], 1, 2) @ upper[drawn] / 40
yx = np.swapaxes(lower[drawn], 1, 2) @ upper[drawn] / 40

bound = 1 / np.sqrt(width)
layers = rng.uniform(-bound, bound, size=(depth, len(tasks), width, width))
for _ in range(1500):
    first, second, third = layers
    error = third @ second @ first @ xx - yx
    gradients = (
        np.swapaxes(third @ second, 1, 2) @ error,
        np.swapaxes(third, 1, 2) @ error @ np.swapaxes(first, 1, 2),
        error @ np.swapaxes(second @ first, 1, 2),
    )
    layers = layers - 0.02 * np.stack(gradients)
X = layers[2] @ layers[1] @ layers[0]
signs = np.sign(np.linalg.det(X))
print(f"{np.sum(signs > 0)} networks with det > 0, {np.sum(signs < 0)} with det < 0")

# %%
# Distances of all pairs, of one sign and of opposite ones. A crossing costs about ``2 sqrt(N) l_n``
# more, l_n the lesser of both last root singular values: where networks have learned little of the
# weakest direction, that is not much.

metric = DLNObservableManifold(width, depth).metric
table = metric.dist_pairwise(X, completed=True)
same_task, same_sign = tasks[:, None] == tasks, signs[:, None] == signs
pairs = ~np.eye(len(X), dtype=bool)
averages = {
    (task, sign): table[
        pairs & (same_task == (task == "one task")) & (same_sign == (sign == "one sign"))
    ].mean()
    for task in ("one task", "two tasks")
    for sign in ("one sign", "two signs")
}
for (task, sign), value in averages.items():
    print(f"mean distance, {task}, {sign}: {value:.3f}")

# %%
# Clusters by average linkage, found without any label; and a map by classical scaling: the two
# leading eigenvectors of the table of squared distances, centred twice.

tree = linkage(squareform(table, checks=False), "average")
clusters = fcluster(tree, len(digits), "maxclust")
purity = sum(np.bincount(tasks[clusters == c]).max() for c in set(clusters)) / len(tasks)
print(f"{purity:.0%} of the networks are in the cluster of their task")

centring = np.eye(len(X)) - 1 / len(X)
values, vectors = np.linalg.eigh(-0.5 * centring @ table**2 @ centring)
places = vectors[:, :-3:-1] * np.sqrt(values[:-3:-1])
shown = values[-2:].sum() / values[values > 0].sum()

fig, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
for k, digit in enumerate(digits):
    for sign, marker in ((1, "o"), (-1, "s")):
        some = (tasks == k) & (signs == sign)
        label = f"digit {digit}, det {'>' if sign > 0 else '<'} 0"
        ax.scatter(*places[some].T, color=COLORS[k], marker=marker, label=label)
ax.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
ax.set_title(f"{len(X)} networks by completed distances ({shown:.0%} of the variance)")
ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %%
# The middle of each task. A Fréchet mean of both signs would minimize the sum of squared completed
# distances; its minimum may be a singular matrix, no point of GL(n), and need not be unique: there
# is no estimator of it here. What is well defined is the medoid, the network with the least sum,
# which ``metric.completed_geodesic`` joins to all others; and the Fréchet mean of the networks of
# one sign.

squares = np.where(same_task, table**2, 0.0).sum(axis=1)
medoids = [int(np.flatnonzero(tasks == k)[np.argmin(squares[tasks == k])]) for k in range(3)]
others = [np.flatnonzero((tasks == k) & (signs != signs[m]))[0] for k, m in enumerate(medoids)]
path = metric.solve_completed(X[others], X[medoids])
times = np.linspace(0, 1, 101)
smallest = np.linalg.svd(path(times), compute_uv=False)[..., -1]

fig, ax = plt.subplots(figsize=(6.5, 3.5), layout="constrained")
for k, digit in enumerate(digits):
    ax.plot(times, smallest[k] ** (1 / depth), color=COLORS[k], label=f"digit {digit}")
    ax.axvline(path.crossing_time[k], color=COLORS[k], ls=":", lw=1)
ax.set(xlabel="time t", ylabel="least root singular value of X(t)", xlim=(0, 1), ylim=(0, None))
ax.set_title("From the medoid of a task to a network of the other sign")
ax.legend()
plt.show()
